"""Audio files in: any format, rate and channel count -> mono float32 at one rate, any part of it.

A part of a file equals the same part of the whole file, decoded: channels are averaged, then soxr
(HQ) resamples, starting where the source's samples and the result's coincide, and early enough to
fill the resampler. `mulap.decode` starts earlier still where a codec remembers its past.

    source   |....|....|....|....|....|     a dot is a sample, a bar is where the two grids meet
    decoded       [m...============m]       m: the resampler's margin, =: what is returned

What becomes of unusual input:
    silence, samples outside [-1, 1]    kept as they are
    truncated                           what there is, and a note; if that is nothing, AudioError
    damaged                             what can be decoded up to where the decoder gives up, and a
                                        note; a part behind the damage may be displaced, or longer
    channels that cancel each other     their mean, which is nearly silent, and a note
    several files joined end to end     all of them (Ogg, mp3 and raw AAC)
    shorter than asked for              what there is
    empty, NaN, infinite or absurdly large samples, a start beyond the end, not audio, missing, a
    folder: AudioError

A note is one line, "<path>: <what is wrong>", that goes to the logger `mulap.audio` as a warning,
once per file and process: to standard error, unless the program configures logging.

Scope: samples. Codecs are `mulap.decode`'s, features and segments `MulapFeatureExtractor`'s.
"""

import logging
import math
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from pathlib import Path

import numpy as np
import soxr
from tqdm import tqdm

from mulap.decode import MAX_RATE_HZ, MIN_RATE_HZ, AudioError, Reader, open_reader
from mulap.files import AnyPath

SAMPLING_RATE = 16_000

# What recursion into a folder picks up; a file that is named directly may have any ending. Not
# `.ts` and `.mts`, which are TypeScript more often than video.
AUDIO_SUFFIXES = frozenset(
    ".wav .wave .bwf .rf64 .w64 .flac .ogg .oga .opus .spx .mp1 .mp2 .mp3 .mpa .m4a .m4b .m4p .m4r"
    " .aac .adts .ac3 .ec3 .eac3 .dts .dtshd .mlp .thd .wma .xwma .aif .aiff .aifc .au .snd .caf"
    " .ape .wv .tta .tak .shn .mpc .mp+ .dsf .dff .qoa .amr .awb .gsm .qcp .ra .voc .sph .nist"
    " .8svx .oma .aa3 .at3 .vqf .aa .aax .mka .weba"
    # video with sound
    " .mp4 .m4v .mov .mkv .webm .ogv .ogm .ogx .avi .wmv .asf .flv .f4v .3gp .3g2 .mpg .mpeg .vob"
    " .m2ts .rm .rmvb .mxf .nut".split()
)

# soxr HQ needs 128 samples of the slower of the two rates on either side (measured: cut at 64 the
# result is off by 1e-4, from 128 on by float rounding only).
_MARGIN_SAMPLES = 256

# Channels cancel where their mean is 30 dB under them; even unrelated ones differ by 3 dB for two.
_CANCELLED_POWER = 1e-3
_SILENT_POWER = 1e-8  # of full scale: -80 dB
_LOUDEST = 1e12  # far beyond any recording; the power of louder samples would not fit float32


@lru_cache(10_000)  # a file that is read again, as in every epoch, is not told of again
def log_note(path: AnyPath, note: str) -> None:
    """Log what is wrong with a file that can be used all the same."""
    with tqdm.external_write_mode():  # a progress bar is taken away meanwhile
        # Bytes that are not UTF-8 are shown escaped: a log file cannot take them.
        name = os.fsencode(path).decode("utf-8", "backslashreplace")
        logging.getLogger(__name__).warning("%s: %s", name, note)


@dataclass
class Found:
    """What was found out about a file while it was decoded.

    Attributes:
        num_samples: decoded, at the rate that was asked for.
        duration_seconds: the same in seconds; of a whole file, counted by its own samples.
        notes: what is wrong with a file that can be used.
    """

    num_samples: int = 0
    duration_seconds: float = 0.0
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class AudioInfo:
    """What a file's headers say about it."""

    duration_seconds: float  # playing time; what can be decoded of a truncated file is shorter
    sampling_rate_hz: int  # of the file, before any resampling
    num_channels: int  # of the file
    # title, artist, album, genre, comment, date, ... as far as given; keys in lower case.
    tags: dict[str, str]


def probe_audio(path: AnyPath) -> AudioInfo:
    """Read a file's headers and tags without decoding it; AudioError if it is not audio."""
    with open_reader(path) as reader:
        return AudioInfo(
            duration_seconds=reader.duration_seconds(),
            sampling_rate_hz=reader.sampling_rate_hz,
            num_channels=reader.num_channels,
            tags=reader.tags(),
        )


