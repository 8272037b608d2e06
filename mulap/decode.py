"""An audio file -> blocks of its samples from any position, as the file has them.

libsndfile (`mulap.sndfile`) reads wav, flac, ogg, opus, mp3, aiff and the like; FFmpeg
(`mulap.ffmpeg`) the rest, and the mp3 files that libsndfile would cut short. A file's content
decides which, never its name. An Ogg file that is several, joined end to end, is read one by one.

Scope: the file's own rate and channels; `mulap.audio`, which others use, mixes and resamples.
"""

import math
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile as sf
from av.error import FFmpegError

from mulap.containers import FilePart, split_ogg
from mulap.ffmpeg import FFmpegReader, change_rate
from mulap.files import AnyPath
from mulap.sndfile import SoundFileReader

# A header can claim any rate; outside these, resampling would take absurd amounts of memory.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 1_000_000


class AudioError(ValueError):
    """A file that cannot be used, in one line: "<path>: <what> (<remedy>)".

    Args:
        path: the file.
        reason: what is wrong with it and what to do. None where torch's data loader makes an error
            of a worker's again: it gives the text of the traceback alone, and this error's line,
            "mulap.decode.AudioError: <path>: <what> (<remedy>)", is the last of it.

    Attributes:
        path: the file.
        reason: what is wrong with it and what to do.
    """

    def __init__(self, path: AnyPath, reason: str | None = None) -> None:
        if reason is None:
            line = os.fspath(path).strip().rpartition("\n")[2]
            path, _, reason = line.partition(": ")[2].partition(": ")
        super().__init__(path, reason)  # both, so that it survives the way between processes
        self.path = Path(path)
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class Reader(Protocol):
    """An open audio file."""

    path: AnyPath  # the file
    sampling_rate_hz: int  # of the file; of joined files, of the first
    num_channels: int  # of the file
    notes: set[str]  # what `blocks` found wrong with the file

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Yield blocks (num_samples, num_channels) of float32, from sample `start` to the end.

        The same samples for a position, wherever the start. Each of joined files keeps its own
        number of channels.
        """
        ...

    def duration_seconds(self) -> float:
        """Return the playing time that the headers give.

        Where they give none, or more than so few bytes can hold, packets are counted.
        """
        ...

    def tags(self) -> dict[str, str]:
        """Return title, artist and so on; keys in lower case, no empty values."""
        ...

    def close(self) -> None:
        """Let go of the decoder, not of the file."""
        ...


@contextmanager
def open_reader(path: AnyPath) -> Iterator[Reader]:
    """Open an audio file with the library that can read it.

    Yields:
        A reader with a sampling rate within `MIN_RATE_HZ` and `MAX_RATE_HZ`.

    Raises:
        AudioError: on any failure, also while the reader is used.
    """
    try:
        if Path(path).is_dir():
            raise AudioError(path, "is a folder. Name a file, or list its files with find_audio.")
        if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for ever
            raise AudioError(path, "is not a regular file. Save the audio to a file first.")
        with open(path, "rb", buffering=0) as file:
            whole = FilePart(file.fileno())
            if not whole.size:
                raise AudioError(path, "is empty, 0 bytes. Replace the file.")
            parts = split_ogg(whole)
            is_joined = len(parts) > 1
            reader = _JoinedReader(parts, path) if is_joined else _make_reader(whole, path)
            with closing(reader):
                if not MIN_RATE_HZ <= reader.sampling_rate_hz <= MAX_RATE_HZ:
                    claim = f"claims a sampling rate of {reader.sampling_rate_hz} Hz"
                    raise AudioError(path, f"{claim}. Replace the file.")
                yield reader
    except (FFmpegError, sf.SoundFileError) as error:
        raise AudioError(path, "is not audio that can be decoded. Convert it to wav.") from error
    except FileNotFoundError as error:
        raise AudioError(path, "does not exist. Check the path.") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror}. Check the file and your rights to it."
        raise AudioError(path, reason) from error


def _make_reader(file: FilePart, path: AnyPath) -> SoundFileReader | FFmpegReader:
    try:
        reader = SoundFileReader(file, path)
    except sf.SoundFileError:  # not a format that it knows
        return FFmpegReader(file, path)
    if reader.reads_all():
        return reader
    reader.close()
    return FFmpegReader(file, path)


class _JoinedReader:
    """Files that were joined end to end, each read by a reader of its own.

    They sound at the rate of the first one. One of another rate is always decoded from its start.
    """

    def __init__(self, parts: list[FilePart], path: AnyPath) -> None:
        self.path = path
        self.notes: set[str] = set()
        self._parts = parts
        self._first = _make_reader(parts[0], path)
        self.sampling_rate_hz = self._first.sampling_rate_hz
        self.num_channels = self._first.num_channels

    def close(self) -> None:
        self._first.close()

    def tags(self) -> dict[str, str]:
        return self._first.tags()

    def duration_seconds(self) -> float:
        return sum(reader.duration_seconds() for reader in self._readers())

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        position = 0
        for reader in self._readers():
            length = math.floor(reader.duration_seconds() * self.sampling_rate_hz + 0.5)
            if position + length <= start:
                position += length
                continue
            yield from self._blocks_of(reader, max(0, start - position))
            position += length
            self.notes |= reader.notes

    def _blocks_of(self, reader: Reader, start: int) -> Iterator[np.ndarray]:
        if reader.sampling_rate_hz == self.sampling_rate_hz:
            yield from reader.blocks(start)
            return
        rate, position = reader.sampling_rate_hz, 0
        for block in change_rate(reader.blocks(0), rate, self.sampling_rate_hz):
            yield block[max(0, start - position) :]
            position += len(block)

    def _readers(self) -> Iterator[Reader]:
        for part in self._parts:
            try:
                reader = _make_reader(part, self.path)
            except (FFmpegError, sf.SoundFileError):
                self.notes.add(
                    "is damaged: not all files joined in it can be decoded. Replace the file."
                )
                continue
            with closing(reader):
                yield reader
