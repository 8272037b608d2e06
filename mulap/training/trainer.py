"""The training loop: Hugging Face's Trainer with what MuLaP adds to it.

Added are keyed order and masks, losses by objective, parameter groups, an evaluation of its own,
and checkpoints that are whole or not there. Gradient accumulation, mixed precision, distribution
and resuming are the Trainer's.
"""

import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mulap.data.collator import PretrainCollator
from mulap.data.dataset import ClipDataset, KeyedSampler
from mulap.files import atomic_path
from mulap.objectives.losses import compute_losses, feature_spread, weighted_sum
from mulap.training.checkpoints import checkpoint_path, mark_complete, remove_old
from mulap.training.evaluate import EVALUATION_SEED, evaluate, split_batch
from mulap.training.settings import PretrainSettings, TrainingSettings


def _restore_on_cpu(storage: Any, location: str) -> Any:
    return storage if location.startswith("cpu:") else None


# transformers 5.17 resumes the optimiser of several CPU processes at "cpu:0", which torch does not
# know as a place; 5.23 says "cpu". Nothing is tagged by this, only found.
torch.serialization.register_package(0, lambda storage: None, _restore_on_cpu)


def parameter_groups(
    model: nn.Module, pretrained: set[str], settings: TrainingSettings
) -> list[dict[str, Any]]:
    """Part the parameters by decay and learning rate.

    Decay is for matrices and kernels: a parameter of one dimension is a bias or belongs to a
    normalisation. Weights that came from a pretrained BERT have a learning rate of their own.

    Args:
        model: whose trainable parameters are parted.
        pretrained: names of the parameters that came from a pretrained BERT.
        settings: rates and decay.

    Returns:
        Groups for the optimiser, each parameter in one of them.
    """
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = defaultdict(list)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            groups[parameter.ndim >= 2, name in pretrained].append(parameter)
    return [
        {
            "params": parameters,
            "weight_decay": settings.weight_decay if decays else 0.0,
            "lr": settings.learning_rate * (settings.pretrained_lr_scale if is_pretrained else 1.0),
        }
        for (decays, is_pretrained), parameters in sorted(groups.items())
    ]


