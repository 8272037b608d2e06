"""docs/benchmarks.md: the reading text of `page.md`, with tables between its marks.

A table that was not measured this time stays as the page has it. Each says when it was measured.
"""

import re
from pathlib import Path

from benchmarks.tables import Table

TEMPLATE = Path(__file__).resolve().parent / "page.md"
NOTICE = "<!-- Written by `make bench` from benchmarks/page.md: change that, not this. -->\n\n"
_MARK = "<!-- table: {key} -->\n"
_END = "<!-- end -->\n"
_NOTHING = "Not measured yet.\n"


def goals_table(tables: list[Table]) -> Table:
    """Put together what the project asks of the tables, met or not."""
    rows = [goal.row() for table in tables for goal in table.goals]
    return Table("goals", "What is asked", ["", "asked", "measured", "met"], rows)


def read_tables(page: str) -> dict[str, str]:
    """Return the text between each table's marks, by key."""
    return dict(re.findall(r"<!-- table: (\w+) -->\n(.*?)<!-- end -->\n", page, re.DOTALL))


def fill_page(template: str, tables: dict[str, str]) -> str:
    """Put tables where the template names them.

    Args:
        template: Markdown in which a line `<!-- table: KEY -->` stands for a table.
        tables: their text by key; one that is missing is said to be.
    """

    def text(found: re.Match[str]) -> str:
        key = found[1]
        return _MARK.format(key=key) + tables.get(key, _NOTHING) + _END

    return NOTICE + re.sub(r"<!-- table: (\w+) -->\n", text, template)


def write_page(path: Path, tables: list[Table], day: str) -> None:
    """Write the page, with these tables in the places of its old ones.

    Args:
        path: of the page, which need not exist.
        tables: of this run.
        day: when they were measured.
    """
    held = read_tables(path.read_text(encoding="utf-8")) if path.exists() else {}
    new = {table.key: f"{table.markdown()}\n\n*Measured {day}.*\n" for table in tables}
    template = TEMPLATE.read_text(encoding="utf-8")
    path.write_text(fill_page(template, held | new), encoding="utf-8")
