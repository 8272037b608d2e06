"""One small classifier, and everything random about it: a function of its seed and the epoch.

    x (B, D) -> dropout -> linear -> ReLU -> dropout -> linear -> logits (B, C)

Dropout compares probabilities with uniform numbers that the caller draws, so that a model learns
the same on every device, and independent of other training.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mulap.objectives.masking import keyed_generator
from mulap.probing.settings import ProbeSettings
from mulap.tasks.task import Kind

_LOSSES = {
    "tags": functional.binary_cross_entropy_with_logits,
    "class": functional.cross_entropy,
    "numbers": functional.mse_loss,
}


class Mlp(nn.Module):
    """A classifier with one hidden layer, or none.

    Args:
        settings: hidden size and dropout.
        seed: of the initial weights: those that `torch.nn.Linear` has after `manual_seed(seed)`.
        input_size: D.
        num_labels: C.
    """

    def __init__(
        self, settings: ProbeSettings, seed: int, input_size: int, num_labels: int
    ) -> None:
        super().__init__()
        self.dropout = settings.dropout
        hidden = [settings.hidden_size] if settings.hidden_size else []
        inputs, outputs = [input_size, *hidden], [*hidden, num_labels]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.ModuleList(map(nn.Linear, inputs, outputs))
        self.num_random = sum(inputs) if self.dropout else 0

    def forward(self, x: Tensor, uniform: Tensor | None = None) -> Tensor:
        """Return the logits (B, C) of x (B, D).

        Uniform numbers in [0, 1), (B, D + H), or (B, D) if linear, say what is dropped of the input
        and of the hidden layer: what falls below the probability. None is for no dropout.
        """
        for index, layer in enumerate(self.layers):
            x = functional.relu(x) if index else x
            if uniform is not None:
                drawn, uniform = uniform.split([x.shape[1], uniform.shape[1] - x.shape[1]], 1)
                x = x * (drawn >= self.dropout) / (1 - self.dropout)
            x = layer(x)
        return x


def take_step(
    model: Mlp,
    optimizer: torch.optim.Optimizer,
    kind: Kind,
    x: Tensor,
    targets: Tensor,
    uniform: Tensor | None,
) -> None:
    """Change a model's weights by the gradient of its mean loss on x (B, D).

    Targets are float (B, C), or positions (B,) for a class; `uniform` is as `Mlp.forward` takes it.
    """
    optimizer.zero_grad()
    _LOSSES[kind](model(x, uniform), targets).backward()
    optimizer.step()


@dataclass(frozen=True)
class EpochDraw:
    """Everything random in an epoch of one model, a pure function of its seed and the epoch."""

    order: np.ndarray  # in which tracks are seen, a permutation (n,)
    offsets: np.ndarray  # which segment each track is seen by, before the permutation (n,)
    dropout: torch.Generator  # draws the uniform numbers of dropout


def draw_epoch(seed: int, epoch: int, counts: np.ndarray) -> EpochDraw:
    """Draw an epoch, 0 or later, of a model's seed; `(n,)` counts each track's segments."""
    generator = keyed_generator(seed, epoch, 0, "order")
    order = generator.permutation(len(counts))
    offsets = generator.integers(0, counts)
    # Always the CPU's generator, so that the masks are the same on each device.
    dropout = torch.Generator().manual_seed(int(generator.integers(2**63)))
    return EpochDraw(order, offsets, dropout)
