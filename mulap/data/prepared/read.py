"""A prepared data set, read: tracks decoded once, in Arrow files that are memory-mapped.

    PREPARED/data-00000-of-00063.arrow   tracks with their captions: an Arrow stream each
             clips.arrow                 the same without the audio: what the manifest is read from
             dataset_info.json, state.json   for `datasets.load_from_disk`, not for us
             failures.jsonl              what could not be used, if anything
             prepared.json               recipe, sizes and SHA-256 of all .arrow; written last

A row is found by arithmetic and read from the map: 72 KB a segment for log-mels, 32 KB a second for
16-bit samples, and nothing is decoded. Of a clip, memory holds 8 bytes (its row in the order of its
split); captions and names stay in `clips.arrow`, about 200 bytes a clip on disk, and become a
`Clip` when they are asked for. So ten million clips need 80 MB here, and a map of 2 GB that all
processes of a machine share. Shards are opened when they are needed and at most 256 at a time.

Opening compares the size of every shard and the checksum of `clips.arrow` with `prepared.json`;
`verify_prepared` reads everything.
"""

import functools
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mulap.data.clips import Clip, LazyClips, Manifest
from mulap.data.prepared.recipe import Recipe
from mulap.data.row_files import one_line
from mulap.files import AnyPath, sha256_of
from mulap.terminal import BYTES, Progress

SUMMARY_FILE, CLIPS_FILE = "prepared.json", "clips.arrow"
VERSION = 1
_OPEN_SHARDS = 256
_ROWS_AT_ONCE = 10_000


class PreparedData:
    """A prepared data set on disk.

    Args:
        folder: what `mulap prepare` wrote.

    Attributes:
        recipe: what is stored.
        summary: what `prepared.json` says.

    Raises:
        ValueError: a file is missing, cut short or damaged, or made by another version.
    """

    def __init__(self, folder: AnyPath) -> None:
        self.folder = folder = Path(folder)
        self.summary = read_summary(folder)
        self.recipe = Recipe(**self.summary["recipe"])
        shards = self.summary["shards"]
        self._ends = np.cumsum([shard["num_clips"] for shard in shards])
        for file in [*shards, self.summary["clips"]]:
            if reason := _check_size(folder, file):
                raise _damaged(folder / file["file"], reason)
        self._open_shard = functools.lru_cache(_OPEN_SHARDS)(self._map_shard)

    def __reduce__(self) -> tuple[type, tuple[Path]]:
        return PreparedData, (self.folder,)  # another process maps the files for itself

    def __len__(self) -> int:
        return int(self.summary["num_clips"])

    @functools.cached_property
    def sha256(self) -> str:
        """Hash of all shards' hashes."""
        each = "".join(shard["sha256"] for shard in self.summary["shards"])
        return hashlib.sha256(each.encode()).hexdigest()

    @functools.cached_property
    def descriptions(self) -> "_Rows":
        """Track ids, captions, groups, splits and sources of all rows."""
        return _Rows(self.folder / CLIPS_FILE)

    def read(self, row: int, column: str) -> pa.Array:
        """Return one row of a column as an Arrow array of length 1 that copies nothing."""
        shard = int(np.searchsorted(self._ends, row, side="right"))
        rows = self._open_shard(shard)
        return rows[row - int(self._ends[shard]) + len(rows)].column(column)

    def _map_shard(self, shard: int) -> "_Rows":
        file = self.summary["shards"][shard]
        rows = _Rows(self.folder / file["file"])
        if len(rows) != file["num_clips"]:
            raise _damaged(rows.path, f"holds {len(rows):,} rows of {file['num_clips']:,}")
        return rows


