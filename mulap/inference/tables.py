"""Embeddings on disk: .parquet, .npz or .jsonl, written and read a few rows at a time.

Inside the package rows travel as Arrow record batches, whatever the format:

    file           as the path was given
    segment_index  position in the file; 0 for a whole track
    start_seconds  where the segment starts
    embedding      float32, of fixed length
    file_version   size and time of change of the file, to tell whether it is still the same

.npz holds an array for each (`embeddings` (rows, D) for the last but one), .jsonl an object a row.
What made the rows (model, weights' hash, feature settings, level) is JSON in the schema's metadata,
in the array `metadata`, or in every object. It knows no model and no audio.
"""

import itertools
import json
import os
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FORMATS = (".parquet", ".npz", ".jsonl")
_METADATA_KEY = b"mulap"
_ROWS_AT_ONCE = 512
_TEXT_COLUMNS = ["file", "file_version"]
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

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Embeddings:
    """A table of embeddings in memory.

    Attributes:
        files: path of each row's file, str (rows,).
        segment_index: int32 (rows,).
        start_seconds: float64 (rows,).
        embeddings: float32 (rows, D).
        metadata: what made them: `model`, `weights_sha256`, `features`, `level`.
    """

    files: np.ndarray
    segment_index: np.ndarray
    start_seconds: np.ndarray
    embeddings: np.ndarray
    metadata: dict[str, Any]


def check_format(path: AnyPath) -> str:
    """Return a table's format, its suffix in lower case.

    Raises:
        ValueError: the suffix is none of `FORMATS`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in FORMATS:
        known = ", ".join(FORMATS)
        raise ValueError(
            f"{path}: '{suffix}' is no format for embeddings (end it in one of {known})"
        )
    return suffix


def row_schema(embedding_size: int, metadata: dict[str, Any]) -> pa.Schema:
    """Return the columns of a table of embeddings.

    Args:
        embedding_size: length of a vector.
        metadata: what made the vectors.
    """
    columns = [
        ("file", pa.string()),
        ("segment_index", pa.int32()),
        ("start_seconds", pa.float64()),
        ("embedding", pa.list_(pa.float32(), embedding_size)),
        ("file_version", pa.string()),
    ]
    return pa.schema(columns, {_METADATA_KEY: json.dumps(metadata)})


def schema_metadata(schema: pa.Schema) -> dict[str, Any]:
    """Return the metadata that `row_schema` was given.

    Raises:
        ValueError: the schema is not of its making.
    """
    if _METADATA_KEY not in (schema.metadata or {}):
        raise ValueError("there is no metadata of mulap in it")
    return json.loads(schema.metadata[_METADATA_KEY])


def row_batch(schema: pa.Schema, columns: dict[str, Any], embeddings: np.ndarray) -> pa.RecordBatch:
    """Make rows.

    Args:
        schema: from `row_schema`.
        columns: the other columns by name; one string stands for all rows.
        embeddings: float32 (rows, D).

    Returns:
        The rows, in the order of the schema.
    """
    size = schema.field("embedding").type.list_size
    flat = pa.array(np.ascontiguousarray(embeddings, np.float32).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, size)
    whole = {"embedding": vectors}
    for name, values in columns.items():
        whole[name] = [values] * len(embeddings) if isinstance(values, str) else values
    return pa.record_batch([pa.array(whole[name], type) for name, type in _types(schema)], schema)


def batch_embeddings(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """Return the vectors of some rows, float32 (rows, D)."""
    size = batch.schema.field("embedding").type.list_size
    column = batch.column("embedding")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [np.empty(0, np.float32), *(chunk.flatten().to_numpy() for chunk in chunks)]
    return np.concatenate(flat).reshape(-1, size)


def read_embeddings(path: AnyPath) -> Embeddings:
    """Read a table of embeddings whole.

    Args:
        path: a .parquet, .npz or .jsonl file that `mulap embed` wrote.

    Returns:
        Its rows, in the order of the file.

    Raises:
        ValueError: the file is missing, or no such table.
    """
    schema, batches = open_rows(path)
    table = pa.Table.from_batches(batches, schema)
    return Embeddings(
        files=np.array(table["file"].to_pylist(), dtype=str),
        segment_index=table["segment_index"].to_numpy(),
        start_seconds=table["start_seconds"].to_numpy(),
        embeddings=batch_embeddings(table),
        metadata=schema_metadata(schema),
    )


def open_rows(path: AnyPath) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    """Open a table to read it in constant memory (a .npz: in that of its other columns).

    Args:
        path: of a format that its suffix tells.

    Returns:
        The schema, and the rows, some at a time.

    Raises:
        ValueError: the file is missing, or no table of `mulap embed`.
    """
    openers = {".parquet": _open_parquet, ".npz": _open_npz, ".jsonl": _open_jsonl}
    opener = openers[check_format(path)]
    try:
        schema, batches = opener(Path(path))
        schema_metadata(schema)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: does not exist (check the path)") from error
    except _UNREADABLE as error:
        raise _not_a_table(path, error) from error
    return schema, batches


def count_rows(path: AnyPath) -> tuple[pa.Schema, Counter[tuple[str, str]]]:
    """Return a table's schema and how many rows each (file, file_version) has in it."""
    schema, batches = open_rows(path)
    if check_format(path) == ".parquet":
        batches = pq.ParquetFile(path).iter_batches(columns=_TEXT_COLUMNS)
    counts: Counter[tuple[str, str]] = Counter()
    for batch in batches:
        counts.update(zip(*(batch.column(name).to_pylist() for name in _TEXT_COLUMNS), strict=True))
    return schema, counts


