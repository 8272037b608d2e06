"""A training corpus out of a folder of tagged music: an audiofolder with captions from the tags.

The files themselves are linked (or copied) under OUT/audio, since an audiofolder's `file_name` is
relative to its metadata file and tools refuse what lies outside; links keep a large collection
from being stored twice. Or the tracks are cut, so that a few long tracks make many clips. Reading
and cutting are those of `described`, without listening.

Limits: two spellings of one artist are two groups.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from mulap.corpora.audiofolder import AUDIO_FOLDER, making_audiofolder, write_metadata
from mulap.corpora.described.cut import hear_tracks
from mulap.corpora.described.tracks import (
    DescribeOptions,
    HeardTrack,
    find_tracks,
    group_tracks,
)
from mulap.corpora.tags import caption_from_tags, describe_tags, is_poor
from mulap.files import AnyPath, FailureLog

OWN_COLUMN = "source_file"
TAG_COLUMNS = ("title", "artist", "album", "genre", "date", "comment", "composer", "license")


@dataclass(frozen=True)
class CorpusReport:
    """What was made of a folder."""

    num_tracks: int  # that are used
    num_clips: int  # files under audio/
    num_captions: int  # rows
    # whose text says little ("track 01", or one word from a file name); they are used all the same
    num_poor_tracks: int
    num_groups: int  # that the split keeps together
    failures: list[tuple[str, str]]  # (file or folder, reason) of what was left out
    num_by_tag: dict[str, int]  # tag -> in how many used tracks it says something
    left_aside: dict[str, int]  # ending -> files that were not read, as it is not one of audio


def make_corpus(
    source: AnyPath, output: AnyPath, options: DescribeOptions, num_processes: int = 1
) -> CorpusReport:
    """Make an audiofolder out of a folder of music files.

    A file that cannot be read, is too short or says nothing of itself is left out, and listed
    with its reason in OUT/failures.jsonl; so is a folder that cannot be listed.

    Args:
        source: a folder, searched through, or one file.
        output: the audiofolder, new or made by this before; a second call does what is missing.
        options: how to cut, and how many captions; nobody listens.
        num_processes: that read and cut; with 1 it is this one. The result is the same.

    Raises:
        ValueError: if there is no music, one of the two folders lies inside the other, or `output`
            holds what this did not make.
    """
    source, output = Path(source), Path(output)
    options = replace(options, listens=False, needs_tags=True)
    log = FailureLog(output / "failures.jsonl")
    tracks, left_aside = find_tracks(source, output, log)
    with making_audiofolder(output, OWN_COLUMN):
        heard = hear_tracks(tracks, output, options, num_processes)
        used = group_tracks(heard.tracks, options.group_by)
        rows = [row for each in used for row in _rows(each, options)]
        log.failures += heard.failures
        write_metadata(output, rows, OWN_COLUMN)
        log.write()
    said = [(each.track, describe_tags(each.track.tags, each.track.path.name)) for each in used]
    return CorpusReport(
        num_tracks=len(used),
        num_clips=sum(len(each.clips) for each in used),
        num_captions=len(rows),
        num_poor_tracks=sum(is_poor(words, "title" in track.tags) for track, words in said),
        num_groups=len({row["group"] for row in rows}),
        failures=log.failures,
        num_by_tag=dict(Counter(tag for _, words in said for tag in words)),
        left_aside=left_aside,
    )


def _rows(heard: HeardTrack, options: DescribeOptions) -> Iterator[dict[str, str]]:
    """Yield a row for each caption of each clip of a track."""
    track = heard.track
    for number, clip in enumerate(heard.clips):
        for caption in caption_from_tags(
            track.tags, track.path.name, options.seed + number, options.captions
        ):
            yield {
                "file_name": clip.file_name,
                "caption": caption,
                "track_id": clip.file_name.removeprefix(f"{AUDIO_FOLDER}/"),
                "group": track.group,
                OWN_COLUMN: track.track_id,
                "start_seconds": f"{clip.start_seconds:g}",
                **{f"tag_{tag}": track.tags.get(tag, "") for tag in TAG_COLUMNS},
            }
