"""The features of a frozen backbone, computed once for a run: RUN/features, see `inference.cache`.

An epoch then reads 6 KB a segment and runs no convolution. Crops are whole segments of a track.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mulap.audio import AudioError
from mulap.data.clips import Clip, Stored
from mulap.data.dataset import ClipDataset
from mulap.embedding.cache import LOCK_FILE, CachedVectors, cache_vectors
from mulap.encoders.embedder import Embedder
from mulap.encoders.load import making_of
from mulap.locks import hold_lock
from mulap.terminal import Progress
from mulap.training.pretrain.settings import PretrainSettings
from mulap.vectors.store import VectorStore, fingerprint

FEATURES_FOLDER = "features"


def features_folder(settings: PretrainSettings, run: Path) -> Path:
    """Return where a run keeps the features of its frozen backbone."""
    return Path(settings.data.features_folder or run / FEATURES_FOLDER)


def use_cached_features(
    dataset: ClipDataset, embedder: Embedder, folder: Path
) -> list[tuple[Clip, str]]:
    """Let a data set give features in place of log-mels; leave out what cannot be embedded.

    Args:
        dataset: changed in place.
        embedder: of the frozen backbone.
        folder: of the features, made if it is missing.

    Returns:
        The clips left out, each with its reason.

    Raises:
        ValueError: the folder cannot be written, or a segment depends on its neighbours.
    """
    dataset.reader.check_random_segments("model.freeze")
    clips = list(dataset.clips)
    if clips and clips[0].stored:
        cached = _embed_stored([clip.stored for clip in clips if clip.stored], embedder, folder)
    else:
        cached = cache_vectors([clip.audio_path for clip in clips], embedder, folder)
    failures = [
        (clips[place], str(AudioError(clips[place].audio_path, reason)))
        for place, reason in sorted(cached.reasons.items())
    ]
    dataset.use_features(cached.vectors, cached.starts, cached.counts)
    return failures


def _embed_stored(stored: Sequence[Stored], embedder: Embedder, cache: Path) -> CachedVectors:
    """As `cache_vectors`, for the log-mels or samples of prepared clips."""
    making = making_of(embedder)
    folder = cache / fingerprint(making.metadata)
    store = VectorStore(folder, making.embedding_size, making.metadata)
    with (
        hold_lock(folder / LOCK_FILE, f"{folder}: another process is embedding", is_waiting=True),
        store.writer() as writer,
        embedder.block_mapper() as map_blocks,
        Progress("embedding", len(stored), "tracks") as progress,
    ):
        store.read_journals()
        for track in stored:
            if track.key not in store.entries:
                rows = embedder.stream_rows(_log_mels(track, embedder), "segment", map_blocks)
                store.add(writer.add(track.key, (vectors for _, vectors in rows)))
            progress.advance()
    rows = store.rows()
    entries = [store.entries[track.key] for track in stored]
    starts = np.array([rows.start_of(entry) for entry in entries], np.int64)
    return CachedVectors(rows, starts, np.array([entry.num_rows for entry in entries]), {})


def _log_mels(track: Stored, embedder: Embedder) -> Iterator[np.ndarray]:
    if track.recipe.store == "log-mel":
        return iter([track.log_mels(slice(None))])
    return embedder.stream_blocks([track.waveform(0.0, track.duration_seconds)])
