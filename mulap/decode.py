"""Readers of audio files: blocks of samples from any position, as the file has them.

libsndfile (soundfile) reads wav, flac, ogg, opus, mp3, aiff and the like; FFmpeg (PyAV, whose
wheels carry it) reads the rest, and the mp3 files that libsndfile would cut short. A file's content
decides which, never its name.

A reader gives the same samples for a position wherever it started. For libsndfile that takes care
(`SoundFileReader._safe_start`); FFmpeg always decodes from the beginning and drops: its seeks are
exact in few formats, and after one its AAC decoder was seen to differ for good (not to settle).

It knows no mixing, no resampling and no rate but the file's; `mulap.audio` is what others use.
"""

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import soundfile as sf
import soxr
from av.container import InputContainer
from av.error import FFmpegError

AnyPath = str | os.PathLike[str]

# A header can claim any rate; outside these, resampling would take absurd amounts of memory.
MIN_RATE_HZ, MAX_RATE_HZ = 1_000, 1_000_000

_BLOCK_SAMPLES = 16_384
# How much earlier to start so that a codec's memory of its past has faded. mp3: the bit reservoir.
# ogg: libsndfile misplaces a start within the last page, which can hold seconds.
_PREROLL_SECONDS = {"MPEG_LAYER_III": 2.0, "VORBIS": 6.0, "OPUS": 6.0}
# Formats without a table of contents, whose duration FFmpeg guesses from the first bit rate.
_WITHOUT_DURATION = frozenset({"aac", "ac3", "amr", "dts", "eac3", "loas", "mp3", "mpegts"})


class AudioError(ValueError):
    """A file that cannot be used, in one line: "<path>: <what> (<remedy>)".

    Args:
        path: the file.
        reason: what is wrong with it and what to do. None where torch's data loader makes an error
            of a worker's anew: it gives the text of the traceback alone, and this error's line,
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

    path: AnyPath
    sampling_rate_hz: int
    num_channels: int

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """Yield blocks (num_samples, num_channels) of float32, from sample `start` to the end."""
        ...

    def duration_seconds(self) -> float:
        """Return the playing time that the headers give; call it before or instead of `blocks`."""
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
        AudioError: whatever goes wrong, also while the reader is used.
    """
    try:
        if Path(path).is_dir():
            raise AudioError(path, "is a folder (name a file, or list its files with find_audio)")
        if Path(path).exists() and not Path(path).is_file():  # opening a pipe would wait for ever
            raise AudioError(path, "is not a regular file (save the audio to a file first)")
        with open(path, "rb", buffering=0) as file:
            if not os.fstat(file.fileno()).st_size:
                raise AudioError(path, "is empty, 0 bytes (replace the file)")
            with closing(_make_reader(file, path)) as reader:
                if not MIN_RATE_HZ <= reader.sampling_rate_hz <= MAX_RATE_HZ:
                    claim = f"claims a sampling rate of {reader.sampling_rate_hz} Hz"
                    raise AudioError(path, f"{claim} (replace the file)")
                yield reader
    except (FFmpegError, sf.SoundFileError) as error:
        raise AudioError(path, "is not audio that can be decoded (convert it to wav)") from error
    except FileNotFoundError as error:
        raise AudioError(path, "does not exist (check the path)") from error
    except OSError as error:
        reason = f"cannot be read: {error.strerror} (check the file and your rights to it)"
        raise AudioError(path, reason) from error


def _make_reader(file: FileIO, path: AnyPath) -> Reader:
    try:
        reader = SoundFileReader(file, path)
    except sf.SoundFileError:  # not a format that it knows
        pass
    else:
        if reader.knows_length():
            return reader
        reader.close()
    file.seek(0)
    return FFmpegReader(file, path)


class _SequentialFile(sf.SoundFile):
    """soundfile seeks after each read, to where it is; libsndfile's mp3 decoder then forgets."""

    def seekable(self) -> bool:
        return False


def _open_sound(file: FileIO) -> _SequentialFile:
    file.seek(0)
    # By descriptor: given a name, it would believe the ending.
    return _SequentialFile(file.fileno(), closefd=False)


class SoundFileReader:
    """What libsndfile decodes."""

    def __init__(self, file: FileIO, path: AnyPath) -> None:
        self.path = path
        self._file = file
        self._sound = _open_sound(file)
        self.sampling_rate_hz: int = self._sound.samplerate
        self.num_channels: int = self._sound.channels

    def close(self) -> None:
        """See `Reader`."""
        self._sound.close()

    def knows_length(self) -> bool:
        """Whether the length is known; if not, libsndfile cuts an mp3 short and cannot seek."""
        if self._sound.subtype.startswith("MPEG"):
            return self._sound.format == "MP3" and _mp3_tells_length(self._file)
        return self._sound.frames > 0

    def duration_seconds(self) -> float:
        """See `Reader`."""
        return self._sound.frames / self.sampling_rate_hz

    def tags(self) -> dict[str, str]:
        """See `Reader`. FFmpeg is asked too: each misses some (mp3 comments, aiff artists)."""
        tags = _clean_tags(self._sound.copy_metadata())
        with suppress(FFmpegError), open(self.path, "rb", 0) as file, _open_av(file) as container:
            tags |= _container_tags(container)
        return tags

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """See `Reader`."""
        position = self._safe_start(start)
        if start >= self._sound.frames:
            return
        try:
            if position:
                self._sound.seek(position)
        except sf.SoundFileError:  # it may have moved all the same: begin again
            self.close()
            self._sound, position = _open_sound(self._file), 0
        is_whole = True
        while is_whole:
            block = np.full((_BLOCK_SAMPLES, self.num_channels), np.nan, np.float32)
            try:
                block = self._sound.read(_BLOCK_SAMPLES, out=block)
            except sf.SoundFileError:  # damaged from here on: what came before is used
                block, is_whole = _before_gap(block), False
            if not len(block):
                return
            yield block[max(0, start - position) :]
            position += len(block)

    def _safe_start(self, start: int) -> int:
        """Where to seek to so that everything from `start` on is as in a full decode."""
        subtype = self._sound.subtype
        if subtype.startswith("PCM_") or subtype in ("FLOAT", "DOUBLE", "ULAW", "ALAW"):
            return start
        if subtype not in _PREROLL_SECONDS or (subtype == "OPUS" and self._may_be_speech_opus()):
            return 0
        return max(0, start - round(_PREROLL_SECONDS[subtype] * self.sampling_rate_hz))

    def _may_be_speech_opus(self) -> bool:
        """Whether Opus's speech coder may be at work, whose memory can last.

        Measured: at 14 kbit/s a start 10 s earlier was not enough, from 63 kbit/s on 1 s was.
        """
        bit_rate = 8 * os.fstat(self._file.fileno()).st_size / self.duration_seconds()
        return bit_rate < 96_000 or self.num_channels > 2


