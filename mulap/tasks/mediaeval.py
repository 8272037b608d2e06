"""MTG-Jamendo's and MediaEval's files of predictions, and the scores their evaluation gives.

    groundtruth.npy          bool (n, C)
    predictions-SEED.npy     float64 (n, C), one file for each of S seeds
    decisions-SEED.npy       bool (n, C)

Rows are tracks in the order of the split's TSV file, without those that could not be embedded;
columns are tags in the order of the tag list; the files hold no names. With one seed its number is
left out of the names. Each pair of predictions and decisions can be given to the official
`scripts/mediaeval/evaluate.py`, whose formulas are scikit-learn's, as `evaluate_mediaeval` calls
them here.

The official `calculate_decisions.py` chooses thresholds on the test set. Our decisions come from
validation; `decide_on_test` gives theirs, for comparison with numbers that were made so.
"""

from pathlib import Path

import numpy as np
from sklearn import metrics

from mulap.files import atomic_path
from mulap.tasks.result import Predictions


def write_mediaeval(predictions: Predictions, folder: Path, from_test: bool = False) -> list[Path]:
    """Write predictions as MediaEval's `.npy` files.

    Args:
        predictions: of tags, tracks in the order of the TSV file.
        folder: made if missing.
        from_test: write decisions by thresholds that were chosen on the test tracks, as MediaEval's
            script does. They flatter; say so wherever they are used.

    Returns:
        The files: the truth, then predictions and decisions (if there are any) of each seed.

    Raises:
        ValueError: the predictions are not of tags.
    """
    if predictions.targets.dtype != bool or predictions.targets.ndim != 2:
        raise ValueError(f"{folder}: MediaEval's files are of tags only, this is another kind")
    arrays = {"groundtruth": predictions.targets}
    for index, outputs in enumerate(predictions.outputs):
        ending = f"-{index}" if len(predictions.outputs) > 1 else ""
        arrays[f"predictions{ending}"] = outputs.astype(np.float64)
        if from_test:
            decisions = decide_on_test(predictions.targets, outputs)
        elif predictions.decisions is not None:
            decisions = predictions.decisions[index]
        else:
            continue
        arrays[f"decisions{ending}"] = decisions
    paths = [folder / f"{name}.npy" for name in arrays]
    for path, array in zip(paths, arrays.values(), strict=True):
        with atomic_path(path) as temporary, open(temporary, "wb") as out:
            np.save(out, np.ascontiguousarray(array), allow_pickle=False)
    return paths


def read_mediaeval(
    groundtruth: Path, predictions: Path, decisions: Path | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Read MediaEval's files, ours or anybody's.

    Args:
        groundtruth: a `.npy` of the true tags.
        predictions: a `.npy` of probabilities, or of any scores.
        decisions: a `.npy` of yes and no; None where there is none.

    Returns:
        bool (n, C), float64 (n, C), bool (n, C) or None.

    Raises:
        ValueError: a file is missing, of another format, or of another shape than the truth.
    """
    is_tag = _read(groundtruth).astype(bool)
    outputs = _read(predictions).astype(np.float64)
    is_yes = None if decisions is None else _read(decisions).astype(bool)
    for path, array in ((predictions, outputs), (decisions, is_yes)):
        if array is not None and array.shape != is_tag.shape:
            raise ValueError(
                f"{path}: shape {array.shape}, but {groundtruth} has {is_tag.shape} (same split?)"
            )
    return is_tag, outputs, is_yes


def evaluate_mediaeval(
    groundtruth: np.ndarray, predictions: np.ndarray, decisions: np.ndarray | None = None
) -> dict[str, float]:
    """Score tags by the formulas of MediaEval's evaluation.

    Args:
        groundtruth: bool (n, C).
        predictions: float (n, C).
        decisions: bool (n, C); None leaves out what is scored by them.

    Returns:
        `ROC-AUC-macro`, `PR-AUC-macro`, `precision-macro`, `recall-macro`, `F-score-macro` and the
        same with `-micro`, the names of its rows.

    Raises:
        ValueError: a tag has no positive or no negative track: their ROC-AUC is then undefined,
            while `score_predictions` leaves the tag out.
    """
    is_constant = groundtruth.all(0) | ~groundtruth.any(0)
    if is_constant.any():
        raise ValueError(
            f"tag number {int(is_constant.argmax())} is the same for all tracks, so MediaEval's"
            " evaluation is undefined (score_predictions leaves such tags out)"
        )
    scores = {}
    for average in ("macro", "micro"):
        scores[f"ROC-AUC-{average}"] = metrics.roc_auc_score(
            groundtruth, predictions, average=average
        )
        scores[f"PR-AUC-{average}"] = metrics.average_precision_score(
            groundtruth, predictions, average=average
        )
        if decisions is not None:
            values = metrics.precision_recall_fscore_support(
                groundtruth,
                decisions,
                average=average,
                zero_division=0,  # pyright: ignore[reportArgumentType]  (its stub has str only)
            )
            names = (f"{name}-{average}" for name in ("precision", "recall", "F-score"))
            scores.update(zip(names, values[:3], strict=True))
    return {name: float(value) for name, value in scores.items()}


def decide_on_test(groundtruth: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Decide as MediaEval's `calculate_decisions.py` does, with thresholds chosen ON THE TEST SET.

    For each tag the threshold of the best F1 is taken, of equals the lowest. A decision must lie
    above it (strict `>`), so the track that gave the threshold is itself decided against.

    Args:
        groundtruth: bool (n, C).
        predictions: float (n, C).

    Returns:
        bool (n, C).
    """
    thresholds = np.empty(groundtruth.shape[1])
    for tag, (is_tag, outputs) in enumerate(zip(groundtruth.T, predictions.T, strict=True)):
        if not is_tag.any():
            thresholds[tag] = outputs.max()  # recall is undefined: nothing to decide for
            continue
        precision, recall, candidates = metrics.precision_recall_curve(is_tag, outputs)
        f1 = 2 * precision * recall / np.where(precision + recall > 0, precision + recall, 1)
        thresholds[tag] = candidates[f1[:-1].argmax()]  # the curve's last point has no threshold
    return predictions > thresholds


def _read(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path}: not a .npy file that can be read ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim != 2 or array.dtype.kind not in "bfiu":
        raise ValueError(f"{path}: not a table of numbers, tracks by tags")
    return array
