"""The joint space: points of audio and of sentences are the model's, and audio needs no text."""

import pickle

import numpy as np
import pytest
import torch
from tiny import CAPTIONS, tone, write_joint_model

import mulap
from mulap.encoders.backbones import load_backbone
from mulap.encoders.load import encoder_sha256
from mulap.model.bundled import bundled_names
from mulap.model.modeling import MulapModel
from mulap.model.processor import MulapProcessor

CHANGES = [
    {},
    {"projection_hidden_size": 20, "projection_dropout": 0.1},
    {"has_text_projection": False, "projection_dim": 32, "audio": {"num_towers": 2}},
    {"feature_norm": "none", "text_pooling": "cls"},
]


@pytest.fixture(scope="module", params=range(len(CHANGES)))
def folder(request, tmp_path_factory):
    changes = CHANGES[request.param]
    tiny_audio = {"num_mel_bins": 12, "num_timbral_filters": 3, "num_temporal_filters": 2}
    audio = {**tiny_audio, "num_midend_filters": 3, **changes.get("audio", {})}
    return write_joint_model(tmp_path_factory.mktemp("joint"), **{**changes, "audio": audio})


def points_of(folder, waveform):
    """Each segment's point and the whole clip's, by the model itself."""
    model = MulapModel.from_pretrained(folder).eval()
    extractor = MulapProcessor.from_pretrained(folder).feature_extractor
    log_mel = torch.from_numpy(extractor.log_mel(extractor.segment(waveform)))
    with torch.no_grad():
        ones = torch.ones(len(log_mel), 1)
        each = model.get_audio_features(log_mel[:, None], ones)
        return each.numpy(), model.get_audio_features(log_mel[None], ones.T).numpy()


def test_points_of_audio_are_those_of_the_model(folder):
    waveform = tone(0, 41.0)  # more than one block of segments
    encoder = mulap.load(folder, space="joint")
    each, whole = points_of(folder, waveform)
    assert encoder.embedding_size == each.shape[1]
    segments = encoder.embed_waveform(waveform)
    assert segments.dtype == np.float32
    np.testing.assert_allclose(segments, each, atol=1e-5)
    track = encoder.embed_waveform(waveform, "track")
    np.testing.assert_allclose(track, whole, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(track), 1.0, atol=1e-6)
    # The projection of the mean of features is another thing than the mean of points.
    assert np.abs(track[0] - segments.mean(0)).max() > 1e-4


def test_points_of_sentences_are_those_of_the_model_whatever_they_are_batched_with(folder):
    encoder = mulap.load(folder)
    texts = [*CAPTIONS, "piano", *[f"{word} song" for word in "calm fast slow loud".split()] * 20]
    points = encoder.embed_text(texts)
    assert points.shape == (len(texts), encoder.joint.size)
    np.testing.assert_allclose(np.linalg.norm(points, axis=1), 1.0, atol=1e-5)
    model = MulapModel.from_pretrained(folder).eval()
    processor = MulapProcessor.from_pretrained(folder)
    for index in (0, 3, 8, 20):
        with torch.no_grad():
            alone = model.get_text_features(**processor(text=texts[index], return_tensors="pt"))
        np.testing.assert_allclose(points[index], alone[0].numpy(), atol=1e-5)
    np.testing.assert_array_equal(encoder.embed_text("piano"), encoder.embed_text(["piano"]))


def test_spaces_have_fingerprints_of_their_own_and_share_the_backbone(folder):
    features, points = mulap.load(folder), mulap.load(folder, space="joint")
    assert encoder_sha256(features) != encoder_sha256(points)
    assert "space" not in features.describe()  # vectors that mulap 0.1 left stay known
    assert points.describe()["space"] == "joint"
    waveform = tone(1, 4.0)
    before = features.embed_waveform(waveform)
    np.testing.assert_array_equal(
        features.in_joint_space().embed_waveform(waveform), points.embed_waveform(waveform)
    )
    np.testing.assert_array_equal(features.embed_waveform(waveform), before)


def test_another_projection_on_one_backbone_is_another_encoder(tmp_path):
    first = mulap.load(write_joint_model(tmp_path / "a"), space="joint")
    model = MulapModel.from_pretrained(tmp_path / "a")
    with torch.no_grad():
        model.audio_projection.bias.add_(0.5)
    model.save_pretrained(tmp_path / "b")
    assert encoder_sha256(mulap.load(tmp_path / "b", space="joint")) != encoder_sha256(first)
    plain = encoder_sha256(mulap.load(tmp_path / "a"))
    assert encoder_sha256(mulap.load(tmp_path / "b")) == plain


