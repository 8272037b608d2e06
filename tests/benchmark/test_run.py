"""A benchmark ends with the same file however often it was killed, and goes on past bad pairs.

Encoders, features and probes are stand-ins here, so that a run takes no time; the last test kills a
real one.
"""

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass

import numpy as np
import pytest
import soundfile as sf
import yaml
from launched import is_running
from tiny import RATE, tone

from mulap.benchmark import run as run_module
from mulap.benchmark.config import load_config
from mulap.benchmark.run import run_benchmark
from mulap.probing import pair as pair_module
from mulap.probing.embeddings import TrackFeatures
from mulap.probing.pair import ProbeOptions, run_pair
from mulap.probing.probe import ProbeOutcome
from mulap.probing.rows import read_rows
from mulap.tasks.result import Predictions, score_predictions

BACKBONES = ["random", "mel", "musicnn-mtt"]


class Killed(BaseException):
    """What a kill looks like from inside: nothing catches it."""


@dataclass
class Machine:
    """Stand-ins for everything slow, with counts of their use."""

    probed: int = 0
    loaded: int = 0
    kill_at: int = -1
    weights: str = "1"

    def load_encoder(self, name, device="cpu", seed=0, space="backbone"):
        self.loaded += 1
        if name.endswith("missing"):
            raise ValueError(f"{name}: is no\nencoder")
        return name

    def encoder_sha256(self, encoder):
        return f"{encoder} {self.weights}"

    def cache_features(self, data, encoder, cache):
        counts = np.ones(len(data), np.int64)
        counts[0] = 0
        failures = [(str(data.audio_path(0)), "cannot be decoded")]
        return TrackFeatures(np.zeros((len(data), 1), np.float32), counts, counts, failures)

    def train_probe(self, data, features, grid, device="cpu"):
        if self.probed == self.kill_at:
            raise Killed
        self.probed += 1
        test = data.folds[0].test
        shape = (len(grid[0].seeds), len(test), len(data.task.labels))
        outputs = np.random.default_rng(shape).random(shape)
        ids = tuple(data.examples[index].track_id for index in test)
        predictions = Predictions(ids, data.targets[test], outputs)
        return ProbeOutcome(predictions, (grid[0],), np.zeros((1, 1, 1)), data.counts())


@pytest.fixture
def machine(monkeypatch):
    found = Machine()
    monkeypatch.setattr(run_module, "load_encoder", found.load_encoder)
    for name in ("encoder_sha256", "cache_features", "train_probe"):
        monkeypatch.setattr(pair_module, name, getattr(found, name))
    return found


