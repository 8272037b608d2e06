"""Every segment of every track, embedded once: vectors on disk, found by the audio in a file.

    CACHE/files                          which file has which audio, see `mulap.vectors.keys`
    CACHE/<fingerprint of the encoder>/  its vectors, see `mulap.vectors.store`

Tasks share the cache: audio that is in two of them, or under two names, is embedded once; a file
whose audio changed is embedded again. A kill at any moment loses only the files in progress. Old
vectors are never removed; delete the folder of an encoder to free its space.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mulap.embedding.pipeline import Embedded, FileToEmbed, embed_missing
from mulap.encoders.encoder import Encoder
from mulap.encoders.load import making_of
from mulap.locks import hold_lock, sweep_lock
from mulap.tasks.task import TaskData
from mulap.terminal import Progress, say
from mulap.vectors.keys import KnownFiles, file_name
from mulap.vectors.store import StoredRows, VectorStore, fingerprint

LOCK_FILE = "lock"


@dataclass(frozen=True)
class TrackFeatures:
    """The vectors of a task's tracks: track i has `vectors[starts[i] : starts[i] + counts[i]]`."""

    vectors: StoredRows  # float32 (N, D), memory-mapped; it may hold rows of other tasks as well
    starts: np.ndarray  # first row of each track, int64 (n,)
    counts: np.ndarray  # number of segments of each track, int64 (n,); 0 for one that was left out
    failures: list[tuple[str, str]]  # (file, reason) of those left out, in the order of tracks


def cache_features(data: TaskData, encoder: Encoder, cache: str | Path) -> TrackFeatures:
    """Embed the tracks that are not in the cache yet, and return the vectors of all.

    A file that cannot be used is left out now, and tried again the next time.

    Raises:
        ValueError: nothing can be written, or no track can be used.
    """
    cache, making = Path(cache), making_of(encoder)
    folder = cache / fingerprint(making.metadata)
    reasons: dict[int, str] = {}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _warn_of_old_vectors(folder)
        known = KnownFiles(cache / "files")
        store = VectorStore(folder, making.embedding_size, making.metadata)
        keys = [known.key(data.audio_path(index)) for index in range(len(data))]
        if all(key in store.entries for key in keys):
            sweep_lock(folder / LOCK_FILE)  # of a run that was killed when all was done
        else:
            waiting = f"{folder}: another run is writing to it; waiting for it to end"
            with hold_lock(folder / LOCK_FILE, waiting, is_waiting=True):
                store.read_journals()  # another run may have written before the lock was ours
                keys = _embed_missing(data, encoder, store, known, reasons)
    except OSError as error:
        raise ValueError(
            f"{cache}: the cache cannot be written, {error.strerror or error}. Free some space or "
            "check its permissions, and run the same command again; finished work is kept."
        ) from error
    rows = store.rows()
    starts, counts = np.zeros((2, len(data)), np.int64)
    for index, key in enumerate(keys):
        if index not in reasons and key:
            entry = store.entries[key]
            starts[index], counts[index] = rows.start_of(entry), entry.num_rows
    failures = [(file_name(data.audio_path(index)), reasons[index]) for index in sorted(reasons)]
    if not counts.any():
        file, reason = failures[0] if failures else (str(data.root), "there are no tracks")
        raise ValueError(f"no track of {data.task.name} can be used. The first: {file}: {reason}")
    return TrackFeatures(rows, starts, counts, failures)


def _embed_missing(
    data: TaskData, encoder: Encoder, store: VectorStore, known: KnownFiles, reasons: dict[int, str]
) -> list[str]:
    """Embed the audio that is not in the store; return each track's key, and fill in `reasons`."""
    paths = [data.audio_path(index) for index in range(len(data))]
    files = [FileToEmbed(path, known.key(path), known.version(path)) for path in paths]
    keys = []
    with store.writer() as writer, Progress("embedding", len(files), "tracks") as progress:

        def add(index: int, embedded: Embedded, blocks: Iterable[np.ndarray]) -> None:
            store.add(writer.add(embedded.key, blocks))

        # Closed first, so that no process is at work any more when the writer is.
        with closing(embed_missing(encoder, files, store.entries.__contains__, add)) as done:
            for index, (file, embedded) in enumerate(zip(files, done, strict=True)):
                keys.append(embedded.key)
                is_new = (embedded.key, embedded.version) != (file.key, file.version)
                if embedded.key and is_new:
                    known.add(file.path, embedded.version, embedded.key)
                if embedded.reason:
                    reasons[index] = embedded.reason
                progress.advance()
    return keys


def _warn_of_old_vectors(folder: Path) -> None:
    """Say that vectors of mulap 0.1 are of no use any more, and how to free their space."""
    old = folder / "vectors.f32"
    if old.exists():
        say(
            f"{folder}: embeddings by mulap 0.1 are not used any more. Delete vectors.f32, "
            f"index.jsonl and encoder.json there to free {old.stat().st_size >> 20:,} MiB."
        )
