"""One backbone on one task -> a row of results; `mulap probe` prints one, a benchmark collects.

A row bears a key of what made it: backbone, tracks, labels, split, protocol, seeds. It holds no
clock times, and the same pair gives the same bytes, on one machine with one number of threads
(another number may change the last bits of predictions).
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mulap.encoders.encoder import Encoder, Space
from mulap.encoders.load import encoder_sha256, load_encoder
from mulap.files import FailureLog
from mulap.probing.embeddings import cache_features
from mulap.probing.probe import train_probe
from mulap.probing.rows import PairId, Row, canonical_hash, file_stem, plain
from mulap.probing.settings import make_grid
from mulap.tasks.result import Predictions, score_predictions
from mulap.tasks.task import TaskData
from mulap.terminal import warn

PREDICTIONS, LEFT_OUT = "predictions", "left_out"
END_TO_END, SUPERVISED = "end-to-end", "supervised"
"""Backbones that a benchmark trains: on the task itself, and on another task's labels."""

_PACKAGES = ("mulap", "torch", "numpy", "scikit-learn")


@dataclass(frozen=True)
class Backbone:
    """What is evaluated, and how it is called."""

    name: str  # part of every row
    label: str = ""  # as tables print it; the name where not given
    source: str = ""  # what `load_encoder` takes; the name where not given
    space: Space = "backbone"  # of its vectors; `joint` is then added to the name
    zero_shot: bool = False  # no probe is trained, see `mulap.probing.zero_shot`; added likewise

    def __post_init__(self) -> None:
        if not self.name:
            raise ValueError("a backbone has no name. Add one, such as random.")
        object.__setattr__(self, "source", self.source or self.name)
        if self.space == "joint" and self.zero_shot:
            raise ValueError(f"{self.name}: zero-shot needs the backbone. Leave 'space' out.")
        mark = ":joint" if self.space == "joint" else ":zero-shot" if self.zero_shot else ""
        if not self.name.endswith(mark):
            object.__setattr__(self, "name", self.name + mark)
        object.__setattr__(self, "label", self.label or self.name)


@dataclass(frozen=True)
class Judged:
    """A backbone's outputs for a task's test tracks, and what they were computed with."""

    predictions: Predictions  # of the test tracks
    settings: list[dict[str, Any]]  # the chosen ones, as plain values
    num_used: dict[str, int]  # tracks in train, valid and test
    left_out: list[tuple[str, str]]  # (file, reason) of tracks that could not be used
    sha256: str  # of the backbone


@dataclass(frozen=True)
class ProbeOptions:
    """How a backbone is probed."""

    cache: Path  # folder of features
    protocol: str = "paper"  # name of the grid
    num_seeds: int = 3  # of the probe
    device: str = "cpu"  # of backbone and probe


@dataclass
class Pair:
    """One backbone on one task: what identifies it, and how to judge it."""

    data: TaskData  # the task
    backbone: Backbone  # how it is called
    protocol: str  # its name
    seeds: list[int]  # one model each
    weights: str  # hash of the backbone
    recipe: Any  # what else decides the numbers, as plain values
    judge: Callable[[], Judged]  # does the work
    more: dict[str, Any] = field(default_factory=dict)  # what the row says besides

    @property
    def id(self) -> PairId:
        """What the row is about."""
        task = self.data.task
        return (task.name, task.title, self.data.split_name, self.backbone.name, self.protocol)

    def key(self) -> str:
        """Return the hash of all that the row depends on."""
        data = self.data
        tracks = [[e.track_id, e.file_name, e.target, e.split] for e in data.examples]
        folds = [[fold.train, fold.valid, fold.test] for fold in data.folds]
        labels = [data.task.kind, data.task.labels]
        return canonical_hash(
            [self.id, self.weights, self.recipe, self.seeds, labels, tracks, folds]
        )


