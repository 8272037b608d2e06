"""A folder of Parquet files of a bounded size, for a table that is too large for one file.

    OUT/part-00000.parquet    the first files' rows, in order of path, up to SHARD_BYTES of vectors
    OUT/part-00001.parquet    ...

Each is put there whole. A file's rows are never in two of them. More files make more shards; where
a file has changed, its old rows are taken out of the shard that they are in. pyarrow, DuckDB and
`datasets` open such a folder as one table.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from mulap.files import atomic_path
from mulap.inference.parts import Entry, is_same_making, read_rows, remove_part
from mulap.inference.tables import count_rows, open_rows, write_parquet

SHARD_BYTES = 2**29  # of vectors


class Shard(NamedTuple):
    """A shard to be written: all that a process on another machine has to know.

    Attributes:
        path: where to.
        parts: folder of the parts.
        schema: of the rows.
        entries: the files, in order.
    """

    path: Path
    parts: Path
    schema: pa.Schema
    entries: list[Entry]


# Writes shards, in any order and anywhere, and yields each once it is there.
WriteShards = Callable[[Iterable[Shard]], Iterator[Shard]]


class ShardFolder:
    """The output of a run: a folder of shards.

    Args:
        path: the folder; it may be missing.

    Raises:
        ValueError: there is something else in it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        if path.exists() and not path.is_dir():
            raise ValueError(f"{path}: is a file (leave the slash at the end out, or name another)")
        shards = set(self._shards())
        others = [each for each in path.glob("*") if each not in shards and each.name[0] != "."]
        if others:
            raise ValueError(f"{path}: holds {others[0].name} (name a new folder for the shards)")

    def exists(self) -> bool:
        """Whether there are rows."""
        return bool(self._shards())

    def contents(self) -> tuple[pa.Schema, Counter[tuple[str, str]]]:
        """Return the schema, and how many rows each (file, file_version) has."""
        total: Counter[tuple[str, str]] = Counter()
        shards = self._shards()
        first = pq.read_schema(shards[0])
        for shard in shards:
            schema, counts = count_rows(shard)
            if not is_same_making(schema, first):
                raise ValueError(
                    f"{self.path}: {shard.name} is by another model than {shards[0].name} "
                    "(name another output, or --force)"
                )
            total.update(counts)
        return first, total

    def put(
        self,
        parts: Path,
        schema: pa.Schema,
        kept: Mapping[str, tuple[str, int]],
        entries: Sequence[Entry],
        write_shards: WriteShards,
    ) -> None:
        """Make the folder hold what it is to hold; parts go as their rows are in shards.

        Args:
            parts: folder of the parts.
            schema: of the rows.
            kept: file -> version and number of rows of those that stay; others' go.
            entries: files whose rows are added, in order.
            write_shards: does it.
        """
        for leftover in self.path.glob(".*.parquet"):  # of a kill
            leftover.unlink()
        self._drop_rows(kept)
        num_entries_of = Counter(entry.part for entry in entries)
        for shard in write_shards(self._plan(parts, schema, entries)):
            for entry in shard.entries:
                num_entries_of[entry.part] -= 1
                if not num_entries_of[entry.part]:
                    remove_part(parts, entry.part)

    def move_away(self, parts: Path) -> None:
        """Move the folder among the parts, which will be removed."""
        if self.path.exists():
            target = parts / "replaced"
            shutil.rmtree(target, ignore_errors=True)
            os.rename(self.path, target)

    def _shards(self) -> list[Path]:
        return sorted(self.path.glob("part-*.parquet"))

    def _plan(self, parts: Path, schema: pa.Schema, entries: Iterable[Entry]) -> Iterator[Shard]:
        """Yield the shards to write, under the lowest free names.

        What a killed run had written of the same plan is there, whichever shards it was: the rest
        gets the same names and rows again.
        """
        taken, number = {path.name for path in self._shards()}, 0
        for some in group_entries(entries, schema):
            while (name := f"part-{number:05}.parquet") in taken:
                number += 1
            number += 1
            yield Shard(self.path / name, parts, schema, some)

    def _drop_rows(self, kept: Container[str]) -> None:
        for shard in self._shards():
            schema, counts = count_rows(shard)
            remaining = [file in kept for file, _ in counts]
            if not any(remaining):
                shard.unlink()
            elif not all(remaining):
                with atomic_path(shard) as temporary:
                    write_parquet(temporary, schema, keep_files(open_rows(shard)[1], kept))


def keep_files(batches: Iterable[pa.RecordBatch], kept: Container[str]) -> Iterator[pa.RecordBatch]:
    """Yield the rows of the files that are kept, in their order."""
    for batch in batches:
        is_kept = [file in kept for file in batch.column("file").to_pylist()]
        yield batch.filter(pa.array(is_kept, pa.bool_()))


def group_entries(entries: Iterable[Entry], schema: pa.Schema) -> Iterator[list[Entry]]:
    """Cut a list of files into shards of at least `SHARD_BYTES` of vectors each, but the last."""
    row_bytes = schema.field("embedding").type.list_size * 4
    group, num_bytes = [], 0
    for entry in entries:
        group.append(entry)
        num_bytes += entry.num_rows * row_bytes
        if num_bytes >= SHARD_BYTES:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group


def write_shard(shard: Shard) -> Shard:
    """Write one shard; a process on any machine that has both folders may do it."""
    with atomic_path(shard.path) as temporary:
        write_parquet(temporary, shard.schema, _rows(shard))
    return shard


def write_here(shards: Iterable[Shard]) -> Iterator[Shard]:
    """Write shards one after another, in this process."""
    return map(write_shard, shards)


def _rows(shard: Shard) -> Iterator[pa.RecordBatch]:
    for entry in shard.entries:
        for batch in read_rows(shard.parts, entry):
            yield batch.cast(shard.schema)
