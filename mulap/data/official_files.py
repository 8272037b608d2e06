"""Read the small files that data sets come with: tables, lists, pickled lists, audio layouts.

These files come from other people and older systems. A table may lack a column or end in the middle
of a line; a pickle may hold a program instead of a list. Each reader checks the file, and raises an
error of one line if it is something else. Nothing is unpickled.
"""

import os
import pickletools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mulap.data.row_files import read_utf8, split_cells
from mulap.files import AnyPath

_REMEDY = "Fetch it with mulap download."

_STRINGS = frozenset(
    ("STRING", "BINSTRING", "SHORT_BINSTRING")  # of Python 2
    + ("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8")
)
_LISTS = frozenset(("LIST", "EMPTY_LIST"))
_STORES = frozenset(("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"))
_RECALLS = frozenset(("GET", "BINGET", "LONG_BINGET"))
_HARMLESS = frozenset(("PROTO", "FRAME", "MARK", "APPEND", "APPENDS", "STOP"))


def read_lines(path: AnyPath) -> list[str]:
    """Return the lines of a UTF-8 file, stripped, without empty ones; ValueError if none."""
    lines = [line.strip() for line in read_utf8(path, _REMEDY).split("\n")]
    lines = [line for line in lines if line]
    if not lines:
        raise ValueError(f"{path}: empty. {_REMEDY}")
    return lines


def read_table(
    path: AnyPath,
    columns: Sequence[str],
    remedy: str = _REMEDY,
    *,
    is_quoted: bool = True,
    is_last_open: bool = False,
) -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """Go through the rows of a tab-separated table.

    Args:
        path: the file; its first line is the header.
        columns: names that the header must have; others may stand beside them.
        remedy: what to do about a file that cannot be used.
        is_quoted: cells may be in double quotes, as csv has them.
        is_last_open: the last column may extend over any number of further cells.

    Yields:
        Where the row stands ("FILE, line 7"), its wanted cells by column, and the last column's
        cells where it is open (else nothing).

    Raises:
        ValueError: the file is missing or not UTF-8, lacks a column, or has a row of another width.
    """
    text = read_utf8(path, remedy)
    # Not strict: tables of official data sets have stray quotes.
    rows = split_cells(text, "\t", is_quoted=is_quoted, is_strict=False)
    _, header = next(rows, (1, []))
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r} in its header. {remedy}")
    position = {name: header.index(name) for name in columns}
    width = len(header)
    for number, row in rows:
        where = f"{path}, line {number}"
        if isinstance(row, str):
            raise ValueError(f"{where}: {row}. {remedy}")
        if len(row) < width or (len(row) > width and not is_last_open):
            raise ValueError(f"{where}: {len(row)} cells under {width} columns. {remedy}")
        wanted = {name: row[index] for name, index in position.items()}
        yield where, wanted, row[width - 1 :] if is_last_open else []


def read_pickled_strings(path: AnyPath) -> list[str]:
    """Return the strings of a pickled list without unpickling it, so that nothing can run.

    The file's instructions are walked one by one, and only those are accepted that a list of
    strings needs: no names, no calls, no other types. Protocols 0 to 5, of Python 2 and 3. A file
    with anything else is a ValueError.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}. {_REMEDY}") from error
    try:
        return _walk_pickle(data)
    except ValueError as error:
        raise ValueError(f"{path}: not a pickled list of strings ({error})") from None


def _walk_pickle(data: bytes) -> list[str]:
    strings: list[str] = []
    stored: dict[Any, str | None] = {}  # what later instructions may recall; None is the list
    latest: str | None = None
    num_lists = 0
    for opcode, argument, position in pickletools.genops(data):
        name = opcode.name
        if name in _RECALLS and stored.get(argument) is not None:
            name, argument = "STRING", stored[argument]
        if name in _STRINGS:
            latest = str(argument)
            strings.append(latest)
        elif name in _LISTS and not num_lists:
            num_lists, latest = 1, None
        elif name in _STORES:
            stored[len(stored) if name == "MEMOIZE" else argument] = latest
        elif name not in _HARMLESS:
            raise ValueError(f"{name} at byte {position}")
    if not num_lists:
        raise ValueError("no list in it")
    return strings


def find_layout(folder: AnyPath, layouts: Sequence[str], names: Iterable[str]) -> str:
    """Return the layout, such as `audio/{}.mp3`, that a download's audio has.

    It is the first layout of the first name that is there; the first of all where none is.
    """
    for name in names:
        for layout in layouts:
            if os.path.isfile(os.path.join(folder, layout.format(name))):
                return layout
    return layouts[0]
