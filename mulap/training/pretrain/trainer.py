"""The trainer of pre-training: MuLaP's objectives, parameter groups and evaluation.

The loop itself, its order, log and checkpoints, is `mulap.training.loop`'s.
"""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from transformers import TrainingArguments

from mulap.data.clips import Clip
from mulap.data.collator import PretrainCollator
from mulap.data.dataset import ClipDataset, ClipReader
from mulap.model.features import MulapFeatureExtractor
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor
from mulap.objectives.losses import compute_losses, feature_spread, weighted_sum
from mulap.training.loop import KeyedTrainer, make_arguments
from mulap.training.pretrain.evaluate import EVALUATION_SEED, evaluate, split_batch
from mulap.training.pretrain.heard import HeardWords
from mulap.training.pretrain.negatives import Embedded, embed_ahead, join_batches, scale_gradient
from mulap.training.pretrain.parts import hold_frozen, is_in
from mulap.training.pretrain.settings import PretrainSettings, TrainingSettings
from mulap.training.pretrain.summaries import TextSummaries
from mulap.training.processes import ALONE

HIGHEST_LOG_SCALE = math.log(100.0)  # CLIP's bound: a temperature of 0.01


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


def check_negatives(settings: PretrainSettings) -> None:
    """Refuse batches of one clip for an objective that needs captions of other clips.

    Raises:
        ValueError: there are none to learn from.
    """
    if settings.training.micro_batch_size > 1:
        return
    weights = settings.objectives.weights()
    in_one_process = int(os.environ.get("WORLD_SIZE", "1")) == 1
    is_alone = in_one_process or not settings.objectives.over_processes
    has_more = settings.objectives.whole_batch and settings.training.batch_size > 1
    lacking = {
        "atm": settings.masking.atm_negatives == "batch",
        "contrastive": is_alone and not has_more,
    }
    for name in (each for each in weights if lacking.get(each)):
        raise ValueError(
            f"training.micro_batch_size is 1: objectives.{name} has a weight, and no other caption "
            "of the micro-batch can be a mismatch: raise training.micro_batch_size"
        )


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
    return make_arguments(
        training,
        run,
        num_workers,
        per_device_train_batch_size=training.micro_batch_size,
        gradient_accumulation_steps=num_accumulated,
        lr_scheduler_type=training.schedule,
        warmup_steps=round(training.warmup_share * num_steps),
        metric_for_best_model="eval_loss"
        if training.best_by == "loss"
        else f"eval_{training.best_by}",
        greater_is_better="accuracy" in training.best_by or "/R@" in training.best_by,
        dataloader_drop_last=True,
        dataloader_prefetch_factor=num_ahead,
        ddp_find_unused_parameters=has_idle_head(settings),
    )


def count_workers(settings: PretrainSettings) -> int:
    """Count the processes that decode for this one: none, where it keeps what was decoded."""
    is_cached = settings.data.cache_features or "backbone" in settings.model.freeze
    return 0 if is_cached else settings.data.num_workers


def has_idle_head(settings: PretrainSettings) -> bool:
    """Whether a head gets no gradient, which processes must be told to not wait for."""
    heads = {"mlm", "mam", "atm"} | (
        {"contrastive"} if settings.model.has_contrastive_head else set()
    )
    return not heads <= settings.objectives.weights().keys()


