"""`prepare(data, output, recipe)`: decode every clip of a manifest once, in parallel processes.

    OUTPUT/data-00017-of-00063.arrow     a shard, put there whole
           .unfinished/plan.json         data and options: a run with others does not resume it
           .unfinished/00017.json        says that shard 17 is done, its checksum, what failed in it
           prepared.json                 written last; then .unfinished goes

Which clips a shard holds follows from their number and the recipe, and a shard's bytes from its
clips; so the processes, their number and any interruption change nothing. A kill costs the shards
that were being written. Clips keep their order; nothing is shuffled, since rows are read at random.

The manifest is held once, by this process, and is what grows with the data: see docs/prepare.md for
bytes a clip. A process is handed the clips of one shard at a time.
"""

import hashlib
import json
import math
import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from mulap.data.clips import Clip, Manifest
from mulap.data.manifest import read_manifest
from mulap.data.prepared.read import CLIPS_FILE, SUMMARY_FILE, VERSION, is_prepared, read_summary
from mulap.data.prepared.recipe import Recipe
from mulap.data.prepared.shards import CLIP_FIELDS, write_shard
from mulap.data.row_files import UNFINISHED
from mulap.files import AnyPath, FailureLog, atomic_path, read_failures, remove_leftover, sha256_of
from mulap.locks import hold_lock
from mulap.pools import run_tasks
from mulap.terminal import Progress

LOCK_FILE = ".lock"
FAILURES_FILE = "failures.jsonl"
_SHARD_BYTES = 512 * 2**20
_MIN_SHARDS, _MIN_SHARD_CLIPS = 64, 16  # a small corpus keeps many processes busy as well
_TRACK_SECONDS = 240.0  # what a whole track is taken to last when shards are planned
_ROWS_AT_ONCE = 65_536
_HF_FILES = ("dataset_info.json", "state.json")
_IS_OURS = re.compile(r"data-\d{5,}-of-\d{5,}\.arrow|\d{5,}\.tar|\..+\.partial.*")


@dataclass(frozen=True)
class PrepareReport:
    """What was made."""

    output: Path  # the folder
    num_clips: int  # prepared, by this run and those before it
    audio_seconds: float  # of audio in them
    num_bytes: int  # of all shards
    num_shards: int  # files that hold them
    # (file or row, reason) of what could not be used; listed in failures.jsonl too
    failures: list[tuple[str, str]] = field(default_factory=list)
    new_audio_seconds: float = 0.0  # decoded by this run
    elapsed_seconds: float = 0.0  # of this run


@dataclass(frozen=True)
class _Task:
    """One shard to be written, and where to note that it was: all that a process has to know."""

    path: Path
    mark: Path
    clips: list[Clip]
    first_index: int
    recipe: Recipe


def prepare(
    data: AnyPath,
    output: AnyPath,
    recipe: Recipe,
    num_processes: int = 1,
    force: bool = False,
    cache_folder: AnyPath | None = None,
) -> PrepareReport:
    """Decode every clip of a manifest once, or resume an earlier call.

    Args:
        data: anything that `read_manifest` reads.
        output: a new folder, or one that this left.
        recipe: what to store.
        num_processes: that decode; with 1 it is this one.
        force: start again, and replace an earlier preparation.
        cache_folder: where tars and audio in parquet files are unpacked.

    Raises:
        ValueError: the data cannot be used at all, the folder holds something else, or another
            process is at work there.
        OSError: the folder cannot be written.
    """
    began = time.monotonic()
    data, output = Path(data), Path(output)
    if is_prepared(data):
        raise ValueError(f"{data}: is already prepared. Name the corpus that it was made from.")
    manifest = read_manifest(data, group_column=recipe.group_column, cache_folder=cache_folder)
    plan = _make_plan(manifest, recipe)
    _check_output(output, data)
    output.mkdir(parents=True, exist_ok=True)
    message = f"{output}: another process is at work here. Wait for it, or end it."
    with hold_lock(output / LOCK_FILE, message):
        if force:
            _remove_ours(output)
        if _is_finished(output, plan):
            return _report(output, read_summary(output), read_failures(output / FAILURES_FILE))
        _start_or_go_on(output, plan)
        tasks = list(_make_tasks(output, manifest.clips, recipe))
        new_seconds = _write_shards(tasks, len(manifest.clips), num_processes)
        failures = _finish(output, plan, manifest, tasks)
        seconds = time.monotonic() - began
        return _report(output, read_summary(output), failures, new_seconds, seconds)


