"""`--where`: conditions in text -> a typed filter of tracks. No text becomes part of a statement.

    FIELD OPERATOR VALUE        artist=Nils Frahm   path~live   seconds<5:00   genre=jazz|blues

    fields      title, artist, album, genre, path (text); seconds, year (numbers)
    operators   =  !=  ~ (contains)  !~        of text, whatever the case of its letters
                =  !=  <  <=  >  >=            of numbers; seconds may be m:ss
    value       the rest of the text; | separates alternatives

Several conditions must all hold. Unknown text is "", an unknown year 0, and fulfils no comparison
of numbers.
"""

import re
from collections.abc import Sequence
from functools import reduce
from operator import and_, or_
from typing import NamedTuple

from lancedb.expr import Expr, col, lit

from mulap.library.query import encodable, parse_time

TEXT = {each: each for each in ("title", "artist", "album", "genre")} | {"path": "file"}
NUMBERS = ("seconds", "year")
_CONDITION = re.compile(r"\s*(\w+)\s*(!=|!~|<=|>=|=|~|<|>)(.*)", re.DOTALL)
_COMPARE = {"<": Expr.lt, "<=": Expr.lte, ">": Expr.gt, ">=": Expr.gte}
_LARGEST = 1e9  # seconds: 31 years


class Filter(NamedTuple):
    """What `parse_where` returns.

    Attributes:
        expression: for `Store.nearest`; None if there is no condition.
        fields: that the conditions name.
    """

    expression: Expr | None
    fields: frozenset[str]


def parse_where(conditions: Sequence[str]) -> Filter:
    """Turn conditions into one filter.

    Raises:
        ValueError: a condition has another form, an unknown field, or no number where one is due.
    """
    parsed = [_parse(condition) for condition in conditions]
    expressions = [expression for _, expression in parsed]
    return Filter(
        reduce(and_, expressions) if expressions else None,
        frozenset(field for field, _ in parsed),
    )


def between_seconds(least: float, most: float) -> Expr:
    """Return the condition that a track is so long."""
    return (col("seconds") >= lit(least)) & (col("seconds") <= lit(most))


def _parse(condition: str) -> tuple[str, Expr]:
    condition = encodable(condition)
    matched = _CONDITION.fullmatch(condition)
    if not matched:
        raise ValueError(
            f"--where {condition!r}: is no condition. Write FIELD, an operator and a value, such "
            "as artist=Frahm, path~live or seconds<300."
        )
    field, operator, value = matched[1].lower(), matched[2], matched[3].strip()
    alternatives = [each.strip() for each in value.split("|")]
    if field in TEXT:
        if operator not in ("=", "!=", "~", "!~"):
            raise ValueError(f"--where {condition!r}: {field} is text. Use =, !=, ~ or !~.")
        if operator.endswith("~") and not all(alternatives):
            raise ValueError(f"--where {condition!r}: has no value. Add the text to look for.")
        found = [_match_text(field, operator, each) for each in alternatives]
    elif field in NUMBERS:
        if operator.endswith("~"):
            raise ValueError(f"--where {condition!r}: {field} is a number. Use =, !=, < or >.")
        found = [_match_number(condition, field, operator, each) for each in alternatives]
    else:
        known = ", ".join((*TEXT, *NUMBERS))
        raise ValueError(f"--where {condition!r}: no field has this name. Use one of {known}.")
    expression = reduce(or_, found)
    return field, ~expression if operator.startswith("!") else expression


def _match_text(field: str, operator: str, value: str) -> Expr:
    column = col(TEXT[field]).lower()
    value = value.lower()
    return column.contains(lit(value)) if operator.endswith("~") else column == lit(value)


def _match_number(condition: str, field: str, operator: str, value: str) -> Expr:
    number = parse_time(value) if field == "seconds" else _whole(value)
    if number is None or number > _LARGEST:
        example = "300 or 5:00" if field == "seconds" else "1999"
        raise ValueError(
            f"--where {condition!r}: {value!r} is not a number. Write, say, {example}."
        )
    column = col(field)
    if operator.endswith("=") and operator not in _COMPARE:
        return column == lit(number)
    compared = _COMPARE[operator](column, lit(number))
    return compared & (column > lit(0)) if field == "year" else compared


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
