"""Many files through one encoder, on all cores: what the commands over many files share.

Our own network on the CPU: each core takes whole files, whose vectors come back in order. One or
two files that would leave cores idle at the end are read here, and threads embed their blocks:

    core 0    file 0: key, decode, log-mel, network --+
    core 1    file 1: key, decode, log-mel, network --+--> vectors, file by file, in order
    threads   the last file's blocks -----------------+

A core is a thread's on few cores and a process's on many. A segment is some hundred operations of
torch, each of which takes Python's lock again once it is done: threads keep two cores busy, but not
sixteen (docs/log.md). The vectors of a few files wait in memory for their turn, 7 MB per hour of
audio for musicnn. Their bits depend neither on the number of processes nor on that of threads.

Our own network on a GPU: other cores decode, and this thread embeds. Encoders of others: a thread
decodes a few blocks ahead, and the caller's embeds.

A file's audio is hashed before it is decoded, so that no audio is embedded twice.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mulap.audio import AudioError
from mulap.cores import start_method
from mulap.encoders.encoder import Encoder, Level, Rows, check_finite
from mulap.encoders.own import OwnEncoder
from mulap.pools import Processes, map_in_order, read_ahead
from mulap.vectors.keys import audio_key, file_version

_LEAST_CORES = 4  # on fewer, threads are as quick
_LEAST_FILES_TO_SPAWN = 32  # a process that is not forked takes seconds to start
_THREADS_OF_A_GPU = 2  # one waits for its vectors while the other hands over the next block


class _Stopping(threading.local):
    """In each thread, what tells it that nobody reads its results any more."""

    event = threading.Event()  # never set, where a thread has none of its own


_stopping = _Stopping()


class FileToEmbed(NamedTuple):
    """A file, and what is known of it.

    Attributes:
        path: where it is.
        key: of its audio, if an earlier run computed it; else None.
        version: of the file that has this key, from `file_version`.
    """

    path: Path
    key: str | None = None
    version: str = ""


class Embedded(NamedTuple):
    """What became of a file.

    Attributes:
        version: of the file, from `file_version`; empty if it could not be read.
        key: of its audio; empty if it could not be read.
        reason: why the file cannot be used; empty if its vectors are there.
    """

    version: str
    key: str
    reason: str


class LookedAt(NamedTuple):
    """A file whose audio has been hashed, and whether its vectors are wanted."""

    path: Path
    version: str
    key: str
    reason: str
    is_wanted: bool = False


Blocks = Iterable[np.ndarray]


def embed_missing(
    encoder: Encoder,
    files: Sequence[FileToEmbed],
    has_key: Callable[[str], bool] | None,
    add: Callable[[int, Embedded, Blocks], object],
    level: Level = "segment",
    count: Callable[[int], object] = int,
) -> Generator[Embedded, None, None]:
    """Embed the files whose audio has no vectors yet, each audio once.

    A copy of audio that failed is tried by itself: its twin may only have changed or gone.

    Args:
        encoder: makes the vectors.
        files: to embed.
        has_key: whether the vectors of a key are there. None: each file is embedded, copies too.
        add: takes a file's index, its version and key, and its vectors, each float32 (M, D); these
            raise AudioError if the file cannot be used. What else it raises ends everything.
        level: of a row.
        count: is called with more segments that are done.

    Yields:
        What became of each file, in order. Once this ends, or is closed, no process is left.
    """
    seen: set[str] = set()
    failed: set[str] = set()  # keys

    def choose(looked: LookedAt) -> LookedAt:
        is_there = has_key and (looked.key in seen or has_key(looked.key))
        is_wanted = bool(looked.key) and not is_there
        seen.add(looked.key)
        return looked._replace(is_wanted=is_wanted)

    run: Callable[..., _Mapped] = _map_in_parent
    if isinstance(encoder, OwnEncoder):
        run = _map_whole_files if encoder.shares_cores else _map_to_gpu
    for index, (looked, blocks) in enumerate(run(encoder, files, choose, level, count)):
        embedded = Embedded(looked.version, looked.key, looked.reason)
        if is_again := not looked.is_wanted and looked.key in failed:
            blocks = vectors_of_file(encoder, looked.path, level, count=count)
        if looked.is_wanted or is_again:
            try:
                add(index, embedded, check_unchanged(looked, blocks))
                failed.discard(looked.key)
            except AudioError as error:
                failed.add(looked.key)
                embedded = embedded._replace(reason=error.reason)
        yield embedded


def vectors_of_file(
    encoder: Encoder,
    path: Path,
    level: Level,
    is_read_ahead: bool = False,
    count: Callable[[int], object] = int,
) -> Iterator[np.ndarray]:
    """Embed one file, in constant memory.

    Args:
        encoder: makes the vectors.
        path: the file.
        level: of a row.
        is_read_ahead: decode in a thread of its own, for an encoder that leaves the CPU idle.
        count: is called with more segments that are read.

    Yields:
        Its vectors, each float32 (M, D).

    Raises:
        AudioError: the file cannot be decoded, or gives no finite vectors.
    """
    inputs = _count(encoder.stream_file(path), count)
    rows = encoder.stream_rows(read_ahead(inputs) if is_read_ahead else inputs, level)
    return _vectors(check_finite(path, rows))


# What `embed_missing` asks of each way to embed: the files in order, and the blocks of those that
# are wanted. `choose` is called once for each file, in order, ahead of the blocks.
_Mapped = Iterator[tuple[LookedAt, Blocks]]
_Choose = Callable[[LookedAt], LookedAt]


def _map_whole_files(
    embedder: OwnEncoder,
    files: Sequence[FileToEmbed],
    choose: _Choose,
    level: Level,
    count: Callable[[int], object],
) -> _Mapped:
    """Embed whole files side by side, and the last one or two on all cores together."""
    with embedder.cores() as num_threads:
        num_whole = _count_whole(len(files), num_threads)
        with _side_by_side(
            num_threads, num_whole, embedder, level, is_threaded=embedder.is_threaded
        ) as run:
            looked = map(choose, run(_look, files[:num_whole]))
            for file, blocks, reason, num_segments in run(_embed, looked):
                count(num_segments)
                yield file, _replay(file, blocks, reason)
    with embedder.block_mapper() as map_blocks:
        for file in map(choose, map(look, files[num_whole:])):
            if not file.is_wanted:
                yield file, ()
                continue
            log_mels = _count(embedder.stream_file(file.path), count)
            rows = embedder.stream_rows(log_mels, level, map_blocks)
            yield file, _vectors(check_finite(file.path, rows))


@contextmanager
def _side_by_side(
    num_cores: int, num_files: int, *given: Any, is_threaded: bool = False
) -> Iterator[Callable[..., Any]]:
    """Open processes, or threads on few cores; yield what maps a function over tasks in them.

    The function takes what is given and a task. Its results come in order, a few files ahead.
    """
    # Another thread may hold a lock of MKL's allocator, which nobody in a fork would release.
    method = start_method() if threading.active_count() == 1 else "spawn"
    is_slow_start = method != "fork" and num_files < _LEAST_FILES_TO_SPAWN
    if num_cores >= _LEAST_CORES and num_files and not (is_slow_start or is_threaded):
        with Processes(num_cores, *given, method=method) as pool:
            yield pool.map
        return
    is_stopped = threading.Event()

    def call(function: Callable[..., Any], task: Any) -> Any:
        _stopping.event = is_stopped
        return function(*given, task)

    def run(function: Callable[..., Any], tasks: Iterable[Any]) -> Iterator[Any]:
        return map_in_order(executor, partial(call, function), tasks, 2 * num_cores)

    with ThreadPoolExecutor(num_cores, thread_name_prefix="files") as executor:
        try:
            yield run
        finally:
            is_stopped.set()


def _count_whole(num_files: int, num_cores: int) -> int:
    """Return how many of some files to give to processes, whole.

    Each core takes one file after the other. If one or two are left over at the end, all cores
    together finish them sooner; from three on, decoding them one after the other would take longer.
    """
    num_left = num_files % num_cores
    num_whole = num_files - num_left if num_left <= 2 else num_files
    return 0 if num_cores == 1 else num_whole


def _map_to_gpu(
    embedder: OwnEncoder,
    files: Sequence[FileToEmbed],
    choose: _Choose,
    level: Level,
    count: Callable[[int], object],
) -> _Mapped:
    """Decode side by side, away from the GPU, and embed here."""
    with embedder.cores() as num_threads, embedder.block_mapper(_THREADS_OF_A_GPU) as map_blocks:
        with _side_by_side(num_threads, len(files), embedder.feature_extractor, None) as run:
            looked = map(choose, run(_look, files))
            for file, log_mels, reason in run(_decode, looked):
                inputs = _count(_replay(file, log_mels, reason), count)
                rows = embedder.stream_rows(inputs, level, map_blocks)
                yield file, _vectors(check_finite(file.path, rows))


def _map_in_parent(
    encoder: Encoder,
    files: Sequence[FileToEmbed],
    choose: _Choose,
    level: Level,
    count: Callable[[int], object],
) -> _Mapped:
    """Decode in a thread, a few blocks ahead of who embeds them."""

    def decode() -> Iterator[LookedAt | np.ndarray | AudioError | None]:
        for file in map(choose, map(look, files)):
            yield file
            if file.is_wanted:
                try:
                    yield from encoder.stream_file(file.path)
                    yield None
                except AudioError as error:
                    yield error

    items: Any = read_ahead(decode())  # any of the four, as they come
    for file in items:
        inputs = _inputs(items) if file.is_wanted else iter(())
        rows = encoder.stream_rows(_count(inputs, count), level)
        yield file, _vectors(check_finite(file.path, rows))
        with suppress(AudioError):  # where reading stopped early, at a vector that is not finite
            deque(inputs, maxlen=0)


def _inputs(items: Iterator[np.ndarray | AudioError | None]) -> Iterator[np.ndarray]:
    """Yield one file's inputs, up to its end."""
    for item in items:
        if item is None:
            return
        if isinstance(item, AudioError):
            raise item
        yield item