def write_rows(
    path: AnyPath, schema: pa.Schema, batches: Iterable[pa.RecordBatch], num_rows: int
) -> None:
    """Write a table a few rows at a time.

    Args:
        path: overwritten; its suffix tells the format.
        schema: from `row_schema`.
        batches: the rows.
        num_rows: how many there are in all; .npz has to know it before the first.
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


def write_parquet(path: AnyPath, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> int:
    """Write a .parquet file a row group at a time; return the number of rows.

    Equal rows make equal bytes, however they are cut into batches.
    """
    num_rows = 0
    dictionary: Any = _TEXT_COLUMNS  # the stubs know a boolean only; vectors gain nothing from one
    with pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=dictionary) as writer:
        for table in _cut(batches, schema):
            num_rows += len(table)
            writer.write_table(table)
    return num_rows


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


def write_json_lines(out: TextIO, batch: pa.RecordBatch) -> None:
    """Write rows as JSON objects, one a line; the numbers read back to the same float32."""
    metadata = json.dumps(schema_metadata(batch.schema), ensure_ascii=False)
    others = batch.drop_columns(["embedding", "file_version"]).to_pylist()
    versions = batch.column("file_version").to_pylist()
    for row, version, vector in zip(others, versions, batch_embeddings(batch), strict=True):
        head = json.dumps(row, ensure_ascii=False)[:-1]
        numbers = ", ".join(map("%.9g".__mod__, vector.tolist()))  # json would print doubles
        tail = f'"file_version": {json.dumps(version)}, "metadata": {metadata}'
        out.write(f'{head}, "embedding": [{numbers}], {tail}}}\n')


def _types(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return [(field.name, field.type) for field in schema]


def _not_a_table(path: AnyPath, error: Exception) -> ValueError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ValueError(f"{path}: is no table of mulap embed, {reason} (give one that it wrote)")


def _open_parquet(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    file = pq.ParquetFile(path)
    return file.schema_arrow, file.iter_batches(batch_size=_ROWS_AT_ONCE)


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
        arrays = {name: np.array(table[name].to_pylist()) for name in _TEXT_COLUMNS}
        arrays |= {name: table[name].to_numpy() for name in names if name not in _TEXT_COLUMNS}
        arrays["metadata"] = np.array(json.dumps(schema_metadata(schema)))
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as out:
                np.lib.format.write_array(out, array, allow_pickle=False)


def _open_npz(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    # Opened here, since numpy leaves a file open that it finds to be no archive.
    with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as arrays:
        metadata = json.loads(str(arrays["metadata"]))
        columns = {name: arrays[name] for name in ("segment_index", "start_seconds")}
        columns |= {name: arrays[name].tolist() for name in _TEXT_COLUMNS}
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


def _open_jsonl(path: Path) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    with open(path, encoding="utf-8") as file:
        first = json.loads(file.readline())
    schema = row_schema(len(first["embedding"]), first["metadata"])

    def batches() -> Iterator[pa.RecordBatch]:
        names = [name for name in schema.names if name != "embedding"]
        with open(path, encoding="utf-8") as file:
            while lines := list(itertools.islice(file, _ROWS_AT_ONCE)):
                try:
                    rows = [json.loads(line) for line in lines]
                    vectors = np.array([row["embedding"] for row in rows], np.float32)
                    some = {name: [row[name] for row in rows] for name in names}
                    yield row_batch(schema, some, vectors)
                except (KeyError, TypeError, ValueError, RecursionError) as error:
                    raise _not_a_table(path, error) from error

    return schema, batches()
