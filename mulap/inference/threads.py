"""Threads that share the blocks of one file, each with torch on one thread.

What torch computes can differ in its last bits with the number of threads that it splits an
operation between. So blocks are not split: several run side by side, and the number of threads
changes nothing but the time.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch

from mulap.pools import map_in_order

# Does as `map` does: a function and what it is called on -> the results, in order.
BlockMapper = Callable[..., Iterator[Any]]


@contextmanager
def one_torch_thread() -> Iterator[int]:
    """Keep torch to one thread for what this thread does; yield the number that it had."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield num_threads
    finally:
        torch.set_num_threads(num_threads)


@contextmanager
def block_mapper(num_threads: int | None = None) -> Iterator[BlockMapper]:
    """Open threads for the blocks of one file, and keep torch to one in each meanwhile.

    Args:
        num_threads: how many; as many as torch has where not given.

    Yields:
        What maps a function over blocks, a few of them at once; plain `map` for one thread.
    """
    with one_torch_thread() as num_torch_threads:
        num_threads = num_threads or num_torch_threads
        if num_threads == 1:
            yield map
        else:
            with ThreadPoolExecutor(num_threads, thread_name_prefix="blocks") as executor:
                yield partial(map_in_order, executor, num_ahead=num_threads)
