"""The parts of a report around its scores: protocol, versions, weights, caveats, failures.

Every line comes from a row of results, or from a file that the run wrote.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mulap.benchmark.report.markdown import Table, bullets, details, heading, prose
from mulap.files import read_failures
from mulap.probing.printing import metric_name, row_resampled
from mulap.probing.rows import FAILURES_FILE, Row

_MAX_LISTED = 20


def how_it_was_done(rows: Sequence[Row]) -> list[str]:
    """List the protocols, seeds and versions of rows."""
    lines = []
    for protocol in dict.fromkeys(row["protocol"] for row in rows):
        own = [row for row in rows if row["protocol"] == protocol]
        seeds = _distinct([len(row["seeds"]) for row in own])
        lines.append(f"Protocol `{protocol}`, seeds: {seeds}, settings: {_settings(own)}")
    for package in dict.fromkeys(each for row in rows for each in row["versions"]):
        versions = _distinct([row["versions"].get(package) for row in rows])
        lines.append(f"{package} {versions}")
    return [bullets(lines)]


def _settings(rows: Sequence[Row]) -> str:
    """List the settings that all chosen points share, and those that differ."""
    points = [_flat(point) for row in rows for point in row["settings"]]
    parts = []
    for name in dict.fromkeys(name for point in points for name in point):
        if name.split(".")[-1] in ("seeds", "seed"):
            continue
        values = _distinct([point.get(name) for point in points])
        parts.append(f"{name} {values}")
    return ", ".join(parts) or "none"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def _distinct(values: Sequence[Any]) -> str:
    return " or ".join(dict.fromkeys(_say(value) for value in values))


def _say(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def caveats(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """List what the numbers of a task and split cover, and the warnings."""
    first = rows[0]
    lines = [f"Task `{first['task']}`, split `{first['split_name']}`."]
    for counts in dict.fromkeys(json.dumps(row["num_tracks"]) for row in rows):
        parts = [f"{number:,} {part}" for part, number in json.loads(counts).items()]
        lines.append(f"Tracks used: {', '.join(parts)}.")
    units: dict[str, list[str]] = {}
    for row, name in zip(rows, names, strict=True):
        units.setdefault(row_resampled(row), []).append(name)
    for unit, same in units.items():
        whose = "" if len(units) == 1 else f" of {', '.join(same)}"
        lines.append(f"Intervals{whose} resample {unit}.")
    if first["num_folds"] > 1:
        lines.append(
            f"{first['num_folds']} folds, whose counts are added up. Every test track is scored "
            "by a probe that was neither trained nor selected on it, and outputs of different "
            "probes are scored together."
        )
    for row in rows:
        if row.get("trained_on"):
            lines.append(f"{row['label']} was trained on {row['trained_on']}.")
    warnings = [each for each in dict.fromkeys(row["caveat"] for row in rows) if each]
    return [bullets(lines), *(prose(f"Warning: {each}") for each in warnings)]


def off_centre(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """Report intervals that do not include their own score.

    A bootstrap draw holds tracks twice, which helps precision where positives are few.
    """
    found = [
        f"{metric_name(metric)} of {name}"
        for row, name in zip(rows, names, strict=True)
        for metric, score in row["scores"].items()
        if None not in (score["low"], score["high"])
        and not score["low"] <= score["mean"] <= score["high"]
    ]
    if not found:
        return []
    return [
        prose(
            f"The interval does not include the score: {', '.join(found)}. The bootstrap is "
            "biased where positives are few; only the width of such an interval is informative."
        )
    ]


def left_out(folder: Path, rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    """List the tracks that some backbone could not use, and rows of the data that were left out.

    Lists are named relative to `folder`.
    """
    told: dict[str, tuple[list[str], str, list[str]]] = {}  # list -> names, summary, lines
    for row, name in zip(rows, names, strict=True):
        if not row["left_out"] and not row["num_problems"]:
            continue
        entries = read_failures(folder / row["left_out_list"]) if row["left_out_list"] else []
        lines = [f"{Path(file).name}: {reason}" for file, reason in entries[:_MAX_LISTED]]
        if len(entries) > _MAX_LISTED:
            lines.append(f"and {len(entries) - _MAX_LISTED} more, in {row['left_out_list']}")
        summary = f"left out: {row['left_out']}; problems of the data: {row['num_problems']}"
        told.setdefault(json.dumps([summary, entries]), ([], summary, lines))[0].append(name)
    return [
        details(f"{', '.join(same)}: {summary}", [bullets(lines or ["The list no longer exists."])])
        for same, summary, lines in told.values()
    ]


def weights_table(rows: Sequence[Row]) -> Table:
    """Build the table of what was judged: names and SHA-256."""
    lines = []
    for row in rows:
        line = [row["label"], row["backbone"], row["backbone_sha256"]]
        trained = row.get("trained_on") or (row["title"] if row["protocol"] == "end-to-end" else "")
        lines.append([*line, trained or "–"])
    unique = [list(line) for line in dict.fromkeys(map(tuple, lines))]
    return Table(["Backbone", "name", "SHA-256", "trained here on"], unique)


def failures(folder: Path) -> list[str]:
    """List the pairs that failed."""
    entries = read_failures(folder / FAILURES_FILE)
    if not entries:
        return []
    lines = [f"{pair}: {reason}" for pair, reason in entries]
    return [heading("Failed"), bullets(lines)]
