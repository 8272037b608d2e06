"""A table of many files' embeddings: one file, or a folder of Parquet shards.

A folder is for a table that is too large for one file. A file's rows are never in two shards. More
files make more shards; the old rows of a changed file are taken out of their shard. pyarrow, DuckDB
and `datasets` open such a folder as one table.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mulap.files import AnyPath, atomic_path
from mulap.vectors.formats import add_keys, check_format, open_rows, write_parquet, write_rows
from mulap.vectors.rows import (
    TEXT_COLUMNS,
    FileRows,
    batch_embeddings,
    file_batches,
    row_schema,
    schema_metadata,
)
from mulap.vectors.store import Entry, fingerprint, read_rows, remove_part

SHARD_BYTES = 2**29  # of vectors


@dataclass(frozen=True)
class Embeddings:
    """A table of embeddings in memory.

    Attributes:
        files: path of each row's file, str (rows,).
        segment_index: int32 (rows,).
        start_seconds: float64 (rows,).
        embeddings: float32 (rows, D).
        metadata: what made them: `model`, `weights_sha256`, `features`, `level`.
    """

    files: np.ndarray
    segment_index: np.ndarray
    start_seconds: np.ndarray
    embeddings: np.ndarray
    metadata: dict[str, Any]


class Making(NamedTuple):
    """What makes the vectors of a table."""

    embedding_size: int  # length D of a vector
    stride_seconds: float  # distance between the starts of two segments; 0 for whole tracks
    metadata: dict[str, Any]  # of the table, as JSON; `model` in it is a name, and decides nothing

    @property
    def schema(self) -> pa.Schema:
        """The table's columns."""
        return row_schema(self.embedding_size, self.metadata)


class StoredFile(NamedTuple):
    """A file whose vectors are in the store."""

    file: str  # its name
    about: FileRows  # its version, key and number of rows
    entry: Entry  # where its vectors are


class Shard(NamedTuple):
    """A shard to be written: all that a process on another machine has to know."""

    path: Path  # where to
    parts: Path  # folder of the store
    making: Making  # of the vectors
    files: list[StoredFile]  # in order


# Writes shards, in any order and anywhere, and yields each once it is there.
WriteShards = Callable[[Iterable[Shard]], Iterator[Shard]]


def read_embeddings(path: AnyPath) -> Embeddings:
    """Read a table of embeddings whole: a file of `mulap embed`, or its folder of shards."""
    if not os.path.isdir(path):
        schema, batches = open_rows(path)
    else:
        shards = list_shards(path)
        if not shards:
            raise ValueError(f"{path}: holds no part-*.parquet. Name a table of mulap embed.")
        schema = open_rows(shards[0])[0]
        batches = chain.from_iterable(open_rows(shard)[1] for shard in shards)
    table = pa.Table.from_batches(batches, schema)
    return Embeddings(
        files=np.array(table["file"].to_pylist(), dtype=str),
        segment_index=table["segment_index"].to_numpy(),
        start_seconds=table["start_seconds"].to_numpy(),
        embeddings=batch_embeddings(table),
        metadata=schema_metadata(schema),
    )


def list_files(path: AnyPath) -> tuple[pa.Schema, dict[str, FileRows]]:
    """Return a table's schema, and its files in order."""
    schema, batches = open_rows(path)
    if check_format(path) == ".parquet":  # the vectors are not read
        file = pq.ParquetFile(path)
        columns = [name for name in TEXT_COLUMNS if name in file.schema_arrow.names]
        batches = (add_keys(batch) for batch in file.iter_batches(columns=columns))
    counts: Counter[tuple[str, str, str]] = Counter()
    for batch in batches:
        counts.update(zip(*(batch.column(name).to_pylist() for name in TEXT_COLUMNS), strict=True))
    return schema, {
        file: FileRows(version, key, num) for (file, version, key), num in counts.items()
    }


def list_shards(folder: AnyPath) -> list[Path]:
    """Return the shards in a folder, in order."""
    return sorted(Path(folder).glob("part-*.parquet"))


def write_shard(shard: Shard) -> Shard:
    """Write one shard; a process on any machine that has both folders may do it."""
    with atomic_path(shard.path) as temporary:
        write_parquet(temporary, shard.making.schema, _stored_rows(shard))
    return shard


def write_here(shards: Iterable[Shard]) -> Iterator[Shard]:
    """Write shards one after another, in this process."""
    return map(write_shard, shards)


