"""What `mulap embed` writes: one table of many files, and no finished file is lost by a kill.

    OUT.parts/              the vectors so far, by key: a `mulap.vectors.store`; gone at the end
    OUT.parts/files.names   which file, in which version, has which key
    OUT                     a .parquet, .npz or .jsonl file, put there whole at the end,
                            or a folder of Parquet shards, each put there whole
    .OUT.lock               keeps a second run away

A run that was killed leaves its parts, and an earlier output stays as it was until the end. With
`skip_existing` the next run takes over both, if they were made by the same model. A file whose
audio is there already, under another name or with other tags, is not embedded again. Rows of files
that the new run was not asked for are kept as well; those of a file that has changed and can no
longer be used go. The bytes of the output depend neither on which file was finished first, nor on
how often a run was killed.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from itertools import chain, groupby
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa

from mulap.files import AnyPath
from mulap.locks import hold_lock
from mulap.vectors.formats import write_json_lines
from mulap.vectors.journal import Journal, read_journal
from mulap.vectors.rows import FileRows, batch_embeddings, file_batches, schema_metadata
from mulap.vectors.store import VectorStore, fingerprint, stored_makings
from mulap.vectors.table import (
    Making,
    Shard,
    StoredFile,
    WriteShards,
    keep_files,
    open_table,
    write_here,
)

_NAMES = "files.names"


def failures_path(output: AnyPath) -> Path:
    """Return where a run lists the files that it could not use: beside its output."""
    return Path(f"{Path(output)}.failures.jsonl")


class EmbeddingOutput:
    """The output of a run, and the parts that it will be made of.

    It holds a lock from the start up to `finish` or `close`; use it in a `with` block.

    Args:
        output: a .parquet, .npz or .jsonl file, or a folder, told by a slash at the end. Missing
            parent folders are made.
        making: of the vectors.
        skip_existing: keep what an earlier run, finished or not, left of the same making.
        force: replace what an earlier run left.

    Attributes:
        store: the vectors so far.

    Raises:
        ValueError: an unknown suffix, both options at once, an earlier run's rows and neither
            option, rows of another making, or another run that is at work there.
    """

    def __init__(
        self, output: AnyPath, making: Making, skip_existing: bool = False, force: bool = False
    ) -> None:
        if skip_existing and force:
            raise ValueError("--skip-existing keeps earlier rows, --force drops them. Give one.")
        self._target = open_table(output)
        self.output, self.making = self._target.path, making
        self.parts = self.output.with_name(self.output.name + ".parts")
        self._earlier: dict[str, FileRows] = {}  # what the earlier output holds
        self._kept: dict[str, FileRows] = {}  # those of them that stay
        self._done: dict[str, FileRows] = {}  # files whose vectors are among the parts
        self._is_replacing = force
        self._opened = ExitStack()
        self.output.parent.mkdir(parents=True, exist_ok=True)
        message = f"{self.output}: another run is writing it. Wait for it, or name another output."
        with ExitStack() as opened:
            opened.enter_context(
                hold_lock(self.output.with_name(f".{self.output.name}.lock"), message)
            )
            if force:
                shutil.rmtree(self.parts, ignore_errors=True)
            else:
                self._take_over(skip_existing)
            size, metadata = making.embedding_size, making.metadata
            self.store = VectorStore(self.parts, size, metadata, compares_all=True)
            self._done = self._stopped_files()
            self._writer = opened.enter_context(self.store.writer())
            self._names = Journal(self.parts / _NAMES)
            opened.callback(self._names.close)
            self._spelled = {
                os.path.abspath(file): file for file in self._kept.keys() | self._done.keys()
            }
            self._keys = {about.key: file for file, about in self._earlier.items() if about.key}
            self._opened = opened.pop_all()

    def __enter__(self) -> "EmbeddingOutput":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def name_of(self, file: str) -> str:
        """Return the name that a file has here already, relative or absolute; else its own."""
        if file in self._done or file in self._kept:
            return file
        return self._spelled.get(os.path.abspath(file), file)

    def has(self, file: str, version: str) -> bool:
        """Whether this version of a file needs no work."""
        about = self._done.get(file) or self._kept.get(file)
        return about is not None and about.version == version

    def has_key(self, key: str) -> bool:
        """Whether the vectors of this audio are there, under any name."""
        return key in self.store.entries or key in self._keys

    def keys(self) -> frozenset[str]:
        """Return the keys of all audio whose vectors are there."""
        return frozenset(self.store.entries.keys() | self._keys.keys())

    def name(self, file: str, version: str, key: str) -> None:
        """Give the vectors of a key, which are there already, to a file.

        The version is from before the file was read.
        """
        if key in self.store.entries:
            num_rows = self.store.entries[key].num_rows
        else:
            num_rows = self._earlier[self._keys[key]].num_rows
        about = FileRows(version, key, num_rows)
        if self._done.get(file) != about:
            self._kept.pop(file, None)
            self._done[file] = about
            self._names.append({"file": file, "version": version, "key": key})

    def add(self, file: str, version: str, key: str, blocks: Iterable[np.ndarray]) -> int:
        """Keep a file's vectors, blocks of float32 (M, D); return how many there are.

        They are whole once this returns, and none of them is there if it fails: what the blocks
        raise is passed on. The version is from before the file was read.
        """
        self.store.add(self._writer.add(key, blocks))
        self.name(file, version, key)
        return self._done[file].num_rows

    def forget(self, file: str) -> None:
        """Drop the rows of a file whose present version cannot be used; it may have none."""
        self._kept.pop(file, None)
        if self._done.pop(file, None):
            self._names.append({"file": file, "version": "", "key": ""})

    def finish(self, write_shards: WriteShards = write_here) -> int:
        """Put the output in its place and remove the parts; return the output's number of rows.

        Without any new row an earlier output is not touched, unless rows in it are to be dropped;
        where none are left, the file or the shards go. `write_shards` writes those of a folder.
        """
        self._copy_moved()
        files = [
            StoredFile(file, about, self.store.entries[about.key])
            for file, about in sorted(self._done.items(), key=_in_order_of_path)
        ]
        self._writer.close()
        if files or self._kept != self._earlier:
            if self._is_replacing:
                self._target.move_away(self.parts)
            whole = Shard(self.output, self.parts, self.making, files)
            self._target.put(whole, self._kept, write_shards)
        num_rows = sum(about.num_rows for about in chain(self._kept.values(), self._done.values()))
        self._names.close()
        shutil.rmtree(self.parts)
        self.close()
        return num_rows

    def close(self) -> None:
        """Let go of the output; what was added stays among the parts for a run that resumes."""
        self._opened.close()

    def _take_over(self, skip_existing: bool) -> None:
        """Keep what an earlier output and a stopped run hold, or refuse."""
        if next(self.parts.glob("*.arrow"), None):
            raise ValueError(
                f"{self.output}: a stopped run of mulap 0.1 left rows that this version cannot "
                "read. Finish it with mulap 0.1, or give --force to start again."
            )
        is_stopped = next(self.parts.glob("*.f32"), None) is not None
        if not skip_existing and (self._target.exists() or is_stopped):
            what = "a stopped run left rows for it" if is_stopped else "exists"
            raise ValueError(
                f"{self.output}: {what}. --skip-existing keeps its rows, --force replaces them."
            )
        if not is_stopped:  # a kill before the first row may leave a folder of another making
            shutil.rmtree(self.parts, ignore_errors=True)
        elif stored_makings(self.parts) - {fingerprint(self.making.metadata)}:
            raise ValueError(
                f"{self.output}: a stopped run by another model left rows for it. Name another "
                "output, or give --force to replace them."
            )
        if self._target.exists():
            schema, earlier = self._target.contents()
            before = schema_metadata(schema)
            is_same = fingerprint(before) == fingerprint(self.making.metadata)
            # A damaged table may say that it is ours, and hold vectors of another length.
            if is_same and schema.field("embedding").type.list_size == self.making.embedding_size:
                self._earlier, self._kept = earlier, dict(earlier)
            elif is_stopped:
                self._is_replacing = True  # so it was by the run that was stopped
            else:
                raise ValueError(
                    f"{self.output}: holds {before.get('level')} embeddings by another model or "
                    f"other settings ({before.get('model')}). Name another output, or give --force."
                )

    def _stopped_files(self) -> dict[str, FileRows]:
        """Return the files that a stopped run finished, and drop their earlier rows."""
        named = {
            line["file"]: (line["version"], line["key"])
            for line in read_journal(self.parts / _NAMES)
        }
        keys = {about.key: about for about in self._earlier.values() if about.key}
        found = {}
        for file, (version, key) in named.items():
            # Of the same version twice, a kill came when the output already had it.
            is_kept = file in self._kept and self._kept[file].version == version
            # After a power cut, a name may be there and its vectors not.
            where = self.store.entries.get(key) or keys.get(key)
            if not is_kept and where:
                self._kept.pop(file, None)
                found[file] = FileRows(version, key, where.num_rows)
        return found

    def _copy_moved(self) -> None:
        """Add the vectors that only the earlier output has, of files under another name."""
        keys = {about.key for about in self._done.values()} - self.store.entries.keys()
        wanted = {self._keys[key]: key for key in keys}
        if wanted:
            batches = keep_files(self._target.batches(), wanted)
            for file, some in groupby(chain.from_iterable(map(_by_file, batches)), lambda r: r[0]):
                self.store.add(self._writer.add(wanted[file], (vectors for _, vectors in some)))


class LinePrinter:
    """Prints JSON lines in place of an `EmbeddingOutput`; a file's lines all at once, or none."""

    def __init__(self, out: TextIO, making: Making) -> None:
        self.out, self.making = out, making
        self._num_rows = 0

    def __enter__(self) -> "LinePrinter":
        return self

    def __exit__(self, *error: object) -> None:
        """Do nothing: there is nothing to let go of."""

    def has(self, file: str, version: str) -> bool:
        """Return False: each file that is asked for is printed."""
        return False

    def name_of(self, file: str) -> str:
        """Return the name as it is."""
        return file

    def name(self, file: str, version: str, key: str) -> None:
        """Do nothing: no vectors are kept."""

    def add(self, file: str, version: str, key: str, blocks: Iterable[np.ndarray]) -> None:
        """Print a file's rows, once all are there. See `EmbeddingOutput.add`."""
        about, num_rows = FileRows(version, key, 0), 0
        with tempfile.TemporaryFile("w+", encoding="utf-8") as spool:
            for batch in file_batches(
                self.making.schema, about, file, blocks, self.making.stride_seconds
            ):
                write_json_lines(spool, batch)
                num_rows += len(batch)
            spool.seek(0)
            shutil.copyfileobj(spool, self.out)
        self.out.flush()
        self._num_rows += num_rows

    def forget(self, file: str) -> None:
        """Do nothing: nothing was printed of a file that cannot be used."""

    def finish(self, write_shards: WriteShards = write_here) -> int:
        """Return the number of rows that were printed."""
        return self._num_rows


def _by_file(batch: pa.RecordBatch) -> Iterator[tuple[str, np.ndarray]]:
    """Cut a batch into the vectors of one file after the other."""
    vectors, start = batch_embeddings(batch), 0
    for file, some in groupby(batch.column("file").to_pylist()):
        end = start + len(list(some))
        yield file, vectors[start:end]
        start = end


def _in_order_of_path(named: tuple[str, Any]) -> str:
    """Order by folders, as paths are: a separator is before every other letter."""
    return named[0].replace(os.sep, "\0")
