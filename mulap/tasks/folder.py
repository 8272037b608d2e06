"""Labels of your own: a table of files and labels becomes a task.

The table is a CSV, TSV, JSON lines, JSON or parquet file. Columns:

    file_name      relative to the table
    the label      class: one word; tags: a list, or a|b, a;b or a, b, or a row for each; numbers:
                   one column or several
    split or fold  optional: train, valid, test; or the fold in which a track is tested
    group, artist or album    optional: what train, valid and test of a fold must not share

A split or fold column is kept as it is, and groups that it splits are reported. Without such a
column, a seed assigns whole groups: the test tracks of k folds, and valid tracks.

Limits: two spellings of an artist are two groups, and two files of one recording are two tracks.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from mulap.data.cells import BadRow, FileFinder, read_number, read_text
from mulap.data.row_files import PlacedRow, Row, find_column, read_table
from mulap.data.splits import (
    GROUP_COLUMNS,
    SPLITS,
    choose_group,
    find_leaking_groups,
    find_split,
    fold_group,
)
from mulap.files import AnyPath
from mulap.tasks.folds import assign_folds, hold_out
from mulap.tasks.labels import find_mark, infer_kind, parse_label
from mulap.tasks.task import Example, Fold, Kind, Task, TaskData, build_task_data, number_groups

FILE_COLUMN = "file_name"
_LABELS_SHOWN = 12
_MARKS = {
    "|": "bars or in lists",
    ";": "semicolons (write a|b to keep them inside a tag)",
    ",": "commas (write a|b to keep them inside a tag)",
}


@dataclass(frozen=True)
class _Columns:
    """Which column says what; empty where none does."""

    labels: tuple[str, ...]
    split: str
    fold: str
    group: str

    @property
    def groups_are(self) -> str:
        return self.group or "track"


@dataclass(frozen=True)
class _Labelled:
    """A row whose file is there."""

    source: str
    file_name: str
    values: tuple[Any, ...]  # one for each label column
    place: str  # the split, or the fold; empty where there is no such column
    group: str


def read_folder(  # noqa: PLR0913  (all but two say how to read a table that leaves it open)
    table: AnyPath,
    label: str | Sequence[str],
    *,
    kind: Kind | None = None,
    split: str | None = None,
    fold: str | None = None,
    group: str | None = None,
    num_folds: int = 5,
    seed: int = 0,
    title: str = "",
) -> TaskData:
    """Make a task of a table of files and labels.

    Args:
        table: the file; audio is looked for relative to it.
        label: the column of the labels; several columns are numbers.
        kind: what the labels are; None infers it where it is clear.
        split: the column that says train, valid or test; None takes `split` if there is one.
        fold: the column that says in which fold a track is tested; None takes `fold`.
        group: the column of what must stay together; None takes `group`, `artist` or `album`.
        num_folds: number of folds if no column names any; fewer if there are fewer groups.
        seed: random seed for folds and valid tracks.
        title: as tables print it; empty makes one of the file's name.

    Returns:
        The tracks in the order of the table, labels sorted, with the name of the split saying which
        column or seed made it, the rows left out, and a note on how often each label occurs.

    Raises:
        ValueError: in one line: no such file or column, it is not clear what the labels are, or
            nothing can be learnt from what is left.
    """
    names, table = (label,) if isinstance(label, str) else tuple(label), Path(table)
    if table.is_dir():
        raise ValueError(
            f"{table}: is a folder. Name the table in it, such as {table / 'labels.csv'}."
        )
    header, placed = read_table(table)
    columns = _choose_columns(table, header, names, split=split, fold=fold, group=group)
    with _naming(table):
        rows, problems = _read_rows(table, columns, placed)
        found_kind = _check_kind(kind, names, rows)
        mark = find_mark([row.values[0] for row in rows])
        examples = _merge_rows(found_kind, names, rows, problems, mark, is_inferred=kind is None)
        if not examples:
            source, reason = problems[0] if problems else (table.name, "it holds no rows")
            raise ValueError(f"no track can be used; {source}: {reason}")
        labels = _sort_labels(found_kind, names, examples)
        title = title or f"{table.stem} ({', '.join(names)})"
        task = Task("folder", title, found_kind, labels, group_name=columns.groups_are)
        split_name, examples, folds = _make_folds(task, columns, examples, num_folds, seed)
    data = build_task_data(task, split_name, table.parent, examples, problems, folds)
    noticed = data.problems + _check_folds(table, data, columns)
    notes = _describe_labels(data, names, mark)
    return replace(data, problems=noticed, num_unusable_rows=len(problems), notes=notes)


@contextmanager
def _naming(table: Path) -> Iterator[None]:
    """Put the table's name before what went wrong."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{table}: {error}") from error


