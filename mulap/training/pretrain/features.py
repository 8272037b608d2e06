"""The features of a frozen backbone, computed once for a run: RUN/features, see `inference.cache`.

An epoch then reads 6 KB a segment and runs no convolution. Crops are whole segments of a track.
With `data.gain_db` each training clip is embedded a second time, made louder or softer.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mulap.audio import AudioError
from mulap.data.clips import Clip, Stored
from mulap.data.dataset import ClipDataset, Features
from mulap.embedding.cache import LOCK_FILE, CachedVectors, cache_vectors
from mulap.encoders.embedder import Embedder
from mulap.encoders.encoder import Level
from mulap.encoders.load import making_of
from mulap.locks import hold_lock
from mulap.objectives.masking import keyed_generator
from mulap.terminal import Progress
from mulap.training.pretrain.settings import PretrainSettings
from mulap.vectors.store import VectorStore, fingerprint

FEATURES_FOLDER = "features"
LEVELS = (
    -1.0,
    -0.5,
    0.5,
    1.0,
)  # times `data.gain_db`: the second levels, a quarter of the clips each


class AmplifiedEmbedder(Embedder):
    """An embedder of audio that is first made louder, by `gain_db`."""

    gain_db: float

    @classmethod
    def of(cls, embedder: Embedder, gain_db: float) -> "AmplifiedEmbedder":
        """Return one with the backbone of another, which stays as it is."""
        amplified = cls.__new__(cls)
        vars(amplified).update(vars(embedder), gain_db=gain_db)
        return amplified

    def describe(self, level: Level = "segment") -> dict[str, Any]:
        """See `Embedder.describe`."""
        return {**super().describe(level), "gain_db": self.gain_db}

    def stream_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield the log-mels of a clip that is made louder, each (M, F, N)."""
        gain = np.float32(10.0 ** (self.gain_db / 20.0))
        return super().stream_blocks(block * gain for block in blocks)


def features_folder(settings: PretrainSettings, run: Path) -> Path:
    """Return where a run keeps the features of its frozen backbone."""
    return Path(settings.data.features_folder or run / FEATURES_FOLDER)


def use_cached_features(
    dataset: ClipDataset, embedder: Embedder, folder: Path, gain_db: float = 0.0
) -> list[tuple[Clip, str]]:
    """Let a data set give features in place of log-mels; leave out what cannot be embedded.

    Args:
        dataset: changed in place.
        embedder: of the frozen backbone.
        folder: of the features, made if it is missing.
        gain_db: each clip is embedded at a second level, too, by one of `LEVELS`.

    Returns:
        The clips left out, each with its reason.

    Raises:
        ValueError: the folder cannot be written, or a segment depends on its neighbours.
    """
    dataset.reader.check_random_segments("model.freeze")
    clips = list(dataset.clips)
    features, reasons = _embed(clips, range(len(clips)), embedder, folder)
    amplified = []
    for number, level in enumerate(LEVELS if gain_db else ()):
        places = [place for place in range(len(clips)) if _level_of(dataset.seed, place) == number]
        louder = AmplifiedEmbedder.of(embedder, gain_db * level)
        at_level, failed = _embed(clips, places, louder, folder)
        features.counts[list(failed)] = 0
        amplified.append(at_level)
        reasons |= failed
    dataset.use_features(features, amplified)
    return [
        (clips[place], str(AudioError(clips[place].audio_path, reason)))
        for place, reason in sorted(reasons.items())
    ]


def _level_of(seed: int, place: int) -> int:
    return int(keyed_generator(seed, 0, place, "gain").integers(len(LEVELS)))


def _embed(
    clips: Sequence[Clip], places: Sequence[int], embedder: Embedder, folder: Path
) -> tuple[Features, dict[int, str]]:
    """Embed the clips at some places: features of all clips, and why some have none."""
    chosen = [clips[place] for place in places]
    if chosen and chosen[0].stored:
        cached = _embed_stored([clip.stored for clip in chosen if clip.stored], embedder, folder)
    else:
        cached = cache_vectors([clip.audio_path for clip in chosen], embedder, folder)
    starts, counts = np.zeros((2, len(clips)), np.int64)
    starts[list(places)], counts[list(places)] = cached.starts, cached.counts
    reasons = {places[number]: reason for number, reason in cached.reasons.items()}
    return Features(cached.vectors, starts, counts), reasons


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
        log_mels = track.log_mels(slice(None))
        if isinstance(embedder, AmplifiedEmbedder):
            log_mels = embedder.feature_extractor.amplify(log_mels, embedder.gain_db)
        return iter([log_mels])
    return embedder.stream_blocks([track.waveform(0.0, track.duration_seconds)])
