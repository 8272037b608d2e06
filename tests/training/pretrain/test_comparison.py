"""A finished run is evaluated beside the model that it started from; damage is a line."""

import csv
import json
import shutil

import numpy as np
import pytest
from tiny import write_corpus, write_settings

from mulap.data import reader
from mulap.data.reader import decode_files
from mulap.tasks.bootstrap import bootstrap_interval
from mulap.training.pretrain import comparison as report
from mulap.training.pretrain.comparison import RunEvaluation, evaluate_run
from mulap.training.pretrain.evaluate import Evaluation
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings


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


@pytest.mark.parametrize("crop", ["start", "random"])
def test_a_model_is_evaluated_on_what_its_run_validated_on(tmp_path, crop):
    corpus = write_corpus(tmp_path / "corpus", num_train=4, num_valid=6, seconds=9.7)
    with open(corpus / "metadata.csv", "a") as out:  # two captions each, of which one is drawn
        out.writelines(
            f"clip-{index:02}.wav,a sad choir song {index},valid\n" for index in range(4, 10)
        )
    data = {"crop": crop, "crop_seconds": 3.0, "cache_features": False}
    training = {"num_epochs": 1, "seed": 3, "retrieval_pool": 5}
    written = write_settings(tmp_path / "settings.yaml", data=data, training=training)
    validated = pretrain(load_settings(written), corpus, tmp_path / "run").metrics
    found = evaluate_run(tmp_path / "run", corpus, "valid", False, pool=5)
    # A model of one epoch scores captions nearly alike: their order is that of the last bits.
    same = {name: value for name, value in validated.items() if "/to_text/" not in name}
    ours = {name: value for name, value in found.trained.metrics.items() if name in same}
    assert ours == pytest.approx(same, rel=1e-4)
    assert found.trained.metrics.keys() == validated.keys()


def test_a_split_that_is_too_large_to_keep_is_read_again_with_the_same_figures(
    finished, monkeypatch
):
    kept = []
    verify = report.ClipDataset.verify
    monkeypatch.setattr(
        report.ClipDataset,
        "verify",
        lambda self, workers, keep, lengths: kept.append(keep) or verify(self, workers, keep),
    )
    whole = evaluate_run(finished / "run", finished / "corpus", "valid", pool=4)
    segment_bytes = 4 * 96 * 188
    monkeypatch.setattr(report, "MOST_KEPT_BYTES", 4 * 2 * segment_bytes - 1)  # 4 clips of 6 s
    read_again = evaluate_run(finished / "run", finished / "corpus", "valid", pool=4)
    assert kept == [True, False]
    assert read_again.trained.metrics == whole.trained.metrics
    assert read_again.untrained.metrics == whole.untrained.metrics


@pytest.fixture(scope="module")
def random_crops(tmp_path_factory):
    """A run with random crops and its corpus; to be read, not to be changed."""
    folder = tmp_path_factory.mktemp("random")
    corpus = write_corpus(folder / "corpus", num_train=4, num_valid=4, seconds=6.5)
    data = {"crop": "random", "crop_seconds": 3.0, "cache_features": False}
    written = write_settings(folder / "settings.yaml", data=data, training={"num_epochs": 1})
    pretrain(load_settings(written), corpus, folder / "run")
    return folder


def decoded_by(monkeypatch, action):
    """Return what an action gives, and the names of the files that it decoded as a whole."""
    names = []

    def watched(paths, *options):
        names.extend(path.name for path in paths)
        return decode_files(paths, *options)

    monkeypatch.setattr(reader, "decode_files", watched)
    return action(), names


@pytest.mark.parametrize("model", ["", "best"])
def test_lengths_that_a_run_has_measured_are_not_measured_again(
    random_crops, tmp_path, monkeypatch, model
):
    run = shutil.copytree(random_crops / "run", tmp_path / "run")
    kept = (run / "lengths.json").read_bytes()
    for is_known in (True, False, True):
        if not is_known:
            (run / "lengths.json").unlink()
        found, names = decoded_by(
            monkeypatch, lambda: evaluate_run(run / model, random_crops / "corpus", "valid", False)
        )
        assert names == ([] if is_known else [f"clip-{index:02}.wav" for index in range(4, 8)])
        assert found.trained.metrics["loss"] == pytest.approx(
            json.loads((run / "log.jsonl").read_text().splitlines()[-1])["valid/loss"], rel=1e-4
        )
    # Those of the training split are gone with the file; the others were written down again.
    before, after = json.loads(kept), json.loads((run / "lengths.json").read_bytes())
    assert len(before) == 8
    assert after.items() < before.items()
    assert len(after) == 4


def test_a_run_that_cannot_be_written_is_evaluated_and_left_as_it_is(
    random_crops, tmp_path, monkeypatch
):
    run = shutil.copytree(random_crops / "run", tmp_path / "run")
    (run / "lengths.json").unlink()
    monkeypatch.setattr(reader.os, "access", lambda *given: False)
    evaluate_run(run, random_crops / "corpus", "valid", False)
    assert not (run / "lengths.json").exists()


def test_words_that_the_model_does_not_know_are_reported(finished, tmp_path, capsys):
    corpus = finished / "corpus"
    table = corpus / "metadata.csv"
    with open(table, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    other = tmp_path / "metadata.csv"
    with open(other, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, rows[0])
        writer.writeheader()
        for row in rows:
            row |= {"file_name": str(corpus / row["file_name"]), "caption": "เพลงช้า 🎹"}
            writer.writerow(row)
    evaluate_run(finished / "run", other, "valid", with_untrained=False)
    assert (
        "captions: 100.0% of their words are unknown to the text model" in capsys.readouterr().err
    )


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
    with pytest.raises(ValueError, match=f"has no processor: .*({says}).*Copy it again"):
        evaluate_run(run, finished / "corpus", "valid", False)


@pytest.mark.parametrize("name", ["pad", "mask"])
def test_a_tokenizer_without_a_token_that_is_needed_is_a_line(finished, run, name):
    path = run / "best" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    config[f"{name}_token"] = None
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=f"has no processor: .*no {name} token"):
        evaluate_run(run, finished / "corpus", "valid", False)


def test_intervals_draw_whole_groups_and_not_clips():
    groups = np.repeat(np.arange(4), 25)
    ranks = np.where(groups < 2, 1.0, 50.0)  # a group is found or is not
    found = Evaluation({}, (groups % 2).astype(float), {"atm": ranks}, groups, groups)
    figures = RunEvaluation("test", 100, found, None, []).as_dict()["trained"]
    assert figures["retrieval/groups"] == 4
    for name, values in (("retrieval/atm/R@10", ranks <= 10), ("atm/pair_accuracy", groups % 2)):
        low, high = figures[f"{name}/95%"]
        assert (low, high) == bootstrap_interval(np.asarray(values, float), groups)
        assert high - low > 0.7  # over clips it would be some 0.2