def probe_pair(data: TaskData, backbone: Backbone, options: ProbeOptions, encoder: Encoder) -> Pair:
    """Make the pair of a frozen backbone and a task; nothing is run yet."""
    grid = make_grid(options.protocol, options.num_seeds)
    weights = encoder_sha256(encoder)

    def judge() -> Judged:
        features = cache_features(data, encoder, options.cache)
        outcome = train_probe(data, features, grid, options.device)
        chosen = [asdict(each) for each in outcome.settings]
        left_out = list(features.failures)
        return Judged(outcome.predictions, chosen, outcome.num_used, left_out, weights)

    recipe, seeds = [asdict(point) for point in grid], list(range(options.num_seeds))
    return Pair(data, backbone, options.protocol, seeds, weights, recipe, judge)


def run_pair(
    data: TaskData,
    backbone: Backbone,
    options: ProbeOptions,
    output: str | os.PathLike[str] | None = None,
    encoder: Encoder | None = None,
) -> Row:
    """Judge one frozen backbone on one task; return the row as `results.jsonl` has it.

    Args:
        data: the task.
        backbone: its name, its label, and what `load_encoder` takes.
        options: how it is probed.
        output: predictions and the list of left-out tracks are written here; None writes none, and
            says on standard error what was left out.
        encoder: the backbone, where it is loaded already.

    Raises:
        ValueError: no such backbone or protocol, or nothing to learn from.
    """
    if backbone.name in (END_TO_END, SUPERVISED):
        raise ValueError(
            f"{backbone.name} is trained by mulap benchmark. Name it in the benchmark's file."
        )
    encoder = encoder or load_encoder(backbone.source, options.device, space=backbone.space)
    folder = None if output is None else Path(output)
    return make_row(probe_pair(data, backbone, options, encoder), folder)


def make_row(pair: Pair, output: Path | None) -> Row:
    """Judge a pair; `output` is as in `run_pair`.

    Raises:
        ValueError: nothing to learn from, or nothing that can be scored.
    """
    judged = pair.judge()
    data, task = pair.data, pair.data.task
    stem = file_stem(task.name, task.title, data.split_name, pair.backbone.name, pair.protocol)
    if output is not None:
        judged.predictions.save(output / PREDICTIONS / f"{stem}.npz")
        _write_left_out(output / LEFT_OUT / f"{stem}.jsonl", judged.left_out, data.problems)
    else:
        for file, reason in judged.left_out:
            warn(f"left out: {file}: {reason}")
    row = {
        "task": task.name,
        "title": task.title,
        "kind": task.kind,
        "split_name": data.split_name,
        "backbone": pair.backbone.name,
        "label": pair.backbone.label,
        "backbone_sha256": judged.sha256,
        "protocol": pair.protocol,
        "settings": judged.settings,
        "seeds": pair.seeds,
        **score_columns(data, judged.predictions),
        "labels": list(task.labels),
        "num_tracks": judged.num_used,
        "num_folds": len(data.folds),
        "left_out": len(judged.left_out),
        "num_problems": len(data.problems),
        "caveat": task.caveat,
        "predictions": f"{PREDICTIONS}/{stem}.npz" if output is not None else "",
        "left_out_list": f"{LEFT_OUT}/{stem}.jsonl" if output is not None else "",
        "versions": {name: version(name) for name in _PACKAGES},
        "key": pair.key(),
        **pair.more,
    }
    return plain(row)


def score_columns(data: TaskData, predictions: Predictions) -> dict[str, Any]:
    """Return the part of a row that is computed from predictions."""
    result = score_predictions(data.task.kind, data.task.labels, predictions)
    return {
        "scores": {name: asdict(score) for name, score in result.scores.items()},
        "resampled": result.unit,
        "num_resampled": result.num_units,
        "per_label": result.per_label,
        "confusion": result.confusion,
        "skipped_labels": list(result.skipped_labels),
    }


def _write_left_out(
    path: Path, left_out: Sequence[tuple[str, str]], problems: Sequence[tuple[str, str]]
) -> None:
    log = FailureLog(path)
    for file, reason in [*left_out, *problems]:
        log.add(file, reason)
    log.write()
