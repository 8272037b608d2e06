"""Streaming: blocks never depend on how the samples came."""

import numpy as np
import pytest

from mulap.encoders.segments import SEGMENTS_AT_ONCE
from mulap.encoders.stream import stream_log_mels
from mulap.model.features import MulapFeatureExtractor


@pytest.mark.parametrize("variant", ["port", "original"])
def test_log_mels_are_the_same_to_the_bit_however_the_samples_come(variant):
    extractor = MulapFeatureExtractor(variant, segment_seconds=0.25)
    waveform = np.random.default_rng(0).normal(size=16_000 * 6).astype(np.float32)
    whole = list(stream_log_mels(extractor, [waveform]))
    pieces = list(stream_log_mels(extractor, np.array_split(waveform, 41)))
    assert [len(block) for block in whole[:-1]] == [SEGMENTS_AT_ONCE] * (len(whole) - 1)
    assert len(whole) == len(pieces) == 3
    for ours, theirs in zip(whole, pieces, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    expected = extractor.log_mel(extractor.segment(waveform))
    np.testing.assert_allclose(np.concatenate(whole), expected, rtol=1e-4, atol=1e-4)


def test_no_samples_are_refused():
    with pytest.raises(ValueError, match="empty"):
        list(stream_log_mels(MulapFeatureExtractor(), []))
