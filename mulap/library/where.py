"""`--where`: conditions in text -> a typed filter of tracks. No text becomes part of a statement.

    FIELD OPERATOR VALUE        artist=Nils Frahm   path~live   seconds<5:00   genre=jazz|blues

    fields      title, artist, album, genre, path (text); seconds, year (numbers); and every other
                tag that a file of the library has, such as mood or bpm: text, and numbers as well
                where some texts are numbers
    operators   =  !=  ~ (contains)  !~        of text, whatever the case of its letters
                =  !=  <  <=  >  >=            of numbers; seconds may be m:ss
    value       the rest of the text; | separates alternatives

Several conditions must all hold. Unknown text is "", and an unknown number fulfils no comparison.
"""

import re
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_, or_
from typing import NamedTuple

from lancedb.expr import Expr, col, func, lit

from mulap.library.query import encodable, parse_time
from mulap.library.tags import NUMBER, TEXT, as_number, own_name

_TEXT = {each: each for each in ("title", "artist", "album", "genre")} | {"path": "file"}
_NUMBERS = ("seconds", "year")
_CONDITION = re.compile(r"\s*(\w+)\s*(!=|!~|<=|>=|=|~|<|>)(.*)", re.DOTALL)
_COMPARE = {"<": Expr.lt, "<=": Expr.lte, ">": Expr.gt, ">=": Expr.gte}
_LARGEST = 1e9  # seconds: 31 years
_MOST_NAMED = 30  # tags, in an error


class Filter(NamedTuple):
    """What `parse_where` returns.

    Attributes:
        expression: for `Store.nearest`; None if there is no condition.
        fields: that the conditions name.
    """

    expression: Expr | None
    fields: frozenset[str]


def parse_where(conditions: Sequence[str], own: Mapping[str, bool] | None = None) -> Filter:
    """Turn conditions into one filter.

    Args:
        conditions: as the user wrote them.
        own: the other tags that the library has, see `Store.own_tags`.

    Raises:
        ValueError: a condition has another form, an unknown field, or no number where one is due.
    """
    parsed = [_parse(condition, own) for condition in conditions]
    expressions = [expression for _, expression in parsed]
    return Filter(
        reduce(and_, expressions) if expressions else None,
        frozenset(field for field, _ in parsed),
    )


def between_seconds(least: float, most: float) -> Expr:
    """Return the condition that a track is so long."""
    return (col("seconds") >= lit(least)) & (col("seconds") <= lit(most))


def _parse(condition: str, own: Mapping[str, bool] | None) -> tuple[str, Expr]:
    condition = encodable(condition)
    matched = _CONDITION.fullmatch(condition)
    if not matched:
        raise ValueError(
            f"--where {condition!r}: is no condition. Write FIELD, an operator and a value, such "
            "as artist=Frahm, path~live or seconds<300."
        )
    field, operator, value = matched[1].lower(), matched[2], matched[3].strip()
    alternatives = [each.strip() for each in value.split("|")]
    if field not in (*_TEXT, *_NUMBERS):
        field = own_name(field)
    is_text = field in _TEXT or field in (own or ())
    is_number = field in _NUMBERS or bool((own or {}).get(field))
    if not (is_text or is_number):
        raise ValueError(f"--where {condition!r}: {_no_field(own)}")
    if operator in _COMPARE and not is_number:
        raise ValueError(f"--where {condition!r}: {field} is text. Use =, !=, ~ or !~.")
    if operator.endswith("~") and not is_text:
        raise ValueError(f"--where {condition!r}: {field} is a number. Use =, !=, < or >.")
    if operator.endswith("~") and not all(alternatives):
        raise ValueError(f"--where {condition!r}: has no value. Add the text to look for.")
    if field in _NUMBERS or operator in _COMPARE:
        found = [_match_number(condition, field, operator, each) for each in alternatives]
    elif field in _TEXT:
        found = [_match_text(col(_TEXT[field]), operator, each) for each in alternatives]
    else:
        found = [_match_own(field, operator, each, is_number) for each in alternatives]
    expression = reduce(or_, found)
    return field, ~expression if operator.startswith("!") else expression


def _no_field(own: Mapping[str, bool] | None) -> str:
    known = f"no field has this name. Use one of {', '.join((*_TEXT, *_NUMBERS))}"
    if own is None:
        return f"{known}; or run mulap index, which reads the files' other tags."
    if not own:
        return f"{known}; no file has any other tag."
    named = ", ".join([*own][:_MOST_NAMED])
    more = f" and {len(own) - _MOST_NAMED:,} more" if len(own) > _MOST_NAMED else ""
    return f"{known}; of the files' own tags: {named}{more}."


def _match_text(column: Expr, operator: str, value: str) -> Expr:
    column, value = column.lower(), value.lower()
    return column.contains(lit(value)) if operator.endswith("~") else column == lit(value)


def _match_own(field: str, operator: str, value: str, is_number: bool) -> Expr:
    """Match the text of a tag, which is null in tracks without it; or the number that it is."""
    found = _match_text(_not_null(col(TEXT + field)), operator, value)
    number = as_number(value) if is_number and not operator.endswith("~") else None
    if number is None:
        return found
    column = col(NUMBER + field)
    return found | ((_not_null(column.cast("string")) != lit("")) & (column == lit(number)))


def _not_null(text: Expr) -> Expr:
    return func("concat", text, lit(""))  # which takes null for empty


def _match_number(condition: str, field: str, operator: str, value: str) -> Expr:
    if field in _NUMBERS:
        number, column = parse_time(value) if field == "seconds" else _whole(value), col(field)
    else:
        number, column = as_number(value), col(NUMBER + field)
    if number is None or number > _LARGEST:
        example = {"seconds": "300 or 5:00", "year": "1999"}.get(field, "120 or 99.5")
        raise ValueError(
            f"--where {condition!r}: {value!r} is not a number. Write, say, {example}."
        )
    if operator not in _COMPARE:
        return column == lit(number)
    compared = _COMPARE[operator](column, lit(number))
    return compared & (column > lit(0)) if field == "year" else compared


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,9}", text) else None
