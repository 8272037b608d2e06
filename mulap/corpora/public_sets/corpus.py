"""Recordings of a public set, with what its tables say of them -> an audiofolder.

    official tables --read() of the set's module--> SetTracks --make_set_corpus--> an audiofolder

    OUT/audio/TRACK_ID-18-36.flac   seconds 18 to 36 of a track; a whole file is TRACK_ID.flac

A name says what its clip holds. So a clip that is there, and no older than its file, is not made
again after a kill; clips of these tracks that were cut in another way are removed.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mulap.audio import AudioError, probe_audio
from mulap.corpora.audiofolder import (
    AUDIO_FOLDER,
    SHORTEST_CLIP_SECONDS,
    SILENT,
    check_apart,
    clip_starts,
    cut_clips,
    making_audiofolder,
    write_metadata,
)
from mulap.corpora.described.tracks import (
    DescribeOptions,
    Track,
    check_ids,
    clip_row,
)
from mulap.corpora.public_sets.sentences import write_tag_captions
from mulap.data.row_files import Row, find_column, read_table
from mulap.files import AnyPath, FailureLog
from mulap.pools import Processes
from mulap.terminal import Progress

Failures = list[tuple[str, str]]
"""(file or row, reason) of what cannot be used."""

_LONGER = 1.5  # times the excerpt: a file that lasts longer is not the excerpt alone


@dataclass(frozen=True)
class SetTrack:
    """A recording of a set, and what its tables say of it."""

    track: Track  # with no `words`, its `texts` are the captions of each clip, as they stand
    # what its tags say, by facet of `described.facets`: sentences are written of them
    words: Mapping[str, tuple[str, ...]] | None = None
    # (start, end) in seconds, should the file hold more than the recording, such as a whole video
    excerpt: tuple[float, float] | None = None


@dataclass(frozen=True)
class SetReport:
    """What was made of a set."""

    output: Path  # the audiofolder
    num_rows: int  # recordings that the tables list
    num_missing: int  # of them, whose audio is not there
    num_tracks: int  # that have a clip
    num_by_split: dict[str, int]  # clips
    num_by_source: dict[str, int]  # captions by where they come from
    num_silent: int  # clips left out
    num_undescribed: int  # clips left out, as nothing is said of them
    audio_seconds: float  # of all clips
    failures: Failures
    elapsed_seconds: float


@dataclass
class _Cut:
    """What became of a track: its clips on disk, each as (name, start and length in seconds)."""

    clips: list[tuple[str, float, float]] = field(default_factory=list)
    failures: Failures = field(default_factory=list)
    num_silent: int = 0


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
    with making_audiofolder(output, own_column):
        cuts = []
        with (
            Progress("cutting", len(there), "tracks") as progress,
            Processes(num_processes, output, options) as pool,
        ):
            for cut in pool.map(_cut_track, there):
                cuts.append(cut)
                progress.advance()
        log.failures += [failure for cut in cuts for failure in cut.failures]
        counts = _Counts()
        write_metadata(output, _rows(there, cuts, options, own_column, counts), own_column)
        _remove_stale(output / AUDIO_FOLDER, there, cuts)
        log.write()
    return SetReport(
        output,
        num_rows=len(tracks),
        num_missing=len(missing),
        num_tracks=sum(bool(cut.clips) for cut in cuts),
        num_by_split=dict(counts.splits),
        num_by_source=dict(counts.sources.most_common()),
        num_silent=sum(cut.num_silent for cut in cuts),
        num_undescribed=counts.num_undescribed,
        audio_seconds=sum(seconds for cut in cuts for _, _, seconds in cut.clips),
        failures=log.failures,
        elapsed_seconds=time.monotonic() - began,
    )


def _cut_track(output: Path, options: DescribeOptions, row: SetTrack) -> _Cut:
    """Write the clips of a track that are not there yet. Runs in a process."""
    path, cut = row.track.path, _Cut()
    try:
        end, modified = probe_audio(path).duration_seconds, path.stat().st_mtime
    except AudioError as error:
        cut.failures.append((str(path), error.reason))
        return cut
    begin, seconds, is_whole = 0.0, min(options.clip_seconds, end), options.clip_seconds >= end
    if row.excerpt and end > _LONGER * (row.excerpt[1] - row.excerpt[0]):
        begin, end, is_whole = row.excerpt[0], min(end, row.excerpt[1]), False
        seconds = end - begin
    if seconds < SHORTEST_CLIP_SECONDS:
        cut.failures.append((str(path), f"shorter than {SHORTEST_CLIP_SECONDS:g} s."))
        return cut
    clips: dict[float, str] = {}
    for place in clip_starts(end - begin, seconds, options.max_clips):
        start = begin + place
        name = row.track.track_id + ("" if is_whole else f"-{start:g}-{start + seconds:g}")
        clips[start] = f"{AUDIO_FOLDER}/{name}.flac"
    wanted = {
        start: name for start, name in clips.items() if not _is_newer(output / name, modified)
    }
    for start, samples in cut_clips(path, wanted, seconds, output):
        if isinstance(samples, str):
            del clips[start]
            if samples == SILENT:
                cut.num_silent += 1
            else:
                cut.failures.append((f"{path} at {start:g} s", samples))
    cut.clips += [(name, start, seconds) for start, name in clips.items()]
    return cut


def _is_newer(path: Path, modified: float) -> bool:
    """Return whether a file is there and no older than that."""
    return path.is_file() and path.stat().st_mtime >= modified


@dataclass
class _Counts:
    """What the rows hold, counted while they are written: a large set has millions."""

    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    num_undescribed: int = 0


def _rows(
    tracks: Sequence[SetTrack],
    cuts: Sequence[_Cut],
    options: DescribeOptions,
    own_column: str,
    counts: _Counts,
) -> Iterator[dict[str, str]]:
    """Yield a row of metadata.csv for each clip that has a caption."""
    for each, cut in zip(tracks, cuts, strict=True):
        track = each.track
        for name, start, _ in cut.clips:
            captions = [(text, source) for source, text in track.texts]
            if each.words is not None:
                captions = write_tag_captions(track, each.words, name, options)
            if not captions:
                counts.num_undescribed += 1
                continue
            counts.splits[track.split] += 1
            counts.sources.update(source for _, source in captions)
            row = clip_row(track, name, start, captions)
            yield {**row, own_column: track.facts[own_column], **track.facts}


def _remove_stale(audio: Path, tracks: Sequence[SetTrack], cuts: Sequence[_Cut]) -> None:
    """Remove clips of these tracks that were cut in another way."""
    claimed = {name for cut in cuts for name, _, _ in cut.clips}
    ids = {each.track.track_id for each, cut in zip(tracks, cuts, strict=True) if cut.clips}
    for path in audio.rglob("*.flac"):
        name = path.relative_to(audio).as_posix()
        stem = name.removesuffix(".flac")
        if f"{AUDIO_FOLDER}/{name}" not in claimed and {stem, stem.rsplit("-", 2)[0]} & ids:
            path.unlink()
