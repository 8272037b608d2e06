"""Crops and segments of tracks: inside the file, keyed, counted as they are cut."""

import numpy as np
import pytest
import soundfile as sf
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import RATE
from toy_task import write_tone

from mulap.audio import stream_audio
from mulap.model.features import MulapFeatureExtractor
from mulap.training import tracks
from mulap.training.tracks import (
    CropDataset,
    choose_start,
    count_cache_bytes,
    count_segments,
    crop_samples,
    read_tracks,
)


@settings(derandomize=True, max_examples=200)
@given(num_samples=st.integers(1, 200_000), length=st.integers(1, 60_000), seed=st.integers(0, 99))
def test_a_crop_lies_inside_the_file_or_starts_a_shorter_one_E40(num_samples, length, seed):
    start = choose_start(num_samples, length, np.random.default_rng(seed))
    assert start >= 0
    assert start + length <= num_samples or (start == 0 and num_samples < length)


def test_crops_reach_both_ends_of_a_file_E40():
    starts = {choose_start(12, 10, np.random.default_rng(seed)) for seed in range(50)}
    assert starts == {0, 1, 2}


@settings(derandomize=True, max_examples=30)
@given(num_samples=st.integers(1, 250_000), variant=st.sampled_from(["port", "original"]))
def test_segments_are_counted_as_they_are_cut(num_samples, variant):
    extractor = MulapFeatureExtractor(variant=variant)
    waveform = np.zeros(num_samples, np.float32)
    assert count_segments(extractor, num_samples) == len(extractor.segment(waveform))


@pytest.mark.parametrize("variant", ["port", "original"])
@pytest.mark.parametrize("seconds", [0.5, 3.0, 3.001, 10.0])
def test_a_crop_is_one_whole_segment_of_the_file_and_keyed_by_seed_epoch_and_index(
    tmp_path, variant, seconds
):
    write_tone(tmp_path / "a.wav", 0, True, True, seconds)
    extractor = MulapFeatureExtractor(variant=variant)
    audio, failures = read_tracks(extractor, [tmp_path / "a.wav"], keep=False)
    assert not failures
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
    audio, _ = read_tracks(MulapFeatureExtractor(), [tmp_path / "a.wav"], keep)
    everything = audio.read_segments(0)
    assert len(everything) == 5
    for count, expected in ((1, [2]), (2, [1, 2]), (3, [1, 2, 3]), (9, range(5))):
        np.testing.assert_allclose(audio.read_segments(0, count), everything[expected], atol=1e-3)


def test_known_lengths_spare_the_decoding_until_the_file_changes(tmp_path, monkeypatch):
    paths = [tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "missing.wav"]
    for path in paths[:2]:
        write_tone(path, 0, True, True, 4.0)
    extractor = MulapFeatureExtractor()
    lengths = tmp_path / "lengths.json"
    read_tracks(extractor, paths, keep=False, lengths=lengths)
    write_tone(paths[1], 0, True, True, 5.0)
    decoded = []

    def watch(path, *args):
        decoded.append(path)
        return stream_audio(path, *args)

    monkeypatch.setattr(tracks, "stream_audio", watch)
    audio, failures = read_tracks(extractor, paths, keep=False, lengths=lengths)
    assert decoded == paths[1:]
    assert audio.num_samples.tolist() == [4 * RATE, 5 * RATE, 0]
    assert [path for path, _ in failures] == [paths[2]]


def test_lengths_known_before_an_interruption_are_not_lost(tmp_path, monkeypatch):
    paths = [tmp_path / f"{index}.wav" for index in range(5)]
    for path in paths:
        write_tone(path, 0, True, True, 0.5)
    extractor, lengths = MulapFeatureExtractor(), tmp_path / "lengths.json"
    monkeypatch.setattr(tracks, "_SAVE_EVERY_TRACKS", 2)
    decoded, stop_at = [], paths[4]

    def watch(path, *args):
        if path == stop_at:
            raise KeyboardInterrupt
        decoded.append(path)
        return stream_audio(path, *args)

    monkeypatch.setattr(tracks, "stream_audio", watch)
    for _ in range(2):  # the second time, what was known must not be forgotten
        with pytest.raises(KeyboardInterrupt):
            read_tracks(extractor, paths, keep=False, lengths=lengths)
        assert decoded == paths[:4]
    stop_at = None
    read_tracks(extractor, paths, keep=False, lengths=lengths)
    assert decoded == paths


def test_the_cache_is_as_large_as_the_headers_say(tmp_path):
    paths = [tmp_path / f"{seconds}.wav" for seconds in (0.5, 3.0, 10.0)]
    for path in paths:
        write_tone(path, 0, True, True, float(path.stem))
    for variant in ("port", "original"):
        extractor = MulapFeatureExtractor(variant=variant)
        audio, _ = read_tracks(extractor, paths, keep=True)
        expected = sum(log_mel.nbytes for log_mel in audio.log_mels)
        assert count_cache_bytes(extractor, [*paths, tmp_path / "missing.wav"]) == expected
