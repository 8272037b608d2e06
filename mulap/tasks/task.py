"""What a task is, and how its rows become arrays.

    Task       constants: where the data comes from, its licence, labels in order, sizes
      .read    a data folder -> Example rows, in the official order
    TaskData   the rows as arrays, checked: ids once, labels known, folds apart

Each task has a file of its own that says these things as data; `folder` builds a `TaskData` from
any table of labels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mulap.data.splits import SPLITS, find_leaking_groups
from mulap.files import AnyPath

Kind = Literal["tags", "class", "numbers"]
"""`tags`: any number of labels a track; `class`: exactly one; `numbers`: a value for each label."""

Problems = list[tuple[str, str]]
"""The source and the reason of each row left out."""


@dataclass(frozen=True)
class Remote:
    """A file that may be fetched without asking anybody."""

    url: str  # where it is
    path: str  # where it goes, relative to the task's folder
    # `sha256:...`, `sha1:...` or `md5:...`; empty where the source publishes none
    checksum: str = ""
    num_bytes: int | None = None  # its size; None where it is not known
    # the folder, relative to the task's, that an archive is unpacked into; None for a file that
    # stays as it is. Parts of one archive (`x.zip.001`) share it.
    unpack_to: str | None = None


@dataclass(frozen=True)
class Example:
    """One labelled track, as the official files have it."""

    track_id: str  # unique in the task
    file_name: str  # of the audio, relative to the task's folder, with forward slashes
    # label names (tags), one label name (class), or a number for each label (numbers)
    target: tuple[str, ...] | str | tuple[float, ...]
    split: str = ""  # train, valid or test; empty where folds are made later
    group: str = ""  # artist or the like, which the splits should keep apart; empty where unknown
    source: str = ""  # the row it came from, for error messages

    @property
    def labels(self) -> Sequence[Any]:
        """Its label names, one or several; the numbers of a task of numbers."""
        return (self.target,) if isinstance(self.target, str) else self.target


@dataclass(frozen=True)
class Task:
    """A task as constants."""

    name: str  # `magnatagatune` and so on
    title: str  # as tables print it
    kind: Kind  # what its labels are
    labels: tuple[str, ...]  # in the official order; the columns of every array about this task
    # what an example's `group` is, as in "intervals resample artists": "artist"
    group_name: str = "group"
    # its named splits, the default first, with the sizes of train, valid and test
    splits: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    # (task, folder, split name) -> examples and problems, the (source, reason) of each row left
    # out. ValueError, in one line, where files are missing or of another format. The registry sets
    # it; all fields from `splits` on are for its tasks, not for `folder`.
    read: "Callable[[Task, Path, str], tuple[list[Example], Problems]] | None" = None
    # what may be fetched, by split name; "" holds what every split needs
    remotes: dict[str, tuple[Remote, ...]] = field(default_factory=dict)
    by_hand: str = ""  # what must be asked for or placed by hand, as instructions; empty if nothing
    licence: str = ""  # of the data, and who holds it
    citation: str = ""  # of the paper that presents the data
    homepage: str = ""  # where the data is described
    split_source: str = ""  # who made the splits
    caveat: str = ""  # what everybody who reads a score should know; printed with it

    @property
    def default_split(self) -> str:
        """The split that is meant where none is named."""
        return next(iter(self.splits))

    def load(self, folder: AnyPath, split_name: str = "") -> "TaskData":
        """Read the task's tracks, their targets and the one fold from its folder.

        ValueError if there is no such split, a file is missing or malformed, or a split is empty.
        """
        folder, split_name = Path(folder), split_name or self.default_split
        if split_name not in self.splits:
            known = ", ".join(self.splits)
            raise ValueError(f"{self.name}: there is no split '{split_name}'. Give {known}.")
        if not folder.is_dir():
            raise ValueError(
                f"{folder}: no such folder. Run mulap download {self.name} --output {folder}"
            )
        assert self.read is not None, "a task of the registry says how it is read"
        examples, problems = self.read(self, folder, split_name)
        return build_task_data(self, split_name, folder, examples, problems)


def number_groups(track_ids: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """Return int64 (n,) the same number for tracks of one group, spelled one way.

    A track without a group is one of its own.
    """
    names = [("group", g) if g else ("track", t) for t, g in zip(track_ids, groups, strict=True)]
    number = {name: index for index, name in enumerate(sorted(set(names)))}
    return np.array([number[name] for name in names], np.int64)


@dataclass(frozen=True)
class Fold:
    """Which tracks a probe learns from, is chosen by, and is judged on: positions, none in two."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True)
