"""Labels and cached features -> trained probes -> predictions of the test tracks.

    each epoch   one random segment of every train track -> a step for each batch
                 every segment of every valid track -> outputs -> mean over the track -> score
    at the end   the weights of the best epoch, the same mean, the test tracks

The encoder is frozen and its vectors lie on disk, so an epoch reads rows and multiplies matrices.
Models are trained one after another: one batched product for all of them is no faster on a CPU
(docs/log.md). Validation chooses the epoch, the point of the grid and the thresholds of tags; test
tracks are looked at once.

Letters of shapes: n tracks, N segments of all tracks, D width of a vector, C labels, S seeds,
P points of a grid, B tracks a batch, M segments read at once.
"""

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from mulap.probing.embeddings import TrackFeatures
from mulap.probing.mlp import EpochDraw, Mlp, draw_epoch, take_step
from mulap.probing.settings import ProbeSettings
from mulap.tasks.metrics import choose_thresholds, decide, headline
from mulap.tasks.result import Predictions
from mulap.tasks.task import Fold, Kind, TaskData
from mulap.terminal import Progress

_HELD_NUMBERS = 2**27  # of validation vectors kept between epochs; more are read again in each
_CONSTANT = 1e-6  # a deviation below this share of the mean is rounding


@dataclass(frozen=True)
class ProbeOutcome:
    """What came of a probe."""

    # of the tested tracks of all folds, in the order of `data.examples`, by the chosen point of the
    # grid, a model for each seed
    predictions: Predictions
    settings: tuple[ProbeSettings, ...]  # the chosen point of each fold
    # the best validation score of every fold, point and seed, float64 (F, P, S); -inf for a model
    # that never had one
    valid_scores: np.ndarray
    num_used: dict[str, int]  # tracks in train, valid and test, summed over folds


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
        raise ValueError(
            f"{data.task.name}: the points of the grid have different seeds. Give all the same."
        )
    assert len(features.counts) == len(data), "features of other tracks"
    has_features = features.counts > 0
    folds = [_drop_tracks(data, fold, has_features) for fold in data.folds]
    _check_finite(data, features, folds)
    num_models = len(folds) * len(grid) * len(grid[0].seeds)
    with Progress("probing", num_models, "probes") as progress:
        results = [_FoldProbe(data, features, f, device).run(grid, progress) for f in folds]
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
    )


def _drop_tracks(data: TaskData, fold: Fold, has_features: np.ndarray) -> Fold:
    parts = {part: getattr(fold, part) for part in ("train", "valid", "test")}
    parts = {part: tracks[has_features[tracks]] for part, tracks in parts.items()}
    for part, tracks in parts.items():
        if not len(tracks):
            where = f" of fold {fold.name!r}" if fold.name else ""
            raise ValueError(
                f"{data.task.name}: no track in {part}{where} has embeddings. See the failures "
                "above."
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
                f"{data.task.name}: track {bad.track_id!r} has embeddings that are not finite. "
                f"Check {bad.file_name} and the encoder, then embed again."
            )