def clips_per_shard(num_clips: int, recipe: Recipe) -> int:
    """Return how many clips a shard holds: up to half a GB, fewer where that makes few shards."""
    bytes_a_second = {"log-mel": 6_000, "pcm": 16_000, "tars": 16_000}[recipe.store]
    width = {"float32": 4, "float16": 2, "int16": 2}[recipe.dtype]
    clip_bytes = (recipe.seconds or _TRACK_SECONDS) * bytes_a_second * width
    for_size = max(1, int(_SHARD_BYTES / clip_bytes))
    return min(for_size, max(_MIN_SHARD_CLIPS, math.ceil(num_clips / _MIN_SHARDS)))


def write_task(task: _Task) -> tuple[int, float]:
    """Write a shard and its mark, in a process of its own; return clips and seconds of audio."""
    report = write_shard(task.path, task.clips, task.first_index, task.recipe)
    mark = asdict(report) | {"shard": _describe_file(task.path)}
    _write_json(task.mark, mark)
    return len(task.clips), report.audio_seconds


def _make_plan(manifest: Manifest, recipe: Recipe) -> dict[str, Any]:
    digest = hashlib.sha256()
    for clip in manifest.clips:
        status = clip.audio_path.stat()  # a file that changed is not gone on with
        version = (status.st_size, status.st_mtime_ns)
        captions = (*clip.captions, *clip.caption_sources)
        row = (clip.track_id, clip.group, clip.split, *captions, *version)
        digest.update(json.dumps(row).encode())
    num_clips = len(manifest.clips)
    shards = math.ceil(num_clips / clips_per_shard(num_clips, recipe))
    columns = CLIP_FIELDS.names  # what another version began has others
    source = {"num_clips": num_clips, "sha256": digest.hexdigest(), "columns": columns}
    plan = {"version": VERSION, "recipe": asdict(recipe), "source": source, "num_shards": shards}
    return json.loads(json.dumps(plan))


def _make_tasks(output: Path, clips: Any, recipe: Recipe) -> Iterator[_Task]:
    size = clips_per_shard(len(clips), recipe)
    num_shards = math.ceil(len(clips) / size)
    for shard in range(num_shards):
        name = f"data-{shard:05d}-of-{num_shards:05d}.arrow"
        if recipe.store == "tars":
            name = f"{shard:05d}.tar"
        mark = output / UNFINISHED / f"{shard:05d}.json"
        first = shard * size
        yield _Task(output / name, mark, clips[first : first + size], first, recipe)


def _write_shards(tasks: list[_Task], num_clips: int, num_processes: int) -> float:
    """Write those that are not there yet; return how many seconds of audio they hold."""
    missing = [task for task in tasks if not (task.mark.is_file() and task.path.is_file())]
    num_done = num_clips - sum(len(task.clips) for task in missing)
    seconds = 0.0
    with Progress("preparing", num_clips, "clips", num_done) as progress:
        for num_more, more_seconds in run_tasks(write_task, missing, num_processes):
            seconds += more_seconds
            progress.advance(num_more, f"{seconds / 3600:.1f} h of audio")
    return seconds


def _finish(
    output: Path, plan: dict[str, Any], manifest: Manifest, tasks: list[_Task]
) -> list[tuple[str, str]]:
    """Write what describes the shards, then `prepared.json`; return what could not be used."""
    failures = FailureLog(output / FAILURES_FILE)
    failures.failures += manifest.problems
    shards, audio_seconds = [], 0.0
    for task in tasks:
        mark = json.loads(task.mark.read_text(encoding="utf-8"))
        failures.failures += [(file, reason) for file, reason in mark["failures"]]
        shards.append(mark["shard"] | {"num_clips": mark["num_clips"]})
        audio_seconds += mark["audio_seconds"]
    failures.write()
    num_clips = sum(shard["num_clips"] for shard in shards)
    if not num_clips:
        raise ValueError(f"{output}: no clip could be decoded. See {failures.path}")
    made = {"num_clips": num_clips, "audio_seconds": audio_seconds, "num_failures": len(failures)}
    if plan["recipe"]["store"] != "tars":
        _write_clips(output / CLIPS_FILE, [task.path for task in tasks])
        _write_hugging_face_files(output, plan, [task.path.name for task in tasks])
        made["clips"] = _describe_file(output / CLIPS_FILE)
    _write_json(output / SUMMARY_FILE, plan | made | {"shards": shards})
    shutil.rmtree(output / UNFINISHED)
    return failures.failures