class _Rows:
    """The rows of an Arrow stream, memory-mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.table = pa.ipc.open_stream(pa.memory_map(os.fspath(path))).read_all()
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, one_line(error)) from error
        self._batches = self.table.to_batches()
        self._ends = np.cumsum([batch.num_rows for batch in self._batches])

    def __len__(self) -> int:
        return self.table.num_rows

    def __getitem__(self, row: int) -> pa.RecordBatch:
        index = int(np.searchsorted(self._ends, row, side="right"))
        batch = self._batches[index]  # a table's own slice looks at every batch
        return batch.slice(row - int(self._ends[index]) + batch.num_rows, 1)


@dataclass(frozen=True, slots=True)
class StoredTrack:
    """The audio of one row."""

    data: PreparedData  # the data set
    row: int  # in it

    @property
    def folder(self) -> Path:
        """The data set's folder."""
        return self.data.folder

    @property
    def key(self) -> str:
        """What tells this track from all others, of other prepared data sets too."""
        return f"{self.data.sha256}-{self.row}"

    @property
    def recipe(self) -> Recipe:
        """What is stored of each track."""
        return self.data.recipe

    @property
    def num_segments(self) -> int:
        """How many log-mels there are; only where log-mels are stored."""
        return len(self.data.read(self.row, "log_mel").flatten())

    @property
    def duration_seconds(self) -> float:
        """Playing time of the whole track; only where samples are stored."""
        return self.data.read(self.row, "duration_seconds")[0].as_py()

    def log_mels(self, which: slice) -> np.ndarray:
        """Return some log-mels: float32 (T, F, N), a copy."""
        bins = self.data.read(self.row, "log_mel").flatten()[which]  # T lists of F lists
        frames = bins.flatten().flatten().to_numpy()
        shape = (len(bins), bins.type.list_size, bins.type.value_type.list_size)
        return frames.reshape(shape).astype(np.float32)

    def waveform(self, start_seconds: float, duration_seconds: float) -> np.ndarray:
        """Return a part of the samples: float32 (num_samples,), less where the track ends before.

        Both ends are rounded to a sample as `load_audio` rounds them.
        """
        rate = self.data.recipe.audio["sampling_rate"]
        start = round(start_seconds * rate)
        samples = self.data.read(self.row, "pcm").flatten()
        # Version 0.1 stored what headers claimed, which may be more than could be decoded.
        start = min(start, len(samples) - 1)
        samples = samples[start : start + round(duration_seconds * rate)].to_numpy()
        if samples.dtype == np.float32:
            return samples.copy()
        return samples * np.float32(self.data.read(self.row, "pcm_step")[0].as_py())


