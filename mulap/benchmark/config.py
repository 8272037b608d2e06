"""What a benchmark compares: tasks, backbones and a protocol, from a YAML file.

    tasks:       which tracks and labels, and where they lie
    backbones:   what `load_encoder` takes, or `supervised` or `end-to-end`, which are trained here
    probe:       the protocol and how many seeds
    supervised:  how those two are trained, and where their checkpoints are kept
    cache:       the folder of features

Relative paths are relative to the file. Nothing here decodes audio or loads a model.
"""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mulap.probing.settings import ProbeSettings, find_protocol
from mulap.tasks.folder import read_folder
from mulap.tasks.registry import find_task
from mulap.tasks.task import TaskData
from mulap.training.settings_file import load_yaml
from mulap.training.supervised_settings import SupervisedSettings, load_supervised_settings

FOLDER = "folder"
END_TO_END, SUPERVISED = "end-to-end", "supervised"
"""Backbones that the benchmark trains: on the task itself, and on another task's labels."""

_TASK_KEYS = ("name", "data", "split")
_FOLDER_KEYS = ("name", "data", "label", "split", "fold", "group", "kind", "title")
_SECTIONS = ("tasks", "backbones", "probe", "supervised", "cache")


@dataclass(frozen=True)
class TaskEntry:
    """A task of the benchmark and where its data is.

    Attributes:
        name: of the registry, or `folder`.
        data: the task's folder; for `folder` the table of labels.
        split: which of the task's splits, empty for its default; for `folder` a column.
        columns: for `folder`, what else `read_folder` is told: label, fold, group, kind, title.
    """

    name: str
    data: Path
    split: str = ""
    columns: dict[str, Any] = field(default_factory=dict)

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
            return f"{self.name} ({self.split})"
        # The title that `read_folder` gives, before anything is read.
        label = self.columns["label"]
        names = label if isinstance(label, str) else ", ".join(map(str, label))
        return self.columns.get("title") or f"{self.data.stem} ({names})"


