"""Predictions of the test tracks, and their scores with two kinds of uncertainty.

    Predictions    outputs of S seeds for n test tracks, in a file that anybody can score again
    TaskResult     every metric: one value per seed, their mean and deviation, a 95% interval

The deviation is over seeds: the same probe, started differently. The interval is over the test set:
1,000 bootstrap draws of it, each scored by its mean over seeds. A draw takes whole groups of tracks
(all of an artist) if the task names groups, else single tracks. A draw without any positive of a
tag, or any track of a class, leaves that label out of its macro mean.

Where folds are pooled, each track is tested by the probe of its fold, and ranking metrics compare
outputs of different probes. Decisions are stored per track, because each fold has its own
thresholds.

Letters of shapes: S seeds, n tracks, C labels, R draws.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from mulap.data.splits import fold_group
from mulap.files import AnyPath, atomic_path
from mulap.tasks.bootstrap import bootstrap_counts, interval_of_draws
from mulap.tasks.metrics import HEADLINE, check_finite, measure
from mulap.tasks.task import Kind, TaskData, number_groups

TRACK = "track"
"""What is resampled where tracks have no groups."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The outputs of S probes for n test tracks, with the truth."""

    track_ids: tuple[str, ...]  # n, each once
    targets: np.ndarray  # tags: bool (n, C); class: int64 (n,); numbers: float64 (n, C)
    # float32 (S, n, C), the mean over a track's segments: of probabilities for tags and class
    # (never of logits), of values in the labels' own units for numbers
    outputs: np.ndarray
    # bool (S, n, C) for tags, by thresholds that were chosen on validation; else None
    decisions: np.ndarray | None = None
    # n names of what tracks are alike by, empty for a track of its own; None where no track has
    # one. Intervals resample whole groups.
    groups: tuple[str, ...] | None = None
    unit: str = TRACK  # what the groups are, such as `artist`; `track` where there are none

    def __post_init__(self) -> None:
        """Store outputs as the file has them, so that a score before saving is the score after."""
        object.__setattr__(self, "outputs", np.ascontiguousarray(self.outputs, np.float32))
        assert self.outputs.ndim == 3, self.outputs.shape
        assert self.outputs.shape[1] == len(self.track_ids) == len(self.targets)
        assert self.targets.ndim == 1 or self.targets.shape == self.outputs.shape[1:]
        assert self.decisions is None or self.decisions.shape == self.outputs.shape
        assert np.isfinite(self.targets).all(), "a track without a target is no test track"
        assert len(set(self.track_ids)) == len(self.track_ids), "a track twice"
        assert self.groups is None or len(self.groups) == len(self.track_ids)

    @classmethod
    def of_tracks(
        cls,
        data: TaskData,
        tracks: np.ndarray,
        outputs: np.ndarray,
        decisions: np.ndarray | None = None,
    ) -> "Predictions":
        """Make predictions of some tracks of a task, with their targets and groups.

        Outputs (S, n, C) and decisions are in the order of `tracks` (n,), positions in the data.
        """
        examples = [data.examples[index] for index in tracks]
        found = cls(tuple(e.track_id for e in examples), data.targets[tracks], outputs, decisions)
        groups = tuple(fold_group(e.group) for e in examples)
        return replace(found, groups=groups, unit=data.task.group_name) if any(groups) else found

    def regroup(self, data: TaskData) -> "Predictions":
        """Return the same predictions with the groups that a task has now."""
        position = {example.track_id: index for index, example in enumerate(data.examples)}
        tracks = np.array([position[track_id] for track_id in self.track_ids])
        return self.of_tracks(data, tracks, self.outputs, self.decisions)

    def units(self) -> np.ndarray:
        """Return (n,) the number of the group that each track is resampled with."""
        if self.groups is None:
            return np.arange(len(self.track_ids))
        return number_groups(self.track_ids, self.groups)

    def save(self, path: AnyPath) -> None:
        """Write a `.npz` without pickle; equal predictions give equal bytes."""
        arrays = {
            "track_ids": np.array(self.track_ids, dtype=str),
            "targets": np.ascontiguousarray(self.targets),
            "outputs": self.outputs,
        }
        if self.decisions is not None:
            arrays["decisions"] = np.ascontiguousarray(self.decisions)
        if self.groups is not None:
            arrays["groups"] = np.array(self.groups, dtype=str)
            arrays["unit"] = np.array(self.unit, dtype=str)
        # numpy always dates the members of its archive 1980.
        with atomic_path(Path(path)) as temporary, open(temporary, "wb") as out:
            np.savez_compressed(out, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: AnyPath) -> "Predictions":
        """Read what `save` wrote; ValueError if it is another file. Version 0.1 wrote no groups."""
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            more: dict[str, Any] = {}
            if "groups" in arrays:
                more["groups"] = tuple(arrays.pop("groups").tolist())
                more["unit"] = str(arrays.pop("unit"))
            return cls(tuple(arrays.pop("track_ids").tolist()), **arrays, **more)
        except FileNotFoundError as error:
            raise ValueError(
                f"{path}: no such file. Run mulap probe or mulap benchmark with this --output."
            ) from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: not a file of predictions ({error})") from error
        except (AssertionError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: predictions are damaged. Write them again.") from error


@dataclass(frozen=True)
class Score:
    """One metric."""

    values: tuple[float, ...]  # one a seed
    mean: float  # of the values
    std: float | None  # their deviation (ddof 1); None for one seed
    # lower end of the 95 % bootstrap interval of the mean, over the test set; None where there is
    # only one group to draw
    low: float | None
    high: float | None  # its upper end


@dataclass(frozen=True)
class TaskResult:
    """All scores of one task."""

    # metric -> score; all are macro means but the ones that end in `_micro`
    scores: dict[str, Score]
    # metric -> label -> mean over seeds, without the labels that have no value
    per_label: dict[str, dict[str, float]]
    # of a class: mean counts over seeds, rows are true; None for other kinds
    confusion: list[list[float]] | None
    unit: str  # what the intervals resample: `track`, or the task's groups, such as `artist`
    num_units: int  # how many of them the test has
    # those that macro means leave out: a tag without a positive or without a negative test track, a
    # class without a test track, a number that is constant
    skipped_labels: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """How much better the first of two is, over the same draws of the test set."""

    mean: float  # first minus second, each the mean over its seeds, in the headline metric
    low: float | None  # lower end of the difference's 95 % bootstrap interval; None as a score's
    high: float | None  # its upper end


def score_predictions(
    kind: Kind,
    labels: Sequence[str],
    predictions: Predictions,
    num_draws: int = 1000,
    seed: int = 0,
) -> TaskResult:
    """Score predictions of the test tracks by all metrics of a kind of task.

    Args:
        kind: tags, class or numbers.
        labels: C names.
        predictions: of the test tracks.
        num_draws: bootstrap draws of the test tracks, whole groups where they have any.
        seed: of the draws.

    Returns:
        The result; for tags without decisions it has no F1, for numbers one `r2/<label>` a label.

    Raises:
        ValueError: an output is not finite, or no label can be scored.
    """
    plain, plain_labels = _measure(kind, labels, predictions, None)
    units = predictions.units()
    counts = bootstrap_counts(units, num_draws, seed)
    drawn, drawn_labels = _measure(kind, labels, predictions, counts)
    first = next(iter(plain_labels.values()))[0, 0]  # (C,): recall, ROC-AUC or R2
    is_scored = ~np.isnan(first)
    scores = {name: _summarize(plain[name][:, 0], drawn[name], units) for name in plain}
    if kind == "numbers":
        for index in np.flatnonzero(is_scored).tolist():
            values, draws = plain_labels["r2"][:, 0, index], drawn_labels["r2"][:, :, index]
            scores[f"r2/{labels[index]}"] = _summarize(values, draws, units)
    return TaskResult(
        scores=scores,
        per_label={
            name: {
                label: float(value)
                for label, value in zip(labels, values[:, 0].mean(0), strict=True)
                if not np.isnan(value)
            }
            for name, values in plain_labels.items()
        },
        confusion=_mean_confusion(predictions) if kind == "class" else None,
        unit=predictions.unit,
        num_units=len(np.unique(units)),
        skipped_labels=tuple(
            label for label, is_kept in zip(labels, is_scored, strict=True) if not is_kept
        ),
    )


def compare(
    kind: Kind,
    labels: Sequence[str],
    first: Predictions,
    second: Predictions,
    num_draws: int = 1000,
) -> Difference:
    """Compare two backbones on the same draws of the same test tracks (paired bootstrap).

    Whole groups are drawn where the tracks of either have any: version 0.1 saved none. The number
    of seeds may differ. ValueError if tracks, their order or targets do.
    """
    if first.track_ids != second.track_ids:
        raise ValueError(
            "predictions of different test tracks cannot be compared. Use the same split for both."
        )
    if not np.array_equal(first.targets, second.targets):
        raise ValueError(
            "predictions with different targets cannot be compared. Use the same task for both."
        )
    metric = HEADLINE[kind]
    units = (first if first.groups is not None else second).units()
    counts = bootstrap_counts(units, num_draws)
    means, draws = [], []
    for each in (first, second):
        means.append(_measure(kind, labels, each, None, headline_only=True)[0][metric].mean())
        draws.append(_measure(kind, labels, each, counts, headline_only=True)[0][metric].mean(0))
    low, high = interval_of_draws(draws[0] - draws[1], units) or (None, None)
    return Difference(float(means[0] - means[1]), low, high)


def _measure(
    kind: Kind,
    labels: Sequence[str],
    predictions: Predictions,
    counts: np.ndarray | None,
    headline_only: bool = False,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    outputs = predictions.outputs
    assert outputs.shape[2] == len(labels), (outputs.shape, len(labels))
    if not predictions.track_ids:
        raise ValueError("there is no test track to score. Check the split.")
    check_finite(outputs, predictions.track_ids)
    overall, per_label = measure(
        kind, predictions.targets, outputs, predictions.decisions, counts, headline_only
    )
    if np.isnan(overall[HEADLINE[kind]]).all():
        raise ValueError("no label can be scored: every one is the same for all test tracks")
    return overall, per_label


def _summarize(values: np.ndarray, draws: np.ndarray, units: np.ndarray) -> Score:
    """Summarize the values (S,) of the seeds and those of the draws (S, R)."""
    means = draws.mean(0)
    low, high = interval_of_draws(means, units) or (None, None)
    return Score(
        values=tuple(float(value) for value in values),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else None,
        low=low,
        high=high,
    )


def _mean_confusion(predictions: Predictions) -> list[list[float]]:
    names = range(predictions.outputs.shape[2])
    counts = [
        confusion_matrix(predictions.targets, chosen, labels=names)
        for chosen in predictions.outputs.argmax(2)
    ]
    return np.mean(counts, 0).tolist()
