"""Run: .venv/bin/python -m pytest tests/tasks/test_result.py"""

import io
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mulap.tasks.bootstrap import bootstrap_counts
from mulap.tasks.result import Predictions, compare, score_predictions
from mulap.tasks.task import Example, Task, build_task_data

TAGS = ("rock", "jazz", "slow")


def ids(num_tracks):
    return tuple(f"track-{index:03d}" for index in range(num_tracks))


def tag_predictions(num_seeds=3, num_tracks=60, strength=0.3, seed=0):
    rng = np.random.default_rng(seed)
    targets = np.random.default_rng(99).random((num_tracks, 3)) < (0.5, 0.2, 0.3)
    outputs = rng.random((num_seeds, num_tracks, 3)) + strength * targets
    return Predictions(ids(num_tracks), targets, outputs / 2, outputs > 0.7)


def class_predictions(num_seeds=2, num_tracks=40):
    rng = np.random.default_rng(1)
    targets = rng.integers(3, size=num_tracks)
    outputs = rng.dirichlet((1, 1, 1), (num_seeds, num_tracks)) + 0.3 * np.eye(3)[targets]
    return Predictions(ids(num_tracks), targets, outputs)


@pytest.mark.parametrize("make", [tag_predictions, class_predictions])
def test_predictions_come_back_from_disk_bit_for_bit(make, tmp_path):
    predictions = make()
    predictions.save(tmp_path / "a" / "test.npz")
    loaded = Predictions.load(str(tmp_path / "a" / "test.npz"))
    assert loaded.track_ids == predictions.track_ids
    for name in ("targets", "outputs", "decisions"):
        first, second = getattr(predictions, name), getattr(loaded, name)
        assert (first is None) == (second is None)
        if first is not None:
            assert first.dtype == second.dtype
            assert np.array_equal(first, second)


def test_equal_predictions_give_equal_bytes_at_any_time(tmp_path, monkeypatch):
    predictions = tag_predictions()
    predictions.save(tmp_path / "a.npz")
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2030, 5, 5, 5, 5, 5, 0, 1, 0))
    outputs = np.asfortranarray(predictions.outputs.astype(np.float64))
    again = Predictions(
        predictions.track_ids, np.asfortranarray(predictions.targets), outputs,
        predictions.decisions,
    )  # fmt: skip
    again.save(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        assert {member.date_time for member in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_scores_before_saving_and_after_are_the_same(tmp_path):
    predictions = tag_predictions()
    predictions.save(tmp_path / "a.npz")
    before = score_predictions("tags", TAGS, predictions, 50)
    assert before == score_predictions("tags", TAGS, Predictions.load(tmp_path / "a.npz"), 50)


def test_a_file_that_is_none_of_ours_is_refused_in_one_line(tmp_path):
    path = tmp_path / "x.npz"
    with pytest.raises(ValueError, match="no such file"):
        Predictions.load(path)
    path.write_bytes(b"nothing like it")
    with pytest.raises(ValueError, match="not a file of predictions"):
        Predictions.load(path)
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="damaged"):
        Predictions.load(path)
    np.savez(path, outputs=np.zeros(3))
    with pytest.raises(ValueError, match="not a file of predictions"):
        Predictions.load(path)
    tag_predictions().save(path)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="damaged"):
        Predictions.load(path)


def test_a_pickle_is_never_opened(tmp_path):
    path, opened = tmp_path / "x.npz", tmp_path / "opened"

    class Bad:
        def __reduce__(self):
            return open, (str(opened), "w")

    content = io.BytesIO()
    np.save(content, np.array([Bad()], object), allow_pickle=True)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("track_ids.npy", content.getvalue())
    for data in (path.read_bytes(), pickle.dumps(Bad())):
        path.write_bytes(data)
        with pytest.raises(ValueError, match="not a file of predictions"):
            Predictions.load(path)
    assert not opened.exists()


