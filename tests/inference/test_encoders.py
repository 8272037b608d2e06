"""Encoders by name, the hash that tells them apart, and the calibrated random network."""

import json

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import tone

from mulap.inference.backbones import hash_weights, random_backbone
from mulap.inference.calibrate import calibrate_batch_norm, synthesize_segments
from mulap.inference.embedder import Embedder
from mulap.inference.encoders import encoder_sha256, load_encoder
from mulap.inference.segments import SegmentEncoder
from mulap.model.config import MulapAudioConfig

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}


def vectors_of(encoder, path):
    return np.concatenate([rows for _, rows in encoder.stream_rows(encoder.stream_file(path))])


@pytest.fixture
def music(tmp_path):
    sf.write(tmp_path / "a.wav", tone(0, 34.0), 16_000)
    return tmp_path / "a.wav"


@pytest.mark.parametrize("name", ["random", "mel", "musicnn-mtt"])
def test_every_encoder_gives_a_row_of_its_size_for_each_segment(name, music):
    encoder = load_encoder(name)
    assert encoder.name == name
    assert vectors_of(encoder, music).shape == (11, encoder.embedding_size)
    track = list(encoder.stream_rows(encoder.stream_file(music), level="track"))
    assert [rows.shape for _, rows in track] == [(1, encoder.embedding_size)]
    json.dumps(encoder.describe())


def test_a_checkpoint_folder_is_ours_by_its_model_type(tmp_path, music):
    backbone = random_backbone(MulapAudioConfig(**SMALL), seed=3)
    backbone.save_pretrained(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"))
    np.testing.assert_array_equal(
        vectors_of(encoder, music), Embedder(backbone).embed_file(music).embeddings
    )


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match="musicnn: is no encoder .*musicnn-mtt, hear:MODULE"):
        load_encoder("musicnn")
    with pytest.raises(ValueError, match="there is no config.json"):
        load_encoder(str(tmp_path))


def test_the_hash_is_of_the_making_and_not_of_the_name():
    backbone = random_backbone(MulapAudioConfig(**SMALL))
    first = encoder_sha256(Embedder(backbone, "one name"))
    assert len(first) == 64
    assert encoder_sha256(Embedder(backbone, "another name")) == first
    other = random_backbone(MulapAudioConfig(**SMALL), seed=1)
    assert encoder_sha256(Embedder(other, "one name")) != first


def test_the_hash_tells_cuts_apart(monkeypatch):
    mel = load_encoder("mel")
    assert isinstance(mel, SegmentEncoder)
    before = encoder_sha256(mel)
    monkeypatch.setattr(mel.cutter, "segment_seconds", 2.0)
    assert encoder_sha256(mel) != before


def test_seeds_give_other_untrained_weights():
    assert encoder_sha256(load_encoder("random", seed=1)) != encoder_sha256(load_encoder("random"))


@pytest.mark.parametrize("variant", ["port", "original"])
def test_calibration_brings_every_batch_norm_to_unit_scale(variant):
    backbone = calibrate_batch_norm(random_backbone(MulapAudioConfig(variant=variant, **SMALL)))
    extractor = Embedder(backbone).feature_extractor
    segments = synthesize_segments(16, extractor.segment_samples, 16_000)
    outputs = []
    norms = [each for each in backbone.modules() if "BatchNorm" in type(each).__name__]
    hooks = [norm.register_forward_hook(lambda *call: outputs.append(call[2])) for norm in norms]
    with torch.no_grad():
        backbone(torch.from_numpy(extractor.log_mel(segments)))
    for hook in hooks:
        hook.remove()
    assert len(outputs) == len(norms) == 9
    for output in outputs:
        channels = output.transpose(0, 1).flatten(1)
        is_alive = channels.std(1) > 1e-3  # a channel that never fires stays at zero
        assert is_alive.any()
        np.testing.assert_allclose(channels[is_alive].mean(1), 0, atol=0.01)
        deviations = channels[is_alive].std(1)
        assert deviations.max() < 1.01  # less where BatchNorm's epsilon is not small beside it
        assert deviations.median() > 0.9


def test_calibration_is_the_same_each_time_and_changes_statistics_alone():
    config = MulapAudioConfig(**SMALL)
    first, second = (calibrate_batch_norm(random_backbone(config)) for _ in range(2))
    assert hash_weights(first) == hash_weights(second) != hash_weights(random_backbone(config))
    assert not first.training
    assert {each.momentum for each in first.modules() if hasattr(each, "momentum")} == {0.1}
    untouched = dict(random_backbone(config).named_parameters())
    for name, parameter in first.named_parameters():
        assert torch.equal(parameter, untouched[name]), name


def test_the_calibrated_network_goes_by_a_name_of_its_own():
    calibrated = load_encoder("random-calibrated")
    assert calibrated.name == "random-calibrated"
    assert encoder_sha256(calibrated) != encoder_sha256(load_encoder("random"))


def test_synthetic_segments_are_finite_different_and_of_bounded_level():
    segments = synthesize_segments(5, 8_000, 16_000)
    peaks = np.abs(segments).max(1)
    assert ((peaks >= 0.029) & (peaks <= 0.901)).all()
    assert len({segment.tobytes() for segment in segments}) == 5
    np.testing.assert_array_equal(segments[:2], synthesize_segments(2, 8_000, 16_000))
