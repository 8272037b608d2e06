"""A library to be asked: `mulap.Library`.

library = mulap.Library("music.mulap")
library.search("calm piano with strings, no drums", top=5)
library.similar("song.mp3", at=83.0)
"""

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from lancedb.expr import Expr, col, lit

from mulap.audio import AudioError
from mulap.encoders.known_words import warning
from mulap.encoders.neutral import word
from mulap.files import AnyPath
from mulap.library.hits import Hit, Hits, Reasons, percentile_of_tracks
from mulap.library.info import library_info
from mulap.library.moods import MOODS, rank_moods, words_of
from mulap.library.playlist import SUFFIXES, read_playlist
from mulap.library.query import Example, Point, Query, ask, combine
from mulap.library.search import Picks, Rules, best_windows, between, find
from mulap.library.store import SHOWN, Store, points_of
from mulap.library.where import between_seconds, parse_where
from mulap.vectors.keys import audio_key, file_name

if TYPE_CHECKING:
    from mulap.encoders.engine import Engine
    from mulap.encoders.neutral import Neutral
    from mulap.encoders.zero_shot import ZeroShot

SHORTEST, LONGEST = 30.0, 900.0  # seconds of music: no jingles, no mixes of two hours
_SEGMENTS_OF_WINDOW = 3


class _Lengths(NamedTuple):
    """Of the tracks of a library; read again once there are more or fewer."""

    num_tracks: int = 0
    num_unusual: int = 0  # shorter than `SHORTEST` or longer than `LONGEST`
    are_short: bool = False  # half of them and more

    @classmethod
    def of(cls, seconds: np.ndarray) -> "_Lengths":
        is_unusual = (seconds < SHORTEST) | (seconds > LONGEST)
        are_short = len(seconds) > 0 and bool(np.median(seconds) < SHORTEST)
        return cls(len(seconds), int(is_unusual.sum()), are_short)


