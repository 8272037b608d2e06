"""Tracks decoded once, to learn which can be used and how long each is; then parts of them.

    files -> decode_files -> Decoded, one per file     its length, log-mels or samples, or why not
          -> read_tracks  -> Tracks                    the lengths of all, for crops

Headers of cut or damaged files claim more than can be decoded, so lengths are counted: no crop
passes an end. They can be written down, and a later run decodes only files that are new to it.
"""

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from mulap.audio import AudioError, Found, load_audio, log_note, stream_audio
from mulap.decode import open_reader
from mulap.files import AnyPath, atomic_path
from mulap.pools import run_tasks
from mulap.terminal import Progress

if TYPE_CHECKING:
    from mulap.model.features import MulapFeatureExtractor

LENGTHS_FILE = "lengths.json"
_NO_LOG_MELS = np.empty((0, 0, 0), np.float32)  # the log-mels of a file that cannot be used
_SAVE_EVERY_TRACKS = 1000  # what a kill may cost, of a pass that takes hours for a large corpus


@dataclass(frozen=True)
class Decoding:
    """How files are decoded."""

    sampling_rate: int  # of the samples, in Hz
    seconds: float | None = None  # how much of each, from its start; None means all
    # what is kept of it besides the length
    keep: Literal["nothing", "samples", "log-mels"] = "nothing"
    extractor: "MulapFeatureExtractor | None" = None  # waveform -> log-mel, where these are kept


@dataclass
class Decoded(Found):
    """What was found in one file; no samples if it cannot be used."""

    reason: str = ""  # why it cannot be used, or ""
    samples: np.ndarray | None = None  # mono, float32 (num_samples,), if kept
    log_mels: np.ndarray | None = None  # of all segments, float32 (T, F, N), if kept


def decode_file(decoding: Decoding, path: AnyPath) -> Decoded:
    """Decode a file once; an unusable one gives a reason."""
    decoded = Decoded()
    part = {"duration_seconds": decoding.seconds, "found": decoded}
    blocks = stream_audio(path, decoding.sampling_rate, **part)
    try:
        if decoding.keep == "log-mels":
            assert decoding.extractor is not None
            decoded.log_mels = _log_mels(decoding.extractor, blocks)
        elif decoding.keep == "samples":
            decoded.samples = np.concatenate(list(blocks))
        else:
            deque(blocks, maxlen=0)
    except AudioError as error:
        return Decoded(reason=error.reason)
    return decoded


def _log_mels(extractor: "MulapFeatureExtractor", blocks: Iterable[np.ndarray]) -> np.ndarray:
    # Block by block, so that of a long track only its log-mels are in memory.
    segments = extractor.stream_segments(blocks)
    if extractor.db_reference == "batch":  # one maximum over all of a track
        segments = iter([np.concatenate(list(segments))])
    return np.concatenate([extractor.log_mel(some) for some in segments])


def decode_files(
    paths: Sequence[AnyPath], decoding: Decoding, num_processes: int = 1
) -> Iterator[Decoded]:
    """Decode files once, in several processes, and log what is wrong with usable ones.

    What was found in each is yielded in order. ValueError if a process died, as for lack of memory.
    """
    found = run_tasks(partial(decode_file, decoding), paths, max(1, num_processes))
    with Progress("decoding", len(paths)) as progress:
        for path, decoded in zip(paths, found, strict=True):
            for note in decoded.notes:
                log_note(path, note)
            progress.advance()
            yield decoded


@dataclass(frozen=True)
class Tracks:
    """Audio files of known lengths."""

    extractor: "MulapFeatureExtractor"  # waveform -> log-mel
    paths: Sequence[AnyPath]  # of n files
    num_samples: np.ndarray  # int64 (n,), at the extractor's rate; 0 for a file that cannot be used
    duration_seconds: np.ndarray  # float64 (n,), see `Decoded`
    # of all segments of each file, (T, F, N), if they are kept; else None
    log_mels: Sequence[np.ndarray] | None = None
    failures: Sequence[tuple[int, str]] = ()  # index and reason of each file that cannot be used


