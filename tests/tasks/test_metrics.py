"""Run: .venv/bin/python -m pytest tests/tasks/test_metrics.py"""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from mulap.tasks import metrics
from mulap.tasks.bootstrap import bootstrap_counts
from mulap.tasks.metrics import (
    DEFAULT_THRESHOLD,
    choose_thresholds,
    decide,
    headline,
    mean_of_defined,
    measure,
)

few = settings(derandomize=True, max_examples=40, deadline=None)
seeds = st.integers(0, 2**32 - 1)


def make_tags(seed, num_tracks=None, num_labels=4, num_models=2, num_levels=None):
    """Targets, outputs, decisions; few levels make many ties, one level constant scores."""
    rng = np.random.default_rng(seed)
    num_tracks = num_tracks or int(rng.integers(1, 40))
    num_levels = num_levels or int(rng.choice([1, 2, 5, 1000]))
    targets = rng.random((num_tracks, num_labels)) < rng.random(num_labels)
    outputs = rng.integers(num_levels, size=(num_models, num_tracks, num_labels)) / num_levels
    return targets, outputs.astype(np.float32), rng.random(outputs.shape) < 0.4


def defined_tags(targets, counts):
    drawn = targets[counts > 0]
    return drawn.any(0) & ~drawn.all(0)


def assert_equal(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-12)


@few
@given(seeds)
def test_tags_score_as_scikit_learn_does_with_ties_and_weights(seed):
    targets, outputs, decisions = make_tags(seed)
    counts = np.concatenate(
        [np.ones((1, len(targets)), int), bootstrap_counts(np.arange(len(targets)), 3, seed)]
    )
    overall, per_label = measure("tags", targets, outputs, decisions, counts)
    for draw, weights in enumerate(counts):
        is_defined = defined_tags(targets, weights)
        for model in range(len(outputs)):
            values = {name: each[model, draw] for name, each in per_label.items()}
            assert np.isnan(values["roc_auc"]).tolist() == (~is_defined).tolist()
            for label in np.flatnonzero(is_defined):
                pair = targets[:, label], outputs[model, :, label]
                expected = sklearn_metrics.roc_auc_score(*pair, sample_weight=weights)
                assert_equal(values["roc_auc"][label], expected)
                expected = sklearn_metrics.average_precision_score(*pair, sample_weight=weights)
                assert_equal(values["pr_auc"][label], expected)
                expected = sklearn_metrics.f1_score(
                    pair[0], decisions[model, :, label], sample_weight=weights, zero_division=0
                )
                assert_equal(values["f1"][label], expected)
            for name in ("roc_auc", "pr_auc", "f1"):
                kept = values[name][is_defined]
                assert len(kept) == 0 or np.isclose(overall[name][model, draw], kept.mean())


@few
@given(seeds)
def test_micro_scores_are_over_all_pairs_and_equal_scikit_learns(seed):
    targets, outputs, _ = make_tags(seed, num_tracks=25)
    targets[0], targets[1] = True, False
    counts = np.concatenate([np.ones((1, 25), int), bootstrap_counts(np.arange(25), 2, seed)])
    counts[:, :2] = 1
    overall, _ = measure("tags", targets, outputs, None, counts)
    for draw, weights in enumerate(counts):
        drawn = np.repeat(np.arange(25), weights)
        pair = targets[drawn], outputs[1][drawn]
        expected = sklearn_metrics.roc_auc_score(*pair, average="micro")
        assert_equal(overall["roc_auc_micro"][1, draw], expected)
        expected = sklearn_metrics.average_precision_score(*pair, average="micro")
        assert_equal(overall["pr_auc_micro"][1, draw], expected)


def test_macro_and_micro_are_two_things_and_the_headline_is_macro():
    targets, outputs, _ = make_tags(3, num_tracks=300, num_levels=1000)
    outputs = outputs * 0.5 + 0.5 * targets.mean(0)  # frequent tags score higher: helps micro only
    overall, _ = measure("tags", targets, outputs)
    assert abs(overall["roc_auc"] - overall["roc_auc_micro"]).min() > 0.05
    expected = [sklearn_metrics.roc_auc_score(targets, each, average="macro") for each in outputs]
    assert_equal(headline("tags", targets, outputs), expected)


