"""Numbers and names as every table and figure prints them, so that no two places round differently.

Scores are shares of one everywhere else; here they become percent with one decimal, as in the
paper. An empty cell is a dash.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from mulap.probing.rows import Row
from mulap.tasks.result import TRACK

EMPTY = "–"
METRIC_NAMES = {
    "roc_auc": "ROC-AUC",
    "pr_auc": "PR-AUC",
    "roc_auc_micro": "ROC-AUC (micro)",
    "pr_auc_micro": "PR-AUC (micro)",
    "f1": "F1",
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "recall": "recall",
    "r2": "R²",
}


def percent(share: float | None, signed: bool = False) -> str:
    """Print a share (0.6123) as percent ("61.2"); None is a dash."""
    return EMPTY if share is None else print_percentage(100 * share, signed)


def print_percentage(percentage: float, signed: bool = False) -> str:
    """Print what is a percentage already; a zero has no minus."""
    text = f"{round(percentage, 1) + 0.0:{'+' if signed else ''}.1f}"
    return text.replace("-", "−")


def mean_and_std(score: Mapping[str, Any] | None) -> str:
    """Print a score's mean and, where there are several seeds, its deviation."""
    if score is None or score.get("mean") is None:
        return EMPTY
    std = score.get("std")
    return percent(score["mean"]) + ("" if std is None else f" ± {percent(std)}")


def interval(score: Mapping[str, Any] | None, signed: bool = False) -> str:
    """Print the two ends of a score's interval."""
    if score is None or score.get("low") is None or score.get("high") is None:
        return EMPTY
    return f"{percent(score['low'], signed)} to {percent(score['high'], signed)}"


def metric_name(metric: str) -> str:
    """Return a metric as tables print it: `r2/valence` is "R² valence"."""
    name, _, label = metric.partition("/")
    return f"{METRIC_NAMES.get(name, name)} {label}".strip()


def resampled(unit: str, count: int) -> str:
    """Say what intervals resample, as "whole groups (artist: 37 in the test)"."""
    if unit == TRACK:
        return f"single tracks ({count:,} in the test)"
    return f"whole groups ({unit}: {count:,} in the test)"


def row_resampled(row: Mapping[str, Any]) -> str:
    """Say what a row's intervals resample; rows of version 0.1 do not hold it."""
    return resampled(
        row.get("resampled", TRACK), row.get("num_resampled", row["num_tracks"]["test"])
    )


def row_names(rows: Sequence[Row]) -> list[str]:
    """Name rows by backbone, and by protocol where there are several.

    Rows of an earlier config may have a label that is another backbone's now: both are then told
    apart by what the backbones are called.
    """
    called: dict[str, set[str]] = {}
    for row in rows:
        called.setdefault(row["label"], set()).add(row["backbone"])
    labels = [
        f"{row['label']} ({row['backbone']})" if len(called[row["label"]]) > 1 else row["label"]
        for row in rows
    ]
    has_several = len({row["protocol"] for row in rows if not is_trained_whole(row)}) > 1
    return [
        f"{label}, {row['protocol']}" if has_several and not is_trained_whole(row) else label
        for label, row in zip(labels, rows, strict=True)
    ]


def is_trained_whole(row: Row) -> bool:
    """Return whether a row is of the end-to-end model, which no probe was trained on."""
    return row["backbone"] == "end-to-end"