@dataclass(frozen=True)
class BackboneEntry:
    """A backbone of the benchmark.

    Attributes:
        name: as the file gives it; part of every row.
        label: as tables print it.
        source: what `load_encoder` is given: the name, with a path made absolute.
    """

    name: str
    label: str
    source: str


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is compared.

    Attributes:
        path: of the file.
        tasks: in the order of the tables.
        backbones: in the order of the tables.
        protocol: of the probe.
        num_seeds: of the probe, from 0 up.
        supervised: how `supervised` and `end-to-end` are trained.
        num_whole_seeds: of `end-to-end`, whose training is much longer than a probe's.
        checkpoints: where the backbones of `supervised` are, a folder each named for the task they
            were trained on; None for a folder in the output.
        cache: of features; None for a folder in the output.
    """

    path: Path
    tasks: tuple[TaskEntry, ...]
    backbones: tuple[BackboneEntry, ...]
    protocol: str = "paper"
    num_seeds: int = 3
    supervised: SupervisedSettings = field(default_factory=SupervisedSettings)
    num_whole_seeds: int = 1
    checkpoints: Path | None = None
    cache: Path | None = None


def make_grid(protocol: str, num_seeds: int) -> tuple[ProbeSettings, ...]:
    """Return a protocol's grid with this many seeds.

    Raises:
        ValueError: there is no such protocol.
    """
    seeds = tuple(range(num_seeds))
    return tuple(replace(point, seeds=seeds) for point in find_protocol(protocol))


def load_config(path: Path) -> BenchmarkConfig:
    """Read and check a benchmark's file. No data is looked at.

    Args:
        path: the YAML file.

    Raises:
        ValueError: the file cannot be read, a key or name is not known, something is named twice.
    """
    values = _mapping(load_yaml(path), str(path))
    where = str(path)
    _check_keys(values, _SECTIONS, where)
    base = path.resolve().parent
    probe = _mapping(values.get("probe"), f"{where}: probe")
    _check_keys(probe, ("protocol", "seeds"), f"{where}: probe")
    protocol = str(probe.get("protocol", "paper"))
    try:
        find_protocol(protocol)
    except ValueError as error:
        raise ValueError(f"{where}: probe: {error}") from error
    supervised = _mapping(values.get("supervised"), f"{where}: supervised")
    _check_keys(supervised, ("settings", "seeds", "checkpoints"), f"{where}: supervised")
    settings = SupervisedSettings()
    if supervised.get("settings"):
        settings = load_supervised_settings(base / str(supervised["settings"]))
    folders = {"checkpoints": supervised.get("checkpoints"), "cache": values.get("cache")}
    return BenchmarkConfig(
        path=path,
        tasks=_read_tasks(values.get("tasks"), base, where),
        backbones=_read_backbones(values.get("backbones"), base, where),
        protocol=protocol,
        num_seeds=_read_count(probe.get("seeds", 3), f"{where}: probe.seeds"),
        supervised=settings,
        num_whole_seeds=_read_count(supervised.get("seeds", 1), f"{where}: supervised.seeds"),
        **{name: base / str(folder) for name, folder in folders.items() if folder},
    )


def _read_count(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{where} is {value!r}: give a whole number from 1 up")
    return value


def _mapping(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{where} is {value!r}: give it keys and values")
    return value


def _check_keys(values: Iterable[Any], known: Iterable[str], where: str) -> None:
    known = list(known)
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            remedy = f"did you mean '{near[0]}'?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"{where}: unknown setting '{key}': {remedy}")


def _list_of(value: Any, where: str, example: str) -> list[Any]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{where}: is no list of one or more: write - {example}")
    return value


def _read_tasks(value: Any, base: Path, where: str) -> tuple[TaskEntry, ...]:
    tasks = []
    for number, entry in enumerate(_list_of(value, f"{where}: tasks", "{name: ..., data: DIR}"), 1):
        tasks.append(_read_task(entry, base, f"{where}: task {number}"))
    for index, task in enumerate(tasks):
        if str(task) in map(str, tasks[:index]):
            remedy = "give one another title" if task.name == FOLDER else "name another split"
            raise ValueError(f"{where}: the task {task} is there twice: {remedy}")
    return tuple(tasks)


def _read_task(entry: Any, base: Path, where: str) -> TaskEntry:
    values = _mapping(entry, where)
    is_folder = values.get("name") == FOLDER
    _check_keys(values, _FOLDER_KEYS if is_folder else _TASK_KEYS, where)
    for key in ("name", "data", *(["label"] if is_folder else [])):
        if not values.get(key):
            raise ValueError(f"{where}: has no '{key}': give it one")
    keys = [key for key in _FOLDER_KEYS[2:] if key != "split" and values.get(key) is not None]
    columns = {key: values[key] for key in keys}
    for key, value in columns.items():
        several = value if key == "label" and isinstance(value, list) else [value]
        if not all(isinstance(each, str) for each in several):
            raise ValueError(f"{where}: '{key}' is {value!r}: give it text, in quotes if need be")
    split = str(values.get("split") or "")
    if not is_folder:
        try:
            task = find_task(str(values["name"]))
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
        split = split or task.default_split
        if split not in task.splits:
            known = ", ".join(task.splits)
            raise ValueError(f"{where}: {task.name} has no split '{split}': give {known}")
    return TaskEntry(str(values["name"]), base / str(values["data"]), split, columns)


def _read_backbones(value: Any, base: Path, where: str) -> tuple[BackboneEntry, ...]:
    backbones = []
    for number, entry in enumerate(_list_of(value, f"{where}: backbones", "random"), 1):
        here = f"{where}: backbone {number}"
        values = {"name": entry} if isinstance(entry, str) else _mapping(entry, here)
        _check_keys(values, ("name", "label"), here)
        name = str(values.get("name") or "")
        if not name:
            raise ValueError(f"{here}: has no 'name': give it one, as random")
        label = str(values.get("label") or name)
        backbones.append(BackboneEntry(name, label, resolve_backbone(name, base)))
    for what in ("name", "label"):
        seen = [getattr(backbone, what) for backbone in backbones]
        twice = next((each for each in seen if seen.count(each) > 1), None)
        if twice is not None:
            raise ValueError(f"{where}: two backbones have the {what} '{twice}': give another")
    return tuple(backbones)


def resolve_backbone(name: str, base: Path) -> str:
    """Make the path in a backbone's name absolute, if there is one.

    What has a slash is a path: `./best`, and `out/weights.pt` of `hear:MODULE:out/weights.pt`.
    Names on the hub have one too, so `hf:` is followed by a path only where that folder is there.

    Args:
        name: as the file gives it.
        base: the folder that paths are relative to.
    """
    if name.startswith("hf:"):
        folder = base / name[3:]
        return f"hf:{folder}" if folder.exists() else name
    if name.startswith("hear:"):
        module, _, weights = name[5:].partition(":")
        return f"hear:{module}:{base / weights}" if "/" in weights else name
    return str(base / name) if "/" in name else name
