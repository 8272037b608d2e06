"""The commands that are killed, each on inputs so small that a round takes about a second."""

import csv
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import toy_task
import yaml
from hostile.kit import Child, Template, contents
from tiny import write_corpus, write_joint_model, write_settings

from mulap.encoders.load import load_encoder
from mulap.encoders.mel import mel_encoder
from mulap.vectors.journal import read_journal
from mulap.vectors.store import VectorStore

# What differs between two runs of one command, undisturbed: times.
_TIMES = {"data_wait", "pairs_per_second", "crops_per_second", "step_seconds", "epoch_seconds"}


@dataclass(frozen=True)
class Job:
    """A command, and what it makes.

    Attributes:
        name: of the command.
        argv: its arguments, the same in every run.
        inputs: a folder of what it reads, found as `in` in the folder where it runs.
        results: relative path of all that it leaves -> what must be the same in every run.
        done: what it has put on disk for good at some moment; it may only grow.
        patches: `module:name` -> value, which cut small inputs into many pieces.
    """

    name: str
    argv: tuple[str, ...]
    inputs: Callable[[], Path]
    results: Callable[[Path], dict[str, str]]
    done: Callable[[Path], set[str]]
    patches: tuple[tuple[str, int], ...] = ()

    def prepare(self, folder: Path) -> Path:
        """Make an empty folder to run in."""
        folder.mkdir(parents=True)
        (folder / "in").symlink_to(self.inputs(), target_is_directory=True)
        return folder

    def start(self, template: Template, folder: Path, *more: str, **hostility: Any) -> Child:
        """Run it in a folder; see `hostile.workers.run_cli`."""
        return template.mulap(*self.argv, *more, cwd=folder, patches=self.patches, **hostility)


@cache
def _music() -> Path:
    """Short files of several lengths and formats, one of them broken, and a tiny backbone."""
    folder = toy_task.temporary_folder("mulap-hostile-music-")
    for index, seconds in enumerate((4.0, 1.6, 9.1, 3.2, 0.7, 6.4, 2.5, 5.0)):
        samples = np.random.default_rng(index).normal(size=round(seconds * 16_000)) * 0.1
        (folder / "music" / f"cd{index % 2}").mkdir(parents=True, exist_ok=True)
        name = f"cd{index % 2}/{index}.{('wav', 'flac', 'ogg')[index % 3]}"
        sf.write(folder / "music" / name, samples, 16_000)
    (folder / "music" / "broken.mp3").write_bytes(b"no audio at all")
    (folder / "model").symlink_to(toy_task.small_start(), target_is_directory=True)
    return folder


@cache
def _music_to_index() -> Path:
    """The same without the broken file, which only the first run reports; a model with text."""
    folder = toy_task.temporary_folder("mulap-hostile-index-")
    shutil.copytree(_music() / "music", folder / "music", ignore=lambda *_: ["broken.mp3"])
    write_joint_model(folder / "model")
    return folder


@cache
def _labelled() -> Path:
    """The toy task as a table of one's own."""
    folder = toy_task.temporary_folder("mulap-hostile-labels-")
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as out:
        rows = csv.writer(out)
        rows.writerow(("file_name", "pitch", "split"))
        for index, split in enumerate(toy_task.SPLITS):
            label = "high" if index % 2 else "low"
            rows.writerow((toy_task.toy_sounds() / f"{index}.wav", label, split))
    (folder / "model").symlink_to(toy_task.small_start(), target_is_directory=True)
    task = {"name": "folder", "data": "labels.csv", "label": "pitch", "title": "Pitch"}
    config = {"tasks": [task], "backbones": ["model", "mel"]}
    config["probe"] = {"protocol": "linear", "seeds": 1}
    (folder / "benchmark.yaml").write_text(yaml.safe_dump(config))
    return folder


@cache
def _captioned() -> Path:
    folder = toy_task.temporary_folder("mulap-hostile-captions-")
    write_corpus(folder / "corpus", num_train=8, num_valid=4)
    training = {"save_every_steps": 1, "num_epochs": 2}
    write_settings(folder / "settings.yaml", training=training)
    return folder


def _indexed(folder: Path) -> dict[str, str]:
    """The rows of a library; LanceDB's files have names of their own."""
    from library.listening import contents as library_contents

    found = library_contents(folder / "out")
    text = json.dumps(found, sort_keys=True).replace(f"{os.path.realpath(folder)}/", "")
    left = {path.name for path in (folder / "out").iterdir()}
    return {"rows": text, "files": str(sorted(left))}


def _indexed_keys(folder: Path) -> set[str]:
    from mulap.library.about import is_library
    from mulap.library.store import Store

    if not (is_library(folder / "out") and len(list(folder.glob("out/lance/*.lance"))) == 2):
        return set()
    return set(Store.open(folder / "out").tracks().column("key").to_pylist())


