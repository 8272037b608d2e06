"""Checkpoints: only whole ones count, and a run's folder belongs to one run."""

import json
import shutil
import subprocess
import sys

import pytest

from mulap.training.checkpoints import (
    check_checkpoint,
    claim_run,
    complete_checkpoints,
    export_model,
    export_models,
    hold_run,
    mark_complete,
    remove_incomplete,
    remove_old,
)


def make(run, step, complete=True):
    path = run / f"checkpoint-{step}"
    path.mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "optimizer.pt", "rng_state_1.pth"):
        (path / name).write_text(f"{name} of {step}")
    if complete:
        mark_complete(path)
    return path


def test_checkpoints_are_ordered_by_step_and_half_written_ones_do_not_count(tmp_path):
    make(tmp_path, 10)
    make(tmp_path, 9)
    make(tmp_path, 100)
    make(tmp_path, 200, complete=False)
    names = [path.name for path in complete_checkpoints(tmp_path)]
    assert names == ["checkpoint-9", "checkpoint-10", "checkpoint-100"]
    assert complete_checkpoints(tmp_path / "nowhere") == []


def test_what_a_kill_left_half_written_is_removed(tmp_path):
    make(tmp_path, 1)
    make(tmp_path, 2, complete=False)
    assert remove_incomplete(tmp_path) == ["checkpoint-2"]
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-1"]
    assert remove_incomplete(tmp_path) == []


@pytest.mark.parametrize(("best", "kept"), [(1, {1, 4}), (None, {4}), (4, {4}), (99, {4})])
def test_the_newest_and_the_best_are_kept(tmp_path, best, kept):
    for step in (1, 2, 3, 4):
        make(tmp_path, step)
    remove_old(tmp_path, best)
    assert {int(path.name[11:]) for path in tmp_path.iterdir()} == kept
    assert len(complete_checkpoints(tmp_path)) == len(kept)


def test_an_exported_model_is_without_the_optimiser_and_replaces_the_old_one(tmp_path):
    first, second = make(tmp_path, 1), make(tmp_path, 2)
    export_model(first, tmp_path / "best")
    (tmp_path / "best" / "left-over").touch()
    (tmp_path / ".best.new").mkdir()  # of an export that was killed
    export_model(second, tmp_path / "best")
    names = {path.name for path in (tmp_path / "best").iterdir()}
    assert names == {"config.json", "model.safetensors"}
    assert (tmp_path / "best" / "config.json").read_text() == "config.json of 2"
    assert not (tmp_path / ".best.new").exists()


def test_what_a_kill_between_the_last_checkpoint_and_the_end_left_is_removed(tmp_path):
    for step in (1, 2, 3):
        make(tmp_path, step)
    export_models(tmp_path, best_step=2)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"checkpoint-2", "checkpoint-3", "best", "last"}


def test_a_run_goes_on_with_the_same_settings_and_corpus_only(tmp_path):
    run = tmp_path / "run"
    settings = {"training": {"seed": 1, "report_to": []}, "data": {"crop": "start"}}
    corpus = {"num_clips": 3, "sha256": "abc"}
    claim_run(run, settings, corpus)
    claim_run(run, settings, corpus)
    assert json.loads((run / "corpus.json").read_text()) == corpus
    changed = {**settings, "training": {"seed": 2, "report_to": []}}
    with pytest.raises(
        ValueError, match=r"training.seed is 1 there and 2 now.*another --output"
    ) as caught:
        claim_run(run, changed, corpus)
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="other settings .model.text is None there"):
        claim_run(run, {**settings, "model": {"text": "none"}}, corpus)
    with pytest.raises(
        ValueError, match="another corpus .num_clips is 3 there and 4 now"
    ) as caught:
        claim_run(run, settings, {"num_clips": 4, "sha256": "abd"})
    assert "\n" not in str(caught.value)
    claim_run(run, settings, corpus)  # the failures have changed nothing
    newer = {**settings, "model": {"text": "none"}}
    claim_run(tmp_path / "old", settings, corpus)
    claim_run(tmp_path / "old", newer, corpus, {"model": {"text": "none"}})
    quieter = {**settings, "training": {"seed": 1, "report_to": ["tensorboard"]}}
    claim_run(run, quieter, corpus)  # what changes no weight may change


HOLD = """
import sys
from pathlib import Path
from mulap.training.checkpoints import hold_run
with hold_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_two_processes_never_train_in_one_folder_and_a_kill_lets_go_of_it(tmp_path):
    run = tmp_path / "run"
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, run],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another process is at work here: wait") as caught:
            with hold_run(run):
                pass
        assert "\n" not in str(caught.value)
    finally:
        other.kill()
        other.wait()
    for _ in range(2):
        with hold_run(run):
            pass


def test_an_export_onto_a_full_disk_is_a_line_and_leaves_the_old_one(tmp_path, monkeypatch):
    first, second = make(tmp_path, 1), make(tmp_path, 2)
    export_model(first, tmp_path / "best")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ValueError, match=r"best: the model cannot be copied there, .*No space"):
        export_model(second, tmp_path / "best")
    assert (tmp_path / "best" / "config.json").read_text() == "config.json of 1"
    assert not (tmp_path / ".best.new").exists()


@pytest.mark.parametrize("name", ["optimizer.pt", "model.safetensors", "complete"])
def test_a_damaged_checkpoint_is_refused_before_it_is_read(tmp_path, name):
    checkpoint = make(tmp_path, 3)
    check_checkpoint(checkpoint)
    content = (checkpoint / name).read_text()
    (checkpoint / name).write_text(content[:5] + "~" + content[6:])
    what = name if name != "complete" else ".*"  # it names what it takes for a file
    with pytest.raises(ValueError, match=f"checkpoint-3: is damaged, {what} is not what was saved"):
        check_checkpoint(checkpoint)


def test_a_checkpoint_that_lacks_a_file_is_refused(tmp_path):
    checkpoint = make(tmp_path, 3)
    (checkpoint / "optimizer.pt").unlink()
    with pytest.raises(ValueError, match="is damaged, optimizer.pt is not what was saved"):
        check_checkpoint(checkpoint)
