"""Graphs give PyTorch's numbers, for any lengths and batch sizes; shipped ones are current."""

import filecmp
import json
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from tiny import CAPTIONS, tone, write_joint_model

import mulap
from mulap.encoders.engine import load_engine
from mulap.graphs.write import write_export, write_graphs
from mulap.model.bundled import bundled_names, check_sums, locate_weights
from mulap.model.modeling import MulapModel
from mulap.model.musicnn import MusicnnForTagging
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor

TINY = {"num_mel_bins": 12, "num_timbral_filters": 3, "num_temporal_filters": 2}
CHANGES = {
    "paper": {"num_coattention_layers": 2},
    "official": {"layout": "official", "num_coattention_layers": 2, "num_audio_layers": 4},
    "original": {
        "audio": {"variant": "original", "num_towers": 2, "num_timbral_filters": 26},
        "projection_hidden_size": 20,
        "projection_dropout": 0.1,
        "has_text_projection": False,
        "projection_dim": 32,
        "num_upper_text_layers": 1,
    },
    "pooler": {
        "atm_head": "pooler",
        "text_pooling": "cls",
        "feature_norm": "none",
        "global_token": "all",
        "audio": {"hop_length": 160, "n_fft": 400, "sampling_rate": 8_000, "num_mel_bins": 13},
    },
}


@pytest.fixture(scope="module", params=CHANGES)
def folder(request, tmp_path_factory):
    changes = dict(CHANGES[request.param])
    audio = {**TINY, "num_midend_filters": 3, **changes.pop("audio", {})}
    root = tmp_path_factory.mktemp(request.param)
    write_export(write_joint_model(root / "model", **changes, audio=audio), root / "out")
    return root / "out"


def open_graph(folder, name):
    return onnxruntime.InferenceSession(str(folder / f"{name}.onnx"))


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("num_segments", [1, 2, 7])
def test_samples_become_the_features_and_points_of_the_model(folder, num_segments):
    processor = MulapProcessor.from_pretrained(folder)
    extractor = processor.feature_extractor
    rng = np.random.default_rng(num_segments)
    segments = rng.normal(size=(num_segments, extractor.segment_samples)).astype(np.float32)
    segments[0, 100:] = 0.0
    features, points = open_graph(folder, "audio").run(
        ["features", "points"], {"samples": segments}
    )
    model = MulapModel.from_pretrained(folder).eval()
    with torch.no_grad():
        expected = model.audio_backbone(torch.from_numpy(extractor.log_mel(segments)))
        ones = torch.ones(num_segments, 1)
        close(points, model.get_audio_features(expected[:, None], ones).numpy())
    close(features, expected.numpy())
    assert features.std() > 0.01
    close(open_graph(folder, "project").run(None, {"features": features})[0], points)


@pytest.mark.parametrize("num_sentences", [1, 3, 70])
def test_tokens_become_the_points_of_the_model(folder, num_sentences):
    processor, model = MulapProcessor.from_pretrained(folder), MulapModel.from_pretrained(folder)
    texts = [CAPTIONS[i % len(CAPTIONS)] + " song" * (i % 4) for i in range(num_sentences)]
    tokens = processor(texts, return_tensors="np")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    points, states = open_graph(folder, "text").run(None, {"ids": ids, "mask": mask})
    with torch.no_grad():
        tensors = torch.from_numpy(ids), torch.from_numpy(mask)
        close(points, model.eval().get_text_features(*tensors).numpy())
        expected = model.encode_text(*tensors).numpy()
    close(states[mask > 0], expected[mask > 0])


def test_pairs_of_clips_and_sentences_have_the_model_s_log_odds(folder):
    processor = MulapProcessor.from_pretrained(folder)
    model = MulapForPreTraining.from_pretrained(folder).eval()
    size, lengths = model.config.audio_config.feature_size, np.array([1, 5, 3])
    features = np.random.default_rng(0).normal(size=(3, 5, size)).astype(np.float32)
    is_segment = np.arange(5) < lengths[:, None]
    is_hidden = np.zeros_like(is_segment)
    is_hidden[1, 2:4] = True
    tokens = processor(CAPTIONS[:4], return_tensors="np")
    ids, mask = tokens["input_ids"], tokens["attention_mask"]
    states = open_graph(folder, "text").run(["states"], {"ids": ids, "mask": mask})[0]
    clip, caption = np.divmod(np.arange(12), 4)
    inputs = {"features": features, "is_segment": is_segment, "is_hidden": is_hidden}
    inputs |= {"states": states, "mask": mask, "clip": clip, "caption": caption}
    log_odds = open_graph(folder, "match").run(["log_odds"], inputs)[0]
    expected = model.pairs(
        [torch.from_numpy(features[i, :length]) for i, length in enumerate(lengths)],
        torch.from_numpy(ids),
        torch.from_numpy(mask),
        hidden=[torch.from_numpy(is_hidden[i, :length]) for i, length in enumerate(lengths)],
    )["atm"].numpy()
    close(log_odds.reshape(3, 4), expected)
    assert expected.std() > 1e-3