class Library:
    """A library that `mulap index` made, opened for reading; it may be indexed meanwhile.

    Args:
        folder: of the library.
        device: where the model runs, as `mulap.load` takes it.

    Raises:
        ValueError: the folder is not a library, or cannot be read.
    """

    def __init__(self, folder: AnyPath, device: str = "auto") -> None:
        self.folder, self._device = Path(folder).expanduser(), device
        self.store = Store.open(self.folder)
        self._lengths = _Lengths()

    def __len__(self) -> int:
        """Return the number of tracks."""
        return len(self.store)

    def __repr__(self) -> str:
        """Say what it is: a notebook shows it."""
        return f"<library {self.folder}: {len(self):,} tracks, {self.store.space.name}>"

    def info(self) -> dict[str, Any]:
        """Return what `mulap info --json` prints."""
        return library_info(self.folder)

    def search(  # noqa: PLR0913  (what can be asked for)
        self,
        query: str | Sequence[str] = (),
        top: int = 10,
        *,
        unwanted: str | Sequence[str] = (),
        like: AnyPath | Sequence[AnyPath | Example] = (),
        unlike: AnyPath | Sequence[AnyPath | Example] = (),
        where: str | Sequence[str] = (),
        any_length: bool = False,
        rerank: bool = False,
        **rules: Any,
    ) -> Hits:
        """Find the tracks that fit best.

        Args:
            query: words, such as `calm piano, no drums`; or several, `^2` behind one is its weight.
            top: how many tracks.
            unwanted: words that are not wanted.
            like: files or playlists: music like these. They need not be in the library.
            unlike: files or playlists: no music like these.
            where: conditions, see `mulap.library.where`.
            any_length: also tracks under 30 seconds and over 15 minutes. A condition on seconds,
                and a library of mostly shorter tracks, have the same effect.
            rerank: order the hits again by the co-attention, which listens to each of them. It
                did not help with mulap-small (docs/mulap-small.md).
            rules: what the list has to be, see `mulap.library.search.Rules`: `per_artist=1`.

        Returns:
            The hits, best first; fewer than asked for if no more tracks fit.

        Raises:
            ValueError: the query is empty, a condition is wrong, an example cannot be read, the
                library is empty or was made by another model.
        """
        asked = ask(_several(query), _several(unwanted), _examples(like), _examples(unlike))
        picks, filters, num_left_out = self._begin(top, where, any_length, rules)
        began = self._load(bool(asked.words))
        point, picks.alike = self._locate(asked)
        find(self.store, point.search, picks, top, filters, point.allows)
        notes, hits = [*asked.notes], self._hits(picks.rows, point)
        texts = [each.text for each in (*asked.words, *asked.unwanted_words)]
        if unknown := self.engine.hardly_known(texts):
            notes.append(warning(unknown))
        if rerank:
            hits = self._rerank(hits, asked, notes)
        seconds = time.monotonic() - began
        return Hits(tuple(hits), tuple(notes), len(self), num_left_out, seconds)

    def similar(self, file: AnyPath, at: float | None = None, **options: Any) -> Hits:
        """Find music like a file, or like its nine seconds around `at`; see `search`."""
        return self.search(like=[Example(os.fspath(file), at=at)], **options)

    def path(  # noqa: PLR0913  (as of `search`)
        self,
        first: AnyPath,
        last: AnyPath,
        top: int = 10,
        *,
        where: str | Sequence[str] = (),
        any_length: bool = False,
        **rules: Any,
    ) -> Hits:
        """Find a way from one track to another, in equal steps: each the nearest track not taken.

        Args:
            first: a file; it comes first, if it is in the library.
            last: a file; it comes last, if it is in the library.
            top: how many tracks, at least 3.
            where: as of `search`.
            any_length: likewise.
            rules: likewise; one track per artist, unless given.

        Raises:
            ValueError: as of `search`, or fewer than three tracks are asked for.
        """
        if top < 3:
            raise ValueError(f"a path of {top} tracks: is too short. Ask for 3 tracks or more.")
        rules = {"per_artist": 1} | rules
        picks, filters, num_left_out = self._begin(top, where, any_length, rules)
        began = self._load(has_words=False)
        ends = [self._example(Example(os.fspath(each))) for each in (first, last)]
        start, end = (row["point"] for row in ends)
        inside = [row for row in ends if row["key"]]
        for row in inside:
            picks.take(row | {"cosine": float(row["point"] @ row["point"])})
        for step in between(start, end, top - len(inside) + 2)[1:-1]:
            find(self.store, step, picks, 1, filters)
        rows = sorted(picks.rows, key=lambda row: row["key"] == ends[1]["key"])  # the last, last
        middle = between(start, end, 3)[1]
        nothing = np.empty((0, len(middle)), np.float32)
        hits = self._hits(rows, Point(middle, None, middle, nothing, nothing, self._tags.reference))
        return Hits(tuple(hits), (), len(self), num_left_out, time.monotonic() - began)

    def moods(self, pairs: Sequence[tuple[str, str]] = MOODS) -> list[dict[str, Any]]:
        """Return where each track stands between opposites, among the tracks of the library.

        Args:
            pairs: words and their opposites, such as `("happy", "sad")`.

        Returns:
            `file`, `artist`, `title` of each track, and from 0 (sad) to 100 (happy) a number for
            each pair, named by its first word; in order of files.

        Raises:
            ValueError: the library is empty or was made by another model, or a word is empty.
        """
        self._check_not_empty()
        tags = self.engine.encoder.zero_shot(words_of(pairs))
        names = ["file", "artist", "title"]
        table = self.store.tracks(columns=[*names, "point"])
        ranks = rank_moods(points_of(table), tags, pairs)
        words = [word for word, _ in pairs]
        rows = table.select(names).to_pylist()
        found = [
            row | {word: round(float(rank), 1) for word, rank in zip(words, each, strict=True)}
            for row, each in zip(rows, ranks, strict=True)
        ]
        return sorted(found, key=lambda row: row["file"])

    @cached_property
    def engine(self) -> "Engine":
        """The model; it is loaded when it is used first, in some seconds.

        Raises:
            ValueError: the library was made by another model, or the model cannot be loaded.
        """
        from mulap.encoders.engine import load_engine  # noqa: PLC0415  (loads torch)

        space = self.store.space
        engine = load_engine(space.model, self._device)
        if engine.space != space.name:
            raise ValueError(
                f"{self.folder}: was made by {space.name}, and the model is {engine.space}. Run "
                "mulap index --upgrade."
            )
        return engine

    @cached_property
    def _tags(self) -> "ZeroShot":
        return self.engine.encoder.zero_shot()

    def _check_not_empty(self) -> None:
        if not len(self):
            raise ValueError(
                f"{self.folder}: has no tracks yet. Run mulap index MUSIC --library {self.folder}."
            )

    def _load(self, has_words: bool) -> float:
        """Load what a search needs, which takes seconds once; return the time now."""
        for name in ("_tags", "_neutral")[: 1 + has_words]:
            getattr(self, name)
        return time.monotonic()

    def _begin(
        self, top: int, where: str | Sequence[str], any_length: bool, rules: dict[str, Any]
    ) -> tuple[Picks, Expr | None, int]:
        """Return no picks yet, the filter, and how many tracks it leaves out by their length."""
        if top < 1:
            raise ValueError(f"top is {top}: gives no tracks. Ask for 1 or more.")
        if self._lengths.num_tracks != len(self):
            seconds = self.store.tracks(columns=["seconds"]).column("seconds").to_numpy()
            self._lengths = _Lengths.of(seconds)
        self._check_not_empty()
        asked = parse_where(_several(where), self.store.own_tags() if where else None)
        filters, num_left_out = asked.expression, 0
        if not any_length and "seconds" not in asked.fields and not self._lengths.are_short:
            num_left_out = self._lengths.num_unusual
        if num_left_out:
            lengths = between_seconds(SHORTEST, LONGEST)
            filters = lengths if filters is None else filters & lengths
        if "artist" in asked.fields:
            rules = {"per_artist": None} | rules
        if "excluded" in rules:
            files = [each.file for each in _examples(rules["excluded"])]
            rules = rules | {"excluded": frozenset(map(_absolute, files))}
        return Picks(Rules(**rules)), filters, num_left_out

    def _locate(self, query: Query) -> tuple[Point, list[dict[str, Any]]]:
        """Return a query's point, and the tracks that it names."""
        size = self.store.space.size
        texts = [each.text for each in (*query.words, *query.unwanted_words)]
        of_texts = self.engine.embed_text(texts) if texts else np.empty((0, size), np.float32)
        rows = [self._example(each) for each in (*query.examples, *query.unwanted_examples)]
        points = [row["searched"] for row in rows]
        of_examples = np.stack(points) if rows else np.empty((0, size), np.float32)
        words, unwanted_words = np.split(of_texts, [len(query.words)])
        examples, unwanted_examples = np.split(of_examples, [len(query.examples)])
        parts = words, unwanted_words, examples, unwanted_examples
        return combine(*parts, query, self._tags.reference), rows

    def _example(self, example: Example) -> dict[str, Any]:
        """Return a file's row: from the library if it is there, else by listening to it.

        `searched` in it is the point of the nine seconds that are asked for, or of the whole.
        """
        path = _absolute(example.file)
        found = self._tracks_where("file", path)
        if not len(found):  # another copy of a track, or no track
            found = self._tracks_where("key", audio_key(os.path.expanduser(example.file)))
        if len(found):
            row = found.drop_columns(["point"]).to_pylist()[0] | {"point": points_of(found)[0]}
            return row | {"searched": self._window_at(row, example)}
        features = example.features
        if features is None:
            features = self.engine.backbone.embed(os.path.expanduser(example.file)).embeddings
        stride, chosen = self.engine.backbone.stride_seconds, features
        seconds = len(features) * stride
        if example.at is not None:
            _check_inside(example, seconds + stride)
            start = min(int(example.at / stride), max(len(features) - _SEGMENTS_OF_WINDOW, 0))
            chosen = features[start : start + _SEGMENTS_OF_WINDOW]
        means = np.stack([features.mean(0), chosen.mean(0)])
        point, searched = self.engine.project(means)
        tags = {"title": "", "artist": "", "album": "", "files": [path], "file": path, "key": ""}
        return tags | {"seconds": seconds, "point": point, "searched": searched}

    def _tracks_where(self, column: str, value: str) -> pa.Table:
        return self.store.tracks(col(column) == lit(value), SHOWN)

    def _window_at(self, row: dict[str, Any], example: Example) -> np.ndarray:
        if example.at is None:
            return row["point"]
        _check_inside(example, row["seconds"])
        windows = self.store.windows_of([row["key"]])
        starts = windows.column("start").to_numpy()
        index = max(int(np.searchsorted(starts, example.at, side="right")) - 1, 0)
        return points_of(windows)[index]

    def _hits(self, rows: list[dict[str, Any]], point: Point) -> list[Hit]:
        if not rows:
            return []
        tracks = np.stack([row["point"] for row in rows])
        windows = best_windows(self.store, rows, point.search)
        heard = np.stack([window.point for window in windows])
        reasons = Reasons(self._tags, point.words, point.examples).of(heard)
        percentiles = self._percentiles(tracks, point)
        return [
            Hit(
                rank=index + 1,
                file=next(filter(os.path.exists, row["files"]), row["file"]),
                start=windows[index].start,
                end=windows[index].end,
                match=word(percentiles[index]),
                percentile=float(percentiles[index]),
                score=float(row["cosine"]),
                why=reasons[index],
                space=self.store.space.name,
                id=row["key"],
                **{name: row[name] for name in ("artist", "title", "album", "seconds")},
            )
            for index, row in enumerate(rows)
        ]

    def _percentiles(self, tracks: np.ndarray, point: Point) -> np.ndarray:
        """Return how well tracks' points (N, D) fit: the words, the examples, or the mean."""
        found = []
        if point.words is not None:
            found.append(self._neutral.percentile(tracks, point.words[None])[:, 0])
        if point.examples is not None:
            found.append(percentile_of_tracks(point.reference, point.examples, tracks))
        return np.mean(found, axis=0)

    @cached_property
    def _neutral(self) -> "Neutral":
        self.engine.embed_text("music")  # loads the text branch
        return self.engine.backbone.neutral

    def _rerank(self, hits: list[Hit], query: Query, notes: list[str]) -> list[Hit]:
        """Order hits by the co-attention; those whose files are gone stay behind the others."""
        if not query.words:
            raise ValueError("--rerank: needs words, and only examples are given. Leave it out.")
        text = ", ".join(each.text for each in query.words)
        judged, others = [], []
        for hit in hits:
            try:
                features = self.engine.backbone.embed(hit.file).embeddings
            except AudioError as error:
                notes.append(f"not listened to again: {error}")
                others.append(hit)
                continue
            judged.append(replace(hit, rerank=float(self.engine.match(features, [text])[0])))
        judged.sort(key=lambda hit: -(hit.rerank or 0))
        return [replace(hit, rank=rank) for rank, hit in enumerate([*judged, *others], 1)]


def _several(texts: str | Sequence[str]) -> Sequence[str]:
    return [texts] if isinstance(texts, str) else texts


def _examples(files: AnyPath | Sequence[AnyPath | Example]) -> list[Example]:
    """Return examples; a playlist becomes its tracks, each with a share of its weight."""
    found: list[Example] = []
    for each in [files] if isinstance(files, str | os.PathLike) else files:
        example = each if isinstance(each, Example) else Example(os.fspath(each))
        if not example.file.lower().endswith(SUFFIXES):
            found.append(example)
            continue
        listed = read_playlist(os.path.expanduser(example.file))
        if not listed:
            raise ValueError(f"{example.file}: names no file. Give another playlist.")
        found += [Example(file, example.weight / len(listed)) for file in listed]
    return found


def _absolute(file: str) -> str:
    """Return a path as the library writes it."""
    return file_name(os.path.abspath(os.path.expanduser(file)))


def _check_inside(example: Example, seconds: float) -> None:
    if not 0 <= (example.at or 0) <= seconds:
        raise ValueError(
            f"{example.file}: has no second {example.at:g}, it ends at {seconds:.0f}. Give another "
            "--at."
        )
