"""A music file with what is known about it, and the same once it was cut and listened to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np

SHORTEST_CLIP_SECONDS = 3.0  # one segment of the taggers


@dataclass(frozen=True)
class Track:
    """A music file, and what is known about it before anyone listens."""

    path: Path  # any file that `mulap.audio` reads
    # unique; names the clips: audio/TRACK_ID-000.flac. It may hold slashes.
    track_id: str
    group: str  # what no split may divide: an artist, an album, a package
    split: str = ""  # train, valid or test; empty leaves it to the manifest
    source: str = ""  # the package or set that it comes from
    licence: str = ""
    attribution: str = ""
    # title, artist, album, composer, genre, date and comment, which win over the file's own tags;
    # an empty one says that the file's must not be used either
    tags: Mapping[str, str] = field(default_factory=dict)
    # (source, sentence) pairs about the whole track, such as ("package", "music for a game")
    texts: tuple[tuple[str, str], ...] = ()
    # more columns of metadata.csv, the same for all clips; never part of a caption
    facts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class DescribeOptions:
    """How tracks are cut and described."""

    clip_seconds: float = 18.0  # a shorter track makes one shorter clip
    max_clips: int | None = 10  # per track, spread evenly over it; None means all
    captions: int = 6  # most captions per clip
    seed: int = 0  # of the choice of words
    relative_captions: int = 0  # more of each clip, see `relative`

    def __post_init__(self) -> None:
        if self.clip_seconds < SHORTEST_CLIP_SECONDS:
            raise ValueError(
                f"clip_seconds is {self.clip_seconds:g}. Give {SHORTEST_CLIP_SECONDS:g} or more."
            )
        if self.captions < 1 or (self.max_clips or 1) < 1 or self.relative_captions < 0:
            raise ValueError("captions and max_clips must be 1 or more, relative_captions 0.")


@dataclass(frozen=True)
class Measured:
    """What was measured of a clip; None and empty where the measurement is not sure enough."""

    loudness_db: float  # RMS, in decibels below full scale: 0 at most
    change_db: float  # how much louder the last third is than the first
    tempo_bpm: float | None = None
    mode: str = ""  # major or minor


@dataclass(frozen=True)
class HeardClip:
    """A clip that was cut, and what the taggers and the measures give for it."""

    file_name: str  # relative to the audiofolder
    start_seconds: float
    duration_seconds: float
    odds: np.ndarray  # log-odds of each tag of `hear.TAGS`, float32 (100,)
    measured: Measured


@dataclass(frozen=True)
class HeardTrack:
    """A track, its clips, and its place among other tracks."""

    track: Track  # with the file's own tags added to `tags`
    clips: tuple[HeardClip, ...]
    vector: np.ndarray  # mean embedding by musicnn-msd, float32 (1506,)


@dataclass(frozen=True)
class Heard:
    """All tracks that have a clip, and what was left out."""

    tracks: list[HeardTrack]
    failures: list[tuple[str, str]]  # (file, reason)
    num_silent: int  # clips
    audio_seconds: float  # of all clips
    elapsed_seconds: float


def check_ids(tracks: Sequence[Track]) -> None:
    """Raise a ValueError where two tracks have one id, or an id leads out of the folder."""
    seen: dict[str, Path] = {}
    for track in tracks:
        path = PurePosixPath(track.track_id)
        if not path.name or path.is_absolute() or ".." in path.parts:
            raise ValueError(f"{track.path}: track_id {track.track_id!r} is no relative path.")
        if track.track_id in seen:
            raise ValueError(
                f"{track.path}: has the track_id of {seen[track.track_id]}. Give each its own."
            )
        seen[track.track_id] = track.path


def clip_row(
    track: Track, file_name: str, start_seconds: float, captions: Sequence[tuple[str, str]]
) -> dict[str, str]:
    """Return the columns of metadata.csv that any clip of a track has.

    `caption` and `caption_source` are JSON lists of one length; `track_id` is the clip's own, as
    manifests need it, and `track` that of its track.
    """
    return {
        "file_name": file_name,
        "caption": json.dumps([text for text, _ in captions], ensure_ascii=False),
        "caption_source": json.dumps([source for _, source in captions]),
        "track_id": file_name.removeprefix("audio/").removesuffix(".flac"),
        "track": track.track_id,
        "group": track.group,
        "split": track.split,
        "source": track.source,
        "licence": track.licence,
        "attribution": track.attribution,
        "start_seconds": f"{start_seconds:g}",
    }
