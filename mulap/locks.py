"""Locks between processes and threads. Scope: any path; the caller chooses it.

A kill releases every lock. Some cluster file systems (Lustre without `flock`, some NFS) have no
locks: there, work continues with one warning about what the user must not do.
"""

import errno
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import filelock

# ENOTSUP and EOPNOTSUPP are one number on Linux and two on macOS.
_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK})
_POLL_SECONDS = 0.2
_LOG = logging.getLogger(__name__)


@contextmanager
def hold_lock(
    path: str | os.PathLike[str], message: str, is_waiting: bool = False
) -> Iterator[None]:
    """Hold a lock file while the block runs, and remove the file afterwards.

    Processes that this one forks do not hold it: once this one is killed, the lock is free.

    Args:
        path: of the lock file; its folder exists. Also on a folder that machines share, as far as
            its file system passes locks on.
        message: what to say if another process, or another part of this one, holds it.
        is_waiting: say it once and wait, instead of raising it.

    Raises:
        ValueError: another holds it, and `is_waiting` is False.
    """
    # Not the library's stand-in for a file system without locks: a kill would leave it behind.
    lock = filelock.FileLock(path, thread_local=False, fallback_to_soft=False)
    is_held = False
    try:
        lock.acquire(blocking=False)
        is_held = True
    except filelock.Timeout as error:
        if not is_waiting:
            raise ValueError(message) from error
        _LOG.warning(message)
        lock.acquire(poll_interval=_POLL_SECONDS)
        is_held = True
    except OSError as error:
        _tolerate(error, path)
    try:
        yield
    finally:
        Path(path).unlink(missing_ok=True)  # first: whoever opens the path now makes a new file
        if is_held:
            lock.release()


def sweep_lock(path: str | os.PathLike[str]) -> None:
    """Remove the lock file that a killed process left; one that is held stays."""
    if os.path.exists(path):
        with suppress(ValueError), hold_lock(path, "it is held"):
            pass


def try_lock(descriptor: int, path: str | os.PathLike[str]) -> bool | None:
    """Lock an open file or folder until it is closed; also against other threads.

    Return whether it is locked now: False if another holds it, None if the file system, which is
    warned of, has no locks.
    """
    try:
        return filelock.lock_descriptor(descriptor, blocking=False)
    except OSError as error:
        return _tolerate(error, path)


def wait_for_lock(descriptor: int, path: str | os.PathLike[str], message: str = "") -> None:
    """Lock an open file or folder until it is closed, once no other process or thread holds it.

    A message is logged before waiting.
    """
    if try_lock(descriptor, path) is False:
        if message:
            _LOG.warning(message)
        filelock.lock_descriptor(descriptor, poll_interval=_POLL_SECONDS)


def _tolerate(error: OSError, path: str | os.PathLike[str]) -> None:
    """Pass over the error of a file system without locks; raise any other."""
    if error.errno not in _NO_LOCKS:
        raise error
    _warn_of_no_locks(os.path.dirname(os.path.abspath(path)))


@cache
def _warn_of_no_locks(folder: str) -> None:
    _LOG.warning("%s: the file system has no locks. Run one process at a time there.", folder)
