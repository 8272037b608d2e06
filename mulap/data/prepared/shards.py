"""Writes one shard of a prepared data set: clips -> an Arrow stream, or a tar of FLAC files.

    Arrow   track_id | captions | group | split | source | caption_sources | log_mel (T x F x N)
                                                                           | pcm, pcm_step, ...
    tar     000000017.flac 000000017.json {"text": [...], "track_id", "group", "split"} ...

A shard's bytes depend on its clips and the recipe alone. Arrow's stream format and the names of the
columns are what Hugging Face's `datasets` reads; the tar is laid out as LAION's and the
`webdataset` package's are: the files of a track stand together, its key has no dot in it, and keys
are in order. A clip that cannot be decoded is left out and named.

Samples as int16 count steps of `pcm_step`, the least power of two with which all of them fit:
nothing is clipped (a decoded mp3 often exceeds 1), quiet tracks keep 15 bits, and 16-bit files at
this rate survive to the bit. They are off by half a step at most, 1/32,767 of the peak. A tar's
FLAC has one step, 1/32,768: samples beyond 1 are clipped.
"""

import io
import json
import math
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import soundfile

from mulap.audio import log_note
from mulap.data.clips import Clip
from mulap.data.prepared.recipe import DTYPES, Recipe, Store, audio_settings
from mulap.data.reader import Decoded, Decoding, decode_file
from mulap.files import AnyPath, atomic_path
from mulap.model.features import MulapFeatureExtractor

CLIP_FIELDS = pa.schema(
    [
        pa.field("track_id", pa.string()),
        pa.field("captions", pa.list_(pa.string())),
        pa.field("group", pa.string()),
        pa.field("split", pa.string()),
        pa.field("source", pa.string()),
        pa.field("caption_sources", pa.list_(pa.string())),  # not of version 0.1
    ]
)
_BATCH_BYTES = 4 * 2**20  # of audio: rows are gathered up to this before they are written
_LEAST_EXPONENT = -126  # of a normal float32


DEFAULT_SECONDS = {"log-mel": 20.0, "pcm": None, "tars": None}
"""How much of a track: log-mels of the paper's crop; samples of all, for random crops."""


def make_recipe(
    store: Store,
    seconds: float | None = None,
    dtype: str | None = None,
    variant: Literal["port", "original"] = "port",
    db_reference: Literal["segment", "batch"] = "segment",
    group_column: str | None = None,
) -> Recipe:
    """Return a recipe, filled up with what is usual for a store; ValueError if it makes no sense.

    Infinite seconds are for all of a track, None for what is usual.
    """
    if store not in DTYPES:
        raise ValueError(f"store {store!r}: must be one of {', '.join(DTYPES)}")
    seconds = DEFAULT_SECONDS[store] if seconds is None else seconds
    seconds = None if seconds == math.inf else seconds
    audio = audio_settings(MulapFeatureExtractor(variant, db_reference=db_reference), store)
    return Recipe(store, dtype or DTYPES[store][0], seconds, audio, group_column)


@dataclass
class ShardReport:
    """What became of the clips of a shard."""

    num_clips: int = 0  # written
    audio_seconds: float = 0.0  # of audio in them
    # (file, reason) of those left out
    failures: list[tuple[str, str]] = field(default_factory=list)


def write_shard(
    path: AnyPath, clips: Sequence[Clip], first_index: int, recipe: Recipe
) -> ShardReport:
    """Decode some clips into one file, which appears whole or not at all.

    The position of the first of them among all clips makes the keys of a tar.
    """
    report = ShardReport()
    with atomic_path(path) as temporary:
        if recipe.store == "tars":
            _write_tar(temporary, clips, first_index, recipe, report)
        else:
            _write_arrow(temporary, clips, recipe, report)
    return report


def shard_schema(recipe: Recipe) -> pa.Schema:
    """Return the columns of an Arrow shard."""
    number = pa.from_numpy_dtype(np.dtype(recipe.dtype))
    if recipe.store == "pcm":
        audio = [
            pa.field("pcm", pa.list_(number)),
            pa.field("pcm_step", pa.float32()),
            pa.field("duration_seconds", pa.float64()),
        ]
    else:
        extractor = MulapFeatureExtractor(**recipe.audio)
        segment = pa.list_(pa.list_(number, extractor.num_frames), extractor.num_mel_bins)
        audio = [pa.field("log_mel", pa.list_(segment))]
    return pa.schema([*CLIP_FIELDS, *audio])


