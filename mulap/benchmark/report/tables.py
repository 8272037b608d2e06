"""Rows of results and published numbers -> tables. No number in a table has another origin."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mulap.benchmark.report.markdown import Table
from mulap.benchmark.report.published import (
    MARKS,
    NO_MARK,
    Published,
    mark_of,
    of_paper_table,
    of_task,
)
from mulap.probing.printing import (
    EMPTY,
    interval,
    mean_and_std,
    metric_name,
    percent,
    print_percentage,
    row_names,
)
from mulap.probing.rows import Row
from mulap.tasks.metrics import HEADLINE
from mulap.tasks.result import Difference

HERE = "measured here"
_NUM_EXTREMES = 5  # labels shown as best, and as worst


@dataclass(frozen=True)
class PaperColumn:
    """A column of the paper's tables."""

    task: str  # of the registry
    metric: str  # of a row's scores
    name: str  # the paper's heading


PAPER_TABLES = {
    1: (
        PaperColumn("magnatagatune", "roc_auc", "MTAT"),
        PaperColumn("magnatagatune", "pr_auc", "MTAT"),
        PaperColumn("mtg_jamendo_top50", "roc_auc", "MTG-Jamendo"),
        PaperColumn("mtg_jamendo_top50", "pr_auc", "MTG-Jamendo"),
    ),
    2: (
        PaperColumn("fma_small", "accuracy", "Genre: FMA"),
        PaperColumn("mtg_jamendo_genre", "roc_auc", "Genre: MTG"),
        PaperColumn("nsynth", "accuracy", "Instrument: NS"),
        PaperColumn("mtg_jamendo_instrument", "roc_auc", "Instrument: MTG"),
        PaperColumn("emomusic", "r2", "Emotion: Emo"),
        PaperColumn("mtg_jamendo_moodtheme", "roc_auc", "Emotion: MTG"),
    ),
}


def headline_of(row: Row) -> str:
    """Return the metric that a row's task is judged by."""
    return HEADLINE[row["kind"]]


def paper_table(number: int, rows: Sequence[Row]) -> tuple[Table, list[str]]:
    """Build the paper's Table 1 or 2 with our rows below the published ones.

    There is a column for every split that our rows have of a task; where they have none, one for
    the split that MuLaP's own number is for. A published number stands in the column of its split;
    where there is no such column it stands in the task's first, marked.

    Returns:
        The table, and the lines that explain its marks and numbers.
    """
    published = of_paper_table(number)
    columns = _columns(number, rows, published)
    splits = {c.task: [split for each, split in columns if each == c] for c, _ in columns}
    header = ["Method", *(f"{c.name} ({split}) {metric_name(c.metric)}" for c, split in columns)]
    lines: list[list[str]] = []
    marks: set[str] = set()
    group = ""
    for method in dict.fromkeys((one.group, one.method) for one in published):
        if method[0] != group:
            group = method[0]
            lines.append([group])
        cells = []
        for column, split in columns:
            found = [
                one
                for one in published
                if (one.group, one.method) == method
                and (one.task, one.metric) == (column.task, column.metric)
                and _column_of(one, splits[column.task]) == split
            ]
            mark = mark_of(found[0], [split]) if found else ""
            marks |= {mark} - {""}
            cells.append(print_percentage(found[0].value) + mark if found else EMPTY)
        lines.append([method[1], *cells])
    lines.append([HERE])
    ours = _our_lines(columns, rows)
    table = Table(header, [*lines, *(ours or [["nothing yet", *[EMPTY] * len(columns)]])])
    return table, _explain(marks) + _notes(published)


def _columns(
    number: int, rows: Sequence[Row], published: Sequence[Published]
) -> list[tuple[PaperColumn, str]]:
    columns = []
    splits: dict[str, list[str]] = {}
    for column in PAPER_TABLES[number]:
        ours = [row["split_name"] for row in rows if row["task"] == column.task]
        theirs = [one.split for one in published if one.task == column.task and one.split]
        splits[column.task] = list(dict.fromkeys(ours or theirs[:1]))
    for task in splits:
        for split in splits[task]:
            columns += [(each, split) for each in PAPER_TABLES[number] if each.task == task]
    return columns


def _column_of(one: Published, splits: Sequence[str]) -> str:
    return one.split if one.split in splits else splits[0]


def _our_lines(columns: Sequence[tuple[PaperColumn, str]], rows: Sequence[Row]) -> list[list[str]]:
    names = row_names(rows)
    found: dict[str, list[str]] = {}
    for place, (column, split) in enumerate(columns):
        for row, name in zip(rows, names, strict=True):
            if (row["task"], row["split_name"]) == (column.task, split):
                cells = found.setdefault(name, [EMPTY] * len(columns))
                cells[place] = mean_and_std(row["scores"].get(column.metric))
    return [[name, *found[name]] for name in dict.fromkeys(names) if name in found]


def _explain(marks: set[str]) -> list[str]:
    lines = [f"{mark} {MARKS[mark]}." for mark in MARKS if mark in marks]
    return [*lines, f"No mark: {NO_MARK}."]


def _notes(published: Sequence[Published]) -> list[str]:
    seen: dict[str, list[str]] = {}
    for one in published:
        if one.note:
            name = f"{one.method} on {one.task}"
            if name not in seen.setdefault(one.note, []):
                seen[one.note].append(name)
    return [f"{', '.join(names)}: {note}." for note, names in seen.items()]