def test_both_backends_say_the_same(folder, tmp_path):
    ours, theirs = (load_engine(folder, backend=backend) for backend in ("onnx", "torch"))
    assert type(ours.backbone).__name__ == "OnnxEmbedder"
    rate, seconds = theirs.backbone.feature_extractor.sampling_rate, 13.7
    samples = tone(3, seconds)[: int(rate * seconds)]
    features = theirs.backbone.embed(samples, rate).embeddings
    close(ours.backbone.embed(samples, rate).embeddings, features)
    close(
        ours.encoder.embed(samples, rate, "track").embeddings,
        theirs.encoder.embed(samples, rate, "track").embeddings,
    )
    close(ours.embed_text(CAPTIONS), theirs.embed_text(CAPTIONS))
    hidden = [np.arange(len(features)) == 1, np.zeros(2, bool)]
    for masks in (None, hidden):
        tracks = [features, features[:2]]
        close(ours.match(tracks, CAPTIONS, masks), theirs.match(tracks, CAPTIONS, masks))
    for one, other in zip(
        ours.attend(features, CAPTIONS[1])[1:],
        theirs.attend(features, CAPTIONS[1])[1:],
        strict=True,
    ):
        close(one, other)
    tokens = ours.tokenize(CAPTIONS[:2])
    is_asked = np.zeros(tokens.ids.shape, bool)
    is_asked[0, 1] = is_asked[1, 2] = True
    scores = [each.score_words(features, tokens, is_asked) for each in (ours, theirs)]
    close(*scores)
    # Vectors of one are vectors of the other, and so is a library.
    assert ours.space == theirs.space
    for each in ("backbone", "encoder"):
        assert getattr(ours, each).describe() == getattr(theirs, each).describe()


def test_a_tagger_s_graphs_give_its_tags(tmp_path):
    write_export("musicnn-mtt", tmp_path / "out")
    ours, theirs = (mulap.load(tmp_path / "out", backend=each) for each in ("onnx", "torch"))
    found, expected = (each.tag(tone(0, 7.0), 16_000) for each in (ours, theirs))
    assert found.tags == expected.tags
    close(found.scores, expected.scores)
    with pytest.raises(ValueError, match="shares no|scores its own tags"):
        ours.zero_shot(["jazz"])


@pytest.mark.parametrize("name", bundled_names())
def test_shipped_graphs_are_those_that_are_written_now(name, tmp_path):
    shipped = Path(locate_weights(name))
    check_sums(shipped)
    for path in shipped.glob("*.json"):
        shutil.copy(path, tmp_path)
    shutil.copy(shipped / "model.safetensors", tmp_path)
    written = write_graphs(tmp_path)
    assert {path.name for path in written} == {path.name for path in shipped.glob("*.onnx")}
    for path in written:
        assert path.stat().st_size < 500_000
        assert filecmp.cmp(path, shipped / path.name, shallow=False), f"run scripts for {path.name}"


def test_what_cannot_be_a_graph_is_refused_in_a_line(tmp_path):
    folder = write_joint_model(tmp_path / "batch", audio={**TINY, "db_reference": "batch"})
    with pytest.raises(ValueError, match="db_reference is batch.* Train with"):
        write_export(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    folder = write_joint_model(tmp_path / "relu", text={"hidden_act": "relu"})
    with pytest.raises(ValueError, match="its text model has relu. Use one with gelu"):
        write_export(folder, tmp_path / "out")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "file").touch()
    with pytest.raises(ValueError, match="there: is there already"):
        write_export("musicnn-mtt", tmp_path / "there")


def test_a_model_without_heads_or_a_joint_space_has_fewer_graphs(tmp_path):
    plain = write_joint_model(tmp_path / "plain", has_contrastive_head=False, text_pooling="cls")
    assert [path.name for path in write_export(plain, tmp_path / "a")] == ["audio.onnx"]
    joint = write_joint_model(tmp_path / "joint")
    model = MulapModel.from_pretrained(joint)
    model.save_pretrained(joint)
    names = [path.name for path in write_export(joint, tmp_path / "b")]
    assert names == ["audio.onnx", "project.onnx", "text.onnx"]
    assert not load_engine(tmp_path / "b", backend="onnx").can_match
    tagger = MusicnnForTagging.from_pretrained("musicnn-mtt")
    tagger.backbone.save_pretrained(tmp_path / "backbone")
    assert [p.name for p in write_export(tmp_path / "backbone", tmp_path / "c")] == ["audio.onnx"]
    config = json.loads((tmp_path / "c" / "config.json").read_text())
    assert config["model_type"] == "mulap_audio"
