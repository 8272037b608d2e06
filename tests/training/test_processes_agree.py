"""Processes that were told or have read different things do not train."""

import copy

import pytest
from tiny import write_corpus, write_settings
from toy_task import make_data, make_settings, small_start

from mulap.training.pretrain import run as pretrain_module
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings
from mulap.training.processes import (
    ALONE,
    FailedTogetherError,
    Processes,
    check_same_data,
    check_same_settings,
)
from mulap.training.supervised import run as supervised
from mulap.training.supervised.run import train_supervised, train_supervised_seeds

SECOND = Processes(rank=1, count=2)
SETTINGS = {
    "data": {"num_workers": 2, "crop": "start"},
    "training": {"seed": 1, "log_every_steps": 10, "report_to": ["tensorboard"]},
}


@pytest.fixture
def beside(monkeypatch):
    """Let process 0 say, in turn, what `change` makes of what this process, the second, says."""

    def start(*changes):
        waiting = list(changes)

        def gather(self, value):
            if isinstance(value, str | None):  # whether it has failed
                return [None, value]
            return [waiting.pop(0)(copy.deepcopy(value)), value]

        monkeypatch.setattr(Processes, "gather", gather)
        return waiting

    return start


def changed(section, name, value):
    def change(told):
        told[section][name] = value
        return told

    return change


def as_told(told):
    return told


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [("training", "seed", 2), ("data", "crop", "random"), ("training", "log_every_steps", 5)],
)
def test_a_process_with_other_settings_ends_all_and_the_first_is_named(
    beside, section, name, value
):
    beside(changed(section, name, value))
    own = SETTINGS[section][name]
    told = f"process 1: has other settings than process 0 .{section}.{name} is {own!r} here and "
    with pytest.raises(FailedTogetherError, match=f"{told}{value!r} there.: .*--set$") as caught:
        check_same_settings(SECOND, SETTINGS)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("section", "name", "value"), [("data", "num_workers", 9), ("training", "report_to", [])]
)
def test_what_each_process_may_choose_for_itself_is_not_compared(beside, section, name, value):
    waiting = beside(changed(section, name, value))
    check_same_settings(SECOND, SETTINGS)
    assert waiting == []


def test_a_process_that_has_read_other_data_ends_all(beside):
    beside(lambda told: told | {"num_clips": 4})
    told = "has other data than process 0 .num_clips is 3 here and 4 there.: .*same --data"
    with pytest.raises(FailedTogetherError, match=told):
        check_same_data(SECOND, {"num_clips": 3, "sha256": "abc"})


def test_alone_there_is_nothing_to_differ_from():
    check_same_settings(ALONE, SETTINGS)
    check_same_data(ALONE, {"num_clips": 3})


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ([changed("training", "learning_rate", 0.5)], "training.learning_rate is 0.001 here"),
        ([changed("training", "sync_batch_norm", False)], "training.sync_batch_norm is True here"),
        ([as_told, lambda told: told | {"sha256": "abc"}], "other data .*sha256 is "),
    ],
    ids=["rate", "normalisation", "clips"],
)
def test_pretraining_claims_no_folder_where_a_process_differs(
    beside, monkeypatch, tmp_path, changes, what
):
    settings = load_settings(write_settings(tmp_path / "settings.yaml"))
    corpus = write_corpus(tmp_path / "corpus", 4, 2)
    monkeypatch.setattr(pretrain_module, "join_processes", lambda: SECOND)
    waiting = beside(*changes)
    with pytest.raises(FailedTogetherError, match=what):
        pretrain(settings, corpus, tmp_path / "run")
    assert waiting == []
    assert not (tmp_path / "run" / "settings.yaml").exists()


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ([changed("training", "learning_rate", 0.5)], "training.learning_rate is 0.01 here"),
        ([as_told, changed("fold-0", "sha256", "abc")], "other data .*fold-0.sha256 is "),
        ([as_told, changed("fold-0", "start", "abc")], "other data .*fold-0.start is "),
    ],
    ids=["rate", "tracks", "start"],
)
def test_supervised_training_claims_no_folder_where_a_process_differs(
    beside, monkeypatch, tmp_path, changes, what
):
    monkeypatch.setattr(supervised, "join_processes", lambda: SECOND)
    waiting = beside(*changes)
    with pytest.raises(FailedTogetherError, match=what):
        train_supervised(make_data("tags"), tmp_path / "run", make_settings(), small_start())
    assert waiting == []
    assert not (tmp_path / "run" / "settings.yaml").exists()


def test_processes_with_other_seeds_do_not_train(beside, monkeypatch, tmp_path):
    monkeypatch.setattr(supervised, "join_processes", lambda: SECOND)
    beside(lambda told: told | {"seeds": [0]})
    with pytest.raises(FailedTogetherError, match=r"seeds is \[0, 1\] here and \[0\] there"):
        train_supervised_seeds(
            make_data("tags"), tmp_path / "run", make_settings(), (0, 1), small_start()
        )
