"""Tensors as they lie in a model's safetensors: their places, and hashes of them."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

# What makes a float32 of each type that is stored: numpy knows no bfloat16.
_FLOATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_NAMES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
}  # fmt: skip


class Stored(NamedTuple):
    """Where a tensor lies.

    Attributes:
        path: of the file.
        offset: of its first byte.
        length: in bytes.
        kind: of its numbers, such as F16.
        shape: of the tensor.
    """

    path: Path
    offset: int
    length: int
    kind: str
    shape: tuple[int, ...]


def find_tensors(folder: Path) -> dict[str, Stored]:
    """Return where each tensor of a folder's `model*.safetensors` lies.

    Raises:
        ValueError: there are none, or they cannot be read.
    """
    found: dict[str, Stored] = {}
    try:
        for path in sorted(folder.glob("model*.safetensors")):
            with open(path, "rb") as file:
                start = 8 + int.from_bytes(file.read(8), "little")
                header = json.loads(file.read(start - 8))
            header.pop("__metadata__", None)
            for name, entry in header.items():
                first, last = entry["data_offsets"]
                place = start + first, last - first, entry["dtype"], tuple(entry["shape"])
                found[name] = Stored(path, *place)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, MemoryError) as error:
        raise ValueError(
            f"{folder}: its weights cannot be read, {error}. Copy it again."
        ) from error
    if not found:
        raise ValueError(f"{folder}: there is no model.safetensors. Other formats are not read.")
    return found


def hash_stored(
    folder: Path, prefixes: Sequence[str], parts: tuple[str, ...], as_float32: bool = False
) -> str:
    """Return the SHA-256 of some of a model's tensors; see `hash_arrays`.

    Args:
        folder: of the model.
        prefixes: where the parts may hang in; the first one that is there counts.
        parts: how the names begin after the prefix.
        as_float32: of floats as a network has them, and not as they are stored.
    """
    places = find_tensors(folder)
    for prefix in prefixes:
        starts = tuple(prefix + part for part in parts)
        names = [name for name in places if name.startswith(starts)]
        if names:
            return hash_arrays(
                (name.removeprefix(prefix), *_read(places[name], as_float32)) for name in names
            )
    return hash_arrays(())


def hash_arrays(arrays: Iterable[tuple[str, tuple[int, ...], str, bytes]]) -> str:
    """Return the SHA-256 of names, shapes, types and bytes of tensors, in order of name."""
    digest = hashlib.sha256()
    for name, shape, kind, data in sorted(arrays):
        digest.update(f"{name}{tuple(shape)}torch.{kind}".encode())
        digest.update(data)
    return digest.hexdigest()


def _read(place: Stored, as_float32: bool) -> tuple[tuple[int, ...], str, bytes]:
    with open(place.path, "rb") as file:
        file.seek(place.offset)
        data = file.read(place.length)
    kind = _NAMES.get(place.kind, place.kind)
    if not (as_float32 and place.kind in _FLOATS):
        return place.shape, kind, data
    values = np.frombuffer(data, _FLOATS[place.kind])
    if place.kind == "BF16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return place.shape, "float32", values.astype(np.float32).tobytes()
