"""The numbers of a probe, and the named protocols that fix them.

A protocol is a grid: one point, or several of which each fold's validation tracks choose one. Which
tracks and which labels there are, nothing here knows.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any, get_type_hints


@dataclass(frozen=True)
class ProbeSettings:
    """How a probe is made and trained; the defaults are the paper's (section 3.2).

    Attributes:
        hidden_size: width of the one hidden layer; 0 for none, a linear probe.
        learning_rate: of Adam.
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
            _require(getattr(self, name) >= 1, name, getattr(self, name), "1 up")
        for name in ("hidden_size", "weight_decay", "plateau_patience"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "0 up")
        _require(self.learning_rate > 0, "learning_rate", self.learning_rate, "more than 0")
        _require(0 <= self.dropout < 1, "dropout", self.dropout, "0 up, below 1")
        in_range = 0 < self.plateau_factor <= 1
        _require(in_range, "plateau_factor", self.plateau_factor, "more than 0, at most 1")
        are_seeds = min(self.seeds, default=-1) >= 0 and len(set(self.seeds)) == len(self.seeds)
        _require(are_seeds, "seeds", list(self.seeds), "different numbers from 0 up")


def _require(is_good: bool, name: str, value: object, remedy: str) -> None:
    if not is_good:
        raise ValueError(f"a probe's '{name}' is {value}: give {remedy}")


# `jukemir` is the grid of Castellon et al. (2021), without its batches of 256, inside our loop:
# theirs sees one vector a clip and has no plateau.
_MAPPINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "standardized": {"standardize": True},
    "linear": {"hidden_size": 0, "standardize": True},
    "jukemir": {
        "standardize": [False, True],
        "hidden_size": [0, 512],
        "learning_rate": [1e-5, 1e-4, 1e-3],
        "dropout": [0.25, 0.5, 0.75],
        "weight_decay": [0.0, 1e-4, 1e-3],
    },
}


def build_grid(values: Mapping[str, Any], where: str = "probe") -> tuple[ProbeSettings, ...]:
    """Turn a mapping, as YAML gives it, into the points of a grid.

    A setting may have a list of values; every combination is a point, the last setting changing
    fastest. `seeds` is always a list and makes no points: all of a point's seeds belong together.

    Args:
        values: settings by name; the others keep their defaults. `{"dropout": [0.0, 0.5]}` has two
            points.
        where: the file or section, for messages.

    Raises:
        ValueError: an unknown setting, of which the nearest is named, or a value that cannot be.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"{where} is {values!r}: give it settings and values")
    hints = get_type_hints(ProbeSettings)
    axes: dict[str, list[Any]] = {}
    for name, value in values.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1, cutoff=0.5)
            remedy = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(hints)}"
            raise ValueError(f"{where}: unknown setting '{name}': {remedy}")
        what = f"{where}: '{name}'"
        if name == "seeds":
            axes[name] = [tuple(_convert(int, seed, what) for seed in _as_list(value))]
        else:
            axes[name] = [_convert(hints[name], each, what) for each in _as_list(value)]
            if not axes[name]:
                raise ValueError(f"{what} is an empty list: give a value")
    try:
        return tuple(
            ProbeSettings(**dict(zip(axes, point, strict=True)))
            for point in product(*axes.values())
        )
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def _as_list(value: object) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _convert(kind: type, value: Any, what: str) -> Any:
    if kind is float and isinstance(value, int | float | str) and not isinstance(value, bool):
        try:
            number = float(value)  # YAML reads 1e-4 as text
        except ValueError as error:
            raise ValueError(f"{what} is {value!r}: give a number") from error
        if math.isfinite(number):
            return number
    elif isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    word = {bool: "true or false", int: "a whole number"}.get(kind, "a number")
    raise ValueError(f"{what} is {value!r}: give {word}")


PROTOCOLS: dict[str, tuple[ProbeSettings, ...]] = {
    name: build_grid(values, name) for name, values in _MAPPINGS.items()
}
"""Name -> grid: `paper`; `standardized`, the same on standardised features; `linear`, the latter
without a hidden layer; `jukemir`, 108 points."""


def find_protocol(name: str) -> tuple[ProbeSettings, ...]:
    """Return the grid of a protocol.

    Raises:
        ValueError: there is none of that name; the nearest is named.
    """
    if name not in PROTOCOLS:
        near = difflib.get_close_matches(name, PROTOCOLS, 1)
        remedy = f"did you mean {near[0]}?" if near else f"give one of {', '.join(PROTOCOLS)}"
        raise ValueError(f"there is no protocol '{name}' ({remedy})")
    return PROTOCOLS[name]