class OneFile:
    """The output of a run: a table in one file."""

    def __init__(self, path: Path) -> None:
        check_format(path)
        if path.is_dir():
            raise ValueError(f"{path}: is a folder. Name a file in it.")
        self.path = path

    def exists(self) -> bool:
        """Whether there are rows."""
        return self.path.exists()

    def contents(self) -> tuple[pa.Schema, dict[str, FileRows]]:
        """Return the schema, and the files."""
        return list_files(self.path)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows."""
        return open_rows(self.path)[1]

    def move_away(self, parts: Path) -> None:
        """Leave it: it is replaced at once by the new one."""

    def put(self, whole: Shard, kept: dict[str, FileRows], write_shards: WriteShards) -> None:
        """Write the kept rows in their order, then the others; see `ShardFolder.put`."""
        num_rows = sum(about.num_rows for about in kept.values())
        num_rows += sum(each.about.num_rows for each in whole.files)
        if not num_rows:
            self.path.unlink(missing_ok=True)
            return
        schema = whole.making.schema
        before = keep_files(self.batches(), kept) if kept else iter(())
        rows = (batch.cast(schema) for batch in chain(before, _stored_rows(whole)))
        # Made among the parts, so that what a kill leaves of it goes with them.
        merged = whole.parts / f"merged{self.path.suffix}"
        with atomic_path(merged) as temporary:
            write_rows(temporary, schema, rows, num_rows)
        os.replace(merged, self.path)


class ShardFolder:
    """The output of a run: a folder of shards, which may be missing, with nothing else in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path}: is a file. Leave the slash out, or name a new folder.")
        shards = set(list_shards(path))
        others = [each for each in path.glob("*") if each not in shards and each.name[0] != "."]
        if others:
            raise ValueError(f"{path}: holds {others[0].name}. Name a new folder for the shards.")

    def exists(self) -> bool:
        """Whether there are rows."""
        return bool(list_shards(self.path))

    def contents(self) -> tuple[pa.Schema, dict[str, FileRows]]:
        """Return the schema, and the files."""
        files: dict[str, FileRows] = {}
        first, *others = list_shards(self.path)
        schema, some = list_files(first)
        files.update(some)
        for shard in others:
            shard_schema, some = list_files(shard)
            if fingerprint(schema_metadata(shard_schema)) != fingerprint(schema_metadata(schema)):
                raise ValueError(
                    f"{self.path}: {shard.name} is by another model than {first.name}. Name "
                    "another output, or give --force."
                )
            files.update(some)
        return schema, files

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield all rows."""
        return chain.from_iterable(open_rows(shard)[1] for shard in list_shards(self.path))

    def put(self, whole: Shard, kept: dict[str, FileRows], write_shards: WriteShards) -> None:
        """Make the folder hold what it is to hold; parts go as their rows are in shards.

        Rows stay of the files in `kept` alone, and those of `whole.files` are added, in order.
        """
        for leftover in self.path.glob(".*.parquet"):  # of a kill
            leftover.unlink()
        self._drop_rows(kept)
        num_files_of = Counter(each.entry.part for each in whole.files)
        for shard in write_shards(self._plan(whole)):
            for each in shard.files:
                num_files_of[each.entry.part] -= 1
                if not num_files_of[each.entry.part]:
                    remove_part(whole.parts, each.entry.part)

    def move_away(self, parts: Path) -> None:
        """Move the folder among the parts, which will be removed."""
        if self.path.exists():
            target = parts / "replaced"
            shutil.rmtree(target, ignore_errors=True)
            os.rename(self.path, target)

    def _plan(self, whole: Shard) -> Iterator[Shard]:
        """Yield the shards to write, under the lowest free names.

        What a killed run had written of the same plan is there, whichever shards it was: the rest
        gets the same names and rows again.
        """
        taken, number = {path.name for path in list_shards(self.path)}, 0
        for some in _group_files(whole.files, whole.making.embedding_size * 4):
            while (name := f"part-{number:05}.parquet") in taken:
                number += 1
            number += 1
            yield whole._replace(path=self.path / name, files=some)

    def _drop_rows(self, kept: Container[str]) -> None:
        """Take out the rows of other files, and give shards of mulap 0.1 the column they lack.

        Others than pyarrow refuse a folder whose shards have different columns.
        """
        for shard in list_shards(self.path):
            schema, files = list_files(shard)
            remaining = [file in kept for file in files]
            if not any(remaining):
                shard.unlink()
            elif not all(remaining) or "audio_key" not in pq.read_schema(shard).names:
                with atomic_path(shard) as temporary:
                    write_parquet(temporary, schema, keep_files(open_rows(shard)[1], kept))


def open_table(output: AnyPath) -> "OneFile | ShardFolder":
    """Open what a run is to write, by its name: a file, or a folder by the slash at its end.

    ValueError if the suffix is unknown, or something else is there.
    """
    text, path = os.fspath(output), Path(output)
    if path.name in ("", ".."):
        raise ValueError(f"{text}: has no name to put other files beside it. Name the folder.")
    return ShardFolder(path) if text.endswith(os.sep) else OneFile(path)


def _group_files(files: Iterable[StoredFile], row_bytes: int) -> Iterator[list[StoredFile]]:
    """Cut a list of files into shards of at least `SHARD_BYTES` of vectors each, but the last."""
    group, num_bytes = [], 0
    for each in files:
        group.append(each)
        num_bytes += each.about.num_rows * row_bytes
        if num_bytes >= SHARD_BYTES:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def _stored_rows(shard: Shard) -> Iterator[pa.RecordBatch]:
    """Yield the rows of files out of the store."""
    making = shard.making
    for file, about, entry in shard.files:
        vectors = read_rows(shard.parts, making.embedding_size, entry)
        yield from file_batches(making.schema, about, file, vectors, making.stride_seconds)


def keep_files(batches: Iterable[pa.RecordBatch], kept: Container[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the files that are kept, in their order."""
    for batch in batches:
        is_kept = [file in kept for file in batch.column("file").to_pylist()]
        yield batch.filter(pa.array(is_kept, pa.bool_()))
