"""`MulapFeatureExtractor` against librosa, against musicnn's own mels, and against known bugs."""

import inspect
import subprocess
import sys
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.model.config import MulapAudioConfig
from mulap.model.cuts import mel_filters
from mulap.model.features import MulapFeatureExtractor

GOLDEN = Path(__file__).parents[1] / "golden" / "musicnn.npz"
VARIANTS = ["port", "original"]


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def noise(num_samples, seed=0, level=0.1):
    samples = np.random.default_rng(seed).standard_normal(num_samples) * level
    return samples.astype(np.float32)


@pytest.mark.parametrize("mel_scale", ["htk", "slaney"])
def test_mel_filters_equal_librosas(mel_scale):
    is_htk = mel_scale == "htk"
    norm = None if is_htk else "slaney"
    theirs = librosa.filters.mel(sr=16_000, n_fft=512, n_mels=96, htk=is_htk, norm=norm)
    ours = mel_filters(16_000, 512, 96, mel_scale)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6 * theirs.max())


def test_original_log_mel_equals_librosas_of_the_whole_clip():
    clip = noise(100_000)
    power = librosa.feature.melspectrogram(
        y=clip, sr=16_000, n_fft=512, hop_length=256, n_mels=96, pad_mode="constant"
    )
    extractor = MulapFeatureExtractor("original")
    ours = extractor.log_mel(extractor.segment(clip))
    theirs = np.log10(10_000 * power + 1)[:, : 2 * 187]
    np.testing.assert_allclose(np.concatenate(list(ours), axis=1), theirs, rtol=1e-5, atol=1e-6)


