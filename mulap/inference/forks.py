"""Files embedded whole in forked processes, for machines of many cores.

A segment is some hundred operations of torch, and each takes Python's lock again once it is done:
threads of one process keep two cores busy, but not sixteen (docs/log.md). A forked process starts
at once, shares the weights, and gives back what `Encoder` gives here, on one thread each.

    parent   file 0, file 1, ... a few ahead --> processes: decode, log-mel, network
             rows, file by file, in order    <--

The rows of a file are in memory until its turn comes, 7 MB an hour of audio for musicnn. A file is
not parted: of few long files `mulap.inference.pipeline` makes more by threads.
"""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from mulap.audio import AudioError
from mulap.data.pools import end_with_parent
from mulap.inference.embedder import Level, Rows, check_finite
from mulap.inference.encoders import Encoder
from mulap.inference.threads import one_torch_thread

Result = TypeVar("Result")

#: From so many cores on processes are used; threads are quicker on fewer, and start sooner.
LEAST_CORES = 4
_AHEAD = 4  # files a process that may wait for their turn
_given: tuple[Encoder, Level] | None = None  # of this process, which is one of a pool


class _Embedded(NamedTuple):
    """What a process gives back of a file: its rows, and why there are no more, if so."""

    rows: list[tuple[np.ndarray, np.ndarray]]
    reason: str | None


def count_processes(num_files: int) -> int:
    """Return how many processes to embed files in; 1: threads of this one do better.

    Args:
        num_files: to be embedded.
    """
    num_cores = torch.get_num_threads()
    is_forked = sys.platform == "linux"  # elsewhere forks break libraries
    is_worth_it = is_forked and num_cores >= LEAST_CORES and num_files >= num_cores
    return num_cores if is_worth_it else 1


def map_in_processes(
    encoder: Encoder,
    paths: Sequence[Path],
    work: Callable[[int, Rows], Result],
    level: Level,
    count: Callable[[int], object],
    num_processes: int,
) -> Iterator[Result]:
    """Do as `mulap.inference.pipeline.map_files` does, with the same rows, in processes.

    `work` is called by whoever reads the results, for one file at a time.

    Raises:
        ValueError: a process died.
    """
    context = multiprocessing.get_context("fork")
    pending: deque[Future[_Embedded]] = deque()
    with (
        one_torch_thread(),
        ProcessPoolExecutor(num_processes, context, _start, (encoder, level)) as pool,
    ):
        try:
            index = 0
            for path in paths:
                pending.append(pool.submit(_embed, os.fspath(path)))
                if len(pending) > _AHEAD * num_processes:
                    yield work(index, _replay(paths[index], _wait(pending.popleft()), count))
                    index += 1
            while pending:
                yield work(index, _replay(paths[index], _wait(pending.popleft()), count))
                index += 1
        finally:
            pool.shutdown(cancel_futures=True)


def _replay(path: Path, embedded: _Embedded, count: Callable[[int], object]) -> Rows:
    for start_seconds, vectors in embedded.rows:
        count(len(vectors))
        yield start_seconds, vectors
    if embedded.reason is not None:
        raise AudioError(path, embedded.reason)


def _wait(future: Future[_Embedded]) -> _Embedded:
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise ValueError(
            "a process died while embedding, perhaps for want of memory; call again with "
            "--skip-existing to go on, and with OMP_NUM_THREADS set to fewer processes"
        ) from error


def _start(*given: Any) -> None:
    global _given  # noqa: PLW0603 (a process of the pool has no other place for it)
    _given = given[0], given[1]
    end_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # control-C is the parent's, which ends these
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)


def _embed(path: str) -> _Embedded:
    assert _given is not None  # `_start` has been here
    encoder, level = _given
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    try:
        rows += check_finite(path, encoder.stream_rows(encoder.stream_file(path), level))
    except AudioError as error:
        return _Embedded(rows, error.reason)
    return _Embedded(rows, None)
