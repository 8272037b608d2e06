"""`Tagger`: golden tags, files through the same path as arrays, and constant memory."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from mulap.audio import AudioError, load_audio
from mulap.inference.tag import Tagger
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone

GOLDEN = Path(__file__).parents[1] / "golden" / "musicnn.npz"


@pytest.fixture(scope="module")
def tagger():
    return Tagger.from_pretrained("musicnn-mtt")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def test_the_golden_waveform_gets_tensorflow_musicnns_taggram(tagger, golden):
    taggram = tagger.taggram(golden["waveform"])
    np.testing.assert_allclose(taggram, golden["mtt/taggram"], atol=2e-4)
    scores = tagger.tag_waveform(golden["waveform"])
    expected = golden["mtt/taggram"].mean(0)
    assert next(iter(scores)) == golden["mtt/labels"][expected.argmax()]
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores["guitar"] == pytest.approx(expected[0], abs=2e-4)


def test_loud_music_gets_tensorflow_musicnns_taggram_and_no_nan(golden):
    tagger = Tagger.from_pretrained("musicnn-msd")
    taggram = tagger.taggram(golden["waveform"] * np.float32(golden["loud_gain"]))
    np.testing.assert_allclose(taggram, golden["msd/loud_taggram"], atol=2e-4)


def test_a_file_gets_the_tags_of_its_waveform(tagger, golden, tmp_path):
    path = tmp_path / "long.wav"
    # Over the 30 s that are decoded at a time, so that blocks have to be joined.
    sf.write(path, np.tile(golden["waveform"], 4)[: 41 * 16_000], 16_000, subtype="FLOAT")
    scores = tagger.tag_file(path)
    assert len(scores) == 50
    assert scores == pytest.approx(tagger.tag_waveform(load_audio(path)), abs=1e-6)


def test_a_short_and_silent_file_has_finite_scores(tagger, tmp_path):
    path = tmp_path / "silence.wav"
    sf.write(path, np.zeros(800), 8_000)
    scores = tagger.tag_file(path)
    assert all(0 <= score <= 1 for score in scores.values())


def test_a_file_without_samples_is_refused_by_name(tagger, tmp_path):
    path = tmp_path / "empty.wav"
    sf.write(path, np.zeros(0), 16_000)
    with pytest.raises(AudioError, match="empty.wav"):
        tagger.tag_file(path)


def test_samples_of_absurd_size_are_refused_by_name(tagger, tmp_path):
    samples = np.zeros(5 * 16_000, np.float32)
    samples[::7] = 1e30
    sf.write(tmp_path / "absurd.wav", samples, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=r"absurd.wav: has samples of absurd size near 0.0 s"):
        tagger.tag_file(tmp_path / "absurd.wav")


def test_memory_does_not_grow_with_the_length_of_a_stream(tagger, monkeypatch):
    zeros = np.zeros((10, 1506), np.float32)  # only what surrounds the network matters
    monkeypatch.setattr(tagger._embedder, "_embed", lambda log_mel: zeros[: len(log_mel)])

    def peak(num_blocks):
        blocks = (np.zeros(30 * 16_000, np.float32) for _ in range(num_blocks))
        tracemalloc.start()
        for _ in tagger._probabilities(blocks):
            pass
        peak_bytes = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak_bytes

    assert peak(12) < 1.2 * peak(3)


def test_a_feature_extractor_of_the_other_variant_is_refused(tagger):
    with pytest.raises(ValueError, match="variant original.*port"):
        Tagger(tagger.model, MulapFeatureExtractor("port"))


def test_a_checkpoint_that_names_no_tags_is_refused_instead_of_making_tags_up(tmp_path):
    MusicnnBackbone(MulapAudioConfig(num_timbral_filters=4)).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="command reads: use musicnn-mtt"):
        Tagger.from_pretrained(tmp_path)
