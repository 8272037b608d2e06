"""Tables: where a folder has them, and their rows, from CSV, TSV, JSON lines, JSON or parquet.

A row comes with the place it stands at, as its reader would look for it: the row of a spreadsheet
(the header is row 1), the line of a text file. A row that cannot be read is handed on as a sentence
that says why. Text is UTF-8, or UTF-16 as Excel writes it; columns are separated by commas,
semicolons, tabs or bars, as the header shows. Scope: rows; `mulap.data.cells` reads their cells.
"""

import csv
import difflib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mulap.data.splits import find_split
from mulap.files import AnyPath

UNFINISHED = ".unfinished"
"""Lies in a folder that a command of this package has not finished writing."""

_METADATA_NAMES = ("metadata.csv", "metadata.jsonl", "metadata.parquet")

Row = dict[str, Any]
PlacedRow = tuple[str, Row | str]
"""Where a row stands, such as "row 17", and its values; or the reason why it cannot be read."""


def find_tables(root: AnyPath, problems: list[tuple[str, str]]) -> list[tuple[Path, str]]:
    """Return the metadata files and archives of a folder, each with the split it is for, or "".

    Looked into are the folder itself and its folders `train`, `valid` and `test` (by any spelling).
    One of these that cannot be listed is added to `problems`.

    Raises:
        ValueError: there is none, one folder has metadata in two formats, or it is unfinished.
    """
    root = Path(root)
    if os.path.isfile(root):
        return [(root, "")]
    if not os.path.isdir(root):
        raise ValueError(f"{root}: no such file or folder")
    try:
        names = sorted(os.listdir(root))
    except OSError as error:
        raise ValueError(f"{root}: {_closed(error)}") from error
    if UNFINISHED in names:
        raise ValueError(f"{root}: is unfinished. Run the command that makes it again to resume.")
    tables = _tables_in(root)
    for folder in (root / name for name in names if find_split(name)):
        try:
            if folder.is_dir() and os.listdir(folder):
                tables += [(path, find_split(folder.name) or "") for path, _ in _tables_in(folder)]
        except OSError as error:
            problems.append((str(folder), _closed(error)))
    if not tables and problems:
        raise ValueError(": ".join(problems[0]))
    if not tables:
        held = ", ".join(map(repr, names[:5])) or "nothing"
        raise ValueError(
            f"{root}: no {', '.join(_METADATA_NAMES)}, dataset_train.json or .tar there or in "
            f"train, valid, test; it holds {held}. Name the metadata file itself if it has "
            "another name."
        )
    return tables


def _closed(error: OSError) -> str:
    return f"cannot be listed: {error.strerror}. Check its permissions."


def _tables_in(folder: Path) -> list[tuple[Path, str]]:
    metadata = [folder / name for name in _METADATA_NAMES if (folder / name).is_file()]
    if len(metadata) > 1:
        names = " and ".join(path.name for path in metadata)
        raise ValueError(f"{folder}: holds {names}. Keep one of them, or name one of them itself.")
    if metadata:
        return [(metadata[0], "")]
    # dataset_train.json: the original authors' way; train-00000-of-00004.parquet: the hub's.
    named = [(path, find_split(path.stem.rpartition("_")[2])) for path in folder.glob("*.json")]
    tables = [(path, split) for path, split in sorted(named) if split]
    shards = sorted([*folder.glob("*.parquet"), *folder.glob("data/*.parquet")])
    tars, parquet = (
        [(path, _split_of_shard(path.stem)) for path in paths]
        for paths in (sorted(folder.glob("*.tar")), shards)
    )
    return tables or tars or parquet


def _split_of_shard(name: str) -> str:
    """Return the split that a shard is of by its name, such as val-000017; "" if it says none."""
    found = re.fullmatch(r"([A-Za-z]+)([-_.]\d.*)?", name)
    return (find_split(found[1]) if found else None) or ""


