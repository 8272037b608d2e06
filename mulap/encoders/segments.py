"""Any function of 3-second segments as an encoder, with the cuts of our own.

    file -> samples at the function's rate -> segments (M, num_samples) -> vectors (M, D)

Cuts do not overlap; a tail that fills no segment is dropped; a file shorter than one is repeated to
fill it: `MulapFeatureExtractor`'s rule at any rate, so that encoders compare segment by segment.
Segments are grouped by their place in the file alone (`stream_audio`'s blocks), so that a file's
vectors do not depend on what else a run embeds.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mulap.encoders.encoder import Encoder, Level
from mulap.model.cuts import Cuts

SEGMENTS_AT_ONCE = 10


def group_segments(cuts: Cuts, blocks: Iterable[Any]) -> Iterator[np.ndarray]:
    """Cut consecutive blocks of one clip into segments, in constant memory.

    Args:
        cuts: says how.
        blocks: mono samples at its rate, each (num_samples,), of any lengths.

    Yields:
        float32 (M, segment_samples), M = `SEGMENTS_AT_ONCE` in all but the last.

    Raises:
        ValueError: there are no samples, or a block is not mono.
    """
    held = np.empty((0, cuts.segment_samples), np.float32)
    for segments in cuts.stream_segments(blocks):
        held = np.concatenate([held, segments])
        num_full = len(held) // SEGMENTS_AT_ONCE * SEGMENTS_AT_ONCE
        for start in range(0, num_full, SEGMENTS_AT_ONCE):
            yield held[start : start + SEGMENTS_AT_ONCE].copy()
        held = held[num_full:].copy()
    if len(held):
        yield held


@dataclass(frozen=True)
class SegmentEncoder(Encoder):
    """A function of segments, made an encoder.

    Attributes:
        name: what tables call it.
        embedding_size: length D of a vector.
        feature_extractor: cuts audio at its sampling rate; nothing else of it is used.
        embed_segments: float32 (M, num_samples) -> float32 (M, D), each row of its own segment.
        making: whatever decides the vectors besides the cuts, as JSON.
    """

    name: str
    embedding_size: int
    feature_extractor: Cuts
    embed_segments: Callable[[np.ndarray], np.ndarray]
    making: dict[str, Any]

    def describe(self, level: Level = "segment") -> dict[str, Any]:
        """Return what makes the vectors; `model` is the name, and decides nothing."""
        cuts = {
            "sampling_rate": self.feature_extractor.sampling_rate,
            "segment_seconds": self.feature_extractor.segment_seconds,
        }
        return {"model": self.name, **self.making, "cuts": cuts, "level": level}

    def stream_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield a clip's segments, each (M, num_samples)."""
        return self.feature_extractor.stream_segments(blocks)

    def embed_input(self, some: np.ndarray) -> np.ndarray:
        """Return float32 (M, D) for segments (M, num_samples)."""
        return self.embed_segments(some)
