"""`run_tasks`: a function over many tasks in several processes that end when their parent does.

Each process works on one thread. Processes whose parent was killed stop at the next step of Python
and leave no half-written files; so do all of them when one fails or the parent is interrupted.
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

from mulap.cores import start_method

Task = TypeVar("Task")
Result = TypeVar("Result")

_GRACE_SECONDS = 10.0  # for tidying up; a busy machine may take some of them
# From `_watch` or a terminal; and from the pool, to all that are left once one has ended.
_END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_is_at_work = threading.Event()  # of this process, which is one of the pool's
_function: Callable[[Any], Any] | None = None  # likewise


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], num_processes: int
) -> Iterator[Result]:
    """Call a function on each task; with one process, in this one.

    Args:
        function: handed to each process once; it must be picklable where processes are spawned.
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
    context = multiprocessing.get_context(start_method())
    # What is read from it comes to an end when its one writer, this process, lets go or is killed.
    watched, held = context.Pipe(duplex=False)
    waiting = iter(tasks)
    given: Any = (function, watched, held)  # ends of a pipe, whose types differ by system
    with watched, held, ProcessPoolExecutor(num_processes, context, _start, given) as pool:
        try:
            running = {pool.submit(_work, task) for task in islice(waiting, 2 * num_processes)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {pool.submit(_work, task) for task in islice(waiting, len(done))}
                for future in done:
                    yield _result(future)
        except BaseException:
            held.close()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _work(task: Any) -> Any:
    assert _function is not None  # `_start` has been here
    _is_at_work.set()
    try:
        return _function(task)
    except SystemExit:  # from `_leave`: all is tidied up, and the pool would begin the next task
        os._exit(1)
    finally:
        _is_at_work.clear()


def _result(future: "Future[Result]") -> Result:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a process died while decoding, perhaps because memory ran out. Run the same command "
            "again, with fewer processes"
        ) from error


def _start(function: Callable[[Any], Any], watched: Any, held: Any) -> None:
    global _function  # noqa: PLW0603 (a process of the pool has no other place for it)
    _function = function
    held.close()
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is not there yet
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    for number in _END_SIGNALS:
        signal.signal(number, _leave)
    sys.unraisablehook = _end_in_destructor
    threading.Thread(target=_watch, args=(watched,), daemon=True).start()


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


def _watch(watched: Any) -> None:
    watched.poll(None)  # returns when nobody can write any more
    # To the main thread: one that another thread receives does not wake it where it waits.
    signal.pthread_kill(_main_thread(), signal.SIGINT)
    time.sleep(_GRACE_SECONDS)
    os._exit(1)