@few
@given(seeds, st.integers(2, 6))
def test_classes_score_as_scikit_learn_does_also_with_classes_missing_in_a_draw(seed, num_labels):
    rng = np.random.default_rng(seed)
    num_tracks = int(rng.integers(1, 30))
    targets = rng.integers(num_labels, size=num_tracks)
    outputs = rng.random((2, num_tracks, num_labels))
    counts = np.concatenate(
        [np.ones((1, num_tracks), int), bootstrap_counts(np.arange(num_tracks), 4, seed)]
    )
    overall, per_label = measure("class", targets, outputs, None, counts)
    for draw, weights in enumerate(counts):
        drawn = np.repeat(np.arange(num_tracks), weights)
        for model in range(2):
            pair = targets[drawn], outputs[model].argmax(1)[drawn]
            values = {name: each[model, draw] for name, each in overall.items()}
            assert_equal(values["accuracy"], sklearn_metrics.accuracy_score(*pair))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a class that is chosen but never true; one class
                expected = sklearn_metrics.balanced_accuracy_score(*pair)
            assert_equal(values["balanced_accuracy"], expected)
            expected = sklearn_metrics.f1_score(*pair, average="macro", zero_division=0)
            assert_equal(values["f1"], expected)
            recall = per_label["recall"][model, draw]
            assert np.flatnonzero(~np.isnan(recall)).tolist() == sorted(set(pair[0].tolist()))
    expected = [sklearn_metrics.accuracy_score(targets, each.argmax(1)) for each in outputs]
    assert_equal(headline("class", targets, outputs), expected)


@few
@given(seeds)
def test_numbers_score_as_scikit_learn_does_and_constant_targets_have_no_r2(seed):
    rng = np.random.default_rng(seed)
    num_tracks = int(rng.integers(2, 30))
    targets = rng.normal(3, 2, (num_tracks, 3)).round(1)
    outputs = targets + rng.normal(0, 2, (2, num_tracks, 3))
    counts = np.concatenate(
        [np.ones((1, num_tracks), int), bootstrap_counts(np.arange(num_tracks), 4, seed)]
    )
    overall, per_label = measure("numbers", targets, outputs, None, counts)
    for draw, weights in enumerate(counts):
        drawn = targets[weights > 0]
        for label in range(3):
            value = per_label["r2"][1, draw, label]
            assert np.isnan(value) == (len(np.unique(drawn[:, label])) == 1)
            if not np.isnan(value):
                expected = sklearn_metrics.r2_score(
                    targets[:, label], outputs[1, :, label], sample_weight=weights
                )
                assert_equal(value, expected)
        assert_equal(overall["r2"][1, draw], mean_of_defined(per_label["r2"][1, draw]))


def test_equal_targets_have_no_r2_though_their_mean_rounds():
    targets = np.array([[0.1, 1], [0.1, 2], [0.1, 3]])
    _, per_label = measure("numbers", targets, targets[None] + 0.5)
    assert np.isnan(per_label["r2"][0, 0, 0])
    assert per_label["r2"][0, 0, 1] == 1 - 0.75 / 2


def test_a_negative_r2_stays_negative_so_the_best_of_bad_models_can_be_found():
    targets = np.array([[1.0], [2.0], [3.0]])
    outputs = np.stack([targets + 9, targets + 2, targets + 4])
    scores = headline("numbers", targets, outputs)
    assert_equal(scores, [1 - 243 / 2, 1 - 12 / 2, 1 - 48 / 2])
    assert scores.argmax() == 1


@pytest.mark.parametrize("max_cells", [1, 300, 2000, 2**20])
@pytest.mark.parametrize("kind", ["tags", "class", "numbers"])
def test_draws_score_the_same_in_whatever_batches_they_are_worked_through(
    kind, max_cells, monkeypatch
):
    rng = np.random.default_rng(0)
    targets, outputs, decisions = make_tags(1, num_tracks=31)
    if kind == "class":
        targets = rng.integers(4, size=31)
    if kind == "numbers":
        targets = rng.random((31, 4))
    counts = bootstrap_counts(np.arange(31), 13)
    monkeypatch.setattr(metrics, "_MAX_CELLS", max_cells)
    overall, per_label = measure(kind, targets, outputs, decisions, counts)
    for draw in range(13):
        one, one_per_label = measure(kind, targets, outputs, decisions, counts[draw : draw + 1])
        for name in one:
            assert_equal(overall[name][:, draw], one[name][:, 0])
        for name in one_per_label:
            assert_equal(per_label[name][:, draw], one_per_label[name][:, 0])


