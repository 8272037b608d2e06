"""`Embedder`: the same vectors by every step of the ladder, and nothing that changes them."""

import numpy as np
import pytest
import soundfile as sf
import torch

from mulap.audio import AudioError
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnForTagging

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}


def noise(seconds, seed=0):
    samples = np.random.default_rng(seed).normal(size=round(seconds * 16_000)) * 0.1
    return samples.astype(np.float32)


@pytest.fixture(scope="module", params=["port", "original"])
def embedder(request):
    return Embedder(random_backbone(MulapAudioConfig(variant=request.param, **SMALL)))


def test_a_file_gets_the_vectors_of_its_waveform_to_the_bit(embedder, tmp_path):
    waveform = noise(41)  # over the 30 s that are decoded at a time, and over one block
    sf.write(tmp_path / "a.wav", waveform, 16_000, subtype="FLOAT")
    embedded = embedder.embed(tmp_path / "a.wav")
    np.testing.assert_array_equal(embedded.embeddings, embedder.embed_waveform(waveform))
    assert embedded.embeddings.shape == (13, embedder.embedding_size)
    assert embedded.embeddings.dtype == np.float32
    stride = embedder.feature_extractor.stride_samples / 16_000
    np.testing.assert_allclose(embedded.start_seconds, np.arange(13) * stride)


def test_the_vectors_are_the_backbones_on_the_extractors_log_mels(embedder):
    waveform = noise(7)
    extractor = embedder.feature_extractor
    log_mel = torch.from_numpy(extractor.log_mel(extractor.segment(waveform)))
    with torch.no_grad():
        expected = embedder.backbone(log_mel).numpy()
    np.testing.assert_allclose(embedder.embed_waveform(waveform), expected, rtol=1e-5, atol=1e-5)


def test_a_track_is_the_mean_of_its_segments(embedder):
    waveform = noise(41)
    track = embedder.embed_waveform(waveform, "track")
    mean = embedder.embed_waveform(waveform).mean(0, dtype=np.float64)
    assert track.shape == (1, embedder.embedding_size)
    np.testing.assert_allclose(track[0], mean, rtol=1e-6)


def test_embedding_changes_nothing_in_the_model(embedder):
    embedder.backbone.train()  # as a careless caller leaves it
    again = Embedder(embedder.backbone)
    before = {name: value.clone() for name, value in again.backbone.state_dict().items()}
    first, second = again.embed_waveform(noise(7)), again.embed_waveform(noise(7))
    np.testing.assert_array_equal(first, second)
    for name, value in again.backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_segment_does_not_depend_on_the_others(embedder):
    quiet, loud = noise(3.1, seed=1), noise(36, seed=2) * 9
    alone = embedder.embed_waveform(quiet)
    beside = embedder.embed_waveform(np.concatenate([quiet[:48_000], loud]))
    if embedder.feature_extractor.variant == "port":
        np.testing.assert_allclose(beside[0], alone[0], rtol=1e-4, atol=1e-5)


def test_short_and_silent_files_have_a_finite_row(embedder, tmp_path):
    for name, samples in {"short": noise(0.5), "silent": np.zeros(80_000, np.float32)}.items():
        sf.write(tmp_path / f"{name}.wav", samples, 16_000)
        embedded = embedder.embed(tmp_path / f"{name}.wav")
        assert len(embedded.embeddings) == 1
        assert np.isfinite(embedded.embeddings).all()


def test_samples_of_absurd_size_are_refused_by_name(tmp_path):
    embedder = Embedder(random_backbone(MulapAudioConfig(variant="port", **SMALL)))
    sf.write(tmp_path / "loud.wav", noise(4) * np.float32(1e30), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="loud.wav: has samples of absurd size near 0.0 s"):
        embedder.embed(tmp_path / "loud.wav")


def test_an_unknown_level_is_refused(embedder):
    with pytest.raises(ValueError, match="level is 'frame' .give segment or track"):
        embedder.embed_waveform(noise(4), "frame")


def test_the_bundled_model_embeds_into_musicnns_1506_features():
    embedder = Embedder.from_pretrained("musicnn-mtt")
    vectors = embedder.embed_waveform(noise(6.1))
    assert vectors.shape == (2, 1506)
    tagger = MusicnnForTagging.from_pretrained("musicnn-mtt").eval()
    extractor = embedder.feature_extractor
    log_mel = torch.from_numpy(extractor.log_mel(extractor.segment(noise(6.1))))
    with torch.no_grad():
        expected, logits = torch.sigmoid(tagger(log_mel)), tagger.head(torch.from_numpy(vectors))
    np.testing.assert_allclose(torch.sigmoid(logits), expected, atol=1e-5)


def test_the_description_tells_models_and_levels_apart(embedder):
    described = embedder.describe()
    assert described["level"] == "segment"
    assert described["features"]["variant"] == embedder.backbone.config.variant
    other = Embedder(random_backbone(embedder.backbone.config, seed=1)).describe("track")
    assert other["weights_sha256"] != described["weights_sha256"]
    assert other["level"] == "track"