def _blocks(
    features: TrackFeatures, tracks: np.ndarray, num_segments: int = 4096
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Cut tracks into blocks of about `num_segments` segments, each track whole.

    Yields the block's tracks, their rows in `vectors` (M,), and where in these each track starts.
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
    """One fold: its targets as tensors, its vectors as blocks, and the loop that trains a model."""

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
        self._held: dict[bool, list[tuple[Tensor, np.ndarray]]] = {}

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
        """Read vectors (M, D)."""
        x = torch.from_numpy(np.ascontiguousarray(self.features.vectors[rows])).to(self.device)
        return self._standardize(x) if standardize else x

    def _read_blocks(
        self, tracks: np.ndarray, standardize: bool
    ) -> Iterator[tuple[Tensor, np.ndarray]]:
        """Yield all vectors of some tracks (M, D), and where in them each track starts."""
        for _, rows, offsets in _blocks(self.features, tracks):
            yield self._read(rows, standardize), offsets

    def _read_valid(self, standardize: bool) -> Iterable[tuple[Tensor, np.ndarray]]:
        """Return the blocks of the valid tracks, which every epoch reads: in memory if they fit."""
        valid = self.fold.valid
        size = self.features.counts[valid].sum() * self.features.vectors.shape[1]
        if size > _HELD_NUMBERS:
            return self._read_blocks(valid, standardize)
        if standardize not in self._held:
            self._held = {standardize: list(self._read_blocks(valid, standardize))}
        return self._held[standardize]

    @torch.no_grad()
    def predict(
        self, models: Sequence[Mlp], blocks: Iterable[tuple[Tensor, np.ndarray]]
    ) -> np.ndarray:
        """Return each track's output, the mean over its segments, float32 (S, n, C)."""
        outputs = []
        for x, offsets in blocks:
            values = torch.stack([model(x) for model in models])
            if self.kind == "tags":
                values = values.sigmoid()
            elif self.kind == "class":
                values = values.softmax(2)
            counts = np.diff(offsets, append=len(x))[:, None]
            outputs.append(np.add.reduceat(values.cpu().numpy(), offsets, axis=1) / counts)
        means = np.concatenate(outputs, 1) * self._scale + self._shift
        return means.astype(np.float32)

    def _validate(self, model: Mlp, standardize: bool) -> float:
        """Return the validation score; -inf if the model diverged."""
        outputs = self.predict([model], self._read_valid(standardize))
        if not np.isfinite(outputs).all():
            return -np.inf
        return headline(self.kind, self.targets[self.fold.valid], outputs)[0]

    def _train_epoch(
        self, model: Mlp, optimizer: torch.optim.Optimizer, draw: EpochDraw, settings: ProbeSettings
    ) -> None:
        """Do an epoch of steps: one segment of each train track."""
        train = self.fold.train
        tracks = train[draw.order]
        rows = (self.features.starts[train] + draw.offsets)[draw.order]
        for start in range(0, len(train), settings.batch_size):
            batch = slice(start, start + settings.batch_size)
            x = self._read(rows[batch], settings.standardize)
            targets = self._tensor[torch.from_numpy(tracks[batch]).to(self.device)]
            uniform = None
            if model.num_random:
                shape = (len(x), model.num_random)
                uniform = torch.rand(shape, generator=draw.dropout).to(self.device)
            take_step(model, optimizer, self.kind, x, targets, uniform)

    def train(self, settings: ProbeSettings, seed: int, progress: Progress) -> tuple[float, Mlp]:
        """Train one model; return its best validation score, and the weights that had it.

        A score that is not a number is never better. The best starts below every score, so that a
        negative R2 counts.
        """
        size = self.features.vectors.shape[1]
        model = Mlp(settings, seed, size, self.num_labels).to(self.device)
        optimizer = torch.optim.Adam(
            model.parameters(),
            lr=settings.learning_rate,
            weight_decay=settings.weight_decay,
            fused=self.device.type in ("cpu", "cuda"),
        )
        counts = self.features.counts[self.fold.train]
        best, best_model = -np.inf, copy.deepcopy(model)
        num_stale = num_bad = 0  # epochs since the best, and since it or the last plateau
        for epoch in range(settings.num_epochs):
            self._train_epoch(model, optimizer, draw_epoch(seed, epoch, counts), settings)
            score = self._validate(model, settings.standardize)
            progress.advance(0, f"epoch {epoch + 1}")
            if score > best:
                best, best_model = score, copy.deepcopy(model)
                num_stale = num_bad = 0
                continue
            num_stale, num_bad = num_stale + 1, num_bad + 1
            if num_stale >= settings.stop_patience:
                break
            if num_bad > settings.plateau_patience:
                optimizer.param_groups[0]["lr"] *= settings.plateau_factor
                num_bad = 0
        progress.advance()
        return best, best_model

    def run(self, grid: Sequence[ProbeSettings], progress: Progress) -> _FoldResult:
        """Train every point, choose one by validation, and let it predict the test tracks."""
        scores = np.empty((len(grid), len(grid[0].seeds)))
        best, chosen, models = -np.inf, grid[0], []
        for point, settings in enumerate(grid):
            trained = [self.train(settings, seed, progress) for seed in settings.seeds]
            scores[point] = [score for score, _ in trained]
            if np.isfinite(scores[point]).all() and scores[point].mean() > best:
                best, chosen = scores[point].mean(), settings
                models = [model for _, model in trained]
        if not models:
            raise ValueError(
                f"{self.name}: outputs were never finite, for at least one seed of every point. "
                "Use --protocol standardized, or lower the learning rate."
            )
        outputs = self.predict(models, self._read_blocks(self.fold.test, chosen.standardize))
        decisions = None
        if self.kind == "tags":
            valid = self.predict(models, self._read_valid(chosen.standardize))
            decisions = decide(outputs, choose_thresholds(self.targets[self.fold.valid], valid))
        return _FoldResult(chosen, scores, outputs, decisions)
