"""Rows of embeddings in files: .parquet, .npz or .jsonl, written and read a few at a time.

.npz holds an array for each column (`embeddings` (rows, D) for the vectors) and the metadata as
JSON in the array `metadata`; .jsonl holds one object per row, with the metadata in each.
"""

import itertools
import json
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mulap.files import AnyPath
from mulap.vectors.rows import (
    TEXT_COLUMNS,
    batch_embeddings,
    row_batch,
    row_schema,
    schema_metadata,
)

FORMATS = (".parquet", ".npz", ".jsonl")
_ROWS_AT_ONCE = 512
# What the readers of the three formats raise on a file of something else.
_UNREADABLE = (
    pa.ArrowException,
    zipfile.BadZipFile,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    RecursionError,
)


def check_format(path: AnyPath) -> str:
    """Return a table's format, its suffix in lower case; ValueError if it is none of `FORMATS`."""
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(
            f"{path}: {f'{suffix} is no format for embeddings' if suffix else 'has no ending'}. "
            f"Name a file that ends in {known}, or {path}/ for a folder of shards."
        )
    return suffix


def open_rows(path: AnyPath) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Open a table to read it in constant memory (a .npz: in that of its other columns).

    Return the schema, and the rows, some at a time. ValueError if it is no table of `mulap embed`.
    """
    openers = {".parquet": _open_parquet, ".npz": _open_npz, ".jsonl": _open_jsonl}
    opener = openers[check_format(path)]
    try:
        schema, batches = opener(Path(path))
        schema_metadata(schema)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: does not exist. Check the path.") from error
    except _UNREADABLE as error:
        raise _not_a_table(path, error) from error
    return schema, batches


def write_rows(
    path: AnyPath, schema: pa.Schema, batches: Iterable[pa.RecordBatch], num_rows: int
) -> None:
    """Write a table a few rows at a time, in the format of its suffix; a file there is replaced.

    `num_rows` is how many there are in all; .npz has to know it before the first.
    """
    suffix = check_format(path)
    if suffix == ".parquet":
        write_parquet(path, schema, batches)
    elif suffix == ".npz":
        _write_npz(path, schema, batches, num_rows)
    else:
        with open(path, "w", encoding="utf-8") as out:
            for batch in batches:
                write_json_lines(out, batch)


def write_parquet(path: AnyPath, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write a .parquet file a row group at a time.

    Equal rows make equal bytes, however they are cut into batches.
    """
    dictionary: Any = TEXT_COLUMNS  # the stubs know a boolean only; vectors gain nothing from one
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=dictionary) as writer:
        for table in _cut(batches, schema):
            writer.write_table(table)


def write_json_lines(out: TextIO, batch: pa.RecordBatch) -> None:
    """Write rows as JSON objects, one a line; the numbers read back to the same float32."""
    metadata = json.dumps(schema_metadata(batch.schema), ensure_ascii=False)
    ends = batch.select(TEXT_COLUMNS[1:]).to_pylist()
    heads = batch.drop_columns(["embedding", *TEXT_COLUMNS[1:]]).to_pylist()
    for head, end, vector in zip(heads, ends, batch_embeddings(batch), strict=True):
        numbers = ", ".join(map("%.9g".__mod__, vector.tolist()))  # json would print doubles
        first, last = json.dumps(head, ensure_ascii=False)[:-1], json.dumps(end)[1:-1]
        out.write(f'{first}, "embedding": [{numbers}], {last}, "metadata": {metadata}}}\n')


