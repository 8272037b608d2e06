"""Streaming a file through a model: blocks of samples -> log-mels of a fixed number of segments.

Sums can differ in their last bits with the number of segments that pass at once, and of threads
that share them. So a file's segments are grouped by their place in that file alone, never with
another file's, and torch is kept to one thread:

    decoded blocks   |=======|=======|=====|        of any length
    segments         | 0| 1| 2| 3| 4| 5| 6|
    log-mel blocks   |-----------|--------|         SEGMENTS_AT_ONCE, the last one what is left

What comes out for a file is then the same to the bit, whatever else a run embeds, on one machine.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from mulap.audio import stream_audio
from mulap.encoders.segments import group_segments
from mulap.fast.threads import one_torch_thread
from mulap.model.features import MulapFeatureExtractor


def stream_log_mels(
    extractor: MulapFeatureExtractor, blocks: Iterable[Any]
) -> Iterator[np.ndarray]:
    """Turn consecutive blocks of one clip into log-mels, in constant memory.

    Args:
        extractor: says how to cut and what to compute.
        blocks: mono samples at the extractor's rate, each (num_samples,), of any lengths.

    Yields:
        float32 (M, F, N), M = `SEGMENTS_AT_ONCE` in all but the last.

    Raises:
        ValueError: there are no samples, or a block is not mono.
    """
    for segments in group_segments(extractor, blocks):
        with one_torch_thread():
            yield extractor.log_mel(segments)


def stream_file(
    extractor: MulapFeatureExtractor, path: str | os.PathLike[str]
) -> Iterator[np.ndarray]:
    """Yield a file's log-mels, each (M, F, N), in constant memory.

    Raises:
        AudioError: the file cannot be decoded.
    """
    return stream_log_mels(extractor, stream_audio(path, extractor.sampling_rate))
