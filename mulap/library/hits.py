"""What a search returns: tracks, where to listen, how well they fit, and why."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mulap.encoders.zero_shot import YES, Reference, ZeroShot, unit_length
from mulap.library.playlist import Entry, one_line

_MOST_REASONS = 3
_FITS = 1.5  # standard deviations of a tag's cosine with the words, among those of all tags


@dataclass(frozen=True)
class Hit:
    """A track that was found.

    Attributes:
        rank: 1 for the first.
        file: its absolute path; the first that exists where several files hold the same audio.
        start: where to listen, in seconds.
        end: likewise.
        match: `strong`, `fair` or `weak`.
        percentile: of what `match` says: how many of 100 neutral sentences fit the track less, or
            without words, how many of 100 average tracks are less like the examples.
        score: cosine of the track and the query.
        why: up to three tags that stand out in the track and fit the query.
        artist: empty if unknown, like the title and the album.
        title: likewise.
        album: likewise.
        seconds: length of the track.
        space: NAME@HASH of the model whose points were compared.
        id: of the track's audio; whatever its file is called.
        rerank: probability of a match by co-attention; None where that was not asked for.
    """

    rank: int
    file: str
    start: float
    end: float
    match: str
    percentile: float
    score: float
    why: tuple[str, ...]
    artist: str
    title: str
    album: str
    seconds: float
    space: str
    id: str
    rerank: float | None = None

    @property
    def name(self) -> str:
        """`Artist – Title`, on one line."""
        return name_of(self.artist, self.title) or self.file

    def to_json(self) -> dict[str, Any]:
        """Return the fields, rounded to what they are worth; `rerank` only where it was asked."""
        values = {
            name: round(value, 4) if isinstance(value, float) else value
            for name, value in asdict(self).items()
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class Hits(Sequence[Hit]):
    """What a search found, best first.

    Attributes:
        hits: the tracks.
        notes: what whoever asked should know, a line each.
        num_tracks: in the library.
        num_left_out: those too short or too long by default.
        seconds: that the search took, once the model was loaded.
    """

    hits: tuple[Hit, ...]
    notes: tuple[str, ...]
    num_tracks: int
    num_left_out: int
    seconds: float

    def __len__(self) -> int:
        """Return how many were found."""
        return len(self.hits)

    def __getitem__(self, index: Any) -> Any:
        """Return a hit, or some."""
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        """Go through the hits, best first."""
        return iter(self.hits)

    def __repr__(self) -> str:
        """Name the hits: a notebook shows it."""
        named = zip(self.hits, self.names, strict=True)
        return "\n".join(f"{each.rank:>3}  {each.match:<6}  {name}" for each, name in named)

    @property
    def names(self) -> list[str]:
        """The name of each hit, and behind equal ones as much of the path as tells them apart."""
        return tell_apart([each.name for each in self.hits], [each.file for each in self.hits])

    def playlist(self) -> list[Entry]:
        """Return what `write_playlist` takes."""
        named = zip(self.hits, self.names, strict=True)
        return [Entry(each.file, each.seconds, name) for each, name in named]

    def to_pandas(self) -> Any:
        """Return a DataFrame, a row per hit. Needs pandas."""
        import pandas as pd  # noqa: PLC0415  (an extra)

        return pd.DataFrame([asdict(each) for each in self.hits], columns=[*Hit.__annotations__])


class Reasons:
    """Finds the tags that stand out in a track and fit what is asked.

    Args:
        tags: the tags that come with mulap.
        words: the point of the wanted words (D,), or None.
        example: the point of the wanted examples (D,), or None.
    """

    def __init__(
        self, tags: ZeroShot, words: np.ndarray | None, example: np.ndarray | None
    ) -> None:
        self._tags = tags
        fits = np.full(len(tags.tags), -np.inf)
        if words is not None:
            cosines = unit_length(tags.points) @ words
            fits = (cosines - cosines.mean()) / cosines.std().clip(1e-6)
        if example is not None:  # what stands out in it
            fits = np.maximum(fits, tags.score(example[None])[0])
        self._fits = fits

    def of(self, tracks: np.ndarray) -> list[tuple[str, ...]]:
        """Return the tags of each track's point (N, D), those first that fit best; often fewer."""
        order = np.argsort(-self._fits, kind="stable")
        order = order[self._fits[order] >= _FITS]
        stands_out = self._tags.score(tracks)[:, order] >= YES
        return [_different(self._tags.tags[index] for index in order[row]) for row in stands_out]


def name_of(artist: str, title: str) -> str:
    """Write `Artist – Title` on one line, or what there is of it."""
    return one_line(" – ".join(filter(None, (artist, title))))


def tell_apart(names: Sequence[str], files: Sequence[str]) -> list[str]:
    """Return names, and behind those that are equal as much of the file's path as differs."""
    same: dict[str, list[Sequence[str]]] = {}
    for name, file in zip(names, files, strict=True):
        same.setdefault(name.casefold(), []).append(Path(file).parts)
    told = []
    for name, file in zip(names, files, strict=True):
        others = [parts for parts in same[name.casefold()] if parts != (own := Path(file).parts)]
        if others:
            count = 1
            while count < len(own) and any(own[-count:] == each[-count:] for each in others):
                count += 1
            name = f"{name} ({one_line('/'.join(own[-count:]).replace('//', '/'))})"
        told.append(name)
    return told


def percentile_of_tracks(
    reference: Reference, example: np.ndarray, tracks: np.ndarray
) -> np.ndarray:
    """Return how many of 100 average tracks are less like an example (D,) than tracks (N, D).

    The cosines of an example and average tracks are taken for normal, with the mean and the
    deviation that the reference gives exactly.
    """
    scores = reference.deviations(tracks, example[None])[:, 0]
    return np.array([50 * (1 + math.erf(score / math.sqrt(2))) for score in scores], np.float32)


def _different(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the first few that share no word, unlike piano and solo piano."""
    chosen: list[str] = []
    said: set[str] = set()
    for tag in tags:
        if len(chosen) < _MOST_REASONS and said.isdisjoint(tag.split()):
            chosen.append(tag)
            said.update(tag.split())
    return tuple(chosen)
