"""Vectors on disk by key: a few long files that are only ever appended to.

    FOLDER/making.json              what makes the vectors, to be read by people
    FOLDER/host-1-3fa9c1.f32        float32 rows of length D; one writer's own
    FOLDER/host-1-3fa9c1.journal    its journal: what makes the rows, then where each key's rows are

A key is in the store once its line is in a journal, and its rows are there before that. Rows behind
the last line were cut short, and are not read. So a killed writer loses only the key that it was
at. After a power cut, lines appended since the last `sync` may be missing or damaged: the
journal says up to which row all is safe, and rows behind it are compared with their checksum before
they count. Each line has a checksum, too; a damaged line costs its key and no other.

No two writers share a file, so they may be processes of many machines, and nothing is ever cut
from a file that another writer left.
"""

import hashlib
import json
import os
import socket
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mulap.files import atomic_path, errors_name
from mulap.vectors.journal import Journal, read_journal, write_whole

SYNC_SECONDS = 30.0  # what a power cut may cost
PART_BYTES = 2**30  # then the next part begins, so that parts can go one by one when rows move on
MAKING_FILE = "making.json"
_JOURNAL, _ROWS = ".journal", ".f32"
_BLOCK_BYTES = 2**22  # that are read at a time


class Entry(NamedTuple):
    """Where the vectors of one key are."""

    key: str  # of the audio, see `mulap.vectors.keys`
    part: str  # name of the part, without folder and suffix
    start_row: int  # its first row there
    num_rows: int  # how many
    checksum: int  # CRC-32 of the rows' bytes


def fingerprint(making: Mapping[str, Any]) -> str:
    """Return the SHA-256 of what makes vectors, apart from its name (`model`)."""
    decisive = {key: value for key, value in making.items() if key != "model"}
    text = json.dumps(decisive, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


class VectorStore:
    """The vectors of one encoder, by key.

    Args:
        folder: made if it is missing.
        size: length D of a vector.
        making: what makes the vectors, as JSON; `model` in it is a name, and decides nothing.
        compares_all: compare all rows with their checksums, so that damage costs a key and no more;
            it reads them all. Otherwise only those that a power cut may have damaged.

    Attributes:
        entries: key -> where its rows are.
    """

    def __init__(
        self, folder: Path, size: int, making: Mapping[str, Any], compares_all: bool = False
    ) -> None:
        self.folder, self.size, self.fingerprint = folder, size, fingerprint(making)
        self.compares_all = compares_all
        self.entries: dict[str, Entry] = {}
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / MAKING_FILE).exists():
            with atomic_path(folder / MAKING_FILE) as temporary:
                temporary.write_text(json.dumps(making, indent=2) + "\n", encoding="utf-8")
        self.read_journals()

    def read_journals(self) -> None:
        """Take in what other writers have added; of a key that is there twice, the newest.

        Vectors of another making, or of an unknown one (a damaged journal), do not count.
        """
        for journal in _list_journals(self.folder):
            making, entries, num_safe_rows = _read_part(journal)
            for entry in entries if making == self.fingerprint else ():
                end = entry.start_row + entry.num_rows
                if entry == self.entries.get(entry.key):
                    continue
                is_safe = end <= num_safe_rows and not self.compares_all
                if self._has_rows(entry) and (is_safe or self._is_whole(entry)):
                    self.entries[entry.key] = entry

    def writer(self) -> "VectorWriter":
        """Return a writer with parts of its own; any number may be at work."""
        return VectorWriter(self.folder, self.size, self.fingerprint)

    def add(self, entry: Entry) -> None:
        """Count a key that a writer, perhaps of another process, has added."""
        self.entries[entry.key] = entry

    def read(self, key: str) -> Iterator[np.ndarray]:
        """Yield the vectors of a key, some rows at a time, each float32 (M, D); see `read_rows`."""
        return read_rows(self.folder, self.size, self.entries[key])

    def rows(self) -> "StoredRows":
        """Return all rows of all parts, to be read by number."""
        return StoredRows(self.folder, self.size, self.entries.values())

    def _has_rows(self, entry: Entry) -> bool:
        try:
            num_bytes = (self.folder / f"{entry.part}{_ROWS}").stat().st_size
        except FileNotFoundError:
            return False
        return num_bytes >= (entry.start_row + entry.num_rows) * self.size * 4

    def _is_whole(self, entry: Entry) -> bool:
        try:
            return sum(map(len, read_rows(self.folder, self.size, entry))) == entry.num_rows
        except ValueError:
            return False


