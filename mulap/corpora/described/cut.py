"""Tracks -> clips on disk, heard and measured, on all cores.

    OUT/audio/TRACK_ID-003.flac   clip 3 of a track: 16 kHz, mono
    OUT/.heard/HASH.npz           what was found out about one track

The second is the journal. It is written last, so a track that a kill interrupted is done again. Its
name is a hash of the track's id, its file and how it is cut, so that a change leads to new work;
clips that no track claims any more are removed.
"""

import hashlib
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from mulap.audio import SAMPLING_RATE, AudioError, probe_audio
from mulap.corpora.audiofolder import AUDIO_FOLDER, clip_starts, read_clips, write_clip
from mulap.corpora.described.hear import TAGGERS, Taggers, load_taggers
from mulap.corpora.described.measure import measure
from mulap.corpora.described.tracks import (
    SHORTEST_CLIP_SECONDS,
    DescribeOptions,
    Heard,
    HeardClip,
    HeardTrack,
    Measured,
    Track,
    check_ids,
)
from mulap.files import AnyPath, atomic_path
from mulap.pools import Processes
from mulap.terminal import Progress

JOURNAL_FOLDER = ".heard"
_VERSION = 1  # of what a journal holds
_SILENT_PEAK = 1e-3


@dataclass
class _Done:
    """What became of a track; its clips are on disk."""

    clips: list[HeardClip] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)  # the file's own
    failures: list[tuple[str, str]] = field(default_factory=list)
    num_silent: int = 0
    journal: str = ""  # its name; empty where nothing was written


def hear_tracks(
    tracks: Sequence[Track],
    output: AnyPath,
    options: DescribeOptions | None = None,
    num_processes: int = 1,
    is_complete: bool = True,
) -> Heard:
    """Cut tracks into clips under OUT/audio, and listen to them.

    Args:
        tracks: any number.
        output: the audiofolder. What an earlier call left there is used.
        options: how to cut.
        num_processes: how many to work with; the result does not depend on it.
        is_complete: whether these are all tracks of the folder, so that clips of others are
            removed; False where some could not be had this time.

    Returns:
        All tracks of which a clip could be used, in order, and what was left out.

    Raises:
        ValueError: two tracks have one id, or an id leads out of the folder.
    """
    began = time.monotonic()
    output, options = Path(output), options or DescribeOptions()
    check_ids(tracks)
    folder = output / JOURNAL_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    heard, failures, kept, num_silent = [], [], set[str](), 0
    with (
        Progress("listening", len(tracks), "tracks") as progress,
        Processes(num_processes, load_taggers(), output, options) as pool,
    ):
        for track, done in zip(tracks, pool.map(_hear_track, tracks), strict=True):
            failures += done.failures
            num_silent += done.num_silent
            kept.add(done.journal)
            if done.clips:
                track = replace(track, tags={**done.tags, **track.tags})
                vector = np.stack(done.vectors).mean(0)
                heard.append(HeardTrack(track, tuple(done.clips), vector))
            progress.advance()
    if is_complete:
        _remove_unclaimed(output, kept, {clip.file_name for each in heard for clip in each.clips})
    seconds = sum(clip.duration_seconds for each in heard for clip in each.clips)
    return Heard(heard, failures, num_silent, seconds, time.monotonic() - began)


def _hear_track(taggers: Taggers, output: Path, options: DescribeOptions, track: Track) -> _Done:
    """Cut a track and listen to its clips, unless that was done before. Runs in a process."""
    try:
        track.track_id.encode()
        journal = _journal_path(track, output, options)
        done = _read_journal(journal)
        if done and all((output / clip.file_name).is_file() for clip in done.clips):
            return done
        info = probe_audio(track.path)
    except UnicodeEncodeError:
        return _Done(failures=[(str(track.path), "its name is not UTF-8. Rename it.")])
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}. Check the path."
        return _Done(failures=[(str(track.path), reason)])
    except AudioError as error:
        return _Done(failures=[(str(track.path), error.reason)])
    if info.duration_seconds < SHORTEST_CLIP_SECONDS:
        reason = f"shorter than {SHORTEST_CLIP_SECONDS:g} s. Leave it out."
        return _Done(failures=[(str(track.path), reason)])
    done = _Done(tags=info.tags, journal=journal.name)
    starts = clip_starts(info.duration_seconds, options.clip_seconds, options.max_clips)
    for start, samples in read_clips(track.path, starts, options.clip_seconds):
        if isinstance(samples, AudioError):
            done.failures.append((f"{track.path} at {start:g} s", samples.reason))
            continue
        if np.abs(samples).max() < _SILENT_PEAK:
            done.num_silent += 1
            continue
        number = round(start / options.clip_seconds)
        name = f"{AUDIO_FOLDER}/{track.track_id}-{number:03d}.flac"
        write_clip(output / name, samples)
        log_mels = taggers.log_mels(samples)
        odds, vector = taggers.listen(log_mels)
        measured = measure(samples, log_mels, taggers.frames_per_second)
        seconds = len(samples) / SAMPLING_RATE
        done.clips.append(HeardClip(name, start, seconds, odds, measured))
        # Rounded as the journal rounds them, so that a resumed run gives the same.
        done.vectors.append(vector.astype(np.float16).astype(np.float32))
    _write_journal(journal, done)
    return done


def _journal_path(track: Track, output: Path, options: DescribeOptions) -> Path:
    status = track.path.stat()
    made_of = (
        _VERSION,
        TAGGERS,
        track.track_id,
        (status.st_size, status.st_mtime_ns),
        (options.clip_seconds, options.max_clips),
    )
    digest = hashlib.sha256(json.dumps(made_of).encode()).hexdigest()
    return output / JOURNAL_FOLDER / f"{digest[:40]}.npz"


def _write_journal(path: Path, done: _Done) -> None:
    clips = [
        {"file_name": c.file_name, "start": c.start_seconds, "seconds": c.duration_seconds}
        | {"measured": asdict(c.measured)}
        for c in done.clips
    ]
    words = {"clips": clips, "tags": done.tags, "failures": done.failures}
    with atomic_path(path) as temporary:
        np.savez(
            temporary,
            words=np.array(json.dumps({**words, "num_silent": done.num_silent})),
            odds=np.array([clip.odds for clip in done.clips], np.float32),
            vectors=np.array(done.vectors, np.float16),
        )


def _read_journal(path: Path) -> _Done | None:
    """Return what was done of a track; None if there is no sound journal."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            words, odds = json.loads(str(stored["words"])), stored["odds"]
            vectors = stored["vectors"].astype(np.float32)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # damaged: done again
        return None
    clips = [
        HeardClip(c["file_name"], c["start"], c["seconds"], own, Measured(**c["measured"]))
        for c, own in zip(words["clips"], odds, strict=True)
    ]
    failures = [(file, reason) for file, reason in words["failures"]]
    return _Done(clips, list(vectors), words["tags"], failures, words["num_silent"], path.name)


def _remove_unclaimed(output: Path, kept: set[str], claimed: set[str]) -> None:
    """Remove journals of tracks that are not asked for any more, and their clips."""
    for journal in (output / JOURNAL_FOLDER).glob("*.npz"):
        if journal.name in kept:
            continue
        old = _read_journal(journal)
        for clip in old.clips if old else ():
            if clip.file_name not in claimed:
                (output / clip.file_name).unlink(missing_ok=True)
        journal.unlink()