def look(file: FileToEmbed) -> LookedAt:
    """Hash a file's audio, unless the key of this version of the file is known."""
    try:
        version = file_version(file.path)
        key = file.key if file.version == version else None
        return LookedAt(file.path, version, key or audio_key(file.path), "")
    except AudioError as error:
        return LookedAt(file.path, "", "", error.reason)
    except OSError as error:
        reason = f"cannot be read: {error.strerror or error}. Check that the path exists."
        return LookedAt(file.path, "", "", reason)


def _look(encoder: object, level: object, file: FileToEmbed) -> LookedAt:
    """Hash a file's audio. Runs beside others."""
    return look(file)


def _embed(
    encoder: Encoder, level: Level, file: LookedAt
) -> tuple[LookedAt, list[np.ndarray], str, int]:
    """Embed a file, if that is wanted; count its segments. Runs beside others."""
    if not file.is_wanted:
        return file, [], "", 0
    counted: list[int] = []
    vectors = vectors_of_file(encoder, file.path, level, count=counted.append)
    return *_gather(file, vectors), sum(counted)


def _decode(
    extractor: Any, level: object, file: LookedAt
) -> tuple[LookedAt, list[np.ndarray], str]:
    """Decode a file for a GPU, if that is wanted. Runs beside others."""
    from mulap.encoders.stream import stream_file  # noqa: PLC0415  (PyTorch's)

    return _gather(file, stream_file(extractor, file.path) if file.is_wanted else ())


def _gather(file: LookedAt, blocks: Blocks) -> tuple[LookedAt, list[np.ndarray], str]:
    gathered: list[np.ndarray] = []
    try:
        for some in blocks:
            if _stopping.event.is_set():  # nobody reads the results any more
                break
            gathered.append(some)
    except AudioError as error:
        return file, gathered, error.reason
    return file, gathered, ""


def _replay(file: LookedAt, blocks: Blocks, reason: str) -> Iterator[np.ndarray]:
    yield from blocks
    if reason:
        raise AudioError(file.path, reason)


def check_unchanged(file: LookedAt, blocks: Blocks) -> Iterator[np.ndarray]:
    """Pass a file's vectors on; their key is of another audio if it was written meanwhile."""
    yield from blocks
    try:
        is_unchanged = file_version(file.path) == file.version
    except OSError:  # it is gone
        is_unchanged = False
    if not is_unchanged:
        raise AudioError(file.path, "changed while it was read. Run the same command again.")


def _vectors(rows: Rows) -> Iterator[np.ndarray]:
    return (vectors for _, vectors in rows)


def _count(inputs: Iterable[np.ndarray], count: Callable[[int], object]) -> Iterator[np.ndarray]:
    for some in inputs:
        count(len(some))
        yield some
