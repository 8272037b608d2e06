"""Threads that share the blocks of one file, each with torch on one thread.

What torch computes can differ in its last bits with the number of threads that it splits an
operation between. So blocks are not split: several run side by side, and the number of threads
changes nothing but the time.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from mulap.pools import BlockMapper, thread_mapper


class _Inside(threading.local):
    depth = 0  # of nested blocks in this thread


_lock = threading.Lock()
_inside = _Inside()
_num_inside, _num_before = 0, 0


@contextmanager
def one_torch_thread() -> Iterator[int]:
    """Keep torch to one thread for what this thread does; yield the number that it had.

    torch has a number for each thread, and one more that new threads begin with. Setting the first
    sets the second too. So blocks that overlap are counted, and the number from before the first
    of them is what each yields and leaves behind. A block inside another yields 1.
    """
    global _num_inside, _num_before
    is_outermost = _inside.depth < 1
    if is_outermost:
        with _lock:
            # Asked in every thread: the first question copies the number for new threads, which
            # another may raise at any time. Asked later, it would undo the setting below.
            num_threads = torch.get_num_threads()
            if not _num_inside:
                _num_before = num_threads
            _num_inside += 1
            torch.set_num_threads(1)
    _inside.depth += 1
    try:
        yield _num_before if is_outermost else 1
    finally:
        _inside.depth -= 1
        if is_outermost:
            with _lock:
                _num_inside -= 1
                torch.set_num_threads(_num_before)


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # another thread may hold it at that moment
    os.register_at_fork(after_in_child=_renew_lock)


@contextmanager
def block_mapper(num_threads: int | None = None) -> Iterator[BlockMapper]:
    """Open threads for the blocks of one file, and keep torch to one in each meanwhile.

    Args:
        num_threads: how many; as many as torch has where not given.

    Yields:
        What maps a function over blocks, a few of them at once; plain `map` for one thread.
    """
    with one_torch_thread() as num_torch_threads:
        with thread_mapper(num_threads or num_torch_threads) as map_blocks:
            yield map_blocks
