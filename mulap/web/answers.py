"""What is asked over HTTP -> what a library and its model say, as JSON. Everything here blocks.

Tracks are named by their ids, and audio that was sent by its own; see `mulap.web.uploads`.
"""

import os
import threading
from collections import Counter, OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from mulap import __version__
from mulap.encoders.known_words import warning
from mulap.encoders.neutral import word
from mulap.encoders.zero_shot import says
from mulap.library.about import read_about, read_announced
from mulap.library.hits import name_of, tell_apart
from mulap.library.query import MOST_WORDS, Example, split_negations
from mulap.use.captions import Captioner
from mulap.use.explain import explain_features
from mulap.vectors.keys import real_path
from mulap.web.limits import Fields, Limits, Refused, check_seconds
from mulap.web.tracks import existing_file, find_track
from mulap.web.uploads import Heard, Uploads

if TYPE_CHECKING:
    from mulap.encoders.engine import Engine
    from mulap.library.hits import Hits
    from mulap.library.library import Library

_MOST_FEATURES = 16  # tracks whose features are kept
_MOST_NAMES = 2_000  # artists that the page offers
_NO_MUSIC = "It sounds like silence, noise, one tone or speech."
_WEAK = "Nothing here stands out for this. The nearest tracks:"


class Answers:
    """Answers for one library, or for a model alone.

    Args:
        load: returns the model where there is no library.
        library: opened, or None.
        uploads: what was sent.
        limits: that apply.
    """

    def __init__(
        self,
        load: Callable[[], "Engine"],
        library: "Library | None",
        uploads: Uploads,
        limits: Limits,
    ) -> None:
        self._load, self._library, self.uploads, self.limits = load, library, uploads, limits
        self._loading, self._looking = threading.RLock(), threading.Lock()
        self._features: OrderedDict[str, np.ndarray] = OrderedDict()
        self._facets: tuple[Any, dict[str, Any]] = (None, {})

    @cached_property
    def engine(self) -> "Engine":
        """The model; it is loaded once, in some seconds.

        Raises:
            ValueError: the library was made by another model, or it cannot be loaded.
        """
        with self._loading:
            return self._load() if self._library is None else self._library.engine

    def warm_up(self) -> None:
        """Load all that a first request would wait for."""
        with self._loading:
            engine = self.engine
            engine.embed_text("music")
            engine.encoder.zero_shot()
            _ = engine.neutral, engine.space

    @property
    def library(self) -> "Library":
        """The library, as it answers now: `mulap index --upgrade` may have changed its space.

        Raises:
            Refused: there is none, or its new space has another model.
        """
        if self._library is None:
            raise Refused(404, "This server has no library.", "Start it with --library DIR.")
        if read_about(self._library.folder).space != self._library.store.space:
            raise Refused(
                409, "The library was upgraded to another model.", "Start the server again."
            )
        return self._library

    def space(self) -> dict[str, Any]:
        """Describe the embedding space, and what a request may ask for."""
        engine, limits = self.engine, self.limits
        return {
            "space": engine.space,
            "model": engine.name,
            "size": engine.size,
            "stride_seconds": engine.backbone.stride_seconds,
            "version": __version__,
            "has_library": self._library is not None,
            "limits": {
                "upload_bytes": limits.upload_bytes,
                "upload_seconds": limits.upload_seconds,
                "text_letters": limits.text_letters,
                "num_texts": limits.num_texts,
                "top": limits.top,
            },
        }

    def about_library(self) -> dict[str, Any]:
        """Describe the library without its model: how many tracks, and what to filter by."""
        library = self.library
        num_tracks, about = len(library), read_about(library.folder)
        with self._looking:
            if self._facets[0] != num_tracks:
                self._facets = num_tracks, _facets_of(library)
        return {
            "name": os.path.basename(os.path.abspath(library.folder)),
            "tracks": num_tracks,
            "indexing": read_announced(library.folder),
            "space": about.space.name,
            **self._facets[1],
        }

    def embed_text(self, fields: Fields) -> dict[str, Any]:
        """Embed texts."""
        texts = fields.texts("texts", is_needed=True)
        fields.end()
        engine = self.engine
        points = engine.embed_text(texts)
        return {
            "space": engine.space,
            "size": engine.size,
            "embeddings": points.tolist(),
            "notes": self._unknown(texts),
        }

    def embed_audio(self, heard: Heard, fields: Fields) -> dict[str, Any]:
        """Embed audio: one point, or one per segment."""
        level = fields.text("level", "track")
        fields.end()
        if level not in ("track", "segment"):
            raise Refused(400, "level: is no such level.", "Give track or segment.")
        engine, features = self.engine, heard.features
        if level == "track":
            features = features.mean(0, keepdims=True)
        starts = (np.arange(len(features)) * engine.backbone.stride_seconds).tolist()
        return {
            "space": engine.space,
            "size": engine.size,
            "seconds": round(heard.seconds, 3),
            "starts": starts,
            "embeddings": engine.project(features).tolist(),
            "notes": list(heard.notes),
        }

    def tag(self, fields: Fields, heard: Heard | None = None) -> dict[str, Any]:
        """Say how well tags fit a track, best first."""
        tags = fields.tags("tags")
        count = fields.whole("top", len(tags or ()) or 10, 1, self.limits.num_texts)
        sound = heard or self._find(fields.text("id"))
        fields.end()
        engine = self.engine
        point = self._point(sound)
        zero_shot = engine.encoder.zero_shot(tags)
        percentiles = engine.neutral.percentile(point, zero_shot.points)[0]
        deviations = zero_shot.score(point)[0]
        order = sorted(range(len(zero_shot.tags)), key=lambda k: (-percentiles[k], -deviations[k]))[
            :count
        ]
        notes = [*heard.notes] if heard else []
        notes += [warning(zero_shot.unknown)] if zero_shot.unknown else []
        notes += [] if percentiles.any() else [_NO_MUSIC]
        return {
            "space": engine.space,
            "tags": [
                {
                    "tag": zero_shot.tags[k],
                    "match": word(percentiles[k]),
                    "percentile": round(float(percentiles[k]), 1),
                    "z": round(float(deviations[k]), 3),
                    "says": says(float(deviations[k])),
                }
                for k in order
            ],
            "notes": notes,
        }

    def search(self, fields: Fields) -> dict[str, Any]:
        """Search by words and examples."""
        query = fields.texts("query")
        like = [self._example("like", each) for each in fields.values("like")]
        unlike = [self._example("unlike", each) for each in fields.values("unlike")]
        unwanted, options = fields.texts("not"), self._options(fields)
        fields.end()
        if not query and not like:
            raise Refused(400, "Nothing is asked for.", "Give query, or like.")
        return self._search(query, unwanted=unwanted, like=like, unlike=unlike, **options)

    def similar(self, fields: Fields, heard: Heard | None = None) -> dict[str, Any]:
        """Search for music like a track, or like audio that was sent."""
        at = fields.seconds("at")
        if heard is None:
            example = self._example("id", {"id": fields.text("id"), "at": at})
        else:
            example = heard.example(at)
        options = self._options(fields)
        fields.end()
        answer = self._search([], like=[example], **options)
        answer["notes"] = [*(heard.notes if heard else ()), *answer["notes"]]
        return answer

    def explain(self, fields: Fields) -> dict[str, Any]:
        """Say what parts of a track and words of a text add to how well they fit."""
        text = " ".join(fields.text("text").split()[:MOST_WORDS])
        sound = self._find(fields.text("id"))
        fields.end()
        wanted, _ = split_negations(text)
        if not wanted:
            raise Refused(400, "No words are to be explained.", "Give text, such as calm piano.")
        explanation = explain_features(self.engine, self._features_of(sound), wanted)
        answer = explanation.to_dict()
        answer.pop("file")
        most = explanation.parts.index(explanation.most())
        return answer | {
            "most": {name: answer["segments"][most][name] for name in ("start", "end")}
        }

    def caption(self, fields: Fields, heard: Heard | None = None) -> dict[str, Any]:
        """Find the sentence that fits a track best."""
        sound = heard or self._find(fields.text("id"))
        fields.end()
        answer = self._captioner.caption(self._features_of(sound)).to_dict()
        answer.pop("file")
        return answer

    def playlist_rows(self, fields: Fields) -> list[tuple[dict[str, Any], str]]:
        """Return the rows of tracks and their names, for a playlist."""
        ids = fields.texts("ids", is_needed=True)
        fields.end()
        rows = [find_track(self.library, each) for each in ids]
        rows = [row | {"file": _file_of(row)} for row in rows]
        names = [name_of(row["artist"], row["title"]) or row["file"] for row in rows]
        return list(zip(rows, tell_apart(names, [row["file"] for row in rows]), strict=True))

    @cached_property
    def _captioner(self) -> Captioner:
        return Captioner(self.engine)

    def _search(self, query: list[str], **options: Any) -> dict[str, Any]:
        library = self.library
        try:
            hits = library.search(query, **options)
        except ValueError as error:
            status = 409 if not len(library) else 400
            raise Refused.by(error, status) from error
        return _describe_hits(hits, library.store.space.name)

    def _options(self, fields: Fields) -> dict[str, Any]:
        per_artist = fields.whole("per_artist", -1, 0, 1_000)
        vary = fields.whole("vary", -1, 0, 2**31)
        excluded = [find_track(self.library, name) for name in fields.texts("exclude")]
        options = {
            "top": fields.whole("top", 10, 1, self.limits.top),
            "where": fields.texts("where"),
            "any_length": fields.flag("any_length"),
            "is_one_an_album": fields.flag("not_same_album"),
            "merges": not fields.flag("versions"),
            "vary": None if vary < 0 else vary,
            "excluded": [row["file"] for row in excluded],
        }
        return options if per_artist < 0 else options | {"per_artist": per_artist or None}

    def _example(self, field: str, value: Any) -> Example:
        """Return an example: an id, or an object with `id` and `at`."""
        values = {"id": value} if isinstance(value, str) else value
        if not isinstance(values, dict) or not set(values) <= {"id", "at"} or "id" not in values:
            raise Refused(400, f"{field}: is no example.", 'Give an id, or {"id": ..., "at": 83}.')
        at = values.get("at")
        at = None if at is None else check_seconds("at", at)
        sound = self._find(values["id"])
        return sound.example(at) if isinstance(sound, Heard) else Example(sound["file"], at=at)

    def _find(self, name: Any) -> Heard | dict[str, Any]:
        """Return audio that was sent, or a track's row.

        Raises:
            Refused: nothing has this id.
        """
        if isinstance(name, str) and name.startswith("u-"):
            if heard := self.uploads.get(name):
                return heard
            raise Refused(404, "The file that was sent is no longer here.", "Send it again.")
        return find_track(self._library, name)

    def _point(self, sound: Heard | dict[str, Any]) -> np.ndarray:
        """Return the point of a track (1, D): the library has it, so its file is not needed."""
        if isinstance(sound, Heard):
            return self.engine.project(sound.features.mean(0, keepdims=True))
        return np.asarray(sound["point"], np.float32)[None]

    def _features_of(self, sound: Heard | dict[str, Any]) -> np.ndarray:
        """Return features (T, A); of the latest tracks without listening again."""
        if isinstance(sound, Heard):
            return sound.features
        with self._looking:
            if sound["key"] in self._features:
                self._features.move_to_end(sound["key"])
                return self._features[sound["key"]]
        try:
            features = self.engine.backbone.embed(existing_file(sound)).embeddings
        except ValueError as error:
            raise Refused(422, "This file can no longer be read.", "Replace the file.") from error
        with self._looking:
            self._features[sound["key"]] = features
            if len(self._features) > _MOST_FEATURES:
                self._features.popitem(last=False)
        return features

    def _unknown(self, texts: list[str]) -> list[str]:
        unknown = self.engine.hardly_known(texts)
        return [warning(unknown)] if unknown else []


