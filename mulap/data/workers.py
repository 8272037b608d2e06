"""`run_tasks`: a function over many tasks in several processes that end when their parent does.

Each process works on one thread. Processes whose parent was killed stop at the next step of Python
and leave no half-written files; so do all of them when one fails or the parent is interrupted.
Knows nothing of what the tasks are.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from types import FrameType
from typing import Any, TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")

_GRACE_SECONDS = 10.0  # for tidying up; a busy machine may take some of them
# From `_watch` or a terminal; and from the pool, to all that are left once one has ended.
_END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_is_at_work = threading.Event()  # of this process, which is one of the pool's


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], num_processes: int
) -> Iterator[Result]:
    """Call a function on each task; with one process, in this one.

    Args:
        function: of a module, so that it can be named to a process.
        tasks: what it takes; two a process are taken ahead.
        num_processes: how many.

    Yields:
        Results as they come, in any order.

    Raises:
        ValueError: a process died, as it does for want of memory.
        Exception: whatever the function raises.
    """
    if num_processes < 1:
        raise ValueError(f"{num_processes} processes (give 1 or more)")
    if num_processes == 1:
        yield from map(function, tasks)
        return
    # Forked, as the training's data loader is: a process starts at once and shares its memory.
    context = multiprocessing.get_context("fork")
    # What is read from it comes to an end when its one writer, this process, lets go or is killed.
    read_end, write_end = os.pipe()
    waiting = iter(tasks)
    with (
        _closing(read_end, write_end) as close,
        ProcessPoolExecutor(num_processes, context, _start, (read_end, write_end)) as pool,
    ):
        try:
            running = {
                pool.submit(_work, function, task) for task in islice(waiting, 2 * num_processes)
            }
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {
                    pool.submit(_work, function, task) for task in islice(waiting, len(done))
                }
                for future in done:
                    yield _result(future)
        except BaseException:
            close(write_end)
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _work(function: Callable[[Task], Result], task: Task) -> Result:
    _is_at_work.set()
    try:
        return function(task)
    except SystemExit:  # from `_leave`: all is tidied up, and the pool would begin the next task
        os._exit(1)
    finally:
        _is_at_work.clear()


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a process died while decoding, perhaps for want of memory; call again to go on, with "
            "fewer --processes"
        ) from error


@contextmanager
def _closing(*descriptors: int) -> Iterator[Callable[[int], None]]:
    """Close descriptors in the end; yield what closes one of them before."""
    are_open = set(descriptors)

    def close(descriptor: int) -> None:
        are_open.discard(descriptor)
        os.close(descriptor)

    try:
        yield close
    finally:
        for descriptor in list(are_open):
            close(descriptor)


def _start(read_end: int, write_end: int) -> None:
    os.close(write_end)
    torch.set_num_threads(1)
    for number in _END_SIGNALS:
        signal.signal(number, _leave)
    sys.unraisablehook = _end_in_destructor
    threading.Thread(target=_watch, args=(read_end,), daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    if not _is_at_work.is_set():
        os._exit(1)  # not by an exception: it could cut a task that is being handed over in two
    for each in _END_SIGNALS:  # a second one would disturb the tidying up
        signal.signal(each, _stay)  # not SIG_IGN: Python complains if one is on its way
    sys.exit(1)  # an exception, so that files which are being written are tidied up


def _main_thread() -> int:
    ident = threading.main_thread().ident
    assert ident is not None  # it runs
    return ident


def _stay(number: int, frame: FrameType | None) -> None:
    pass


def _end_in_destructor(unraisable: Any) -> None:
    """End where Python would swallow what `_leave` raises: while an object is taken apart."""
    if isinstance(unraisable.exc_value, SystemExit):
        os._exit(1)
    sys.__unraisablehook__(unraisable)


def _watch(read_end: int) -> None:
    os.read(read_end, 1)  # returns when nobody can write any more
    # To the main thread: one that another thread receives does not wake it where it waits.
    signal.pthread_kill(_main_thread(), signal.SIGINT)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)
