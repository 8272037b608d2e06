"""`train_supervised` on toys: it learns, and says what was tested."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import RATE, has_no_gradient
from toy_task import (
    LABELS,
    assert_equal_predictions,
    assert_equal_weights,
    extractor_of,
    make_data,
    make_settings,
    read_log,
    run,
    small_start,
    toy_sounds,
    weights,
)

from mulap.data.reader import read_tracks
from mulap.encoders.backbones import load_backbone
from mulap.tasks.metrics import choose_thresholds, decide
from mulap.tasks.result import Predictions, score_predictions
from mulap.tasks.task import Fold
from mulap.training.supervised.classifier import load_classifier
from mulap.training.supervised.run import swap_source, train_supervised_seeds
from mulap.training.supervised.settings import load_supervised_settings
from mulap.training.supervised.tracks import SegmentDataset
from mulap.training.supervised.trainer import predict_tracks

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("kind", "metric", "least"),
    [("class", "accuracy", 1.0), ("tags", "roc_auc", 0.9), ("numbers", "r2", 0.5)],
)
def test_a_separable_toy_is_learned_in_a_few_epochs(tmp_path, kind, metric, least):
    data = make_data(kind)
    report = run(data, tmp_path / "run", training={"num_epochs": 15})
    result = score_predictions(kind, LABELS[kind], report.predictions, num_draws=20)
    assert result.scores[metric].mean >= least
    assert report.valid_scores[0] >= least
    losses = [record["loss"] for record in read_log(tmp_path / "run") if "loss" in record]
    assert losses[-1] < 0.5 * losses[0]


def test_the_test_split_is_the_true_one_and_outputs_are_probabilities_E32(straight):
    report, output = straight
    predictions = report.predictions
    assert predictions.track_ids == tuple(f"t{index}" for index in range(17, 22))
    data = make_data("tags")
    np.testing.assert_array_equal(predictions.targets, data.targets[17:])
    assert predictions.outputs.shape == (1, 5, 3)
    assert ((predictions.outputs > 0) & (predictions.outputs < 1)).all()
    assert predictions.decisions.shape == (1, 5, 3)
    assert report.num_used == {"train": 12, "valid": 5, "test": 5}
    assert_equal_predictions(Predictions.load(output / "predictions.npz"), predictions)


def test_outputs_are_the_mean_of_each_segments_probabilities_E39(straight):
    report, output = straight
    model = load_classifier(output / "best")
    extractor = extractor_of(output / "best")
    for row, track_id in enumerate(report.predictions.track_ids):
        samples, _ = sf.read(toy_sounds() / f"{track_id[1:]}.wav", dtype="float32")
        log_mel = torch.from_numpy(extractor.log_mel(extractor.segment(samples)))
        with torch.no_grad():
            expected = model(log_mel).sigmoid().mean(0)
        np.testing.assert_allclose(report.predictions.outputs[0, row], expected, atol=1e-5)


def test_thresholds_are_chosen_on_validation_E41(straight):
    report, output = straight
    data, model = make_data("tags"), load_classifier(output / "best")
    paths = [data.audio_path(index) for index in range(len(data))]
    audio = read_tracks(extractor_of(output / "best"), paths, keep=True)
    for part, is_right in (("valid", True), ("test", False)):
        tracks = getattr(data.folds[0], part)
        seen = predict_tracks(model, SegmentDataset(audio, tracks))[None]
        thresholds = choose_thresholds(data.targets[tracks], seen)
        decisions = decide(report.predictions.outputs, thresholds)
        assert np.array_equal(decisions, report.predictions.decisions) is is_right


def test_the_best_folder_is_read_by_load_backbone_with_equal_tensors_E35(straight):
    report, output = straight
    assert report.best == output / "best"
    saved = weights(report.best)
    backbone = load_backbone(report.best).state_dict()
    assert len(backbone) == sum(name.startswith("backbone.") for name in saved)
    for name, tensor in backbone.items():
        assert torch.equal(tensor, saved[f"backbone.{name}"]), name
    config = json.loads((report.best / "config.json").read_text())
    assert list(config["id2label"].values()) == list(LABELS["tags"])
    assert (report.best / "preprocessor_config.json").is_file()
    names = {path.name for path in report.best.iterdir()}
    assert not [name for name in names if name.endswith((".pt", ".pth", ".bin"))]


def test_a_run_leaves_what_pretraining_leaves(straight):
    _, output = straight
    assert {path.name for path in output.iterdir()} >= {
        "settings.yaml", "corpus.json", "log.jsonl", "best", "last", "predictions.npz",
    }  # fmt: skip
    assert load_supervised_settings(output / "settings.yaml") == make_settings()
    valid = [record for record in read_log(output) if "valid/roc_auc" in record]
    assert [record["step"] for record in valid] == [2, 4]
    assert not (output / "failures.jsonl").exists()


def test_what_cannot_be_decoded_is_left_out_counted_and_listed(tmp_path):
    shutil.copytree(toy_sounds(), tmp_path / "sounds")
    for index in (0, 13, 18):  # of each split
        (tmp_path / "sounds" / f"{index}.wav").write_bytes(b"no music")
    samples = np.full((RATE * 4, 1), 1e30)
    sf.write(tmp_path / "sounds" / "1.wav", samples, RATE, subtype="DOUBLE")
    report = run(make_data("tags", tmp_path / "sounds"), tmp_path / "run")
    assert report.num_left_out == 4
    assert report.num_used == {"train": 10, "valid": 4, "test": 4}
    assert "t18" not in report.predictions.track_ids
    lines = (tmp_path / "run" / "failures.jsonl").read_text().splitlines()
    reasons = {Path(r["file"]).name: r["reason"] for r in map(json.loads, lines)}
    assert set(reasons) == {"0.wav", "1.wav", "13.wav", "18.wav"}
    assert "absurd size" in reasons["1.wav"]


def test_a_split_that_cannot_be_decoded_or_scored_is_one_clear_error(tmp_path):
    shutil.copytree(toy_sounds(), tmp_path / "sounds")
    for index in range(12, 17):
        (tmp_path / "sounds" / f"{index}.wav").unlink()
    with pytest.raises(ValueError, match="no track in valid can be decoded: see"):
        run(make_data("tags", tmp_path / "sounds"), tmp_path / "run")
    data = make_data("numbers")
    data.targets[data.folds[0].valid] = 1.0
    with pytest.raises(ValueError, match="toy, valid: no label can be scored"):
        run(data, tmp_path / "other")


def test_the_cache_says_its_size_before_it_is_taken(tmp_path, monkeypatch):
    order = []
    from mulap.training.supervised import run as supervised

    read = supervised.read_tracks
    monkeypatch.setattr(
        supervised, "read_tracks", lambda *args: (order.append("read"), read(*args))[1]
    )
    monkeypatch.setattr(supervised, "say", order.append)
    run(make_data("tags"), tmp_path / "run")
    # Of 22 tracks, 8 have 2 segments, 7 one and 7 three: 44 of 16 x 47 x 4 bytes.
    assert order[0] == "keeping the log-mels of 22 tracks in memory: 0.1 MiB a process"
    assert order[1] == "read"


def test_folds_are_runs_of_their_own_whose_predictions_are_pooled_in_order(tmp_path):
    parts = np.array([np.arange(22) % 3 == part for part in range(3)])
    folds = [
        Fold(name, *(np.flatnonzero(parts[(part + shift) % 3]) for shift in (2, 1, 0)))
        for part, name in enumerate(("a", "b/c", "d"))
    ]
    data = make_data("class", folds=folds)
    report = run(data, tmp_path / "run", training={"num_epochs": 1})
    assert report.predictions.track_ids == tuple(f"t{index}" for index in range(22))
    np.testing.assert_array_equal(report.predictions.targets, data.targets)
    assert len(report.valid_scores) == 3
    for part, fold in enumerate(folds):
        one = dataclasses.replace(data, folds=[fold])
        alone = run(one, tmp_path / f"alone-{part}", training={"num_epochs": 1})
        assert_equal_weights(alone.best, tmp_path / "run" / f"fold-{part}" / "best")
        outputs = report.predictions.outputs[:, fold.test]
        np.testing.assert_array_equal(outputs, alone.predictions.outputs)


def test_seeds_are_runs_of_their_own_whose_predictions_are_stacked(straight, tmp_path):
    report, _ = straight
    data = make_data("tags")
    seeds = (3, 0)
    both = train_supervised_seeds(data, tmp_path / "run", make_settings(), seeds, small_start())
    assert both.predictions.outputs.shape == both.predictions.decisions.shape == (2, 5, 3)
    np.testing.assert_array_equal(both.predictions.outputs[1:], report.predictions.outputs)
    np.testing.assert_array_equal(both.predictions.decisions[1:], report.predictions.decisions)
    assert not np.array_equal(both.predictions.outputs[0], both.predictions.outputs[1])
    assert_equal_weights(report.best, tmp_path / "run" / "seed-0" / "best")
    assert both.valid_scores[1:] == report.valid_scores
    with pytest.raises(ValueError, match="seeds are .1, 1.: give different"):
        train_supervised_seeds(data, tmp_path / "run", make_settings(), (1, 1))


@pytest.mark.parametrize("scale", [1.0, 0.0])
def test_a_start_is_fine_tuned_at_a_rate_of_its_own(straight, tmp_path, scale, monkeypatch):
    report, _ = straight
    changes = {"training": {"num_epochs": 1, "pretrained_lr_scale": scale}}
    start = str(report.best)
    tuned = run(make_data("class"), tmp_path / "run", start=start, **changes)
    before, after = load_backbone(start), load_backbone(tuned.best)
    named = dict(after.named_parameters())
    moved = [n for n, p in before.named_parameters() if not torch.equal(p, named[n])]
    trained = [name for name in named if not has_no_gradient(name)]
    assert [name for name in moved if name in trained] == (trained if scale else [])
    assert scale or not moved
    assert json.loads((tmp_path / "run" / "corpus.json").read_text())["start"] != "random"


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("magnatagatune", "mtg_jamendo_top50"),
        ("gtzan", "mtg_jamendo_top50"),
        ("folder", "mtg_jamendo_top50"),
        ("mtg_jamendo_top50", "magnatagatune"),
        ("mtg_jamendo_moodtheme", "magnatagatune"),
    ],
)
def test_the_papers_swap_rule_E44(target, source):
    assert swap_source(target) == source


def test_frozen_statistics_of_numbers_come_from_the_training_split_alone(tmp_path):
    data = make_data("numbers")
    data.targets[12:] += 1000.0
    report = run(data, tmp_path / "run", training={"num_epochs": 1})
    saved = weights(report.best)
    train = data.targets[:12]
    np.testing.assert_allclose(saved["target_mean"], train.mean(0), rtol=1e-6)
    np.testing.assert_allclose(saved["target_deviation"], train.std(0), rtol=1e-6)
