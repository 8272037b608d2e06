"""A table of results, as Markdown, and what the project asks of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measure import Outcome, Spread, digits


@dataclass(frozen=True)
class Goal:
    """Something that issue 4 asks for.

    Attributes:
        what: in words.
        asked: the number.
        got: what was measured; None where it could not be.
        is_most: the number asked for is the most that is allowed, not the least.
        unit: behind the numbers.
    """

    what: str
    asked: float
    got: Spread | None
    is_most: bool = False
    unit: str = "×"

    def row(self) -> list[str]:
        """Return the goal's row: what, asked, measured, met or not."""
        asked = f"{'at most' if self.is_most else 'at least'} {self.asked:g}{self.unit}"
        if self.got is None:
            return [self.what, asked, "not measured", "?"]
        value = self.got.median
        is_met = value <= self.asked if self.is_most else value >= self.asked
        return [self.what, asked, self.got.format(self.unit), "yes" if is_met else "**no**"]


@dataclass
class Table:
    """One question and its answers.

    Attributes:
        key: its short name.
        title: of the section.
        head: of the columns.
        rows: as many cells each.
        notes: lines below it.
        goals: that it decides.
        outcomes: what was measured, for JSON.
    """

    key: str
    title: str
    head: Sequence[str]
    rows: list[list[str]]
    notes: list[str] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)

    def markdown(self) -> str:
        """Write rows and notes as Markdown."""
        return "\n\n".join([format_rows(self.head, self.rows), *self.notes])

    def to_json(self) -> dict[str, Any]:
        """Return all that was measured, round by round."""
        return {
            "title": self.title,
            "head": list(self.head),
            "rows": self.rows,
            "notes": self.notes,
            "measured": [
                {
                    "name": outcome.contestant.name,
                    "amount": outcome.contestant.amount,
                    "seconds": outcome.seconds,
                    "peak_mib": round(outcome.peak_mib),
                    "results": outcome.results,
                    "missing": outcome.missing,
                }
                for outcome in self.outcomes
            ],
        }


def format_rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a Markdown table; all columns but the first are aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines)


def rate_rows(outcomes: dict[str, Outcome], ours: str, limit: str) -> list[list[str]]:
    """Return a row a contestant: its rate, ours over its, its share of the limit, its memory.

    Args:
        outcomes: by name.
        ours: whose rate is divided by the others'.
        limit: the contestant that is the limit.
    """
    rows = []
    for name, outcome in outcomes.items():
        if outcome.missing:
            rows.append([name, f"not run: {outcome.missing}", "", "", ""])
            continue
        factor = "1" if name == ours else outcomes[ours].times(outcome).format()
        share = outcome.times(outcomes[limit]).scaled(100).format(" %")
        row = [name, outcome.rate().format(), factor, share, format_memory(outcome.peak_mib)]
        rows.append(row[:2] + ["", "", ""] if name == limit else row)
    return rows


def format_memory(mib: float) -> str:
    """Write MiB, as GiB where there are many."""
    if mib == 0:
        return "?"
    return f"{mib / 1024:.1f} GiB" if mib >= 1024 else f"{digits(round(mib))} MiB"


def ratio(outcomes: dict[str, Outcome], ours: str, other: str) -> Spread | None:
    """Return how many times the other's rate ours is; None where the other was not run."""
    return None if outcomes[other].missing else outcomes[ours].times(outcomes[other])
