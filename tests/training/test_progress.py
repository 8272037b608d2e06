"""The rate that is shown is the one of now."""

import re
from contextlib import redirect_stderr

from transformers import TrainerControl, TrainerState

from mulap.terminal import shown
from mulap.training.progress import ProgressCallback


def test_the_rate_is_that_since_the_last_log_without_the_start_and_validations(capsys, monkeypatch):
    """It was the mean since the start, in which loading and validations never fade out."""
    monkeypatch.setattr("mulap.terminal.FIRST_LINE_SECONDS", 5.0)
    clock = [100.0]
    callback = ProgressCallback(8, describe=str, clock=lambda: clock[0])
    state, control = TrainerState(), TrainerControl()
    state.max_steps = 20
    with shown():
        callback.on_train_begin(None, state, control)
        for seconds, is_validated in ((60.0, False), (40.0, True), (40.0, False)):
            clock[0] += seconds
            state.global_step += 2
            callback.on_log(None, state, control, {"loss": 1.0})
            if is_validated:
                clock[0] += 1_000.0
                callback.on_evaluate(None, state, control, {})
    lines = capsys.readouterr().err.splitlines()
    assert re.findall(r"([\d.]+) pairs/s", "\n".join(lines)) == ["0.3", "0.4", "0.4"]
    assert lines[0].startswith("pre-training: 2 of 20 steps, 0.0 steps/s, 09:00 left, loss 1.000")


def test_the_bar_is_gone_after_training_has_failed(notebook):
    callback, state = ProgressCallback(8), TrainerState()
    state.max_steps = 20
    with redirect_stderr(notebook), shown():
        callback.on_train_begin(None, state, TrainerControl())
    assert "pre-training" in notebook.getvalue()
    callback.close()
    assert notebook.getvalue().endswith("\r")
