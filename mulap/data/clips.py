"""`Clip` and `Manifest`: the interface of a data set.

`mulap.data.manifest` makes them of metadata files, `mulap.data.prepared.read` of a prepared data
set, whose clips are made one by one on demand, so that millions of them cost little.
"""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol, overload

import numpy as np

from mulap.data.prepared.recipe import Recipe
from mulap.data.splits import SPLITS


class Stored(Protocol):
    """What `mulap prepare` stored of a track."""

    @property
    def folder(self) -> Path:
        """The prepared data set."""
        ...

    @property
    def key(self) -> str:
        """What tells this track from all others, of other prepared data sets too."""
        ...

    @property
    def recipe(self) -> Recipe:
        """What is stored of each track."""
        ...

    @property
    def num_segments(self) -> int:
        """How many log-mels there are; only where log-mels are stored."""
        ...

    @property
    def duration_seconds(self) -> float:
        """Playing time of the whole track; only where samples are stored."""
        ...

    def log_mels(self, which: slice) -> np.ndarray:
        """Return some log-mels: float32 (T, F, N), a copy."""
        ...

    def waveform(self, start_seconds: float, duration_seconds: float) -> np.ndarray:
        """Return a part of the samples: float32 (num_samples,), fewer at the track's end."""
        ...


@dataclass(frozen=True, slots=True)
class Clip:
    """A row of the manifest: one audio file with its captions."""

    # the file; it existed when the manifest was read. Of a prepared clip, the folder.
    audio_path: Path
    captions: tuple[str, ...]  # one or more, in normal form, none twice
    track_id: str  # unique in the manifest
    group: str  # artist, album or the like; the track id where there is none
    split: str  # train, valid or test
    source: str  # where the row came from, for error messages, such as "metadata.csv row 17"
    # what `mulap prepare` made of the file; None where it is to be decoded
    stored: Stored | None = None
    # where each caption comes from, such as "title" or "heard+measured"; empty where no column
    # caption_source says so
    caption_sources: tuple[str, ...] = ()


class LazyClips(Sequence[Clip]):
    """Clips that are made when they are asked for."""

    @abstractmethod
    def split(self, name: str) -> "LazyClips":
        """Return those of one split."""

    @abstractmethod
    def count_captions(self) -> np.ndarray:
        """Return how many captions each clip has, (len(self),)."""


@dataclass(frozen=True)
class Manifest:
    """The clips that can be used, and what was left out."""

    clips: list[Clip] | LazyClips  # in the order of the rows
    # (source, reason) of every row, caption or archive entry left out, and of a split that parts
    # groups apart. A reason begins with its kind and a colon.
    problems: list[tuple[str, str]] = field(default_factory=list)

    def split(self, name: str) -> list[Clip] | LazyClips:
        """Return the clips of one split, train, valid or test."""
        if name not in SPLITS:
            raise ValueError(f"split {name!r}: must be one of {', '.join(SPLITS)}")
        if not isinstance(self.clips, list):
            return self.clips.split(name)
        return [clip for clip in self.clips if clip.split == name]


class CaptionPool(Sequence[str]):
    """All captions of some clips in order, each read from its clip on demand.

    Ten million prepared clips cost 80 MB here, and that only where captions are drawn by number.
    """

    def __init__(self, clips: list[Clip] | LazyClips) -> None:
        self.clips = clips

    @cached_property
    def _ends(self) -> np.ndarray:
        """How many captions the clips up to each one have, it included, int64 (clips,)."""
        if isinstance(self.clips, list):
            counts = np.array([len(clip.captions) for clip in self.clips], np.int64)
        else:
            counts = self.clips.count_captions()
        return np.cumsum(counts)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        place = range(len(self))[index]  # as a list does: from the end, or IndexError
        clip = int(np.searchsorted(self._ends, place, side="right"))
        return self.clips[clip].captions[place - int(self._ends[clip])]

    def __iter__(self) -> Iterator[str]:
        for clip in self.clips:
            yield from clip.captions
