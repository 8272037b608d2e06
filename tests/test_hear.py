"""Our backbones behind the HEAR interface: what `hear-validator` asks for, and a little more."""

import numpy as np
import pytest
import torch

from mulap import hear
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.model.config import MulapAudioConfig

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
RATES = (16_000, 22_050, 44_100, 48_000)


def noise(num_clips, seconds):
    generator = torch.Generator().manual_seed(num_clips)
    return torch.rand((num_clips, round(seconds * 16_000)), generator=generator) * 2 - 1


@pytest.fixture(scope="module", params=["port", "original"])
def model(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    random_backbone(MulapAudioConfig(variant=request.param, **SMALL)).save_pretrained(folder)
    return hear.load_model(str(folder))


def test_a_model_says_its_rate_and_sizes(model):
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate in RATES
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (62, 31)
    assert list(model.state_dict())  # the weights are registered


def test_the_default_weights_are_the_bundled_ones():
    model = hear.load_model()
    assert (model.scene_embedding_size, model.timestamp_embedding_size) == (1506, 753)
    assert model.embedder.name == "musicnn-msd"


@pytest.mark.parametrize("seconds", [0.001, 0.1, 0.5, 2.0, 3.74, 20.0])
def test_embeddings_have_the_shapes_and_types_that_hear_asks_for(model, seconds):
    audio = noise(3, seconds)
    embeddings, stamps = hear.get_timestamp_embeddings(audio, model)
    assert embeddings.dtype == torch.float32
    assert embeddings.shape == (3, stamps.shape[1], 31)
    assert stamps.shape[0] == 3
    scenes = hear.get_scene_embeddings(audio, model)
    assert scenes.shape == (3, 62)
    assert scenes.dtype == torch.float32
    for result in (embeddings, stamps, scenes):
        assert torch.isfinite(result).all()
        assert result.device == audio.device
        assert not result.requires_grad


@pytest.mark.parametrize("seconds", [0.1, 2.0, 20.0])
def test_time_stamps_are_even_dense_and_cover_the_clip(model, seconds):
    _, stamps = hear.get_timestamp_embeddings(noise(1, seconds), model)
    steps = torch.diff(stamps[0])
    assert (steps - steps.mean()).abs().max() < 1e-3
    assert steps.mean() <= 50.0
    assert stamps[0, 0] <= 50.0
    assert 0 <= seconds * 1000 - stamps[0, -1] <= 100.0


def test_a_change_in_the_sound_moves_the_embeddings_at_its_time(model):
    quiet = 0.001 * noise(1, 8.0)
    clicked = quiet.clone()
    clicked[0, 64_000:64_160] += 0.9  # 10 ms, at 4 s
    before, stamps = hear.get_timestamp_embeddings(quiet, model)
    after, _ = hear.get_timestamp_embeddings(clicked, model)
    change = (after - before).abs().sum(2)[0]
    if model.embedder.feature_extractor.variant == "original":  # `port` floors the whole clip anew
        assert change[(stamps[0] < 2_500) | (stamps[0] > 5_500)].max() < 1e-4
    assert abs(stamps[0, change.argmax()] - 4_000) < 1_300


def test_a_clip_is_embedded_the_same_alone_and_in_a_batch(model):
    audio = noise(4, 3.74)
    scenes = hear.get_scene_embeddings(audio, model)
    embeddings, _ = hear.get_timestamp_embeddings(audio, model)
    for index in range(4):
        clip = audio[index : index + 1]
        assert torch.equal(hear.get_scene_embeddings(clip, model)[0], scenes[index])
        assert torch.equal(hear.get_timestamp_embeddings(clip, model)[0][0], embeddings[index])


def test_a_scene_is_what_the_embedder_says_of_the_track(model):
    audio = noise(2, 7.0)
    expected = Embedder(model.backbone).embed_waveform(audio[1].numpy(), "track")
    np.testing.assert_array_equal(hear.get_scene_embeddings(audio, model)[1:], expected)


def test_embedding_changes_nothing_in_the_model(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    hear.get_scene_embeddings(noise(2, 4.0), model)
    hear.get_timestamp_embeddings(noise(2, 4.0), model)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize("shape", [(16_000,), (2, 0), (1, 2, 16_000)])
def test_audio_of_another_shape_is_refused(model, shape):
    with pytest.raises(ValueError, match="the audio has shape"):
        hear.get_scene_embeddings(torch.zeros(shape), model)
    with pytest.raises(ValueError, match="the audio has shape"):
        hear.get_timestamp_embeddings(torch.zeros(shape), model)