def _embedded(folder: Path) -> dict[str, str]:
    return {name: value for name, value in contents(folder).items() if name != "in"}


def _embedded_files(folder: Path) -> set[str]:
    """The files that journals of parts speak of; all, once their table is there."""
    if (folder / "out.parquet").exists():
        music = folder / "in" / "music"
        return {f"in/music/{path.relative_to(music)}" for path in music.rglob("*.*")}
    names = folder / "out.parquet.parts" / "files.names"
    return {line["file"] for line in read_journal(names)}


def _probed(folder: Path) -> dict[str, str]:
    # A part has a name of its own; `files` holds only what was two seconds old when it was read.
    ours = ("cache/files", ".f32", ".journal")
    found = {name: value for name, value in _embedded(folder).items() if not name.endswith(ours)}
    for store in _stores(folder):
        for key, entry in store.entries.items():
            found[f"vectors of {key}"] = f"{entry.num_rows} rows, {entry.checksum}"
    return found


def _probed_vectors(folder: Path) -> set[str]:
    return {key for store in _stores(folder) for key in store.entries}


def _stores(folder: Path) -> list[VectorStore]:
    makings = {path: json.loads(path.read_text()) for path in folder.glob("cache/*/making.json")}
    return [
        VectorStore(path.parent, _size(Path(making["model"]).name), making)
        for path, making in makings.items()
    ]


@cache
def _size(model: str) -> int:
    """Of the vectors of `mel`, or of the jobs' own model."""
    encoder = mel_encoder() if model == "mel" else load_encoder(toy_task.small_start())
    return encoder.embedding_size


def _trained(folder: Path) -> dict[str, str]:
    found = _embedded(folder)
    for name in found:
        if name.endswith("/complete"):
            found[name] = ""  # checksums, also of what has times in it
        if name.endswith("trainer_state.json"):
            state = json.loads((folder / name).read_text())
            state["log_history"] = [_without_times(each) for each in state["log_history"]]
            found[name] = json.dumps(state, sort_keys=True)
        elif name.endswith("log.jsonl"):
            lines = (folder / name).read_text().splitlines()
            records = [_without_times(json.loads(line)) for line in lines]
            found[name] = json.dumps(records, sort_keys=True)
    return found


def _without_times(record: dict) -> dict:
    return {
        name: value
        for name, value in record.items()
        if name not in _TIMES and not name.startswith("train_")
    }


def _newest_checkpoint(folder: Path) -> set[str]:
    """All steps up to the newest checkpoint's: older checkpoints are removed."""
    steps = [int(path.parent.name[11:]) for path in folder.glob("run/checkpoint-*/complete")]
    return {str(step) for step in range(max(steps, default=0))}


def _prepared_shards(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("out/data-*.arrow")}


def _benchmark_rows(folder: Path) -> set[str]:
    results = folder / "out" / "results.jsonl"
    lines = results.read_text().splitlines(keepends=True) if results.exists() else []
    return {line for line in lines if line.endswith("\n")}


EMBED = Job(
    "embed",
    ("embed", "in/music", "--model", "in/model", "-o", "out.parquet", "--skip-existing"),
    _music,
    _embedded,
    _embedded_files,
)
PROBE = Job(
    "probe",
    (
        *("probe", "--data", "in/labels.csv", "--label", "pitch", "--backbone", "in/model"),
        *("--protocol", "linear", "--seeds", "1", "--cache", "cache", "-o", "out"),
    ),
    _labelled,
    _probed,
    _probed_vectors,
)
PRETRAIN = Job(
    "pretrain",
    ("pretrain", "in/settings.yaml", "--data", "in/corpus", "-o", "run"),
    _captioned,
    _trained,
    _newest_checkpoint,
)
PREPARE = Job(
    "prepare",
    ("prepare", "in/corpus", "-o", "out", "--store", "pcm", "--processes", "2"),
    _captioned,
    _embedded,
    _prepared_shards,
    patches=(("mulap.data.prepared.write:_MIN_SHARD_CLIPS", 2),),
)
BENCHMARK = Job(
    "benchmark",
    ("benchmark", "in/benchmark.yaml", "-o", "out"),
    _labelled,
    _probed,
    _benchmark_rows,
)
INDEX = Job(
    "index",
    ("index", "in/music", "--model", "in/model", "--library", "out"),
    _music_to_index,
    _indexed,
    _indexed_keys,
    patches=(("mulap.library.embed:_WINDOWS_OF_COMMIT", 2),),
)
JOBS = {job.name: job for job in (EMBED, PROBE, PRETRAIN, PREPARE, BENCHMARK, INDEX)}
