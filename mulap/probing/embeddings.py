"""Every segment of every track of a task, embedded once: `mulap.embedding.cache`, and its failures.

Tasks share the cache: audio that is in two of them, or under two names, is embedded once.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mulap.embedding.cache import cache_vectors
from mulap.encoders.encoder import Encoder
from mulap.tasks.task import TaskData
from mulap.vectors.keys import file_name
from mulap.vectors.store import StoredRows


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
    paths = [data.audio_path(index) for index in range(len(data))]
    cached = cache_vectors(paths, encoder, cache)
    failures = [
        (file_name(paths[index]), reason) for index, reason in sorted(cached.reasons.items())
    ]
    if not cached.counts.any():
        file, reason = failures[0] if failures else (str(data.root), "there are no tracks")
        raise ValueError(f"no track of {data.task.name} can be used. The first: {file}: {reason}")
    return TrackFeatures(cached.vectors, cached.starts, cached.counts, failures)
