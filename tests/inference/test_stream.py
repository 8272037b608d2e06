"""Streaming: blocks never depend on how the samples came, and a thread reads ahead but not far."""

import threading
import time

import numpy as np
import pytest

from mulap.inference.stream import SEGMENTS_AT_ONCE, read_ahead, stream_log_mels
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


def test_reading_ahead_keeps_the_order_in_another_thread():
    threads = set()

    def numbers():
        for number in range(50):
            threads.add(threading.get_ident())
            yield number

    assert list(read_ahead(numbers())) == list(range(50))
    assert threads.isdisjoint({threading.get_ident()})


def test_reading_ahead_is_bounded():
    made = []

    def numbers():
        for number in range(100):
            made.append(number)
            yield number

    reader = read_ahead(numbers(), num_ahead=3)
    assert next(reader) == 0
    time.sleep(0.1)
    assert len(made) <= 4
    reader.close()
    assert len(made) <= 5


def test_an_error_of_the_thread_reaches_the_reader_after_what_came_before():
    def numbers():
        yield 1
        raise OSError("disk gone")

    reader = read_ahead(numbers())
    assert next(reader) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(reader)
