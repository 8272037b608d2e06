"""Where a run over many files puts its rows, so that a kill at any moment loses no finished file.

    OUT.parts/           rows of finished files, see `mulap.inference.parts`; gone at the end
    OUT                  a .parquet, .npz or .jsonl file, put there whole at the end,
                         or a folder of Parquet shards, see `mulap.inference.shards`
    .OUT.lock            keeps a second run away; gone at the end

A run that was killed leaves its parts, and an earlier output stays as it was until the end. With
`skip_existing` the next run takes over both: what was made by the same model out of the same
version of a file. Rows of files that the new run was not asked for are kept as well; those of a
file that has changed and can no longer be used go. The bytes of the output depend neither on which
file was finished first, nor on how often a run was killed.

This module knows no model and no audio.
"""

import itertools
import os
import shutil
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from mulap.files import atomic_path
from mulap.inference.parts import (
    Entry,
    PartWriter,
    Rows,
    is_same_making,
    read_journals,
    read_rows,
)
from mulap.inference.shards import ShardFolder, WriteShards, keep_files, write_here
from mulap.inference.tables import (
    AnyPath,
    check_format,
    count_rows,
    open_rows,
    row_schema,
    schema_metadata,
    write_rows,
)
from mulap.locks import hold_lock


def file_name(path: AnyPath) -> str:
    """Return a path as text, also where its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_version(path: AnyPath) -> str:
    """Return what changes when a file is written: its size in bytes and time in nanoseconds."""
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


def failures_path(output: AnyPath) -> Path:
    """Return where a run lists the files that it could not use: beside its output."""
    return Path(f"{Path(output)}.failures.jsonl")


class EmbeddingStore:
    """The output of a run, and the parts that it will be made of.

    It holds a lock from the start up to `finish` or `close`; use it in a `with` block.

    Args:
        output: a .parquet, .npz or .jsonl file, or a folder, told by a slash at the end. Folders
            on the way are made.
        embedding_size: length of a vector.
        metadata: what makes the vectors; `model`, the name, may differ from an earlier run's.
        skip_existing: keep what an earlier run, finished or not, left of the same making.
        force: replace what an earlier run left.

    Raises:
        ValueError: an unknown suffix, both options at once, an earlier run's rows and neither
            option, rows of another making, or another run that is at work there.
    """

    def __init__(
        self,
        output: AnyPath,
        embedding_size: int,
        metadata: dict[str, Any],
        skip_existing: bool = False,
        force: bool = False,
    ) -> None:
        if skip_existing and force:
            raise ValueError("--skip-existing keeps earlier rows, --force drops them (give one)")
        self._target = _open_target(output)
        self.output = self._target.path
        self.schema = row_schema(embedding_size, metadata)
        self.parts = self.output.with_name(self.output.name + ".parts")
        # file -> version and number of rows in the earlier output; file -> rows in a part
        self._kept: dict[str, tuple[str, int]] = {}
        self._done: dict[str, Entry] = {}
        self._is_replacing = force
        self._is_outdated = False  # the earlier output has rows that are not kept
        self._idle_writers: list[PartWriter] = []
        self._lock = threading.Lock()
        self._opened = ExitStack()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        message = f"{self.output}: another run is writing it (wait for it, or name another output)"
        lock_path = self.output.with_name(f".{self.output.name}.lock")
        with ExitStack() as opened:
            opened.enter_context(hold_lock(lock_path, message))
            self._begin(skip_existing, force)
            self._opened = opened.pop_all()

    def __enter__(self) -> "EmbeddingStore":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def has(self, file: str, version: str) -> bool:
        """Whether this version of a file needs no work."""
        if file in self._done:
            return self._done[file].version == version
        return file in self._kept and self._kept[file][0] == version

    def add(self, file: str, version: str, rows: Rows) -> None:
        """Keep a file's rows; they are there whole once this returns, and not at all if it fails.

        Any number of threads may be in here at a time: `rows` are drawn outside of all locks.

        Args:
            file: its name.
            version: from `file_version`, before it was read.
            rows: all of the file's, in order. What it raises is passed on.
        """
        with self._writer() as writer:
            entry = writer.add(file, version, rows)
        self.take(entry)

    def take(self, entry: Entry) -> None:
        """Count a file that a process elsewhere has put among the parts."""
        with self._lock:
            self._drop_kept(entry.file)
            self._done[entry.file] = entry

    def forget(self, file: str) -> None:
        """Drop the rows of a file whose present version cannot be used; it may have none."""
        with self._lock:
            self._drop_kept(file)
            self._done.pop(file, None)

    def _drop_kept(self, file: str) -> None:
        self._is_outdated |= self._kept.pop(file, None) is not None

    def finish(self, write_shards: WriteShards = write_here) -> int:
        """Put the output in its place and remove the parts; return the output's number of rows.

        Without any new row an earlier output is not touched, unless rows in it are to be dropped;
        where none are left, the file or the shards go.

        Args:
            write_shards: of a folder's.
        """
        entries = [self._done[file] for file in sorted(self._done, key=_in_order_of_path)]
        num_rows = sum(entry.num_rows for entry in entries)
        num_rows += sum(rows for _, rows in self._kept.values())
        for writer in self._idle_writers:
            writer.close()
        if entries or self._is_outdated:
            if self._is_replacing:
                self._target.move_away(self.parts)
            self._target.put(self.parts, self.schema, self._kept, entries, write_shards)
        shutil.rmtree(self.parts)
        self.close()
        return num_rows

    def close(self) -> None:
        """Let go of the output; what was added stays among the parts for a run that goes on."""
        with self._opened:  # lets go of the output also where a part fails
            for writer in self._idle_writers:
                writer.close()

    @contextmanager
    def _writer(self) -> Iterator[PartWriter]:
        """Lend a writer that no other thread has: as many parts grow as threads are at work."""
        with self._lock:
            idle = self._idle_writers
            writer = idle.pop() if idle else PartWriter(self.parts, self.schema)
        try:
            yield writer
        finally:
            with self._lock:
                self._idle_writers.append(writer)

    def _begin(self, skip_existing: bool, force: bool) -> None:
        if force:
            shutil.rmtree(self.parts, ignore_errors=True)
        elif skip_existing:
            self._take_over()
        else:
            self._refuse_existing()
        self.parts.mkdir(exist_ok=True)

    def _take_over(self) -> None:
        self._done = {entry.file: entry for entry in read_journals(self.parts, self.schema)}
        if not self._target.exists():
            return
        schema, counts = self._target.contents()
        # A damaged table may say that it is ours, and hold vectors of another length.
        if is_same_making(schema, self.schema) and schema.types == self.schema.types:
            self._kept = {file: (version, rows) for (file, version), rows in counts.items()}
        elif self._done:
            self._is_replacing = True  # so it was by the run that was stopped
        else:
            before = schema_metadata(schema)
            raise ValueError(
                f"{self.output}: holds {before.get('level')} embeddings by another model "
                f"or other settings ({before.get('model')}) (name another output, or --force)"
            )
        for file in self._done.keys() & self._kept.keys():
            # The same version twice: a kill came when the output already had it.
            if self._done[file].version == self._kept[file][0]:
                del self._done[file]
            else:
                self._drop_kept(file)

    def _refuse_existing(self) -> None:
        is_stopped = next(read_journals(self.parts, None), None) is not None
        if self._target.exists() or is_stopped:
            what = "a stopped run left rows for it" if is_stopped else "exists"
            remedy = "--skip-existing keeps its rows, --force replaces them"
            raise ValueError(f"{self.output}: {what} ({remedy})")


class _Target(Protocol):
    """An output: one file, or a folder of shards. See `ShardFolder`."""

    path: Path

    def exists(self) -> bool: ...
    def contents(self) -> tuple[pa.Schema, Counter[tuple[str, str]]]: ...
    def move_away(self, parts: Path) -> None: ...
    def put(
        self,
        parts: Path,
        schema: pa.Schema,
        kept: Mapping[str, tuple[str, int]],
        entries: Sequence[Entry],
        write_shards: WriteShards,
    ) -> None: ...


class _OneFile:
    """The output of a run: a table in one file."""

    def __init__(self, path: Path) -> None:
        check_format(path)
        if path.is_dir():
            raise ValueError(f"{path}: is a folder (name a file in it)")
        self.path = path
        self._is_moved_away = False

    def exists(self) -> bool:
        return self.path.exists()

    def contents(self) -> tuple[pa.Schema, Counter[tuple[str, str]]]:
        return count_rows(self.path)

    def move_away(self, parts: Path) -> None:
        """Leave it: it is replaced at one blow."""

    def put(
        self,
        parts: Path,
        schema: pa.Schema,
        kept: Mapping[str, tuple[str, int]],
        entries: Sequence[Entry],
        write_shards: WriteShards,
    ) -> None:
        """Write the kept rows in their order, then the others; see `ShardFolder.put`."""
        num_rows = sum(rows for _, rows in kept.values()) + sum(each.num_rows for each in entries)
        if not num_rows:
            self.path.unlink(missing_ok=True)
            return
        # Made among the parts, so that what a kill leaves of it goes with them.
        merged = parts / f"merged{self.path.suffix}"
        with atomic_path(merged) as temporary:
            write_rows(temporary, schema, self._rows(parts, schema, kept, entries), num_rows)
        os.replace(merged, self.path)

    def _rows(
        self,
        parts: Path,
        schema: pa.Schema,
        kept: Mapping[str, tuple[str, int]],
        entries: Sequence[Entry],
    ) -> Iterator[pa.RecordBatch]:
        before = [keep_files(open_rows(self.path)[1], kept)] if kept else []
        for batches in itertools.chain(before, (read_rows(parts, entry) for entry in entries)):
            for batch in batches:
                yield batch.cast(schema)


def _open_target(output: AnyPath) -> _Target:
    text, path = os.fspath(output), Path(output)
    if path.name in ("", ".."):
        raise ValueError(f"{text}: has no name to put others beside it (name the folder in full)")
    return ShardFolder(path) if text.endswith(os.sep) else _OneFile(path)


def _in_order_of_path(file: str) -> str:
    """Order by folders, as paths are: a separator is before every other letter."""
    return file.replace(os.sep, "\0")