def _before_gap(block: np.ndarray) -> np.ndarray:
    """Return the samples that were read into a block of NaN before an error, which hides how many.

    Without them a file would end where a block began, and so elsewhere for each start.
    """
    is_unread = np.isnan(block).all(1)
    return block[: np.argmax(is_unread)] if is_unread.any() else block


class FFmpegReader:
    """What FFmpeg decodes: the first audio stream."""

    def __init__(self, file: FileIO, path: AnyPath) -> None:
        self.path = path
        self._container = _open_av(file)
        streams = self._container.streams.audio
        if not streams or not streams[0].codec_context:
            self._container.close()
            raise AudioError(path, "has no audio that can be decoded (convert it to wav)")
        self._stream = streams[0]
        self.sampling_rate_hz: int = self._stream.codec_context.sample_rate
        self.num_channels: int = self._stream.codec_context.channels

    def close(self) -> None:
        """See `Reader`."""
        self._container.close()

    def duration_seconds(self) -> float:
        """See `Reader`."""
        seconds_per_tick = float(self._stream.time_base or 0)
        if self._container.format.name not in _WITHOUT_DURATION:
            if self._stream.duration:
                return self._stream.duration * seconds_per_tick
            if self._container.duration:
                return self._container.duration / av.time_base
        packets = self._container.demux(self._stream)
        return sum(packet.duration or 0 for packet in packets) * seconds_per_tick

    def tags(self) -> dict[str, str]:
        """See `Reader`."""
        return _container_tags(self._container)

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """See `Reader`."""
        position = 0
        for frame in self._frames():
            is_own_rate = frame.sample_rate == self.sampling_rate_hz
            if is_own_rate and position + frame.samples <= start:
                position += frame.samples
                continue
            block = _frame_samples(frame)
            if not is_own_rate:  # a second file of another rate, glued to the first
                block = soxr.resample(block, frame.sample_rate, self.sampling_rate_hz)
            yield block[max(0, start - position) :]
            position += len(block)

    def _frames(self) -> Iterator[av.AudioFrame]:
        with suppress(FFmpegError):  # the file breaks off: what came before is used
            for packet in self._container.demux(self._stream):
                with suppress(FFmpegError):  # a damaged packet: go on with the next
                    yield from packet.decode()


def _open_av(file: FileIO) -> InputContainer:
    # No protocol is allowed: a playlist must not make FFmpeg open other files or the network.
    return av.open(file, "r", options={"protocol_whitelist": ""}, metadata_errors="replace")


def _frame_samples(frame: av.AudioFrame) -> np.ndarray:
    """Return a frame's samples as float32 (num_samples, num_channels); integers go to [-1, 1]."""
    samples = frame.to_ndarray()
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) / 128
    if samples.dtype.kind == "i":
        return samples.astype(np.float32) / np.float32(2.0 ** (8 * samples.itemsize - 1))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is found later
        return samples.astype(np.float32)


def _container_tags(container: InputContainer) -> dict[str, str]:
    # Ogg keeps its comments with the stream, not with the container.
    streams = container.streams.audio
    return _clean_tags(streams[0].metadata if streams else {}) | _clean_tags(container.metadata)


def _clean_tags(tags: dict[str, str]) -> dict[str, str]:
    return {key.lower(): value.strip() for key, value in tags.items() if value.strip()}


def _mp3_tells_length(file: FileIO) -> bool:
    """Whether an mp3 opens with a Xing header that gives its number of frames.

    The header (also called Info) fills the first mpeg frame: 4 bytes of name, 4 of flags, then the
    number of frames if flag 1 and the number of bytes if flag 2 is set. One that speaks of far
    fewer bytes than follow belongs to the first of several files glued together.
    """
    descriptor = file.fileno()
    offset = 0
    while (tag := os.pread(descriptor, 10, offset))[:3] == b"ID3" and len(tag) == 10:
        size = int.from_bytes(tag[6:], "big")  # 7 bits of each byte count
        offset += 10 + sum((size >> 8 * k & 0x7F) << 7 * k for k in range(4))
    head = os.pread(descriptor, 4096, offset)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 16 or not head[at + 7] & 1:
        return False
    num_bytes = int.from_bytes(head[at + 12 : at + 16], "big") if head[at + 7] & 2 else 0
    return not num_bytes or os.fstat(descriptor).st_size - offset < 1.25 * num_bytes + 65_536
