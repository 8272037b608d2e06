"""A music file with what is known about it, and the same once it was cut and listened to."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

import numpy as np

from mulap.corpora.audiofolder import SHORTEST_CLIP_SECONDS, find_music, name_within
from mulap.corpora.tags import describe_tags, says_nothing
from mulap.files import FailureLog

GROUP_CHOICES = ("artist", "album", "folder", "track")
TAGGERS = ("musicnn-mtt", "musicnn-msd")
"""Who listens. A clip's vector is the last one's."""


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
    # (start, end) in seconds, should the file hold more than the music, such as a whole video; it
    # is one clip
    excerpt: tuple[float, float] | None = None


@dataclass(frozen=True)
class DescribeOptions:
    """How tracks are cut and described."""

    clip_seconds: float = 18.0  # a shorter track makes one shorter clip; infinity: whole tracks
    max_clips: int | None = 10  # per track, spread evenly over it; None means all
    captions: int = 6  # most captions per clip
    seed: int = 0  # of the choice of words
    relative_captions: int = 0  # more of each clip, see `relative`
    # What the split keeps together: artist, album, folder or track. Where a track has no such tag,
    # its folder.
    group_by: str = "artist"
    listens: bool = True
    needs_tags: bool = False  # captions are of tags alone: tracks without any are left out
    whole: str = ""  # "link" or "copy": tracks are not cut, but put there as they are

    def __post_init__(self) -> None:
        if self.group_by not in GROUP_CHOICES:
            raise ValueError(
                f"group_by is {self.group_by!r}. Give one of {', '.join(GROUP_CHOICES)}."
            )
        if self.clip_seconds < SHORTEST_CLIP_SECONDS:
            raise ValueError(
                f"clip_seconds is {self.clip_seconds:g}. Give {SHORTEST_CLIP_SECONDS:g} or more."
            )
        if self.captions < 1 or (self.max_clips or 1) < 1 or self.relative_captions < 0:
            raise ValueError("captions and max_clips must be 1 or more, relative_captions 0.")


@dataclass(frozen=True)
class Measured:
    """What was measured of a clip; None and empty where the measurement is not sure enough."""

    loudness_db: float = 0.0  # RMS, in decibels below full scale: 0 at most
    change_db: float = 0.0  # how much louder the last third is than the first
    tempo_bpm: float | None = None
    mode: str = ""  # major or minor


@dataclass(frozen=True)
class HeardClip:
    """A clip that was cut, and what the taggers and the measures give for it."""

    file_name: str  # relative to the audiofolder
    start_seconds: float
    duration_seconds: float
    # log-odds of each tag of `hear.tag_names`, float32 (100,); empty where nobody listened
    odds: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    measured: Measured = Measured()


@dataclass(frozen=True)
class HeardTrack:
    """A track, its clips, and its place among other tracks."""

    track: Track  # with the file's own tags added to `tags`
    clips: tuple[HeardClip, ...]
    # mean embedding by musicnn-msd, float32 (1506,); empty where nobody listened
    vector: np.ndarray


@dataclass(frozen=True)
class Heard:
    """All tracks that have a clip, and what was left out."""

    tracks: list[HeardTrack]
    failures: list[tuple[str, str]]  # (file, reason)
    num_silent: int  # clips
    audio_seconds: float  # of all clips


def find_tracks(source: Path, output: Path, log: FailureLog) -> tuple[list[Track], dict[str, int]]:
    """Return a folder's music files as tracks, as `find_music` does.

    Their group is their folder; its name is also a text about them.
    """
    files, left_aside = find_music(source, output, log)
    tracks = []
    for file in files:
        name = name_within(source, file)
        folder = " ".join(name.parent.name.replace("_", " ").replace("-", " ").split())
        texts = (("title", folder),) if folder and not says_nothing(folder) else ()
        tracks.append(Track(file, name.as_posix(), file.parent.name, texts=texts))
    return tracks, left_aside


def group_tracks(tracks: Sequence[HeardTrack], group_by: str) -> list[HeardTrack]:
    """Return the tracks with the group that their tags name, one of `GROUP_CHOICES`."""
    grouped = []
    for each in tracks:
        track = each.track
        said = describe_tags(track.tags, track.path.name)
        group = track.track_id if group_by == "track" else said.get(group_by, "") or track.group
        grouped.append(replace(each, track=replace(track, group=group)))
    return grouped


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
