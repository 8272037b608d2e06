"""Any function of 3-second segments as an encoder, with the cuts of our own.

    file -> samples at the function's rate -> segments (M, num_samples) -> vectors (M, D)

Cuts do not overlap; a tail that fills no segment is dropped; a file shorter than one is repeated to
fill it: `MulapFeatureExtractor`'s rule at any rate, so that encoders compare segment by segment.
Segments are grouped by their place in the file alone (`stream_audio`'s blocks), so that a file's
vectors do not depend on what else a run embeds. It knows no model.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mulap.audio import stream_audio
from mulap.inference.embedder import Level, Rows, to_rows
from mulap.model.features import MulapFeatureExtractor


@dataclass(frozen=True)
class SegmentEncoder:
    """A function of segments, made an `Encoder`.

    Attributes:
        name: what the rows are said to be made by.
        embedding_size: length D of a vector.
        cutter: cuts audio at its sampling rate; nothing else of it is used.
        embed_segments: float32 (M, num_samples) -> float32 (M, D), each row of its own segment.
        making: whatever decides the vectors besides the cuts, as JSON.
    """

    name: str
    embedding_size: int
    cutter: MulapFeatureExtractor
    embed_segments: Callable[[np.ndarray], np.ndarray]
    making: dict[str, Any]

    @property
    def stride_seconds(self) -> float:
        """Distance between the starts of two segments."""
        return self.cutter.stride_samples / self.cutter.sampling_rate

    def describe(self, level: Level = "segment") -> dict[str, Any]:
        """Return what makes the vectors; `model` is the name, and decides nothing."""
        cuts = {
            "sampling_rate": self.cutter.sampling_rate,
            "segment_seconds": self.cutter.segment_seconds,
        }
        return {"model": self.name, **self.making, "cuts": cuts, "level": level}

    def stream_file(self, path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
        """Yield a file's segments, each (M, num_samples), in constant memory."""
        return self.cutter.stream_segments(stream_audio(path, self.cutter.sampling_rate))

    def stream_rows(self, inputs: Iterable[np.ndarray], level: Level = "segment") -> Rows:
        """Embed the consecutive segments of one file, in constant memory.

        Args:
            inputs: from `stream_file`.
            level: `segment` for a row each, `track` for one row in all.

        Returns:
            See `to_rows`.
        """
        return to_rows(map(self.embed_segments, inputs), self.stride_seconds, level)