def _open_parquet(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    file = pq.ParquetFile(path)
    schema = file.schema_arrow
    if "audio_key" not in schema.names:
        schema = schema.append(pa.field("audio_key", pa.string()))
    return schema, map(add_keys, file.iter_batches(batch_size=_ROWS_AT_ONCE))


def add_keys(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add the column that tables of mulap 0.1 lack."""
    if "audio_key" in batch.schema.names:
        return batch
    return batch.append_column("audio_key", pa.array([""] * len(batch), pa.string()))


def _cut(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Cut rows into tables of `_ROWS_AT_ONCE`, the last one what is left, each in one piece."""
    held, num_held = [], 0
    for batch in batches:
        while num_held + len(batch) >= _ROWS_AT_ONCE:
            num_missing = _ROWS_AT_ONCE - num_held
            held.append(batch[:num_missing])
            yield pa.Table.from_batches(held, schema).combine_chunks()
            batch, held, num_held = batch[num_missing:], [], 0
        if len(batch):
            held.append(batch)
            num_held += len(batch)
    if held:
        yield pa.Table.from_batches(held, schema).combine_chunks()


def _open_npz(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    # Opened here, since numpy leaves a file open that it finds to be no archive.
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as arrays:
        metadata = json.loads(str(arrays["metadata"]))
        columns = {name: arrays[name] for name in ("segment_index", "start_seconds")}
        columns |= {name: arrays[name].tolist() for name in TEXT_COLUMNS[:2]}
        is_keyed = "audio_key" in arrays
        columns["audio_key"] = (
            arrays["audio_key"].tolist() if is_keyed else [""] * len(columns["file"])
        )
    with zipfile.ZipFile(path) as archive, archive.open("embeddings.npy") as file:
        np.lib.format.read_magic(file)
        (num_rows, size), _, _ = np.lib.format.read_array_header_1_0(file)
    schema = row_schema(size, metadata)

    def batches() -> Iterator[pa.RecordBatch]:
        with zipfile.ZipFile(path) as archive, archive.open("embeddings.npy") as file:
            np.lib.format.read_magic(file)
            np.lib.format.read_array_header_1_0(file)
            for start in range(0, num_rows, _ROWS_AT_ONCE):
                rows = slice(start, min(start + _ROWS_AT_ONCE, num_rows))
                flat = np.frombuffer(file.read((rows.stop - start) * size * 4), "<f4")
                some = {name: values[rows] for name, values in columns.items()}
                yield row_batch(schema, some, flat.reshape(-1, size))

    return schema, batches()


def _write_npz(
    path: AnyPath, schema: pa.Schema, batches: Iterable[pa.RecordBatch], num_rows: int
) -> None:
    """Write as `numpy.savez` would, but for the vectors, which never are in memory at once."""
    names = [name for name in schema.names if name != "embedding"]
    shape = (num_rows, schema.field("embedding").type.list_size)
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    others = []
    with zipfile.ZipFile(path, "w") as archive:
        # Entries by ZipInfo carry no time, so the same rows make the same bytes.
        with archive.open(zipfile.ZipInfo("embeddings.npy"), "w", force_zip64=True) as out:
            np.lib.format.write_array_header_1_0(out, header)
            for batch in batches:
                others.append(batch.select(names))
                out.write(batch_embeddings(batch).astype("<f4", copy=False).tobytes())
        table = pa.Table.from_batches(others, schema.remove(schema.get_field_index("embedding")))
        arrays = {name: np.array(table[name].to_pylist()) for name in TEXT_COLUMNS}
        arrays |= {name: table[name].to_numpy() for name in names if name not in TEXT_COLUMNS}
        arrays["metadata"] = np.array(json.dumps(schema_metadata(schema)))
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def _open_jsonl(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    with open(path, encoding="utf-8") as file:
        first = json.loads(file.readline())
    schema = row_schema(len(first["embedding"]), first["metadata"])

    def batches() -> Iterator[pa.RecordBatch]:
        names = [name for name in schema.names if name not in ("embedding", "audio_key")]
        with open(path, encoding="utf-8") as file:
            while lines := list(itertools.islice(file, _ROWS_AT_ONCE)):
                try:
                    rows = [json.loads(line) for line in lines]
                    vectors = np.array([row["embedding"] for row in rows], np.float32)
                    some = {name: [row[name] for row in rows] for name in names}
                    some["audio_key"] = [row.get("audio_key", "") for row in rows]
                    yield row_batch(schema, some, vectors)
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    raise _not_a_table(path, error) from error

    return schema, batches()


def _not_a_table(path: AnyPath, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path}: is not a table of mulap embed ({reason}). Give one that it wrote.")