def _describe_hits(hits: "Hits", space: str) -> dict[str, Any]:
    notes = list(hits.notes)
    if len(hits) and all(hit.match == "weak" for hit in hits):
        notes.append(_WEAK)
    found = [hit.to_json() for hit in hits]
    for hit, name, values in zip(hits, hits.names, found, strict=True):
        values["name"] = name
        values["is_missing"] = not os.path.isfile(real_path(hit.file))
    return {
        "space": space,
        "tracks": hits.num_tracks,
        "left_out": hits.num_left_out,
        "seconds": round(hits.seconds, 4),
        "notes": notes,
        "hits": found,
    }


def _file_of(row: dict[str, Any]) -> str:
    """Return the file that a search would show."""
    return next(filter(os.path.exists, map(real_path, row["files"])), row["file"])


def _facets_of(library: "Library") -> dict[str, Any]:
    """Return artists and genres, by how many tracks they have, and the years."""
    table = library.store.tracks(columns=["artist", "genre", "year"])
    found: dict[str, Any] = {}
    for name in ("artist", "genre"):
        counts = Counter(filter(None, table.column(name).to_pylist()))
        names = [text for text, _ in counts.most_common(_MOST_NAMES)]
        found[f"{name}s"] = sorted(names, key=str.casefold)
    years = [year for year in table.column("year").to_pylist() if year > 0]
    return found | {"years": [min(years), max(years)] if years else None}
