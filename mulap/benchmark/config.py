"""What a benchmark compares: tasks, backbones and a protocol, from a YAML file.

    tasks:       which tracks and labels, and where they lie
    backbones:   what `load_encoder` takes, or `supervised` or `end-to-end`, which are trained here
    probe:       the protocol and how many seeds
    supervised:  how those two are trained, and where their checkpoints are kept
    cache:       the folder of embeddings

Relative paths are relative to the file (to the current folder in the configurations that come with
mulap), and `~` is the home folder.
"""

import os
from collections import Counter
from collections.abc import Iterable
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
from mulap.training.supervised.settings import SupervisedSettings, load_supervised_settings

FOLDER = "folder"


@dataclass(frozen=True)
class TaskEntry:
    """A task of the benchmark and where its data is."""

    name: str  # of the registry, or `folder`
    data: Path  # the task's folder; for `folder` the table of labels
    split: str = ""  # which of the task's splits, empty for its default; for `folder` a column
    # for `folder`, the column of labels, or several. This and all below is as `read_folder` takes
    # it.
    label: str | list[str] | None = None
    fold: str | None = None  # for `folder`, the column of folds
    group: str | None = None  # for `folder`, the column of what stays together
    kind: Kind | None = None  # for `folder`, what the labels are
    title: str = ""  # for `folder`, as tables print it
    phrases: Path | None = None  # for `zero_shot`, a CSV file of what is asked for each label

    def __post_init__(self) -> None:
        if self.name == FOLDER:
            if not self.label:
                raise ValueError("has no 'label'. Name the column of labels.")
            return
        task = find_task(self.name)
        if self.columns:
            raise ValueError(
                f"'{next(iter(self.columns))}' works only with name: folder. Leave it out."
            )
        if self.split and self.split not in task.splits:
            known = ", ".join(task.splits)
            raise ValueError(f"{task.name} has no split '{self.split}'. Give {known}.")

    @property
    def columns(self) -> dict[str, Any]:
        """What the file says of `folder` alone."""
        names = ("label", "fold", "group", "kind", "title")
        return {name: value for name in names if (value := getattr(self, name))}

    def load(self) -> TaskData:
        """Read the task's tracks and labels; ValueError where files are missing or malformed."""
        if self.name == FOLDER:
            return read_folder(self.data, split=self.split or None, **self.columns)
        return find_task(self.name).load(self.data, self.split)

    def __str__(self) -> str:
        if self.name != FOLDER:
            return f"{self.name} ({self.split or find_task(self.name).default_split})"
        # The title that `read_folder` gives, before anything is read.
        names = self.label if isinstance(self.label, str) else ", ".join(self.label or ())
        return self.title or f"{self.data.stem} ({names})"


def _check_seeds(seeds: int) -> None:
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}: too few. Give 1 or more.")


@dataclass(frozen=True)
class ProbeEntry:
    """How encoders are probed."""

    protocol: str = "paper"  # name of the grid
    seeds: int = 3  # how many classifiers

    def __post_init__(self) -> None:
        find_protocol(self.protocol)
        _check_seeds(self.seeds)


@dataclass(frozen=True)
class SupervisedEntry:
    """How `supervised` and `end-to-end` are trained."""

    settings: Path | None = None  # file of settings; None for the defaults
    seeds: int = 1  # how many of `end-to-end`, whose training is much longer than a probe's
    # where the backbones of `supervised` are, a folder each named for the task they were trained
    # on; None for a folder in the output
    checkpoints: Path | None = None

    def __post_init__(self) -> None:
        _check_seeds(self.seeds)

    def load(self) -> SupervisedSettings:
        """Read the settings; ValueError where they cannot be used."""
        return load_supervised_settings(self.settings)


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is compared, as the file says."""

    tasks: list[TaskEntry]  # in the order of the tables
    backbones: list[Backbone]  # in the order of the tables
    probe: ProbeEntry = ProbeEntry()  # how encoders are probed
    # how those are trained that the benchmark trains
    supervised: SupervisedEntry = SupervisedEntry()
    cache: Path | None = None  # of embeddings; None for a folder in the output

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ValueError("'tasks' is empty. Add one, such as - {name: ..., data: DIR}")
        if not self.backbones:
            raise ValueError("'backbones' is empty. Add one, such as - random")
        if twice := _find_twice(map(str, self.tasks)):
            raise ValueError(f"the task {twice} occurs twice. Give one another split or title.")
        for what in ("name", "label"):
            if twice := _find_twice(getattr(each, what) for each in self.backbones):
                raise ValueError(
                    f"two backbones have the {what} '{twice}'. Give one of them another."
                )


def _find_twice(names: Iterable[str]) -> str:
    return next((name for name, count in Counter(names).items() if count > 1), "")


def load_config(path: str | os.PathLike[str]) -> BenchmarkConfig:
    """Read and check a benchmark's file. No data is looked at.

    Raises:
        ValueError: the file cannot be read, a key or name is not known, something is named twice.
    """
    path = Path(path)
    values, base = load_yaml(path), path.resolve().parent
    if base.is_relative_to(FOLDER_OF_CONFIGS):
        base = Path.cwd()
    if isinstance(values, dict) and isinstance(values.get("backbones"), list):
        named = [{"name": b} if isinstance(b, str) else b for b in values["backbones"]]
        values = {**values, "backbones": named}
    config = build_settings(BenchmarkConfig, values, str(path))
    supervised = config.supervised
    config = replace(
        config,
        tasks=[
            replace(each, data=base / each.data, phrases=each.phrases and base / each.phrases)
            for each in config.tasks
        ],
        backbones=[
            replace(each, source=resolve_backbone(each.source, base)) for each in config.backbones
        ],
        supervised=replace(
            supervised,
            settings=supervised.settings and base / supervised.settings,
            checkpoints=supervised.checkpoints and base / supervised.checkpoints,
        ),
        cache=config.cache and base / config.cache,
    )
    config.supervised.load()  # a file that is wrong is refused before anything is done
    return config


def resolve_backbone(name: str, base: Path) -> str:
    """Make the path in a backbone's name, if there is one, absolute: it is relative to `base`.

    What has a slash is a path: `./best`, `~/best`, and `out/weights.pt` of
    `hear:MODULE:out/weights.pt`. Names on the hub have one too, so `hf:` is followed by a path only
    where that folder is there.
    """
    if name.startswith("hf:"):
        folder = base / Path(name[3:]).expanduser()
        return f"hf:{folder}" if folder.exists() else name
    if name.startswith("hear:"):
        module, _, weights = name[5:].partition(":")
        return f"hear:{module}:{base / Path(weights).expanduser()}" if "/" in weights else name
    return str(base / Path(name).expanduser()) if "/" in name else name