class PreparedClips(LazyClips):
    """The clips of a prepared data set, or of some of its rows; each is made when asked for."""

    def __init__(self, data: PreparedData, rows: np.ndarray | None = None) -> None:
        self.data = data
        self.rows = np.arange(len(data)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> "PreparedClips": ...
    def __getitem__(self, index: int | slice) -> "Clip | PreparedClips":
        if isinstance(index, slice):
            return PreparedClips(self.data, self.rows[index])
        row = int(self.rows[index])
        return next(self._make_clips(np.array([row]), self.data.descriptions[row]))

    def __iter__(self) -> Iterator[Clip]:
        for begin in range(0, len(self.rows), _ROWS_AT_ONCE):
            rows = self.rows[begin : begin + _ROWS_AT_ONCE]
            yield from self._make_clips(rows, self.data.descriptions.table.take(rows))

    def split(self, name: str) -> "PreparedClips":
        """Return those of one split."""
        splits = self.data.descriptions.table.column("split").take(pa.array(self.rows))
        is_wanted = pc.call_function("equal", [splits, name]).to_numpy()
        return PreparedClips(self.data, self.rows[is_wanted])

    def count_captions(self) -> np.ndarray:
        """Return how many captions each clip has, (len(self),)."""
        captions = self.data.descriptions.table.column("captions")
        counts = pc.call_function("list_value_length", [captions]).to_numpy()
        return counts[self.rows]

    def _make_clips(self, rows: np.ndarray, said: pa.Table | pa.RecordBatch) -> Iterator[Clip]:
        names = ("captions", "track_id", "group", "split", "source")
        columns = [said.column(name).to_pylist() for name in names]
        sources: list[list[str]] = [[]] * len(rows)
        if "caption_sources" in said.schema.names:  # version 0.1 did not keep them
            sources = said.column("caption_sources").to_pylist()
        for row, of_captions, captions, *names in zip(
            rows.tolist(), sources, *columns, strict=True
        ):
            stored = StoredTrack(self.data, row)
            yield Clip(
                self.data.folder,
                tuple(captions),
                *names,
                stored=stored,
                caption_sources=tuple(of_captions),
            )


def is_prepared(folder: AnyPath) -> bool:
    """Whether this is a folder of prepared Arrow data; a folder of tars is read as any tars."""
    folder = Path(folder)
    return (folder / SUMMARY_FILE).is_file() and read_summary(folder)["recipe"]["store"] != "tars"


def read_prepared(folder: AnyPath, group_column: str | None = None) -> Manifest:
    """Read the manifest of a prepared data set, decoding nothing.

    ValueError if it is damaged, or was prepared with another group column.
    """
    folder = Path(folder)
    data = PreparedData(folder)
    prepared_with = data.recipe.group_column
    if group_column and group_column != prepared_with:
        raise ValueError(
            f"{folder}: was prepared with the group column {prepared_with or 'found by itself'}, "
            f"not {group_column}. Prepare it again with --group-column {group_column}."
        )
    if sha256_of(folder / CLIPS_FILE) != data.summary["clips"]["sha256"]:
        raise _damaged(folder / CLIPS_FILE, "its checksum is not that of prepared.json")
    return Manifest(PreparedClips(data))


def read_summary(folder: AnyPath) -> dict[str, Any]:
    """Return what `prepared.json` says; ValueError if it cannot be used."""
    path = Path(folder) / SUMMARY_FILE
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
        version = summary["version"]
        if version == VERSION:
            _check_summary(summary)
    except FileNotFoundError as error:
        reason = "no prepared corpus, or an unfinished one. Run mulap prepare again to resume."
        raise ValueError(f"{folder}: {reason}") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(path, one_line(error)) from error
    if version != VERSION:
        raise ValueError(
            f"{folder}: was prepared in format {version}, this mulap reads {VERSION}. Prepare it "
            "again with --force."
        )
    return summary


def _check_summary(summary: dict[str, Any]) -> None:
    """Raise KeyError, TypeError or ValueError where a summary is not of our making."""
    Recipe(**summary["recipe"])
    files = [*summary["shards"], *filter(None, [summary.get("clips")])]
    kinds = {"file": str, "bytes": int, "sha256": str}
    for file in files:
        if wrong := [name for name, kind in kinds.items() if not isinstance(file[name], kind)]:
            raise TypeError(f"{wrong[0]} of a file is {file[wrong[0]]!r}")
    num_clips = sum(shard["num_clips"] for shard in summary["shards"])
    if summary["num_clips"] != num_clips:
        raise ValueError(f"the shards hold {num_clips} clips, not {summary['num_clips']}")


def verify_prepared(folder: AnyPath) -> list[tuple[Path, str]]:
    """Return the damaged files of a prepared data set, tars too, and what is wrong with each."""
    folder = Path(folder)
    summary = read_summary(folder)
    files = [*summary["shards"], *filter(None, [summary.get("clips")])]
    damaged = []
    with Progress("checking", sum(file["bytes"] for file in files), BYTES) as progress:
        for file in files:
            path = folder / file["file"]
            reason = _check_size(folder, file)
            if not reason and sha256_of(path) != file["sha256"]:
                reason = "its bytes are not those that were written"
            if reason:
                damaged.append((path, reason))
            progress.advance(file["bytes"])
    return damaged


def _check_size(folder: Path, file: dict[str, Any]) -> str:
    """Say what is wrong with a file at first sight; nothing: ""."""
    try:
        size = os.stat(folder / file["file"]).st_size
    except OSError as error:
        return error.strerror or "cannot be read"
    return "" if size == file["bytes"] else f"has {size:,} bytes of {file['bytes']:,}"


def _damaged(path: Path, reason: str) -> ValueError:
    return ValueError(
        f"{path}: damaged: {reason}. Copy it again, or run mulap prepare with --force."
    )