def test_tags_are_scored_a_seed_with_mean_and_deviation():
    predictions = tag_predictions()
    result = score_predictions("tags", TAGS, predictions, 200)
    assert list(result.scores) == ["roc_auc", "pr_auc", "f1", "roc_auc_micro", "pr_auc_micro"]
    expected = [
        sklearn_metrics.roc_auc_score(predictions.targets, outputs)
        for outputs in predictions.outputs
    ]
    score = result.scores["roc_auc"]
    assert score.values == pytest.approx(expected, abs=1e-12)
    assert score.mean == pytest.approx(np.mean(expected))
    assert score.std == pytest.approx(np.std(expected, ddof=1))
    assert score.low < score.mean < score.high
    expected = [
        sklearn_metrics.f1_score(predictions.targets, decisions, average="macro")
        for decisions in predictions.decisions
    ]
    assert result.scores["f1"].values == pytest.approx(expected, abs=1e-12)
    assert set(result.per_label["pr_auc"]) == set(TAGS)
    assert np.mean(list(result.per_label["pr_auc"].values())) == pytest.approx(
        result.scores["pr_auc"].mean
    )
    assert (result.num_units, result.confusion, result.skipped_labels) == (60, None, ())


def test_without_decisions_from_validation_there_is_no_f1():
    given = tag_predictions()
    predictions = Predictions(given.track_ids, given.targets, given.outputs)
    result = score_predictions("tags", TAGS, predictions, 10)
    assert "f1" not in result.scores
    assert "f1" not in result.per_label


def test_the_interval_is_that_of_resampled_tracks_scored_by_scikit_learn():
    predictions = tag_predictions()
    draws = []
    for weights in bootstrap_counts(np.arange(60), 100, seed=7):
        drawn = np.repeat(np.arange(60), weights)
        draws.append(
            np.mean(
                [
                    sklearn_metrics.roc_auc_score(predictions.targets[drawn], outputs[drawn])
                    for outputs in predictions.outputs
                ]
            )
        )
    score = score_predictions("tags", TAGS, predictions, 100, seed=7).scores["roc_auc"]
    assert (score.low, score.high) == pytest.approx(tuple(np.percentile(draws, (2.5, 97.5))))


def test_one_seed_has_no_deviation_but_an_interval():
    score = score_predictions("tags", TAGS, tag_predictions(1), 50).scores["roc_auc"]
    assert score.std is None
    assert score.low < score.high


def test_a_tag_without_positives_is_left_out_and_named():
    given = tag_predictions()
    targets = given.targets.copy()
    targets[:, 1] = False
    predictions = Predictions(given.track_ids, targets, given.outputs, given.decisions)
    result = score_predictions("tags", TAGS, predictions, 50)
    assert result.skipped_labels == ("jazz",)
    for name in ("roc_auc", "pr_auc", "f1"):
        assert set(result.per_label[name]) == {"rock", "slow"}
        expected = np.mean(list(result.per_label[name].values()))
        assert result.scores[name].mean == pytest.approx(expected)


def test_a_draw_that_loses_a_tags_positives_leaves_the_tag_out():
    given = tag_predictions()
    targets = given.targets.copy()
    targets[:, 1] = False
    targets[5, 1] = True  # lost in about 37 % of draws
    result = score_predictions(
        "tags", TAGS, Predictions(given.track_ids, targets, given.outputs), 100
    )
    assert result.skipped_labels == ()
    assert np.isfinite([result.scores["roc_auc"].low, result.scores["roc_auc"].high]).all()


def test_a_class_has_accuracy_recall_and_a_confusion_matrix():
    predictions = class_predictions()
    result = score_predictions("class", TAGS, predictions, 50)
    assert list(result.scores) == ["accuracy", "balanced_accuracy", "f1"]
    chosen = predictions.outputs.argmax(2)
    expected = np.mean(
        [sklearn_metrics.confusion_matrix(predictions.targets, each) for each in chosen], 0
    )
    assert result.confusion == expected.tolist()
    assert np.trace(expected) / 40 == pytest.approx(result.scores["accuracy"].mean)
    assert result.per_label["recall"]["rock"] == pytest.approx(expected[0, 0] / expected[0].sum())


