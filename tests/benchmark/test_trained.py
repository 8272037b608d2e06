"""The backbones that a benchmark trains itself: by which rule, where they lie, what they are."""

import csv
import os
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import soundfile as sf
import yaml
from benchmarked import make_data
from tiny import RATE, tone

from mulap.benchmark import trained
from mulap.benchmark.config import load_config
from mulap.benchmark.run import run_benchmark
from mulap.benchmark.trained import find_supervised, recipe_of
from mulap.encoders.load import encoder_sha256, load_encoder
from mulap.probing.rows import read_rows
from mulap.training.supervised.settings import SupervisedSettings

SETTINGS = SupervisedSettings()


@dataclass
class Report:
    best: Path


@pytest.fixture
def runs(monkeypatch):
    """The runs that were started, in place of training; each leaves a best model."""
    started = []

    def train(data, output, settings):
        started.append((data.task.name, output))
        (output / "best").mkdir(parents=True)
        (output / "best" / "config.json").write_text("{}")
        return Report(output / "best")

    monkeypatch.setattr(trained, "train_supervised", train)
    return started


@pytest.mark.parametrize(
    ("target", "source"),
    [
        ("gtzan", "mtg_jamendo_top50"),
        ("magnatagatune", "mtg_jamendo_top50"),
        ("folder", "mtg_jamendo_top50"),
        ("mtg_jamendo_top50", "magnatagatune"),
        ("mtg_jamendo_moodtheme", "magnatagatune"),
    ],
)
def test_the_papers_rule_says_what_supervised_is_trained_on(tmp_path, runs, target, source):
    tasks = {name: make_data(name) for name in ("magnatagatune", "mtg_jamendo_top50")}
    folder = find_supervised(target, tmp_path, tasks, SETTINGS)
    assert folder == tmp_path / source
    assert (folder / "config.json").is_file()
    assert runs == [(source, tmp_path / f"{source}.training")]
    assert find_supervised(target, tmp_path, {}, SETTINGS) == folder, "it is there now"
    assert len(runs) == 1


def test_a_training_that_was_killed_leaves_no_backbone(tmp_path, monkeypatch):
    def killed(data, output, settings):
        (output / "best").mkdir(parents=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(trained, "train_supervised", killed)
    tasks = {"mtg_jamendo_top50": make_data("mtg_jamendo_top50")}
    with pytest.raises(KeyboardInterrupt):
        find_supervised("gtzan", tmp_path, tasks, SETTINGS)
    assert not (tmp_path / "mtg_jamendo_top50").exists()


def test_without_data_or_checkpoint_the_remedy_is_named(tmp_path, runs):
    with pytest.raises(ValueError, match="pretrain-supervised --task mtg_jamendo_top50"):
        find_supervised("gtzan", tmp_path, {}, SETTINGS)


def test_what_decides_no_number_is_not_in_the_recipe():
    quiet = replace(SETTINGS, data=replace(SETTINGS.data, num_workers=7))
    other = replace(SETTINGS, training=replace(SETTINGS.training, num_epochs=7))
    assert recipe_of(quiet) == recipe_of(SETTINGS)
    assert recipe_of(other) != recipe_of(SETTINGS)


@pytest.mark.slow
def test_end_to_end_is_trained_on_every_fold_and_its_row_is_skipped_afterwards(tmp_path):
    rows = [("file_name", "genre", "fold")]
    for index in range(16):
        name = f"{index}.wav"
        sf.write(tmp_path / name, tone(index % 2, 3.2), RATE)
        rows.append((name, "ab"[index % 2], "xy"[index // 2 % 2]))
    with open(tmp_path / "labels.csv", "w", newline="") as out:
        csv.writer(out).writerows(rows)
    values = {
        "model": {"audio_width": 0.02, "hidden_size": 8},
        "data": {"num_workers": 0, "cache_features": True},
        "training": {"num_epochs": 2, "batch_size": 4, "report_to": [], "fused_front_end": False},
    }
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(values))
    values = {
        "tasks": [{"name": "folder", "data": "labels.csv", "label": "genre"}],
        "backbones": ["end-to-end"],
        "supervised": {"settings": "small.yaml", "seeds": 2},
    }
    (tmp_path / "benchmark.yaml").write_text(yaml.safe_dump(values))
    config, output = load_config(tmp_path / "benchmark.yaml"), tmp_path / "out"
    report = run_benchmark(config, output)
    assert report.failures.failures == []
    (row,) = read_rows(output / "results.jsonl")
    assert (row["protocol"], row["seeds"], row["num_folds"]) == ("end-to-end", [0, 1], 2)
    assert row["num_tracks"]["test"] == 16
    assert len(row["scores"]["accuracy"]["values"]) == 2
    assert str(tmp_path) not in (output / "results.jsonl").read_text()
    best = sorted((output / "end-to-end").glob("**/best"))
    assert len(best) == 4
    assert len({encoder_sha256(load_encoder(os.fspath(each))) for each in best}) == 4
    again = run_benchmark(config, output)
    assert (again.num_run, again.num_skipped) == (0, 1)
