"""The rows of finished files while a run goes on: a few long files that are only ever appended to.

    OUT.parts/host-1-3fa9c1.arrow     rows of many files, as an Arrow stream; one writer's own
    OUT.parts/host-1-3fa9c1.jsonl     its journal: a line a finished file says where its rows are

A file is finished once its line is in the journal, and its rows are there before. What stands
behind the last line was cut short, and counts for nothing. So a killed writer loses only the file
that it was at. After a power cut, what was appended since the last `sync` may be missing or torn:
the journal says up to where all is safe, and what stands behind is read and compared with its
checksum before it counts. No two writers share a file, so they may be processes of many machines.

This module knows no model, no audio, and not what becomes of the rows.
"""

import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mulap.files import errors_name
from mulap.inference.tables import row_batch

# Of one file, some at a time: where its segments start, in seconds (M,), and its vectors (M, D).
Rows = Iterable[tuple[np.ndarray, np.ndarray]]

SYNC_SECONDS = 30.0  # what a power cut may cost
PART_BYTES = 2**30  # then the next part begins, so that parts can go one by one when rows move on
_JOURNAL = ".jsonl"


class Entry(NamedTuple):
    """Where the rows of one finished file are.

    Attributes:
        file: its name.
        version: of the file that they were made of, see `file_version`.
        num_rows: how many.
        part: name of the part, without its folder.
        offset: of the first row's message, in bytes.
        num_bytes: up to the end of the last one's.
        checksum: CRC-32 of the messages.
    """

    file: str
    version: str
    num_rows: int
    part: str
    offset: int
    num_bytes: int
    checksum: int


class PartWriter:
    """Appends files' rows to parts of its own. One thread at a time.

    Args:
        folder: of the parts.
        schema: of the rows.
    """

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.folder = folder
        self.schema = schema
        self._part: _OpenPart | None = None

    def add(self, file: str, version: str, rows: Rows) -> Entry:
        """Append a file's rows: whole once this returns, and none of them if it fails.

        Args:
            file: its name.
            version: from `file_version`, before it was read.
            rows: all of the file's, in order. What it raises is passed on.
        """
        if self._part is not None and self._part.num_bytes >= PART_BYTES:
            self.close()
        with errors_name(self.folder):
            if self._part is None:
                self._part = _OpenPart(self.folder, self.schema)
            return self._part.add(file, version, file_batches(self.schema, file, version, rows))

    def sync(self) -> None:
        """Bring all that was added to the disk, so that not even a power cut loses it."""
        if self._part is not None:
            with errors_name(self.folder):
                self._part.sync()

    def close(self) -> None:
        """Bring all to the disk and let go of the part; the next file begins another one."""
        part, self._part = self._part, None  # also where it fails: a second time would, too
        if part is not None:
            with errors_name(self.folder):
                part.close()