@pytest.mark.parametrize("num_tracks", [7, 8, 9, 15, 16, 17])
def test_the_headline_counts_every_track_also_the_last_of_an_odd_number(num_tracks):
    """Rows left at zero would count as class 0, and right: targets and outputs must be whole."""
    targets = np.arange(num_tracks) % 3
    outputs = np.eye(3)[targets][None].repeat(num_tracks + 1, 0)
    for track in range(num_tracks):
        outputs[track, track] = np.roll(outputs[track, track], 1)
    expected = [1 - 1 / num_tracks] * num_tracks + [1.0]
    assert_equal(headline("class", targets, outputs), expected)


def test_weights_count_a_track_as_often_as_it_was_drawn():
    targets, outputs, decisions = make_tags(5, num_tracks=20, num_levels=5)
    counts = bootstrap_counts(np.arange(20), 5, seed=1)
    overall, _ = measure("tags", targets, outputs, decisions, counts)
    for draw, weights in enumerate(counts):
        drawn = np.repeat(np.arange(20), weights)
        plain, _ = measure("tags", targets[drawn], outputs[:, drawn], decisions[:, drawn])
        for name in plain:
            assert_equal(overall[name][:, draw], plain[name][:, 0])


def test_outputs_that_are_not_finite_are_refused_with_the_position_of_the_track():
    targets, outputs, _ = make_tags(0, num_tracks=9)
    for bad in (np.nan, np.inf):
        outputs[1, 7, 2] = bad
        for call in (headline, measure):
            with pytest.raises(ValueError, match=r"track at position 7 .* 1 of 9 tracks"):
                call("tags", targets, outputs)
        with pytest.raises(ValueError, match="position 7"):
            choose_thresholds(targets, outputs)


def test_the_headline_alone_is_what_it_is_among_all_metrics():
    rng = np.random.default_rng(5)
    targets = rng.random((40, 4)) < 0.3
    outputs, counts = rng.integers(0, 9, (2, 40, 4)) / 9, bootstrap_counts(np.arange(40), 6)
    overall, per_label = measure("tags", targets, outputs, outputs > 0.5, counts)
    alone, alone_per_label = measure("tags", targets, outputs, None, counts, headline_only=True)
    assert list(alone) == list(alone_per_label) == ["roc_auc"]
    assert np.array_equal(alone["roc_auc"], overall["roc_auc"], equal_nan=True)
    assert np.array_equal(alone_per_label["roc_auc"], per_label["roc_auc"], equal_nan=True)


@pytest.mark.parametrize("kind", ["tags", "numbers"])
def test_a_headline_of_nothing_is_refused(kind):
    targets = np.zeros((5, 2), bool if kind == "tags" else float)
    with pytest.raises(ValueError, match="no label can be scored"):
        headline(kind, targets, np.random.default_rng(0).random((2, 5, 2)))


@few
@given(seeds)
def test_the_chosen_threshold_has_the_best_f1_of_all_and_is_the_highest_such(seed):
    targets, outputs, _ = make_tags(seed)
    thresholds = choose_thresholds(targets, outputs)
    assert thresholds.shape == (2, 4)
    decisions = decide(outputs, thresholds)
    for model in range(2):
        for label in range(4):
            truth, scores = targets[:, label], outputs[model, :, label]
            if not truth.any():
                assert thresholds[model, label] == DEFAULT_THRESHOLD
                continue
            f1 = {each: sklearn_metrics.f1_score(truth, scores >= each) for each in set(scores)}
            best = max(f1.values())
            chosen = max(each for each in f1 if f1[each] > best - 1e-12)
            assert thresholds[model, label] == chosen
            assert decisions[model, :, label].tolist() == (scores >= chosen).tolist()


def test_thresholds_of_validation_know_nothing_of_test_labels():
    valid_targets, test_targets = np.array([[0], [0], [1], [1]]) > 0, np.array([[0], [1], [1]]) > 0
    valid_outputs = np.array([0.1, 0.2, 0.6, 0.9])[None, :, None]
    test_outputs = np.array([0.3, 0.5, 0.7])[None, :, None]  # 0.5 is a positive just too low
    decisions = decide(test_outputs, choose_thresholds(valid_targets, valid_outputs))
    assert decisions.ravel().tolist() == [False, False, True]
    overall, _ = measure("tags", test_targets, test_outputs, decisions)
    assert_equal(overall["f1"][0, 0], 2 / 3)  # thresholds tuned on test would give 1
    assert "f1" not in measure("tags", test_targets, test_outputs)[0]
