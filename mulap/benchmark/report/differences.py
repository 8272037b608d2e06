"""How much better than an untrained backbone each one is, by paired bootstrap.

A thousand draws of a large test set take a minute or more, so differences are kept in
`differences.json`, found by the SHA-256 of the two files of predictions they are between.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from mulap.files import atomic_path, sha256_of
from mulap.probing.printing import row_names
from mulap.probing.rows import Row, canonical_hash
from mulap.tasks.result import Difference, Predictions, compare

DIFFERENCES_FILE = "differences.json"
BASELINE = "random"


@dataclass(frozen=True)
class TaskRows:
    """The rows of one task and split."""

    rows: list[Row]  # in the order of the file
    names: list[str]  # what tables call them
    baseline: int | None  # position of the first untrained backbone; None where there is none
    # position -> headline metric minus the baseline's
    differences: dict[int, Difference] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)  # why some differences are missing

    @property
    def title(self) -> str:
        """The task and its split."""
        return f"{self.rows[0]['title']} ({self.rows[0]['split_name']})"


def group_rows(rows: Sequence[Row]) -> list[list[Row]]:
    """Put rows of the same task, title and split together, in the order they appear."""
    groups: dict[tuple[str, str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["task"], row["title"], row["split_name"]), []).append(row)
    return list(groups.values())


def compare_rows(folder: Path, rows: list[Row]) -> TaskRows:
    """Compare the rows of one task and split with its first untrained backbone.

    Predictions are named relative to `folder`. A row without usable ones has no difference, and a
    reason.
    """
    names = row_names(rows)
    found = [index for index, row in enumerate(rows) if row["backbone"] == BASELINE]
    task = TaskRows(rows, names, found[0] if found else None)
    if task.baseline is None:
        return task
    for index, row in enumerate(rows):
        if index != task.baseline:
            try:
                task.differences[index] = _compare(folder, row, rows[task.baseline])
            except ValueError as error:
                # Files are named relative to the report, which may be read elsewhere.
                reason = str(error).replace(f"{folder}/", "")
                task.problems.append(f"{names[index]}: {reason}")
    return task


def _compare(folder: Path, row: Row, baseline: Row) -> Difference:
    paths = [folder / each["predictions"] for each in (row, baseline)]
    missing = next((path for path in paths if not path.is_file()), None)
    if missing is not None:
        raise ValueError(f"{missing}: no such file. Run mulap benchmark again.")
    key = canonical_hash(["groups", row["kind"], row["labels"], *map(sha256_of, paths)])
    known = _read(folder / DIFFERENCES_FILE)
    if key not in known:
        first, second = map(Predictions.load, paths)
        known[key] = asdict(compare(row["kind"], row["labels"], first, second))
        with atomic_path(folder / DIFFERENCES_FILE) as temporary:
            temporary.write_text(json.dumps(known, indent=1, sort_keys=True), encoding="utf-8")
    return Difference(**known[key])


def _read(path: Path) -> dict[str, dict]:
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(
            f"{path}: is not JSON. Delete it; mulap report writes it again."
        ) from error
