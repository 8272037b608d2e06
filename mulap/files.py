"""Files on disk: atomic writes, hashes, and the list of inputs that failed.

A job over many files must neither stop at the first bad one nor lose it: `FailureLog` counts every
failure and writes it down with its reason.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mulap.locks import try_lock

AnyPath = str | os.PathLike[str]
"""What public functions take as a path."""

_LONGEST_NAME = 200  # bytes; most file systems take 255, and the temporary name is longer


@contextmanager
def errors_name(path: AnyPath) -> Iterator[None]:
    """Let the block's `OSError` name a path where it names none, as of a write to a full disk."""
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


@contextmanager
def atomic_path(path: AnyPath) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it over `path` only if the block ends well.

    A reader sees the old file or the whole new one, never a part, also after a kill. The parent
    folder is made if it is missing. What a kill leaves has one name, which the next that writes
    `path` takes over, so that no litter piles up. The temporary path has the same ending. An
    OSError has a `filename`, also where the writing library knew none.
    """
    # A symbolic link stays one: what it points to is replaced.
    target = Path(os.path.realpath(path) if os.path.islink(path) else path)
    with errors_name(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary, descriptor = _open_temporary(target)
        try:
            yield temporary
            with open(temporary, "rb") as written:
                os.fsync(written.fileno())
            os.replace(temporary, target)
        except BaseException:
            # After the move (a signal may raise there) another writer's file may have the name.
            # Before it ours has, and stays ours: it is locked.
            if _is_at(descriptor, temporary):
                temporary.unlink()
            raise
        finally:
            os.close(descriptor)


def leftover_path(path: AnyPath) -> Path:
    """Return where `atomic_path` writes, and so what a kill may have left of it."""
    target = Path(path)
    stem = target.stem
    if len(os.fsencode(target.name)) > _LONGEST_NAME:
        stem = hashlib.sha256(os.fsencode(target.name)).hexdigest()
    return target.with_name(f".{stem}.partial{target.suffix}")


def remove_leftover(path: AnyPath) -> None:
    """Remove a temporary file that a kill left, if it is there; one that is being written stays."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except (FileNotFoundError, PermissionError):  # gone, or another user's, which stays
        return
    try:
        # Without locks (None) whoever sweeps is alone: a warning asked the user for that.
        if try_lock(descriptor, path) is not False and _is_at(descriptor, path):
            os.unlink(path)
    finally:
        os.close(descriptor)


def _is_at(descriptor: int, path: AnyPath) -> bool:
    """Return whether an open file still has a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False


def _open_temporary(target: Path) -> tuple[Path, int]:
    """Return an empty file that is this writer's alone, and its descriptor, which locks it."""
    path, flags = leftover_path(target), os.O_RDWR | os.O_NOFOLLOW
    is_new = not path.exists()
    try:
        descriptor = os.open(path, flags | (os.O_CREAT | os.O_EXCL if is_new else 0), 0o666)
    except (PermissionError, FileExistsError, FileNotFoundError):
        return _open_other(target)  # another user's, or another writer was quicker
    # What a kill left is ours once it is locked. Where there are no locks it is not, as another may
    # be writing it. Another may also have finished, and removed or renamed it.
    is_locked = try_lock(descriptor, path)
    is_ours = is_new if is_locked is None else is_locked
    if not (is_ours and _is_at(descriptor, path)):
        os.close(descriptor)
        return _open_other(target)
    os.ftruncate(descriptor, 0)
    return path, descriptor


def _open_other(target: Path) -> tuple[Path, int]:
    """Make a temporary file with a unique name."""
    path = target.with_name(f".{secrets.token_hex(8)}.partial{target.suffix}")
    # The system applies the umask; reading it would change it for other threads for a moment.
    return path, os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)


def sha256_of(path: AnyPath) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def user_cache() -> Path:
    """Return the folder for what may be lost and made again, as the XDG specification says."""
    folder = os.environ.get("XDG_CACHE_HOME", "")
    return Path(folder if os.path.isabs(folder) else Path.home() / ".cache") / "mulap"


@dataclass
class FailureLog:
    """The inputs that a run could not use, each with its reason."""

    path: Path  # a JSON-lines file, one `{"file": ..., "reason": ...}` a line, written by `write`
    # the (file, reason) pairs so far, in order
    failures: list[tuple[str, str]] = field(default_factory=list)

    def add(self, file: AnyPath, reason: str) -> None:
        """Count one failed input."""
        self.failures.append((os.fspath(file), reason))

    def write(self) -> None:
        """Write the list; a list left by an earlier run is removed where nothing failed now."""
        if not self.failures:
            self.path.unlink(missing_ok=True)
            remove_leftover(leftover_path(self.path))
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


def read_failures(path: AnyPath) -> list[tuple[str, str]]:
    """Return the (file, reason) pairs that a `FailureLog` wrote; none where there is no file."""
    if not os.path.isfile(path):
        return []
    # Not by splitlines(), which also cuts at a U+2028 inside a file's name.
    lines = Path(path).read_text(encoding="utf-8").split("\n")
    return [(row["file"], row["reason"]) for row in map(json.loads, filter(None, lines))]
