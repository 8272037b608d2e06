"""Many files through one encoder, on all cores: what the commands over many files share.

Our own network: as many threads as torch has read files, as many embed blocks of them, each with
torch on one thread, so that no core waits where there is work for it:

    readers   file 7: decode, resample, log-mel --+--> blocks, few at a time --> in any thread
              file 8: decode, resample, log-mel --+        |
              file 7's rows, in order <---- vectors <------+

A long file has its blocks embedded on all cores, short ones go side by side; no more blocks are
held than there are threads to work on them soon. Bits depend on no number of threads. A GPU is fed
by two threads, one of which waits for its vectors while the other hands it the next block. Where
there are many cores and files, whole files go to processes instead (`mulap.inference.forks`).

Other encoders: a thread decodes a few blocks ahead, the caller's embeds, file after file.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import numpy as np

from mulap.audio import AudioError
from mulap.inference.embedder import Embedder, Level, Rows, check_finite
from mulap.inference.encoders import Encoder
from mulap.inference.forks import count_processes, map_in_processes
from mulap.inference.stream import read_ahead
from mulap.inference.threads import BlockPool, one_torch_thread

Result = TypeVar("Result")

_THREADS_OF_A_GPU = 2


class _Stopped(Exception):
    """Another file's work failed, or nobody wants the results any more."""


def map_files(
    encoder: Encoder,
    paths: Sequence[Path],
    work: Callable[[int, Rows], Result],
    level: Level = "segment",
    count: Callable[[int], object] = int,
) -> Iterator[Result]:
    """Embed files and do something with the rows of each.

    Args:
        encoder: makes the vectors.
        paths: the files, none twice in a row.
        work: is given a file's index and its rows, which raise AudioError where the file cannot be
            used; several threads may be in it at once. What it raises ends everything.
        level: of a row.
        count: is told of more segments that are read, by any thread.

    Yields:
        What `work` returned, in the order of files. Once this ends, or is closed, no thread is
        left. However it ends, the files whose work was begun are the first ones, without a gap.
    """
    if isinstance(encoder, Embedder):
        is_on_cpu = encoder.backbone.device.type == "cpu"
        num_processes = count_processes(len(paths)) if is_on_cpu else 1
        if num_processes > 1:
            return map_in_processes(encoder, paths, work, level, count, num_processes)
        return _map_side_by_side(encoder, paths, work, level, count)
    return _map_one_by_one(encoder, paths, work, level, count)


def _map_one_by_one(
    encoder: Encoder,
    paths: Sequence[Path],
    work: Callable[[int, Rows], Result],
    level: Level,
    count: Callable[[int], object],
) -> Iterator[Result]:
    for index, (path, inputs) in enumerate(_read_files(paths, encoder)):
        rows = encoder.stream_rows(_count(inputs, count), level)
        yield work(index, check_finite(path, rows))


def _map_side_by_side(
    embedder: Embedder,
    paths: Sequence[Path],
    work: Callable[[int, Rows], Result],
    level: Level,
    count: Callable[[int], object],
) -> Iterator[Result]:
    is_stopped = threading.Event()
    failed: list[BaseException] = []
    pending: deque[Future[Result]] = deque()

    def embed_file(index: int, pool: BlockPool) -> Result:
        log_mels = _until(is_stopped, embedder.stream_file(paths[index]))
        rows = embedder.stream_rows(_count(log_mels, count), level, pool)
        try:
            return work(index, check_finite(paths[index], rows))
        except BaseException as error:
            if not isinstance(error, _Stopped):
                failed.append(error)
            is_stopped.set()  # the other files' work is for nothing
            raise

    is_on_cpu = embedder.backbone.device.type == "cpu"
    with one_torch_thread() as num_threads:
        pool = BlockPool(num_threads if is_on_cpu else _THREADS_OF_A_GPU)
        with pool, ThreadPoolExecutor(num_threads, thread_name_prefix="files") as readers:
            try:
                for index in range(len(paths)):
                    pending.append(readers.submit(embed_file, index, pool))
                    if len(pending) > 2 * num_threads:
                        yield pending.popleft().result()
                while pending:
                    yield pending.popleft().result()
            except _Stopped:
                raise failed[0] from None
            finally:
                is_stopped.set()
                # The last one first: else a free thread could begin a file behind a cancelled one,
                # for whose turn it might wait (see `mulap.inference.embed`).
                for future in reversed(pending):
                    future.cancel()


def _until(is_stopped: threading.Event, inputs: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for some in inputs:
        if is_stopped.is_set():
            raise _Stopped
        yield some


def _count(inputs: Iterable[np.ndarray], count: Callable[[int], object]) -> Iterator[np.ndarray]:
    for some in inputs:
        count(len(some))
        yield some


def _read_files(
    paths: Iterable[Path], encoder: Encoder
) -> Iterator[tuple[Path, Iterator[np.ndarray]]]:
    """Decode files in a thread, a few blocks ahead of who embeds them.

    Yields:
        Each path, and the encoder's inputs out of that file, to be used up before the next one.
        They raise the file's AudioError where it has one.
    """
    for path, items in groupby(read_ahead(_decode(paths, encoder)), key=lambda item: item[0]):
        yield path, (_input_of(item) for _, item in items)


def _decode(
    paths: Iterable[Path], encoder: Encoder
) -> Iterator[tuple[Path, np.ndarray | AudioError]]:
    """Yield every file's inputs, and its error where there is one: at least one item a file."""
    for path in paths:
        try:
            for inputs in encoder.stream_file(path):
                yield path, inputs
        except AudioError as error:
            yield path, error


def _input_of(item: np.ndarray | AudioError) -> np.ndarray:
    if isinstance(item, AudioError):
        raise item
    return item