def test_a_class_without_a_test_track_is_named_and_kept_in_the_confusions():
    given = class_predictions()
    predictions = Predictions(given.track_ids, given.targets % 2, given.outputs)
    result = score_predictions("class", TAGS, predictions, 50)
    assert result.skipped_labels == ("slow",)
    assert len(result.confusion) == 3
    assert set(result.per_label["recall"]) == {"rock", "jazz"}


def test_numbers_have_r2_of_each_label_and_their_mean():
    rng = np.random.default_rng(2)
    targets = rng.random((30, 2))
    outputs = targets + rng.normal(0, 1, (3, 30, 2)) * (0.1, 2)
    predictions = Predictions(ids(30), targets, outputs)
    result = score_predictions("numbers", ("valence", "arousal"), predictions, 50)
    assert list(result.scores) == ["r2", "r2/valence", "r2/arousal"]
    expected = [
        sklearn_metrics.r2_score(targets, each, multioutput="raw_values")
        for each in predictions.outputs
    ]
    assert result.scores["r2/arousal"].values == pytest.approx([e[1] for e in expected])
    assert result.scores["r2"].values == pytest.approx(np.mean(expected, 1))
    assert result.scores["r2/arousal"].high < 0 < result.scores["r2/valence"].low


def test_scoring_nothing_is_refused():
    given = tag_predictions()
    predictions = Predictions(given.track_ids, np.zeros_like(given.targets), given.outputs)
    with pytest.raises(ValueError, match="no label can be scored"):
        score_predictions("tags", TAGS, predictions, 10)
    empty = Predictions((), np.zeros((0, 3), bool), np.zeros((1, 0, 3)))
    with pytest.raises(ValueError, match="no test track"):
        score_predictions("tags", TAGS, empty, 10)


def test_an_output_that_is_not_finite_names_its_track():
    predictions = tag_predictions()
    predictions.outputs[1, 42, 0] = np.nan
    with pytest.raises(ValueError, match="track 'track-042' are not finite"):
        score_predictions("tags", TAGS, predictions, 10)


def test_comparing_finds_the_better_of_two_on_the_same_draws():
    good, bad = tag_predictions(strength=0.8), tag_predictions(num_seeds=2, seed=5)
    difference = compare("tags", TAGS, good, bad, 100)
    first, second = (score_predictions("tags", TAGS, p, 100).scores["roc_auc"] for p in (good, bad))
    assert difference.mean == pytest.approx(first.mean - second.mean)
    assert 0 < difference.low < difference.mean < difference.high
    back = compare("tags", TAGS, bad, good, 100)
    expected = (-difference.mean, -difference.high, -difference.low)
    assert (back.mean, back.low, back.high) == pytest.approx(expected)


def test_a_backbone_compared_with_itself_is_neither_better_nor_worse():
    """Draws that were not paired would give an interval of some width."""
    difference = compare("tags", TAGS, tag_predictions(), tag_predictions(), 50)
    assert (difference.mean, difference.low, difference.high) == (0, 0, 0)


def test_other_tracks_or_targets_are_not_compared():
    first = tag_predictions()
    second = Predictions(first.track_ids[::-1], first.targets, first.outputs)
    with pytest.raises(ValueError, match="different test tracks"):
        compare("tags", TAGS, first, second, 10)
    second = Predictions(first.track_ids, ~first.targets, first.outputs)
    with pytest.raises(ValueError, match="different targets"):
        compare("tags", TAGS, first, second, 10)


def correlated_answers(rng, num_groups, per_group, share):
    """Right or wrong, right by 60 % of all groups; within a group alike in a `share` of them."""
    of_group = np.repeat(rng.random(num_groups) < 0.6, per_group)
    alone = rng.random(num_groups * per_group) < 0.6
    return np.where(rng.random(num_groups * per_group) < share, of_group, alone)


