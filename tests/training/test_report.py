"""A finished run is evaluated beside the model that it started from; damage is a line."""

import json
import shutil

import pytest
from tiny import write_corpus, write_settings

from mulap.training.pretrain import pretrain
from mulap.training.report import evaluate_run
from mulap.training.settings import load_settings


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A corpus and a run on it; to be read, not to be changed."""
    folder = tmp_path_factory.mktemp("report")
    corpus = write_corpus(folder / "corpus", num_train=8, num_valid=4, seconds=3.2)
    settings = load_settings(write_settings(folder / "settings.yaml", training={"num_epochs": 1}))
    pretrain(settings, corpus, folder / "run")
    return folder


@pytest.fixture
def run(finished, tmp_path):
    return shutil.copytree(finished / "run", tmp_path / "run")


def test_the_trained_model_stands_beside_the_one_it_started_from(finished):
    whole = evaluate_run(finished / "run", finished / "corpus", "valid", pool=4)
    assert whole.num_clips == 4
    assert whole.untrained is not None
    assert whole.trained.metrics != whole.untrained.metrics
    assert whole.trained.metrics.keys() == whole.untrained.metrics.keys()
    alone = evaluate_run(finished / "run", finished / "corpus", "valid", False, pool=4)
    assert alone.untrained is None
    assert alone.trained.metrics == whole.trained.metrics


def test_a_split_without_clips_is_a_line(finished):
    with pytest.raises(ValueError, match="no clip of the test split can be used"):
        evaluate_run(finished / "run", finished / "corpus", "test")


def without_its_kind(tokenizer):
    tokenizer["model"]["type"] = "NoSuchModel"  # tokenizers raises a bare Exception


def with_a_word_too_many(tokenizer):
    words = tokenizer["model"]["vocab"]
    words["a word that the model does not know"] = len(words)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (without_its_kind, "NoSuchModel|did not match"),
        (with_a_word_too_many, "is beyond the model"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_a_line(finished, run, damage, says):
    path = run / "best" / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    damage(tokenizer)
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(ValueError, match=f"has no processor: .*({says}).*copy it again"):
        evaluate_run(run, finished / "corpus", "valid", False)


@pytest.mark.parametrize("name", ["pad", "mask"])
def test_a_tokenizer_without_a_token_that_is_needed_is_a_line(finished, run, name):
    path = run / "best" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config[f"{name}_token"] = None
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"has no processor: .*no {name} token"):
        evaluate_run(run, finished / "corpus", "valid", False)