class MulapTrainer(KeyedTrainer):
    """The Trainer with MuLaP's losses, groups and evaluation.

    Args:
        settings: of the run.
        pretrained: names of the parameters that were not drawn at random.
        processor: of the model.
        collator: of training; evaluation masks by the same recipe with a fixed seed.
        heard: targets of `objectives.tags`, if it has a weight.
        **kwargs: of `Trainer`.
    """

    def __init__(
        self,
        settings: PretrainSettings,
        pretrained: set[str],
        processor: MulapProcessor,
        collator: PretrainCollator,
        heard: HeardWords | None = None,
        **kwargs: Any,
    ) -> None:
        self.settings = settings
        self._heard = heard
        self.processor = processor
        self._summaries = TextSummaries()
        self._batches: Sequence[dict[str, torch.Tensor]] = ()  # of the step at hand
        self._ahead: list[Embedded] = []
        self._place = 0  # of the next one among them
        training = settings.training
        kwargs |= {"data_collator": collator, "processing_class": processor}
        optimizer = AdamW, {"betas": (training.adam_beta1, training.adam_beta2)}
        super().__init__(training, pretrained, optimizer_cls_and_kwargs=optimizer, **kwargs)

    def part_scale(self, name: str) -> float:
        """As the settings say for the part that a parameter belongs to."""
        for part in ("backbone", "text", "heads"):
            if is_in(part, name):
                return getattr(self.settings.training, f"{part}_lr_scale")
        return 1.0

    def get_batch_samples(self, *args: Any, **kwargs: Any) -> Any:
        """As the Trainer's; remembers the step's micro-batches."""
        samples = super().get_batch_samples(*args, **kwargs)
        self._batches, self._ahead, self._place = samples[0], [], 0
        return samples

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Add up the objectives; remember each for the log."""
        base = self.accelerator.unwrap_model(model)
        hold_frozen(base, self.settings.model.freeze)
        options = self.settings.objectives
        shared = self.processes if options.over_processes else ALONE
        if self._place == 0 and options.contrastive:
            base.mulap.logit_scale.data.clamp_(max=HIGHEST_LOG_SCALE)
            if options.whole_batch and len(self._batches) > 1:
                batches = [self._with_summary(base, batch) for batch in self._batches]
                self._ahead = embed_ahead(base.mulap, batches, shared)
        model_inputs, targets = split_batch(self._with_summary(base, inputs))
        own = model_inputs.pop("own_features", None)
        outputs = model(**model_inputs, fuses=options.needs_coattention)
        if options.contrastive and (shared.count > 1 or self._ahead):
            scale = base.mulap.logit_scale
            everything = shared, self._ahead, self._place
            outputs, targets = join_batches(outputs, targets, scale, *everything)
        self._place += 1
        losses = compute_losses(outputs, targets, options, shared.mean)
        if self._heard is not None:
            is_segment = model_inputs["audio_attention_mask"]
            features = outputs.backbone_features if own is None else own[is_segment.bool()]
            heard = outputs.audio_embeds, features, is_segment
            losses["tags"] = self._heard.loss(base.mulap, *heard)
        for name, loss in losses.items():
            self._sums[f"loss/{name}"] += loss.detach()
        self._sums["feature_spread"] += feature_spread(outputs.backbone_features)
        if options.needs_coattention:
            is_right = (outputs.atm_logits > 0) == targets.atm_labels.bool()
            self._sums["atm/accuracy"] += is_right.float().mean().detach()
        self._num_batches += 1
        if self._ahead:
            losses["contrastive"] = scale_gradient(losses["contrastive"], len(self._ahead))
        loss = weighted_sum(losses, options)
        return (loss, outputs) if return_outputs else loss

    def _with_summary(
        self, model: MulapForPreTraining, batch: dict[str, torch.Tensor]
    ) -> dict[str, torch.Tensor]:
        """Return a batch on the model's device, with the summaries of what a frozen text reads."""
        batch = self._prepare_inputs(batch)
        if not (self.settings.objectives.contrastive and "text" in self.settings.model.freeze):
            return batch
        return self._summaries.add_to(batch, model.mulap)

    def measure(self, model: Any) -> dict[str, float]:
        """Evaluate on the validation clips, which the processes share."""
        training = self.settings.training
        assert isinstance(self.eval_dataset, ClipDataset)
        return evaluate(
            model,
            self.eval_dataset,
            evaluation_collator(self.settings, self.processor),
            self.settings.objectives,
            training.micro_batch_size,
            training.retrieval_pool,
            count_workers(self.settings),
            self.processes,
        ).metrics


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


def training_collator(
    settings: PretrainSettings, processor: MulapProcessor, captions: Sequence[str]
) -> PretrainCollator:
    """Make the collator of training.

    Args:
        settings: of the run.
        processor: whose tokenizer and feature extractor the run has.
        captions: of the training split, which `atm_negatives: dataset` draws from.
    """
    masking = settings.masking
    return _make_collator(
        settings,
        processor,
        settings.training.seed,
        masking.atm_probability,
        atm_negatives=masking.atm_negatives,
        atm_draws=masking.atm_draws,
        caption_pool=captions,
    )


def evaluation_collator(settings: PretrainSettings, processor: MulapProcessor) -> PretrainCollator:
    """Make a collator whose choices are the same in every evaluation, by the recipe of training."""
    # Half, so that chance is a half; none where training swaps none.
    probability = 0.5 if settings.masking.atm_probability > 0 else 0.0
    return _make_collator(settings, processor, EVALUATION_SEED, probability)


def _make_collator(
    settings: PretrainSettings,
    processor: MulapProcessor,
    seed: int,
    atm_probability: float,
    **options: Any,
) -> PretrainCollator:
    """Make a collator that masks and swaps only what an objective with a weight scores."""
    masking, weights = settings.masking, settings.objectives.weights()
    extractor = processor.feature_extractor
    return PretrainCollator(
        tokenizer=processor.tokenizer,
        seed=seed,
        max_tokens=settings.data.max_tokens,
        mlm_probability=masking.mlm_probability if "mlm" in weights else 0.0,
        mam_probability=masking.mam_probability if "mam" in weights else 0.0,
        mam_min_masked=masking.mam_min_masked if "mam" in weights else 0,
        atm_probability=atm_probability if "atm" in weights else 0.0,
        keeps_captions={"mlm", "contrastive"} <= weights.keys(),
        is_floored_together=extractor.variant == "port" and extractor.db_reference == "batch",
        **options,
    )
