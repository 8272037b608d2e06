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
from itertools import islice
from types import FrameType
from typing import Any, TypeVar

import torch

Task = TypeVar("Task")
Result = TypeVar("Result")

_LOOK_SECONDS = 0.2  # between two looks whether to go on
_GRACE_SECONDS = 2.0  # for tidying up


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
    stop = context.Event()
    waiting = iter(tasks)
    with ProcessPoolExecutor(num_processes, context, _start, (stop, os.getpid())) as pool:
        try:
            running = {pool.submit(function, task) for task in islice(waiting, 2 * num_processes)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(function, task) for task in islice(waiting, len(done))}
                for future in done:
                    yield _result(future)
        except BaseException:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a process died while decoding, perhaps for want of memory; call again to go on, with "
            "fewer --processes"
        ) from error


def _start(stop: Any, parent: int) -> None:
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, _leave)
    threading.Thread(target=_watch, args=(stop, parent), daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(1)  # an exception, so that files which are being written are tidied up


def _watch(stop: Any, parent: int) -> None:
    while os.getppid() == parent:
        if stop.wait(_LOOK_SECONDS):
            break
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)