def read_table(path: AnyPath) -> tuple[list[str], Iterable[PlacedRow]]:
    """Return the column names of a .csv, .tsv, .jsonl, .json or .parquet table and its rows.

    ValueError if it has another ending, or is not what its ending says.
    """
    path = Path(path)
    readers = {
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".jsonl": _read_json_lines,
        ".json": _read_json,
        ".parquet": _read_parquet,
    }
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ValueError(
            f"{path}: not a manifest. Use a folder or a {', '.join(readers)} or .tar file."
        )
    return reader(path)


def find_column(
    where: object, columns: Sequence[str], *wanted: str, is_choice: bool = False
) -> str:
    """Return the first wanted column that a table, `where`, has; the first one is the usual one.

    Raises:
        ValueError: it has none of them; the message names the nearest. With `is_choice` the user
            chose the name, so that another name is the remedy, not another column.
    """
    for name in wanted:
        if name in columns:
            return name
    lowered = {name.strip().lower(): name for name in columns}
    near = [m for name in wanted for m in difflib.get_close_matches(name.lower(), lowered, 1)]
    if is_choice:
        remedy = f"Did you mean {lowered[near[0]]!r}?" if near else "Name one of these."
    else:
        remedy = (
            f"Rename {lowered[near[0]]!r}" if near else "Rename or add one"
        ) + f" to {wanted[0]!r}."
    needed = " or ".join(map(repr, wanted))
    found = ", ".join(map(repr, columns[:10])) or "none"
    raise ValueError(f"{where}: no column {needed}; it has {found}. {remedy}")


def read_utf8(path: AnyPath, remedy: str = "") -> str:
    """Return the text of a file in UTF-8, or in UTF-16 with a byte-order mark, without the mark.

    If it cannot be read, a ValueError names file, line, byte and remedy in one line.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"{path}: cannot be read: {error.strerror}. {remedy or 'Check the path.'}"
        ) from error
    is_wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    try:
        return content.decode("utf-16" if is_wide else "utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}: line {line:,} is not {'UTF-16' if is_wide else 'UTF-8'} (byte "
            f"0x{content[error.start]:02x} at position {error.start:,} of the file). "
            f"{remedy or 'Save the file as UTF-8.'}"
        ) from error


def read_parquet_schema(path: AnyPath) -> pa.Schema:
    """Return a parquet file's schema; ValueError in one line where it is not parquet."""
    try:
        return pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path}: not a readable parquet file ({one_line(error)})") from error


def read_parquet_rows(
    path: AnyPath, columns: list[str], rows_at_once: int = 10_000
) -> Iterator[Row]:
    """Yield the rows of a parquet file as dictionaries, a batch in memory at a time."""
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=rows_at_once, columns=columns):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: cannot be read to its end ({one_line(error)})") from error


def text_columns(schema: pa.Schema) -> list[str]:
    """Return the columns that hold text, numbers or lists of text, so no arrays and no images."""
    return [field.name for field in schema if _is_plain(field.type)]