def load_audio(
    path: AnyPath,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    sampling_rate: int = SAMPLING_RATE,
    found: Found | None = None,
) -> np.ndarray:
    """Decode a file, or a part of it, to mono.

    Args:
        path: an audio file of any format.
        start_seconds: where the part begins, rounded to a sample of the result.
        duration_seconds: length of the part; None means up to the end. Less is returned where the
            file ends earlier.
        sampling_rate: of the result, in Hz.
        found: takes what was found out, notes too, which are then not logged.

    Returns:
        Float32 of shape (num_samples,), finite, at least one sample.

    Raises:
        AudioError: the file holds nothing usable there; the message says why.
        ValueError: a negative start, a duration of no sample, or a rate out of range.
    """
    where = start_seconds, duration_seconds, found
    return np.concatenate(list(stream_audio(path, sampling_rate, 30.0, *where)))


def stream_audio(
    path: AnyPath,
    sampling_rate: int = SAMPLING_RATE,
    block_seconds: float = 30.0,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    found: Found | None = None,
) -> Iterator[np.ndarray]:
    """Decode a file of any length, or a part of it, in constant memory.

    Args:
        path: an audio file of any format.
        sampling_rate: of the result, in Hz.
        block_seconds: length of every block but the last, which may be shorter.
        start_seconds: as `load_audio`.
        duration_seconds: as in `load_audio`.
        found: as in `load_audio`; complete once the last block was taken.

    Yields:
        Consecutive blocks, float32 of shape (block_samples,); together they are `load_audio(path)`.

    Raises:
        AudioError: as `load_audio`; NaN samples are found out only after the blocks before them.
        ValueError: as `load_audio`, or a block of no sample.
    """
    _check_rate(sampling_rate)
    block_samples = _count_samples("block_seconds", block_seconds, sampling_rate)
    if not (math.isfinite(start_seconds) and start_seconds >= 0):
        raise ValueError(f"start_seconds={start_seconds}: must be zero or more")
    start, left = round(start_seconds * sampling_rate), None
    if duration_seconds is not None:
        left = _count_samples("duration_seconds", duration_seconds, sampling_rate)
    pending, mixer, num_samples = np.zeros(0, np.float32), _Mixer(), 0
    with open_reader(path) as reader:
        pieces = _resample(reader, start, sampling_rate, mixer)
        while left is None or left > num_samples:
            wanted = block_samples if left is None else min(block_samples, left - num_samples)
            gathered = _gather(pieces, wanted, pending)
            block, pending = gathered[:wanted], gathered[wanted:]
            if not block.size:
                break
            num_samples += block.size
            yield block
    if not num_samples:
        if start:
            load_audio(path, 0.0, 1.0, sampling_rate, Found())  # says so if there is nothing at all
            raise AudioError(path, f"ends before {start_seconds:g} s. Ask for an earlier start.")
        raise AudioError(path, "holds no samples that can be decoded. Replace the file.")
    notes = sorted(reader.notes | mixer.notes())
    if found is None:
        for note in notes:
            log_note(path, note)
        return
    found.notes, found.num_samples = notes, num_samples
    is_all = not start and left is None
    own_rate = reader.sampling_rate_hz
    found.duration_seconds = mixer.num_samples / own_rate if is_all else num_samples / sampling_rate


