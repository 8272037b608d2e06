"""Tracks -> an audiofolder of short clips, each with captions and where each caption comes from.

    tracks --hear_tracks--> clips on disk, heard and measured --caption_rows--> rows of metadata.csv

The first step is slow and resumable. The second takes seconds, and comes after all tracks, as what
a clip sounds like is said relative to the others.
"""

import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mulap.audio import find_audio, no_audio
from mulap.corpora.audiofolder import check_apart, making_audiofolder, name_within, write_metadata
from mulap.corpora.described.cut import hear_tracks
from mulap.corpora.described.facets import describe_clips
from mulap.corpora.described.relative import RELATIVE, relative_captions
from mulap.corpora.described.sentences import write_captions
from mulap.corpora.described.tracks import DescribeOptions, Heard, HeardTrack, Track, clip_row
from mulap.corpora.tags import describe_tags, says_nothing
from mulap.files import AnyPath, FailureLog

OWN_COLUMN = "heard"
GROUP_CHOICES = ("artist", "album", "folder", "track")


@dataclass(frozen=True)
class DescribeReport:
    """What was made."""

    output: Path  # the audiofolder
    num_tracks: int  # that have a clip
    num_clips: int  # with a caption
    num_by_source: dict[str, int]  # captions by where they come from
    num_silent: int  # clips left out
    num_undescribed: int  # clips left out, as nothing can be said about them
    audio_seconds: float  # of all clips
    failures: list[tuple[str, str]]  # (file or folder, reason)
    left_aside: dict[str, int]  # ending -> files that were not read, as it is not one of audio
    elapsed_seconds: float


def describe_folder(
    source: AnyPath,
    output: AnyPath,
    options: DescribeOptions | None = None,
    group_by: str = "artist",
    num_processes: int = 1,
) -> DescribeReport:
    """Make an audiofolder of captioned clips out of a folder of music.

    Args:
        source: a folder, searched through, or one file.
        output: the audiofolder, new or made by this before; a second call does what is missing.
        options: see `DescribeOptions`.
        group_by: artist, album, folder or track: what the split keeps together. Where a track has
            no such tag, its folder.
        num_processes: how many to work with; the result does not depend on it.

    Raises:
        ValueError: there is no music, one of the two folders lies inside the other, or `output`
            holds what this did not make.
    """
    source, output = Path(source), Path(output)
    if group_by not in GROUP_CHOICES:
        raise ValueError(f"group_by is {group_by!r}. Give one of {', '.join(GROUP_CHOICES)}.")
    check_apart(source, output)
    failures: list[tuple[str, str]] = []
    left_aside = Counter[str]()
    files = find_audio([source], failures, left_aside)
    if not files:
        raise no_audio([source], failures, left_aside)
    tracks = [_track_of_file(source, file) for file in files]

    def group(heard: HeardTrack) -> HeardTrack:
        track = heard.track
        said = describe_tags(track.tags, track.path.name)
        chosen = track.track_id if group_by == "track" else said.get(group_by, "")
        return replace(heard, track=replace(track, group=chosen or track.group))

    report = _describe(tracks, output, options, num_processes, group, failures)
    return replace(report, left_aside=dict(left_aside.most_common()))


def describe_tracks(
    tracks: Sequence[Track],
    output: AnyPath,
    options: DescribeOptions | None = None,
    num_processes: int = 1,
) -> DescribeReport:
    """Make an audiofolder of captioned clips out of some tracks.

    Args:
        tracks: with what is known about them.
        output: the audiofolder, new or made by this before; a second call does what is missing.
        options: see `DescribeOptions`.
        num_processes: how many to work with; the result does not depend on it.

    Raises:
        ValueError: two tracks have one id, or `output` holds what this did not make.
    """
    return _describe(tracks, Path(output), options, num_processes, lambda heard: heard, [])


def _describe(
    tracks: Sequence[Track],
    output: Path,
    options: DescribeOptions | None,
    num_processes: int,
    change: Callable[[HeardTrack], HeardTrack],
    failures: list[tuple[str, str]],
) -> DescribeReport:
    began, options = time.monotonic(), options or DescribeOptions()
    with making_audiofolder(output, OWN_COLUMN):
        heard = hear_tracks(tracks, output, options, num_processes)
        rows = caption_rows([change(each) for each in heard.tracks], options)
        log = FailureLog(output / "failures.jsonl", failures + heard.failures)
        write_metadata(output, rows, OWN_COLUMN)
        log.write()
    return _report(output, heard, rows, log, time.monotonic() - began)


def _report(
    output: Path, heard: Heard, rows: list[dict[str, str]], log: FailureLog, seconds: float
) -> DescribeReport:
    sources = Counter(each for row in rows for each in json.loads(row["caption_source"]))
    return DescribeReport(
        output,
        num_tracks=len(heard.tracks),
        num_clips=len(rows),
        num_by_source=dict(sources.most_common()),
        num_silent=heard.num_silent,
        num_undescribed=sum(len(each.clips) for each in heard.tracks) - len(rows),
        audio_seconds=heard.audio_seconds,
        failures=log.failures,
        left_aside={},
        elapsed_seconds=seconds,
    )


def _track_of_file(source: Path, file: Path) -> Track:
    """Return a file as a track; the name of its folder is a text about it."""
    name = name_within(source, file)
    folder = " ".join(name.parent.name.replace("_", " ").replace("-", " ").split())
    texts = (("title", folder),) if folder and not says_nothing(folder) else ()
    return Track(file, name.as_posix(), file.parent.name, texts=texts)


def caption_rows(
    tracks: Sequence[HeardTrack], options: DescribeOptions | None = None
) -> list[dict[str, str]]:
    """Write the captions of all clips, relative to what is usual among these tracks.

    Args:
        tracks: from `hear_tracks`; any may be left out or changed (`dataclasses.replace`).
        options: how many captions, and the seed.

    Returns:
        A row of metadata.csv for each clip that has a caption, all with the same columns.
    """
    options = options or DescribeOptions()
    pairs = [(track, clip) for track in tracks for clip in track.clips]
    more = dict.fromkeys(name for each in tracks for name in each.track.facts)
    clips = [clip for _, clip in pairs]
    relative = relative_captions(clips, options.relative_captions, options.seed)
    rows = []
    for (heard, clip), facts, likened in zip(pairs, describe_clips(clips), relative, strict=True):
        track, measured = heard.track, clip.measured
        name = clip.file_name
        captions = write_captions(track, facts, name, options.captions, options.seed)
        captions += [(text, RELATIVE) for text in likened if text not in dict(captions)]
        if not captions:
            continue
        rows.append(
            {
                **clip_row(track, name, clip.start_seconds, captions),
                OWN_COLUMN: facts.listing(),
                "mode": measured.mode,
                "loudness_db": f"{measured.loudness_db:.1f}",
                **{key: str(track.facts.get(key, "")) for key in more},
            }
        )
    return rows
