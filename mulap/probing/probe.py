"""Labels and cached features -> trained probes -> predictions of the test tracks.

    each epoch   one random segment of every train track -> a step for each batch
                 every segment of every valid track -> outputs -> mean over the track -> score
    at the end   the weights of the best epoch, the same mean, the test tracks

The encoder is frozen and its vectors lie on disk, so an epoch reads rows and multiplies matrices.
All seeds and points of a grid that have the same shape are trained together (`mlp`); nothing
depends on which. Validation chooses the epoch, the point of the grid and the thresholds of tags;
test tracks are looked at once. What the vectors are of, and what a score is worth, nothing here
knows.

Letters of shapes: n tracks, N segments of all tracks, D width of a vector, C labels, S seeds,
P points of a grid, K models trained together, B tracks a batch, M segments read at once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mulap.probing.features import TrackFeatures
from mulap.probing.mlp import MlpStack, Patience, draw_epoch, forward, plan_stacks
from mulap.probing.settings import ProbeSettings
from mulap.tasks.metrics import choose_thresholds, decide, headline
from mulap.tasks.result import Predictions
from mulap.tasks.task import Fold, Kind, TaskData
from mulap.terminal import Progress

_BLOCK_NUMBERS = 2**24  # of hidden layers or outputs at once
_HELD_NUMBERS = 2**27  # of validation vectors kept between epochs; more are read again in each
_CONSTANT = 1e-6  # a deviation below this share of the mean is rounding


@dataclass(frozen=True)
class ProbeOutcome:
    """What came of a probe.

    Attributes:
        predictions: of the tested tracks of all folds, in the order of `data.examples`, by the
            chosen point of the grid, a model for each seed.
        settings: the chosen point of each fold.
        valid_scores: the best validation score of every fold, point and seed, float64 (F, P, S);
            -inf for a model that never had one.
        num_used: tracks in train, valid and test, summed over folds.
        num_left_out: tracks without features, which are in none of these.
    """

    predictions: Predictions
    settings: tuple[ProbeSettings, ...]
    valid_scores: np.ndarray
    num_used: dict[str, int]
    num_left_out: int


def train_probe(
    data: TaskData,
    features: TrackFeatures,
    grid: Sequence[ProbeSettings],
    device: str | torch.device = "cpu",
) -> ProbeOutcome:
    """Train probes on every fold and predict its test tracks.

    Args:
        data: n tracks with labels and folds.
        features: the vectors of their segments, in any order of tracks.
        grid: the points that validation chooses from; all have the same seeds.
        device: where probes are trained.

    Raises:
        ValueError: points with different seeds, a part of a fold without any features, features
            that are not finite, a validation split that cannot be scored, no model that learned.
    """
    if len({point.seeds for point in grid}) != 1:
        raise ValueError(f"{data.task.name}: give all points of the grid the same seeds")
    assert len(features.counts) == len(data), "features of other tracks"
    has_features = features.counts > 0
    folds = [_drop_tracks(data, fold, has_features) for fold in data.folds]
    _check_finite(data, features, folds)
    num_models = len(folds) * len(grid) * len(grid[0].seeds)
    with Progress("probing", num_models, "probes") as progress:
        results = [
            _probe_fold(_FoldProbe(data, features, fold, device), grid, progress) for fold in folds
        ]
    tested = np.concatenate([fold.test for fold in folds])
    order = tested.argsort()
    outputs = np.concatenate([result.outputs for result in results], 1)[:, order]
    decisions = [result.decisions for result in results if result.decisions is not None]
    tested = tested[order]
    return ProbeOutcome(
        Predictions.of_tracks(
            data, tested, outputs, np.concatenate(decisions, 1)[:, order] if decisions else None
        ),
        tuple(result.settings for result in results),
        np.stack([result.valid_scores for result in results]),
        {part: sum(len(getattr(f, part)) for f in folds) for part in ("train", "valid", "test")},
        int((~has_features).sum()),
    )


def _drop_tracks(data: TaskData, fold: Fold, has_features: np.ndarray) -> Fold:
    parts = {part: getattr(fold, part) for part in ("train", "valid", "test")}
    parts = {part: tracks[has_features[tracks]] for part, tracks in parts.items()}
    for part, tracks in parts.items():
        if not len(tracks):
            where = f" of fold {fold.name!r}" if fold.name else ""
            raise ValueError(
                f"{data.task.name}: no track in {part}{where} has features (see what failed)"
            )
    return replace(fold, **parts)


def _check_finite(data: TaskData, features: TrackFeatures, folds: Sequence[Fold]) -> None:
    used = np.unique(np.concatenate([p for f in folds for p in (f.train, f.valid, f.test)]))
    for tracks, rows, offsets in _blocks(features, used):
        is_finite = np.isfinite(features.vectors[rows]).all(1)
        is_good = np.logical_and.reduceat(is_finite, offsets)
        if not is_good.all():
            bad = data.examples[tracks[~is_good][0]]
            raise ValueError(
                f"{data.task.name}: track {bad.track_id!r} has features that are not finite"
                f" (look at {bad.file_name} and at the encoder, then embed again)"
            )


def _blocks(
    features: TrackFeatures, tracks: np.ndarray, num_segments: int = 4096
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut tracks into blocks of about so many segments, each track whole.

    Yields:
        The block's tracks, their rows in `vectors` (M,), and where in these each track starts.
    """
    ends = np.cumsum(features.counts[tracks])
    cuts = np.flatnonzero(np.diff((ends - 1) // num_segments)) + 1
    for block in np.split(tracks, cuts):
        counts = features.counts[block]
        offsets = np.cumsum(counts) - counts
        rows = np.repeat(features.starts[block] - offsets, counts) + np.arange(counts.sum())
        yield block, rows, offsets


def _to_scale(deviation: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """Return what to divide by: the deviation, or 1 where there is none but rounding."""
    return np.where(deviation > _CONSTANT * np.abs(mean), deviation, 1.0)


@dataclass(frozen=True)
class _FoldResult:
    """A fold's chosen point; outputs (S, n, C) and decisions are of its test tracks."""

    settings: ProbeSettings
    valid_scores: np.ndarray  # (P, S)
    outputs: np.ndarray
    decisions: np.ndarray | None


class _FoldProbe:
    """One fold: its targets as tensors, its vectors as blocks, and the loop that trains a stack."""

    def __init__(
        self, data: TaskData, features: TrackFeatures, fold: Fold, device: str | torch.device
    ) -> None:
        self.kind: Kind = data.task.kind
        self.name = data.task.name
        self.num_labels = len(data.task.labels)
        self.features, self.fold, self.device = features, fold, torch.device(device)
        self.targets = data.targets
        targets = data.targets
        self._scale, self._shift = np.ones(self.num_labels), np.zeros(self.num_labels)
        if self.kind == "numbers":
            self._shift = targets[fold.train].mean(0)
            self._scale = _to_scale(targets[fold.train].std(0), self._shift)
            targets = (targets - self._shift) / self._scale
        dtype = torch.int64 if self.kind == "class" else torch.float32
        self._tensor = torch.as_tensor(targets).to(self.device, dtype)
        self._moments: tuple[Tensor, ...] | None = None

    def _standardize(self, x: Tensor) -> Tensor:
        """Bring features to mean 0 and deviation 1 over train tracks, each weighing the same."""
        if self._moments is None:
            total = np.zeros((2, self.features.vectors.shape[1]))
            for _, rows, offsets in _blocks(self.features, self.fold.train):
                block = self.features.vectors[rows].astype(np.float64)
                counts = np.diff(offsets, append=len(rows))[:, None]
                total[0] += (np.add.reduceat(block, offsets) / counts).sum(0)
                total[1] += (np.add.reduceat(block**2, offsets) / counts).sum(0)
            mean, square = total / len(self.fold.train)
            scale = _to_scale(np.sqrt(np.maximum(square - mean**2, 0)), mean)
            self._moments = tuple(
                torch.as_tensor(each, dtype=torch.float32, device=self.device)
                for each in (mean, scale)
            )
        mean, scale = self._moments
        return (x - mean) / scale

    def _read(self, rows: np.ndarray, standardize: bool) -> Tensor:
        """Read vectors: rows of any shape -> (..., D)."""
        x = torch.from_numpy(np.ascontiguousarray(self.features.vectors[rows])).to(self.device)
        return self._standardize(x) if standardize else x

    def read_blocks(
        self, tracks: np.ndarray, settings: ProbeSettings, num_models: int
    ) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Yield all vectors of some tracks (M, D), and where in them each track starts."""
        width = num_models * max(settings.hidden_size, self.num_labels)
        num_segments = int(np.clip(_BLOCK_NUMBERS // width, 256, 8192))
        for _, rows, offsets in _blocks(self.features, tracks, num_segments):
            yield self._read(rows, settings.standardize), offsets

    @torch.no_grad()
    def predict(
        self, weights: Sequence[Tensor], blocks: Iterator[tuple[Tensor, np.ndarray]] | list
    ) -> np.ndarray:
        """Return each track's output, the mean over its segments, float32 (K, n, C)."""
        outputs = []
        for x, offsets in blocks:
            values = forward(weights, x.expand(len(weights[0]), -1, -1))
            if self.kind == "tags":
                values = values.sigmoid()
            elif self.kind == "class":
                values = values.softmax(2)
            counts = np.diff(offsets, append=len(x))[:, None]
            outputs.append(np.add.reduceat(values.cpu().numpy(), offsets, axis=1) / counts)
        means = np.concatenate(outputs, 1) * self._scale + self._shift
        return means.astype(np.float32)

    def score(self, outputs: np.ndarray) -> np.ndarray:
        """Return the validation score of each model (K,); -inf for one that diverged."""
        scores = np.full(len(outputs), -np.inf)
        is_finite = np.isfinite(outputs).all((1, 2))
        if is_finite.any():
            targets = self.targets[self.fold.valid]
            scores[is_finite] = headline(self.kind, targets, outputs[is_finite])
        return scores

    def train_epoch(self, stack: MlpStack, epoch: int, settings: ProbeSettings) -> None:
        """Do an epoch of steps: one segment of each train track for each model."""
        train, starts = self.fold.train, self.features.starts
        seeds, seed_index = np.unique(stack.alive_seeds, return_inverse=True)
        draws = [draw_epoch(int(seed), epoch, self.features.counts[train]) for seed in seeds]
        tracks = np.stack([train[draw.order] for draw in draws])  # (S, n)
        rows = np.stack([(starts[train] + draw.offsets)[draw.order] for draw in draws])
        index = torch.from_numpy(seed_index).to(self.device)
        for start in range(0, len(train), settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            x = self._read(rows[:, batch], settings.standardize)  # (S, B, D)
            targets = self._tensor[torch.from_numpy(tracks[:, batch]).to(self.device)]
            uniform = None
            if stack.num_random:
                shape = (x.shape[1], stack.num_random)
                drawn = [torch.rand(shape, generator=draw.dropout) for draw in draws]
                uniform = torch.stack(drawn).to(self.device)[index]
            stack.step(self.kind, x[index], targets[index], uniform)

    def train_stack(
        self, points: Sequence[ProbeSettings], progress: Progress
    ) -> tuple[np.ndarray, list[Tensor]]:
        """Train the seeds of some points, which have the same shape, together.

        Returns:
            The best validation scores (P, S), and the weights that had them (P * S, ...).
        """
        models = [(point, seed) for point in points for seed in point.seeds]
        shape = points[0]
        stack = MlpStack(models, self.features.vectors.shape[1], self.num_labels, self.device)
        patience = Patience([settings for settings, _ in models])
        factors = np.array([settings.plateau_factor for settings, _ in models])
        valid = self.fold.valid
        num_numbers = self.features.counts[valid].sum() * self.features.vectors.shape[1]
        held = None
        if num_numbers <= _HELD_NUMBERS:
            held = list(self.read_blocks(valid, shape, len(models)))
        epoch = 0
        while len(stack.alive):
            self.train_epoch(stack, epoch, shape)
            blocks = self.read_blocks(valid, shape, len(models)) if held is None else held
            scores = self.score(self.predict(stack.weights, blocks))
            is_better, is_plateau, is_finished = patience.update(stack.alive, scores)
            stack.remember(is_better)
            stack.lower(np.where(is_plateau, factors[stack.alive], 1.0))
            stack.drop(is_finished)
            epoch += 1
            progress.advance(int(is_finished.sum()), f"epoch {epoch}")
        return patience.best.reshape(len(points), -1), stack.best


def _probe_fold(
    probe: _FoldProbe, grid: Sequence[ProbeSettings], progress: Progress
) -> _FoldResult:
    """Train every point, choose one by validation, and let it predict the test tracks."""
    num_seeds = len(grid[0].seeds)
    scores = np.empty((len(grid), num_seeds))
    best, chosen, weights = -np.inf, -1, []
    for points in plan_stacks(grid, probe.features.vectors.shape[1], probe.num_labels):
        scores[points], trained = probe.train_stack([grid[point] for point in points], progress)
        for place, point in enumerate(points):
            # Of equals the first of the grid, whatever the stacks.
            if (scores[point].mean(), -point) > (best, -chosen) and np.isfinite(
                scores[point]
            ).all():
                best, chosen = scores[point].mean(), point
                span = slice(place * num_seeds, (place + 1) * num_seeds)
                weights = [weight[span].clone() for weight in trained]
    if chosen < 0:
        raise ValueError(
            f"{probe.name}: outputs were never finite, for one seed at least of every point"
            " (standardize the features, or lower the learning rate)"
        )
    settings, fold = grid[chosen], probe.fold
    outputs = probe.predict(weights, probe.read_blocks(fold.test, settings, num_seeds))
    decisions = None
    if probe.kind == "tags":
        valid = probe.predict(weights, probe.read_blocks(fold.valid, settings, num_seeds))
        decisions = decide(outputs, choose_thresholds(probe.targets[fold.valid], valid))
    return _FoldResult(settings, scores, outputs, decisions)
