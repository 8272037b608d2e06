"""A toy task for supervised training: low and high, loud and soft tones, and a small backbone."""

import atexit
import json
import shutil
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
import soundfile as sf
import torch
from safetensors.torch import load_file
from tiny import RATE
from transformers import TrainerCallback

from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone
from mulap.tasks.result import Predictions
from mulap.tasks.task import Example, Task, build_task_data
from mulap.training.supervised import fold as supervised_run
from mulap.training.supervised.run import train_supervised
from mulap.training.supervised.settings import SupervisedSettings, make_supervised_settings

LABELS = {"class": ("low", "high"), "tags": ("low", "high", "loud"), "numbers": ("pitch", "level")}
SECTIONS = {
    "model": {"audio_width": 0.02, "hidden_size": 16},
    "data": {"cache_features": True, "num_workers": 0},
    "training": {
        "batch_size": 8,
        "num_epochs": 2,
        "learning_rate": 0.01,
        "weight_decay": 0.0,
        "log_every_steps": 1,
        "report_to": [],
    },
}
SPLITS = ["train"] * 12 + ["valid"] * 5 + ["test"] * 5


def make_settings(**changes) -> SupervisedSettings:
    values = {name: {**keys, **changes.pop(name, {})} for name, keys in SECTIONS.items()}
    return make_supervised_settings(values | changes, "test")


def temporary_folder(prefix: str) -> Path:
    folder = tempfile.mkdtemp(prefix=prefix)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


@cache
def small_start() -> str:
    """An untrained backbone of 16 bands and 1.5 seconds, for speed: runs start from it."""
    config = MulapAudioConfig(
        num_mel_bins=16,
        hop_length=512,
        segment_seconds=1.5,
        num_timbral_filters=8,
        num_temporal_filters=2,
        num_midend_filters=4,
    )
    folder = temporary_folder("mulap-small-")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        MusicnnBackbone(config).save_pretrained(folder)
    return str(folder)


def write_tone(path: Path, index: int, is_high: bool, is_loud: bool, seconds: float) -> None:
    rng = np.random.default_rng(index)
    time_seconds = np.arange(round(seconds * RATE)) / RATE
    pitch_hz = rng.uniform(1900, 2100) if is_high else rng.uniform(190, 210)
    samples = np.sin(2 * np.pi * pitch_hz * time_seconds) + 0.01 * rng.standard_normal(
        len(time_seconds)
    )
    sf.write(path, (0.5 if is_loud else 0.02) * samples, RATE)


@cache
def toy_sounds() -> Path:
    """A folder with a file a track, of 2, 1 or 3 small segments; not to be changed."""
    folder = temporary_folder("mulap-toy-")
    for index in range(len(SPLITS)):
        seconds = (3.2, 1.5, 4.6)[index % 3]
        write_tone(folder / f"{index}.wav", index, index % 2 == 1, index // 2 % 2 == 1, seconds)
    return folder


def make_data(kind: str, folder: Path | None = None, folds=None):
    """Low and high, loud and soft tones, with labels of a kind that say so."""
    examples = []
    for index, split in enumerate(SPLITS):
        is_high, is_loud = index % 2 == 1, index // 2 % 2 == 1
        target = {
            "class": "high" if is_high else "low",
            "tags": (("high" if is_high else "low"), *(["loud"] if is_loud else [])),
            "numbers": (4.0 * is_high - 1.0, 100.0 + 10.0 * is_loud),
        }[kind]
        examples.append(Example(f"t{index}", f"{index}.wav", target, split))
    task = Task("toy", "Toy", kind, LABELS[kind])
    return build_task_data(task, "toy", folder or toy_sounds(), examples, folds=folds)


def run(data, output, start="small", **changes):
    """Train with `SECTIONS`, changed by section, from the small backbone unless told otherwise."""
    start = small_start() if start == "small" else start
    return train_supervised(data, output, make_settings(**changes), start)


def train_tags(sounds: str, start: str, changes: dict, *outputs: str) -> None:
    """Train as `run` does, in the process of a test; into each folder in turn."""
    for output in outputs:
        train_supervised(make_data("tags", Path(sounds)), output, make_settings(**changes), start)


def run_watched(monkeypatch, callback, *args, **kwargs):
    """`run` with a callback."""
    make_trainer = supervised_run.make_trainer

    def make_watched(*given):
        trainer = make_trainer(*given)
        trainer.add_callback(callback)
        return trainer

    with monkeypatch.context() as patch:
        patch.setattr(supervised_run, "make_trainer", make_watched)
        return run(*args, **kwargs)


def extractor_of(folder: Path) -> MulapFeatureExtractor:
    return MulapFeatureExtractor.from_pretrained(folder)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def assert_equal_weights(first: Path, second: Path) -> None:
    ours, theirs = weights(first), weights(second)
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def assert_equal_predictions(first: Predictions, second: Predictions) -> None:
    assert first.track_ids == second.track_ids
    for name in ("targets", "outputs", "decisions"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def read_log(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


class Watch(TrainerCallback):
    """Counts steps, keeps gradients, and stops a run before a step as control-C would."""

    def __init__(self, stop_at: int | None = None) -> None:
        self.stop_at = stop_at
        self.begun: list[int] = []
        self.gradients: dict[str, float] = {}

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.stop_at:
            raise KeyboardInterrupt
        self.begun.append(state.global_step)

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        for name, parameter in model.named_parameters():
            size = 0.0 if parameter.grad is None else parameter.grad.abs().sum().item()
            self.gradients[name] = self.gradients.get(name, 0.0) + size
