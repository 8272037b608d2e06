"""`results.jsonl` -> report.md and report.html, with the figures they show.

The paper's tables with ours beside them, its Figure 3, and for each task every score with its
interval, labels, confusions and what to beware of. Nothing is measured here but the differences
between backbones, by paired bootstrap over the saved predictions; no number is typed here.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from mulap.benchmark.differences import TaskRows, compare_rows, group_rows
from mulap.benchmark.document import (
    Block,
    Bullets,
    Details,
    Heading,
    Paragraph,
    to_html,
    to_markdown,
)
from mulap.benchmark.document import Figure as FigureBlock
from mulap.benchmark.figures import Bar, Panel, draw_bars, draw_confusion
from mulap.benchmark.listings import (
    caveats,
    failures,
    how_it_was_done,
    left_out,
    off_centre,
    weights_table,
)
from mulap.benchmark.printing import is_trained_whole, metric_name, percent
from mulap.benchmark.published import sources
from mulap.benchmark.rows import RESULTS_FILE, Row, file_stem, read_rows
from mulap.benchmark.tables import (
    confusion_table,
    headline_of,
    label_table,
    metrics_table,
    paper_table,
    published_table,
    task_table,
)
from mulap.files import atomic_path

FIGURES = "figures"


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write `report.md`, `report.html` and `figures/` beside a benchmark's results.

    Args:
        folder: holds `results.jsonl`.

    Returns:
        The path of report.html.

    Raises:
        ValueError: there are no results in the folder, or a line is no row.
    """
    folder = Path(folder)
    rows = read_rows(folder / RESULTS_FILE)
    if not rows:
        raise ValueError(f"{folder / RESULTS_FILE}: holds no results (mulap benchmark writes them)")
    tasks = [compare_rows(folder, group) for group in group_rows(rows)]
    blocks = build_report(folder, rows, tasks)
    _write(folder / "report.md", to_markdown(blocks))
    _write(folder / "report.html", to_html("mulap: benchmark", blocks))
    return folder / "report.html"


def build_report(folder: Path, rows: Sequence[Row], tasks: Sequence[TaskRows]) -> list[Block]:
    """Build the whole report, drawing its figures.

    Args:
        folder: figures are written to a folder in it.
        rows: all.
        tasks: the same, by task.
    """
    blocks: list[Block] = [
        Heading("Benchmark", 1),
        Paragraph(
            "Scores are in percent. ± is the standard deviation over seeds (n − 1); intervals are "
            "95 % bootstrap intervals of the mean over seeds. Each task says whether they resample "
            "test tracks one by one or in whole groups, such as artists. An empty cell is –."
        ),
        Heading("How it was done"),
        *how_it_was_done(rows),
    ]
    for number in (1, 2):
        table, lines = paper_table(number, rows)
        blocks += [Heading(f"The paper's Table {number}, and ours"), table]
        blocks += [Bullets(lines)] if lines else []
    blocks += _figure(folder, rows, tasks)
    for task in tasks:
        blocks += _task_section(folder, task)
    blocks += [Heading("Backbones"), weights_table(rows), *failures(folder)]
    lines = [f"{name}: {text}." for name, text in sources().items()]
    return [*blocks, Heading("Sources of published numbers"), Bullets(lines)]


def _figure(folder: Path, rows: Sequence[Row], tasks: Sequence[TaskRows]) -> list[Block]:
    labels = list(dict.fromkeys(row["label"] for row in rows if not is_trained_whole(row)))
    panels = [_panel(task, labels) for task in tasks]
    svgs = draw_bars(panels, folder / FIGURES / "baselines")
    text = "; ".join(
        f"{panel.title}, {panel.axis}: "
        + ", ".join(
            f"{bar.label} {percent(bar.mean / 100)}"
            for bar in [*panel.bars, *([panel.line] if panel.line else [])]
        )
        for panel in panels
    )
    return [
        Heading("The paper's Figure 3, on these tasks"),
        FigureBlock(f"{FIGURES}/baselines.png", svgs, text),
        Paragraph(
            "Bars are means over seeds, whiskers 95 % intervals over the test set, the dashed line "
            "is the end-to-end model, if there is one, and its band the interval. Bars of ROC-AUC "
            "begin at chance, 50 %, all others at 0."
        ),
    ]


