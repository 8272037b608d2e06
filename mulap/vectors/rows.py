"""Rows of embeddings as Arrow record batches, as they travel to and from files of any format.

    file           the path as given the first time
    segment_index  position in the file; 0 for a whole track
    start_seconds  where the segment starts
    embedding      float32, of fixed length
    file_version   the file's size and modification time, to see whether it has changed
    audio_key      of the audio in the file, see `mulap.vectors.keys`; empty in tables of mulap 0.1

The metadata (model, hash of the weights, feature settings, level) is JSON in the schema's metadata.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

TEXT_COLUMNS = ["file", "file_version", "audio_key"]
_METADATA_KEY = b"mulap"


class FileRows(NamedTuple):
    """What a table holds of one file."""

    version: str  # of the file that the rows were made of
    key: str  # of its audio; empty in tables of mulap 0.1
    num_rows: int  # how many


def row_schema(embedding_size: int, metadata: dict[str, Any]) -> pa.Schema:
    """Return the columns of a table of embeddings of a length; the metadata say what made them."""
    columns = [
        ("file", pa.string()),
        ("segment_index", pa.int32()),
        ("start_seconds", pa.float64()),
        ("embedding", pa.list_(pa.float32(), embedding_size)),
        ("file_version", pa.string()),
        ("audio_key", pa.string()),
    ]
    return pa.schema(columns, {_METADATA_KEY: json.dumps(metadata)})


def schema_metadata(schema: pa.Schema) -> dict[str, Any]:
    """Return the metadata that `row_schema` was given; ValueError if it did not make the schema."""
    if _METADATA_KEY not in (schema.metadata or {}):
        raise ValueError("it has no metadata of mulap")
    return json.loads(schema.metadata[_METADATA_KEY])


def row_batch(schema: pa.Schema, columns: dict[str, Any], embeddings: np.ndarray) -> pa.RecordBatch:
    """Make rows of embeddings, float32 (rows, D), in the order of the schema.

    The other columns are given by name; one string stands for all rows.
    """
    size = schema.field("embedding").type.list_size
    flat = pa.array(np.ascontiguousarray(embeddings, np.float32).reshape(-1))
    vectors = pa.FixedSizeListArray.from_arrays(flat, size)
    whole = {"embedding": vectors}
    for name, values in columns.items():
        whole[name] = [values] * len(embeddings) if isinstance(values, str) else values
    return pa.record_batch([pa.array(whole[each.name], each.type) for each in schema], schema)


def file_batches(
    schema: pa.Schema,
    about: FileRows,
    file: str,
    blocks: Iterable[np.ndarray],
    stride_seconds: float,
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a file, whose vectors come in blocks of float32 (M, D)."""
    first = 0
    for vectors in blocks:
        index = np.arange(first, first + len(vectors), dtype=np.int32)
        columns = {
            "file": file,
            "segment_index": index,
            "start_seconds": index * stride_seconds,
            "file_version": about.version,
            "audio_key": about.key,
        }
        yield row_batch(schema, columns, vectors)
        first += len(vectors)


def batch_embeddings(batch: pa.RecordBatch | pa.Table) -> np.ndarray:
    """Return the vectors of some rows, float32 (rows, D)."""
    size = batch.schema.field("embedding").type.list_size
    column = batch.column("embedding")
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    flat = [np.empty(0, np.float32), *(chunk.flatten().to_numpy() for chunk in chunks)]
    return np.concatenate(flat).reshape(-1, size)
