"""What a benchmark compares: tasks, backbones and a protocol, from a YAML file.

    tasks:       which tracks and labels, and where they lie
    backbones:   what `load_encoder` takes, or `supervised` or `end-to-end`, which are trained here
    probe:       the protocol and how many seeds
    supervised:  how those two are trained, and where their checkpoints are kept
    cache:       the folder of embeddings

Relative paths are relative to the file (to the current folder in the configurations that come with
mulap), and `~` is the home folder. Nothing here decodes audio or
loads a model.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mulap.configs import FOLDER as FOLDER_OF_CONFIGS
from mulap.probing.pair import Backbone
from mulap.probing.settings import find_protocol
from mulap.settings import build_settings, load_yaml
from mulap.tasks.folder import read_folder
from mulap.tasks.registry import find_task
from mulap.tasks.task import Kind, TaskData
from mulap.training.supervised_settings import SupervisedSettings, load_supervised_settings

FOLDER = "folder"


@dataclass(frozen=True)
class TaskEntry:
    """A task of the benchmark and where its data is.

    Attributes:
        name: of the registry, or `folder`.
        data: the task's folder; for `folder` the table of labels.
        split: which of the task's splits, empty for its default; for `folder` a column.
        label: for `folder`, the column of labels, or several. This and all below is as
            `read_folder` takes it.
        fold: for `folder`, the column of folds.
        group: for `folder`, the column of what stays together.
        kind: for `folder`, what the labels are.
        title: for `folder`, as tables print it.
    """

    name: str
    data: Path
    split: str = ""
    label: str | list[str] | None = None
    fold: str | None = None
    group: str | None = None
    kind: Kind | None = None
    title: str = ""

    def __post_init__(self) -> None:
        if self.name == FOLDER:
            if not self.label:
                raise ValueError("has no 'label': give it one")
            return
        task = find_task(self.name)
        if self.columns:
            raise ValueError(f"'{next(iter(self.columns))}' is for name: folder (leave it out)")
        if self.split and self.split not in task.splits:
            known = ", ".join(task.splits)
            raise ValueError(f"{task.name} has no split '{self.split}': give {known}")

    @property
    def columns(self) -> dict[str, Any]:
        """What the file says of `folder` alone."""
        names = ("label", "fold", "group", "kind", "title")
        return {name: value for name in names if (value := getattr(self, name))}

    def load(self) -> TaskData:
        """Read the task's tracks and labels.

        Raises:
            ValueError: files missing or malformed.
        """
        if self.name == FOLDER:
            return read_folder(self.data, split=self.split or None, **self.columns)
        return find_task(self.name).load(self.data, self.split)

    def __str__(self) -> str:
        if self.name != FOLDER:
            return f"{self.name} ({self.split or find_task(self.name).default_split})"
        # The title that `read_folder` gives, before anything is read.
        names = self.label if isinstance(self.label, str) else ", ".join(self.label or ())
        return self.title or f"{self.data.stem} ({names})"


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is compared.

    Attributes:
        tasks: in the order of the tables.
        backbones: in the order of the tables.
        protocol: of the probe.
        num_seeds: of the probe, from 0 up.
        supervised: how `supervised` and `end-to-end` are trained.
        num_whole_seeds: of `end-to-end`, whose training is much longer than a probe's.
        checkpoints: where the backbones of `supervised` are, a folder each named for the task they
            were trained on; None for a folder in the output.
        cache: of embeddings; None for a folder in the output.
    """

    tasks: tuple[TaskEntry, ...]
    backbones: tuple[Backbone, ...]
    protocol: str
    num_seeds: int
    supervised: SupervisedSettings
    num_whole_seeds: int
    checkpoints: Path | None
    cache: Path | None


def _check_seeds(seeds: int) -> None:
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}: give a whole number from 1 up")


@dataclass(frozen=True)
class _Named:
    name: str
    label: str = ""


