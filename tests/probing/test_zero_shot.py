"""Zero-shot on a task: labels as words give the rows that a probe would, without training."""

import csv
import json

import numpy as np
import pytest
import soundfile as sf
import yaml
from command_line import call, check_one_line
from tiny import tone, write_joint_model, write_reference

import mulap
from mulap.probing.rows import read_rows
from mulap.probing.zero_shot import read_phrases
from mulap.tasks.result import Predictions

LABELS = ("piano", "loud_drums", "sad")
PHRASES = {"piano": ["piano solo"], "loud_drums": ["loud drums", "drums"], "sad": ["sad"]}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_reference(write_joint_model(tmp_path_factory.mktemp("model")))


@pytest.fixture(scope="module", params=["class", "tags"])
def table(request, tmp_path_factory):
    """Twelve tracks of six artists, half of them in the test split."""
    folder = tmp_path_factory.mktemp("music")
    rows = [["file_name", "label", "artist", "split"]]
    for index in range(12):
        sf.write(folder / f"{index}.wav", tone(index, 4.0 if index % 2 else 7.0), 16_000)
        label = LABELS[index % 3]
        if request.param == "tags" and index % 2:
            label += f"|{LABELS[(index + 1) % 3]}"
        split = ("train", "train", "valid", "test", "test", "test")[index // 2]
        rows.append([f"{index}.wav", label, f"artist {index // 2}", split])
    with open(folder / "labels.csv", "w", newline="", encoding="utf-8") as out:
        csv.writer(out).writerows(rows)
    return folder / "labels.csv", request.param


@pytest.fixture
def options(table, tmp_path):
    labels, kind = table
    read = ["--data", labels, "--label", "label", "--kind", kind, "--group", "artist"]
    return [*read, "--split", "split", "--cache", tmp_path / "cache"]


def test_labels_are_scored_as_tags_of_the_test_tracks(model, table, options, tmp_path):
    done = call("probe", "--backbone", model, "--zero-shot", *options, "-o", tmp_path, "--json")
    assert done.exit_code == 0, done.stderr
    row = json.loads(done.stdout)
    assert (row["backbone"], row["protocol"]) == (f"{model}:zero-shot", "zero-shot")
    assert row["num_tracks"] == {"train": 0, "valid": 0, "test": 6}
    assert (row["resampled"], row["num_resampled"]) == ("artist", 3)
    found = Predictions.load(tmp_path / row["predictions"])
    tags = ["loud drums", "piano", "sad"]  # in the order of the labels
    files = [table[0].parent / name for name in found.track_ids]
    encoder = mulap.load(model)
    points = [encoder.in_joint_space().embed(file, level="track").embeddings for file in files]
    expected = encoder.zero_shot(tags).score(np.concatenate(points))
    np.testing.assert_allclose(found.outputs[0], expected, atol=5e-3)
    if table[1] == "class":
        accuracy = (found.outputs[0].argmax(1) == found.targets).mean()
        assert row["scores"]["accuracy"]["mean"] == pytest.approx(accuracy)
    else:
        assert found.decisions is not None
        np.testing.assert_array_equal(found.decisions, found.outputs >= 1.5)
        assert set(row["scores"]) >= {"roc_auc", "f1"}


def test_a_label_may_have_phrases(model, options, tmp_path):
    path = tmp_path / "phrases.csv"
    lines = [",".join([label, *phrases]) for label, phrases in PHRASES.items()]
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    assert read_phrases(path) == PHRASES
    asked = [*options, "--zero-shot", "--backbone", model, "--json", "-q"]
    plain, phrased = (
        json.loads(call("probe", *asked, *more).stdout) for more in ([], ["--phrases", path])
    )
    assert plain["key"] != phrased["key"]
    path.write_text("brass,trumpet\n", encoding="utf-8")
    check_one_line(call("probe", *asked, "--phrases", path), 1, "there is no label 'brass'")
    for text, part in (("sad,\n", "'sad' has no phrase"), ("sad,a\nsad,b\n", "is there twice")):
        path.write_text(text, encoding="utf-8")
        check_one_line(call("probe", *asked, "--phrases", path), 1, part)


def test_a_benchmark_takes_a_backbone_without_training(model, table, tmp_path):
    labels, kind = table
    task = {"name": "folder", "data": str(labels), "label": "label", "kind": kind}
    config = tmp_path / "benchmark.yaml"
    config.write_text(
        yaml.safe_dump({"tasks": [task], "backbones": [{"name": str(model), "zero_shot": True}]})
    )
    done = call("benchmark", config, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    (row,) = read_rows(tmp_path / "out" / "results.jsonl")
    assert row["protocol"] == "zero-shot"
    assert (
        "0 pairs evaluated now, 1 already"
        in call("benchmark", config, "--output", tmp_path / "out").stderr
    )
    assert call("report", tmp_path / "out").exit_code == 0


@pytest.mark.parametrize(
    ("more", "exit_code", "part"),
    [
        (["--zero-shot", "--backbone", "mel"], 1, "mel: has no tags."),
        (["--zero-shot", "--backbone", "musicnn-mtt"], 1, "scores its own tags only"),
        (["--zero-shot", "--seeds", 3], 2, "--seeds does nothing with --zero-shot"),
        (["--zero-shot", "--space", "joint"], 2, "--space does nothing with --zero-shot"),
        (["--phrases", __file__], 2, "--phrases works only with --zero-shot"),
    ],
)
def test_what_cannot_be_done_is_one_line(options, more, exit_code, part):
    check_one_line(call("probe", *options, *more, "-q"), exit_code, part)
