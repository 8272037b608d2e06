"""Every segment of every file, embedded once: vectors on disk, found by the audio in a file.

    CACHE/files                          which file has which audio, see `mulap.vectors.keys`
    CACHE/<fingerprint of the encoder>/  its vectors, see `mulap.vectors.store`

Audio that is there twice, or under two names, is embedded once; a file whose audio changed is
embedded again. A kill at any moment loses only the files in progress. Old vectors are never
removed; delete the folder of an encoder to free its space.
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mulap.embedding.pipeline import Embedded, FileToEmbed, embed_missing
from mulap.encoders.encoder import Encoder
from mulap.encoders.load import making_of
from mulap.locks import hold_lock, sweep_lock
from mulap.terminal import Progress, say
from mulap.vectors.keys import KnownFiles
from mulap.vectors.store import StoredRows, VectorStore, fingerprint

LOCK_FILE = "lock"


@dataclass(frozen=True)
class CachedVectors:
    """The vectors of n files: file i has `vectors[starts[i] : starts[i] + counts[i]]`."""

    vectors: StoredRows  # float32 (N, D), memory-mapped; it may hold rows of other files as well
    starts: np.ndarray  # first row of each file, int64 (n,)
    counts: np.ndarray  # number of segments of each file, int64 (n,); 0 for one that was left out
    reasons: dict[int, str]  # why files were left out, by their place


def cache_vectors(paths: Sequence[Path], encoder: Encoder, cache: str | Path) -> CachedVectors:
    """Embed the files that are not in the cache yet, and return the vectors of all.

    A file that cannot be used is left out now, and tried again the next time. Several processes
    may call this at once: one embeds, the others wait.

    Raises:
        ValueError: nothing can be written.
    """
    cache, making = Path(cache), making_of(encoder)
    folder = cache / fingerprint(making.metadata)
    reasons: dict[int, str] = {}
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _warn_of_old_vectors(folder)
        known = KnownFiles(cache / "files")
        store = VectorStore(folder, making.embedding_size, making.metadata)
        keys = [known.key(path) for path in paths]
        if all(key in store.entries for key in keys):
            sweep_lock(folder / LOCK_FILE)  # of a run that was killed when all was done
        else:
            waiting = f"{folder}: another run is writing to it; waiting for it to end"
            with hold_lock(folder / LOCK_FILE, waiting, is_waiting=True):
                store.read_journals()  # another run may have written before the lock was ours
                keys = _embed_missing(paths, encoder, store, known, reasons)
    except OSError as error:
        raise ValueError(
            f"{cache}: the cache cannot be written, {error.strerror or error}. Free some space or "
            "check its permissions, and run the same command again; finished work is kept."
        ) from error
    rows = store.rows()
    starts, counts = np.zeros((2, len(paths)), np.int64)
    for index, key in enumerate(keys):
        if index not in reasons and key:
            entry = store.entries[key]
            starts[index], counts[index] = rows.start_of(entry), entry.num_rows
    return CachedVectors(rows, starts, counts, reasons)


def _embed_missing(
    paths: Sequence[Path],
    encoder: Encoder,
    store: VectorStore,
    known: KnownFiles,
    reasons: dict[int, str],
) -> list[str]:
    """Embed the audio that is not in the store; return each file's key, and fill in `reasons`."""
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
