"""The trainer of pre-training: MuLaP's objectives, parameter groups and evaluation.

The loop itself, its order, log and checkpoints, is `mulap.training.loop`'s.
"""

import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.optim import AdamW
from transformers import TrainingArguments

from mulap.data.captions import caption_key
from mulap.data.clips import Clip
from mulap.data.collator import PretrainCollator
from mulap.data.dataset import ClipDataset, ClipReader
from mulap.model.features import MulapFeatureExtractor
from mulap.model.pretraining import MulapForPreTraining, MulapForPreTrainingOutput
from mulap.objectives.losses import Targets, compute_losses, feature_spread, weighted_sum
from mulap.training.evaluate import EVALUATION_SEED, evaluate, split_batch
from mulap.training.loop import KeyedTrainer, common_arguments, one_device, parameter_groups
from mulap.training.processes import ALONE, Processes
from mulap.training.settings import PretrainSettings, TrainingSettings


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
    num_workers = count_workers(settings)
    # The Trainer draws all micro-batches of a step before it computes the first: unless the workers
    # hold a whole step ahead, they wait while it computes, and it waits while they decode.
    num_ahead = max(2, math.ceil(num_accumulated / num_workers)) if num_workers else None
    arguments = TrainingArguments(
        **common_arguments(training, run, num_workers),
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=num_accumulated,
        lr_scheduler_type="linear",
        warmup_steps=round(training.warmup_share * num_steps),
        metric_for_best_model="eval_loss"
        if training.best_by == "loss"
        else f"eval_{training.best_by}",
        greater_is_better=training.best_by.endswith("accuracy"),
        dataloader_drop_last=True,
        dataloader_prefetch_factor=num_ahead,
        ddp_find_unused_parameters=has_idle_head(settings),
    )
    return one_device(arguments)


def count_workers(settings: PretrainSettings) -> int:
    """Count the processes that decode for this one: none, where it keeps what was decoded."""
    return 0 if settings.data.cache_features else settings.data.num_workers


def has_idle_head(settings: PretrainSettings) -> bool:
    """Whether a head gets no gradient, which processes must be told to not wait for."""
    heads = {"mlm", "mam", "atm"} | (
        {"contrastive"} if settings.model.has_contrastive_head else set()
    )
    return not heads <= settings.objectives.weights().keys()


class SharingCollator(PretrainCollator):
    """As the collator it builds on, with a number for each caption that processes can compare."""

    def _text(self, captions: list[str], owners: Sequence[Any]) -> dict[str, torch.Tensor]:
        hashes = [
            blake2b(caption_key(caption).encode(), digest_size=8).digest() for caption in captions
        ]
        numbers = [int.from_bytes(digest, "little", signed=True) for digest in hashes]
        return super()._text(captions, list(owners)) | {"caption_hash": torch.tensor(numbers)}


def join_batches(
    outputs: MulapForPreTrainingOutput,
    targets: Targets,
    scale: torch.Tensor,
    processes: Processes,
) -> tuple[MulapForPreTrainingOutput, Targets]:
    """Hold the clips of all processes against the captions of all, for the contrastive loss.

    Args:
        outputs: of this process's micro-batch, with a contrastive head.
        targets: of it, with `caption_hash`.
        scale: what similarities are multiplied with.
        processes: that all do the same.

    Returns:
        The two with `logits_per_audio` and `is_same_caption` of all clips and captions. Every
        process has the same, and computes the same loss of them.
    """
    assert targets.caption_hash is not None
    audio = processes.gather_rows(outputs.audio_embeds)
    text = processes.gather_rows(outputs.text_embeds)
    own = targets.caption_hash[: len(outputs.audio_embeds)]
    clips = processes.gather_rows(own)
    captions = processes.gather_rows(targets.caption_hash)
    return (
        replace(outputs, logits_per_audio=scale * audio @ text.T),
        replace(targets, is_same_caption=clips[:, None] == captions),
    )


class MulapTrainer(KeyedTrainer):
    """The Trainer with MuLaP's losses, groups and evaluation.

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
        super().__init__(settings.training, data_collator=collator, **kwargs)

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
        shared = self.processes if options.over_processes else ALONE
        if shared.count > 1 and options.contrastive:
            scale = self.accelerator.unwrap_model(model).mulap.logit_scale.exp()
            outputs, targets = join_batches(outputs, targets, scale, shared)
        losses = compute_losses(outputs, targets, options, shared.mean)
        for name, loss in losses.items():
            self._sums[f"loss/{name}"] += loss.detach()
        self._sums["feature_spread"] += feature_spread(outputs.backbone_features)
        is_right = (outputs.atm_logits > 0) == targets.atm_labels.bool()
        self._sums["atm/accuracy"] += is_right.float().mean().detach()
        self._num_batches += 1
        loss = weighted_sum(losses, options)
        return (loss, outputs) if return_outputs else loss

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate on the validation clips, which the processes share."""
        training = self.settings.training
        assert isinstance(self.eval_dataset, ClipDataset)
        model = whole_model(self.accelerator.unwrap_model(self.model))
        self.processes.share_buffers(model)
        result = evaluate(
            model,
            self.eval_dataset,
            evaluation_collator(self.settings, self.tokenizer),
            self.settings.objectives,
            training.micro_batch_size,
            training.retrieval_pool,
            count_workers(self.settings),
            self.processes,
        )
        metrics = {f"eval_{name}": value for name, value in result.metrics.items()}
        self.log(dict(metrics))
        self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._logged_at = time.monotonic()
        return metrics


def whole_model(model: MulapForPreTraining) -> MulapForPreTraining:
    """Return the model, or a copy with all weights in this process where FSDP has parted them.

    A parted model answers only where all processes ask at once, and these share the clips.
    """
    weights = model.state_dict()
    if not any(isinstance(value, DTensor) for value in weights.values()):
        return model
    with torch.random.fork_rng(devices=[]):
        copy = MulapForPreTraining(model.config)  # pyright: ignore[reportArgumentType]
    copy.load_state_dict(
        {name: v.full_tensor() if isinstance(v, DTensor) else v for name, v in weights.items()}
    )
    return copy.to(next(iter(weights.values())).device)  # pyright: ignore[reportArgumentType]


def held_out_clips(
    settings: PretrainSettings, clips: Sequence[Clip], extractor: MulapFeatureExtractor
) -> ClipDataset:
    """Return the data set of held-out clips, for the validation of a run and for `mulap evaluate`.

    Crops and captions are chosen as in training, but by a fixed seed: figures of two runs are of
    the same audio and text, and those of a run are what `mulap evaluate` finds.
    """
    data = settings.data
    reader = ClipReader(extractor, data.crop_seconds, data.crop, EVALUATION_SEED)
    return ClipDataset(clips, reader, EVALUATION_SEED)


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
