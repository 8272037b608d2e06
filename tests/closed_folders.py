"""Folders without rights, which count for root too while a test needs them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_VERSION = 0x20080522  # of capset's arguments: two words a set
_OVERRIDES = 1 << 1 | 1 << 2  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH


@contextmanager
def closed_folder(folder: Path, rights: int = 0) -> Iterator[None]:
    """Give a folder some rights, which bind this thread as they bind any user; restore them."""
    before = folder.stat().st_mode
    folder.chmod(rights)
    try:
        with _plain_rights():
            yield
    finally:
        folder.chmod(before)


@contextmanager
def _plain_rights() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, held = (ctypes.c_uint32 * 2)(_VERSION, 0), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, held) == 0
    less = (ctypes.c_uint32 * 6)(*held)
    less[0] &= ~_OVERRIDES  # the effective set; the permitted one allows to take them back
    assert libc.capset(header, less) == 0
    try:
        yield
    finally:
        assert libc.capset(header, held) == 0
