"""Every segment of every track, embedded once: vectors on disk, found by what was in the file.

    CACHE/files.jsonl                    path, size and time of a file -> SHA-256 of its content
    CACHE/<sha256 of the encoder>/
        encoder.json                     what makes the vectors, to be read by people
        vectors.f32                      float32 rows of length D, only ever appended to
        index.jsonl                      SHA-256 of a file -> its rows
        lock                             held by the one run that writes; gone after it

Tasks share it: a file that is in two of them, or under two names, is embedded once; one whose
content changed is embedded anew. A kill at any moment loses the files at hand, a few for each core,
and no more than a second's work before them: rows are on the disk before the index speaks of them,
and the next run cuts off what the index does not know.
Old rows are never removed; delete the folder of an encoder to be rid of them.
"""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mulap.audio import AudioError
from mulap.files import atomic_path, sha256_of
from mulap.inference.embed import FileProgress
from mulap.inference.embedder import Rows
from mulap.inference.encoders import Encoder, encoder_sha256
from mulap.inference.pipeline import map_files
from mulap.inference.store import file_name
from mulap.locks import hold_lock, sweep_lock
from mulap.tasks.task import TaskData
from mulap.terminal import Progress

LOCK_FILE = "lock"
_SECONDS_BETWEEN_SYNCS = 1.0
# A file may be written again within one tick of its clock, unseen: the younger are hashed again.
_SETTLED_NANOSECONDS = 2_000_000_000


@dataclass(frozen=True)
class TrackFeatures:
    """The vectors of a task's tracks; a track's are `vectors[starts[i] : starts[i] + counts[i]]`.

    Attributes:
        vectors: float32 (N, D), a memory map that may hold rows of other tasks as well.
        starts: first row of each track, int64 (n,).
        counts: number of segments of each track, int64 (n,); 0 for one that was left out.
        failures: (file, reason) of those left out, in the order of tracks.
    """

    vectors: np.ndarray
    starts: np.ndarray
    counts: np.ndarray
    failures: list[tuple[str, str]]


def cache_features(data: TaskData, encoder: Encoder, cache: Path) -> TrackFeatures:
    """Embed the tracks that are not in the cache yet, and return those of all.

    Args:
        data: the tracks.
        encoder: makes the vectors; nothing of it is changed.
        cache: folder, made if it is missing.

    Returns:
        The vectors. A file that cannot be used is left out now, and tried again the next time.

    Raises:
        ValueError: another run is writing, nothing can be written, or no track can be used.
    """
    folder = cache / encoder_sha256(encoder)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        files = FileHashes(cache / "files.jsonl")
        hashes, reasons = _hash_tracks(data, files)
        store = VectorStore(folder, encoder.embedding_size)
        if any(sha256 not in store.rows for sha256 in hashes.values()):
            _write_description(folder, encoder)
            with store.writer() as writer:
                reasons |= _embed_missing(data, hashes, files, encoder, writer)
        else:
            sweep_lock(folder / LOCK_FILE)  # of a run that was killed when all was done
    except OSError as error:
        raise ValueError(
            f"{cache}: the cache cannot be written, {error.strerror or error} (what is done is "
            "kept: make room or check its rights, and run again)"
        ) from error
    starts, counts = np.zeros((2, len(data)), np.int64)
    for index, sha256 in hashes.items():
        starts[index], counts[index] = store.rows.get(sha256, (0, 0))
    failures = [(file_name(data.audio_path(index)), reasons[index]) for index in sorted(reasons)]
    if not counts.any():
        file, reason = failures[0] if failures else (str(data.root), "there are no tracks")
        raise ValueError(f"{file}: {reason}, and no other track of {data.task.name} can be used")
    return TrackFeatures(store.vectors(), starts, counts, failures)


