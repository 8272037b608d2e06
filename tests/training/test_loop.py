"""What a kill between the steps of saving leaves behind."""

from pathlib import Path

import pytest
import transformers
from safetensors import SafetensorError
from transformers import TrainerControl, TrainerState, TrainingArguments

from mulap.training import loop
from mulap.training.loop import KeyedTrainer, RunCallback, newest_checkpoint
from mulap.training.processes import ALONE, Processes


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
    with pytest.raises(ValueError, match="a checkpoint cannot be written, .*free some") as raised:
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