def coverage(share, is_grouped, num_trials=150):
    """How often the interval of the accuracy, by 8 clips of each of 40 artists, holds the truth."""
    rng = np.random.default_rng(5)
    artists = tuple(f"artist {index // 8}" for index in range(320))
    num_right = 0
    for _ in range(num_trials):
        outputs = np.eye(2)[correlated_answers(rng, 40, 8, share).astype(int)][None]
        predictions = Predictions(ids(320), np.ones(320, int), outputs)
        if is_grouped:
            predictions = replace(predictions, groups=artists, unit="artist")
        score = score_predictions("class", ("wrong", "right"), predictions, 200).scores["accuracy"]
        num_right += score.low <= 0.6 <= score.high
    return num_right / num_trials


@pytest.mark.parametrize("share", [0.7, 0.95])
def test_intervals_hold_the_truth_where_clips_of_an_artist_are_alike(share):
    assert coverage(share, is_grouped=True) > 0.88
    assert coverage(share, is_grouped=False) < 0.75  # what drawing clips one by one would claim


def test_intervals_of_independent_tracks_hold_the_truth_either_way():
    assert coverage(0.0, is_grouped=False) > 0.88
    assert coverage(0.0, is_grouped=True) > 0.88


def test_differences_are_drawn_by_group_for_both_backbones():
    rng = np.random.default_rng(3)
    artists, targets = tuple(f"a{index // 8}" for index in range(160)), np.ones(160, int)
    first, second = (
        Predictions(
            ids(160), targets, np.eye(2)[correlated_answers(rng, 20, 8, 0.9).astype(int)][None]
        )
        for _ in range(2)
    )
    by_track = compare("class", ("wrong", "right"), first, second, 500)
    grouped = [replace(each, groups=artists, unit="artist") for each in (first, second)]
    by_artist = compare("class", ("wrong", "right"), *grouped, 500)
    assert by_artist.mean == by_track.mean
    assert by_artist.high - by_artist.low > 1.5 * (by_track.high - by_track.low)
    # Predictions that version 0.1 saved have no groups; those of the other are of the same tracks.
    assert compare("class", ("wrong", "right"), first, grouped[1], 500) == by_artist
    assert compare("class", ("wrong", "right"), grouped[0], second, 500) == by_artist


def test_one_group_alone_has_scores_and_no_interval():
    predictions = replace(class_predictions(), groups=("x",) * 40, unit="artist")
    result = score_predictions("class", TAGS, predictions, 20)
    assert (result.unit, result.num_units) == ("artist", 1)
    score = result.scores["accuracy"]
    assert 0 < score.mean < 1
    assert (score.low, score.high) == (None, None)
    difference = compare("class", TAGS, predictions, predictions, 20)
    assert (difference.low, difference.high) == (None, None)


def test_groups_come_from_the_task_and_back_from_disk(tmp_path):
    examples = [
        Example(f"t{index}", f"{index}.wav", "ab"[index % 2], split, group)
        for index, (split, group) in enumerate(
            [("train", "x"), ("valid", "y"), ("test", "Ann"), ("test", "ANN "), ("test", "")]
        )
    ]
    task = Task("toy", "Toy", "class", ("a", "b"), group_name="singer")
    data = build_task_data(task, "toy", tmp_path, examples)
    outputs = np.full((1, 3, 2), 0.5)
    predictions = Predictions.of_tracks(data, data.folds[0].test, outputs)
    assert predictions.track_ids == ("t2", "t3", "t4")
    assert predictions.targets.tolist() == [0, 1, 0]
    predictions.save(str(tmp_path / "a.npz"))
    loaded = Predictions.load(str(tmp_path / "a.npz"))
    assert (loaded.groups, loaded.unit) == (("ann", "ann", ""), "singer")
    assert score_predictions("class", ("a", "b"), loaded, 10).num_units == 2
    alone = replace(data, examples=[replace(e, group="") for e in examples])
    assert loaded.regroup(alone).groups is None
    assert loaded.regroup(alone).regroup(data).groups == loaded.groups
    result = score_predictions("class", ("a", "b"), loaded.regroup(alone), 10)
    assert (result.unit, result.num_units) == ("track", 3)
