"""Arrays of every kind that users have, as mono clips; and those that cannot be read in one way."""

import numpy as np
import pytest
import soundfile as sf
import torch

from mulap.model.features import MulapFeatureExtractor
from mulap.model.waveforms import split_clips, to_mono

LEFT = np.sin(np.arange(1000) / 7).astype(np.float32) / 2
RIGHT = np.cos(np.arange(1000) / 11).astype(np.float32) / 3


@pytest.mark.parametrize(
    ("subtype", "dtype", "atol"),
    [("PCM_U8", "int16", 2**-7), ("PCM_16", "int16", 0), ("PCM_24", "int32", 0)],
)
def test_whole_numbers_are_scaled_as_soundfile_scales_them(tmp_path, subtype, dtype, atol):
    sf.write(tmp_path / "a.wav", LEFT, 16_000, subtype)
    floats, _ = sf.read(tmp_path / "a.wav", dtype="float32")
    whole, _ = sf.read(tmp_path / "a.wav", dtype=dtype)
    mono = to_mono(whole)
    assert mono.dtype == np.float32
    np.testing.assert_allclose(mono, floats, rtol=0, atol=atol)


@pytest.mark.parametrize(
    ("dtype", "samples", "expected"),
    [
        (np.uint8, [0, 64, 128, 192, 255], [-1, -0.5, 0, 0.5, 127 / 128]),
        (np.int8, [-128, 0, 64], [-1, 0, 0.5]),
        (np.int16, [-32768, 0, 16384], [-1, 0, 0.5]),
        (np.uint16, [0, 32768, 49152], [-1, 0, 0.5]),
        (np.int32, [-(2**31), 0, 2**30], [-1, 0, 0.5]),
        (np.float64, [-1.5, 0, 0.25], [-1.5, 0, 0.25]),
        (np.float16, [-1.5, 0, 0.25], [-1.5, 0, 0.25]),
    ],
)
def test_every_type_has_its_range(dtype, samples, expected):
    mono = to_mono(np.array(samples, dtype))
    assert mono.dtype == np.float32
    np.testing.assert_array_equal(mono, np.array(expected, np.float32))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, bool, complex, object, str])
def test_a_type_without_a_range_is_refused(dtype):
    with pytest.raises(ValueError, match="whose range is not known. Give floats between -1 and 1"):
        to_mono(np.zeros(5).astype(dtype))


def test_tensors_lists_and_bfloat16_are_taken():
    np.testing.assert_array_equal(to_mono(torch.from_numpy(LEFT)), LEFT)
    np.testing.assert_array_equal(to_mono(torch.tensor([1, -(2**15)], dtype=torch.int16))[1], -1)
    np.testing.assert_array_equal(to_mono([0.5, -0.25]), [0.5, -0.25])
    bfloat = torch.tensor([0.5, -0.25], dtype=torch.bfloat16, requires_grad=True)
    np.testing.assert_array_equal(to_mono(bfloat), [0.5, -0.25])


def test_channels_are_averaged_whichever_way_they_lie():
    mean = (LEFT + RIGHT) / 2
    for stereo in (np.stack([LEFT, RIGHT], 1), np.stack([LEFT, RIGHT])):
        np.testing.assert_allclose(to_mono(stereo), mean, atol=1e-7)
        np.testing.assert_allclose(to_mono(torch.from_numpy(stereo)), mean, atol=1e-7)
    whole = np.round(np.stack([LEFT, RIGHT], 1) * 2**15).astype(np.int16)
    np.testing.assert_allclose(to_mono(whole), mean, atol=2**-15)
    np.testing.assert_array_equal(to_mono(LEFT[:, None]), LEFT)
    np.testing.assert_array_equal(to_mono(LEFT[None]), LEFT)


@pytest.mark.parametrize("shape", [(), (3, 4), (0, 2), (2, 0), (100, 90), (2, 2, 90)])
def test_a_shape_that_is_no_clip_is_refused(shape):
    with pytest.raises(ValueError, match="which is no clip. Give mono samples") as caught:
        to_mono(np.zeros(shape))
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e30])
def test_a_sample_that_is_no_number_is_refused_with_its_place(value):
    samples = LEFT.astype(np.float64)
    samples[[437, 900]] = value
    with pytest.raises(ValueError, match=r"number 437 from 0\. Correct it"):
        to_mono(samples)
    extractor = MulapFeatureExtractor()
    with pytest.raises(ValueError, match=r"number 2,437 from 0"):
        list(extractor.stream_segments([LEFT, LEFT, samples]))


def test_a_batch_is_a_list_or_has_a_row_for_each_clip():
    assert [len(clip) for clip in split_clips(np.zeros((3, 50)))] == [50] * 3
    assert [len(clip) for clip in split_clips([np.zeros(5), np.zeros((2, 50))])] == [5, 2]
    assert [clip.shape for clip in split_clips(torch.zeros(3, 2, 50))] == [(2, 50)] * 3
    assert len(split_clips([0.0, 0.5, 1.0])) == 1  # a clip as a list


def test_stereo_as_soundfile_reads_it_is_one_clip_and_its_features_are_those_of_its_mean():
    extractor = MulapFeatureExtractor()
    stereo = np.stack([np.tile(LEFT, 60), np.tile(RIGHT, 60)], 1)
    features = extractor(stereo, sampling_rate=16_000)["input_features"]
    assert features.shape[0] == 1
    np.testing.assert_array_equal(features, extractor(stereo.mean(1))["input_features"])
    together = extractor([stereo, stereo[:, 0]])["input_features"]
    np.testing.assert_array_equal(together[:1], features)


def test_whole_numbers_have_the_features_of_the_same_sound():
    extractor, clip = MulapFeatureExtractor("original"), np.tile(LEFT, 60)
    whole = np.round(clip * 2**15).astype(np.int16)
    expected = extractor(clip)["input_features"]
    np.testing.assert_allclose(extractor(whole)["input_features"], expected, atol=0.01)
