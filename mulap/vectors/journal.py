"""Files of lines that are appended to, each with a checksum: a damaged line costs itself alone."""

import json
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mulap.files import errors_name


class Journal:
    """Appends lines to a file; each is there whole once `append` returns, even after a kill.

    Any number of processes of one machine may append to it. Errors of the disk name the file.
    """

    def __init__(self, path: Path) -> None:
        # Without a buffer, and always at the end: one write a line, whole among other writers'.
        self._path, self._out = path, open(path, "ab", buffering=0)

    def append(self, values: dict[str, Any]) -> None:
        """Append a line of JSON. `read_journal` skips one that an OSError cut short."""
        with errors_name(self._path):
            write_whole(self._out, memoryview(_seal(json.dumps(values).encode())))

    def sync(self) -> None:
        """Bring all lines to the disk, so that a power cut does not lose them."""
        with errors_name(self._path):
            os.fsync(self._out.fileno())

    def close(self) -> None:
        """Close the file."""
        self._out.close()


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the sound lines of a journal; there are none where there is no file."""
    if not path.exists():
        return
    with open(path, "rb") as lines:
        for line in lines:
            sealed = line.removesuffix(b"\n")
            text = sealed[9:]
            if text and _seal(text)[1:] == sealed:
                yield json.loads(text)


def write_whole(out: Any, data: memoryview) -> None:
    """Write to an unbuffered file, which may take less than all at a time."""
    while data:
        data = data[out.write(data) :]


def _seal(text: bytes) -> bytes:
    """Make a line: the checksum of some JSON, a space, the JSON.

    The line break comes first: so a line that a full disk or a kill tore does not spoil the next.
    """
    return b"\n%08x %s" % (zlib.crc32(text), text)
