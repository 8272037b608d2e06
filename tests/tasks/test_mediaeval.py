"""Predictions as MediaEval's evaluation reads them."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from mulap.tasks.mediaeval import write_mediaeval
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


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_files_score_the_same_in_the_formulas_of_mediaevals_evaluation(tmp_path, average):
    predictions = make()
    paths = write_mediaeval(predictions, str(tmp_path))
    assert [path.name for path in paths] == ["groundtruth.npy", "predictions.npy", "decisions.npy"]
    targets, outputs, decisions = (np.load(path, allow_pickle=False) for path in paths)
    ours = score_predictions("tags", list("abcde"), predictions, 10).scores
    ending = "_micro" if average == "micro" else ""
    theirs = sklearn_metrics.roc_auc_score(targets, outputs, average=average)
    assert ours[f"roc_auc{ending}"].mean == pytest.approx(theirs, abs=1e-12)
    theirs = sklearn_metrics.average_precision_score(targets, outputs, average=average)
    assert ours[f"pr_auc{ending}"].mean == pytest.approx(theirs, abs=1e-12)
    theirs = sklearn_metrics.f1_score(targets, decisions, average="macro")
    assert ours["f1"].mean == pytest.approx(theirs, abs=1e-12)


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
    assert np.array_equal(np.load(paths[0]), predictions.targets)
    assert np.array_equal(np.load(paths[3]), predictions.outputs[1])
    assert np.array_equal(np.load(paths[4]), predictions.decisions[1])


def test_without_decisions_none_are_written(tmp_path):
    given = make()
    predictions = Predictions(given.track_ids, given.targets, given.outputs)
    paths = write_mediaeval(predictions, tmp_path)
    assert [path.name for path in paths] == ["groundtruth.npy", "predictions.npy"]


def test_numbers_are_refused(tmp_path):
    numbers = Predictions(("a", "b"), np.zeros((2, 1)), np.zeros((1, 2, 1)))
    with pytest.raises(ValueError, match="tags only"):
        write_mediaeval(numbers, tmp_path)