class _OpenPart:
    """A part that is being written."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}.arrow"
        # Without a buffer: what a kill leaves is all that was written.
        self._data = open(folder / self.name, "xb", buffering=0)
        self._journal = open(_journal_of(folder / self.name), "xb", buffering=0)
        self.num_bytes = 0
        self._append(schema.serialize())
        self._last_sync = time.monotonic()

    def add(self, file: str, version: str, batches: Iterable[pa.RecordBatch]) -> Entry:
        start, num_rows, checksum = self.num_bytes, 0, 0
        try:
            for batch in batches:
                message = batch.serialize()
                self._append(message)
                num_rows += len(batch)
                checksum = _checksum(pa.ipc.read_message(message), checksum)
        except BaseException:
            self._data.truncate(start)
            self._data.seek(start)
            self.num_bytes = start
            raise
        entry = Entry(file, version, num_rows, self.name, start, self.num_bytes - start, checksum)
        self._note(entry._asdict())
        if time.monotonic() - self._last_sync >= SYNC_SECONDS:
            self.sync()
        return entry

    def sync(self) -> None:
        os.fsync(self._data.fileno())
        self._note({"synced": self.num_bytes})
        os.fsync(self._journal.fileno())
        self._last_sync = time.monotonic()

    def close(self) -> None:
        try:
            self.sync()
        finally:
            self._data.close()
            self._journal.close()

    def _append(self, data: pa.Buffer) -> None:
        _write_whole(self._data, memoryview(data))
        self.num_bytes += data.size

    def _note(self, line: dict[str, Any]) -> None:
        start = self._journal.tell()
        try:
            _write_whole(self._journal, memoryview(json.dumps(line).encode() + b"\n"))
        except OSError:  # a full disk: half a line would spoil the next one
            self._journal.truncate(start)
            self._journal.seek(start)
            raise


def _write_whole(out: Any, data: memoryview) -> None:
    while data:
        data = data[out.write(data) :]


def file_batches(
    schema: pa.Schema, file: str, version: str, rows: Rows
) -> Iterator[pa.RecordBatch]:
    """Make the rows of one file into record batches.

    Args:
        schema: from `row_schema`.
        file: its name.
        version: from `file_version`.
        rows: all of the file's, in order.
    """
    num_rows = 0
    for start_seconds, embeddings in rows:
        index = np.arange(num_rows, num_rows + len(embeddings), dtype=np.int32)
        columns = {"segment_index": index, "start_seconds": start_seconds}
        yield row_batch(schema, columns | {"file": file, "file_version": version}, embeddings)
        num_rows += len(embeddings)


def read_rows(folder: Path, entry: Entry) -> Iterator[pa.RecordBatch]:
    """Read the rows of a finished file, a few at a time.

    Raises:
        ValueError: they are not what was written.
    """
    checksum, num_rows = 0, 0
    try:
        with pa.OSFile(os.fspath(folder / entry.part)) as source:
            schema = pa.ipc.read_schema(source)
            source.seek(entry.offset)
            while source.tell() < entry.offset + entry.num_bytes:
                message = pa.ipc.read_message(source)
                checksum = _checksum(message, checksum)
                batch = pa.ipc.read_record_batch(message, schema)
                num_rows += len(batch)
                yield batch
    except (pa.ArrowException, OSError, EOFError) as error:
        raise _damaged(folder, entry) from error
    if (checksum, num_rows) != (entry.checksum, entry.num_rows):
        raise _damaged(folder, entry)


def read_journals(folder: Path, schema: pa.Schema | None) -> Iterator[Entry]:
    """Yield what stopped runs finished; of a file that is in several parts, the newest last.

    Args:
        folder: of the parts; it may be missing.
        schema: only rows of the same making, see `is_same_making`; None takes any.
    """
    journals = folder.glob(f"*{_JOURNAL}")
    for journal in sorted(journals, key=lambda path: (path.stat().st_mtime_ns, path)):
        part = journal.with_suffix(".arrow")
        if schema is None or is_same_making(_part_schema(part), schema):
            entries, num_safe_bytes = _read_journal(journal)
            for entry in entries:
                if entry.offset + entry.num_bytes <= num_safe_bytes or _is_whole(folder, entry):
                    yield entry


def is_same_making(one: pa.Schema | None, other: pa.Schema) -> bool:
    """Whether two tables were made by the same model with the same settings, whatever its name."""
    return one is not None and _making(one) == _making(other)


def remove_part(folder: Path, part: str) -> None:
    """Remove a part; its journal first, since that is what promises rows."""
    _journal_of(folder / part).unlink(missing_ok=True)
    (folder / part).unlink(missing_ok=True)


def _making(schema: pa.Schema) -> dict[str, Any]:
    text = (schema.metadata or {}).get(b"mulap", b"{}")
    return {**json.loads(text), "model": None}


def _journal_of(part: Path) -> Path:
    return part.with_suffix(_JOURNAL)


def _part_schema(part: Path) -> pa.Schema | None:
    """Return a part's schema; None where a kill came before it was there."""
    try:
        with pa.OSFile(os.fspath(part)) as source:
            return pa.ipc.read_schema(source)
    except (pa.ArrowException, OSError, EOFError):
        return None


def _read_journal(journal: Path) -> tuple[list[Entry], int]:
    """Return the finished files of a part, and up to which byte it certainly is on the disk."""
    entries, num_safe_bytes = [], 0
    for line in journal.read_bytes().split(b"\n")[:-1]:  # what a kill cut has no end
        try:
            values = json.loads(line)
            if "synced" in values:
                num_safe_bytes = values["synced"]
            else:
                entries.append(Entry(**values))
        except (ValueError, TypeError):  # as a power cut leaves it; nothing behind it is sure
            break
    return entries, num_safe_bytes


def _is_whole(folder: Path, entry: Entry) -> bool:
    try:
        return sum(map(len, read_rows(folder, entry))) == entry.num_rows
    except ValueError:
        return False


def _checksum(message: pa.Message, before: int) -> int:
    return zlib.crc32(message.body, zlib.crc32(message.metadata, before))


def _damaged(folder: Path, entry: Entry) -> ValueError:
    return ValueError(
        f"{folder / entry.part}: the rows of {entry.file} are damaged (check the disk; remove this "
        "part and go on with --skip-existing)"
    )
