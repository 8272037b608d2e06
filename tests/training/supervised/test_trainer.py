"""Validation at track level, plateau, patience, batches, gradients."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import has_no_gradient
from toy_task import (
    Watch,
    assert_equal_weights,
    extractor_of,
    make_data,
    make_settings,
    read_log,
    run,
    run_watched,
    small_start,
    toy_sounds,
)

from mulap.data.reader import read_tracks
from mulap.encoders.backbones import load_backbone
from mulap.model.config import MulapAudioConfig
from mulap.tasks.metrics import headline
from mulap.training.supervised.classifier import (
    MusicnnClassifier,
    classifier_config,
    load_classifier,
)
from mulap.training.supervised.run import train_supervised
from mulap.training.supervised.tracks import SegmentDataset
from mulap.training.supervised.trainer import (
    SupervisedTrainer,
    count_batch,
    is_out_of_patience,
    predict_tracks,
)

pytestmark = pytest.mark.usefixtures("one_thread")


def script_validation(monkeypatch, scores):
    """Let validations find these scores, in turn."""
    left = iter(scores)
    monkeypatch.setattr(
        "mulap.training.supervised.trainer.headline", lambda *args: np.array([next(left)])
    )


@pytest.mark.parametrize("kind", ["class", "tags", "numbers"])
def test_from_scratch_every_parameter_gets_a_gradient(tmp_path, monkeypatch, kind):
    watch = Watch()
    data, training = make_data(kind), {"num_epochs": 1}
    report = run_watched(monkeypatch, watch, data, tmp_path / "run", start=None, training=training)
    assert json.loads((tmp_path / "run" / "corpus.json").read_text())["start"] == "random"
    assert load_backbone(report.best).config.num_mel_bins == 96
    assert watch.begun == [0, 1]
    without = {name for name, size in watch.gradients.items() if size == 0.0}
    assert without <= {name for name in watch.gradients if has_no_gradient(name)}


def test_a_negative_r2_saves_a_checkpoint_and_the_best_is_the_least_bad_E36(tmp_path, monkeypatch):
    script_validation(monkeypatch, [-5.0, -2.0, -3.0])
    report = run(make_data("numbers"), tmp_path / "run", training={"num_epochs": 3})
    assert report.valid_scores == (-2.0,)
    assert_equal_weights(report.best, tmp_path / "run" / "checkpoint-4")
    assert_equal_weights(tmp_path / "run" / "last", tmp_path / "run" / "checkpoint-6")


def test_the_rate_falls_on_a_plateau_and_the_run_stops_out_of_patience(tmp_path, monkeypatch):
    script_validation(monkeypatch, [-1.0, -0.9, -0.9, -0.95, -0.9, -0.9, 1.0])
    changes = {"num_epochs": 9, "plateau_patience": 1, "stop_patience": 4, "plateau_factor": 0.1}
    data = make_data("numbers")
    report = run(data, tmp_path / "run", training=changes)
    log = read_log(tmp_path / "run")
    assert [record["epoch"] for record in log if "valid/r2" in record] == [1, 2, 3, 4, 5, 6]
    rates = {record["epoch"]: record["learning_rate"] for record in log if "loss" in record}
    # Two validations without a better one are a plateau: after epoch 4 and again after 6.
    expected = dict.fromkeys((1, 2, 3, 4), 0.01) | dict.fromkeys((5, 6), 0.001)
    assert {e: rates[e] for e in expected} == pytest.approx(expected)
    assert report.valid_scores == (-0.9,)
    assert_equal_weights(report.best, tmp_path / "run" / "checkpoint-4")
    # Called again, it is still finished.
    watch = Watch()
    run_watched(monkeypatch, watch, data, tmp_path / "run", training=changes)
    assert watch.begun == []


@pytest.mark.parametrize(
    ("scores", "expected"),
    [([], False), ([-3.0], False), ([1, 2, 2], False), ([2, 1, 1], True), ([2, 1, 3], False)],
)
def test_patience_is_counted_from_the_first_best(scores, expected):
    assert is_out_of_patience(scores, 2) is expected


def test_scores_depend_neither_on_other_tracks_nor_on_how_many_there_are_E34(straight):
    report, _ = straight
    model = load_classifier(report.best)
    paths = [toy_sounds() / f"{index}.wav" for index in range(22)]
    audio = read_tracks(extractor_of(report.best), paths, keep=True)
    everything = predict_tracks(model, SegmentDataset(audio, np.arange(22)))
    some = predict_tracks(model, SegmentDataset(audio, np.array([7, 3, 21])))
    np.testing.assert_array_equal(some, everything[[7, 3, 21]])
    assert not model.training


def test_the_validation_metric_is_the_one_of_all_tracks_whatever_the_batch_size_E34(tmp_path):
    data = make_data("tags")
    for batch_size in (5, 12):
        training = {"batch_size": batch_size, "num_epochs": 1}
        report = run(data, tmp_path / str(batch_size), training=training)
        valid = data.folds[0].valid
        paths = [data.audio_path(index) for index in range(22)]
        audio = read_tracks(extractor_of(report.best), paths, keep=True)
        outputs = predict_tracks(load_classifier(report.best), SegmentDataset(audio, valid))
        expected = headline("tags", data.targets[valid], outputs[None])[0]
        assert report.valid_scores == (expected,)


@pytest.mark.parametrize(
    ("num_tracks", "expected"), [(64, 64), (65, 33), (3, 3), (129, 43), (15_244, 64)]
)
def test_batches_of_an_epoch_are_nearly_equal_and_none_is_larger_than_asked(num_tracks, expected):
    training = make_settings(training={"batch_size": 64}).training
    assert count_batch(training, num_tracks) == expected


def test_batch_sizes_are_over_all_processes(monkeypatch):
    training = make_settings(training={"batch_size": 64}).training
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert count_batch(training, 1000) == 32
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ValueError, match="batch_size = 64 is no multiple of 3 processes"):
        count_batch(training, 1000)


def test_validation_may_hear_a_few_segments_of_each_track_but_the_test_hears_all(tmp_path):
    data = make_data("tags")
    changes = {"data": {"valid_segments": 1}, "training": {"num_epochs": 1}}
    settings = make_settings(**changes)
    report = train_supervised(data, tmp_path / "run", settings, small_start())
    model = load_classifier(report.best)
    paths = [data.audio_path(index) for index in range(22)]
    audio = read_tracks(extractor_of(report.best), paths, keep=True)
    fold = data.folds[0]
    outputs = predict_tracks(model, SegmentDataset(audio, fold.valid, 1))
    assert report.valid_scores == (headline("tags", data.targets[fold.valid], outputs[None])[0],)
    everything = predict_tracks(model, SegmentDataset(audio, fold.test))
    np.testing.assert_array_equal(report.predictions.outputs[0], everything)


@pytest.mark.parametrize("reference", ["segment", "batch"])
def test_a_batch_has_one_floor_where_the_backbone_was_trained_so(reference):
    backbone = MulapAudioConfig(num_timbral_filters=2, db_reference=reference)
    model = MusicnnClassifier(classifier_config(backbone, "numbers", ("pitch",), 0)).eval()
    heard = []
    model.register_forward_pre_hook(lambda _, inputs: heard.append(inputs[0]))
    log_mels = torch.linspace(-90.0, 20.0, 3 * 96 * 188).view(3, 96, 188)
    batch = {"input_features": log_mels, "targets": torch.zeros(3, 1)}
    SupervisedTrainer.compute_loss(SimpleNamespace(classifier=model), model, batch)
    expected = log_mels.clamp_min(-60.0) if reference == "batch" else log_mels
    torch.testing.assert_close(heard[0], expected)
