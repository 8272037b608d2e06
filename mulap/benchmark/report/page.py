"""`results.jsonl` -> report.md and report.html, with the figures they show.

The page has the paper's tables next to these scores, its Figure 3, and for each task every score
with its interval, labels, confusions and warnings. It measures only the differences between
backbones, by paired bootstrap over the saved predictions.
"""

import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from mulap.benchmark.report.differences import TaskRows, compare_rows, group_rows
from mulap.benchmark.report.figures import Bar, Panel, draw_bars, draw_confusion
from mulap.benchmark.report.listings import (
    caveats,
    failures,
    how_it_was_done,
    left_out,
    off_centre,
    weights_table,
)
from mulap.benchmark.report.markdown import bullets, details, heading, image, prose, to_html
from mulap.benchmark.report.published import sources
from mulap.benchmark.report.tables import (
    confusion_table,
    headline_of,
    label_table,
    metrics_table,
    paper_table,
    published_table,
    task_table,
)
from mulap.files import atomic_path
from mulap.probing.printing import is_trained_whole, metric_name, percent
from mulap.probing.rows import RESULTS_FILE, Row, file_stem, read_rows

FIGURES = "figures"


def write_report(folder: str | os.PathLike[str]) -> Path:
    """Write `report.md`, `report.html` and `figures/` beside a folder's `results.jsonl`.

    Return the path of report.html. ValueError if there are no results, or a line is no row.
    """
    folder = Path(folder)
    rows = read_rows(folder / RESULTS_FILE)
    if not rows:
        raise ValueError(
            f"{folder / RESULTS_FILE}: holds no results. Run mulap benchmark with this folder as "
            "--output."
        )
    tasks = [compare_rows(folder, group) for group in group_rows(rows)]
    figures = _Figures(folder)
    text = "\n\n".join(_build_report(figures, rows, tasks)) + "\n"
    for name, content in (
        ("report.md", text),
        ("report.html", to_html("mulap: benchmark", text, figures.panels)),
    ):
        with atomic_path(folder / name) as temporary:
            temporary.write_text(content, encoding="utf-8")
    return folder / "report.html"


class _Figures:
    """Where figures are drawn; keeps their parts as SVG for the page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.panels: dict[str, Sequence[str]] = {}

    def add(self, stem: str, text: str, draw: Callable[[Path], Sequence[str]]) -> str:
        """Draw `stem`.png, which shows what `text` says, and return it as Markdown."""
        path = f"{FIGURES}/{stem}.png"
        self.panels[path] = draw(self.folder / FIGURES / stem)
        return image(path, text)


def _build_report(figures: _Figures, rows: Sequence[Row], tasks: Sequence[TaskRows]) -> list[str]:
    """Build the blocks of the whole report, drawing its figures."""
    blocks = [
        heading("Benchmark", 1),
        prose(
            "Scores are in percent. ± is the standard deviation over seeds (n − 1); intervals "
            "are 95% bootstrap intervals of the mean over seeds. Each task says whether they "
            "resample test tracks one by one or in whole groups, such as artists. An empty cell "
            "is –."
        ),
        heading("Method"),
        *how_it_was_done(rows),
    ]
    for number in (1, 2):
        table, lines = paper_table(number, rows)
        blocks += [heading(f"The paper's Table {number}, with these scores"), table.markdown()]
        blocks += [bullets(lines)] if lines else []
    blocks += _bars(figures, rows, tasks)
    for task in tasks:
        blocks += _task_section(figures, task)
    blocks += [heading("Backbones"), weights_table(rows).markdown(), *failures(figures.folder)]
    lines = [f"{name}: {text}." for name, text in sources().items()]
    return [*blocks, heading("Sources of published numbers"), bullets(lines)]


def _bars(figures: _Figures, rows: Sequence[Row], tasks: Sequence[TaskRows]) -> list[str]:
    labels = list(dict.fromkeys(row["label"] for row in rows if not is_trained_whole(row)))
    panels = [_panel(task, labels) for task in tasks]
    text = "; ".join(
        f"{panel.title}, {panel.axis}: "
        + ", ".join(
            f"{bar.label} {percent(bar.mean / 100)}"
            for bar in [*panel.bars, *([panel.line] if panel.line else [])]
        )
        for panel in panels
    )
    return [
        heading("The paper's Figure 3, on these tasks"),
        figures.add("baselines", text, lambda stem: draw_bars(panels, stem)),
        prose(
            "Bars are means over seeds, whiskers 95% intervals over the test set, the dashed "
            "line is the end-to-end model, if there is one, and its band the interval. Bars of "
            "ROC-AUC begin at chance, 50%, all others at 0."
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


def _task_section(figures: _Figures, task: TaskRows) -> list[str]:
    first = task.rows[0]
    baseline = "" if task.baseline is None else task.names[task.baseline]
    blocks = [
        heading(task.title),
        *caveats(task.rows, task.names),
        task_table(task.rows, task.names, task.differences, baseline).markdown(),
    ]
    if baseline:
        blocks.append(
            prose(
                f"Minus {baseline}: the difference by paired bootstrap over the same test set; "
                "if the interval includes 0, either may be better."
            )
        )
    others = metrics_table(task.rows, task.names)
    blocks += [others.markdown()] if others else []
    blocks += off_centre(task.rows, task.names)
    blocks += [bullets([f"No difference: {line}" for line in task.problems])] * bool(task.problems)
    blocks += left_out(figures.folder, task.rows, task.names)
    table, lines = published_table(first["task"], first["split_name"])
    if table is not None:
        inside = [table.markdown(), *([bullets(lines)] if lines else [])]
        blocks.append(details("What others published on this task", inside))
    return [*blocks, *_labels(task), *_confusions(figures, task)]


def _labels(task: TaskRows) -> list[str]:
    blocks: list[str] = []
    metrics = list(dict.fromkeys(each for row in task.rows for each in row["per_label"]))
    for index, metric in enumerate(metrics):
        table, extremes = label_table(task.rows, task.names, metric)
        name = metric_name(metric)
        if index == 0:
            blocks.append(heading(f"{name} of each label: {task.title}", 3))
            blocks.append((extremes or table).markdown())
            if extremes is None:
                continue
        blocks.append(details(f"{name} of all {len(table.rows)} labels", [table.markdown()]))
    skipped = list(dict.fromkeys(label for row in task.rows for label in row["skipped_labels"]))
    if skipped:
        names = ", ".join(skipped)
        blocks.append(prose(f"Not scored, because undefined on this test set: {names}."))
    return blocks


def _confusions(figures: _Figures, task: TaskRows) -> list[str]:
    blocks: list[str] = []
    for row, name in zip(task.rows, task.names, strict=True):
        if not row["confusion"]:
            continue
        names = (row["task"], row["title"], row["split_name"], row["backbone"], row["protocol"])
        stem = "confusion--" + file_stem(*names)
        text = f"Confusion matrix of {name} on {task.title}; the table has its numbers"
        draw = partial(draw_confusion, row["confusion"], row["labels"], f"{name}, % of true")
        inside = [figures.add(stem, text, draw), confusion_table(row).markdown()]
        blocks.append(details(f"Confusions of {name}", inside))
    return [heading(f"Confusions: {task.title}", 3), *blocks] if blocks else []
