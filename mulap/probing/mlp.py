"""Many small classifiers, trained as one.

    x (K, B, D) -> dropout -> W1 (K, D, H) -> ReLU -> dropout -> W2 (K, H, C) -> logits (K, B, C)

The weights of K models lie in one tensor each, so a step is two batched products whatever K is. The
optimiser is torch's own Adam with a group for each model, whose parameters are slices of these
tensors: learning rate and weight decay are each model's own, and a model that has finished is taken
out, so that it costs nothing. No model sees another: each learns what it would learn alone, which
the tests compare with a plain `torch.nn.Sequential`.

Nothing here knows tracks, segments or splits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from mulap.objectives.masking import keyed_generator
from mulap.probing.settings import ProbeSettings
from mulap.tasks.task import Kind

# Weights of a stack, which holds five arrays of these: 0.7 GB. On a CPU larger ones are slower.
_STACK_NUMBERS = 2**25


def plan_stacks(grid: Sequence[ProbeSettings], input_size: int, num_labels: int) -> list[list[int]]:
    """Put points of the same shape together, as many as memory allows; a point's seeds stay whole.

    Args:
        grid: the points.
        input_size: D.
        num_labels: C.

    Returns:
        Positions in the grid, stack by stack. Points of a stack have the same hidden size, batch
        size and `standardize`.
    """
    by_shape: dict[tuple[int, int, bool], list[int]] = {}
    for index, point in enumerate(grid):
        shape = (point.hidden_size, point.batch_size, point.standardize)
        by_shape.setdefault(shape, []).append(index)
    stacks = []
    for (hidden_size, _, _), points in by_shape.items():
        size = hidden_size * (input_size + num_labels) or input_size * num_labels
        at_once = max(1, _STACK_NUMBERS // (size * len(grid[points[0]].seeds)))
        stacks += [points[start : start + at_once] for start in range(0, len(points), at_once)]
    return stacks


@dataclass(frozen=True)
class EpochDraw:
    """Everything random in an epoch of one model, a pure function of its seed and the epoch.

    Attributes:
        order: in which tracks are seen, a permutation (n,).
        offsets: which segment each track is seen by, before the permutation (n,).
        dropout: draws the uniform numbers that dropout compares with its probability.
    """

    order: np.ndarray
    offsets: np.ndarray
    dropout: torch.Generator


def draw_epoch(seed: int, epoch: int, counts: np.ndarray) -> EpochDraw:
    """Draw an epoch.

    Args:
        seed: of the model.
        epoch: 0 up.
        counts: how many segments each train track has (n,).
    """
    generator = keyed_generator(seed, epoch, 0, "order")
    order = generator.permutation(len(counts))
    offsets = generator.integers(0, counts)
    # The CPU's generator whatever the device, so that the masks are the same on each.
    dropout = torch.Generator().manual_seed(int(generator.integers(2**63)))
    return EpochDraw(order, offsets, dropout)


def initial_weights(seed: int, input_size: int, hidden_size: int, num_labels: int) -> list[Tensor]:
    """Draw the weights of one model: those that `torch.nn.Linear` has after `manual_seed(seed)`.

    Args:
        seed: of the model.
        input_size: D.
        hidden_size: H; 0 for a linear model.
        num_labels: C.

    Returns:
        A matrix and a bias a layer, (D, H), (1, H), (H, C), (1, C); linear (D, C), (1, C).
    """
    generator = torch.Generator().manual_seed(seed)
    sizes = [input_size, *([hidden_size] if hidden_size else []), num_labels]
    weights: list[Tensor] = []
    for num_inputs, num_outputs in zip(sizes, sizes[1:], strict=False):
        bound = num_inputs**-0.5
        for shape in ((num_outputs, num_inputs), (num_outputs, 1)):
            drawn = torch.empty(shape).uniform_(-bound, bound, generator=generator)
            weights.append(drawn.T.contiguous())
    return weights


def forward(
    weights: Sequence[Tensor],
    x: Tensor,
    dropout: Tensor | None = None,
    uniform: Tensor | None = None,
) -> Tensor:
    """Return the logits of K models.

    Args:
        weights: a matrix and a bias a layer, (K, D, H), (K, 1, H), (K, H, C), (K, 1, C).
        x: (K, B, D); may be one (B, D), seen K times by `expand`.
        dropout: probability of each model (K, 1, 1); needed with `uniform`.
        uniform: in [0, 1), (K, B, D + H), or (K, B, D) if linear: what falls below the probability
            is dropped, from the input and from the hidden layer. None for no dropout.

    Returns:
        (K, B, C).
    """
    for layer, (matrix, bias) in enumerate(zip(weights[::2], weights[1::2], strict=True)):
        if layer:
            x = functional.relu(x)
        if uniform is not None:
            assert dropout is not None, "uniform numbers without a probability"
            drawn, uniform = uniform.split([x.shape[2], uniform.shape[2] - x.shape[2]], 2)
            x = x * (drawn >= dropout) / (1 - dropout)
        x = torch.baddbmm(bias, x, matrix)
    return x


def sum_losses(kind: Kind, logits: Tensor, targets: Tensor) -> Tensor:
    """Return the sum over models of each one's mean loss; no model's gradient sees another's.

    Args:
        kind: tags: binary cross-entropy; class: cross-entropy; numbers: squared error.
        logits: (K, B, C).
        targets: float (K, B, C), or positions (K, B) for a class.
    """
    num_models, num_tracks, num_labels = logits.shape
    if kind == "class":
        logits, targets = logits.flatten(0, 1), targets.flatten()
        return functional.cross_entropy(logits, targets, reduction="sum") / num_tracks
    loss = functional.mse_loss if kind == "numbers" else functional.binary_cross_entropy_with_logits
    return loss(logits, targets, reduction="sum") / (num_tracks * num_labels)


class MlpStack:
    """K models of the same shape.

    Args:
        models: settings and seed of each; their hidden size is the same.
        input_size: D.
        num_labels: C.
        device: where the weights are.

    Attributes:
        alive: positions in `models` of those still trained, ascending (K,).
        weights: of those, layer by layer: matrices (K, D, H) and (K, H, C), biases (K, 1, H) and
            (K, 1, C).
        best: as `weights`, of all models: what each had when `remember` was last told so; initial
            weights before.
    """

    def __init__(
        self,
        models: Sequence[tuple[ProbeSettings, int]],
        input_size: int,
        num_labels: int,
        device: str | torch.device = "cpu",
    ) -> None:
        self.seeds = np.array([seed for _, seed in models])
        self.alive = np.arange(len(models))
        (hidden_size,) = {settings.hidden_size for settings, _ in models}
        drawn = {
            seed: initial_weights(seed, input_size, hidden_size, num_labels)
            for seed in set(self.seeds.tolist())
        }
        layers = zip(*(drawn[seed] for _, seed in models), strict=True)
        self.weights = [torch.stack(layer).to(device) for layer in layers]
        self.best = [weight.clone() for weight in self.weights]
        dropout = torch.tensor([settings.dropout for settings, _ in models], device=device)
        self._dropout = dropout[:, None, None]
        self._options = [
            {"lr": settings.learning_rate, "weight_decay": settings.weight_decay}
            for settings, _ in models
        ]
        self._bind([{} for _ in self.weights for _ in models])

    def _bind(self, states: list[dict]) -> None:
        """Make parameters that are slices of the weights, and an optimiser with given states."""
        for weight in self.weights:
            weight.requires_grad_()
        self._parameters = [
            weight.detach()[index].requires_grad_()
            for weight in self.weights
            for index in range(len(weight))
        ]
        num_models = len(self.alive)
        groups = [
            {"params": self._parameters[index::num_models], **self._options[model]}
            for index, model in enumerate(self.alive)
        ]
        self._optimizer = torch.optim.Adam(
            groups, fused=self.weights[0].device.type in ("cpu", "cuda")
        )
        for parameter, state in zip(self._parameters, states, strict=True):
            if state:
                self._optimizer.state[parameter] = state

    @property
    def alive_seeds(self) -> np.ndarray:
        """The seed of each model still trained (K,)."""
        return self.seeds[self.alive]

    @property
    def num_random(self) -> int:
        """How many uniform numbers dropout needs for a row: D + H (D if linear), or 0 for none."""
        return sum(w.shape[1] for w in self.weights[::2]) if self._dropout.any() else 0

    def step(self, kind: Kind, x: Tensor, targets: Tensor, uniform: Tensor | None) -> None:
        """Do one step of each model.

        Args:
            kind: chooses the loss.
            x: (K, B, D).
            targets: as `sum_losses` wants them.
            uniform: as `forward` wants them.
        """
        logits = forward(self.weights, x, self._dropout, uniform)
        gradients = torch.autograd.grad(sum_losses(kind, logits, targets), self.weights)
        slices = [each for gradient in gradients for each in gradient]
        for parameter, gradient in zip(self._parameters, slices, strict=True):
            parameter.grad = gradient
        self._optimizer.step()

    def remember(self, is_better: np.ndarray) -> None:
        """Copy weights to `best`, of the models where True (K,)."""
        with torch.no_grad():
            for best, weight in zip(self.best, self.weights, strict=True):
                for index in np.flatnonzero(is_better):
                    best[self.alive[index]] = weight[index]

    def lower(self, factors: np.ndarray) -> None:
        """Multiply each model's learning rate (K,)."""
        for model, factor, group in zip(
            self.alive, factors, self._optimizer.param_groups, strict=True
        ):
            self._options[model]["lr"] *= float(factor)
            group["lr"] = self._options[model]["lr"]

    def drop(self, is_finished: np.ndarray) -> None:
        """Take out the models where True (K,), with the optimiser's state about them."""
        if not is_finished.any():
            return
        num_models, num_layers = len(self.alive), len(self.weights)
        stay = np.flatnonzero(~is_finished)
        states = [
            self._optimizer.state[self._parameters[layer * num_models + index]]
            for layer in range(num_layers)
            for index in stay
        ]
        self.alive = self.alive[stay]
        self.weights = [weight.detach()[stay].clone() for weight in self.weights]
        self._dropout = self._dropout[stay]
        if len(stay):
            self._bind(states)