class VectorWriter:
    """Appends vectors of length `size` to parts of its own. One thread at a time."""

    def __init__(self, folder: Path, size: int, making: str) -> None:
        self.folder, self.size, self.making = folder, size, making
        self._part: _OpenPart | None = None

    def add(self, key: str, blocks: Iterable[np.ndarray]) -> Entry:
        """Append the vectors of a key, blocks of float32 (M, D); what they raise is passed on.

        They are whole once this returns, and none of them is there if it fails.
        """
        if self._part is not None and self._part.num_rows * self.size * 4 >= PART_BYTES:
            self.close()
        with errors_name(self.folder):
            if self._part is None:
                self._part = _OpenPart(self.folder, self.size, self.making)
            return self._part.add(key, blocks)

    def sync(self) -> None:
        """Bring all that was added to the disk, so that not even a power cut loses it."""
        if self._part is not None:
            with errors_name(self.folder):
                self._part.sync()

    def close(self) -> None:
        """Bring all to the disk and let go of the part; the next key begins another one."""
        part, self._part = self._part, None  # also where it fails: a second time would, too
        if part is not None:
            with errors_name(self.folder):
                part.close()

    def __enter__(self) -> "VectorWriter":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _OpenPart:
    """A part that is being written."""

    def __init__(self, folder: Path, size: int, making: str) -> None:
        self.size = size
        self.name = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:12]}"
        # Without a buffer: what a kill leaves is all that was written.
        self._data = open(folder / f"{self.name}{_ROWS}", "xb", buffering=0)
        self._journal = Journal(folder / f"{self.name}{_JOURNAL}")
        self._journal.append({"making": making})
        self.num_rows = 0
        self._last_sync = time.monotonic()

    def add(self, key: str, blocks: Iterable[np.ndarray]) -> Entry:
        num_rows = checksum = 0
        try:
            for vectors in blocks:
                assert vectors.shape[1:] == (self.size,), vectors.shape
                data = np.ascontiguousarray(vectors, "<f4").tobytes()
                write_whole(self._data, memoryview(data))
                checksum = zlib.crc32(data, checksum)
                num_rows += len(vectors)
            entry = Entry(key, self.name, self.num_rows, num_rows, checksum)
            line = {name: value for name, value in entry._asdict().items() if name != "part"}
            self._journal.append(line)
        except BaseException:
            self._data.truncate(self.num_rows * self.size * 4)
            self._data.seek(0, os.SEEK_END)
            raise
        self.num_rows += num_rows
        if time.monotonic() - self._last_sync >= SYNC_SECONDS:
            self.sync()
        return entry

    def sync(self) -> None:
        os.fsync(self._data.fileno())
        self._journal.append({"synced_rows": self.num_rows})
        self._journal.sync()
        self._last_sync = time.monotonic()

    def close(self) -> None:
        try:
            self.sync()
        finally:
            self._data.close()
            self._journal.close()


class StoredRows:
    """The rows of a store's entries as one array (rows of all parts, D), memory-mapped."""

    def __init__(self, folder: Path, size: int, entries: Iterable[Entry]) -> None:
        num_rows: dict[str, int] = {}
        for entry in entries:
            end = entry.start_row + entry.num_rows
            num_rows[entry.part] = max(num_rows.get(entry.part, 0), end)
        names = sorted(name for name in num_rows if num_rows[name])
        self._parts = [
            np.memmap(folder / f"{name}{_ROWS}", "<f4", "r", shape=(num_rows[name], size))
            for name in names
        ]
        self._ends = np.cumsum([len(part) for part in self._parts], dtype=np.int64)
        lengths = [len(part) for part in self._parts]
        self._starts = dict(zip(names, self._ends - lengths, strict=True))
        self.shape = (int(self._ends[-1]) if names else 0, size)

    def __len__(self) -> int:
        return self.shape[0]

    def start_of(self, entry: Entry) -> int:
        """Return the number of an entry's first row."""
        return int(self._starts[entry.part]) + entry.start_row if entry.num_rows else 0

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by their numbers, int64 of any shape (...), as float32 (..., D)."""
        if len(self._parts) == 1:
            return self._parts[0][rows]
        part_index = np.searchsorted(self._ends, rows, "right")
        found = np.empty((*rows.shape, self.shape[1]), np.float32)
        for index in np.unique(part_index):
            is_here = part_index == index
            first = self._ends[index] - len(self._parts[index])
            found[is_here] = self._parts[index][rows[is_here] - first]
        return found


def read_rows(folder: Path, size: int, entry: Entry) -> Iterator[np.ndarray]:
    """Yield the vectors of an entry, some rows at a time, each float32 (M, D).

    ValueError if they are not what was written.
    """
    path = folder / f"{entry.part}{_ROWS}"
    rows_at_once = max(1, _BLOCK_BYTES // (size * 4))
    checksum, num_left = 0, entry.num_rows
    try:
        with open(path, "rb") as file:
            file.seek(entry.start_row * size * 4)
            while num_left:
                data = file.read(min(num_left, rows_at_once) * size * 4)
                if not data or len(data) % (size * 4):
                    break
                checksum = zlib.crc32(data, checksum)
                num_left -= len(data) // (size * 4)
                yield np.frombuffer(data, "<f4").reshape(-1, size)
    except OSError as error:
        raise _damaged(path, entry) from error
    if num_left or checksum != entry.checksum:
        raise _damaged(path, entry)


def remove_part(folder: Path, part: str) -> None:
    """Remove a part; its journal first, since the journal is what promises rows."""
    (folder / f"{part}{_JOURNAL}").unlink(missing_ok=True)
    (folder / f"{part}{_ROWS}").unlink(missing_ok=True)


def stored_makings(folder: Path) -> set[str]:
    """Return the fingerprints of what made the vectors in a store's folder; it may be missing."""
    return {making for making, *_ in map(_read_part, _list_journals(folder)) if making}


def _list_journals(folder: Path) -> list[Path]:
    """Return the journals of all parts, the newest last."""
    return sorted(folder.glob(f"*{_JOURNAL}"), key=lambda path: (path.stat().st_mtime_ns, path))


def _read_part(journal: Path) -> tuple[str, list[Entry], int]:
    """Return the making of a part, its entries, and up to which row it surely is on the disk."""
    making, entries, num_safe_rows = "", [], 0
    for values in read_journal(journal):
        if "making" in values:
            making = values["making"]
        elif "synced_rows" in values:
            num_safe_rows = values["synced_rows"]
        else:
            entries.append(Entry(part=journal.stem, **values))
    return making, entries, num_safe_rows


def _damaged(path: Path, entry: Entry) -> ValueError:
    return ValueError(
        f"{path}: the rows of {entry.key[:12]}... are damaged. Check the disk, remove this part, "
        "and run the same command again to resume."
    )
