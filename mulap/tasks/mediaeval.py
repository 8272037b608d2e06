"""MTG-Jamendo's and MediaEval's files of predictions, for their own evaluation.

    groundtruth.npy          bool (n, C)
    predictions-SEED.npy     float64 (n, C), one file for each of S seeds
    decisions-SEED.npy       bool (n, C)

Rows are tracks in the order of the split's TSV file, without those that could not be embedded;
columns are tags in the order of the tag list; the files hold no names. With one seed its number is
left out of the names. Each pair of predictions and decisions can be given to the official
`scripts/mediaeval/evaluate.py`, whose formulas are those of `metrics`.

Decisions come from thresholds chosen on validation. The official `calculate_decisions.py` chooses
them on the test set, which flatters.
"""

from pathlib import Path

import numpy as np

from mulap.files import AnyPath, atomic_path
from mulap.tasks.result import Predictions


def write_mediaeval(predictions: Predictions, folder: AnyPath) -> list[Path]:
    """Write predictions of tags, tracks in the order of the TSV file, as MediaEval's `.npy` files.

    Return the files: the truth, then predictions and decisions (if there are any) of each seed.
    ValueError if the predictions are not of tags.
    """
    if predictions.targets.dtype != bool or predictions.targets.ndim != 2:
        raise ValueError(
            f"{folder}: MediaEval's files hold tags only, and this task has another kind of labels"
        )
    arrays = {"groundtruth": predictions.targets}
    for index, outputs in enumerate(predictions.outputs):
        ending = f"-{index}" if len(predictions.outputs) > 1 else ""
        arrays[f"predictions{ending}"] = outputs.astype(np.float64)
        if predictions.decisions is not None:
            arrays[f"decisions{ending}"] = predictions.decisions[index]
    paths = [Path(folder) / f"{name}.npy" for name in arrays]
    for path, array in zip(paths, arrays.values(), strict=True):
        with atomic_path(path) as temporary, open(temporary, "wb") as out:
            np.save(out, np.ascontiguousarray(array), allow_pickle=False)
    return paths