def _choose_columns(
    table: Path,
    header: Sequence[str],
    labels: Sequence[str],
    *,
    split: str | None,
    fold: str | None,
    group: str | None,
) -> _Columns:
    if split and fold:
        both = f"a split column {split!r} and a fold column {fold!r}"
        raise ValueError(f"{table}: {both} exclude each other. Give one of them.")
    if not labels:
        raise ValueError(f"{table}: no column of labels is named. Name at least one.")
    find_column(table, header, FILE_COLUMN)
    for name in filter(None, (*labels, split, fold, group)):
        find_column(table, header, name, is_choice=True)
    if not split and not fold:
        split = next((name for name in header if name.lower() == "split"), "")
        fold = "" if split else next((name for name in header if name.lower() == "fold"), "")
    if not group:
        # By artist names to learn, artists cannot be kept apart.
        spelled = {name.lower(): name for name in reversed(header) if name not in labels}
        group = next((spelled[name] for name in GROUP_COLUMNS if name in spelled), "")
    return _Columns(tuple(labels), split or "", fold or "", group)


def _read_rows(
    table: Path, columns: _Columns, placed: Iterable[PlacedRow]
) -> tuple[list[_Labelled], list[tuple[str, str]]]:
    rows, problems, finder = [], [], FileFinder([table.parent])
    for where, row in placed:
        source = f"{table.name} {where}"
        try:
            if isinstance(row, str):
                raise BadRow(row)
            rows.append(_read_row(finder, columns, source, row))
        except BadRow as bad:
            problems.append((source, str(bad)))
    return rows, problems


def _read_row(finder: FileFinder, columns: _Columns, source: str, row: Row) -> _Labelled:
    _, name = finder.find(read_text(row.get(FILE_COLUMN)))
    said = read_text(row.get(columns.split or columns.fold))
    place = (find_split(said) or "") if columns.split else said
    if columns.split and not place:
        raise BadRow(f"unknown split: {said!r} is not one of {', '.join(SPLITS)}")
    if columns.fold and not place:
        raise BadRow(f"no fold: the column {columns.fold!r} is empty")
    group = choose_group([read_text(row.get(columns.group))], "") if columns.group else ""
    return _Labelled(source, name, tuple(row.get(each) for each in columns.labels), place, group)


def _check_kind(kind: Kind | None, names: Sequence[str], rows: Sequence[_Labelled]) -> Kind:
    if kind not in (None, *get_args(Kind)):
        raise ValueError(f"there is no kind {kind!r}. Give one of {', '.join(get_args(Kind))}.")
    kind = kind or infer_kind(names, [row.values for row in rows])
    if kind != "numbers" and len(names) > 1:
        raise ValueError(f"kind {kind!r} has one column of labels, not {len(names)}")
    return kind


def _merge_rows(
    kind: Kind,
    names: Sequence[str],
    rows: Sequence[_Labelled],
    problems: list[tuple[str, str]],
    mark: str,
    *,
    is_inferred: bool,
) -> list[Example]:
    """Make one example of all rows of a file; leave out a file whose rows disagree."""
    merged: dict[str, Example] = {}
    conflicting: set[str] = set()
    for row in rows:
        try:
            target = parse_label(kind, names, row.values, mark)
        except BadRow as bad:
            problems.append((row.source, str(bad)))
            continue
        said = Example(row.file_name, row.file_name, target, row.place, row.group, row.source)
        before = merged.setdefault(row.file_name, said)
        if not before.group:  # only one of the rows may name it
            merged[row.file_name] = before = replace(before, group=said.group)
        if kind == "tags":
            tags = tuple(sorted({*map(str, before.target), *map(str, target)}))
            merged[row.file_name] = before = replace(before, target=tags)
            said = replace(said, target=tags)
        elif is_inferred and kind == "class" and before.target != target:
            raise ValueError(
                f"{row.file_name!r} is {before.target!r} in {before.source}, {target!r} in "
                f"{row.source}. Give --kind tags to merge the rows, or --kind class to leave the "
                "file out."
            )
        disagreement = _compare(before, said)
        if disagreement:
            conflicting.add(row.file_name)
            problems.append((row.source, f"{row.file_name!r} is left out: {disagreement}"))
    return [example for name, example in merged.items() if name not in conflicting]


def _compare(before: Example, said: Example) -> str:
    """Return in what two rows of one file disagree, or nothing."""
    for what, first, second in (
        ("label", before.target, said.target),
        ("split or fold", before.split, said.split),
        ("group", fold_group(before.group), fold_group(said.group or before.group)),
    ):
        if first != second:
            return f"its {what} is {second!r} here, but {first!r} in {before.source}"
    return ""


