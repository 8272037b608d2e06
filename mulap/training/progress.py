"""Shows the progress of a training run, and writes metrics as text.

Progress is the losses by name, pairs per second and the share of time spent waiting for data. A
backbone that collapses is reported in words. Nothing here changes the run.
"""

import time
from collections.abc import Callable
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from mulap.terminal import Progress, say, warn

# Spreads of untrained and trained backbones were 0.2 to 0.45 in our runs (docs/log.md); a backbone
# that gives every segment one vector has 0.
COLLAPSE_SPREAD = 0.02
COLLAPSE_WARNING = (
    "the backbone collapses: its features hardly differ between segments (spread {spread:.4f} of "
    "their size). The masked-audio loss is then no progress: lower objectives.mam, raise "
    "objectives.atm, or set objectives.mam_target to normalized"
)


class ProgressCallback(TrainerCallback):
    """Shows a run's progress.

    Args:
        pairs_per_step: clip-caption pairs of an optimiser step over all processes; or of whatever
            else is trained on.
        title: what is being done.
        unit: what is trained on.
        describe: writes what validation found in one line.
        clock: tells the time in seconds.
    """

    def __init__(
        self,
        pairs_per_step: int,
        title: str = "pre-training",
        unit: str = "pairs",
        describe: Callable[[dict[str, float]], str] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title = title
        self.pairs_per_step = pairs_per_step
        self.unit = unit
        self.describe = describe or describe_metrics
        self.clock = clock
        self.shown, self.shown_step = 0.0, 0
        self.has_warned = False
        self.progress: Progress | None = None

    def close(self) -> None:
        """Take the bar away; also where training has failed."""
        if self.progress is not None:
            self.progress.close()

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Start the clock and the bar."""
        self.shown, self.shown_step = self.clock(), state.global_step
        self.progress = Progress(
            self.title, state.max_steps, "steps", state.global_step, self.clock
        )

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Move the bar."""
        if self.progress is not None:
            self.progress.update(state.global_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the losses since the last log."""
        if not logs or "loss" not in logs:
            return
        now = self.clock()
        # What is shown is the rate since the last line, without a validation that was between them.
        num_pairs = (state.global_step - self.shown_step) * self.pairs_per_step
        rate = num_pairs / max(now - self.shown, 1e-9)
        self.shown, self.shown_step = now, state.global_step
        wait = f"data wait {logs.get('data_wait', 0.0):.0%}"
        note = f"{describe_losses(logs)}  {rate:.1f} {self.unit}/s  {wait}"
        if self.progress is not None:
            self.progress.update(state.global_step, note=note)
        spread = logs.get("feature_spread", 1.0)
        if spread < COLLAPSE_SPREAD and not self.has_warned:
            self.has_warned = True
            warn("Warning: " + COLLAPSE_WARNING.format(spread=spread))

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show what validation found."""
        self.shown, self.shown_step = self.clock(), state.global_step
        values = {k.removeprefix("eval_"): v for k, v in (metrics or {}).items()}
        say(f"epoch {state.epoch or 0:g}, valid: {self.describe(values)}")

    def on_train_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Take the bar away."""
        self.close()


def describe_losses(values: dict[str, float]) -> str:
    """Write the losses of a log line, the total first, each by its objective's name."""
    parts = [f"loss {values['loss']:.3f}"]
    for name, value in values.items():
        if name.startswith("loss/"):
            parts.append(f"{name.removeprefix('loss/')} {value:.3f}")
    return "  ".join(parts)


def describe_metrics(values: dict[str, float]) -> str:
    """Write what an evaluation found in one line, with the retrieval's head and pool."""
    parts = [describe_losses(values)]
    if "atm/accuracy" in values:
        parts.append(f"matching accuracy {values['atm/accuracy']:.1%}")
    if "atm/pair_accuracy" in values:
        parts[-1] += f" ({values['atm/pair_accuracy']:.1%} over all pairs of the pool)"
    for head in ("atm", "contrastive", "chance"):
        prefix = f"retrieval/{head}"
        if f"{prefix}/median_rank" not in values:
            continue
        recall = ", ".join(f"R@{k} {values[f'{prefix}/R@{k}']:.1%}" for k in (1, 5, 10))
        rank = f"median rank {values[f'{prefix}/median_rank']:g}"
        by = "by chance" if head == "chance" else f"retrieval by the {head} head"
        of = f" of {values[f'{prefix}/pool']:.0f}" if f"{prefix}/pool" in values else ""
        parts.append(f"{by}: {recall}, {rank}{of}")
    return "; ".join(parts)
