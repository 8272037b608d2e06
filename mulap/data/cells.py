"""Cells of a row -> text, numbers, lists, and files as the disk spells their names.

For every reader of rows: captions (`mulap.data.manifest`) and labels (`mulap.tasks.folder`).
"""

import ast
import errno
import json
import math
import os
import re
import stat
import unicodedata
import warnings
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from mulap.files import AnyPath

# An item of a list as Python, pandas and numpy print it; numpy puts no commas between them.
_ITEM = (
    r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|None|nan|True|False"""
    r"""|[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?"""
)
_LIST = re.compile(
    rf"(?:array\()?[\[({{](?P<items>\s*(?:(?:{_ITEM})(?:\s*,\s*|\s+|(?=[\])}}])))*)[\])}}]"
    r"(?:,\s*dtype=\w+)?\)?",
    re.DOTALL,
)
_CACHED_NAMES = 2**16


class BadRow(Exception):
    """Why a row is left out, in one line that begins with the kind of trouble and a colon."""


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


def read_list(cell: object) -> list[Any] | None:
    """Return the items of a list, or of a list written as text; None for any other cell.

    Text is read as JSON, Python, pandas and numpy write lists: `["a", "b"]`, `['a', 'b']`,
    `('a', 'b')`, `['a' 'b']`, `array(['a', 'b'], dtype=object)`. No code is run.
    """
    if not isinstance(cell, str):
        return cell if isinstance(cell, list) else None
    text = cell.strip()
    is_quoted = "'" in text or '"' in text
    if not text.startswith(("[", "(", "{", "array(") if is_quoted else "["):
        return None  # also of "(1990)", which is a year in brackets
    try:
        value = json.loads(text)
        return value if isinstance(value, list) else None
    except (ValueError, RecursionError):
        found = _LIST.fullmatch(text)
    if found is None:
        return None
    items = re.findall(_ITEM, found["items"], re.DOTALL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes
            return [None if item == "nan" else ast.literal_eval(item) for item in items]
    except (ValueError, SyntaxError):  # 007, or an escape that is none
        return None


class FileFinder:
    """Finds the files that the rows of one table name, as the disk spells their names.

    A name is looked for as it is, with slashes for backslashes (Windows wrote the table), with a
    leading `~` as the user's home, and with its accents composed or decomposed (a Mac's disk and a
    table often differ in that).

    Args:
        folders: that names are relative to, in this order; absolute names are taken too.
        is_looking: if False, the first path that a name can mean is taken, there or not.
    """

    def __init__(self, folders: Sequence[AnyPath], is_looking: bool = True) -> None:
        self.folders, self.is_looking = folders, is_looking
        self._cached = lru_cache(_CACHED_NAMES)(self._look_for)
        self._spelled: dict[str, dict[str, str]] = {}  # folder -> composed name -> its own

    def find(self, name: str) -> tuple[str, str]:
        """Return a file's path, and its name as on the disk, forward slashes; BadRow if none."""
        found, reason = self._cached(name)
        if found is None:
            raise BadRow(reason)
        return found

    def _look_for(self, name: str) -> tuple[tuple[str, str] | None, str]:
        if not name:
            return None, "no file name: the cell is empty"
        if name.lower().endswith((".npy", ".npz")):
            return None, (
                f"not audio: {name!r} holds a NumPy array. Name the recording that it was made "
                "from (wav, flac, mp3, ...), or write the array to a wav file with its sampling "
                "rate."
            )
        if "://" in name:
            return None, f"not a file: {name!r} is an address. Download it and name the file."
        reason = ""
        for folder in self.folders:
            for spelled in self._spellings(folder, name):
                path = os.path.normpath(os.path.join(folder, spelled))
                kind, why = _find_problem(path) if self.is_looking else ("", "")
                if not kind:
                    return (path, os.path.normpath(spelled).replace(os.sep, "/")), ""
                reason = reason or f"{kind}: {name[:200]!r} in {folder}{why}"
        return None, reason + ("; its backslashes were tried as slashes" if "\\" in name else "")

    def _spellings(self, folder: AnyPath, name: str) -> Iterator[str]:
        """Yield the ways to spell a name, those that need no listing of folders first."""
        ways = dict.fromkeys((name, name.replace("\\", "/"), os.path.expanduser(name)))
        yield from ways
        yield from (self._respell(folder, way) for way in ways if not way.isascii())

    def _respell(self, folder: AnyPath, name: str) -> str:
        """Spell each part of a name as the folder that it lies in does."""
        spelled = "/" if name.startswith("/") else ""
        for part in filter(None, name.split("/")):
            place = os.path.join(folder, spelled)
            if place not in self._spelled:
                try:
                    listed = os.listdir(place)
                except OSError:  # the name as it is will say why
                    listed = []
                self._spelled[place] = {_compose(each): each for each in listed}
            spelled = os.path.join(spelled, self._spelled[place].get(_compose(part), part))
        return spelled


def _compose(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _find_problem(path: str) -> tuple[str, str]:
    """Return the kind of trouble with a file, and why; both empty if it is there."""
    try:
        mode = os.stat(path).st_mode
    except ValueError as error:  # a NUL in the name
        return "no such file", f" ({error})"
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return "no such file", ""
        return "cannot be looked up", f" ({error.strerror})"
    if stat.S_ISREG(mode):
        return "", ""
    return ("is a folder" if stat.S_ISDIR(mode) else "not a regular file"), ""