def read_part(
    extractor: "MulapFeatureExtractor", path: AnyPath, start_seconds: float, seconds: float | None
) -> np.ndarray:
    """Decode a part of a file into log-mels (T, F, N). Faults were reported before."""
    rate = extractor.sampling_rate
    waveform = load_audio(path, start_seconds, seconds, rate, Found())
    return extractor.log_mel(extractor.segment(waveform))


def read_tracks(
    extractor: "MulapFeatureExtractor",
    paths: Sequence[AnyPath],
    keep: bool = False,
    num_processes: int = 0,
    lengths: AnyPath | None = None,
    seconds: float | None = None,
) -> Tracks:
    """Decode every file once, to learn its length and whether it can be used.

    Args:
        extractor: waveform -> log-mel.
        paths: of the files.
        keep: hold all log-mels in memory from here on.
        num_processes: that decode; 0 or 1 decode in this one.
        lengths: a JSON file of lengths, read if it is there and added to on the way if its folder
            can be written: a file in it is decoded again only if it has changed, or if log-mels
            are kept.
        seconds: how much of each file, from its start; None means all.

    Raises:
        ValueError: a process died, as it does for lack of memory.
    """
    stamps = [_stamp(path, extractor.sampling_rate) for path in paths]
    known = _load_lengths(lengths)
    todo = [index for index, stamp in enumerate(stamps) if keep or stamp not in known]
    found = {}
    kept = "log-mels" if keep else "nothing"
    decoding = Decoding(extractor.sampling_rate, seconds, kept, extractor)
    decoded = decode_files([paths[index] for index in todo], decoding, num_processes)
    for number, (index, each) in enumerate(zip(todo, decoded, strict=True), 1):
        found[index] = each
        if not each.reason:
            known[stamps[index]] = each.num_samples, each.duration_seconds
        if lengths and number % _SAVE_EVERY_TRACKS == 0:
            _save_lengths(lengths, known)
    if lengths and todo:
        _save_lengths(lengths, known)
    every = [found.get(index) or Decoded(*known[stamp]) for index, stamp in enumerate(stamps)]
    return Tracks(
        extractor,
        paths,
        np.array([each.num_samples for each in every], np.int64),
        np.array([each.duration_seconds for each in every]),
        [_NO_LOG_MELS if each.log_mels is None else each.log_mels for each in every]
        if keep
        else None,
        [(index, each.reason) for index, each in enumerate(every) if each.reason],
    )


def _save_lengths(path: AnyPath, lengths: dict[str, tuple[int, float]]) -> None:
    folder = Path(path).parent
    if folder.is_dir() and not os.access(folder, os.W_OK):
        return  # somebody else's run, which is evaluated all the same
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(lengths, indent=0) + "\n", encoding="utf-8")


def _load_lengths(path: AnyPath | None) -> dict[str, tuple[int, float]]:
    if path is None or not os.path.isfile(path):
        return {}
    known = {}
    try:
        for stamp, length in json.loads(Path(path).read_text(encoding="utf-8")).items():
            if isinstance(length, int):  # version 0.1 wrote samples only
                length = length, length / int(stamp.rpartition("|")[2])
            num_samples, seconds = length
            known[stamp] = int(num_samples), float(seconds)
    except (ValueError, TypeError, AttributeError) as error:
        message = f"{path}: is damaged. Delete it; the lengths are then measured again."
        raise ValueError(message) from error
    return known


def _stamp(path: AnyPath, rate: int) -> str:
    """Name a file with its size and time, which change with its content; "" if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return ""
    return f"{path}|{status.st_size}|{status.st_mtime_ns}|{rate}"


def count_segments(extractor: "MulapFeatureExtractor", num_samples: int) -> int:
    """Return how many segments `extractor.segment` cuts a clip of `num_samples` samples into."""
    left = num_samples + 2 * extractor.pad_samples - extractor.segment_samples
    return 1 + max(0, left) // extractor.stride_samples


def count_cache_bytes(extractor: "MulapFeatureExtractor", paths: Sequence[AnyPath]) -> int:
    """Return how much memory all log-mels will take, by the files' headers."""
    num_segments = 0
    for path in paths:
        try:
            with open_reader(path) as reader:
                seconds = reader.duration_seconds()
        except AudioError:
            continue  # `read_tracks` reports it
        num_segments += count_segments(extractor, round(seconds * extractor.sampling_rate))
    return num_segments * extractor.num_mel_bins * extractor.num_frames * 4
