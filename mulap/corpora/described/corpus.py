"""Tracks -> an audiofolder of short clips, each with captions and where each caption comes from.

    tracks --hear_tracks--> clips on disk, heard and measured --caption_rows--> rows of metadata.csv

The first step is slow and resumable. The second takes seconds, and comes after all tracks, as what
a clip sounds like is said relative to the others.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mulap.corpora.audiofolder import making_audiofolder, write_metadata
from mulap.corpora.described.cut import hear_tracks
from mulap.corpora.described.facets import describe_clips
from mulap.corpora.described.relative import RELATIVE, relative_captions
from mulap.corpora.described.sentences import write_captions
from mulap.corpora.described.tracks import (
    DescribeOptions,
    HeardTrack,
    clip_row,
    find_tracks,
    group_tracks,
)
from mulap.files import AnyPath, FailureLog

OWN_COLUMN = "heard"


@dataclass(frozen=True)
class DescribeReport:
    """What was made."""

    num_tracks: int  # that have a clip
    num_clips: int  # with a caption
    num_by_source: dict[str, int]  # captions by where they come from
    num_silent: int  # clips left out
    num_undescribed: int  # clips left out, as nothing can be said about them
    audio_seconds: float  # of all clips
    failures: list[tuple[str, str]]  # (file or folder, reason)
    left_aside: dict[str, int]  # ending -> files that were not read, as it is not one of audio


def describe_folder(
    source: AnyPath,
    output: AnyPath,
    options: DescribeOptions | None = None,
    num_processes: int = 1,
) -> DescribeReport:
    """Make an audiofolder of captioned clips out of a folder of music.

    Args:
        source: a folder, searched through, or one file.
        output: the audiofolder, new or made by this before; a second call does what is missing.
        options: see `DescribeOptions`.
        num_processes: how many to work with; the result does not depend on it.

    Raises:
        ValueError: there is no music, one of the two folders lies inside the other, or `output`
            holds what this did not make.
    """
    source, output, options = Path(source), Path(output), options or DescribeOptions()
    log = FailureLog(output / "failures.jsonl")
    tracks, left_aside = find_tracks(source, output, log)
    with making_audiofolder(output, OWN_COLUMN):
        heard = hear_tracks(tracks, output, options, num_processes)
        rows = caption_rows(group_tracks(heard.tracks, options.group_by), options)
        log.failures += heard.failures
        write_metadata(output, rows, OWN_COLUMN)
        log.write()
    sources = Counter(each for row in rows for each in json.loads(row["caption_source"]))
    return DescribeReport(
        num_tracks=len(heard.tracks),
        num_clips=len(rows),
        num_by_source=dict(sources.most_common()),
        num_silent=heard.num_silent,
        num_undescribed=sum(len(each.clips) for each in heard.tracks) - len(rows),
        audio_seconds=heard.audio_seconds,
        failures=log.failures,
        left_aside=left_aside,
    )


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
