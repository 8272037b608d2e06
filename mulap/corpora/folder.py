"""A training corpus out of a folder of tagged music: an audiofolder with captions from the tags.

The files themselves are linked (or copied) under OUT/audio, since an audiofolder's `file_name` is
relative to its metadata file and tools refuse what lies outside; links keep a large collection
from being stored twice. With `clip_seconds` the tracks are cut and written as FLAC instead, so
that a few long tracks make many clips. It overwrites only files that an earlier run made.

Limits: two spellings of one artist are two groups.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mulap.audio import (
    AudioError,
    AudioInfo,
    find_audio,
    no_audio,
    probe_audio,
)
from mulap.corpora.audiofolder import (
    AUDIO_FOLDER,
    check_apart,
    clip_starts,
    making_audiofolder,
    name_within,
    read_clips,
    write_clip,
    write_metadata,
)
from mulap.corpora.tags import caption_from_tags, describe_tags, is_poor
from mulap.files import AnyPath, FailureLog, atomic_path
from mulap.pools import run_tasks
from mulap.terminal import Progress

GROUP_CHOICES = ("artist", "album", "folder", "track")
OWN_COLUMN = "source_file"
TAG_COLUMNS = ("title", "artist", "album", "genre", "date", "comment", "composer", "license")
SHORTEST_CLIP_SECONDS = 3.0  # one segment of the model
_SILENT_PEAK = 1e-4


@dataclass(frozen=True)
class CorpusReport:
    """What was made of a folder."""

    output: Path  # the audiofolder
    num_tracks: int  # that are used
    num_clips: int  # files under audio/
    num_captions: int  # rows
    # whose text says little ("track 01", or one word from a file name); they are used all the same
    num_poor_tracks: int
    num_groups: int  # that the split keeps together
    failures: list[tuple[str, str]]  # (file or folder, reason) of what was left out
    num_by_tag: dict[str, int]  # tag -> in how many used tracks it says something
    left_aside: dict[str, int]  # ending -> files that were not read, as it is not one of audio
    elapsed_seconds: float  # of the whole run


@dataclass(frozen=True)
class CorpusOptions:
    """How to make a corpus."""

    # cut tracks into clips of this length; None links whole tracks
    clip_seconds: float | None = None
    # most clips of a track, spread evenly over it; None means all
    max_clips_per_track: int | None = None
    # differing captions of each clip, one row each, where the tags allow
    captions_per_clip: int = 2
    # what the split keeps together: artist, album, folder or track. Where a track has no such tag,
    # its folder.
    group_by: str = "artist"
    copy: bool = False  # copy the files instead of linking to them
    seed: int = 0  # of the choice of wordings

    def __post_init__(self) -> None:
        if self.group_by not in GROUP_CHOICES:
            choices = ", ".join(GROUP_CHOICES)
            raise ValueError(f"group_by {self.group_by!r}: must be one of {choices}")
        if self.clip_seconds is not None and self.clip_seconds < SHORTEST_CLIP_SECONDS:
            raise ValueError(
                f"clip_seconds {self.clip_seconds:g}: must be at least {SHORTEST_CLIP_SECONDS:g}"
            )
        if self.captions_per_clip < 1 or (self.max_clips_per_track or 1) < 1:
            raise ValueError("captions_per_clip and max_clips_per_track must be at least 1")
        if self.clip_seconds is None and self.max_clips_per_track is not None:
            raise ValueError("--max-clips works only with --clip-seconds. Add --clip-seconds.")
        if self.clip_seconds is not None and self.copy:
            raise ValueError(
                "--copy copies whole tracks, but --clip-seconds writes new files. Leave one out."
            )


@dataclass(frozen=True)
class _Job:
    """A music file, and all that a process needs to put it into the corpus."""

    path: Path
    name: Path  # relative to the source folder
    output: Path
    options: CorpusOptions


@dataclass
class _Done:
    """What became of a music file: its rows, none if it was left out."""

    rows: list[dict[str, str]] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)
    said: list[str] = field(default_factory=list)  # the tags that say something
    is_poor: bool = False


def make_corpus(
    source: AnyPath, output: AnyPath, options: CorpusOptions | None = None, num_processes: int = 1
) -> CorpusReport:
    """Make an audiofolder out of a folder of music files.

    A file that cannot be read, is too short or says nothing of itself is left out, and listed
    with its reason in OUT/failures.jsonl; so is a folder that cannot be listed.

    Args:
        source: a folder, searched through, or one file.
        output: the audiofolder, new or made by this before.
        options: see `CorpusOptions`.
        num_processes: that read and cut; with 1 it is this one. The result is the same.

    Raises:
        ValueError: if there is no music, one of the two folders lies inside the other, or `output`
            holds what this did not make.
    """
    began = time.monotonic()
    source, output, options = Path(source), Path(output), options or CorpusOptions()
    check_apart(source, output)
    log, left_aside = FailureLog(output / "failures.jsonl"), Counter[str]()
    files = find_audio([source], log.failures, left_aside)
    if not files:
        raise no_audio([source], log.failures, left_aside)
    jobs = [_Job(path, name_within(source, path), output, options) for path in files]
    done: list[_Done] = []
    with making_audiofolder(output, OWN_COLUMN):
        with Progress("reading", len(files), "tracks") as progress:
            for each in run_tasks(_use_file, jobs, num_processes):
                done.append(each)
                progress.advance()
        rows = [row for each in done for row in each.rows]
        log.failures += [failure for each in done for failure in each.failures]
        write_metadata(output, rows, OWN_COLUMN)
        log.write()
    return CorpusReport(
        output,
        num_tracks=len({row[OWN_COLUMN] for row in rows}),
        num_clips=len({row["file_name"] for row in rows}),
        num_captions=len(rows),
        num_poor_tracks=sum(each.is_poor for each in done if each.rows),
        num_groups=len({row["group"] for row in rows}),
        failures=log.failures,
        num_by_tag=dict(Counter(tag for each in done if each.rows for tag in each.said)),
        left_aside=dict(left_aside.most_common()),
        elapsed_seconds=time.monotonic() - began,
    )


def _use_file(job: _Job) -> _Done:
    """Probe a file, put it or its clips under audio/, and write its rows. Runs in a process."""
    done = _Done()
    try:
        str(job.path).encode()
        info = probe_audio(job.path)
    except UnicodeEncodeError:
        done.failures.append((str(job.path), "its name is not UTF-8. Rename it."))
        return done
    except AudioError as error:
        done.failures.append((str(job.path), error.reason))
        return done
    said = describe_tags(info.tags, job.path.name)
    if info.duration_seconds < SHORTEST_CLIP_SECONDS:
        done.failures.append((str(job.path), f"shorter than {SHORTEST_CLIP_SECONDS:g} s"))
    elif not caption_from_tags(info.tags, job.path.name):
        reason = "no usable text: no tags, and a file name without words"
        done.failures.append((str(job.path), reason))
    else:
        done.said, done.is_poor = list(said), is_poor(said, "title" in info.tags)
        done.rows = list(_make_rows(job, info, said, done.failures))
    return done


def _make_rows(
    job: _Job, info: AudioInfo, said: dict[str, str], failures: list[tuple[str, str]]
) -> Iterator[dict[str, str]]:
    """Put a track's files under audio/ and give one row for each caption of each of them."""
    options = job.options
    files = (
        [(_place_track(job), 0.0)]
        if options.clip_seconds is None
        else _cut_track(job, info.duration_seconds, options.clip_seconds, failures)
    )
    group = said.get(options.group_by, "") if options.group_by != "track" else str(job.name)
    for number, (file, start_seconds) in enumerate(files):
        file_name = file.relative_to(job.output).as_posix()
        captions = caption_from_tags(
            info.tags, job.path.name, options.seed + number, options.captions_per_clip
        )
        for caption in captions:
            yield {
                "file_name": file_name,
                "caption": caption,
                "track_id": file_name.removeprefix("audio/"),
                "group": group or job.path.parent.name,
                OWN_COLUMN: job.name.as_posix(),
                "start_seconds": f"{start_seconds:g}",
                **{f"tag_{tag}": info.tags.get(tag, "") for tag in TAG_COLUMNS},
            }


