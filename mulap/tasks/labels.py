"""Cells of labels -> classes, tags or numbers.

Nothing is guessed where two readings make sense: whole numbers may name classes (0, 1) or measure
something (60, 120), and commas may part tags or belong to a name. Then the user is asked which.
"""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

from mulap.data.cells import BadRow, read_list, read_number, read_text
from mulap.tasks.task import Kind


def infer_kind(columns: Sequence[str], values: Sequence[Sequence[Any]]) -> Kind:
    """Return what labels are, from all rows of cells, one for each column of labels.

    It is `numbers` for several columns or one of fractions, `tags` for lists, `a|b` and `a;b`, else
    `class`.

    Raises:
        ValueError: they may be one thing or the other.
    """
    if len(columns) > 1:
        return "numbers"
    cells = [cell for (cell, *_) in values if read_tags(cell)]
    mark = find_mark(cells)
    if any(read_list(cell) is not None for cell in cells):
        return "tags"
    if mark != "," and any(len(read_tags(cell, mark)) > 1 for cell in cells):
        return "tags"
    if mark == ",":
        return _kind_with_commas(columns[0], cells)
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
        f"the column {columns[0]!r} holds {what}. Give --kind class or --kind numbers."
    )


def _kind_with_commas(column: str, cells: Sequence[Any]) -> Kind:
    """Return `class` where commas belong to names; ask where they may part tags or numbers."""
    texts = {read_text(cell) for cell in cells}
    if all(re.fullmatch(r"[-+]?\d+,\d+", text) for text in texts):
        raise ValueError(
            f"the column {column!r} has commas in its numbers. Write points, such as 1.5."
        )
    # A part that two different cells share is a tag; "Folk, World, & Country" is one genre.
    parts = Counter(tag for text in texts for tag in read_tags(text, ","))
    tag, count = parts.most_common(1)[0]
    if count > 1:
        raise ValueError(
            f"the column {column!r} holds commas, which may separate tags (such as {tag!r}) or "
            "belong to names of classes. Give --kind tags or --kind class."
        )
    return "class"


def parse_label(
    kind: Kind, columns: Sequence[str], cells: Sequence[Any], mark: str = "|"
) -> tuple[str, ...] | str | tuple[float, ...]:
    """Return a row's label as an `Example` has it; `mark` stands between tags.

    BadRow if a cell is empty, or no finite number where one is needed.
    """
    if kind == "numbers":
        numbers = []
        for name, cell in zip(columns, cells, strict=True):
            number = read_number(cell)
            if number is None:
                raise BadRow(f"not a number: {cell!r} in the column {name!r}")
            numbers.append(number)
        return tuple(numbers)
    label = read_tags(cells[0], mark) if kind == "tags" else read_text(cells[0])
    if not label:
        raise BadRow(f"no label: the column {columns[0]!r} is empty")
    return label


def find_mark(cells: Sequence[Any]) -> str:
    """Return the mark between tags in a whole column of text: the first of | ; , that occurs.

    `;;` is `|`. Lists, also those written as text, need no mark. Without any, it is `|`.
    """
    texts = [read_text(cell) for cell in cells if read_list(cell) is None]
    for mark, found in (("|", ("|", ";;")), (";", (";",)), (",", (",",))):
        if any(each in text for text in texts for each in found):
            return mark
    return "|"


def read_tags(cell: object, mark: str = "|") -> tuple[str, ...]:
    """Return the distinct tags of a list or of text such as `a|b`, `a;;b` or `[a, b]`, sorted.

    A list may be written as text; `mark` stands between the tags of text that is none.
    """
    parts = read_list(cell)
    if parts is None:
        text = read_text(cell)
        if mark == "," and text.startswith("[") and text.endswith("]"):
            text = text[1:-1]  # a list without quotes
        parts = text.replace(";;", "|").split("|") if mark == "|" else text.split(mark)
    return tuple(sorted({text for part in parts if (text := read_text(part))}))
