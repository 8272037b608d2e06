"""A supervised run repeats and resumes exactly, and its folder is its own."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from launched import Launched, kill_in_training
from toy_task import (
    Watch,
    assert_equal_predictions,
    assert_equal_weights,
    make_data,
    make_settings,
    read_log,
    run,
    run_watched,
    small_start,
    toy_sounds,
)

from mulap.tasks.task import build_task_data
from mulap.training.checkpoints import complete_checkpoints, hold_run
from mulap.training.supervised.run import train_supervised, train_supervised_seeds

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize(
    ("step", "save_every_steps"), [(2, 0), (1, 1), (3, 1)], ids=["epoch", "first", "later"]
)
def test_a_run_that_was_stopped_and_resumed_equals_a_straight_one(
    tmp_path, monkeypatch, step, save_every_steps
):
    data = make_data("tags")
    changes = {
        "model": {"dropout": 0.3},
        "training": {"save_every_steps": save_every_steps, "plateau_patience": 0},
    }
    expected = run(data, tmp_path / "straight", **changes)
    with pytest.raises(KeyboardInterrupt):
        run_watched(monkeypatch, Watch(stop_at=step), data, tmp_path / "run", **changes)
    saved = [int(path.name[11:]) for path in complete_checkpoints(tmp_path / "run")]
    watch = Watch()
    resumed = run_watched(monkeypatch, watch, data, tmp_path / "run", **changes)
    assert watch.begun == list(range(max(saved), 4))
    for name in ("best", "last"):
        assert_equal_weights(tmp_path / "straight" / name, tmp_path / "run" / name)
    assert_equal_predictions(expected.predictions, resumed.predictions)
    assert expected.valid_scores == resumed.valid_scores
    for name in ("learning_rate", "loss"):
        logs = [
            {record["step"]: record[name] for record in read_log(folder) if name in record}
            for folder in (tmp_path / "straight", tmp_path / "run")
        ]
        assert logs[0] == logs[1]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_without_the_cache_the_number_of_workers_changes_nothing(tmp_path, num_workers):
    data = make_data("tags")
    for name, count in (("ours", num_workers), ("other", 0)):
        settings = make_settings(data={"cache_features": False, "num_workers": count})
        train_supervised(data, tmp_path / name, settings, small_start())
    assert_equal_weights(tmp_path / "ours" / "last", tmp_path / "other" / "last")


def test_a_finished_run_called_again_trains_no_further(straight, tmp_path, monkeypatch):
    report, output = straight
    shutil.copytree(output, tmp_path / "moved")
    watch = Watch()
    again = run_watched(monkeypatch, watch, make_data("tags"), tmp_path / "moved")
    assert watch.begun == []
    assert_equal_weights(report.best, again.best)
    assert_equal_predictions(report.predictions, again.predictions)


def test_another_runs_folder_is_one_clear_error(straight, tmp_path):
    report, output = straight
    data = make_data("tags")
    with pytest.raises(ValueError, match="training.learning_rate is 0.01 there and 0.5 now"):
        run(data, output, training={"learning_rate": 0.5})
    relabelled = [dataclasses.replace(data.examples[0], target=()), *data.examples[1:]]
    changed = build_task_data(data.task, "toy", toy_sounds(), relabelled)
    with pytest.raises(ValueError, match="holds a run with another corpus .sha256"):
        run(changed, output)
    with pytest.raises(ValueError, match="holds a run with another corpus .start"):
        run(data, output, start=None)


def test_a_folder_holds_one_run_or_several_of_the_same_folds_and_seeds(straight, tmp_path):
    _, output = straight
    data = make_data("tags")
    before = (output / "predictions.npz").read_bytes()
    fold = data.folds[0]
    two = dataclasses.replace(
        data, folds=[fold, dataclasses.replace(fold, valid=fold.test, test=fold.valid)]
    )
    with pytest.raises(ValueError, match="holds a run with other folds or seeds .in") as caught:
        run(two, output)
    assert "\n" not in str(caught.value)
    assert (output / "predictions.npz").read_bytes() == before
    several = tmp_path / "several"
    train_supervised_seeds(data, several, make_settings(), (0,), small_start())
    with pytest.raises(ValueError, match="holds a run with other folds or seeds .in .*seed-0"):
        run(data, several)
    both = train_supervised_seeds(data, several, make_settings(), (0, 1), small_start())
    assert len(both.valid_scores) == 2


def test_how_often_checkpoints_are_written_may_change(straight, tmp_path, monkeypatch):
    report, output = straight
    shutil.copytree(output, tmp_path / "run")
    watch = Watch()
    changes = {"save_every_steps": 1}
    again = run_watched(monkeypatch, watch, make_data("tags"), tmp_path / "run", training=changes)
    assert watch.begun == []
    assert_equal_predictions(report.predictions, again.predictions)


def test_a_folder_in_use_is_refused(tmp_path):
    code = "import sys; from mulap.training.checkpoints import hold_run; from pathlib import Path\n"
    code += "with hold_run(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path / "run"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout.readline() == "held\n"
    with pytest.raises(ValueError, match="another process is at work here"):
        run(make_data("tags"), tmp_path / "run")
    process.communicate()
    with hold_run(tmp_path / "run"):
        pass


CHANGES = {
    "model": {"dropout": 0.2},
    "training": {"num_epochs": 20, "save_every_steps": 1, "evaluate_every_epochs": 5},
}
SCRIPT = """
import json
import sys
import torch
torch.set_num_threads(1)
from toy_task import train_tags
sounds, start, changes, *outputs = sys.argv[1:]
train_tags(sounds, start, json.loads(changes), *outputs)
"""


def assert_equal_runs(first: Path, second: Path) -> None:
    for name in ("best", "last"):
        assert_equal_weights(first / name, second / name)
    ours, theirs = (folder / "predictions.npz" for folder in (first, second))
    assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.slow
def test_kill_9_and_rerun_resume_bit_exactly(template, tmp_path):
    given = str(toy_sounds()), small_start(), CHANGES, str(tmp_path / "run")
    kill_in_training(template.start("toy_task:train_tags", *given, cwd=tmp_path), tmp_path / "run")
    assert not (tmp_path / "run" / "best").exists()
    ended = template.start("toy_task:train_tags", *given, cwd=tmp_path).wait()
    assert ended.code == 0, ended.err
    run(make_data("tags"), tmp_path / "straight", **CHANGES)
    assert_equal_runs(tmp_path / "straight", tmp_path / "run")


@pytest.mark.slow
def test_kill_9_and_rerun_resume_bit_exactly_in_two_processes(tmp_path):
    given = toy_sounds(), small_start(), json.dumps(CHANGES)
    straight, killed = tmp_path / "straight", tmp_path / "run"
    # One launch for the run that nobody stops and for the one that is killed: imports take longest.
    kill_in_training(Launched(SCRIPT, tmp_path, *given, straight, killed), killed)
    assert not (killed / "best").exists()
    ended = Launched(SCRIPT, tmp_path, *given, killed).wait()
    assert ended.code == 0, ended.err
    assert_equal_runs(straight, killed)
