"""Recordings of a public set, with what its tables say of them -> an audiofolder.

    official tables --read() of the set's module--> SetTracks --make_set_corpus--> an audiofolder

Clips are cut as `described` does, without listening.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mulap.corpora.audiofolder import check_apart, making_audiofolder, write_metadata
from mulap.corpora.described.cut import hear_tracks
from mulap.corpora.described.tracks import DescribeOptions, HeardClip, Track, check_ids, clip_row
from mulap.corpora.public_sets.sentences import write_tag_captions
from mulap.data.row_files import Row, find_column, read_table
from mulap.files import AnyPath, FailureLog

Failures = list[tuple[str, str]]
"""(file or row, reason) of what cannot be used."""


@dataclass(frozen=True)
class SetTrack:
    """A recording of a set, and what its tables say of it."""

    track: Track  # with no `words`, its `texts` are the captions of each clip, as they stand
    # what its tags say, by facet of `described.facets`: sentences are written of them
    words: Mapping[str, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class SetReport:
    """What was made of a set."""

    output: Path  # the audiofolder
    num_rows: int  # recordings that the tables list
    num_missing: int  # of them, whose audio is not there
    num_tracks: int  # that have a clip
    num_by_split: dict[str, int]  # clips
    num_by_source: dict[str, int]  # captions by where they come from
    num_undescribed: int  # clips left out, as nothing is said of them
    audio_seconds: float  # of all clips
    failures: Failures
    elapsed_seconds: float


def find_file(audio: Path, names: Sequence[str], folders: Sequence[str] = ()) -> Path:
    """Return the first file that is there: one of `names`, in `audio` or in a folder of it.

    Where none is there, where the first would be.
    """
    paths = [audio / folder / name for folder in ("", "audio", *folders) for name in names]
    return next((path for path in paths if path.is_file()), paths[0])


def find_table(metadata: Path, name: str) -> Path:
    """Return a table that --metadata names itself or by its folder."""
    return metadata / name if metadata.is_dir() else metadata


def read_rows(path: Path, columns: Sequence[str], failures: Failures) -> Iterator[tuple[str, Row]]:
    """Yield where each row of a CSV stands, and its values.

    Args:
        path: the table.
        columns: that it must have; a ValueError says which is missing.
        failures: takes rows that cannot be read.
    """
    names, rows = read_table(path)
    for name in columns:
        find_column(path, names, name)
    for where, row in rows:
        if isinstance(row, str):
            failures.append((f"{path} {where}", row))
        else:
            yield f"{path} {where}", row


def make_set_corpus(
    audio: AnyPath,
    tracks: Sequence[SetTrack],
    failures: Failures,
    output: AnyPath,
    options: DescribeOptions,
    num_processes: int = 1,
) -> SetReport:
    """Make an audiofolder of captioned clips out of the recordings of a set.

    Args:
        audio: the folder of the set's audio.
        tracks: from the `read` of the set's module, all of one set.
        failures: what that could not read.
        output: the audiofolder, new or made by this before; a second call does what is missing.
        options: how to cut; how many captions are written where the set has tags.
        num_processes: how many to work with; the result does not depend on it.

    Returns:
        What was made. A recording whose audio is missing is a failure.

    Raises:
        ValueError: there is no audio at all, two recordings have one id, one of the two folders
            lies inside the other, or `output` holds what this did not make.
    """
    began, output = time.monotonic(), Path(output)
    check_apart(audio, output)
    if not tracks:
        raise ValueError(f"{audio}: the tables list no recording that can be used.")
    check_ids([each.track for each in tracks])
    there = [each for each in tracks if each.track.path.is_file()]
    if not there:
        raise ValueError(
            f"{audio}: holds none of {len(tracks):,} recordings, looked for as "
            f"{tracks[0].track.path} and so on. Give --audio the folder that they were unpacked to."
        )
    log = FailureLog(output / "failures.jsonl", list(failures))
    missing = {each.track.path for each in tracks} - {each.track.path for each in there}
    log.failures += [(str(path), "is missing. Download it.") for path in sorted(missing)]
    own_column = f"{tracks[0].track.source}_id"
    options, counts = replace(options, listens=False), _Counts()
    by_id = {each.track.track_id: each for each in there}
    with making_audiofolder(output, own_column):
        cut = hear_tracks(
            [each.track for each in there], output, options, num_processes, not missing
        )
        log.failures += cut.failures
        pairs = ((by_id[each.track.track_id], each.clips) for each in cut.tracks)
        write_metadata(output, _rows(pairs, options, own_column, counts), own_column)
        log.write()
    return SetReport(
        output,
        num_rows=len(tracks),
        num_missing=len(missing),
        num_tracks=len(cut.tracks),
        num_by_split=dict(counts.splits),
        num_by_source=dict(counts.sources.most_common()),
        num_undescribed=counts.num_undescribed,
        audio_seconds=cut.audio_seconds,
        failures=log.failures,
        elapsed_seconds=time.monotonic() - began,
    )


@dataclass
class _Counts:
    """What the rows hold, counted while they are written: a large set has millions."""

    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    num_undescribed: int = 0


def _rows(
    pairs: Iterable[tuple[SetTrack, Sequence[HeardClip]]],
    options: DescribeOptions,
    own_column: str,
    counts: _Counts,
) -> Iterator[dict[str, str]]:
    """Yield a row of metadata.csv for each clip that has a caption."""
    for each, clips in pairs:
        track = each.track
        for clip in clips:
            captions = [(text, source) for source, text in track.texts]
            if each.words is not None:
                captions = write_tag_captions(track, each.words, clip.file_name, options)
            if not captions:
                counts.num_undescribed += 1
                continue
            counts.splits[track.split] += 1
            counts.sources.update(source for _, source in captions)
            row = clip_row(track, clip.file_name, clip.start_seconds, captions)
            yield {**row, own_column: track.facts[own_column], **track.facts}
