"""Other people's numbers, read from `published.json`; tests check the file.

Every number names its task, split, metric and source, in percent as its source prints it. Where the
source does not name the split, `split_is` says so: two numbers of different splits must not be read
against each other, and MagnaTagATune's two differ by more in PR-AUC than most methods do.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

SplitIs = Literal["stated", "inferred", "assumed", "not stated"]
_FILE = Path(__file__).with_name("published.json")


@dataclass(frozen=True)
class Published:
    """A published number."""

    task: str  # of the registry
    split: str  # the task's split that it is for; empty where the source does not say
    metric: str  # of a row's scores
    value: float  # in percent
    method: str  # who reached it
    group: str  # the kind of method, as the paper's tables group them
    source: str  # where it is printed; `sources()` says more
    # `stated` by the source; `inferred`, see the note; `assumed`, the one split the task commonly
    # has; `not stated`
    split_is: SplitIs
    std: float | None = None  # in percent; None where none is printed
    note: str = ""  # what to know about it
    paper_table: int = 0  # 1 or 2 where the MuLaP paper prints it there; else 0


@cache
def read_published() -> tuple[Published, ...]:
    """Return all published numbers, in the order of the file."""
    return tuple(Published(**entry) for entry in _read()["results"])


@cache
def sources() -> dict[str, str]:
    """Return what each source is."""
    return dict(_read()["sources"])


def of_paper_table(table: int) -> list[Published]:
    """Return the numbers of the MuLaP paper's Table 1 or 2, in its order."""
    return [one for one in read_published() if one.paper_table == table]


def of_task(task: str) -> list[Published]:
    """Return all numbers about a task, in the order of the file."""
    return [one for one in read_published() if one.task == task]


def mark_of(one: Published, split_names: Sequence[str]) -> str:
    """Return the mark that a number must bear beside results of some splits, or nothing."""
    if not one.split:
        return MARK_UNKNOWN
    if split_names and one.split not in split_names:
        return MARK_OTHER
    return MARK_INFERRED if one.split_is == "inferred" else ""


MARK_OTHER, MARK_UNKNOWN, MARK_INFERRED = "‡", "?", "†"
MARKS = {
    MARK_OTHER: "not comparable: on another split than the column's",
    MARK_UNKNOWN: "not known to be comparable: the source does not name the split",
    MARK_INFERRED: "the split is inferred, not stated by the source",
}
NO_MARK = "the source states the split, or the task has one that is commonly used"


def _read() -> dict:
    return json.loads(_FILE.read_text(encoding="utf-8"))