def resample(waveform: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Resample a whole clip, mono float32 (num_samples,), from one rate to another as files are.

    The length is num_samples * new_rate / rate, rounded. ValueError if a rate is out of range.
    """
    _check_rate(rate)
    _check_rate(new_rate)
    return waveform if rate == new_rate else soxr.resample(waveform, rate, new_rate, quality="HQ")


def find_audio(
    paths: AnyPath | Sequence[AnyPath],
    failures: list[tuple[str, str]] | None = None,
    others: Counter[str] | None = None,
) -> list[Path]:
    """List the audio files that some files and folders stand for.

    Args:
        paths: one, or several. Files are taken with any ending. Folders are
            searched through all levels, links included, for `AUDIO_SUFFIXES`; hidden files and
            folders are left out.
        failures: (folder, reason) of each folder that cannot be listed is added here, and the
            search continues.
        others: counts the files in folders that have another ending, by ending.

    Returns:
        Sorted paths, each file once even if several paths lead to it.

    Raises:
        AudioError: a path is missing, or a folder cannot be listed and there are no `failures`.
    """
    found: dict[str, Path] = {}  # by real path
    visited: set[str] = set()
    for path in map(Path, _as_list(paths)):
        try:
            os.stat(path)
        except OSError as error:
            is_missing = isinstance(error, FileNotFoundError)
            what = "does not exist" if is_missing else f"cannot be read: {error.strerror}"
            raise AudioError(path, f"{what}. Check the path.") from error
        for file in _walk(path, visited, failures, others) if path.is_dir() else [path]:
            found.setdefault(os.path.realpath(file), file)
    return sorted(found.values())


def no_audio(
    paths: AnyPath | Sequence[AnyPath], failures: Sequence[tuple[str, str]], others: Counter[str]
) -> ValueError:
    """Return the error for paths among which `find_audio` found nothing, with what it met."""
    names = ", ".join(map(str, _as_list(paths)))
    if failures:
        folder, reason = failures[0]
        return ValueError(f"{names}: no audio files found; {folder} {reason}")
    held = f", only {sum(others.values())} with other endings" if others else ""
    return ValueError(
        f"{names}: no audio files found{held}. Give a file, or a folder that contains audio."
    )


def _as_list(paths: AnyPath | Sequence[AnyPath]) -> Sequence[AnyPath]:
    return [paths] if isinstance(paths, str | os.PathLike) else paths


def _walk(
    folder: Path,
    visited: set[str],
    failures: list[tuple[str, str]] | None,
    others: Counter[str] | None,
) -> Iterator[Path]:
    real = os.path.realpath(folder)
    if real in visited:  # a link back up, or a folder given twice
        return
    visited.add(real)
    try:
        with os.scandir(folder) as listed:
            entries = sorted(listed, key=lambda entry: entry.name)
    except OSError as error:
        problem = AudioError(folder, f"cannot be listed: {error.strerror}. Check its permissions.")
        if failures is None:
            raise problem from error
        failures.append((os.fspath(folder), problem.reason))
        return
    for entry in entries:
        path, is_link = folder / entry.name, entry.is_symlink()
        if entry.name.startswith(".") or (is_link and not os.path.exists(path)):  # a dead link
            continue
        # Without asking the disk again: in a folder that may only be listed, that would fail.
        if os.path.isdir(path) if is_link else entry.is_dir():
            yield from _walk(path, visited, failures, others)
        elif path.suffix.lower() in AUDIO_SUFFIXES:
            yield path
        elif others is not None:
            others[path.suffix.lower() or "no ending"] += 1


def _resample(reader: Reader, start: int, rate: int, mixer: "_Mixer") -> Iterator[np.ndarray]:
    """Yield the file from sample `start` of its resampled form on, in pieces of any length."""
    source_rate = reader.sampling_rate_hz
    divisor = math.gcd(source_rate, rate)
    source_step, step = source_rate // divisor, rate // divisor  # between two meetings of the grids
    margin = math.ceil(_MARGIN_SAMPLES * max(1.0, source_rate / rate))
    meeting = max(0, start * source_rate // rate - margin) // source_step
    to_drop = start - meeting * step
    position = start
    resampler = soxr.ResampleStream(source_rate, rate, 1, dtype="float32", quality="HQ")
    blocks = reader.blocks(meeting * source_step)
    is_last = False
    while not is_last:
        block = next(blocks, None)
        is_last = block is None
        mono = np.zeros(0, np.float32) if block is None else mixer.mix(block)
        piece = resampler.resample_chunk(mono, last=is_last)
        piece, to_drop = piece[to_drop:], max(0, to_drop - len(piece))
        if not np.abs(piece).max(initial=0.0) < _LOUDEST:
            where = f"near {position / rate:.1f} s"
            if np.isfinite(piece).all():
                reason = f"has samples of absurd size {where}. Export it at a usual level."
            else:
                reason = f"has NaN or infinite samples {where}. Export it again."
            raise AudioError(reader.path, reason)
        position += len(piece)
        yield piece


class _Mixer:
    """Averages channels, and notices where they cancel each other."""

    def __init__(self) -> None:
        self.num_samples = 0  # of each channel
        self._power = self._mixed_power = 0.0  # sums over samples

    def mix(self, block: np.ndarray) -> np.ndarray:
        """Average the channels: (num_samples, num_channels) -> (num_samples,)."""
        num_channels = block.shape[1]
        with np.errstate(over="ignore", invalid="ignore"):  # the resampled result is checked
            mono = reduce(np.add, block.T)  # mean() takes 10 times as long
            if num_channels > 1:  # of one channel it is no copy
                mono /= np.float32(num_channels)
                self._power += float(np.vdot(block, block)) / num_channels
                self._mixed_power += float(np.vdot(mono, mono))
            self.num_samples += len(mono)
            return mono

    def notes(self) -> set[str]:
        """Return warnings about the channels."""
        # The mean is kept: it is what other tools compute too, and any one channel instead would
        # make a vector jump where a file comes just over the threshold.
        is_heard = self._power > _SILENT_POWER * self.num_samples
        if is_heard and self._mixed_power < _CANCELLED_POWER * self._power:
            return {"its channels cancel, so their mean is nearly silent. Invert one channel."}
        return set()


def _gather(pieces: Iterator[np.ndarray], wanted: int, first: np.ndarray) -> np.ndarray:
    """Join `first` and as many pieces as it takes to have `wanted` samples, or all of them."""
    gathered, num_samples = [first], len(first)
    while num_samples < wanted and (piece := next(pieces, None)) is not None:
        gathered.append(piece)
        num_samples += len(piece)
    return np.concatenate(gathered)


def _count_samples(name: str, seconds: float, rate: int) -> int:
    if not math.isfinite(seconds) or round(seconds * rate) < 1:
        raise ValueError(f"{name}={seconds}: must be one sample ({1 / rate:.2g} s) or more")
    return round(seconds * rate)


def _check_rate(rate: int) -> None:
    if not MIN_RATE_HZ <= rate <= MAX_RATE_HZ:
        raise ValueError(f"sampling_rate={rate}: must be {MIN_RATE_HZ} to {MAX_RATE_HZ} Hz")
