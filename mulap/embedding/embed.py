"""Many files -> one table of embeddings: the last step of the ladder above an encoder.

    files   -> vectors, on all cores      `mulap.embedding.pipeline`
    vectors -> a file's, whole            `mulap.vectors`, from which a killed run resumes
    all     -> one table

A file that cannot be used is counted and listed with its reason; the others go on.
"""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from mulap.audio import find_audio, no_audio
from mulap.embedding.pipeline import Embedded, FileToEmbed, embed_missing
from mulap.encoders.encoder import Encoder, Level, check_level
from mulap.encoders.load import making_of
from mulap.files import FailureLog
from mulap.terminal import Progress, counted
from mulap.vectors.keys import file_name, file_version
from mulap.vectors.output import EmbeddingOutput, LinePrinter, failures_path
from mulap.vectors.table import Shard, write_here

STDOUT = "-"


@dataclass(frozen=True)
class EmbedReport:
    """What a run over many files did.

    Attributes:
        num_files: that were found.
        num_embedded: that were embedded now.
        num_skipped: that were not, since their rows, or those of equal audio, were there already.
        num_copies: how many of these were new: copies of others, or moved.
        num_rows: of the whole output.
        failures: (file or folder, reason) of those that could not be used.
        failures_path: where they are listed; None if there are none, or for standard output.
        left_aside: ending -> files in folders that were not read, as it is not one of audio.
    """

    num_files: int
    num_embedded: int
    num_skipped: int
    num_copies: int
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


class SegmentProgress:
    """Counts files, and segments beside them.

    Args:
        shown: counts the files.
    """

    def __init__(self, shown: Progress) -> None:
        self._shown, self._num_segments = shown, 0

    def count(self, num_segments: int) -> None:
        """Count more segments as done."""
        self._num_segments += num_segments
        self._shown.advance(0, counted(self._num_segments, "segment"))

    def end_file(self) -> None:
        """Count a file as done."""
        self._shown.advance()


class Engine(Protocol):
    """Embeds elsewhere; see `mulap.embedding.cluster`."""

    def embed_jobs(
        self,
        jobs: Sequence[Job],
        encoder: Encoder,
        level: Level,
        output: EmbeddingOutput | LinePrinter,
        fail: Callable[[Job, str], None],
        progress: SegmentProgress,
    ) -> int:
        """Embed files into the output; return how many of them were embedded.

        The audio of the others was there already, or they cannot be used.

        Args:
            jobs: the files.
            encoder: makes the vectors; or says what the ones that do must be like.
            level: of a row.
            output: takes the vectors.
            fail: is called with a file that cannot be used, and why.
            progress: counts files and segments.
        """
        ...

    def write_shards(self, shards: Iterable[Shard]) -> Iterator[Shard]:
        """Write the shards of a folder; yield each once it is there."""
        ...


def embed_files(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    embedder: Encoder,
    output: str | os.PathLike[str],
    level: Level = "segment",
    skip_existing: bool = False,
    force: bool = False,
    engine: Engine | None = None,
) -> EmbedReport:
    """Embed files, and the files in folders.

    Args:
        paths: one or several files, and folders to search through all levels.
        embedder: makes the vectors.
        output: a .parquet, .npz or .jsonl file, there whole once all is done; a folder of Parquet
            shards, told by a slash at the end; or `-` for JSON lines on standard output. Failures
            are listed in `<output>.failures.jsonl`.
        level: a row a `segment` or a `track`.
        skip_existing: keep the rows of unchanged files that an earlier run left by the same model,
            also one that was killed, and of files that are not among `paths`.
        force: replace an earlier run's output. Without either option it is refused, since hours of
            work may be in it.
        engine: does the work elsewhere; here where not given.

    Returns:
        What was done.

    Raises:
        ValueError: a path is missing, no audio file is found, or the output is refused.
    """
    check_level(level)
    failures, left_aside = FailureLog(failures_path(output)), Counter[str]()
    found = find_audio(paths, failures.failures, left_aside)
    num_folders = len(failures)  # that cannot be listed
    if not found:
        raise no_audio(paths, failures.failures, left_aside)
    making = making_of(embedder, level)
    if is_stdout := os.fspath(output) == STDOUT:
        target = LinePrinter(sys.stdout, making)
    else:
        target = EmbeddingOutput(output, making, skip_existing, force)

    def fail(job: Job, reason: str) -> None:
        failures.add(job.file, reason)
        target.forget(job.file)

    with target:
        jobs = list_jobs(found, failures, target.name_of)
        todo = [job for job in jobs if not target.has(job.file, job.version)]
        with Progress("embedding", len(found), done=len(found) - len(todo)) as shown:
            run = engine.embed_jobs if engine else _embed_jobs
            num_embedded = run(todo, embedder, level, target, fail, SegmentProgress(shown))
        num_rows = target.finish(engine.write_shards if engine else write_here)
    if not is_stdout:
        failures.write()
    num_skipped = len(found) - num_embedded - (len(failures) - num_folders)
    return EmbedReport(
        num_files=len(found),
        num_embedded=num_embedded,
        num_skipped=num_skipped,
        num_copies=num_skipped - (len(jobs) - len(todo)),
        num_rows=num_rows,
        failures=failures.failures,
        failures_path=failures.path if failures.failures and not is_stdout else None,
        left_aside=dict(left_aside.most_common()),
    )


def list_jobs(
    found: Sequence[Path], failures: FailureLog, name_of: Callable[[str], str]
) -> list[Job]:
    """Return the files that are still there, with their versions as they are now.

    Args:
        found: the files.
        failures: takes those that are gone.
        name_of: returns the name that a path has in the table.
    """
    jobs = []
    for path in found:
        file = name_of(file_name(path))
        try:
            jobs.append(Job(path, file, file_version(path)))
        except OSError as error:  # gone since it was found
            failures.add(file, f"cannot be read: {error.strerror}. Check the file.")
    return jobs


def _embed_jobs(
    jobs: Sequence[Job],
    encoder: Encoder,
    level: Level,
    output: EmbeddingOutput | LinePrinter,
    fail: Callable[[Job, str], None],
    progress: SegmentProgress,
) -> int:
    """Embed files here; see `Engine.embed_jobs`."""
    num_embedded = 0

    def add(index: int, embedded: Embedded, blocks: Iterable[np.ndarray]) -> None:
        nonlocal num_embedded
        output.add(jobs[index].file, embedded.version, embedded.key, blocks)
        num_embedded += 1

    files = [FileToEmbed(job.path) for job in jobs]
    has_key = None if isinstance(output, LinePrinter) else output.has_key
    missing = embed_missing(encoder, files, has_key, add, level, progress.count)
    with closing(missing) as done:  # so that no process is at work any more when this ends
        for job, embedded in zip(jobs, done, strict=True):
            if embedded.reason:
                fail(job, embedded.reason)
            else:
                output.name(job.file, embedded.version, embedded.key)
            progress.end_file()
    return num_embedded
