"""A lock file keeps a second process away from what only one may write. Knows not what that is."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def hold_lock(path: str | os.PathLike[str], message: str) -> Iterator[None]:
    """Hold a lock file as long as the block runs; it is gone after it, and a kill lets go of it.

    Args:
        path: of the lock file; its folder is there. Also on a folder that machines share, as far as
            its file system passes locks on.
        message: what to say where another holds it.

    Raises:
        ValueError: another process, or another part of this one, holds it.
    """
    lock = Path(path)
    while True:
        with open(lock, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise ValueError(message) from error
            # Its last holder may have removed it since it was opened: then this is nobody's lock.
            if not _is_open_at(lock, file.fileno()):
                continue
            try:
                yield
            finally:
                lock.unlink(missing_ok=True)
            return


def sweep_lock(path: str | os.PathLike[str]) -> None:
    """Remove the lock file that a killed process left; one that is held stays."""
    if os.path.exists(path):
        with suppress(ValueError), hold_lock(path, "it is held"):
            pass


def _is_open_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False
