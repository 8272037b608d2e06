"""Work shared by processes or threads, in order, a bounded number of tasks ahead.

Each process works on one thread. Processes whose parent was killed stop at the next step of Python
and leave no half-written files; so do all of them when one fails or the parent is interrupted.

Scope: any function of a module, and any picklable tasks.
"""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from types import FrameType
from typing import Any, TypeVar

from mulap.cores import start_method

Task = TypeVar("Task")
Result = TypeVar("Result")
# Does as `map` does: a function and what it is called on -> the results, in order.
BlockMapper = Callable[..., Iterator[Any]]

_GRACE_SECONDS = 10.0  # for tidying up; a busy machine may take some of them
# From `_watch` or a terminal; and from the pool, to all that are left once one has ended.
_END_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_is_at_work = threading.Event()  # of this process, which is one of a pool
_given: tuple[Any, ...] = ()  # the same


def map_in_order(
    executor: Executor, function: Callable[[Task], Result], tasks: Iterable[Task], num_ahead: int
) -> Iterator[Result]:
    """Call a function on tasks, a few of them at once.

    Args:
        executor: of threads or processes.
        function: what to call.
        tasks: drawn by whoever reads the results. A ValueError of theirs is raised after the
            results of the tasks before it, as if all had been done one by one.
        num_ahead: most results that wait to be read.

    Yields:
        The results, in the order of the tasks.
    """
    pending: deque[Future[Result]] = deque()
    error: ValueError | None = None
    iterator = iter(tasks)
    try:
        while True:
            try:
                task = next(iterator)
            except StopIteration:
                break
            except ValueError as caught:
                error = caught
                break
            pending.append(executor.submit(function, task))
            if len(pending) > num_ahead:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
        if error:
            raise error
    finally:
        for future in pending:
            future.cancel()


@contextmanager
def thread_mapper(num_threads: int) -> Iterator[BlockMapper]:
    """Open threads; yield what maps a function over blocks, a few of them at once.

    It is plain `map` for one thread.
    """
    if num_threads == 1:
        yield map
        return
    with ThreadPoolExecutor(num_threads, thread_name_prefix="blocks") as executor:
        yield partial(map_in_order, executor, num_ahead=num_threads)


def read_ahead(items: Iterable[Task], num_ahead: int = 4) -> Iterator[Task]:
    """Run an iterator in a thread of its own, a few items ahead of who reads them.

    What it raises is raised here.
    """
    iterator, end = iter(items), object()
    with ThreadPoolExecutor(1, thread_name_prefix="read_ahead") as thread:
        for item in map_in_order(thread, lambda _: next(iterator, end), repeat(None), num_ahead):
            if item is end:
                return
            yield item  # pyright: ignore[reportReturnType] (`end` was handled above)


class Processes:
    """A pool of processes that end when this one does. Use it in a `with` block.

    Args:
        num_processes: how many; with one, all is done in this process.
        given: what each process gets once, and `map` hands to the function before each task.
        method: how they start, as `multiprocessing` names it; as is usual here where not given.

    Raises:
        ValueError: fewer than one process.
    """

    def __init__(self, num_processes: int, *given: Any, method: str | None = None) -> None:
        if num_processes < 1:
            raise ValueError(f"{num_processes} processes: must be 1 or more.")
        self.num_processes, self._given = num_processes, given
        self._executor: ProcessPoolExecutor | None = None
        if num_processes > 1:
            context = multiprocessing.get_context(method or start_method())
            # What is read from it ends when its one writer, this process, closes it or is killed.
            reader, self._writer = context.Pipe(duplex=False)
            # A spawned process gets a copy of all this; a forked one shares its memory.
            initial: Any = reader, self._writer, given
            self._executor = ProcessPoolExecutor(num_processes, context, _start, initial)

    def map(
        self, function: Callable[..., Result], tasks: Iterable[Any], num_ahead: int | None = None
    ) -> Iterator[Result]:
        """Call `function(*given, task)` on each task.

        Args:
            function: of a module, so that it can be named to a process.
            tasks: what it takes. They may be the results of another `map` of this pool.
            num_ahead: most results that wait to be read; two for each process where not given.

        Yields:
            The results, in the order of the tasks.

        Raises:
            ValueError: a process died, as it does for lack of memory.
            Exception: any that the function raises.
        """
        if self._executor is None:
            yield from (function(*self._given, task) for task in tasks)
            return
        ahead = 2 * self.num_processes if num_ahead is None else num_ahead
        try:
            yield from map_in_order(self._executor, partial(_work, function), tasks, ahead)
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker process died, perhaps for lack of memory. Run the same command again to "
                "resume; with fewer processes (OMP_NUM_THREADS or --processes) it needs less."
            ) from error

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Wait for the processes to end; after an error, or with work left, they end at once."""
        if self._executor is not None:
            if kind is not None:
                self._writer.close()
            self._executor.shutdown(cancel_futures=True)
            self._writer.close()


def run_tasks(
    function: Callable[[Task], Result], tasks: Iterable[Task], num_processes: int
) -> Iterator[Result]:
    """Call a function on each task in `num_processes` processes; see `Processes.map`."""
    with Processes(num_processes, function) as pool:  # which get it once
        yield from pool.map(_call, tasks)


def _call(function: Callable[[Task], Result], task: Task) -> Result:
    return function(task)


def _work(function: Callable[..., Result], task: Any) -> Result:
    _is_at_work.set()
    try:
        return function(*_given, task)
    except SystemExit:  # from `_leave`: all is tidied up, and the pool would begin the next task
        os._exit(1)
    finally:
        _is_at_work.clear()


def _start(reader: Any, writer: Any, given: tuple[Any, ...]) -> None:
    global _given  # noqa: PLW0603 (a process of the pool has no other place for it)
    writer.close()
    _given = given
    os.environ["OMP_NUM_THREADS"] = "1"  # for a torch that is not there yet
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    for number in _END_SIGNALS:
        signal.signal(number, _leave)
    sys.unraisablehook = _end_in_destructor
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()


def _leave(number: int, frame: FrameType | None) -> None:
    if not _is_at_work.is_set():
        os._exit(1)  # not by an exception: it could cut a task that is being handed over in two
    for each in _END_SIGNALS:  # a second one would disturb the tidying up
        signal.signal(each, _stay)  # not SIG_IGN: Python complains if one is on its way
    sys.exit(1)  # an exception, so that files which are being written are tidied up


def _stay(number: int, frame: FrameType | None) -> None:
    pass


def _end_in_destructor(unraisable: Any) -> None:
    """End where Python would swallow what `_leave` raises: while an object is taken apart."""
    if isinstance(unraisable.exc_value, SystemExit):
        os._exit(1)
    sys.__unraisablehook__(unraisable)


def _watch(reader: Any) -> None:
    reader.poll(None)  # returns once no process can write any more
    if hasattr(signal, "pthread_kill"):
        # To the main thread: one that another thread receives does not wake it where it waits.
        signal.pthread_kill(_main_thread(), signal.SIGINT)
        time.sleep(_GRACE_SECONDS)
    os._exit(1)


def _main_thread() -> int:
    ident = threading.main_thread().ident
    assert ident is not None  # it runs
    return ident