def write_table(path, num_tracks=24):
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [("file_name", "genre", "split")]
    for index in range(num_tracks):
        name = f"{path.stem}-{index}.wav"
        (path.parent / name).touch()
        rows.append((name, "ab"[index // 4 % 2], ("train", "valid", "test", "test")[index % 4]))
    with open(path, "w", newline="") as out:
        csv.writer(out).writerows(rows)
    return {"name": "folder", "data": path.name, "label": "genre", "title": path.stem}


def write_config(folder, tasks=("one", "two"), backbones=BACKBONES, **more):
    entries = [write_table(folder / f"{name}.csv") for name in tasks]
    path = folder / "benchmark.yaml"
    values = {"tasks": entries, "backbones": list(backbones)} | more
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return load_config(path)


def read_outputs(output):
    paths = [output / "results.jsonl", *(output / "predictions").iterdir()]
    return {path.name: path.read_bytes() for path in paths}


def test_rows_are_in_the_order_of_the_config_one_a_pair(tmp_path, machine):
    report = run_benchmark(write_config(tmp_path), tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "results.jsonl")
    assert [(row["title"], row["backbone"]) for row in rows] == [
        (task, backbone) for task in ("one", "two") for backbone in BACKBONES
    ]
    assert (report.num_run, report.num_skipped, len(report.failures)) == (6, 0, 0)
    assert machine.loaded == len(BACKBONES)


def test_a_row_says_what_it_is_of(tmp_path, machine):
    run_benchmark(write_config(tmp_path, probe={"seeds": 2}), tmp_path / "out")
    row = read_rows(tmp_path / "out" / "results.jsonl")[0]
    assert (row["task"], row["kind"], row["split_name"]) == ("folder", "class", "split column")
    assert row["backbone_sha256"] == "random 1"
    assert row["seeds"] == [0, 1]
    assert len(row["scores"]["accuracy"]["values"]) == 2
    assert row["labels"] == ["a", "b"]
    assert row["num_tracks"] == {"train": 6, "valid": 6, "test": 12}
    assert row["left_out"] == 1
    assert set(row["versions"]) == {"mulap", "torch", "numpy", "scikit-learn"}
    assert len(row["key"]) == 64
    assert Predictions.load(tmp_path / "out" / row["predictions"]).outputs.shape == (2, 12, 2)
    listed = json.loads((tmp_path / "out" / row["left_out_list"]).read_text())
    assert listed["reason"] == "cannot be decoded"
    assert str(tmp_path) not in json.dumps(row)


@pytest.mark.parametrize("kill_at", range(6))
def test_a_killed_run_ends_with_the_same_bytes(tmp_path, machine, kill_at):
    config = write_config(tmp_path)
    run_benchmark(config, tmp_path / "whole")
    machine.probed, machine.kill_at = 0, kill_at
    with pytest.raises(Killed):
        run_benchmark(config, tmp_path / "killed")
    machine.kill_at = -1
    if kill_at:
        results = tmp_path / "killed" / "results.jsonl"
        results.write_bytes(results.read_bytes()[:-10])  # and the last line is torn
    report = run_benchmark(config, tmp_path / "killed")
    assert report.num_skipped == max(0, kill_at - 1)
    assert read_outputs(tmp_path / "killed") == read_outputs(tmp_path / "whole")


def test_a_run_that_is_whole_does_nothing(tmp_path, machine):
    config = write_config(tmp_path)
    run_benchmark(config, tmp_path / "out")
    before = read_outputs(tmp_path / "out")
    report = run_benchmark(config, tmp_path / "out")
    assert (report.num_run, report.num_skipped, machine.probed) == (0, 6, 6)
    assert read_outputs(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "num_run"),
    [
        (lambda folder, machine: setattr(machine, "weights", "2"), 6),
        (lambda folder, machine: write_config(folder, probe={"seeds": 4}), 6),
        (lambda folder, machine: write_table(folder / "two.csv", 28), 3),
        (lambda folder, machine: next((folder / "out/predictions").iterdir()).unlink(), 1),
    ],
    ids=["weights", "seeds", "labels", "predictions"],
)
def test_what_changed_is_judged_again_and_replaces_its_rows(tmp_path, machine, change, num_run):
    run_benchmark(write_config(tmp_path), tmp_path / "out")
    change(tmp_path, machine)
    report = run_benchmark(load_config(tmp_path / "benchmark.yaml"), tmp_path / "out")
    assert report.num_run == num_run
    assert len(read_rows(tmp_path / "out" / "results.jsonl")) == 6


def test_another_label_is_printed_without_judging_again(tmp_path, machine):
    run_benchmark(write_config(tmp_path, ["one"], ["mel"]), tmp_path / "out")
    config = write_config(tmp_path, ["one"], [{"name": "mel", "label": "Mel statistics"}])
    report = run_benchmark(config, tmp_path / "out")
    assert report.num_run == 0
    assert read_rows(tmp_path / "out" / "results.jsonl")[0]["label"] == "Mel statistics"


def test_rows_of_an_earlier_config_stay_behind_those_of_this_one(tmp_path, machine):
    run_benchmark(write_config(tmp_path, ["one"], ["mel", "random"]), tmp_path / "out")
    run_benchmark(write_config(tmp_path, ["one"], ["musicnn-mtt", "random"]), tmp_path / "out")
    rows = read_rows(tmp_path / "out" / "results.jsonl")
    assert [row["backbone"] for row in rows] == ["musicnn-mtt", "random", "mel"]


def test_a_pair_that_fails_is_listed_and_the_others_go_on(tmp_path, machine):
    config = write_config(tmp_path, backbones=["random", "./missing", "mel"])
    (tmp_path / "two.csv").write_text("file_name,genre\n")
    report = run_benchmark(config, tmp_path / "out")
    assert [row["backbone"] for row in report.rows] == ["random", "mel"]
    lines = (tmp_path / "out" / "failures.jsonl").read_text().splitlines()
    failures = [json.loads(line) for line in lines]
    assert [each["file"] for each in failures] == [
        "two, random",
        "two, ./missing",
        "two, mel",
        "one, ./missing",
    ]
    assert all("\n" not in each["reason"] for each in failures)
    assert "is no encoder" in failures[3]["reason"]


def test_a_model_that_breaks_while_it_embeds_stops_no_other(tmp_path, machine, monkeypatch):
    whole = machine.cache_features

    def break_one(data, encoder, cache):
        if encoder == "mel":
            raise RuntimeError("out of\nmemory")
        return whole(data, encoder, cache)

    monkeypatch.setattr(pair_module, "cache_features", break_one)
    report = run_benchmark(write_config(tmp_path, backbones=["mel", "random"]), tmp_path / "out")
    assert {row["backbone"] for row in report.rows} == {"random"}
    assert {reason for _, reason in report.failures.failures} == {"out of memory"}


def test_a_failure_that_is_mended_is_no_longer_listed(tmp_path, machine):
    config = write_config(tmp_path, ["one"], ["random", "./missing"])
    run_benchmark(config, tmp_path / "out")
    run_benchmark(write_config(tmp_path, ["one"], ["random"]), tmp_path / "out")
    assert not (tmp_path / "out" / "failures.jsonl").exists()


def test_supervised_without_its_checkpoint_or_data_is_a_failure(tmp_path, machine):
    config = write_config(tmp_path, ["one"], ["random", "supervised"])
    report = run_benchmark(config, tmp_path / "out")
    assert report.num_run == 1
    ((pair, reason),) = report.failures.failures
    assert pair == "one, supervised"
    assert "no backbone trained on mtg_jamendo_top50" in reason


def test_supervised_is_probed_from_its_checkpoint(tmp_path, machine):
    (tmp_path / "trained" / "mtg_jamendo_top50").mkdir(parents=True)
    config = write_config(tmp_path, ["one"], ["supervised"], supervised={"checkpoints": "trained"})
    report = run_benchmark(config, tmp_path / "out")
    assert report.rows[0]["trained_on"] == "mtg_jamendo_top50"
    assert report.rows[0]["backbone_sha256"].startswith(str(tmp_path / "trained"))


def test_one_pair_gives_the_row_of_the_benchmark_and_writes_nothing(tmp_path, machine):
    config = write_config(tmp_path, ["one"], ["mel"])
    (row,) = run_benchmark(config, tmp_path / "out").rows
    options = ProbeOptions(tmp_path / "cache", "paper", 3)
    before = set(tmp_path.rglob("*"))
    own = run_pair(config.tasks[0].load(), config.backbones[0], options, encoder="mel")
    assert set(tmp_path.rglob("*")) == before
    written = {"predictions": row["predictions"], "left_out_list": row["left_out_list"]}
    assert own | written == row


@pytest.mark.parametrize("name", ["end-to-end", "supervised"])
def test_what_only_a_benchmark_can_train_is_no_backbone_of_a_probe(tmp_path, machine, name):
    config = write_config(tmp_path, ["one"], [name])
    options = ProbeOptions(tmp_path / "cache")
    with pytest.raises(ValueError, match=f"{name} is trained by mulap benchmark"):
        run_pair(config.tasks[0].load(), config.backbones[0], options)


def test_two_runs_cannot_share_a_folder(tmp_path, machine):
    config = write_config(tmp_path, ["one"], ["random"])
    code = (
        "import sys; from pathlib import Path;"
        "from mulap.training.checkpoints import hold_run\n"
        "with hold_run(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    output = str(tmp_path / "out")
    with subprocess.Popen(
        [sys.executable, "-c", code, output],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process"):
            run_benchmark(config, tmp_path / "out")
        other.kill()


@pytest.mark.slow
def test_a_real_run_killed_by_the_system_ends_with_the_same_bytes(template, tmp_path):
    entry = write_table(tmp_path / "one.csv", 16)
    for index in range(16):
        sf.write(tmp_path / f"one-{index}.wav", tone(index, 3.2), RATE)
    path = tmp_path / "benchmark.yaml"
    values = {"tasks": [entry], "backbones": ["random", "mel", "musicnn-mtt"]}
    path.write_text(yaml.safe_dump(values | {"cache": "cache"}), encoding="utf-8")
    code = (
        "import sys; from pathlib import Path;"
        "from mulap.benchmark.config import load_config;"
        "from mulap.benchmark.run import run_benchmark;"
        "run_benchmark(load_config(Path(sys.argv[1])), Path(sys.argv[2]))"
    )

    def start(output):
        return template.start("launched:run_code", code, str(path), str(output), cwd=tmp_path)

    killed = tmp_path / "killed"
    process = start(killed)
    results = killed / "results.jsonl"
    while is_running(process.pid):
        if results.is_file() and results.stat().st_size:
            process.kill(signal.SIGKILL)
            break
        time.sleep(0.01)
    assert process.wait().code == -signal.SIGKILL, "it was over before it could be killed"
    assert 0 < len(read_rows(results)) < 3
    for output in (killed, tmp_path / "whole"):
        assert start(output).wait().code == 0
    assert read_outputs(killed) == read_outputs(tmp_path / "whole")
    assert len(read_rows(results)) == 3


def test_intervals_of_version_0_1_are_made_again_over_artists_and_nothing_is_probed(
    tmp_path, machine
):
    config = write_config(tmp_path, ["one"], ["mel"])
    fresh = run_benchmark(config, str(tmp_path / "out")).rows[0]
    assert (fresh["resampled"], fresh["num_resampled"]) == ("track", 12)
    results = tmp_path / "out" / "results.jsonl"
    old = {name: value for name, value in fresh.items() if not name.endswith("resampled")}
    results.write_text(json.dumps(old) + "\n")
    rows = [line.split(",") for line in (tmp_path / "one.csv").read_text().splitlines()]
    rows = [[*rows[0], "artist"], *([*row, f"a{i // 8}"] for i, row in enumerate(rows[1:]))]
    with open(tmp_path / "one.csv", "w", newline="") as out:
        csv.writer(out).writerows(rows)
    report = run_benchmark(load_config(tmp_path / "benchmark.yaml"), tmp_path / "out")
    assert (report.num_run, report.num_skipped, machine.probed) == (0, 1, 1)
    (row,) = read_rows(results)
    assert (row["resampled"], row["num_resampled"]) == ("artist", 3)
    assert row["scores"]["accuracy"]["mean"] == fresh["scores"]["accuracy"]["mean"]
    saved = Predictions.load(tmp_path / "out" / row["predictions"])
    scores = score_predictions("class", ("a", "b"), saved).scores
    assert row["scores"]["accuracy"]["low"] == scores["accuracy"].low
    before = read_outputs(tmp_path / "out")
    run_benchmark(config, tmp_path / "out")
    assert read_outputs(tmp_path / "out") == before


class BrokenModelError(Exception):
    """What somebody's model raises of its own."""


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (KeyError("hidden_states"), "KeyError: 'hidden_states'"),
        (BrokenModelError("no\nweights"), "BrokenModelError: no weights"),
        (TypeError(), "TypeError"),
        (ValueError("one line. Do this."), "one line. Do this."),
    ],
)
@pytest.mark.parametrize("place", ["load_encoder", "cache_features"])
def test_whatever_an_encoder_raises_is_one_failed_pair(
    tmp_path, machine, monkeypatch, place, error, reason
):
    module = run_module if place == "load_encoder" else pair_module
    whole = getattr(machine, place)

    def break_one(*args, **kwargs):
        if "mel" in args:
            raise error
        return whole(*args, **kwargs)

    monkeypatch.setattr(module, place, break_one)
    config = write_config(tmp_path, ["one"], ["random", "mel", "musicnn-mtt"])
    report = run_benchmark(config, tmp_path / "out")
    assert [row["backbone"] for row in report.rows] == ["random", "musicnn-mtt"]
    assert report.failures.failures == [("one, mel", reason)]