@dataclass(frozen=True)
class _Probe:
    protocol: str = "paper"
    seeds: int = 3

    def __post_init__(self) -> None:
        find_protocol(self.protocol)
        _check_seeds(self.seeds)


@dataclass(frozen=True)
class _Supervised:
    settings: Path | None = None
    seeds: int = 1
    checkpoints: Path | None = None

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)


@dataclass(frozen=True)
class _File:
    """What the YAML file may hold."""

    tasks: list[TaskEntry]
    backbones: list[str | _Named]
    probe: _Probe = _Probe()
    supervised: _Supervised = _Supervised()
    cache: Path | None = None


def load_config(path: str | os.PathLike[str]) -> BenchmarkConfig:
    """Read and check a benchmark's file. No data is looked at.

    Args:
        path: the YAML file.

    Raises:
        ValueError: the file cannot be read, a key or name is not known, something is named twice.
    """
    path = Path(path)
    where, base = str(path), path.resolve().parent
    if base.is_relative_to(FOLDER_OF_CONFIGS):
        base = Path.cwd()
    file = build_settings(_File, load_yaml(path), where)
    probe, supervised = file.probe, file.supervised
    return BenchmarkConfig(
        tasks=_check_tasks(file.tasks, base, where),
        backbones=_name_backbones(file.backbones, base, where),
        protocol=probe.protocol,
        num_seeds=probe.seeds,
        supervised=load_supervised_settings(supervised.settings and base / supervised.settings),
        num_whole_seeds=supervised.seeds,
        checkpoints=supervised.checkpoints and base / supervised.checkpoints,
        cache=file.cache and base / file.cache,
    )


def _check_tasks(entries: Sequence[TaskEntry], base: Path, where: str) -> tuple[TaskEntry, ...]:
    if not entries:
        raise ValueError(f"{where}: 'tasks' is empty: write - {{name: ..., data: DIR}}")
    names = [str(entry) for entry in entries]
    for entry, name in zip(entries, names, strict=True):
        if names.count(name) > 1:
            remedy = "give one another title" if entry.name == FOLDER else "name another split"
            raise ValueError(f"{where}: the task {name} is there twice: {remedy}")
    return tuple(replace(entry, data=base / entry.data) for entry in entries)


def _name_backbones(
    entries: Sequence[str | _Named], base: Path, where: str
) -> tuple[Backbone, ...]:
    if not entries:
        raise ValueError(f"{where}: 'backbones' is empty: write - random")
    backbones = []
    for number, entry in enumerate(entries, 1):
        name, label = (entry, entry) if isinstance(entry, str) else (entry.name, entry.label)
        if not name:
            raise ValueError(f"{where}: 'backbones[{number}]' has no name: give it one, as random")
        backbones.append(Backbone(name, label or name, resolve_backbone(name, base)))
    for what in ("name", "label"):
        seen = [getattr(backbone, what) for backbone in backbones]
        twice = next((each for each in seen if seen.count(each) > 1), None)
        if twice is not None:
            raise ValueError(f"{where}: two backbones have the {what} '{twice}': give another")
    return tuple(backbones)


def resolve_backbone(name: str, base: Path) -> str:
    """Make the path in a backbone's name absolute, if there is one.

    What has a slash is a path: `./best`, `~/best`, and `out/weights.pt` of
    `hear:MODULE:out/weights.pt`. Names on the hub have one too, so `hf:` is followed by a path only
    where that folder is there.

    Args:
        name: as the file gives it.
        base: the folder that paths are relative to.
    """
    if name.startswith("hf:"):
        folder = base / Path(name[3:]).expanduser()
        return f"hf:{folder}" if folder.exists() else name
    if name.startswith("hear:"):
        module, _, weights = name[5:].partition(":")
        return f"hear:{module}:{base / Path(weights).expanduser()}" if "/" in weights else name
    return str(base / Path(name).expanduser()) if "/" in name else name