def test_audio_needs_nothing_of_the_text_branch(tmp_path):
    folder = write_joint_model(tmp_path / "model")
    for path in folder.glob("tokenizer*"):
        path.unlink()
    encoder = mulap.load(folder, space="joint")
    points = encoder.embed_waveform(tone(0, 4.0))
    assert set(encoder.joint.projection.state_dict()) == {
        *(f"feature_norm.norm.{n}" for n in ("running_mean", "running_var", "num_batches_tracked")),
        *("audio_projection.weight", "audio_projection.bias"),
    }
    copy = pickle.loads(pickle.dumps(encoder))  # as processes get it
    np.testing.assert_array_equal(copy.embed_waveform(tone(0, 4.0)), points)
    with pytest.raises(ValueError, match="has no tokenizer"):
        encoder.embed_text("piano")


def test_other_processes_get_no_text_branch(tmp_path):
    encoder = mulap.load(write_joint_model(tmp_path / "model"), space="joint")
    before = len(pickle.dumps(encoder))
    expected = encoder.embed_text("piano")
    assert len(pickle.dumps(encoder)) == before
    copy = pickle.loads(pickle.dumps(encoder))
    np.testing.assert_array_equal(copy.embed_text("piano"), expected)


@pytest.mark.parametrize("name", ["random", "mel", "musicnn-mtt", "backbone", "plain"])
def test_an_encoder_without_a_contrastive_head_is_refused_in_a_line(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    load_backbone("random").save_pretrained("backbone")
    write_joint_model(tmp_path / "plain", has_contrastive_head=False, text_pooling="cls")
    with pytest.raises(ValueError, match=f"^{name}: has no space that it shares with text. Give"):
        mulap.load(name, space="joint")
    with pytest.raises(ValueError, match="space is 'both' .give backbone or joint"):
        mulap.load(name, space="both")


def test_a_model_without_its_projection_is_refused(tmp_path):
    folder = write_joint_model(tmp_path / "model")
    model = MulapModel.from_pretrained(folder)
    state = {n: v for n, v in model.state_dict().items() if n != "audio_projection.weight"}
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(ValueError, match="lacks audio_projection.weight than config.json asks for"):
        mulap.load(folder, space="joint")


def test_no_sentence_is_refused(tmp_path):
    encoder = mulap.load(write_joint_model(tmp_path / "model"))
    with pytest.raises(ValueError, match="there is no sentence to embed"):
        encoder.embed_text([])


@pytest.mark.parametrize("name", [n for n in bundled_names() if n.startswith("mulap")])
def test_two_fresh_loads_of_bundled_weights_give_the_same_points(name):
    first, second = (mulap.load(name, "cpu", space="joint") for _ in range(2))
    waveform = tone(0, 7.0)
    points = first.embed_waveform(waveform)
    np.testing.assert_array_equal(second.embed_waveform(waveform), points)
    each, _ = points_of(first.joint.folder, waveform)
    np.testing.assert_allclose(points, each, atol=1e-4)
    texts = ["calm piano", "8-bit game music"]
    np.testing.assert_array_equal(first.embed_text(texts), second.embed_text(texts))
    assert first.embed_text(texts)[0] @ first.embed_text(texts)[1] < 0.9


def test_claps_names_give_points_and_cosines(folder):
    model, processor = MulapModel.from_pretrained(folder), MulapProcessor.from_pretrained(folder)
    clips = [tone(seed, 7.0) for seed in range(2)]
    inputs = processor(
        text=list(CAPTIONS[:3]), audio=clips, sampling_rate=16_000, return_tensors="pt"
    )
    with torch.no_grad():
        index = {"caption_index": torch.tensor([0, 1])}
        expected = model.eval()(**inputs, **index, fuses=False)
    encoder = mulap.load(folder, "cpu")
    points = encoder.get_audio_features(clips, 16_000)
    assert points == pytest.approx(expected.audio_embeds.numpy(), abs=1e-5)
    texts = encoder.get_text_features(CAPTIONS[:3])
    assert texts == pytest.approx(expected.text_embeds.numpy(), abs=1e-5)
    cosines = encoder.similarity(clips, CAPTIONS[:3], 16_000)
    scale = model.logit_scale.exp().item()
    assert cosines == pytest.approx(expected.logits_per_audio.numpy() / scale, abs=1e-5)
    assert encoder.similarity(clips[0], CAPTIONS[0], 16_000).shape == (1, 1)
