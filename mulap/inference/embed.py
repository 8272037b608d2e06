"""Many files -> one table of embeddings: the last step of the ladder above an encoder.

    files -> rows, on all cores       `mulap.inference.pipeline`
    rows  -> a file's, whole          the store, from which a killed run can go on
    all   -> one table

A file that cannot be used is counted and listed with its reason; the others go on.
"""

import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from mulap.audio import AudioError, find_audio, no_audio
from mulap.files import FailureLog
from mulap.inference.embedder import Level, Rows, check_finite, check_level
from mulap.inference.encoders import Encoder
from mulap.inference.pipeline import map_files
from mulap.inference.printer import LinePrinter
from mulap.inference.shards import Shard, write_here
from mulap.inference.store import (
    EmbeddingStore,
    failures_path,
    file_name,
    file_version,
)
from mulap.inference.stream import read_ahead
from mulap.terminal import Progress

STDOUT = "-"


@dataclass(frozen=True)
class EmbedReport:
    """What a run over many files did.

    Attributes:
        num_files: that were found.
        num_embedded: that were embedded now.
        num_skipped: whose rows were there already.
        num_rows: of the whole output.
        failures: (file or folder, reason) of those that could not be used.
        failures_path: where they are listed; None if there are none, or for standard output.
        left_aside: ending -> files in folders that were not read, as it is not one of audio.
    """

    num_files: int
    num_embedded: int
    num_skipped: int
    num_rows: int
    failures: list[tuple[str, str]]
    failures_path: Path | None
    left_aside: dict[str, int] = field(default_factory=dict)


class Job(NamedTuple):
    """A file to embed.

    Attributes:
        path: where it is.
        file: its name in the table.
        version: see `file_version`.
    """

    path: Path
    file: str
    version: str


