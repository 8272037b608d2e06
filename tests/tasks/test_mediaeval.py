"""Run: .venv/bin/python -m pytest tests/tasks/test_mediaeval.py"""

import numpy as np
import pytest

from mulap.tasks.mediaeval import (
    decide_on_test,
    evaluate_mediaeval,
    read_mediaeval,
    write_mediaeval,
)
from mulap.tasks.metrics import choose_thresholds, decide
from mulap.tasks.result import Predictions, score_predictions


def make(num_seeds=1, num_tracks=80, num_labels=5):
    rng = np.random.default_rng(0)
    targets = rng.random((num_tracks, num_labels)) < 0.3
    outputs = rng.random((num_seeds, num_tracks, num_labels)) * 0.7 + 0.3 * targets
    outputs = outputs.astype(np.float32).round(2)
    half = num_tracks // 2
    decisions = decide(outputs, choose_thresholds(targets[:half], outputs[:, :half]))
    return Predictions(tuple(map(str, range(num_tracks))), targets, outputs, decisions)


def test_files_score_the_same_in_mediaevals_formulas(tmp_path):
    predictions = make()
    paths = write_mediaeval(predictions, tmp_path)
    assert [path.name for path in paths] == ["groundtruth.npy", "predictions.npy", "decisions.npy"]
    theirs = evaluate_mediaeval(*read_mediaeval(*paths))
    ours = score_predictions("tags", list("abcde"), predictions, 10).scores
    for name, row in {
        "roc_auc": "ROC-AUC-macro",
        "pr_auc": "PR-AUC-macro",
        "f1": "F-score-macro",
        "roc_auc_micro": "ROC-AUC-micro",
        "pr_auc_micro": "PR-AUC-micro",
    }.items():
        assert theirs[row] == pytest.approx(ours[name].mean, abs=1e-12)
    assert len(theirs) == 10
    hits = (predictions.decisions[0] & predictions.targets).sum()
    assert theirs["precision-micro"] == pytest.approx(hits / predictions.decisions[0].sum())
    assert theirs["recall-micro"] == pytest.approx(hits / predictions.targets.sum())


def test_files_have_the_official_types_and_no_pickle(tmp_path):
    paths = write_mediaeval(make(), tmp_path)
    arrays = [np.load(path, allow_pickle=False) for path in paths]
    assert [array.dtype for array in arrays] == [bool, np.float64, bool]
    assert {array.shape for array in arrays} == {(80, 5)}
    assert not any(np.isfortran(array) for array in arrays)


def test_every_seed_has_its_files(tmp_path):
    predictions = make(num_seeds=2)
    paths = write_mediaeval(predictions, tmp_path)
    assert [path.name for path in paths[1:]] == [
        "predictions-0.npy", "decisions-0.npy", "predictions-1.npy", "decisions-1.npy",
    ]  # fmt: skip
    targets, outputs, decisions = read_mediaeval(paths[0], paths[3], paths[4])
    assert np.array_equal(targets, predictions.targets)
    assert np.array_equal(outputs, predictions.outputs[1])
    assert np.array_equal(decisions, predictions.decisions[1])


def test_decisions_are_tuned_on_test_only_when_asked(tmp_path):
    predictions = make()
    paths = write_mediaeval(predictions, tmp_path, from_test=True)
    _, _, decisions = read_mediaeval(*paths)
    on_test = decide_on_test(predictions.targets, predictions.outputs[0])
    assert np.array_equal(decisions, on_test)
    assert not np.array_equal(on_test, predictions.decisions[0])
    paths = write_mediaeval(
        Predictions(predictions.track_ids, predictions.targets, predictions.outputs),
        tmp_path / "b",
    )
    assert [path.name for path in paths] == ["groundtruth.npy", "predictions.npy"]
    scores = evaluate_mediaeval(*read_mediaeval(*paths))
    assert set(scores) == {"ROC-AUC-macro", "PR-AUC-macro", "ROC-AUC-micro", "PR-AUC-micro"}


def test_mediaevals_threshold_decides_against_the_track_it_came_from():
    targets = np.array([[0], [1], [1], [0]]) > 0
    outputs = np.array([[0.1], [0.6], [0.9], [0.3]])
    assert decide_on_test(targets, outputs).ravel().tolist() == [False, False, True, False]
    assert not decide_on_test(~targets & targets, outputs).any()


def test_what_cannot_be_evaluated_is_refused(tmp_path):
    predictions = make()
    targets = predictions.targets.copy()
    targets[:, 3] = False
    with pytest.raises(ValueError, match="tag number 3 is the same for all tracks"):
        evaluate_mediaeval(targets, predictions.outputs[0])
    numbers = Predictions(("a", "b"), np.zeros((2, 1)), np.zeros((1, 2, 1)))
    with pytest.raises(ValueError, match="tags only"):
        write_mediaeval(numbers, tmp_path)


def test_files_that_do_not_fit_are_refused(tmp_path):
    paths = write_mediaeval(make(), tmp_path)
    other = tmp_path / "other.npy"
    np.save(other, np.zeros((80, 4)))
    with pytest.raises(ValueError, match=r"other.npy: shape \(80, 4\), but .* \(80, 5\)"):
        read_mediaeval(paths[0], other)
    np.save(other, np.array([{}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="not a .npy file that can be read"):
        read_mediaeval(paths[0], other)
    np.save(other, np.zeros(3))
    with pytest.raises(ValueError, match="not a table of numbers"):
        read_mediaeval(other, paths[1])
    with pytest.raises(ValueError, match="nowhere.npy"):
        read_mediaeval(tmp_path / "nowhere.npy", paths[1])