class Patience:
    """When a learning rate falls and when training stops, for K models at once.

    A score that is not a number is never better. The best starts below every score, so that a
    negative R2 counts.

    Args:
        settings: of each model.

    Attributes:
        best: the highest score so far, -inf before the first (K,).
    """

    def __init__(self, settings: Sequence[ProbeSettings]) -> None:
        self._plateau = np.array([each.plateau_patience for each in settings])
        self._stop = np.array([each.stop_patience for each in settings])
        self._num_epochs = np.array([each.num_epochs for each in settings])
        self.best = np.full(len(settings), -np.inf)
        self._stale = np.zeros(len(settings), int)  # epochs since the best
        self._bad = np.zeros(len(settings), int)  # epochs since the best or the last plateau
        self._epoch = 0

    def update(
        self, models: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Take in the scores of an epoch.

        Args:
            models: positions of the models still trained (K,).
            scores: their validation scores (K,).

        Returns:
            is_better, is_plateau (the learning rate falls) and is_finished, bool (K,) each.
        """
        self._epoch += 1
        is_better = scores > self.best[models]
        self.best[models] = np.where(is_better, scores, self.best[models])
        self._stale[models] = np.where(is_better, 0, self._stale[models] + 1)
        self._bad[models] = np.where(is_better, 0, self._bad[models] + 1)
        is_plateau = self._bad[models] > self._plateau[models]
        self._bad[models[is_plateau]] = 0
        is_finished = self._stale[models] >= self._stop[models]
        is_finished |= self._epoch >= self._num_epochs[models]
        return is_better, is_plateau, is_finished