class FileHashes:
    """The SHA-256 of files, of unchanged ones without reading them again.

    Args:
        path: JSON lines of `[path, size, time of change in ns, sha256]`, the last of a path counts.
            A line that a kill tore is passed over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[int, int, str]] = {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    file, size, mtime_ns, sha256 = json.loads(line)
                except ValueError:
                    continue
                self._known[file] = (size, mtime_ns, sha256)

    def sha256(self, path: Path) -> str:
        """Return the SHA-256 of a file's bytes, and remember it.

        Raises:
            AudioError: the file cannot be read.
        """
        name = os.path.realpath(path)
        try:
            status = os.stat(name)
            version = (status.st_size, status.st_mtime_ns)
            if name in self._known and self._known[name][:2] == version:
                return self._known[name][2]
            digest = sha256_of(name)
        except OSError as error:
            raise AudioError(
                path, f"cannot be read: {error.strerror} (check it by hand)"
            ) from error
        self._known[name] = (*version, digest)
        if time.time_ns() - status.st_mtime_ns > _SETTLED_NANOSECONDS:
            with open(self.path, "ab", buffering=0) as out:  # one write: whole among other runs'
                out.write(json.dumps([name, *version, digest]).encode() + b"\n")
        return digest

    def is_current(self, path: Path) -> bool:
        """Whether a file is as it was when it was hashed, by its size and time."""
        name = os.path.realpath(path)
        try:
            status = os.stat(name)
        except OSError:  # it is gone
            return False
        # A link that points elsewhere now leads to what was never hashed.
        known = self._known.get(name)
        return known is not None and known[:2] == (status.st_size, status.st_mtime_ns)


class VectorStore:
    """One encoder's vectors on disk, as far as the index speaks of them.

    Args:
        folder: where `vectors.f32` and `index.jsonl` are; may be missing.
        size: length D of a vector.

    Attributes:
        rows: SHA-256 of a file -> its first row and number of rows.
    """

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        self.rows: dict[str, tuple[int, int]] = {}
        self._num_rows = self._num_index_bytes = 0
        self._read_index()

    def vectors(self) -> np.ndarray:
        """Return all rows, float32 (rows, D), as a read-only memory map."""
        shape = (self._num_rows, self.size)
        if not self._num_rows:
            return np.empty(shape, np.float32)
        return np.memmap(self.folder / "vectors.f32", "<f4", "r", shape=shape)

    @contextmanager
    def writer(self) -> Iterator["VectorWriter"]:
        """Be the one that writes, and cut off what a kill left unfinished.

        Raises:
            ValueError: another run is writing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        message = f"{self.folder}: another run is writing to it (wait for its end)"
        with hold_lock(self.folder / LOCK_FILE, message):
            self._read_index()  # another run may have written between the first look and the lock
            with (
                open(self.folder / "vectors.f32", "ab", buffering=0) as data,
                open(self.folder / "index.jsonl", "ab", buffering=0) as index,
            ):
                data.truncate(self._num_rows * self.size * 4)
                index.truncate(self._num_index_bytes)
                writer = VectorWriter(self, data, index)
                try:
                    yield writer
                finally:
                    writer.commit()

    def add_rows(self, sha256: str, num_rows: int) -> bytes:
        """Count rows that were written at the end; return their line of the index."""
        entry = {"sha256": sha256, "start_row": self._num_rows, "num_rows": num_rows}
        self.rows[sha256] = (self._num_rows, num_rows)
        self._num_rows += num_rows
        return json.dumps(entry).encode() + b"\n"

    def _read_index(self) -> None:
        """Read the index up to the first line that is torn, or that the data does not bear out."""
        self.rows, self._num_rows, self._num_index_bytes = {}, 0, 0
        data, index = self.folder / "vectors.f32", self.folder / "index.jsonl"
        if not (data.exists() and index.exists()):
            return
        lines = index.read_bytes().splitlines(keepends=True)
        rows_there = data.stat().st_size // (self.size * 4)  # after the index: it may be growing
        for line in lines:
            try:
                entry = json.loads(line)
                sha256, start, count = entry["sha256"], entry["start_row"], entry["num_rows"]
            except (ValueError, KeyError, TypeError, RecursionError):
                return
            is_sound = line.endswith(b"\n") and start == self._num_rows
            if not is_sound or start + count > rows_there:
                return
            self.rows[sha256] = (start, count)
            self._num_rows += count
            self._num_index_bytes += len(line)


class VectorWriter:
    """Appends vectors; from `VectorStore.writer`.

    Args:
        store: told of what is added.
        data: unbuffered, at its end.
        index: unbuffered, at its end.
    """

    def __init__(self, store: VectorStore, data: BinaryIO, index: BinaryIO) -> None:
        self.store, self._data, self._index = store, data, index
        self._pending = b""
        self._synced_at = time.monotonic()

    def add(self, sha256: str, vectors: np.ndarray) -> None:
        """Append the vectors of one file, float32 (T, D)."""
        assert vectors.shape[1] == self.store.size, vectors.shape
        _write_all(self._data, np.ascontiguousarray(vectors, "<f4").tobytes())
        self._pending += self.store.add_rows(sha256, len(vectors))
        if time.monotonic() - self._synced_at > _SECONDS_BETWEEN_SYNCS:
            self.commit()

    def commit(self) -> None:
        """Put the vectors on the disk, then the lines that speak of them."""
        if self._pending:
            os.fsync(self._data.fileno())
            pending, self._pending = self._pending, b""
            _write_all(self._index, pending)
        self._synced_at = time.monotonic()


def _write_all(file: BinaryIO, content: bytes) -> None:
    left = memoryview(content)
    while left:
        left = left[file.write(left) :]


def _write_description(folder: Path, encoder: Encoder) -> None:
    path = folder / "encoder.json"
    if not path.exists():
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(encoder.describe(), indent=2) + "\n", encoding="utf-8")


def _hash_tracks(data: TaskData, files: FileHashes) -> tuple[dict[int, str], dict[int, str]]:
    """Return the SHA-256 of each track's file, and the reason where it cannot be read."""
    hashes, reasons = {}, {}
    with Progress("hashing", len(data)) as progress:
        for index in range(len(data)):
            try:
                hashes[index] = files.sha256(data.audio_path(index))
            except AudioError as error:
                reasons[index] = error.reason
            progress.advance()
    return hashes, reasons


def _embed_missing(
    data: TaskData,
    hashes: dict[int, str],
    files: FileHashes,
    encoder: Encoder,
    writer: VectorWriter,
) -> dict[int, str]:
    """Embed each content that is not there, once; return the reason of each track that failed."""
    paths = {sha256: data.audio_path(index) for index, sha256 in reversed(hashes.items())}
    todo = [each for each in dict.fromkeys(hashes.values()) if each not in writer.store.rows]
    reasons: dict[str, str] = {}

    def embed(index: int, rows: Rows) -> np.ndarray | AudioError:
        try:
            vectors = np.concatenate([some for _, some in rows])
            if not files.is_current(paths[todo[index]]):
                raise AudioError(paths[todo[index]], "changed while it was read (run again)")
        except AudioError as error:
            return error
        return vectors

    with FileProgress("embedding", len(paths), done=len(paths) - len(todo)) as progress:
        embedded = map_files(encoder, [paths[sha256] for sha256 in todo], embed)
        for sha256, vectors in zip(todo, embedded, strict=True):
            if isinstance(vectors, AudioError):
                reasons[sha256] = vectors.reason
                progress.add(1, 0)
            else:
                writer.add(sha256, vectors)
                progress.add(1, len(vectors))
    return {index: reasons[sha256] for index, sha256 in hashes.items() if sha256 in reasons}