def test_port_log_mel_equals_librosas_of_each_segment():
    clip = noise(100_000)
    extractor = MulapFeatureExtractor("port")
    ours = extractor.log_mel(extractor.segment(clip))
    assert ours.shape == (2, 96, 188)
    filters = mel_filters(16_000, 512, 96, "htk")
    for index, segment in enumerate(np.split(clip[:96_000], 2)):
        spectrum = np.abs(librosa.stft(segment, n_fft=512, hop_length=256, pad_mode="reflect"))
        theirs = librosa.power_to_db(filters @ spectrum**2, amin=1e-10, top_db=80)
        np.testing.assert_allclose(ours[index], theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("level", ["", "loud_"])
def test_original_mel_power_equals_tensorflow_musicnns(golden, level):
    gain = golden["loud_gain"] if level else 1.0
    extractor = MulapFeatureExtractor("original")
    segments = extractor.segment((golden["waveform"] * gain).astype(np.float32))
    assert len(segments) == 4  # 12 s give 4 patches
    log_mel = np.concatenate(list(extractor.log_mel(segments[:2])), axis=1).T
    theirs = np.log10(10_000 * golden[f"{level}mel_power"].astype(np.float64) + 1)
    np.testing.assert_allclose(log_mel[::29], theirs, rtol=1e-5, atol=1e-6)


def test_loud_music_stays_finite_where_the_original_overflowed_float16():
    tone = np.sin(np.arange(48_000) * 2 * np.pi * 1000 / 16_000).astype(np.float32)
    log_mel = MulapFeatureExtractor("original")(tone)["input_features"]
    assert np.isfinite(log_mel).all()
    assert 10 ** log_mel.max() / 10_000 > 6.55  # mel power over what float16 can hold times 10,000


@pytest.mark.parametrize(
    ("num_samples", "num_port", "num_original"),
    [(320_000, 6, 6), (192_000, 4, 4), (96_000, 2, 2), (95_999, 1, 2), (95_487, 1, 1), (10, 1, 1)],
)
def test_a_clip_has_as_many_segments_as_fit(num_samples, num_port, num_original):
    assert len(MulapFeatureExtractor("port").segment(noise(num_samples))) == num_port
    original = MulapFeatureExtractor("original").segment(noise(num_samples))
    assert len(original) == num_original
    # The original counts frames; a clip shorter than a patch is repeated.
    assert num_original == max(1, (1 + num_samples // 256) // 187)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_segment_depends_on_nothing_outside_its_window(variant):
    extractor = MulapFeatureExtractor(variant)
    clip = noise(200_000)
    before = extractor.log_mel(extractor.segment(clip))[1]
    start = extractor.stride_samples - extractor.pad_samples
    clip[:start] = 0.9
    clip[start + extractor.segment_samples :] = -0.9
    np.testing.assert_array_equal(extractor.log_mel(extractor.segment(clip))[1], before)


@settings(max_examples=25, derandomize=True, deadline=None)
@given(
    num_samples=st.integers(1, 160_000),
    cuts=st.lists(st.integers(0, 160_000), max_size=5),
    variant=st.sampled_from(VARIANTS),
)
def test_a_stream_in_any_blocks_gives_the_segments_of_the_whole_clip(num_samples, cuts, variant):
    extractor = MulapFeatureExtractor(variant)
    clip = noise(num_samples)
    blocks = np.split(clip, sorted(min(cut, num_samples) for cut in cuts))
    streamed = np.concatenate(list(extractor.stream_segments(blocks)))
    np.testing.assert_array_equal(streamed, extractor.segment(clip))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clip_under_3_seconds_is_repeated_and_does_not_crash(variant):
    extractor = MulapFeatureExtractor(variant)
    (segment,) = extractor.segment(np.arange(1, 1001, dtype=np.float32))
    inner = segment[extractor.pad_samples : extractor.segment_samples - extractor.pad_samples]
    np.testing.assert_array_equal(inner, np.resize(np.arange(1, 1001), len(inner)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_silence_gives_finite_features(variant):
    features = MulapFeatureExtractor(variant)(np.zeros(100_000, np.float32))["input_features"]
    assert np.isfinite(features).all()


def test_features_do_not_depend_on_batch_neighbours_as_with_a_batch_wide_db_maximum():
    quiet, loud = noise(48_000, level=1e-6), noise(48_000, seed=1, level=1.0)
    extractor = MulapFeatureExtractor("port")
    alone = extractor(quiet)["input_features"][0]
    np.testing.assert_array_equal(extractor([quiet, loud])["input_features"][0], alone)
    # The authors' behaviour stays available, and is what the line above would catch.
    batchwise = MulapFeatureExtractor("port", db_reference="batch")
    np.testing.assert_array_equal(batchwise(quiet)["input_features"][0], alone)
    assert np.abs(batchwise([quiet, loud])["input_features"][0] - alone).max() > 1.0


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_front_end_runs_in_float32_under_autocast(variant):
    extractor = MulapFeatureExtractor(variant)
    clip = noise(48_000, level=1e-4)
    plain = extractor(clip)["input_features"]
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = extractor(clip)["input_features"]
    np.testing.assert_array_equal(under_autocast, plain)


def test_a_batch_is_padded_with_zeros_and_masked():
    clips = [noise(48_000), torch.from_numpy(noise(150_000))]
    batch = MulapFeatureExtractor("port")(clips, sampling_rate=16_000, return_tensors="pt")
    assert batch["input_features"].shape == (2, 3, 96, 188)
    assert batch["input_features"].dtype == torch.float32
    assert batch["audio_attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["audio_attention_mask"].dtype == torch.int64
    assert (batch["input_features"][0, 1:] == 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_clip_in_a_batch_has_the_features_it_has_alone(variant):
    extractor = MulapFeatureExtractor(variant)
    clips = [noise(160_000), noise(60_000, seed=1)]
    together = extractor(clips)["input_features"]
    np.testing.assert_allclose(together[1, :1], extractor(clips[1])["input_features"][0], atol=1e-5)


def test_max_segments_takes_the_start():
    extractor = MulapFeatureExtractor("port")
    clip = noise(200_000)
    two = extractor(clip, max_segments=2)["input_features"]
    np.testing.assert_array_equal(two, extractor(clip[:96_000])["input_features"])


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (np.zeros(0, np.float32), {}, "empty"),
        ([], {}, "no audio"),
        (np.zeros((2, 3, 4), np.float32), {}, "no clip"),
        (np.zeros(9, np.float32), {"sampling_rate": 44_100}, "44100 Hz.*16000 Hz"),
        (np.zeros(9, np.float32), {"max_segments": 0}, "max_segments is 0"),
    ],
)
def test_bad_audio_is_refused_in_one_line(audio, options, message):
    with pytest.raises(ValueError, match=message) as error:
        MulapFeatureExtractor()(audio, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("option", ["variant", "db_reference"])
def test_a_misspelt_option_is_refused(option):
    with pytest.raises(ValueError, match=option):
        MulapFeatureExtractor(**{option: "prot"})


def test_settings_survive_saving_and_the_filters_stay_out_of_the_file(tmp_path):
    extractor = MulapFeatureExtractor("original", segment_seconds=2.0, num_mel_bins=64)
    extractor.save_pretrained(tmp_path)
    assert (tmp_path / "preprocessor_config.json").stat().st_size < 1000
    loaded = MulapFeatureExtractor.from_pretrained(tmp_path)
    assert loaded.to_dict() == extractor.to_dict()
    clip = noise(70_000)
    np.testing.assert_array_equal(loaded(clip)["input_features"], extractor(clip)["input_features"])


@pytest.mark.parametrize("name", ["musicnn-mtt", "musicnn-msd"])
def test_bundled_names_are_loaded_offline(name):
    assert MulapFeatureExtractor.from_pretrained(name).variant == "original"


def test_the_saved_folder_carries_its_code_and_loads_as_remote_code(tmp_path, monkeypatch):
    monkeypatch.setattr(MulapFeatureExtractor, "_auto_class", None)
    MulapFeatureExtractor.register_for_auto_class()
    MulapFeatureExtractor("original").save_pretrained(tmp_path)
    assert (tmp_path / "features.py").exists()
    # In a process without this package, whose class would come first.
    program = (
        "import sys; sys.modules['mulap'] = None\n"
        "from transformers import AutoFeatureExtractor\n"
        "loaded = AutoFeatureExtractor.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "print(loaded.variant)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "original"


def test_the_extractor_of_a_config_has_its_settings():
    config = MulapAudioConfig(
        variant="original", n_fft=1024, num_mel_bins=48, segment_seconds=2.0, db_reference="batch"
    )
    extractor = MulapFeatureExtractor.from_config(config)
    arguments = set(inspect.signature(MulapFeatureExtractor).parameters) - {"kwargs"}
    assert extractor.log_mel_settings().keys() == arguments
    for name in arguments:
        assert getattr(extractor, name) == getattr(config, name)


@pytest.mark.parametrize("variant", ["port", "original"])
@pytest.mark.parametrize("gain_db", [-9.0, 0.0, 6.0])
def test_a_louder_log_mel_is_the_log_mel_of_louder_audio(variant, gain_db):
    extractor = MulapFeatureExtractor(variant)
    rng = np.random.default_rng(0)
    segments = (0.05 * rng.standard_normal((2, extractor.segment_samples))).astype("f")
    expected = extractor.log_mel(segments * np.float32(10.0 ** (gain_db / 20.0)))
    found = extractor.amplify(extractor.log_mel(segments), gain_db)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_silence_stays_silence_however_loud():
    extractor = MulapFeatureExtractor("port")
    silence = extractor.log_mel(np.zeros((1, extractor.segment_samples), np.float32))
    np.testing.assert_allclose(extractor.amplify(silence, -6.0), silence, atol=1e-4)
