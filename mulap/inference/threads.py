"""Threads that share blocks of work, in order and in bounded memory, each with torch on one thread.

What torch computes can differ in its last bits with the number of threads that it splits an
operation between. So blocks are not split: several run side by side, and the number of threads
changes nothing but the time.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def one_torch_thread() -> Iterator[int]:
    """Keep torch to one thread for what this thread does; yield the number that it had."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield num_threads
    finally:
        torch.set_num_threads(num_threads)


class BlockPool:
    """Threads that work on blocks, of which only so many are held at a time.

    Args:
        num_threads: at work at once.
    """

    def __init__(self, num_threads: int) -> None:
        self.num_threads = num_threads
        self._executor = ThreadPoolExecutor(num_threads, thread_name_prefix="blocks")
        self._room = BoundedSemaphore(2 * num_threads)

    def submit(self, function: Callable[[Item], Result], item: Item) -> Future[Result]:
        """Have a block worked on, as soon as there is room for it."""
        self._room.acquire()
        try:
            future = self._executor.submit(function, item)
        except BaseException:
            self._room.release()
            raise
        future.add_done_callback(lambda _: self._room.release())
        return future

    def map_blocks(
        self, function: Callable[[Item], Result], items: Iterable[Item]
    ) -> Iterator[Result]:
        """Work on items that an iterator brings, a few of them at once.

        Args:
            function: called in the pool's threads.
            items: run in the thread that reads the results. What it raises is raised after the
                results of the items before, as if they had been worked on one by one.

        Yields:
            The results, in order.
        """
        pending: deque[Future[Result]] = deque()
        error: ValueError | None = None
        iterator = iter(items)
        try:
            while True:
                try:
                    item = next(iterator)
                except StopIteration:
                    break
                except ValueError as caught:
                    error = caught
                    break
                pending.append(self.submit(function, item))
                if len(pending) > self.num_threads:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
            if error:
                raise error
        finally:
            for future in pending:
                future.cancel()

    def __enter__(self) -> "BlockPool":
        return self

    def __exit__(self, *error: object) -> None:
        """Drop what has not begun, and wait for what has."""
        self._executor.shutdown(cancel_futures=True)


@contextmanager
def open_pool() -> Iterator[BlockPool | None]:
    """Open a pool of as many threads as torch has, and keep torch to one in all of them meanwhile.

    Yields:
        The pool, closed in the end whatever happens; None for one thread, where the caller's does.
    """
    with one_torch_thread() as num_threads:
        if num_threads == 1:
            yield None
        else:
            with BlockPool(num_threads) as pool:
                yield pool
