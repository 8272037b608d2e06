"""The settings of a probe, and the named protocols that fix them.

A protocol is a grid of one or several points; each fold chooses one on its validation tracks.
"""

import difflib
from dataclasses import dataclass, replace
from itertools import product
from typing import Any


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is made and trained; the defaults are the paper's (section 3.2).

    Attributes:
        hidden_size: width of the one hidden layer; 0 for none, a linear probe.
        learning_rate: Adam's learning rate.
        batch_size: tracks a step.
        num_epochs: at most; in each, every track is seen once, by one random segment.
        weight_decay: Adam's, that is an L2 term of the gradient.
        dropout: probability, on the input and after the ReLU.
        standardize: whether each feature is brought to mean 0 and deviation 1 on the train tracks.
        plateau_factor: what the learning rate is multiplied with on a plateau.
        plateau_patience: epochs without a better validation score that are borne; one more is a
            plateau. (The paper gives no number; it is PyTorch's default, as in the authors' code.)
        stop_patience: epochs without a better validation score after which training stops.
        seeds: of initial weights, order, segments and dropout; one model each.
    """

    hidden_size: int = 512
    learning_rate: float = 1e-3
    batch_size: int = 64
    num_epochs: int = 200
    weight_decay: float = 0.01
    dropout: float = 0.0
    standardize: bool = False
    plateau_factor: float = 0.5
    plateau_patience: int = 10
    stop_patience: int = 50
    seeds: tuple[int, ...] = (0, 1, 2)

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_epochs", "stop_patience"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        for name in ("hidden_size", "weight_decay", "plateau_patience"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "a number above 0")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "a number from 0 to below 1")
        in_range = 0 < self.plateau_factor <= 1
        _require(in_range, "plateau_factor", self.plateau_factor, "a number above 0, at most 1")
        are_seeds = min(self.seeds, default=-1) >= 0 and len(set(self.seeds)) == len(self.seeds)
        _require(are_seeds, "seeds", list(self.seeds), "different numbers, each 0 or more")


def _require(is_good: bool, name: str, value: object, remedy: str) -> None:
    if not is_good:
        raise ValueError(f"a probe's '{name}' is {value}. Give {remedy}.")


def expand_grid(**axes: Any) -> tuple[ProbeSettings, ...]:
    """Combine values of settings into the points of a grid.

    A list has a value for each point along it, the last setting changing fastest. Settings that are
    not named keep their defaults.
    """
    values = [axis if isinstance(axis, list) else [axis] for axis in axes.values()]
    return tuple(ProbeSettings(**dict(zip(axes, point, strict=True))) for point in product(*values))


# `jukemir` is the grid of Castellon et al. (2021), without its batches of 256, inside our loop:
# theirs sees one vector a clip and has no plateau.
PROTOCOLS: dict[str, tuple[ProbeSettings, ...]] = {
    "paper": expand_grid(),
    "standardized": expand_grid(standardize=True),
    "linear": expand_grid(hidden_size=0, standardize=True),
    "jukemir": expand_grid(
        standardize=[False, True],
        hidden_size=[0, 512],
        learning_rate=[1e-5, 1e-4, 1e-3],
        dropout=[0.25, 0.5, 0.75],
        weight_decay=[0.0, 1e-4, 1e-3],
    ),
}
"""Name -> grid: `paper`; `standardized`, the same on standardised features; `linear`, the latter
without a hidden layer; `jukemir`, 108 points."""


def find_protocol(name: str) -> tuple[ProbeSettings, ...]:
    """Return the grid of a protocol; ValueError if there is none, which names the nearest."""
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, 1)
        remedy = f"Did you mean {near[0]}?" if near else f"Give one of {', '.join(PROTOCOLS)}."
        raise ValueError(f"there is no protocol '{name}'. {remedy}")
    return PROTOCOLS[name]


def make_grid(protocol: str, num_seeds: int) -> tuple[ProbeSettings, ...]:
    """Return a protocol's grid with this many seeds; ValueError if there is no such protocol."""
    seeds = tuple(range(num_seeds))
    return tuple(replace(point, seeds=seeds) for point in find_protocol(protocol))
