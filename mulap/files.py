"""Files on disk: atomic writes, hashes, and the list of inputs that failed. Knows no audio.

A job over many files must neither stop at the first bad one nor lose it: `FailureLog` counts every
failure and writes it down with its reason.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it over `path` only if the block ends well.

    A reader sees the old file or the whole new one, never a part, also after a kill. The parent
    folder is made if it is missing.

    Args:
        path: the file to be written.

    Yields:
        The path to write to, on the same file system and with the same ending as `path`.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.stem}.", suffix=target.suffix
    )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def sha256_of(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class FailureLog:
    """The inputs that a run could not use, each with its reason.

    Attributes:
        path: a JSON-lines file, one `{"file": ..., "reason": ...}` a line, written by `write`.
        failures: the (file, reason) pairs so far, in order.
    """

    path: Path
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, file: str | os.PathLike[str], reason: str) -> None:
        """Count one failed input."""
        self.failures.append((os.fspath(file), reason))

    def write(self) -> None:
        """Write the list; a list left by an earlier run is removed where nothing failed now."""
        if not self.failures:
            self.path.unlink(missing_ok=True)
            return
        with (
            atomic_path(self.path) as temporary,
            # A file name that is not UTF-8 holds lone surrogates: they become JSON's own escapes.
            open(temporary, "w", encoding="utf-8", errors="backslashreplace") as out,
        ):
            for file, reason in self.failures:
                out.write(json.dumps({"file": file, "reason": reason}, ensure_ascii=False) + "\n")

    def __len__(self) -> int:
        return len(self.failures)
