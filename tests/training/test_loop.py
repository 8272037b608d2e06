"""What all trainings share: how they go on, what they report to, their device, and their log."""

from functools import partial
from pathlib import Path

import pytest
import transformers
from safetensors import SafetensorError
from tiny import write_settings
from toy_task import make_data, make_settings
from transformers import TrainerControl, TrainerState, TrainingArguments

from mulap.training import loop
from mulap.training.checkpoints import mark_complete
from mulap.training.loop import KeyedTrainer, RunCallback, check_reporting, newest_checkpoint
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings
from mulap.training.pretrain.trainer import training_arguments
from mulap.training.processes import ALONE, Processes
from mulap.training.supervised.run import train_supervised
from mulap.training.supervised.trainer import supervised_arguments


class Accelerator:
    """Of one process."""

    def wait_for_everyone(self) -> None:
        pass


class Trainer:
    """All that the callback asks of a trainer when it saves."""

    accelerator = Accelerator()


def test_the_log_is_there_once_a_checkpoint_counts(tmp_path, monkeypatch):
    # A run that is killed after its last checkpoint has nothing to log any more when it goes on.
    def killed(checkpoint: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "mark_complete", killed)
    (tmp_path / "checkpoint-7").mkdir()
    state = TrainerState(global_step=7, log_history=[{"loss": 1.0, "step": 7}])
    arguments = TrainingArguments(output_dir=str(tmp_path), report_to="none", use_cpu=True)
    with pytest.raises(KeyboardInterrupt):
        RunCallback(Trainer(), tmp_path).on_save(arguments, state, TrainerControl())  # type: ignore
    assert (tmp_path / "log.jsonl").read_text() == '{"loss": 1.0, "step": 7}\n'


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("[enforce fail at inline_container.cc:672] .\nunexpected pos 1 vs 0"),
        SafetensorError("I/O error: No space left on device (os error 28)"),
        OSError(28, "No space left on device"),
    ],
)
def test_a_checkpoint_that_cannot_be_written_is_a_line(tmp_path, monkeypatch, error):
    def full(*args):
        raise error

    monkeypatch.setattr(transformers.Trainer, "_save_checkpoint", full)
    trainer = KeyedTrainer.__new__(KeyedTrainer)
    trainer.args = TrainingArguments(str(tmp_path), report_to="none", use_cpu=True)
    with pytest.raises(ValueError, match="a checkpoint cannot be written, .*Free some") as raised:
        trainer._save_checkpoint(None, None)
    assert str(raised.value).startswith(f"{tmp_path}: ")
    assert "\n" not in str(raised.value)


def test_a_process_that_is_lost_while_saving_is_no_full_disk(tmp_path, monkeypatch):
    def lost(*args):
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1234")

    monkeypatch.setattr(transformers.Trainer, "_save_checkpoint", lost)
    with pytest.raises(RuntimeError, match="^Connection closed by peer"):
        KeyedTrainer.__new__(KeyedTrainer)._save_checkpoint(None, None)


def test_processes_go_on_from_one_checkpoint_or_say_that_they_see_others(tmp_path, monkeypatch):
    for step in (2, 10):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "complete").write_text("{}")
    assert newest_checkpoint(tmp_path, ALONE) == tmp_path / "checkpoint-10"
    elsewhere = tmp_path / "elsewhere"
    assert newest_checkpoint(elsewhere, ALONE) is None
    told = iter([["checkpoint-10", "no checkpoint"]])
    monkeypatch.setattr(Processes, "gather", lambda self, value: next(told, [None, value]))
    with pytest.raises(ValueError, match="holds no checkpoint here and checkpoint-10 for process"):
        newest_checkpoint(elsewhere, Processes(rank=1, count=2))


@pytest.mark.parametrize(
    ("names", "num_before"),
    [(["rng_state.pth"], 1), (["rng_state_0.pth", "rng_state_1.pth", "rng_state_2.pth"], 3)],
)
def test_a_run_goes_on_with_as_many_processes_as_wrote_its_checkpoint_only(
    tmp_path, monkeypatch, names, num_before
):
    checkpoint = tmp_path / "checkpoint-10"
    checkpoint.mkdir()
    for name in [*names, "optimizer.pt"]:
        (checkpoint / name).touch()
    mark_complete(checkpoint)
    monkeypatch.setattr(Processes, "gather", lambda self, value: [value] * self.count)
    for count in (1, 2, 3):
        if count == num_before:
            assert newest_checkpoint(tmp_path, Processes(0, count)) == checkpoint
            continue
        told = f"checkpoint-10: was written by {num_before} process.es., and there are {count} now"
        with pytest.raises(ValueError, match=f"{told}: start {num_before} to go on") as caught:
            newest_checkpoint(tmp_path, Processes(0, count))
        assert "\n" not in str(caught.value)


def test_a_checkpoint_that_fsdp_wrote_is_refused_in_a_line(tmp_path):
    checkpoint = tmp_path / "checkpoint-10"
    checkpoint.mkdir()
    for name in ("optimizer.bin", "pytorch_model_fsdp.bin", "rng_state_0.pth"):
        (checkpoint / name).touch()
    mark_complete(checkpoint)
    with pytest.raises(ValueError, match="10: was written under FSDP .* Give another --output"):
        newest_checkpoint(tmp_path, ALONE)


def test_a_package_to_report_to_that_is_missing_is_a_line_with_its_command(monkeypatch):
    monkeypatch.setattr(loop, "get_available_reporting_integrations", lambda: ["tensorboard"])
    for names in ([], ["none"], ["all"], ["tensorboard"]):
        check_reporting(names)
    with pytest.raises(ValueError, match="names 'wandb', a package that is missing: install") as e:
        check_reporting(["tensorboard", "wandb"])
    assert "(pip install wandb)" in str(e.value)
    with pytest.raises(ValueError, match="names 'tensorbord': choose of .*tensorboard, .*wandb"):
        check_reporting(["tensorbord"])


@pytest.mark.parametrize("where", ["pre-training", "supervised"])
def test_a_missing_package_to_report_to_ends_a_run_before_anything_is_decoded(
    tmp_path, monkeypatch, where
):
    monkeypatch.setattr(loop, "get_available_reporting_integrations", lambda: [])
    changes = {"training": {"report_to": ["tensorboard"]}}
    if where == "supervised":
        data = make_data("tags", tmp_path / "no-sounds")
        start = partial(train_supervised, data, tmp_path / "run", make_settings(**changes))
    else:
        settings = load_settings(write_settings(tmp_path / "settings.yaml", **changes))
        start = partial(pretrain, settings, tmp_path / "no-corpus", tmp_path / "run")
    with pytest.raises(ValueError, match="pip install tensorboard"):
        start()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("where", ["pre-training", "supervised"])
def test_a_process_takes_one_gpu_of_the_several_that_it_sees(tmp_path, monkeypatch, where):
    prepare = TrainingArguments.__post_init__

    def see_four(self):
        prepare(self)
        self._n_gpu = 4

    monkeypatch.setattr(TrainingArguments, "__post_init__", see_four)
    if where == "supervised":
        arguments = supervised_arguments(make_settings(), tmp_path, 8, "macro_roc_auc")
    else:
        settings = load_settings(write_settings(tmp_path / "settings.yaml"))
        arguments = training_arguments(settings, tmp_path, 20)
    assert arguments.n_gpu == 1
    assert arguments.train_batch_size == arguments.per_device_train_batch_size
