"""What a probe said of the test tracks, and what that is worth: scores with their uncertainty.

    Predictions    outputs of S seeds for n test tracks, in a file that anybody can score again
    TaskResult     every metric: a value a seed, their mean and deviation, a 95 % interval

Two doubts are kept apart. The deviation is over seeds: another start of the probe. The interval is
over test tracks: another draw of the test set, as 1,000 bootstrap draws of its tracks show; each
draw scores the mean over seeds. A draw that has lost all positives of a tag, or all tracks of a
class, leaves that label out of its macro mean.

Where folds are pooled, each track is tested by the probe of its fold. Ranking metrics then compare
outputs of different probes; nothing here can tell. Decisions are given a track, so they may come
from thresholds of different folds. What a probe or a split is, this does not know.

Letters of shapes: S seeds, n tracks, C labels, R draws.
"""

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.metrics import confusion_matrix

from mulap.files import atomic_path
from mulap.tasks.bootstrap import bootstrap_counts
from mulap.tasks.metrics import HEADLINE, check_finite, measure
from mulap.tasks.task import Kind

_INTERVAL = (2.5, 97.5)  # percentiles


@dataclass(frozen=True, eq=False)
class Predictions:
    """What S probes said of n test tracks, with the truth.

    Attributes:
        track_ids: n, each once.
        targets: tags: bool (n, C); class: int64 (n,); numbers: float64 (n, C).
        outputs: float32 (S, n, C), the mean over a track's segments: of probabilities for tags and
            class (never of logits), of values in the labels' own units for numbers.
        decisions: bool (S, n, C) for tags, by thresholds that were chosen on validation; else None.
    """

    track_ids: tuple[str, ...]
    targets: np.ndarray
    outputs: np.ndarray
    decisions: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Store outputs as the file has them, so that a score before saving is the score after."""
        object.__setattr__(self, "outputs", np.ascontiguousarray(self.outputs, np.float32))
        assert self.outputs.ndim == 3, self.outputs.shape
        assert self.outputs.shape[1] == len(self.track_ids) == len(self.targets)
        assert self.targets.ndim == 1 or self.targets.shape == self.outputs.shape[1:]
        assert self.decisions is None or self.decisions.shape == self.outputs.shape
        assert np.isfinite(self.targets).all(), "a track without a target is no test track"
        assert len(set(self.track_ids)) == len(self.track_ids), "a track twice"

    def save(self, path: Path) -> None:
        """Write a `.npz` without pickle; equal predictions give equal bytes."""
        arrays = {
            "track_ids": np.array(self.track_ids, dtype=str),
            "targets": np.ascontiguousarray(self.targets),
            "outputs": self.outputs,
        }
        if self.decisions is not None:
            arrays["decisions"] = np.ascontiguousarray(self.decisions)
        # numpy dates the members of its archive 1980, whatever the clock says.
        with atomic_path(path) as temporary, open(temporary, "wb") as out:
            np.savez_compressed(out, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> "Predictions":
        """Read what `save` wrote.

        Raises:
            ValueError: there is no such file, or it is not one of these.
        """
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            return cls(tuple(arrays.pop("track_ids").tolist()), **arrays)
        except FileNotFoundError as error:
            raise ValueError(f"{path}: no such file (a probe writes it)") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"{path}: not a file of predictions ({error})") from error
        except (AssertionError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"{path}: predictions are damaged (write them again)") from error


@dataclass(frozen=True)
class Score:
    """One metric.

    Attributes:
        values: one a seed.
        mean: of the values.
        std: their deviation (ddof 1); None for one seed, whose deviation nobody knows.
        low: lower end of the 95 % bootstrap interval of the mean, over test tracks.
        high: its upper end.
    """

    values: tuple[float, ...]
    mean: float
    std: float | None
    low: float
    high: float


@dataclass(frozen=True)
class TaskResult:
    """All scores of one task.

    Attributes:
        scores: metric -> score; all are macro means but the ones that end in `_micro`.
        per_label: metric -> label -> mean over seeds, without the labels that have no value.
        confusion: of a class: mean counts over seeds, rows are true; None for other kinds.
        num_test: n.
        skipped_labels: those that macro means leave out: a tag without a positive or without a
            negative test track, a class without a test track, a number that is constant.
    """

    scores: dict[str, Score]
    per_label: dict[str, dict[str, float]]
    confusion: list[list[float]] | None
    num_test: int
    skipped_labels: tuple[str, ...]


@dataclass(frozen=True)
class Difference:
    """How much better the first of two is, over draws of the same test tracks.

    Attributes:
        metric: the headline metric of the kind of task.
        mean: first minus second, each the mean over its seeds.
        low: lower end of the difference's 95 % bootstrap interval.
        high: its upper end.
        share_above: of the draws, how many have the first above; a tie counts half.
    """

    metric: str
    mean: float
    low: float
    high: float
    share_above: float


def score_predictions(
    kind: Kind,
    labels: Sequence[str],
    predictions: Predictions,
    num_draws: int = 1000,
    seed: int = 0,
) -> TaskResult:
    """Score predictions by all metrics of a kind of task.

    Args:
        kind: tags, class or numbers.
        labels: C names.
        predictions: of the test tracks.
        num_draws: bootstrap draws of the test tracks.
        seed: of the draws.

    Returns:
        The result; for tags without decisions it has no F1, for numbers one `r2/<label>` a label.

    Raises:
        ValueError: an output is not finite, or no label can be scored.
    """
    plain, plain_labels = _measure(kind, labels, predictions, None)
    counts = bootstrap_counts(np.arange(len(predictions.track_ids)), num_draws, seed)
    drawn, drawn_labels = _measure(kind, labels, predictions, counts)
    first = next(iter(plain_labels.values()))[0, 0]  # (C,): recall, ROC-AUC or R2
    is_scored = ~np.isnan(first)
    scores = {name: _summarize(plain[name][:, 0], drawn[name]) for name in plain}
    if kind == "numbers":
        for index in np.flatnonzero(is_scored).tolist():
            values, draws = plain_labels["r2"][:, 0, index], drawn_labels["r2"][:, :, index]
            scores[f"r2/{labels[index]}"] = _summarize(values, draws)
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
        num_test=len(predictions.track_ids),
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
    seed: int = 0,
) -> Difference:
    """Compare two backbones on the same draws of the same test tracks (paired bootstrap).

    Args:
        kind: tags, class or numbers.
        labels: C names.
        first: predictions with the one.
        second: predictions with the other; the number of seeds may differ.
        num_draws: bootstrap draws of the test tracks.
        seed: of the draws.

    Raises:
        ValueError: other tracks, another order or other targets; or as `score_predictions`.
    """
    if first.track_ids != second.track_ids:
        raise ValueError("predictions of different test tracks cannot be compared (same split?)")
    if not np.array_equal(first.targets, second.targets):
        raise ValueError("predictions with different targets cannot be compared (same task?)")
    metric = HEADLINE[kind]
    counts = bootstrap_counts(np.arange(len(first.track_ids)), num_draws, seed)
    means, draws = [], []
    for each in (first, second):
        means.append(_measure(kind, labels, each, None, headline_only=True)[0][metric].mean())
        draws.append(_measure(kind, labels, each, counts, headline_only=True)[0][metric].mean(0))
    difference = draws[0] - draws[1]
    difference = difference[~np.isnan(difference)]
    low, high = _percentiles(difference)
    share_above = (difference > 0).mean() + 0.5 * (difference == 0).mean()
    return Difference(metric, float(means[0] - means[1]), low, high, float(share_above))


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
        raise ValueError("there is no test track to score (check the split)")
    check_finite(outputs, predictions.track_ids)
    overall, per_label = measure(
        kind, predictions.targets, outputs, predictions.decisions, counts, headline_only
    )
    if np.isnan(overall[HEADLINE[kind]]).all():
        raise ValueError("no label can be scored: every one is the same for all test tracks")
    return overall, per_label


def _summarize(values: np.ndarray, draws: np.ndarray) -> Score:
    """Summarize the values (S,) of the seeds and those of the draws (S, R)."""
    means = draws.mean(0)
    low, high = _percentiles(means[~np.isnan(means)])
    return Score(
        values=tuple(float(value) for value in values),
        mean=float(values.mean()),
        std=float(values.std(ddof=1)) if len(values) > 1 else None,
        low=low,
        high=high,
    )


def _percentiles(draws: np.ndarray) -> tuple[float, float]:
    if not draws.size:
        raise ValueError("no bootstrap draw has a label to score (give more draws, or more tracks)")
    low, high = np.percentile(draws, _INTERVAL)
    return float(low), float(high)


def _mean_confusion(predictions: Predictions) -> list[list[float]]:
    names = range(predictions.outputs.shape[2])
    counts = [
        confusion_matrix(predictions.targets, chosen, labels=names)
        for chosen in predictions.outputs.argmax(2)
    ]
    return np.mean(counts, 0).tolist()