class TaskData:
    """A task's tracks as arrays."""

    task: Task  # its constants: kind, and the C labels, the columns of the targets
    split_name: str  # which split this is; part of every result
    root: Path  # the folder that file names are relative to
    examples: list[Example]  # n rows
    # tags: bool (n, C); class: int64 (n,), positions in `labels`; numbers: float64 (n, C)
    targets: np.ndarray
    # one for an official split; with several, each track is tested in one of them
    folds: list[Fold]
    # (source, reason) of rows left out, and of splits that share a group
    problems: list[tuple[str, str]] = field(default_factory=list)
    # of a table of the user's own, also in `problems`. 0 for other tasks: they leave rows out on
    # purpose, and published sizes show whether all are there.
    num_unusable_rows: int = 0
    # how the labels of a table of the user's own were read, a line each
    notes: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.examples)

    def audio_path(self, index: int) -> Path:
        """Return where the audio of a track is."""
        return self.root / self.examples[index].file_name

    def counts(self) -> dict[str, int]:
        """Return how many tracks there are in train, valid and test, summed over folds."""
        return {name: sum(len(getattr(fold, name)) for fold in self.folds) for name in SPLITS}


def build_task_data(
    task: Task,
    split_name: str,
    root: AnyPath,
    examples: list[Example],
    problems: Iterable[tuple[str, str]] = (),
    folds: list[Fold] | None = None,
) -> TaskData:
    """Check examples, in the official order, and turn them into arrays.

    Without `folds`, which hold positions in `examples`, one is made of the examples' own splits.

    Raises:
        ValueError: an id twice, an unknown label or split, no track in train, valid or test, or a
            track in two parts of a fold.
    """
    root = Path(root)
    twice = [each for each, count in Counter(e.track_id for e in examples).items() if count > 1]
    if twice:
        raise ValueError(f"{root}: {task.name} has the track {twice[0]!r} twice. Fetch it again.")
    targets = _to_array(task, examples)
    if folds is None:
        folds = [_fold_of_splits(root, task, examples)]
        leaks = find_leaking_groups((e.group, e.split) for e in examples if e.group)
        if leaks:
            group, splits = next(iter(leaks.items()))
            reason = f"{len(leaks)} groups in two splits, as {group!r} in {' and '.join(splits)}"
            problems = [*problems, (f"{task.name}, split {split_name}", reason)]
    for fold in folds:
        _check_fold(root, task, fold)
    return TaskData(task, split_name, root, examples, targets, folds, list(problems))


def _to_array(task: Task, examples: Sequence[Example]) -> np.ndarray:
    if task.kind == "numbers":
        return np.array([e.target for e in examples], np.float64).reshape(-1, len(task.labels))
    column = {label: index for index, label in enumerate(task.labels)}
    targets = np.zeros((len(examples), len(task.labels)), bool)
    for row, example in enumerate(examples):
        for label in example.labels:
            if label not in column:
                raise ValueError(f"{task.name}: {example.source} has the unknown label {label!r}")
            targets[row, column[label]] = True
    return targets if task.kind == "tags" else targets.argmax(1)


def _fold_of_splits(root: Path, task: Task, examples: Sequence[Example]) -> Fold:
    splits = np.array([e.split for e in examples])
    unknown = sorted(set(splits.tolist()) - set(SPLITS))
    if unknown:
        raise ValueError(f"{root}: {task.name} has the unknown split {unknown[0]!r}")
    return Fold("", *(np.flatnonzero(splits == split) for split in SPLITS))


def _check_fold(root: Path, task: Task, fold: Fold) -> None:
    for split in SPLITS:
        if not len(getattr(fold, split)):
            where = f" of fold {fold.name!r}" if fold.name else ""
            raise ValueError(
                f"{root}: {task.name} has no track in {split}{where}. Check the files."
            )
    everything = np.concatenate([fold.train, fold.valid, fold.test])
    assert len(np.unique(everything)) == len(everything), "a track in two parts of a fold"
