"""Look at files of a library: hash them, and embed the audio that has no row yet.

files -> keys and features, on all cores     `mulap.embedding.pipeline`
      -> rows                                `mulap.library.rows`
      -> commits of thousands, or of 30 s    `mulap.library.store`
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing

import numpy as np

from mulap.embedding.pipeline import Embedded, FileToEmbed, embed_missing
from mulap.library.rows import Batch, LibraryFile, Listener
from mulap.library.store import Store
from mulap.terminal import Progress

_WINDOWS_OF_COMMIT = 5_000
_SECONDS_OF_COMMIT = 30.0
# Each commit writes a list of all files: unless they are merged, a week's lists take gigabytes.
_COMMITS_OF_COMPACTION = 100


def embed_into(
    store: Store,
    listener: Listener,
    files: Sequence[LibraryFile],
    keys: set[str],
    note: Callable[[str, Embedded], object],
) -> int:
    """Embed the files whose audio has no row, each audio once; return how many there were.

    Control-C commits what is done.

    Args:
        store: takes the rows.
        listener: makes the points.
        files: to look at.
        keys: of the rows that are there.
        note: is called with each file and what became of it.
    """
    writer = _Writer(store, Batch(listener))

    def add(index: int, embedded: Embedded, blocks: Iterable[np.ndarray]) -> None:
        file = files[index]
        writer.batch.add(embedded.key, file.file, embedded.version, file.path, blocks)
        writer.count()

    asked = [FileToEmbed(file.path, file.key, file.version) for file in files]
    missing = embed_missing(listener.backbone, asked, keys.__contains__, add)
    with Progress("indexing", len(files)) as progress, closing(missing) as done:
        try:
            for file, embedded in zip(files, done, strict=True):
                note(file.file, embedded)
                progress.advance()
        except KeyboardInterrupt:
            writer.commit()
            raise
    writer.commit()
    return writer.num_tracks


class _Writer:
    """Commits a batch once it is large or old."""

    def __init__(self, store: Store, batch: Batch) -> None:
        self.batch, self.num_tracks = batch, 0
        self._store, self._last_time, self._num_commits = store, time.monotonic(), 0

    def count(self) -> None:
        """Count a track that was added to the batch."""
        self.num_tracks += 1
        is_old = time.monotonic() - self._last_time >= _SECONDS_OF_COMMIT
        if is_old or self.batch.num_windows >= _WINDOWS_OF_COMMIT:
            self.commit()

    def commit(self) -> None:
        """Put the batch into the tables."""
        if len(self.batch):
            self._store.add(*self.batch.tables())
            self.batch.clear()
            self._num_commits += 1
            if self._num_commits % _COMMITS_OF_COMPACTION == 0:
                self._store.optimize()
        self._last_time = time.monotonic()
