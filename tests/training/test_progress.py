"""The rate that is shown is the one of now."""

import io
import re

from rich.console import Console
from transformers import TrainerControl, TrainerState

from mulap.training import progress
from mulap.training.progress import ProgressCallback


def test_the_rate_is_that_since_the_last_line_without_the_start_and_validations(monkeypatch):
    """It was the mean since the start, in which loading and validations never fade out."""
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    console = Console(record=True, file=io.StringIO(), width=400)
    callback = ProgressCallback(console, 8, describe=str)
    state, control = TrainerState(), TrainerControl()
    state.max_steps = 20
    callback.on_train_begin(None, state, control)
    for seconds, is_validated in ((60.0, False), (4.0, True), (4.0, False)):
        clock[0] += seconds
        state.global_step += 2
        callback.on_log(None, state, control, {"loss": 1.0})
        if is_validated:
            clock[0] += 1_000.0
            callback.on_evaluate(None, state, control, {})
    rates = re.findall(r"([\d.]+) pairs/s", console.export_text())
    assert rates == ["0.3", "4.0", "4.0"]
