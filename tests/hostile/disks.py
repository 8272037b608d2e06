"""A small disk of its own, that can be full or read-only; and what stands in where none may be
mounted: a limit on the size of files, and a folder that cannot be written.
"""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hostile.kit import MIB

DISK_BYTES = 64 * MIB


class Disk:
    """A mounted tmpfs.

    Args:
        path: where it is mounted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._filler = path / "filler"

    def leave(self, num_bytes: int) -> None:
        """Fill it up, but for so many bytes."""
        self._filler.unlink(missing_ok=True)
        with open(self._filler, "wb", buffering=0) as out:
            block, free = bytes(MIB), self.num_free() - num_bytes
            while free > 0:
                free -= out.write(block[:free])

    def num_free(self) -> int:
        """Return how many bytes are left."""
        lines = subprocess.check_output(["df", "-B1", "--output=avail", self.path], text=True)
        return int(lines.split()[-1])

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)

    def set_writable(self, is_writable: bool) -> None:
        """Mount it anew, read-only or not."""
        option = "remount,rw" if is_writable else "remount,ro"
        subprocess.run(["mount", "-o", option, self.path], check=True)


@contextmanager
def small_disk(path: Path) -> Iterator[Disk | None]:
    """Mount a tmpfs; give None where that is not allowed, or with `MULAP_HOSTILE_MOUNT=0`."""
    path.mkdir()
    if os.environ.get("MULAP_HOSTILE_MOUNT") == "0":
        yield None
        return
    command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", path]
    try:
        is_mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # there is no such command
        is_mounted = False
    try:
        yield Disk(path) if is_mounted else None
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", path], check=True)