def _panel(task: TaskRows, labels: Sequence[str]) -> Panel:
    metric = headline_of(task.rows[0])
    bars, line = [], None
    for row, name in zip(task.rows, task.names, strict=True):
        score = row["scores"].get(metric)
        if score is None or score["mean"] is None:
            continue
        known = {key: value for key, value in score.items() if value is not None}
        ends = [100 * known.get(key, known["mean"]) for key in ("mean", "low", "high")]
        if is_trained_whole(row):
            line = Bar(name, *ends)
        else:
            bars.append(Bar(name, *ends, style=labels.index(row["label"])))
    return Panel(task.title, metric, f"{metric_name(metric)}, %", bars, line)


def _task_section(folder: Path, task: TaskRows) -> list[Block]:
    first = task.rows[0]
    baseline = "" if task.baseline is None else task.names[task.baseline]
    blocks: list[Block] = [
        Heading(task.title),
        *caveats(task.rows, task.names),
        task_table(task.rows, task.names, task.differences, baseline),
    ]
    if baseline:
        blocks.append(
            Paragraph(
                f"Minus {baseline}: the difference by paired bootstrap over the same test set; "
                "an interval that holds 0 leaves open which is better."
            )
        )
    others = metrics_table(task.rows, task.names)
    blocks += [others] if others else []
    blocks += off_centre(task.rows, task.names)
    blocks += [Bullets([f"No difference: {line}" for line in task.problems])] * bool(task.problems)
    blocks += left_out(folder, task.rows, task.names)
    table, lines = published_table(first["task"], first["split_name"])
    if table is not None:
        inside: list[Block] = [table, *([Bullets(lines)] if lines else [])]
        blocks.append(Details("What others published on this task", inside))
    return [*blocks, *_labels(task), *_confusions(folder, task)]


def _labels(task: TaskRows) -> list[Block]:
    blocks: list[Block] = []
    metrics = list(dict.fromkeys(each for row in task.rows for each in row["per_label"]))
    for index, metric in enumerate(metrics):
        table, extremes = label_table(task.rows, task.names, metric)
        name = metric_name(metric)
        if index == 0:
            blocks.append(Heading(f"{name} of each label: {task.title}", 3))
            if extremes is None:
                blocks.append(table)
                continue
            blocks.append(extremes)
        blocks.append(Details(f"{name} of all {len(table.rows)} labels", [table]))
    skipped = list(dict.fromkeys(label for row in task.rows for label in row["skipped_labels"]))
    if skipped:
        blocks.append(Paragraph(f"Not scored, without a meaning in this test: {_join(skipped)}."))
    return blocks


def _confusions(folder: Path, task: TaskRows) -> list[Block]:
    blocks: list[Block] = []
    for row, name in zip(task.rows, task.names, strict=True):
        if not row["confusion"]:
            continue
        names = (row["task"], row["title"], row["split_name"], row["backbone"], row["protocol"])
        stem = "confusion--" + file_stem(*names)
        svgs = draw_confusion(
            row["confusion"], row["labels"], f"{name}, % of true", folder / FIGURES / stem
        )
        text = f"Confusion matrix of {name} on {task.title}; the table has its numbers"
        inside: list[Block] = [
            FigureBlock(f"{FIGURES}/{stem}.png", svgs, text),
            confusion_table(row),
        ]
        blocks.append(Details(f"Confusions of {name}", inside))
    return [Heading(f"Confusions: {task.title}", 3), *blocks] if blocks else []


def _join(words: Sequence[str]) -> str:
    return ", ".join(words)


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