def _place_track(job: _Job) -> Path:
    """Link or copy a track."""
    target = job.output / AUDIO_FOLDER / job.name
    target.parent.mkdir(parents=True, exist_ok=True)
    original = job.path.resolve()
    if target.resolve() == original and not target.is_symlink():  # by a link in the music's folder
        raise ValueError(f"{target}: is the track itself. Choose another OUTPUT.")
    if job.options.copy:
        with atomic_path(target) as temporary:
            shutil.copyfile(original, temporary)
    else:
        target.unlink(missing_ok=True)
        target.symlink_to(original)
    return target


def _cut_track(
    job: _Job, duration_seconds: float, clip_seconds: float, failures: list[tuple[str, str]]
) -> Iterator[tuple[Path, float]]:
    """Write clips as FLAC; a track shorter than one clip gives one, a silent clip is left out."""
    starts = clip_starts(duration_seconds, clip_seconds, job.options.max_clips_per_track)
    for start_seconds, samples in read_clips(job.path, starts, clip_seconds):
        if isinstance(samples, AudioError):
            failures.append((f"{job.path} at {start_seconds:g} s", samples.reason))
            continue
        if np.abs(samples).max() < _SILENT_PEAK:
            failures.append((f"{job.path} at {start_seconds:g} s", "silent"))
            continue
        index = round(start_seconds / clip_seconds)
        target = job.output / AUDIO_FOLDER / job.name.parent / f"{job.name.name}-{index:03d}.flac"
        write_clip(target, samples)
        yield target, start_seconds