def one_line(error: BaseException) -> str:
    """Return an exception's message on one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        kind = kind.value_type
        return pa.types.is_string(kind) or pa.types.is_large_string(kind)
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer)
    return any(test(kind) for test in (*tests, pa.types.is_floating, pa.types.is_null))


def split_cells(
    text: str, delimiter: str, *, is_quoted: bool = True, is_strict: bool = True
) -> Iterator[tuple[int, list[str] | str]]:
    """Yield the number of each row of a CSV, from 1, that is not empty, and its cells.

    Instead of cells it may be the reason why they cannot be read: if strict, a stray quote is an
    error in its own row; if not, it may swallow rows.
    """
    quoting = csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE
    lines = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, quoting=quoting, strict=is_strict
    )
    row = 0
    while True:
        row, first_line = row + 1, lines.line_num + 1
        try:
            cells = next(lines)
        except StopIteration:
            return
        except csv.Error as error:
            yield (
                row,
                f"unreadable row: lines {first_line:,} to {lines.line_num:,}: {error}. Put text "
                "in quotes and write quotes inside it twice.",
            )
            continue
        if any(cells):
            yield row, cells


def _read_csv(path: Path) -> tuple[list[str], Iterable[PlacedRow]]:
    text = read_utf8(path)
    if said := re.match(r"sep=(.)\r?(?=\n)", text):  # Excel's own first line
        text, delimiter = text[said.end() :], said[1]
    else:
        # What follows the first cell of the header, which may be in quotes.
        found = re.match(r'\s*(?:"(?:[^"]|"")*"|[^",;|\t\n]*)([,;|\t])', text)
        delimiter = found[1] if found else ","
    rows = split_cells(text, delimiter)
    _, header = next(rows, (1, []))
    if isinstance(header, str):
        raise ValueError(f"{path}: row 1, the column names, cannot be read ({header})")
    header = [name.strip() for name in header]
    if not header:
        raise ValueError(f"{path}: is empty. Name the columns in its first row.")
    if twice := next((name for name in header if name and header.count(name) > 1), None):
        raise ValueError(f"{path}: row 1 has two columns {twice!r}. Rename or remove one.")
    return header, _name_cells(rows, header, delimiter)


def _name_cells(
    rows: Iterable[tuple[int, list[str] | str]], header: list[str], delimiter: str
) -> Iterator[PlacedRow]:
    mark = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}.get(
        delimiter, repr(delimiter)
    )
    for row, cells in rows:
        if isinstance(cells, str):
            yield f"row {row}", cells
        elif any(cells[len(header) :]):
            yield (
                f"row {row}",
                f"too many cells: {len(cells)} cells for {len(header)} columns. Put text with "
                f"{mark} in quotes.",
            )
        else:
            yield f"row {row}", dict(zip(header, cells, strict=False))


def _read_json_lines(path: Path) -> tuple[list[str], Iterable[PlacedRow]]:
    # Not splitlines(), which also cuts at line separators inside a caption.
    lines = enumerate(read_utf8(path).split("\n"), start=1)
    return _with_columns([_parse_line(number, line) for number, line in lines if line.strip()])


def _parse_line(number: int, line: str) -> PlacedRow:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        return f"line {number}", f"not JSON: {one_line(error)}"
    return f"line {number}", value if isinstance(value, dict) else _not_an_object(value)


def _read_json(path: Path) -> tuple[list[str], Iterable[PlacedRow]]:
    try:
        values = json.loads(read_utf8(path))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: not JSON ({one_line(error)})") from error
    rows: list[PlacedRow] = []
    if isinstance(values, dict):
        for key, value in values.items():
            row = {"audio_id": key, **value} if isinstance(value, dict) else _not_an_object(value)
            rows.append((f"item {key!r}", row))
    elif isinstance(values, list):
        for number, value in enumerate(values, start=1):
            row = value if isinstance(value, dict) else _not_an_object(value)
            rows.append((f"item {number}", row))
    else:
        raise ValueError(f"{path}: holds one {type(values).__name__}. Write a list of rows.")
    return _with_columns(rows)


def _not_an_object(value: object) -> str:
    return f"not an object: a {type(value).__name__} where {{name: value, ...}} is expected"


def _with_columns(rows: list[PlacedRow]) -> tuple[list[str], list[PlacedRow]]:
    columns: dict[str, None] = {}
    for _, row in rows:
        if isinstance(row, dict):
            columns.update(dict.fromkeys(row))
    return list(columns), rows


def _read_parquet(path: Path) -> tuple[list[str], Iterable[PlacedRow]]:
    columns = text_columns(read_parquet_schema(path))
    rows = enumerate(read_parquet_rows(path, columns), start=1)
    return columns, ((f"row {number}", row) for number, row in rows)
