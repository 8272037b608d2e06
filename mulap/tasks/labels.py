"""What the cells of a table of labels say, and whether they are classes, tags or numbers.

Nothing is guessed where two readings make sense: whole numbers may name classes (0, 1) or measure
something (60, 120), and whoever has the table is asked which. Knows nothing of files and splits.
"""

import math
from collections.abc import Sequence
from typing import Any

from mulap.tasks.task import Kind


class BadRow(Exception):
    """Why a row is left out, in one line."""


def infer_kind(columns: Sequence[str], values: Sequence[Sequence[Any]]) -> Kind:
    """Return what labels are, from all of their cells.

    Args:
        columns: the names of the columns of labels.
        values: for each row, a cell of each column.

    Returns:
        `numbers` for several columns or one of fractions, `tags` for lists and `a|b`, else `class`.

    Raises:
        ValueError: they may be one thing or the other.
    """
    if len(columns) > 1:
        return "numbers"
    cells = [cell for (cell, *_) in values if read_tags(cell)]
    if any(isinstance(cell, list) or len(read_tags(cell)) > 1 for cell in cells):
        return "tags"
    numbers = [number for cell in cells if (number := read_number(cell)) is not None]
    if not numbers:
        return "class"
    if all(number.is_integer() for number in numbers):
        what = "whole numbers, which may be names of classes or amounts"
    elif len(numbers) < len(cells):
        what = "both numbers and words"
    else:
        return "numbers"
    raise ValueError(
        f"the column {columns[0]!r} holds {what}; say which: --kind class or --kind numbers"
    )


def parse_label(
    kind: Kind, columns: Sequence[str], cells: Sequence[Any]
) -> tuple[str, ...] | str | tuple[float, ...]:
    """Return a row's label as an `Example` has it.

    Args:
        kind: what it is.
        columns: the names of the columns of labels, one unless the kind is numbers.
        cells: the row's cell of each.

    Raises:
        BadRow: a cell is empty, or no finite number where one is needed.
    """
    if kind == "numbers":
        numbers = []
        for name, cell in zip(columns, cells, strict=True):
            number = read_number(cell)
            if number is None:
                raise BadRow(f"not a number: {cell!r} in the column {name!r}")
            numbers.append(number)
        return tuple(numbers)
    label = read_tags(cells[0]) if kind == "tags" else read_text(cells[0])
    if not label:
        raise BadRow(f"no label: the column {columns[0]!r} is empty")
    return label


def read_tags(cell: object) -> tuple[str, ...]:
    """Return the distinct tags of a list or of text such as `a|b` or `a;;b`, sorted."""
    parts = cell if isinstance(cell, list) else read_text(cell).replace(";;", "|").split("|")
    return tuple(sorted({text for part in parts if (text := read_text(part))}))


def read_text(cell: object) -> str:
    """Return a cell as text; empty for nothing, NaN and what is no single value."""
    if isinstance(cell, float):
        if not math.isfinite(cell):
            return ""
        cell = int(cell) if cell.is_integer() else cell  # parquet's 1.0 for 1 beside a gap
    return str(cell).strip() if isinstance(cell, str | int | float) else ""


def read_number(cell: object) -> float | None:
    """Return a cell as a finite number; None for anything else, truth values too."""
    if isinstance(cell, bool) or not isinstance(cell, str | int | float):
        return None
    try:
        number = float(cell)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
