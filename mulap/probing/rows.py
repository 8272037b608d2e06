"""The file of results: one JSON line per pair of task and encoder, appended as pairs end.

A killed run may leave half a last line, which the next run cuts off. When a run ends, the lines are
put into the order of its config, so that the file has the same bytes however often the run was
interrupted. Rows hold no clock times.
"""

import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from mulap.files import AnyPath, atomic_path

RESULTS_FILE, FAILURES_FILE = "results.jsonl", "failures.jsonl"

Row = dict[str, Any]
PairId = tuple[str, str, str, str, str]


def pair_id(row: Mapping[str, Any]) -> PairId:
    """Return what a row is about: task, title, split, backbone, protocol. There is one row each."""
    return (row["task"], row["title"], row["split_name"], row["backbone"], row["protocol"])


def read_rows(path: AnyPath, repair: bool = False) -> list[Row]:
    """Read the rows of a results file; none where there is no file.

    A last line that a kill cut short is left out; `repair` removes it. ValueError if a line before
    it is no row.
    """
    path = Path(path)
    if not path.is_file():
        return []
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if repair and len(whole) < len(content):
        os.truncate(path, len(whole))
    rows = []
    for number, line in enumerate(whole.splitlines(), 1):
        try:
            row = json.loads(line)
            pair_id(row)
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise ValueError(f"{path}: line {number} is not a result. Delete that line.") from error
        rows.append(row)
    return rows


def append_row(path: AnyPath, row: Row) -> None:
    """Add a row to the file, and have it on disk before going on."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "ab") as file:
        file.write(_line(row))
        file.flush()
        os.fsync(file.fileno())


def write_rows(path: AnyPath, rows: Sequence[Row]) -> None:
    """Write the whole file at once; it is left alone where it says the same already."""
    path, content = Path(path), b"".join(map(_line, rows))
    if path.is_file() and path.read_bytes() == content:
        return
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def order_rows(rows: Iterable[Row], wanted: Sequence[PairId]) -> list[Row]:
    """Put rows in order, one a pair: the last.

    Rows of pairs that are not wanted, of an earlier config, come last, by their names.
    """
    last = {pair_id(row): row for row in rows}
    others = sorted(set(last) - set(wanted))
    return [last[pair] for pair in [*wanted, *others] if pair in last]


def plain(value: Any) -> Any:
    """Turn a value into what JSON has; numbers that are not finite become None."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, str | bool | int | None):
        return value
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return [plain(each) for each in value]


def canonical_hash(value: Any) -> str:
    """Return the SHA-256 of a value's JSON with sorted keys."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()


def file_stem(*names: str) -> str:
    """Join names of task, split, backbone and protocol to a file name.

    What a file name should not hold is replaced; then a hash of the names keeps two of them apart.
    """
    safe = [re.sub(r"[^\w.+-]+", "-", name, flags=re.ASCII).strip("-.")[:60] for name in names]
    mark = f"--{canonical_hash(names)[:8]}" if safe != list(names) else ""
    return "--".join(safe) + mark


def _line(row: Row) -> bytes:
    return json.dumps(plain(row), allow_nan=False).encode() + b"\n"
