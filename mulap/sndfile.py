"""libsndfile (soundfile) as a reader of audio files, and what its mp3 decoder says, caught.

A reader gives the same samples for a position wherever it started; that takes care where a codec
remembers its past (`SoundFileReader._safe_start`).

libmpg123, inside libsndfile, complains about odd mp3 files on C's standard error. It names no file,
and libsndfile has no switch for it. In C, standard error is a variable: while libsndfile works on
an mp3, the variable leads to memory. Python's own standard error and the descriptor behind both
stay as they are.
"""

import ctypes
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

import numpy as np
import soundfile as sf
from av.error import FFmpegError

from mulap.containers import FilePart, is_plausible, tells_mp3_length
from mulap.ffmpeg import clean_tags, container_tags, count_seconds, open_container
from mulap.files import AnyPath

_BLOCK_SAMPLES = 16_384
# How much earlier to start so that a codec's memory of its past has faded. mp3: the bit reservoir.
# ogg: libsndfile misplaces a start within the last page, which can hold seconds.
_PREROLL_SECONDS = {"MPEG_LAYER_III": 2.0, "VORBIS": 6.0, "OPUS": 6.0}
_MISSING_SECONDS = 0.1  # a header may be off by some frames

_MPG123 = re.compile(r"\[src/libmpg123/|Note: |Warning: ")
# Odd tags, and a byte count that is off: neither costs any audio.
_HARMLESS = re.compile(r"\[src/libmpg123/id3\.c|Warning: Xing stream size off")


class _SequentialFile(sf.SoundFile):
    """soundfile seeks after each read, to where it is; libsndfile's mp3 decoder then forgets."""

    def seekable(self) -> bool:
        return False


def _open_sound(file: FilePart) -> _SequentialFile:
    with catch_chatter():
        if file.is_whole:  # by descriptor: given a name, libsndfile would believe the ending
            os.lseek(file.descriptor, 0, os.SEEK_SET)
            return _SequentialFile(file.descriptor, closefd=False)
        return _SequentialFile(file.part())  # pyright: ignore[reportArgumentType] (any file)


class SoundFileReader:
    """What libsndfile decodes. See `mulap.decode.Reader`."""

    def __init__(self, file: FilePart, path: AnyPath) -> None:
        self.path = path
        self.notes: set[str] = set()
        self._file = file
        self._sound = _open_sound(file)
        self.sampling_rate_hz: int = self._sound.samplerate
        self.num_channels: int = self._sound.channels

    def close(self) -> None:
        """See `Reader`."""
        self._sound.close()

    def reads_all(self) -> bool:
        """Whether it decodes the whole file; it cuts some mp3 files short."""
        if self._sound.subtype.startswith("MPEG"):
            return self._sound.format == "MP3" and tells_mp3_length(self._file)
        return self._sound.frames > 0

    @property
    def _claimed_seconds(self) -> float:
        return self._sound.frames / self.sampling_rate_hz  # beyond all bounds where not known

    def duration_seconds(self) -> float:
        """See `Reader`."""
        seconds = self._claimed_seconds
        return seconds if is_plausible(seconds, self._file) else count_seconds(self._file)

    def tags(self) -> dict[str, str]:
        """See `Reader`. FFmpeg is asked too: each misses some (mp3 comments, aiff artists)."""
        tags = clean_tags(self._sound.copy_metadata())
        with suppress(FFmpegError), open_container(self._file) as container:
            tags |= container_tags(container)
        return tags

    def blocks(self, start: int) -> Iterator[np.ndarray]:
        """See `Reader`."""
        position = self._safe_start(start)
        if start >= self._sound.frames:
            return
        try:
            if position:
                with catch_chatter():
                    self._sound.seek(position)
        except sf.SoundFileError:  # it may have moved all the same: begin again
            self.close()
            self._sound, position = _open_sound(self._file), 0
        is_whole = True
        while is_whole:
            block = np.full((_BLOCK_SAMPLES, self.num_channels), np.nan, np.float32)
            try:
                with self._noting_damage(position >= start):
                    block = self._sound.read(_BLOCK_SAMPLES, out=block)
            except sf.SoundFileError:  # damaged from here on: what came before is used
                block, is_whole = _before_gap(block), False
            if not len(block):
                break
            yield block[max(0, start - position) :]
            position += len(block)
        self._note_end(position / self.sampling_rate_hz, is_whole)

    @contextmanager
    def _noting_damage(self, is_heard: bool) -> Iterator[None]:
        if not self._sound.subtype.startswith("MPEG"):
            yield
            return
        with catch_chatter() as lines:
            yield
        if lines and is_heard:  # before, what a frame needs of those before it may be missing
            self.notes.add("is damaged: parts of it cannot be decoded. Replace the file.")

    def _note_end(self, seconds: float, is_whole: bool) -> None:
        claimed = self._claimed_seconds
        if not is_whole:
            self.notes.add(
                f"is damaged: nothing behind {seconds:.1f} s can be decoded. Replace the file."
            )
        elif claimed - seconds > _MISSING_SECONDS and is_plausible(claimed, self._file):
            self.notes.add(
                f"is cut short: holds {seconds:.1f} s of {claimed:.1f} s. Replace the file."
            )

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
        bit_rate = 8 * self._file.size / self._claimed_seconds
        return bit_rate < 96_000 or self.num_channels > 2


