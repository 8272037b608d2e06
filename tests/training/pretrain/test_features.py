"""Features of a frozen backbone: those of its log-mels, computed once, from files or prepared."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import write_corpus, write_settings

from mulap.data.dataset import ClipDataset, ClipReader
from mulap.data.manifest import read_manifest
from mulap.data.prepared.recipe import Recipe, audio_settings
from mulap.data.prepared.write import prepare
from mulap.encoders import embedder as embedder_module
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone
from mulap.training.pretrain.comparison import evaluate_run
from mulap.training.pretrain.features import use_cached_features
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings

SMALL = MulapAudioConfig(num_timbral_filters=4, num_temporal_filters=2, num_midend_filters=3)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), num_train=9, num_valid=3, seconds=9.5)
    (folder / "clip-04.wav").write_bytes(b"no audio")
    return folder


@pytest.fixture(scope="module")
def embedder():
    return Embedder(random_backbone(SMALL), "frozen")


EXTRACTOR = MulapFeatureExtractor.from_config(SMALL)


def make_dataset(data, embedder, crop, **changes):
    reader = ClipReader(embedder.feature_extractor, 6.0, crop, **changes)
    return ClipDataset(read_manifest(data).split("train"), reader)


@pytest.mark.parametrize("crop", ["start", "random"])
@pytest.mark.parametrize("store", [None, "log-mel", "pcm"])
def test_items_are_the_features_of_the_log_mels(corpus, embedder, tmp_path, crop, store):
    data = corpus
    if store:
        audio = audio_settings(embedder.feature_extractor, store)
        dtype = "float32"
        data = tmp_path / "prepared"
        prepare(corpus, data, Recipe(store, dtype, None, audio))
    plain, cached = (make_dataset(data, embedder, crop) for _ in range(2))
    plain.verify(keep=True)
    failures = use_cached_features(cached, embedder, tmp_path / "features")
    assert [clip.audio_path.name for clip, _ in failures] == ([] if store else ["clip-04.wav"])
    assert len(cached) == len(plain) == 8
    starts = set()
    for epoch in range(4):
        for index in range(8):
            item, expected = cached[epoch, index], plain[epoch, index]
            assert item.caption == expected.caption
            if store != "pcm" or crop == "start":  # crops of samples begin anywhere
                rows = embedder.embed_input(expected.input_features)
                np.testing.assert_allclose(item.input_features, rows, atol=1e-4)
            starts.add(item.input_features[0].tobytes())
    assert len(starts) > 8 if crop == "random" else len(starts) == 8


def test_features_are_computed_once(corpus, embedder, tmp_path, monkeypatch):
    first = make_dataset(corpus, embedder, "start")
    use_cached_features(first, embedder, tmp_path)
    monkeypatch.setattr(embedder_module.Embedder, "embed_input", None)
    again = make_dataset(corpus, embedder, "start")
    use_cached_features(again, embedder, tmp_path)
    np.testing.assert_array_equal(again[0, 3].input_features, first[0, 3].input_features)


def test_a_run_with_a_frozen_backbone_leaves_it_as_it_was_and_is_evaluated(
    corpus, tmp_path, monkeypatch
):
    path = write_settings(
        tmp_path / "settings.yaml",
        model={
            "audio_weights": ["musicnn-mtt"],
            "freeze": ["backbone"],
            "feature_norm": "batch",
            "has_contrastive_head": True,
            "text_pooling": "mean",
        },
        data={
            "crop": "random",
            "cache_features": False,
            "features_folder": str(tmp_path / "shared"),
        },
        objectives={"contrastive": 1.0},
        training={"batch_size": 4, "micro_batch_size": 2},
    )
    report = pretrain(load_settings(path), corpus, tmp_path / "run")
    assert report.num_clips == {"train": 8, "valid": 3}
    assert report.num_failures == 1
    trained = load_file(report.last / "model.safetensors")
    theirs = Embedder.from_pretrained("musicnn-mtt").backbone.state_dict()
    for name, value in theirs.items():
        assert torch.equal(trained[f"mulap.audio_backbone.{name}"], value), name
    assert list((tmp_path / "shared").iterdir())
    assert not (tmp_path / "run" / "features").exists()
    # A batch of such a run is too large to pass the backbone, and its features are there.
    monkeypatch.setattr(MusicnnBackbone, "forward", None)
    found = evaluate_run(report.last.parent, corpus, "valid", pool=3)
    assert found.num_clips == 3
    assert found.untrained
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    last = [row for row in log if "valid/loss" in row][-1]  # the same features, by the same batches
    assert found.trained.metrics["loss"] == pytest.approx(last["valid/loss"], rel=1e-4)
    assert found.trained.metrics["loss/contrastive"] != found.untrained.metrics["loss/contrastive"]


@pytest.mark.parametrize("store", [None, "log-mel"])
def test_with_a_gain_half_of_the_items_are_of_the_clip_made_louder_or_softer(
    corpus, embedder, tmp_path, store
):
    data = corpus
    if store:
        data = tmp_path / "prepared"
        prepare(corpus, data, Recipe(store, "float32", None, audio_settings(EXTRACTOR, store)))
    plain, cached = (make_dataset(data, embedder, "start") for _ in range(2))
    plain.verify(keep=True)
    use_cached_features(cached, embedder, tmp_path / "features", gain_db=8.0)
    num_amplified, levels = 0, set()
    for index in range(8):
        log_mels = plain[0, index].input_features
        at_level = {
            gain: embedder.embed_input(EXTRACTOR.amplify(log_mels, gain))
            for gain in (0.0, -8.0, -4.0, 4.0, 8.0)
        }
        of_clip = set()
        for epoch in range(20):
            item = cached[epoch, index]
            np.testing.assert_allclose(item.own_features, at_level[0.0], atol=1e-4)
            distance = {
                gain: np.abs(rows - item.input_features).max() for gain, rows in at_level.items()
            }
            gain = min(distance, key=distance.__getitem__)
            assert distance[gain] < 1e-3
            num_amplified += gain != 0
            of_clip.add(gain)
        assert len(of_clip) == 2  # its own level, and another
        levels |= of_clip
    assert 50 < num_amplified < 110
    assert len(levels) > 3
