"""Many files -> one table of embeddings: the last step of the ladder above an encoder.

    decode file 2, block 0  |  in a thread, a few blocks ahead and no more
    embed  file 1, block 7  |  here; blocks never hold segments of two files
    write  file 0, whole    |  into the store, from which a killed run can go on

A file that cannot be used is counted and listed with its reason; the others go on.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mulap.audio import AudioError, find_audio
from mulap.files import FailureLog
from mulap.inference.embedder import Level, check_finite, check_level
from mulap.inference.encoders import Encoder
from mulap.inference.store import (
    EmbeddingStore,
    LinePrinter,
    failures_path,
    file_name,
    file_version,
)
from mulap.inference.stream import read_ahead

STDOUT = "-"


@dataclass(frozen=True)
class EmbedReport:
    """What a run over many files did.

    Attributes:
        num_files: that were found.
        num_embedded: that were embedded now.
        num_skipped: whose rows were there already.
        num_rows: of the whole output.
        failures: (file, reason) of those that could not be used.
        failures_path: where they are listed; None if there are none, or for standard output.
    """

    num_files: int
    num_embedded: int
    num_skipped: int
    num_rows: int
    failures: list[tuple[str, str]]
    failures_path: Path | None


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


def embed_files(
    paths: Sequence[str | os.PathLike[str]],
    embedder: Encoder,
    output: str | os.PathLike[str],
    level: Level = "segment",
    skip_existing: bool = False,
    force: bool = False,
    console: Console | None = None,
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
            also one that was killed.
        force: replace an earlier run's output. Without either option it is refused, since hours of
            work may be in it.
        console: shows a progress bar, if it is a terminal; standard error where not given.

    Returns:
        What was done.

    Raises:
        ValueError: a path is missing, no audio file is found, or the output is refused.
    """
    check_level(level)
    found = find_audio(paths)
    if not found:
        raise ValueError(
            f"{', '.join(map(str, paths))}: no audio file is there (name another folder)"
        )
    failures = FailureLog(failures_path(output))
    metadata, is_stdout = embedder.describe(level), os.fspath(output) == STDOUT
    if is_stdout:
        store = LinePrinter(sys.stdout, embedder.embedding_size, metadata)
    else:
        size = embedder.embedding_size
        store = EmbeddingStore(output, size, metadata, skip_existing, force)
    with store:
        jobs = list_jobs(found, failures)
        todo = [job for job in jobs if not store.has(job.file, job.version)]
        with progress_bar(console, len(found), len(found) - len(todo)) as advance:
            num_embedded = _embed_jobs(todo, embedder, level, store, failures, advance)
        num_rows = store.finish()
    if not is_stdout:
        failures.write()
    return EmbedReport(
        num_files=len(found),
        num_embedded=num_embedded,
        num_skipped=len(jobs) - len(todo),
        num_rows=num_rows,
        failures=failures.failures,
        failures_path=failures.path if failures.failures and not is_stdout else None,
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
    num_embedded = 0
    for job, (_, inputs) in zip(
        jobs, read_files([job.path for job in jobs], embedder), strict=True
    ):
        try:
            rows = embedder.stream_rows(_count(inputs, advance), level)
            store.add(job.file, job.version, check_finite(job.path, rows))
            num_embedded += 1
        except AudioError as error:
            failures.add(job.file, error.reason)
        advance(1, 0)
    return num_embedded


def read_files(
    paths: Iterable[Path], encoder: Encoder
) -> Iterator[tuple[Path, Iterator[np.ndarray]]]:
    """Decode files in a thread, a few blocks ahead of who embeds them.

    Args:
        paths: no file twice in a row.
        encoder: says what it wants to be given.

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


def _count(
    inputs: Iterable[np.ndarray], advance: Callable[[int, int], None]
) -> Iterator[np.ndarray]:
    for some in inputs:
        advance(0, len(some))
        yield some


@contextmanager
def progress_bar(
    console: Console | None, num_files: int, num_done: int = 0, doing: str = "embedding"
) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal, nothing elsewhere.

    Args:
        console: standard error where not given.
        num_files: in all.
        num_done: by an earlier run.
        doing: what is done to them.

    Yields:
        What is told of more (files, segments) done.
    """
    console = console or Console(stderr=True)
    columns = [
        TextColumn(doing),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("files{task.fields[segments]}"),
        TimeRemainingColumn(),
    ]
    # Standard output may be the table itself: rich must not wrap it.
    with Progress(
        *columns, console=console, disable=not console.is_terminal, redirect_stdout=False
    ) as progress:
        task = progress.add_task("", total=num_files, completed=num_done, segments="")
        num_segments = 0

        def advance(num_files: int, more_segments: int) -> None:
            nonlocal num_segments
            num_segments += more_segments
            segments = f", {num_segments} segments" if num_segments else ""
            progress.update(task, advance=num_files, segments=segments)

        yield advance
