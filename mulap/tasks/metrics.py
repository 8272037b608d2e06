"""Scores of outputs: ROC-AUC, average precision, F1, accuracy, R2; plain or bootstrapped.

One implementation serves both. Every track has a weight: 1 for the plain score, or the number of
times that a bootstrap draw contains the track. Scores are sorted once per label; a draw then only
adds up weights, so thousands of draws cost little. All values equal scikit-learn's
(`tests/tasks/test_metrics.py`).

A label has no value where it has no meaning: a tag without a positive or without a negative track,
a class without a track, a number that is the same everywhere. Its score is NaN, and macro means are
over the other labels. Micro values are over all pairs of a track and a tag, as scikit-learn's.

Letters of shapes: n tracks, C labels, K models, R draws.
"""

import numpy as np
from scipy.sparse import coo_array, csr_array

from mulap.tasks.task import Kind

HEADLINE: dict[Kind, str] = {"tags": "roc_auc", "class": "accuracy", "numbers": "r2"}
"""The metric a probe is chosen by on validation (paper, 3.2). More is better for every metric."""

DEFAULT_THRESHOLD = 0.5
_MAX_CELLS = 2**20  # of one array of partial sums, 8 MB; a few are alive at a time

Values = dict[str, np.ndarray]


def headline(kind: Kind, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Score K models by the task's first metric; fast enough for every epoch.

    As `measure`, but (K,) float64, and ValueError if no label can be scored. R2 may be negative:
    start a search for the best at -inf.
    """
    scores = measure(kind, targets, outputs, headline_only=True)[0][HEADLINE[kind]][:, 0]
    if np.isnan(scores).any():
        raise ValueError("no label can be scored: every one is the same for all tracks")
    return scores


def measure(
    kind: Kind,
    targets: np.ndarray,
    outputs: np.ndarray,
    decisions: np.ndarray | None = None,
    counts: np.ndarray | None = None,
    headline_only: bool = False,
) -> tuple[Values, Values]:
    """Score K models by all metrics of a kind of task, under R weightings of the tracks.

    Args:
        kind: of the task.
        targets: tags: bool (n, C); class: int (n,); numbers: float (n, C).
        outputs: (K, n, C): probabilities, or values in the labels' own units.
        decisions: bool (K, n, C), for the F1 of tags; None leaves it out. Never made here: a
            threshold that has seen `targets` would flatter.
        counts: (R, n), how often each track counts; None is once, R = 1.
        headline_only: of tags, only the macro ROC-AUC, in a quarter of the time.

    Returns:
        Metric -> (K, R): `roc_auc`, `pr_auc`, `f1` (macro), `roc_auc_micro`, `pr_auc_micro` of
        tags; `accuracy`, `balanced_accuracy`, `f1` (macro) of a class; `r2`, the mean, of numbers.
        And metric -> (K, R, C) for each label: `roc_auc`, `pr_auc`, `f1`; `recall`, `f1`; `r2`.

    Raises:
        ValueError: an output is not finite.
    """
    check_finite(outputs)
    num_models, num_tracks, num_labels = outputs.shape
    assert len(targets) == num_tracks, (targets.shape, outputs.shape)
    if counts is None:
        counts = np.ones((1, num_tracks), np.int32)
    if kind == "tags":
        scorer = _TagScorer(targets, outputs, decisions, headline_only)
    else:
        scorer = {"class": _ClassScorer, "numbers": _NumberScorer}[kind](targets, outputs)
    num_draws = max(1, _MAX_CELLS // (scorer.num_cells + num_tracks))
    parts = [
        scorer.measure(np.ascontiguousarray(counts[start : start + num_draws].T, np.float64))
        for start in range(0, len(counts), num_draws)
    ]
    overall, per_label = (
        {name: np.concatenate([part[which][name] for part in parts], 1) for name in part_names}
        for which, part_names in enumerate(parts[0])
    )
    return overall, per_label


def check_finite(outputs: np.ndarray, track_ids: tuple[str, ...] = ()) -> None:
    """Refuse outputs (K, n, C) that are NaN or infinite; such a model scored at random, or worse.

    The ValueError names the first track, by id where ids are given, else by position.
    """
    if np.isfinite(outputs).all():
        return
    is_bad = np.asarray((~np.isfinite(outputs)).sum((0, 2)) > 0)
    first = int(is_bad.argmax())
    name = repr(track_ids[first]) if track_ids else f"at position {first}"
    raise ValueError(
        f"the outputs of track {name} are not finite, so for {is_bad.sum()} of {len(is_bad)} "
        "tracks: the model diverged, or its embeddings are damaged"
    )


def mean_of_defined(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis of what is not NaN; NaN where nothing is left."""
    is_defined = ~np.isnan(values)
    num_defined = is_defined.sum(-1)
    total = np.where(is_defined, values, 0).sum(-1)
    return np.where(num_defined > 0, total / np.maximum(num_defined, 1), np.nan)


def choose_thresholds(targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Choose the threshold of each tag that has the best F1. Give it VALIDATION tracks only.

    Of equally good thresholds the highest is taken: it decides for fewer tracks. A tag without a
    positive track, about which nothing can be learned, gets `DEFAULT_THRESHOLD`.

    Args:
        targets: bool (n, C).
        outputs: (K, n, C).

    Returns:
        (K, C) float64: the lowest output that is still a yes, for `decide`.
    """
    check_finite(outputs)
    scores = outputs.astype(np.float64).transpose(0, 2, 1)  # (K, C, n)
    order = (-scores).argsort(2)
    scores = np.take_along_axis(scores, order, 2)
    is_positive = np.take_along_axis(np.broadcast_to(targets.T, scores.shape), order, 2)
    num_hits = is_positive.cumsum(2)
    num_positives = num_hits[:, :, -1:]
    f1 = 2 * num_hits / (np.arange(1, len(targets) + 1) + num_positives)
    # A threshold takes all of a tie or nothing of it: only the last of equal scores counts.
    f1[:, :, :-1][scores[:, :, :-1] == scores[:, :, 1:]] = -1
    best = f1.argmax(2)[:, :, None]
    thresholds = np.take_along_axis(scores, best, 2)
    return np.where(num_positives > 0, thresholds, DEFAULT_THRESHOLD)[:, :, 0]


def decide(outputs: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """Return which outputs (K, n, C) reach the thresholds (K, C) of their tags, bool (K, n, C)."""
    return outputs.astype(np.float64) >= thresholds[:, None]


class _Ranking:
    """Scores sorted once for each of L rows, to be measured under any weights.

    Only positives move ROC-AUC and average precision, so a sorted row is cut into slots, one for
    each tie that holds a positive, and one more for the negatives below the last:

        scores      .9  .8 | .7  .7  .7 | .5 | .4  .3
        is positive  -   - |  +   -   + |  + |  -   -
        part         0   0 |  2   1   2 |  2 |  0   0     0 above the tie, 1 tied, 2 positive
        slot         0   0    0   0   0    1    2   2     the last is the row's extra one

    A sparse matrix of (slot, part) by track times the weights of the tracks gives all sums.
    """

    def __init__(self, is_target: np.ndarray, scores: np.ndarray, tracks: np.ndarray) -> None:
        """Sort scores (L, m) by what is positive (L, m); an item has its track's weight (m,)."""
        num_rows, num_items = scores.shape
        order = (-scores).argsort(1)
        scores = np.take_along_axis(scores, order, 1)
        is_positive = np.take_along_axis(is_target, order, 1).ravel()
        is_new = np.ones(scores.shape, bool)
        is_new[:, 1:] = scores[:, 1:] != scores[:, :-1]
        tie = is_new.ravel().cumsum(dtype=np.int32) - 1
        has_positive = np.zeros(tie[-1] + 1, bool)
        has_positive[tie[is_positive]] = True
        # Ties with a positive before this one, and the extra slot of each row before.
        slot = (has_positive.cumsum(dtype=np.int32) - has_positive)[tie]
        slot += np.repeat(np.arange(num_rows, dtype=np.int32), num_items)
        part = np.where(is_positive, 2, has_positive[tie])
        self.num_slots = int(has_positive.sum()) + num_rows
        self.starts = slot[::num_items]
        items = (np.ones(order.size), (3 * slot + part, tracks[order].ravel()))
        shape = (3 * self.num_slots, int(tracks.max()) + 1)
        self.matrix = coo_array(items, shape=shape)

    def measure(self, weights: np.ndarray, with_precision: bool) -> Values:
        """Return `roc_auc`, and `pr_auc` if asked for, (L, R) each, under weights (n, R).

        Both are NaN where a row has no positive or no negative of weight above 0.
        """
        sums = (self.matrix @ weights).reshape(self.num_slots, 3, -1)
        tied, hits = sums[:, 1], sums[:, 2]
        misses = sums[:, 0] + tied
        num_positives = np.add.reduceat(hits, self.starts)
        num_negatives = np.add.reduceat(misses, self.starts)
        num_slots = np.diff(self.starts, append=self.num_slots)
        # Running sums of whole numbers are exact, so a row's own is the difference of two.
        misses_so_far = misses.cumsum(0) - (num_negatives.cumsum(0) - num_negatives).repeat(
            num_slots, 0
        )
        below = num_negatives.repeat(num_slots, 0) - misses_so_far + 0.5 * tied
        is_defined = (num_positives > 0) & (num_negatives > 0)
        pairs = np.where(is_defined, num_positives * num_negatives, np.nan)
        values = {"roc_auc": np.add.reduceat(hits * below, self.starts) / pairs}
        if with_precision:
            hits_so_far = hits.cumsum(0) - (num_positives.cumsum(0) - num_positives).repeat(
                num_slots, 0
            )
            hits *= hits_so_far / np.maximum(hits_so_far + misses_so_far, 1)
            total = np.where(is_defined, num_positives, np.nan)
            values["pr_auc"] = np.add.reduceat(hits, self.starts) / total
        return values


class _TagScorer:
    def __init__(
        self,
        targets: np.ndarray,
        outputs: np.ndarray,
        decisions: np.ndarray | None,
        headline_only: bool,
    ) -> None:
        num_models, num_tracks, num_labels = self.shape = outputs.shape
        self.headline_only = headline_only
        rows = outputs.transpose(0, 2, 1).reshape(-1, num_tracks)  # (K * C, n)
        self.macro = _Ranking(np.tile(targets.T, (num_models, 1)), rows, np.arange(num_tracks))
        self.micro = self.decided = None
        if not headline_only:
            everything = np.tile(targets.ravel(), (num_models, 1))  # (K, n * C)
            tracks = np.repeat(np.arange(num_tracks), num_labels)
            self.micro = _Ranking(everything, outputs.reshape(num_models, -1), tracks)
            if decisions is not None:
                hits_and_all = np.stack([targets & decisions, targets.astype(np.int8) + decisions])
                by_label = hits_and_all.transpose(0, 1, 3, 2).reshape(-1, num_tracks)
                self.decided = csr_array(by_label, dtype=np.float64)  # (2 * K * C, n)
        self.num_cells = 3 * self.macro.num_slots

    def measure(self, weights: np.ndarray) -> tuple[Values, Values]:
        num_models, _, num_labels = self.shape
        shape = (num_models, num_labels, -1)
        values = self.macro.measure(weights, with_precision=not self.headline_only)
        if self.decided is not None:
            hits, either = (self.decided @ weights).reshape(2, num_models * num_labels, -1)
            f1 = 2 * hits / np.maximum(either, 1)
            values["f1"] = np.where(np.isnan(values["roc_auc"]), np.nan, f1)
        per_label = {name: each.reshape(shape).transpose(0, 2, 1) for name, each in values.items()}
        overall = {name: mean_of_defined(values) for name, values in per_label.items()}
        if self.micro is not None:
            micro = self.micro.measure(weights, with_precision=True)
            overall |= {f"{name}_micro": each for name, each in micro.items()}
        return overall, per_label


class _ClassScorer:
    def __init__(self, targets: np.ndarray, outputs: np.ndarray) -> None:
        self.shape = num_models, num_tracks, num_labels = outputs.shape
        self.num_cells = num_models * num_labels**2
        row = np.arange(num_models)[:, None] * num_labels**2 + targets * num_labels
        column = np.broadcast_to(np.arange(num_tracks), (num_models, num_tracks))
        items = (np.ones(row.size), ((row + outputs.argmax(2)).ravel(), column.ravel()))
        self.matrix = coo_array(items, shape=(self.num_cells, num_tracks)).tocsr()

    def measure(self, weights: np.ndarray) -> tuple[Values, Values]:
        num_models, _, num_labels = self.shape
        confusions = (self.matrix @ weights).reshape(num_models, num_labels, num_labels, -1)
        hits = confusions.diagonal(axis1=1, axis2=2)  # (K, R, C)
        support = confusions.sum(2).transpose(0, 2, 1)
        chosen = confusions.sum(1).transpose(0, 2, 1)
        # A class that is neither true nor chosen has no F1; one that is only chosen has 0.
        per_label = {"recall": _divide(hits, support), "f1": _divide(2 * hits, support + chosen)}
        overall = {
            "accuracy": hits.sum(2) / support.sum(2),
            "balanced_accuracy": mean_of_defined(per_label["recall"]),
            "f1": mean_of_defined(per_label["f1"]),
        }
        return overall, per_label


class _NumberScorer:
    def __init__(self, targets: np.ndarray, outputs: np.ndarray) -> None:
        self.targets, self.outputs = targets, outputs
        self.num_cells = targets.size

    def measure(self, weights: np.ndarray) -> tuple[Values, Values]:
        values = _r2(self.targets, self.outputs, weights)
        return {"r2": mean_of_defined(values)}, {"r2": values}


def _r2(targets: np.ndarray, outputs: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return (K, R, C): 1 - squared error / squared deviation; NaN where the target is constant."""
    means = (weights.T @ targets) / weights.sum(0)[:, None]  # (R, C)
    columns = []
    for label, target in enumerate(targets.T):
        spread = (weights * (target[:, None] - means[:, label]) ** 2).sum(0)  # (R,)
        error = (target - outputs[:, :, label]) ** 2 @ weights  # (K, R)
        drawn = np.where(weights > 0, target[:, None], np.nan)
        # Asked exactly: the spread of equal numbers about their rounded mean need not be 0.
        is_constant = np.nanmin(drawn, 0) == np.nanmax(drawn, 0)
        columns.append(1 - _divide(error, np.where(is_constant, 0, spread)))
    return np.stack(columns, 2)


def _divide(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Divide, with NaN where the denominator is 0."""
    return numerator / np.where(denominator == 0, np.nan, denominator)
