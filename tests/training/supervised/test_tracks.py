"""Crops and segments of tracks: inside the file, keyed, counted as they are cut."""

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import RATE
from toy_task import write_tone

from mulap.data.reader import read_tracks
from mulap.model.features import MulapFeatureExtractor
from mulap.training.supervised.tracks import CropDataset, SegmentDataset, choose_start, crop_samples


@settings(derandomize=True, max_examples=200)
@given(num_samples=st.integers(1, 200_000), length=st.integers(1, 60_000), seed=st.integers(0, 99))
def test_a_crop_lies_inside_the_file_or_starts_a_shorter_one_E40(num_samples, length, seed):
    start = choose_start(num_samples, length, np.random.default_rng(seed))
    assert start >= 0
    assert start + length <= num_samples or (start == 0 and num_samples < length)


def test_crops_reach_both_ends_of_a_file_E40():
    starts = {choose_start(12, 10, np.random.default_rng(seed)) for seed in range(50)}
    assert starts == {0, 1, 2}


@pytest.mark.parametrize("variant", ["port", "original"])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 3.001, 10.0])
def test_a_crop_is_one_whole_segment_of_the_file_and_keyed_by_seed_epoch_and_index(
    tmp_path, variant, seconds
):
    write_tone(tmp_path / "a.wav", 0, True, True, seconds)
    extractor = MulapFeatureExtractor(variant=variant)
    audio = read_tracks(extractor, [tmp_path / "a.wav"])
    assert not audio.failures
    assert audio.num_samples.tolist() == [round(seconds * RATE)]
    assert crop_samples(extractor) <= 3 * RATE
    crops = {}
    for seed in (0, 1):
        dataset = CropDataset(audio, np.zeros(2, np.int64), torch.zeros(2, 1), seed)
        for epoch in range(2):
            for index in range(2):
                crop = dataset[epoch, index]["input_features"].numpy()
                assert crop.shape == (96, extractor.num_frames)
                assert np.array_equal(crop, dataset[epoch, index]["input_features"])
                crops[seed, epoch, index] = crop.tobytes()
    if seconds == 10.0:
        assert len(set(crops.values())) == 8
    if seconds == 0.5:
        short, _ = sf.read(tmp_path / "a.wav", dtype="float32")
        expected = extractor.log_mel(extractor.segment(short))[0]
        assert set(crops.values()) == {expected.tobytes()}


@pytest.mark.parametrize("keep", [False, True])
def test_kept_and_decoded_segments_are_the_same_and_may_be_a_few_from_the_middle(tmp_path, keep):
    write_tone(tmp_path / "a.wav", 0, True, True, 16.0)
    audio, first = read_tracks(MulapFeatureExtractor(), [tmp_path / "a.wav"], keep), np.array([0])
    everything = SegmentDataset(audio, first)[0]
    assert len(everything) == 5
    for count, expected in ((1, [2]), (2, [1, 2]), (3, [1, 2, 3]), (9, range(5))):
        some = SegmentDataset(audio, first, count)[0]
        np.testing.assert_allclose(some, everything[expected], atol=1e-3)
