"""What a kill between the steps of saving leaves behind."""

from pathlib import Path

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from mulap.training import loop
from mulap.training.loop import RunCallback


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