def count_steps(training: TrainingSettings, num_train_clips: int) -> tuple[int, int]:
    """Count the micro-batches of a step, in one process, and the steps of the whole run.

    Raises:
        ValueError: the batch sizes do not divide, or there are fewer clips than a micro-batch.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    at_once = training.micro_batch_size * num_processes
    if training.batch_size % at_once:
        raise ValueError(
            f"training.batch_size = {training.batch_size} is no multiple of {num_processes} "
            f"process(es) x training.micro_batch_size = {training.micro_batch_size}: change one"
        )
    if num_train_clips < at_once:
        raise ValueError(
            f"the training split has {num_train_clips} clips, fewer than the {at_once} of one "
            "micro-batch over all processes: lower training.micro_batch_size, or add tracks"
        )
    num_accumulated = training.batch_size // at_once
    steps_per_epoch = math.ceil(num_train_clips // at_once / num_accumulated)
    return num_accumulated, steps_per_epoch * training.num_epochs


def training_arguments(
    settings: PretrainSettings, run: Path, num_train_clips: int
) -> TrainingArguments:
    """Turn the settings into the Trainer's arguments.

    Raises:
        ValueError: see `count_steps`, and bf16 where there is no accelerator.
    """
    training = settings.training
    num_accumulated, num_steps = count_steps(training, num_train_clips)
    on_cpu = not torch.cuda.is_available()
    if on_cpu and training.precision == "bf16":
        raise ValueError("training.precision = bf16 is for accelerators: set it to fp32 here")
    return TrainingArguments(
        output_dir=os.fspath(run),
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=num_accumulated,
        num_train_epochs=training.num_epochs,
        learning_rate=training.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(training.warmup_share * num_steps),
        max_grad_norm=training.max_grad_norm,
        bf16=training.precision == "bf16",
        seed=training.seed,
        use_cpu=on_cpu,
        eval_strategy="epoch",
        save_strategy="epoch",
        metric_for_best_model="eval_loss"
        if training.best_by == "loss"
        else f"eval_{training.best_by}",
        greater_is_better=training.best_by.endswith("accuracy"),
        logging_steps=training.log_every_steps,
        logging_nan_inf_filter=False,
        report_to=training.report_to or "none",
        remove_unused_columns=False,
        dataloader_drop_last=True,
        dataloader_num_workers=0 if settings.data.cache_features else settings.data.num_workers,
        dataloader_pin_memory=not on_cpu,
        disable_tqdm=True,
        ddp_find_unused_parameters=has_idle_head(settings),
    )


def has_idle_head(settings: PretrainSettings) -> bool:
    """Whether a head gets no gradient, which processes must be told to not wait for."""
    heads = {"mlm", "mam", "atm"} | (
        {"contrastive"} if settings.model.has_contrastive_head else set()
    )
    return not heads <= settings.objectives.weights().keys()


class MulapTrainer(Trainer):
    """Hugging Face's Trainer with MuLaP's order, losses, groups and evaluation.

    Args:
        settings: of the run.
        pretrained: names of the parameters that came from a pretrained BERT.
        collator: of training; evaluation hides by the same recipe with a fixed seed.
        **kwargs: of `Trainer`.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        pretrained: set[str],
        collator: PretrainCollator,
        **kwargs: Any,
    ) -> None:
        self.settings = settings
        self.pretrained = pretrained
        self.tokenizer = collator.tokenizer
        self.sampler: KeyedSampler | None = None
        self._sums: dict[str, torch.Tensor | float] = defaultdict(float)
        self._num_batches = 0
        self._wait_seconds = 0.0
        self._logged_at = time.monotonic()
        super().__init__(data_collator=collator, **kwargs)

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> KeyedSampler:
        assert isinstance(self.train_dataset, ClipDataset)
        self.sampler = KeyedSampler(len(self.train_dataset), self.args.seed)
        return self.sampler

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Make a fused AdamW over `parameter_groups`."""
        if self.optimizer is None:
            assert self.model is not None
            training = self.settings.training
            groups = parameter_groups(self.model, self.pretrained, training)
            betas = (training.adam_beta1, training.adam_beta2)
            self.optimizer = AdamW(groups, lr=training.learning_rate, betas=betas, fused=True)
        return self.optimizer

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Add up the objectives; remember each for the log."""
        model_inputs, targets = split_batch(inputs)
        outputs = model(**model_inputs)
        options = self.settings.objectives
        losses = compute_losses(outputs, targets, options)
        for name, loss in losses.items():
            self._sums[f"loss/{name}"] += loss.detach()
        self._sums["feature_spread"] += feature_spread(outputs.backbone_features)
        is_right = (outputs.atm_logits > 0) == targets.atm_labels.bool()
        self._sums["atm/accuracy"] += is_right.float().mean().detach()
        self._num_batches += 1
        loss = weighted_sum(losses, options)
        return (loss, outputs) if return_outputs else loss

    def get_batch_samples(self, epoch_iterator: Iterator, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's, with the time that the model waited for data."""
        started = time.monotonic()
        samples = super().get_batch_samples(epoch_iterator, *args, **kwargs)
        self._wait_seconds += time.monotonic() - started
        return samples

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the mean of each objective since the last log, over all processes."""
        if "loss" in logs and self._num_batches:
            device = self.args.device
            sums = [torch.as_tensor(total, device=device) for total in self._sums.values()]
            means: Any = self.accelerator.reduce(torch.stack(sums) / self._num_batches, "mean")
            logs |= dict(zip(self._sums, means.tolist(), strict=True))
            now = time.monotonic()
            logs["data_wait"] = self._wait_seconds / max(now - self._logged_at, 1e-9)
            self._sums.clear()
            self._num_batches, self._wait_seconds, self._logged_at = 0, 0.0, now
        super().log(logs, start_time)

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate on the validation clips; every process does, the first one's figures count."""
        training = self.settings.training
        assert isinstance(self.eval_dataset, ClipDataset)
        result = evaluate(
            self.accelerator.unwrap_model(self.model),
            self.eval_dataset,
            evaluation_collator(self.settings, self.tokenizer),
            self.settings.objectives,
            training.micro_batch_size,
            training.retrieval_pool,
        )
        metrics = {f"eval_{name}": value for name, value in result.metrics.items()}
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._logged_at = time.monotonic()
        return metrics


def evaluation_collator(settings: PretrainSettings, tokenizer: Any) -> PretrainCollator:
    """Make a collator whose choices are the same in every evaluation, by the recipe of training."""
    masking = settings.masking
    return PretrainCollator(
        tokenizer=tokenizer,
        seed=EVALUATION_SEED,
        max_tokens=settings.data.max_tokens,
        mlm_probability=masking.mlm_probability,
        mam_probability=masking.mam_probability,
        mam_min_masked=masking.mam_min_masked,
        # Half, so that chance is a half; none where training swaps none.
        atm_probability=0.5 if swaps_captions(settings) else 0.0,
    )


def swaps_captions(settings: PretrainSettings) -> bool:
    """Whether captions are swapped: without the matching objective that would only be wrong."""
    return settings.objectives.atm != 0.0 and settings.masking.atm_probability > 0.0


class RunCallback(TrainerCallback):
    """Sets epochs, thins out evaluations, completes checkpoints.

    Args:
        trainer: whose sampler is told the epoch; accelerate does not in every case.
        run: the run's folder.
    """

    def __init__(self, trainer: MulapTrainer, run: Path) -> None:
        self.trainer = trainer
        self.run = run

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Tell the sampler the epoch, also when it is resumed in its middle."""
        assert self.trainer.sampler is not None
        self.trainer.sampler.set_epoch(int(state.epoch or 0))

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Ask for a checkpoint within an epoch where the settings say so."""
        # At the end of an epoch it is for `on_epoch_end`, which evaluates first: a checkpoint is
        # written once, and knows whether it is the best.
        is_end_of_epoch = (state.epoch or 0.0) % 1.0 == 0.0
        control.should_save = self._is_step_due(state) and not is_end_of_epoch

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Evaluate and save only at the epochs that the settings name, and at the last."""
        epoch = round(state.epoch or 0)
        is_due = epoch % self.trainer.settings.training.evaluate_every_epochs == 0
        control.should_evaluate = is_due or epoch >= args.num_train_epochs
        control.should_save = control.should_evaluate or self._is_step_due(state)

    def _is_step_due(self, state: TrainerState) -> bool:
        every = self.trainer.settings.training.save_every_steps
        return every > 0 and state.global_step % every == 0

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Mark the checkpoint whole once every process has written its part; drop old ones."""
        self.trainer.accelerator.wait_for_everyone()
        if args.process_index == 0:
            checkpoint = checkpoint_path(self.run, state.global_step)
            # The Trainer's own arguments, pickled; `settings.yaml` says the same for everybody.
            (checkpoint / "training_args.bin").unlink(missing_ok=True)
            mark_complete(checkpoint)
            remove_old(self.run, state.best_global_step)
            write_log(self.run / "log.jsonl", state.log_history)


def write_log(path: Path, history: list[dict[str, Any]]) -> None:
    """Write the run's log, one JSON object a line."""
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as out:
        for record in history:
            named = {name.replace("eval_", "valid/", 1): value for name, value in record.items()}
            out.write(json.dumps(named) + "\n")
