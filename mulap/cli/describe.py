"""Tasks, checks and scores as text for a terminal. Imported by commands when they run."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from mulap.data.splits import SPLITS
from mulap.probing.printing import interval, mean_and_std, metric_name, percent, row_resampled
from mulap.tasks.registry import find_task, task_names
from mulap.tasks.result import Score
from mulap.tasks.verify import TaskReport

_FOLDER_LINE = "your own table: --data labels.csv --label COLUMN [--fold COLUMN]"
_LABELS_SHOWN = 12


def align(rows: Sequence[Sequence[str]]) -> str:
    """Write rows in columns, all but the first to the right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def list_tasks() -> str:
    """Return one line a task: name, kind, labels, split, sizes."""
    rows = [["task", "kind", "labels", "split", *SPLITS]]
    for name in task_names():
        task = find_task(name)
        for split, sizes in task.splits.items():
            counts = [f"{size:,}" for size in sizes]
            rows.append([name, task.kind, str(len(task.labels)), split, *counts])
    return f"{align(rows)}\nfolder: {_FOLDER_LINE}"


def describe_task(name: str) -> str:
    """Return a task's constants as text."""
    if name == "folder":
        return f"folder: {_FOLDER_LINE} (docs/tasks.md)"
    task = find_task(name)
    splits = [
        f"{split} ({', '.join(f'{n:,} {part}' for part, n in zip(SPLITS, sizes, strict=True))})"
        for split, sizes in task.splits.items()
    ]
    said = {
        "task": f"{task.title}: {task.kind}, {len(task.labels)} labels",
        "splits": "; ".join(splits),
        "made by": task.split_source,
        "licence": task.licence,
        "homepage": task.homepage,
        "citation": task.citation,
        "instructions": task.by_hand,
        "warning": task.caveat,
        "labels": ", ".join(task.labels),
    }
    return "\n".join(f"{what}: {text}" for what, text in said.items() if text)


def tasks_as_dicts(name: str | None) -> list[dict[str, Any]]:
    """Return a task's constants, or those of all tasks, as plain values for JSON."""
    if name == "folder":
        raise ValueError("--json: folder is your own table. Add --data TABLE and --label COLUMN.")
    tasks = [find_task(each) for each in ([name] if name else task_names())]
    return [{key: v for key, v in asdict(task).items() if key != "read"} for task in tasks]


def describe_report(report: TaskReport) -> str:
    """Return what a check found: a line a split, totals of labels, and every problem."""
    head = ["split", "tracks", "published", "missing", "undecodable", "hours"]
    rows = [head]
    for name, split in report.splits.items():
        published = "–" if split.num_published is None else f"{split.num_published:,}"
        seconds = split.duration_seconds
        hours = "–" if seconds is None else f"{seconds / 3600:.2f}"
        counts = [f"{n:,}" for n in (split.num_tracks, split.num_missing, split.num_undecodable)]
        rows.append([name, counts[0], published, counts[1], counts[2], hours])
    labels = [["label", *report.splits]]
    names = list(next(iter(report.splits.values())).labels)
    for name in names[:_LABELS_SHOWN]:
        labels.append([name, *(f"{split.labels[name]:,.6g}" for split in report.splits.values())])
    more = len(names) - _LABELS_SHOWN
    lines = [f"{report.task}, split {report.split_name}, in {report.root}", align(rows), ""]
    lines += [*report.notes, align(labels)] + (
        [f"and {more} more labels (--json has all)"] if more > 0 else []
    )
    lines += [f"missing: {name}" for name in report.missing]
    lines += [f"undecodable: {name}: {reason}" for name, reason in report.undecodable]
    lines += [f"problem: {source}: {reason}" for source, reason in report.problems]
    lines += [f"in two splits: {g} ({', '.join(s)})" for g, s in report.leaking_groups.items()][:3]
    whole = "whole" if report.is_whole else "not whole"
    looked = "" if report.is_decoded else " (files were looked up, not decoded)"
    return "\n".join([*lines, f"{report.task} is {whole}{looked}"])


def describe_scores(scores: Mapping[str, Score] | Mapping[str, Mapping[str, Any]]) -> str:
    """Return a table of scores in percent, with all seeds."""
    rows = [["metric", "mean ± std", "95% interval", "seeds"]]
    for metric, given in scores.items():
        score = asdict(given) if isinstance(given, Score) else given
        seeds = " ".join(percent(value) for value in score["values"])
        rows.append([metric_name(metric), mean_and_std(score), interval(score), seeds])
    return align(rows)


def describe_row(row: Mapping[str, Any]) -> str:
    """Return a row of results as text: what was evaluated on what, and its scores."""
    tracks = ", ".join(f"{count:,} {split}" for split, count in row["num_tracks"].items())
    folds = f" over {row['num_folds']} folds" if row["num_folds"] > 1 else ""
    lines = [
        f"{row['backbone']} on {row['title']} ({row['split_name']})",
        f"tracks: {tracks}{folds}; {row['left_out']} could not be embedded",
        f"protocol {row['protocol']}, {len(row['seeds'])} seeds, "
        f"encoder {row['backbone_sha256'][:16]}",
        describe_scores(row["scores"]),
        f"intervals resample {row_resampled(row)}",
    ]
    if row["skipped_labels"]:
        lines.append(
            "not scored, because all or no test tracks have them: "
            f"{', '.join(row['skipped_labels'])}"
        )
    return "\n".join([*lines, *([f"warning: {row['caveat']}"] if row["caveat"] else [])])