def _write_arrow(path: Path, clips: Sequence[Clip], recipe: Recipe, report: ShardReport) -> None:
    schema = shard_schema(recipe)
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_stream(out, schema) as writer:
        rows: list[dict[str, Any]] = []
        num_bytes = 0
        for _, clip, decoded in _decode_clips(clips, recipe, report):
            rows.append(describe_clip(clip) | decoded)
            num_bytes += decoded[schema.names[len(CLIP_FIELDS)]].nbytes
            if num_bytes >= _BATCH_BYTES:
                writer.write_batch(_make_batch(schema, rows))
                rows, num_bytes = [], 0
        if rows:
            writer.write_batch(_make_batch(schema, rows))


def _write_tar(
    path: Path, clips: Sequence[Clip], first_index: int, recipe: Recipe, report: ShardReport
) -> None:
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, clip, decoded in _decode_clips(clips, recipe, report):
            row = describe_clip(clip)
            said = {"text": row["captions"]} | {k: row[k] for k in ("track_id", "group", "split")}
            if row["caption_sources"]:
                said["caption_source"] = row["caption_sources"]
            key = f"{first_index + number:09d}"
            _add_file(tar, f"{key}.flac", decoded["flac"])
            _add_file(tar, f"{key}.json", json.dumps(said).encode("ascii"))


def _add_file(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)  # of no owner and no time: the same bytes everywhere
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def describe_clip(clip: Clip) -> dict[str, Any]:
    """Return the values of `CLIP_FIELDS` of a clip."""
    values: dict[str, Any] = {name: getattr(clip, name) for name in CLIP_FIELDS.names}
    # A lone surrogate, of a file name that is not UTF-8, cannot be stored: it becomes an escape.
    return {
        name: [*map(_as_utf8, value)] if isinstance(value, tuple) else _as_utf8(value)
        for name, value in values.items()
    }


def _as_utf8(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _decode_clips(
    clips: Sequence[Clip], recipe: Recipe, report: ShardReport
) -> Iterator[tuple[int, Clip, dict[str, Any]]]:
    """Yield (number, clip, audio columns) of each clip that can be decoded."""
    extractor = MulapFeatureExtractor(**recipe.audio)
    keep = "log-mels" if recipe.store == "log-mel" else "samples"
    decoding = Decoding(extractor.sampling_rate, recipe.seconds, keep, extractor)
    for number, clip in enumerate(clips):
        decoded = decode_file(decoding, clip.audio_path)
        if decoded.reason:
            report.failures.append((str(clip.audio_path), decoded.reason))
            continue
        for note in decoded.notes:
            log_note(clip.audio_path, note)
        report.num_clips += 1
        report.audio_seconds += decoded.num_samples / extractor.sampling_rate
        yield number, clip, _columns(decoded, recipe)


def _columns(decoded: Decoded, recipe: Recipe) -> dict[str, Any]:
    """Return what is stored of a track: columns of an Arrow shard, or a FLAC file of a tar."""
    if recipe.store == "log-mel":
        assert decoded.log_mels is not None
        return {"log_mel": decoded.log_mels.astype(recipe.dtype)}
    assert decoded.samples is not None
    samples, step = decoded.samples, np.float32(1.0)
    if recipe.store == "tars":
        out = io.BytesIO()
        soundfile.write(
            out, samples, recipe.audio["sampling_rate"], format="FLAC", subtype="PCM_16"
        )
        return {"flac": out.getvalue()}
    if recipe.dtype == "int16":
        step = _int16_step(samples)
        samples /= step  # in place: a track of hours is here
        samples = np.rint(samples, out=samples).astype(np.int16)
    return {"pcm": samples, "pcm_step": step, "duration_seconds": decoded.duration_seconds}


def _int16_step(samples: np.ndarray) -> np.float32:
    """Return the smallest power-of-two step with which every sample fits into int16."""
    most, least = float(samples.max()), float(samples.min())
    mantissa, exponent = math.frexp(max(most / 32_767, least / -32_768))
    exponent -= mantissa == 0.5  # it is a power of two itself
    return np.float32(2.0 ** max(exponent, _LEAST_EXPONENT))


def _make_batch(schema: pa.Schema, rows: list[dict[str, Any]]) -> pa.RecordBatch:
    columns = []
    for column in schema:
        values = [row[column.name] for row in rows]
        is_array = isinstance(values[0], np.ndarray)
        columns.append(_as_lists(values, column) if is_array else pa.array(values, column.type))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _as_lists(arrays: list[np.ndarray], column: pa.Field) -> pa.Array:
    """Return arrays (T, ...) of different lengths T as one Arrow column, without Python's lists."""
    joined = np.concatenate(arrays)
    values = pa.array(joined.reshape(-1))
    for size in reversed(joined.shape[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, size)
    offsets = np.cumsum([0, *map(len, arrays)], dtype=np.int32)
    return pa.ListArray.from_arrays(offsets, values).cast(column.type)