def _before_gap(block: np.ndarray) -> np.ndarray:
    """Return the samples that were read into a block of NaN before an error, which hides how many.

    Without them a file would end where a block began, and so elsewhere for each start.
    """
    is_unread = np.isnan(block).all(1)
    return block[: np.argmax(is_unread)] if is_unread.any() else block


# Held while C's standard error leads elsewhere: what is caught is then about one file, and no
# process is forked meanwhile, which would keep it so.
_lock = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_lock.release
    )


@contextmanager
def catch_chatter() -> Iterator[list[str]]:
    """Catch what libmpg123 writes while the block runs; one thread at a time may be in it.

    Yields:
        A list that holds, once the block has ended, the lines it wrote about damaged audio.
    """
    lines: list[str] = []
    written: list[str] = []
    with _lock:
        stream = _memory_stream()
        if stream:
            stream.lead_there()
        try:
            yield lines
        finally:
            if stream:
                stream.lead_back()
                written = stream.take().splitlines()
            for line in written:
                if not _MPG123.match(line):  # by another thread, at the same time
                    os.write(2, f"{line}\n".encode())
                elif not _HARMLESS.match(line):
                    lines.append(line)


class _MemoryStream:
    """A C stream that writes to memory, and the variable that can be made to lead to it."""

    def __init__(self, variable: str) -> None:
        self._libc = ctypes.CDLL(None)
        self._libc.open_memstream.restype = ctypes.c_void_p
        self._text, self._size = ctypes.c_void_p(), ctypes.c_size_t()
        places = ctypes.byref(self._text), ctypes.byref(self._size)
        self._stream = ctypes.c_void_p(self._libc.open_memstream(*places))
        self._variable = ctypes.c_void_p.in_dll(self._libc, variable)
        self._original = self._variable.value

    def lead_there(self) -> None:
        self._original = self._variable.value
        self._variable.value = self._stream.value

    def lead_back(self) -> None:
        self._variable.value = self._original

    def take(self) -> str:
        """Return what was written, and forget it."""
        self._libc.fflush(self._stream)
        if not self._size.value:
            return ""
        text = ctypes.string_at(self._text, self._size.value)
        self._libc.rewind(self._stream)
        return text.decode("utf-8", "replace")


@cache
def _memory_stream() -> _MemoryStream | None:
    """Return the stream; None where C's standard error cannot be led elsewhere."""
    if sys.platform == "darwin":
        return _MemoryStream("__stderrp")
    if sys.platform == "linux" and "CS_GNU_LIBC_VERSION" in os.confstr_names:
        is_glibc = bool(os.confstr("CS_GNU_LIBC_VERSION"))  # with musl it is a constant
        return _MemoryStream("stderr") if is_glibc else None
    return None
