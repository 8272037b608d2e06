"""What the bytes of an Ogg or mp3 file say, looked at before a decoder is chosen.

Decoders trust the first header they meet: of Ogg files joined end to end (radio recordings) they
play the first, of joined mp3 files what the first one's header counts. Here is where one ends.
"""

import io
import os
import re
import struct
from collections.abc import Iterator
from itertools import pairwise

_CHUNK_BYTES = 2**20
_LEAST_BYTES_A_SECOND = 500  # of any codec in use, but in silence

# The page that begins a stream: "OggS", version 0, flag 2 and nothing played yet. Of its header's
# 27 bytes the last counts its segments; a byte for each gives its length.
_FIRST_PAGE = b"OggS\0\2" + bytes(8)
_PAGE_HEADER_BYTES = 27

# An mpeg frame, layer 3: 11 bits of sync, the version, the layer; bit rate and sampling rate.
_MP3_FRAME = re.compile(rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][\x10-\xef]")
_MP3_KBITS = (
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),  # versions 2 and 2.5
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
)
_MP3_RATES = {3: (44_100, 48_000, 32_000), 2: (22_050, 24_000, 16_000), 0: (11_025, 12_000, 8_000)}
# This many frames in a row are no accident, unlike one in a cover image.
_FRAMES_IN_A_ROW = 3
_ROW_BYTES = 8_192  # three of the longest, and more


class FilePart(io.RawIOBase):
    """Some bytes of an open file, as a file of their own, with a position of its own.

    Args:
        descriptor: of a regular file, which must stay open as long as this is read.
        start: the first byte.
        end: the byte after the last; the end of the file where not given.

    Attributes:
        descriptor: as given.
        size: how many bytes there are.
        is_whole: whether these are all bytes of the file.
    """

    def __init__(self, descriptor: int, start: int = 0, end: int | None = None) -> None:
        file_size = os.fstat(descriptor).st_size
        self.descriptor = descriptor
        self._start = start
        self._position = 0
        self.size = (file_size if end is None else end) - start
        self.is_whole = self.size == file_size

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position within this part."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move to a position within this part, or beyond its end, and return it."""
        origin = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}[whence]
        self._position = max(0, origin + offset)
        return self._position

    def readinto(self, buffer: "memoryview[int] | bytearray") -> int:  # pyright: ignore
        """Fill a buffer from the position on; return how many bytes there were."""
        view = memoryview(buffer).cast("B")
        content = self.pread(len(view), self._position)
        view[: len(content)] = content
        self._position += len(content)
        return len(content)

    def pread(self, size: int, position: int) -> bytes:
        """Return up to `size` bytes from a position within this part, and move nowhere."""
        size = max(0, min(size, self.size - position))
        return os.pread(self.descriptor, size, self._start + position)

    def part(self, start: int = 0, end: int | None = None) -> "FilePart":
        """Return the bytes from `start` to `end` of this part, or all, with another position."""
        end = self.size if end is None else end
        return FilePart(self.descriptor, self._start + start, self._start + end)


def is_plausible(duration_seconds: float, file: FilePart) -> bool:
    """Whether a header's playing time is a time, and one that this many bytes can hold."""
    return 0 < duration_seconds * _LEAST_BYTES_A_SECOND <= file.size + 60 * _LEAST_BYTES_A_SECOND


def split_ogg(file: FilePart) -> list[FilePart]:
    """Split an Ogg file into its links, each of which could be a file of its own, in order.

    It is the file itself where nothing was joined, or it is not Ogg.
    """
    if file.pread(4, 0) != b"OggS":
        return [file]
    starts, end_of_last = [0], 0
    # A search for these pages is much quicker than going from header to header.
    for position in _find_first_pages(file):
        if position != end_of_last:  # else its stream is played together with the one before
            starts.append(position)
        end_of_last = position + _page_bytes(file, position)
    if len(starts) == 1:
        return [file]
    return [file.part(*ends) for ends in pairwise([*starts, file.size])]


def _find_first_pages(file: FilePart) -> Iterator[int]:
    overlap = len(_FIRST_PAGE) - 1
    for position in range(0, file.size, _CHUNK_BYTES):
        chunk = file.pread(_CHUNK_BYTES + overlap, position)
        found = chunk.find(_FIRST_PAGE)
        while found >= 0:
            yield position + found
            found = chunk.find(_FIRST_PAGE, found + 1)


def _page_bytes(file: FilePart, position: int) -> int:
    header = file.pread(_PAGE_HEADER_BYTES, position)
    num_segments = header[-1] if len(header) == _PAGE_HEADER_BYTES else 0
    lengths = file.pread(num_segments, position + _PAGE_HEADER_BYTES)
    return _PAGE_HEADER_BYTES + num_segments + sum(lengths)


def tells_mp3_length(file: FilePart) -> bool:
    """Whether an mp3 opens with a Xing header that counts all of its frames.

    The header (also called Info) fills the first mpeg frame: 4 bytes of name, 4 of flags, then the
    number of frames if flag 1 and the number of bytes if flag 2 is set. Where frames follow behind
    those bytes, it belongs to the first of several files that were joined.
    """
    start = 0
    while (tag := file.pread(10, start))[:3] == b"ID3" and len(tag) == 10:
        size = int.from_bytes(tag[6:], "big")  # 7 bits of each byte count
        start += 10 + sum((size >> 8 * k & 0x7F) << 7 * k for k in range(4))
    head = file.pread(4096, start)
    at = max(head.find(b"Xing"), head.find(b"Info"))
    if at < 0 or len(head) < at + 16 or head[at + 7] & 3 != 3:
        return False
    num_frames, num_bytes = struct.unpack(">II", head[at + 8 : at + 16])
    return num_frames > 0 and not _has_mp3_frames(file, start + at + num_bytes)


def _has_mp3_frames(file: FilePart, start: int) -> bool:
    """Whether some mpeg frames in a row lie somewhere behind `start`."""
    for position in range(start, file.size, _CHUNK_BYTES):
        chunk = file.pread(_CHUNK_BYTES + _ROW_BYTES, position)
        if any(_begins_row(chunk, match.start()) for match in _MP3_FRAME.finditer(chunk)):
            return True
    return False


def _begins_row(chunk: bytes, position: int) -> bool:
    for _ in range(_FRAMES_IN_A_ROW):
        if not _MP3_FRAME.match(chunk, position):
            return False
        version, rate, has_pad = chunk[position + 1] >> 3 & 3, *divmod(chunk[position + 2] & 15, 4)
        if rate == 3:
            return False
        is_version_1 = version == 3
        bits = _MP3_KBITS[is_version_1][chunk[position + 2] >> 4] * 1000
        position += (144 if is_version_1 else 72) * bits // _MP3_RATES[version][rate]
        position += has_pad >> 1
    return True
