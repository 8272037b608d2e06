"""Tracks -> clips on disk, if wanted heard and measured, on all cores.

    OUT/audio/TRACK_ID-003.flac   clip 3 of a track: 16 kHz, mono
    OUT/.heard/HASH.npz           what was found out about one track

The second is the journal. It is written last, so a track that a kill interrupted is done again. Its
name is a hash of the track's id, its file and how it is cut, so that a change leads to new work;
clips that no track claims any more are removed. Tracks that are not cut have none: they are linked
again.
"""

import hashlib
import json
import math
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mulap.audio import SAMPLING_RATE
from mulap.corpora.audiofolder import AUDIO_FOLDER, SILENT, cut_clips, name_clips, probe_track
from mulap.corpora.described.measure import measure
from mulap.corpora.described.tracks import (
    TAGGERS,
    DescribeOptions,
    Heard,
    HeardClip,
    HeardTrack,
    Measured,
    Track,
    check_ids,
)
from mulap.corpora.tags import caption_from_tags
from mulap.files import AnyPath, atomic_path
from mulap.pools import Processes
from mulap.terminal import Progress

if TYPE_CHECKING:  # imports torch, which only listening needs
    from mulap.corpora.described.hear import Taggers

JOURNAL_FOLDER = ".heard"
_VERSION = 1  # of what a journal holds
_LONGER = 1.5  # times the excerpt: a file that lasts longer is not the excerpt alone


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
    """Cut tracks into clips under OUT/audio and, if wanted, listen to them.

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
    output, options = Path(output), options or DescribeOptions()
    check_ids(tracks)
    folder = output / JOURNAL_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    taggers = None
    if options.listens:
        from mulap.corpora.described.hear import load_taggers  # noqa: PLC0415 (imports torch)

        taggers = load_taggers()
    heard, failures, kept, num_silent = [], [], set[str](), 0
    with (
        Progress("listening" if taggers else "reading", len(tracks), "tracks") as progress,
        Processes(num_processes, taggers, output, options) as pool,
    ):
        for track, done in zip(tracks, pool.map(_hear_track, tracks), strict=True):
            failures += done.failures
            num_silent += done.num_silent
            kept.add(done.journal)
            if done.clips:
                track = replace(track, tags={**done.tags, **track.tags})
                vector = np.stack(done.vectors).mean(0) if done.vectors else np.empty(0)
                heard.append(HeardTrack(track, tuple(done.clips), vector))
            progress.advance()
    if is_complete:
        _remove_unclaimed(output, kept, {clip.file_name for each in heard for clip in each.clips})
    seconds = sum(clip.duration_seconds for each in heard for clip in each.clips)
    return Heard(heard, failures, num_silent, seconds)


def _hear_track(
    taggers: "Taggers | None", output: Path, options: DescribeOptions, track: Track
) -> _Done:
    """Cut a track and listen to its clips, unless that was done before. Runs in a process."""
    try:
        journal = _journal_path(track, output, options)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}. Check the path."
        return _Done(failures=[(str(track.path), reason)])
    done = _read_journal(journal)
    if done and all((output / clip.file_name).is_file() for clip in done.clips):
        return done
    info = probe_track(track.path)
    if isinstance(info, str):
        return _Done(failures=[(str(track.path), info)])
    if options.needs_tags and not caption_from_tags(info.tags, track.path.name):
        reason = "no usable text: no tags, and a file name without words"
        return _Done(failures=[(str(track.path), reason)])
    if options.whole:
        name = f"{AUDIO_FOLDER}/{track.track_id}"
        _place_track(track.path, output / name, options.whole)
        return _Done([HeardClip(name, 0.0, info.duration_seconds)], tags=info.tags)
    done = _Done(tags=info.tags, journal=journal.name)
    clips, seconds = _choose_clips(track, info.duration_seconds, options)
    for start, samples in cut_clips(track.path, clips, seconds, output):
        if isinstance(samples, str):
            if samples == SILENT and taggers:
                done.num_silent += 1
            else:
                done.failures.append((f"{track.path} at {start:g} s", samples))
            continue
        length = len(samples) / SAMPLING_RATE
        if not taggers:
            done.clips.append(HeardClip(clips[start], start, length))
            continue
        log_mels = taggers.log_mels(samples)
        odds, vector = taggers.listen(log_mels)
        measured = measure(samples, log_mels, taggers.frames_per_second)
        done.clips.append(HeardClip(clips[start], start, length, odds, measured))
        # Rounded as the journal rounds them, so that a resumed run gives the same.
        done.vectors.append(vector.astype(np.float16).astype(np.float32))
    _write_journal(journal, done)
    return done


def _choose_clips(
    track: Track, duration_seconds: float, options: DescribeOptions
) -> tuple[dict[float, str], float]:
    """Return where a track's clips begin, with their names, and their length in seconds."""
    start, end = track.excerpt or (0.0, duration_seconds)
    if duration_seconds > _LONGER * (end - start):
        return dict.fromkeys([start], f"{AUDIO_FOLDER}/{track.track_id}-000.flac"), end - start
    is_whole = track.excerpt or options.clip_seconds == math.inf
    seconds = duration_seconds if is_whole else options.clip_seconds
    return name_clips(track.track_id, duration_seconds, seconds, options.max_clips), seconds


def _place_track(path: Path, target: Path, how: str) -> None:
    """Link or copy a whole track."""
    target.parent.mkdir(parents=True, exist_ok=True)
    original = path.resolve()
    if target.resolve() == original and not target.is_symlink():  # by a link in the music's folder
        raise ValueError(f"{target}: is the track itself. Choose another OUTPUT.")
    if how == "copy":
        with atomic_path(target) as temporary:
            shutil.copyfile(original, temporary)
    else:
        target.unlink(missing_ok=True)
        target.symlink_to(original)


def _journal_path(track: Track, output: Path, options: DescribeOptions) -> Path:
    status = track.path.stat()
    made_of = (
        _VERSION,
        TAGGERS if options.listens else (),
        track.track_id,
        (status.st_size, status.st_mtime_ns),
        (options.clip_seconds, options.max_clips),
        *([track.excerpt] if track.excerpt else []),
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
