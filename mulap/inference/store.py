"""Where a run over many files puts its rows, so that a kill at any moment loses no finished file.

    out.parquet.parts/3f..9a.parquet   a file's rows, put there whole once the file is done
    out.parquet                        all rows, put there whole at the end; then the parts go

A run that was killed leaves its parts, and an earlier output stays as it was until the end. With
`skip_existing` the next run takes over both: what was made by the same model out of the same
version of a file. Rows of files that the new run was not asked for are kept as well.

Two runs must not write to one output at a time. This module knows no model and no audio.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mulap.files import atomic_path
from mulap.inference.tables import (
    check_format,
    count_rows,
    open_rows,
    row_batch,
    row_schema,
    schema_metadata,
    write_json_lines,
    write_parquet,
    write_rows,
)

# Of one file, some at a time: where its segments start, in seconds (M,), and its vectors (M, D).
Rows = Iterable[tuple[np.ndarray, np.ndarray]]


def file_name(path: str | os.PathLike[str]) -> str:
    """Return a path as text, also where its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def file_version(path: str | os.PathLike[str]) -> str:
    """Return what changes when a file is written: its size in bytes and time in nanoseconds."""
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


class EmbeddingStore:
    """The output of a run, and the parts that it will be made of.

    Args:
        output: a .parquet, .npz or .jsonl file; its folder is made if it is missing.
        embedding_size: length of a vector.
        metadata: what makes the vectors; `model`, the name, may differ from an earlier run's.
        skip_existing: keep what an earlier run, finished or not, left of the same making.
        force: replace what an earlier run left.

    Raises:
        ValueError: an unknown suffix, both options at once, an earlier run's rows and neither
            option, or rows of another making.
    """

    def __init__(
        self,
        output: Path,
        embedding_size: int,
        metadata: dict[str, Any],
        skip_existing: bool = False,
        force: bool = False,
    ) -> None:
        check_format(output)
        if output.is_dir():
            raise ValueError(f"{output}: is a folder (name a file in it)")
        if skip_existing and force:
            raise ValueError("--skip-existing keeps earlier rows, --force drops them (give one)")
        self.output = output
        self.schema = row_schema(embedding_size, metadata)
        self._parts = output.with_name(output.name + ".parts")
        # file -> its version and number of rows: in the earlier output, and as a part
        self._kept: dict[str, tuple[str, int]] = {}
        self._done: dict[str, tuple[str, int]] = {}
        if skip_existing:
            self._take_over()
        elif not force:
            self._refuse_existing()
        if force:
            shutil.rmtree(self._parts, ignore_errors=True)
        self._parts.mkdir(parents=True, exist_ok=True)

    def has(self, file: str, version: str) -> bool:
        """Whether this version of a file needs no work."""
        there = self._done.get(file) or self._kept.get(file)
        return there is not None and there[0] == version

    def add(self, file: str, version: str, rows: Rows) -> None:
        """Write a file's rows; they are there whole once this returns, and not at all if it fails.

        Args:
            file: its name.
            version: from `file_version`, before it was read.
            rows: all of the file's, in order. What it raises is passed on.
        """
        self._kept.pop(file, None)
        self._done.pop(file, None)
        self._part_path(file).unlink(missing_ok=True)
        with atomic_path(self._part_path(file)) as temporary:
            num_rows = write_parquet(
                temporary, self.schema, _batches(self.schema, file, version, rows)
            )
        self._done[file] = (version, num_rows)

    def finish(self) -> int:
        """Put the output in its place and remove the parts; return the output's number of rows.

        Without any row there is nothing to put there, and no earlier output is touched.
        """
        num_rows = sum(rows for _, rows in [*self._kept.values(), *self._done.values()])
        if num_rows:
            # Made among the parts, so that what a kill leaves of it goes with them.
            merged = self._parts / f"merged{self.output.suffix}"
            with atomic_path(merged) as temporary:
                write_rows(temporary, self.schema, self._all_batches(), num_rows)
            os.replace(merged, self.output)
        shutil.rmtree(self._parts)
        return num_rows

    def _all_batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the earlier output's rows in their order, then the parts' in order of path."""
        if self._kept:
            for batch in open_rows(self.output)[1]:
                is_kept = [file in self._kept for file in batch.column("file").to_pylist()]
                yield batch.filter(pa.array(is_kept)).cast(self.schema)
        for file in sorted(self._done, key=Path):
            for batch in open_rows(self._part_path(file))[1]:
                yield batch.cast(self.schema)

    def _part_path(self, file: str) -> Path:
        digest = hashlib.sha256(file.encode()).hexdigest()
        return self._parts / f"{digest[:32]}.parquet"

    def _part_paths(self) -> Iterator[Path]:
        return self._parts.glob("[0-9a-f]*.parquet")  # temporary files begin with a dot

    def _take_over(self) -> None:
        if self.output.exists():
            schema, counts = count_rows(self.output)
            if not self._is_same_making(schema):
                before = schema_metadata(schema)
                raise ValueError(
                    f"{self.output}: holds {before.get('level')} embeddings by another model "
                    f"or other settings ({before.get('model')}) (name another output, or --force)"
                )
            self._kept = {file: (version, rows) for (file, version), rows in counts.items()}
        for path in self._part_paths():
            part = pq.ParquetFile(path)
            if self._is_same_making(part.schema_arrow):
                first = next(part.iter_batches(1, columns=["file", "file_version"])).to_pylist()[0]
                self._done[first["file"]] = (first["file_version"], part.metadata.num_rows)
        for file in self._done:
            self._kept.pop(file, None)

    def _is_same_making(self, schema: pa.Schema) -> bool:
        ours, theirs = schema_metadata(self.schema), schema_metadata(schema)
        return {**ours, "model": None} == {**theirs, "model": None}

    def _refuse_existing(self) -> None:
        is_stopped = any(self._part_paths())
        if self.output.exists() or is_stopped:
            what = "a stopped run left rows for it" if is_stopped else "exists"
            remedy = "--skip-existing keeps its rows, --force replaces them"
            raise ValueError(f"{self.output}: {what} ({remedy})")


class LinePrinter:
    """A store's stand-in for a stream: JSON lines, a file's all at once or none.

    Args:
        out: where to print.
        embedding_size: length of a vector.
        metadata: what makes the vectors.
    """

    def __init__(self, out: TextIO, embedding_size: int, metadata: dict[str, Any]) -> None:
        self.out = out
        self.schema = row_schema(embedding_size, metadata)
        self._num_rows = 0

    def has(self, file: str, version: str) -> bool:
        """Return False: what was printed by an earlier run is not known."""
        return False

    def add(self, file: str, version: str, rows: Rows) -> None:
        """Print a file's rows, once all are there. See `EmbeddingStore.add`."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
            num_rows = 0
            for batch in _batches(self.schema, file, version, rows):
                write_json_lines(spool, batch)
                num_rows += len(batch)
            spool.seek(0)
            shutil.copyfileobj(spool, self.out)
            self.out.flush()
        self._num_rows += num_rows

    def finish(self) -> int:
        """Return the number of rows that were printed."""
        return self._num_rows


def _batches(schema: pa.Schema, file: str, version: str, rows: Rows) -> Iterator[pa.RecordBatch]:
    num_rows = 0
    for start_seconds, embeddings in rows:
        index = np.arange(num_rows, num_rows + len(embeddings), dtype=np.int32)
        columns = {"segment_index": index, "start_seconds": start_seconds}
        yield row_batch(schema, columns | {"file": file, "file_version": version}, embeddings)
        num_rows += len(embeddings)
