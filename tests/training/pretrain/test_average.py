"""The average track beside a run's models: of its training clips, so that `tag` takes any run."""

import json

import numpy as np
import pytest
from tiny import write_corpus, write_settings

from mulap.cli import main
from mulap.data.dataset import ClipDataset, ClipReader
from mulap.data.manifest import read_manifest
from mulap.encoders.embedder import Embedder
from mulap.encoders.zero_shot import Reference
from mulap.training.pretrain.features import use_cached_features
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"), num_train=9, num_valid=3)


@pytest.fixture(scope="module", params=[[], ["backbone"]], ids=["trained", "frozen"])
def best(request, corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    model = {"has_contrastive_head": True, "freeze": request.param}
    path = write_settings(folder / "s.yaml", model=model, objectives={"contrastive": 1.0})
    return pretrain(load_settings(path), corpus, folder / "run").best


def test_it_is_the_mean_of_the_training_clips(best, corpus, tmp_path):
    settings = load_settings(best.parent / "settings.yaml")
    embedder = Embedder.from_pretrained(best)
    reader = ClipReader(embedder.feature_extractor, settings.data.crop_seconds)
    clips = ClipDataset(read_manifest(corpus).split("train"), reader)
    assert use_cached_features(clips, embedder, tmp_path) == []
    features = np.stack([clips[index].input_features.mean(0) for index in range(9)])
    points = embedder.joint.project(features)
    reference = Reference.load(best)
    np.testing.assert_allclose(reference.mean, points.mean(0), atol=1e-3)
    covariance = np.cov(points, rowvar=False, bias=True)
    np.testing.assert_allclose(reference.factor.T @ reference.factor, covariance, atol=1e-3)


def test_any_words_are_scored_by_a_run(best, corpus, capsys):
    clip = next(corpus.glob("*.wav"))
    command = ["tag", str(clip), "--model", str(best), "--tags", "piano,a drum", "--json"]
    assert main(command, standalone_mode=False) in (None, 0)
    assert json.loads(capsys.readouterr().out)["tags"].keys() == {"piano", "a drum"}