class Engine(Protocol):
    """Embeds elsewhere, each file by `embed_file_rows`; see `mulap.inference.cluster`."""

    def embed_jobs(
        self,
        jobs: Sequence[Job],
        embedder: Encoder,
        level: Level,
        store: EmbeddingStore | LinePrinter,
        failures: FailureLog,
        advance: Callable[[int, int], None],
    ) -> int:
        """Embed files into the store; return how many of them could be used.

        Args:
            jobs: the files.
            embedder: makes the vectors; or says what the ones that do must be like.
            level: of a row.
            store: where the rows go; it is told to forget the others.
            failures: is told of them too.
            advance: is told of more (files, segments) done.
        """
        ...

    def write_shards(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Write the shards of a folder; yield each once it is there."""
        ...


def embed_file_rows(
    encoder: Encoder, path: str | os.PathLike[str], level: Level, is_read_ahead: bool = False
) -> Rows:
    """Embed one file; what every engine gives is this.

    With our own networks and `mel`, on the CPU, it is so to the bit. Bits of others can depend on
    how many threads torch has, and it keeps them: one would take as many times as long.

    Args:
        encoder: makes the vectors.
        path: the file.
        level: of a row.
        is_read_ahead: decode in a thread of its own, for an encoder that leaves the CPU idle.

    Yields:
        Where some segments start, in seconds (M,), and their vectors, float32 (M, D).

    Raises:
        AudioError: the file cannot be decoded, or gives no finite vectors.
    """
    inputs = encoder.stream_file(path)
    rows = encoder.stream_rows(read_ahead(inputs) if is_read_ahead else inputs, level)
    return check_finite(path, rows)


def embed_files(
    paths: Sequence[str | os.PathLike[str]],
    embedder: Encoder,
    output: str | os.PathLike[str],
    level: Level = "segment",
    skip_existing: bool = False,
    force: bool = False,
    engine: Engine | None = None,
) -> EmbedReport:
    """Embed files, and the files in folders.

    Args:
        paths: files, and folders to search through all levels.
        embedder: makes the vectors.
        output: a .parquet, .npz or .jsonl file, there whole once all is done; a folder of Parquet
            shards, told by a slash at the end; or `-` for JSON lines on standard output. Failures
            are listed in `<output>.failures.jsonl`.
        level: a row a `segment` or a `track`.
        skip_existing: keep the rows of unchanged files that an earlier run left by the same model,
            also one that was killed, and of files that are not among `paths`.
        force: replace an earlier run's output. Without either option it is refused, since hours of
            work may be in it.
        engine: does the work elsewhere, by `embed_file_rows` too; here where not given.

    Returns:
        What was done.

    Raises:
        ValueError: a path is missing, no audio file is found, or the output is refused.
    """
    check_level(level)
    failures, left_aside = FailureLog(failures_path(output)), Counter[str]()
    found = find_audio(paths, failures.failures, left_aside)
    if not found:
        raise no_audio(paths, failures.failures, left_aside)
    metadata = embedder.describe(level)
    if is_stdout := os.fspath(output) == STDOUT:
        store = LinePrinter(sys.stdout, embedder.embedding_size, metadata)
    else:
        store = EmbeddingStore(output, embedder.embedding_size, metadata, skip_existing, force)
    with store:
        jobs = list_jobs(found, failures)
        todo = [job for job in jobs if not store.has(job.file, job.version)]
        num_done = len(found) - len(todo)
        with FileProgress("embedding", len(found), done=num_done) as progress:
            run = engine.embed_jobs if engine else _embed_jobs
            num_embedded = run(todo, embedder, level, store, failures, progress.add)
        num_rows = store.finish(engine.write_shards if engine else write_here)
    if not is_stdout:
        failures.write()
    return EmbedReport(
        num_files=len(found),
        num_embedded=num_embedded,
        num_skipped=len(jobs) - len(todo),
        num_rows=num_rows,
        failures=failures.failures,
        failures_path=failures.path if failures.failures and not is_stdout else None,
        left_aside=dict(left_aside.most_common()),
    )


def list_jobs(found: Sequence[Path], failures: FailureLog) -> list[Job]:
    """Return the files that are still there, with their versions as they are now.

    Args:
        found: the files.
        failures: is told of those that are gone.
    """
    jobs = []
    for path in found:
        try:
            jobs.append(Job(path, file_name(path), file_version(path)))
        except OSError as error:  # gone since it was found
            failures.add(file_name(path), f"cannot be read: {error.strerror} (check it by hand)")
    return jobs


def _embed_jobs(
    jobs: Sequence[Job],
    embedder: Encoder,
    level: Level,
    store: EmbeddingStore | LinePrinter,
    failures: FailureLog,
    advance: Callable[[int, int], None],
) -> int:
    """Embed files into the store; return how many of them could be used."""
    # A table is put into order at the end; what is printed must be in order as it comes.
    turns = _Turns() if isinstance(store, LinePrinter) else None

    def add(index: int, rows: Rows) -> str | None:
        """Add a file; return the reason where it could not be used."""
        try:
            store.add(*jobs[index][1:], turns.hold_back(index, rows) if turns else rows)
        except AudioError as error:
            return error.reason
        finally:
            if turns:
                turns.end(index)
            advance(1, 0)
        return None

    paths = [job.path for job in jobs]
    reasons = map_files(embedder, paths, add, level, lambda num_segments: advance(0, num_segments))
    num_failed = 0
    for job, reason in zip(jobs, reasons, strict=True):
        if reason is not None:
            failures.add(job.file, reason)
            store.forget(job.file)
            num_failed += 1
    return len(jobs) - num_failed


class _Turns:
    """Lets files that are embedded side by side come to their end one after the other."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._next_index = 0

    def hold_back(self, index: int, rows: Rows) -> Rows:
        """Pass rows on; after the last one wait until all files before have ended."""
        yield from rows
        self._wait(index)

    def end(self, index: int) -> None:
        """End a file, whatever became of it. Each file that was begun has to come here."""
        self._wait(index)
        with self._condition:
            self._next_index = index + 1
            self._condition.notify_all()

    def _wait(self, index: int) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._next_index == index)


class FileProgress(Progress):
    """Counts files, and shows how many segments they gave."""

    num_segments = 0

    def add(self, num_files: int, num_segments: int) -> None:
        """Count more files and segments as done."""
        with self.lock:
            self.num_segments += num_segments
            note = f"{self.num_segments:,} segments" if self.num_segments else ""
        self.advance(num_files, note)
