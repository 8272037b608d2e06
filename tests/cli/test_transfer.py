"""The commands that judge encoders: what they print, where they leave it, and how they end."""

import csv
import functools
import json
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import yaml
from command_line import call, check_one_line
from sklearn import metrics as sklearn_metrics
from task_samples import write_gtzan
from tiny import RATE, write_joint_model

from mulap.embedding.cache import cache_vectors
from mulap.encoders.backbones import load_backbone
from mulap.encoders.load import load_encoder
from mulap.probing.printing import mean_and_std
from mulap.probing.rows import read_rows
from mulap.tasks.registry import find_task, task_names
from mulap.tasks.result import Predictions
from mulap.tasks.task import Remote


def write_labels(folder: Path, num_tracks: int = 24, kind: str = "class") -> Path:
    """Low and high tones with a table of labels; every third artist is tested."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for index in range(num_tracks):
        is_high = index % 2 == 1
        pitch_hz = rng.uniform(2000, 3000) if is_high else rng.uniform(100, 300)
        time = np.arange(round(4.0 * RATE)) / RATE
        noise = 0.01 * rng.standard_normal(len(time))
        sf.write(folder / f"{index}.wav", 0.2 * np.sin(2 * np.pi * pitch_hz * time) + noise, RATE)
        pitch = "high" if is_high else "low"
        label = {"class": pitch, "tags": f"{pitch}|{'odd' if index % 3 else 'even'}"}[kind]
        split = ("train", "train", "valid", "test")[index // 2 % 4]
        rows.append([f"{index}.wav", label, f"artist {index // 2}", split])
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file_name", "label", "artist", "split"], *rows])
    return folder / "labels.csv"


@pytest.fixture
def labels(tmp_path) -> Path:
    return write_labels(tmp_path / "music")


def test_task_lists_every_task_with_its_published_sizes():
    result = call("task")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()][1:-1] == [
        name
        for name in task_names()
        for _ in range(2 if name in ("magnatagatune", "fma_small") else 1)
    ]
    assert "15,244" in result.stdout


@pytest.mark.parametrize("name", [*task_names(), "folder"])
def test_task_describes_each_with_licence_and_citation(name):
    result = call("task", name)
    assert result.exit_code == 0
    if name != "folder":
        assert {"licence", "citation", "splits", "labels"} <= {
            line.partition(":")[0] for line in result.stdout.splitlines()
        }


def test_a_misspelt_task_names_the_nearest():
    check_one_line(call("task", "nsinth"), 1, "nsinth", "Did you mean nsynth?")
    check_one_line(call("download", "gtsan", "-o", "x"), 1, "Did you mean gtzan?")


def test_a_table_is_checked_and_what_is_missing_ends_with_3(labels):
    whole = call("task", "folder", "--data", labels, "--label", "label")
    assert whole.exit_code == 0
    assert "folder is whole" in whole.stdout
    (labels.parent / "3.wav").write_bytes(b"no music")
    result = call("task", "folder", "--data", labels, "--label", "label")
    assert result.exit_code == 3
    assert "undecodable: 3.wav" in result.stdout
    counted = json.loads(
        call("task", "folder", "--data", labels, "--label", "label", "--no-decode", "--json").stdout
    )
    assert counted["splits"]["train"]["num_tracks"] == 12
    assert not counted["is_decoded"]


def test_rows_that_cannot_be_used_are_told_before_a_probe_and_end_with_3(labels, tmp_path):
    with open(labels, "a", encoding="utf-8") as out:
        out.write("".join(f"gone {index}.wav,high,X,train\n" for index in range(12)))
    result = call("task", "folder", "--data", labels, "--label", "label", "--no-decode")
    assert result.exit_code == 3
    assert "folder is not whole" in result.stdout
    options = ["--data", labels, "--label", "label", "--backbone", "mel", "--seeds", 1]
    result = call("probe", *options, "--cache", tmp_path / "cache")
    assert result.exit_code == 3
    assert "problem: labels.csv row 26: no such file: 'gone 0.wav'" in result.stderr
    assert "and 2 more problems" in result.stderr
    assert "12 inputs could not be used" in result.stderr


@pytest.mark.parametrize("option", [["--split", "x"], ["--no-decode"], ["--processes", 2]])
def test_how_a_table_is_read_needs_the_table(option):
    message = f"{option[0]} works only with --data. Add --data."
    check_one_line(call("task", "gtzan", *option), 2, message)


def test_tasks_are_described_as_json():
    gtzan = json.loads(call("task", "gtzan", "--json").stdout)
    assert (gtzan["title"], gtzan["kind"], len(gtzan["labels"])) == ("GTZAN", "class", 10)
    assert gtzan["splits"] == {"filtered": [443, 197, 290]}
    assert gtzan["remotes"][""][0]["path"] == "train_filtered.txt"
    everything = json.loads(call("task", "--json").stdout)
    assert [task["name"] for task in everything] == task_names()
    assert gtzan in everything
    check_one_line(call("task", "folder", "--json"), 1, "folder is your own table. Add --data")


def test_a_download_is_fetched_told_and_not_fetched_twice(tmp_path, monkeypatch):
    served, out = tmp_path / "served", tmp_path / "out"
    served.mkdir()
    (served / "list.txt").write_text("blues/blues.00029.wav\n")
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(served))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        remotes = (Remote(f"{address}/list.txt", "lists/list.txt", num_bytes=22),)
        task = replace(find_task("gtzan"), remotes={"": remotes}, by_hand="Ask Ann.")
        monkeypatch.setattr("mulap.tasks.registry.find_task", lambda name: task)
        first, again = (call("download", "gtzan", "-o", out) for _ in range(2))
        lost = replace(task, remotes={"": (Remote(f"{address}/none", "none"),)})
        monkeypatch.setattr("mulap.tasks.registry.find_task", lambda name: lost)
        refused = call("download", "gtzan", "-o", out)
        server.shutdown()
    assert (out / "lists" / "list.txt").read_bytes() == (served / "list.txt").read_bytes()
    assert "1 files fetched, 0 already present" in first.stdout
    assert "Instructions: Ask Ann." in first.stdout
    assert "0 files fetched, 1 already present" in again.stdout
    assert refused.exit_code == 1
    assert "404" in refused.stderr.splitlines()[-1]


def test_a_task_of_other_sizes_than_published_is_told(tmp_path):
    folder = write_gtzan(tmp_path / "gtzan", seconds=0.5)
    result = call("task", "gtzan", "--data", folder, "--no-decode")
    assert result.exit_code == 1
    assert "gtzan is not whole" in result.stdout
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "--task is missing. Give --task NAME"),
        (["--task", "folder"], "--label"),
        (["--task", "gtzan", "--fold", "x"], "--fold works only with your own table"),
        (["--label", "mood"], "mood"),
        (["--label", "label", "--backbone", "wombat"], "wombat"),
        (["--label", "label", "--protocol", "papr"], "Did you mean paper?"),
        (["--label", "label", "--mediaeval"], "--output"),
        (
            ["--label", "label", "--mediaeval", "--output", "out"],
            "--mediaeval: labels (label) has no tags. Leave --mediaeval out.",
        ),
        (["--label", "label", "--device", "tpu9"], "tpu9"),
    ],
)
def test_a_wrong_probe_is_told_in_one_line(options, says, labels, tmp_path):
    cache = tmp_path / "cache"
    result = call("probe", "--data", labels, "--cache", cache, *options)
    *notes, error = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (1, "")
    assert error.startswith("Error: ")
    assert says in error
    assert set(notes) <= {"column label: 2 classes: low 12, high 12"}
    assert not cache.exists()


def test_a_probe_prints_its_scores_and_keeps_vectors_and_predictions(labels, tmp_path):
    cache, output = tmp_path / "cache", tmp_path / "out"
    options = ["--data", labels, "--label", "label", "--backbone", "mel", "--cache", cache]
    options += ["--protocol", "standardized"]
    result = call("probe", *options, "--output", output, "--json")
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    assert row["split_name"] == "split column"
    assert row["num_tracks"] == {"train": 12, "valid": 6, "test": 6}
    assert row["scores"]["accuracy"]["mean"] > 0.6  # of two classes, by twelve tracks
    predictions = Predictions.load(output / row["predictions"])
    assert predictions.outputs.shape == (3, 6, 2)
    for path in labels.parent.glob("*.wav"):
        path.touch()  # hashed again, not embedded again
    before = sorted(cache.glob("*/*"))
    again = call("probe", *options)
    assert sorted(cache.glob("*/*")) == before
    assert mean_and_std(row["scores"]["accuracy"]) in again.stdout
    assert "split column" in again.stdout


def test_a_probe_and_a_benchmark_take_both_spaces(labels, tmp_path):
    folder = write_joint_model(tmp_path / "model")
    options = ["--data", labels, "--label", "label", "--backbone", folder, "--seeds", 1, "--json"]
    options += ["--cache", tmp_path / "cache"]
    rows = [
        json.loads(call("probe", *options, "--space", space).stdout)
        for space in ("backbone", "joint")
    ]
    assert [row["backbone"] for row in rows] == [str(folder), f"{folder}:joint"]
    assert rows[0]["backbone_sha256"] != rows[1]["backbone_sha256"]
    for row, space in zip(rows, ("backbone", "joint"), strict=True):
        vectors = cache_vectors(
            [labels.parent / "0.wav"], load_encoder(folder, space=space), tmp_path / "cache"
        )
        assert (tmp_path / "cache" / row["backbone_sha256"]).is_dir()  # found there, not made
        assert vectors.vectors[[0]].shape[1] == (16 if space == "joint" else 42)
    config = tmp_path / "benchmark.yaml"
    both = [{"name": str(folder), "space": space} for space in ("backbone", "joint")]
    task = {"name": "folder", "data": str(labels), "label": "label"}
    config.write_text(yaml.safe_dump({"tasks": [task], "backbones": both, "probe": {"seeds": 1}}))
    assert call("benchmark", config, "--output", tmp_path / "out").exit_code == 0
    found = read_rows(tmp_path / "out" / "results.jsonl")
    assert [row["backbone_sha256"] for row in found] == [row["backbone_sha256"] for row in rows]


def test_a_track_that_cannot_be_decoded_is_left_out_and_listed(labels, tmp_path):
    (labels.parent / "3.wav").write_bytes(b"no music")
    options = ["--data", labels, "--label", "label", "--backbone", "mel"]
    output = tmp_path / "out"
    result = call("probe", *options, "--cache", tmp_path / "cache", "--output", output)
    assert result.exit_code == 3
    (listed,) = output.glob("left_out/*.jsonl")
    assert str(listed) in result.stderr
    assert "3.wav" in listed.read_text()
    without = call("probe", *options, "--cache", tmp_path / "cache")
    assert without.exit_code == 3
    assert f"left out: {labels.parent / '3.wav'}: " in without.stderr
    assert "1 could not be embedded" in without.stdout


def test_predictions_of_tags_are_written_in_mediaevals_format(tmp_path):
    table = write_labels(tmp_path / "music", kind="tags")
    output = tmp_path / "out"
    options = ["--data", table, "--label", "label", "--backbone", "mel", "--seeds", 1, "--json"]
    result = call(
        "probe", *options, "--cache", tmp_path / "cache", "--output", output, "--mediaeval"
    )
    assert result.exit_code == 0, result.stderr
    row = json.loads(result.stdout)
    files = [output / f"{name}.npy" for name in ("groundtruth", "predictions", "decisions")]
    targets, outputs, decisions = map(np.load, files)
    f1 = sklearn_metrics.f1_score(targets, decisions, average="macro")
    assert row["scores"]["f1"]["mean"] == pytest.approx(f1)
    roc_auc = sklearn_metrics.roc_auc_score(targets, outputs, average="macro")
    assert row["scores"]["roc_auc"]["mean"] == pytest.approx(roc_auc)


def write_benchmark(folder: Path, table: Path) -> Path:
    config = {
        "tasks": [
            {"name": "folder", "data": str(table), "label": "label", "title": "Pitch"},
            {"name": "gtzan", "data": "nowhere"},
        ],
        "backbones": ["random", {"name": "mel", "label": "Mel statistics"}],
        "probe": {"protocol": "standardized", "seeds": 2},
    }
    path = folder / "benchmark.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def test_a_benchmark_lists_what_failed_goes_on_and_becomes_a_report(labels, tmp_path):
    config, output = write_benchmark(tmp_path, labels), tmp_path / "out"
    result = call("benchmark", config, "--output", output)
    assert result.exit_code == 3
    assert "nowhere" in (output / "failures.jsonl").read_text()
    rows = read_rows(output / "results.jsonl")
    assert [row["label"] for row in rows] == ["random", "Mel statistics"]
    before = (output / "results.jsonl").read_bytes()
    again = call("benchmark", config, "--output", output)
    assert "0 pairs evaluated now, 2 already present" in again.stderr
    assert (output / "results.jsonl").read_bytes() == before
    report = call("report", output)
    assert report.exit_code == 0, report.stderr
    page = Path(report.stdout.strip()).read_text(encoding="utf-8")
    assert "Mel statistics" in page
    assert "Pitch" in page


def test_a_report_of_nothing_is_told_in_one_line(tmp_path):
    check_one_line(call("report", tmp_path), 1, "results.jsonl")


@pytest.mark.slow
def test_a_supervised_backbone_is_trained_and_then_probed(labels, tmp_path):
    run = tmp_path / "run"
    settings = ["model.audio_width=0.02", "training.num_epochs=2", "training.batch_size=8"]
    settings += ["data.num_workers=0", "training.fused_front_end=false", "training.report_to=[]"]
    options = [each for setting in settings for each in ("--set", setting)]
    result = call("pretrain-supervised", "--data", labels, "--label", "label", "-o", run, *options)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.strip() == str(run / "best")
    assert "accuracy" in result.stderr
    load_backbone(run / "best")
    probed = call(
        *["probe", "--data", labels, "--label", "label", "--backbone", run / "best"],
        *["--cache", tmp_path / "cache", "--seeds", 1, "--json"],
    )
    assert probed.exit_code == 0, probed.stderr
    shutil.rmtree(run)


def test_a_missing_extra_is_told_in_one_line(labels):
    code = f"""if True:
        import sys
        sys.modules["scipy"] = None
        from mulap.cli import main
        main(["probe", "--data", {str(labels)!r}, "--label", "label", "--backbone", "mel"])
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "Error: the package scipy is missing. Run pip install scipy"
    ]