def _sort_labels(kind: Kind, names: Sequence[str], examples: Sequence[Example]) -> tuple[str, ...]:
    if len({e.target for e in examples}) < 2:
        said = "|".join(map(str, examples[0].labels))
        raise ValueError(
            f"every track is {said!r}: there is nothing to distinguish. Name another column of "
            "labels."
        )
    if kind == "numbers":
        return tuple(names)
    return tuple(sorted({label for example in examples for label in example.labels}))


def _make_folds(
    task: Task, columns: _Columns, examples: list[Example], num_folds: int, seed: int
) -> tuple[str, list[Example], list[Fold] | None]:
    """Return the split's name, the examples with their splits, and folds if there are several."""
    if seed < 0:
        raise ValueError(f"seed {seed}: too small. Give a whole number, 0 or more.")
    groups = number_groups([e.track_id for e in examples], [fold_group(e.group) for e in examples])
    labels = _mark_labels(task, examples)
    by_seed = f"seed {seed} by {columns.groups_are}"
    places = np.array([example.split for example in examples])
    if columns.split:
        name = "split column" if columns.split == "split" else f"split column {columns.split}"
        train = np.flatnonzero(places == "train")
        for part in ("train", "test"):
            if part not in places:
                column = f"the column {columns.split!r}"
                raise ValueError(
                    f"{column} has no track in {part}. Mark some, or rename the column, and "
                    "mulap assigns folds."
                )
        if "valid" in places:
            return name, examples, None
        _, valid = hold_out(train, groups, labels, seed)
        held_out = set(valid.tolist())
        examples = [
            replace(example, split="valid") if index in held_out else example
            for index, example in enumerate(examples)
        ]
        return f"{name}, valid {by_seed}", examples, None
    examples = [replace(example, split="") for example in examples]
    if not columns.fold:
        folds = assign_folds(groups, labels, num_folds, seed)
        return f"{len(folds)}-fold {by_seed}", examples, folds
    # 2 before 10, and both before words.
    numbers = {name: read_number(name) for name in places.tolist()}
    names = sorted(numbers, key=lambda name: (numbers[name] is None, numbers[name] or 0.0, name))
    if len(names) < 2:
        raise ValueError(
            f"the fold column {columns.fold!r} says {names[0]!r} of every track. Rename it, and "
            "mulap assigns folds."
        )
    folds = []
    for index, name in enumerate(names):
        train, valid = hold_out(np.flatnonzero(places != name), groups, labels, seed + index)
        folds.append(Fold(name, train, valid, np.flatnonzero(places == name)))
    return f"fold column {columns.fold} ({len(folds)} folds), valid {by_seed}", examples, folds


def _mark_labels(task: Task, examples: Sequence[Example]) -> np.ndarray:
    """Return bool (n, C) which labels a track has; C = 0 for numbers."""
    if task.kind == "numbers":
        return np.zeros((len(examples), 0), bool)
    return np.array([[label in example.labels for label in task.labels] for example in examples])


def _describe_labels(data: TaskData, names: Sequence[str], mark: str) -> list[str]:
    """Return a note: how many labels there are, how they were told apart, how often each occurs."""
    kind = data.task.kind
    if kind == "numbers":
        return []
    counts = Counter(label for example in data.examples for label in example.labels).most_common()
    often = ", ".join(f"{label} {count}" for label, count in counts[:_LABELS_SHOWN])
    if more := len(counts) - _LABELS_SHOWN:
        often += f", and {more} more, the rarest {counts[-1][1]}" if more > 0 else ""
    how = f", separated by {_MARKS[mark]}" if kind == "tags" else ""
    what = "tags" if kind == "tags" else "classes"
    return [f"column {names[0]}: {len(counts)} {what}{how}: {often}"]


def _check_folds(table: Path, data: TaskData, columns: _Columns) -> list[tuple[str, str]]:
    """Return as problems: groups that a fold column splits, and labels that no train track has."""
    labels, problems = _mark_labels(data.task, data.examples), []
    tested = ((data.examples[i].group, fold.name) for fold in data.folds for i in fold.test)
    leaks = find_leaking_groups((group, name) for group, name in tested if group)
    if columns.fold and leaks:
        reason = (
            f"{len(leaks)} groups in two folds, such as {next(iter(leaks))!r}: probes learn from "
            "tracks of the groups that they are tested on"
        )
        problems.append((f"{table.name} column {columns.fold}", reason))
    for fold in data.folds:
        missing = labels[fold.test].any(0) & ~labels[fold.train].any(0)
        names = [repr(data.task.labels[index]) for index in np.flatnonzero(missing)]
        if names:
            where = f"fold {fold.name}" if fold.name else data.split_name
            reason = f"labels in test that no train track has: {', '.join(names)}"
            problems.append((f"{table.name} {where}", reason))
    return problems