def _write_clips(path: Path, shards: list[Path]) -> None:
    """Copy all columns but the audio's; some rows are in memory at a time."""
    with (
        atomic_path(path) as temporary,
        pa.OSFile(str(temporary), "wb") as out,
        pa.ipc.new_stream(out, CLIP_FIELDS) as writer,
    ):
        tables: list[pa.Table] = []
        for number, shard in enumerate(shards, start=1):
            with pa.memory_map(str(shard)) as source:
                said = pa.ipc.open_stream(source).read_all().select(CLIP_FIELDS.names)
                tables.append(said)  # the map lasts as long as this does
            if sum(map(len, tables)) >= _ROWS_AT_ONCE or number == len(shards):
                for batch in pa.concat_tables(tables).combine_chunks().to_batches():
                    writer.write_batch(batch)
                tables = []


def _write_hugging_face_files(output: Path, plan: dict[str, Any], names: list[str]) -> None:
    """Write what `datasets.load_from_disk` asks for; it finds the columns in the shards."""
    state = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": plan["source"]["sha256"][:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    info = {"description": "Prepared by mulap; see prepared.json."}
    for name, values in zip(_HF_FILES, (info, state), strict=True):
        _write_json(output / name, values)


def _check_output(output: Path, data: Path) -> None:
    """Refuse a folder that holds something else: `force` replaces only what is ours."""
    if output.exists() and not output.is_dir():
        raise ValueError(f"{output}: is a file. Name a folder.")
    if output.resolve() == (data if data.is_dir() else data.parent).resolve():
        raise ValueError(f"{output}: contains DATA. Name a new folder.")  # ours may be tars
    is_ours = any((output / name).exists() for name in (SUMMARY_FILE, UNFINISHED, LOCK_FILE))
    if output.is_dir() and not is_ours and any(output.iterdir()):
        raise ValueError(f"{output}: holds other files. Name a new folder.")


def _is_finished(output: Path, plan: dict[str, Any]) -> bool:
    if not (output / SUMMARY_FILE).is_file():
        return False
    summary = read_summary(output)
    if any(summary[name] != plan[name] for name in plan):
        raise ValueError(
            f"{output}: was prepared from other data or with other options. Name a new folder, "
            "or give --force to replace it."
        )
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)
    return True


def _start_or_go_on(output: Path, plan: dict[str, Any]) -> None:
    path = output / UNFINISHED / "plan.json"
    if not path.is_file():
        _write_json(path, plan)
    elif json.loads(path.read_text(encoding="utf-8")) != plan:
        raise ValueError(
            f"{output}: an interrupted run left shards of other data or with other options. Give "
            "--force to start again."
        )
    for litter in output.glob(".*.partial*"):
        remove_leftover(litter)  # processes of a killed run may still be tidying theirs up


def _remove_ours(output: Path) -> None:
    # What says that the rest is whole goes first.
    for name in (SUMMARY_FILE, *_HF_FILES, CLIPS_FILE, FAILURES_FILE):
        (output / name).unlink(missing_ok=True)
    for path in output.iterdir():
        if _IS_OURS.fullmatch(path.name):
            path.unlink()
    shutil.rmtree(output / UNFINISHED, ignore_errors=True)


def _report(
    output: Path,
    summary: dict[str, Any],
    failures: list[tuple[str, str]],
    new_audio_seconds: float = 0.0,
    elapsed_seconds: float = 0.0,
) -> PrepareReport:
    shards = summary["shards"]
    return PrepareReport(
        output,
        summary["num_clips"],
        summary["audio_seconds"],
        sum(shard["bytes"] for shard in shards),
        len(shards),
        failures,
        new_audio_seconds,
        elapsed_seconds,
    )


def _describe_file(path: Path) -> dict[str, Any]:
    return {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _write_json(path: Path, values: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