def task_table(
    rows: Sequence[Row], names: Sequence[str], differences: Mapping[int, Difference], first: str
) -> Table:
    """Build a task's own table: its headline metric, and the difference to a baseline.

    `differences` are by position of the row; `first` names the baseline, empty for none.
    """
    metric = headline_of(rows[0])
    header = ["Backbone", metric_name(metric), "95 % interval"]
    header += [f"minus {first}", "95 % interval"] if first else []
    lines = []
    for index, (row, name) in enumerate(zip(rows, names, strict=True)):
        score = row["scores"].get(metric)
        cells = [name, mean_and_std(score), interval(score)]
        if first:
            found = differences.get(index)
            mean = None if found is None else found.mean
            ends = None if found is None else {"low": found.low, "high": found.high}
            cells += [percent(mean, signed=True), interval(ends, signed=True)]
        lines.append(cells)
    means = [(row["scores"].get(metric) or {}).get("mean") for row in rows]
    best = max((mean for mean in means if mean is not None), default=None)
    strong = frozenset((i, 1) for i, mean in enumerate(means) if mean is not None and mean == best)
    return Table(header, lines, strong)


def metrics_table(rows: Sequence[Row], names: Sequence[str]) -> Table | None:
    """Build the table of a task's other metrics with their intervals; None if it has no others."""
    metrics = list(dict.fromkeys(each for row in rows for each in row["scores"]))
    metrics.remove(headline_of(rows[0]))
    header = ["Backbone"]
    for metric in metrics:
        header += [metric_name(metric), "95 % interval"]
    lines = []
    for row, name in zip(rows, names, strict=True):
        cells = [name]
        for metric in metrics:
            score = row["scores"].get(metric)
            cells += [mean_and_std(score), interval(score)]
        lines.append(cells)
    return Table(header, lines) if metrics else None


def published_table(task: str, split: str) -> tuple[Table | None, list[str]]:
    """Build the table of what others published about a task; None where there is nothing.

    Also return the lines that explain its numbers, and its marks beside our rows of `split`.
    """
    published = of_task(task)
    if not published:
        return None, []
    metrics = list(dict.fromkeys(one.metric for one in published))
    lines, marks = [], set()
    keys = [(one.method, one.group, one.source, one.split) for one in published]
    for key in dict.fromkeys(keys):
        ones = {one.metric: one for one, each in zip(published, keys, strict=True) if each == key}
        mark = mark_of(next(iter(ones.values())), [split])
        marks |= {mark} - {""}
        values = [_published_cell(ones.get(metric)) for metric in metrics]
        lines.append([key[0], *values, (key[3] or "not stated") + mark, key[1], key[2]])
    header = ["Method", *map(metric_name, metrics), "split", "kind of method", "source"]
    return Table(header, lines), _explain(marks) + _notes(published)


def _published_cell(one: Published | None) -> str:
    if one is None:
        return EMPTY
    std = "" if one.std is None else f" ± {print_percentage(one.std)}"
    return print_percentage(one.value) + std


def label_table(
    rows: Sequence[Row], names: Sequence[str], metric: str
) -> tuple[Table, Table | None]:
    """Build the table of a metric for each label, the best first by the mean over backbones.

    Also return one of the best and the worst labels, where there are many.
    """
    labels = list(dict.fromkeys(label for row in rows for label in row["labels"]))
    values = [row["per_label"].get(metric) or {} for row in rows]

    def order(label: str) -> tuple[bool, float]:
        scores = [each[label] for each in values if each.get(label) is not None]
        return (not scores, -sum(scores) / len(scores) if scores else 0.0)

    labels.sort(key=order)
    header = ["Label", *names]
    lines = [[label, *(percent(each.get(label)) for each in values)] for label in labels]
    if len(labels) <= 3 * _NUM_EXTREMES:
        return Table(header, lines), None
    scored = [line for label, line in zip(labels, lines, strict=True) if not order(label)[0]]
    extremes = [
        [f"the best {_NUM_EXTREMES}"],
        *scored[:_NUM_EXTREMES],
        [f"the worst {_NUM_EXTREMES}"],
        *scored[-_NUM_EXTREMES:],
    ]
    return Table(header, lines), Table(header, extremes) if scored else None


def confusion_table(row: Row, most: int = 20) -> Table:
    """Build a confusion matrix as a table; of one with many classes, the commonest confusions."""
    labels, counts = row["labels"], row["confusion"]
    if len(labels) <= most:
        lines = [
            [label, *(_count(count) for count in line)]
            for label, line in zip(labels, counts, strict=True)
        ]
        strong = frozenset((index, index + 1) for index in range(len(labels)))
        return Table(["true \\ predicted", *labels], lines, strong)
    mistakes = [
        (count, true, predicted)
        for true, line in zip(labels, counts, strict=True)
        for predicted, count in zip(labels, line, strict=True)
        if true != predicted and count
    ]
    mistakes.sort(key=lambda each: -each[0])
    lines = [[true, predicted, _count(count)] for count, true, predicted in mistakes[:most]]
    return Table(["true", "predicted", "tracks, mean over seeds"], lines)


def _count(count: float) -> str:
    return f"{count:.1f}".removesuffix(".0")
