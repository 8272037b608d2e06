"""The losses: tensors in, one number an objective out.

    mlm          cross-entropy of the hidden words             (paper, equation 2)
    mam          squared error of the hidden segments          (equation 3)
    atm          binary cross-entropy of the match             (equation 4)
    contrastive  InfoNCE between pooled audio and pooled text  (not in the paper; CLIP's loss)
    tags         cross-entropy of words that taggers hear      (not in the paper; in `training`)

Every loss is finite whatever the batch: with nothing to score it is 0 and still part of the graph,
so that no process of a distributed run waits for a gradient that never comes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    layer_norm,
    softplus,
)

from mulap.model.pretraining import MulapForPreTrainingOutput

OBJECTIVES = ("mlm", "mam", "atm", "contrastive", "tags")
# A count -> its mean over the processes whose losses are averaged; see `compute_losses`.
MeanCount = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class LossOptions:
    """The terms of the loss, and each way in which the authors' code differs from the paper.

    Attributes:
        mlm: weight (lambda of equation 5). The first three are the authors' (their config); the
            paper says that they were set manually. An objective of weight 0 is not computed.
        mam: weight.
        atm: weight.
        contrastive: weight; needs a model with `has_contrastive_head`.
        tags: weight; puts what the taggers of a frozen `model.audio_weights` hear into the shared
            space, see `mulap.training.pretrain.heard`. Not measured on validation clips.
        mam_target: `original`, the features before masking, as equation 3 has it; `normalized`,
            these after LayerNorm without parameters; `zeros`, the masked features themselves,
            which is what the authors' code regresses to.
        mam_reduction: `mean` over all masked numbers (the authors' code, and ViLBERT's), or `sum`
            of squares over features, mean over masked segments (equation 3 per segment).
        mismatch: what becomes of mlm and mam where the caption was swapped: `keep` both (ViLBERT,
            and the paper's expectation over all pairs), `drop_mlm` (the authors' code) or
            `drop_both`.
        over_processes: average losses, and share contrastive negatives, over the micro-batches of
            all processes. A clip then has micro_batch_size x processes - 1 negatives: 31 on one
            process, 511 on 16, with micro-batches of 32. False: each process has its own, and the
            mean of their losses is taken. See docs/scale.md.
        whole_batch: share contrastive negatives over all micro-batches of a step too, so that a
            clip has batch_size - 1 of them. The step's clips and captions are then embedded once
            more, ahead of it, and the gradient is that of one batch. False: a micro-batch alone.
    """

    mlm: float = 0.1
    mam: float = 4.0
    atm: float = 2.0
    contrastive: float = 0.0
    tags: float = 0.0
    mam_target: Literal["original", "normalized", "zeros"] = "original"
    mam_reduction: Literal["mean", "sum"] = "mean"
    mismatch: Literal["keep", "drop_mlm", "drop_both"] = "keep"
    over_processes: bool = True
    whole_batch: bool = True

    def weights(self) -> dict[str, float]:
        """Return the weight of each objective that has one."""
        return {name: getattr(self, name) for name in OBJECTIVES if getattr(self, name) != 0.0}

    @property
    def needs_coattention(self) -> bool:
        """Whether an objective with a weight looks at both streams together."""
        return not self.weights().keys() <= {"contrastive", "tags"}


@dataclass
class Targets:
    """What the heads' answers are held against.

    Attributes:
        atm_labels: (P,), 1 where clip and caption match; the first B are the clips' first pairs,
            in which words and segments are masked.
        audio_attention_mask: (B, T), 1 where there is a segment.
        is_masked_segment: bool (B, T), True where a segment was masked.
        clip_hash: int64 (B,), of the clips' own captions.
        caption_hash: int64 (C,), equal where captions are, also between processes.
    """

    atm_labels: Tensor
    audio_attention_mask: Tensor
    is_masked_segment: Tensor
    clip_hash: Tensor
    caption_hash: Tensor


def _own(count: Tensor) -> Tensor:
    """Return a count as it is, where no other process takes part."""
    return count


def _mean(losses: Tensor, is_counted: Tensor, mean_count: MeanCount) -> Tensor:
    """Mean of the losses that count; 0 if none does."""
    num_counted = mean_count(is_counted.sum())
    return (losses * is_counted).sum() / torch.where(num_counted > 0, num_counted, 1)


def mlm_loss(
    logits: Tensor, targets: Tensor, is_counted: Tensor, mean_count: MeanCount = _own
) -> Tensor:
    """Cross-entropy of the hidden words.

    Args:
        logits: (K, V).
        targets: ids (K,).
        is_counted: bool (K,), words that count.
        mean_count: see `compute_losses`.

    Returns:
        Scalar, the mean over the words that count; 0 if none does.
    """
    losses = cross_entropy(logits.float(), targets, reduction="none")
    return _mean(losses, is_counted, mean_count)


def mam_loss(
    predictions: Tensor,
    features: Tensor,
    is_masked: Tensor,
    target: Literal["original", "normalized", "zeros"] = "original",
    reduction: Literal["mean", "sum"] = "mean",
    mean_count: MeanCount = _own,
) -> Tensor:
    """Squared error of the hidden segments' features.

    The target carries no gradient: the backbone is trained jointly, and would otherwise learn to
    give features that are easy to predict, constant ones.

    Args:
        predictions: (B, T, A).
        features: the backbone's, before masking (B, T, A).
        is_masked: bool (B, T), True where a segment was hidden.
        target: see `LossOptions.mam_target`.
        reduction: see `LossOptions.mam_reduction`.
        mean_count: see `compute_losses`.

    Returns:
        Scalar; 0 if no segment was hidden.
    """
    goal = features.detach().float()
    if target == "normalized":
        goal = layer_norm(goal, goal.shape[-1:])
    elif target == "zeros":
        goal = torch.zeros_like(goal)
    errors = (predictions.float() - goal).square()
    per_segment = errors.mean(dim=-1) if reduction == "mean" else errors.sum(dim=-1)  # (B, T)
    return _mean(per_segment, is_masked, mean_count)


def atm_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy of log-odds (P,) against labels (P,), 1 for a match."""
    return binary_cross_entropy_with_logits(logits.float(), labels.float())


def contrastive_loss(logits_per_audio: Tensor, is_same_caption: Tensor) -> Tensor:
    """Symmetric InfoNCE in which equal captions are all right answers.

    Each right answer competes with the wrong ones only, not with the other right ones.

    Args:
        logits_per_audio: scaled similarities (B, C).
        is_same_caption: bool (B, C), True where a caption is (equal to) the clip's own.

    Returns:
        Scalar, the mean of the audio-to-text and text-to-audio losses. A clip or caption without a
        right answer in the batch counts in neither.
    """
    return 0.5 * (
        _multi_positive_loss(logits_per_audio, is_same_caption)
        + _multi_positive_loss(logits_per_audio.T, is_same_caption.T)
    )


def _multi_positive_loss(logits: Tensor, is_positive: Tensor) -> Tensor:
    logits = logits.float()
    lowest = torch.finfo(logits.dtype).min  # not -inf, for rows in which nothing is wrong
    of_wrong = logits.masked_fill(is_positive, lowest).logsumexp(dim=-1, keepdim=True)
    each = softplus(of_wrong - logits)  # -log(e^right / (e^right + sum of e^wrong))
    num_positives = is_positive.sum(dim=-1)
    losses = (each * is_positive).sum(dim=-1) / num_positives.clamp_min(1)
    return losses.sum() / (num_positives > 0).sum().clamp_min(1)


def counted_words(clip_index: Tensor, targets: Targets, options: LossOptions) -> Tensor:
    """Say which hidden words count, bool (K,), from the clip that each belongs to (K,)."""
    if options.mismatch == "keep":
        return torch.ones_like(clip_index, dtype=torch.bool)
    return targets.atm_labels.bool()[clip_index]


def counted_segments(targets: Targets, options: LossOptions) -> Tensor:
    """Say which hidden segments count, bool (B, T)."""
    is_counted = targets.is_masked_segment & targets.audio_attention_mask.bool()
    if options.mismatch == "drop_both":
        is_counted = is_counted & targets.atm_labels.bool()[: len(is_counted), None]
    return is_counted


def compute_losses(
    outputs: MulapForPreTrainingOutput,
    targets: Targets,
    options: LossOptions,
    mean_count: MeanCount = _own,
) -> dict[str, Tensor]:
    """Compute every objective that has a weight.

    Args:
        outputs: the model's answers for one batch.
        targets: what they are held against.
        options: weights and variants.
        mean_count: the mean over processes of how many words or segments count. With it the mean of
            the processes' losses is the mean over the words and segments of all; without, each
            process's mean weighs the same.

    Returns:
        Unweighted losses by objective, scalars.

    Raises:
        ValueError: a contrastive weight for a model without that head.
    """
    losses: dict[str, Tensor] = {}
    weights = options.weights()
    if "mlm" in weights:
        if outputs.mlm_targets is None or outputs.mlm_clip_index is None:
            raise ValueError("the mlm loss needs labels: give the model mlm_labels")
        is_counted = counted_words(outputs.mlm_clip_index, targets, options)
        losses["mlm"] = mlm_loss(outputs.mlm_logits, outputs.mlm_targets, is_counted, mean_count)
    if "mam" in weights:
        losses["mam"] = mam_loss(
            outputs.mam_predictions,
            outputs.audio_features,
            counted_segments(targets, options),
            options.mam_target,
            options.mam_reduction,
            mean_count,
        )
    if "atm" in weights:
        losses["atm"] = atm_loss(outputs.atm_logits, targets.atm_labels)
    if "contrastive" in weights:
        if outputs.logits_per_audio is None:
            raise ValueError(
                "objectives.contrastive has a weight, but the model has no contrastive head: set "
                "model.has_contrastive_head to true"
            )
        is_same_caption = targets.clip_hash[:, None] == targets.caption_hash
        losses["contrastive"] = contrastive_loss(outputs.logits_per_audio, is_same_caption)
    return losses


def weighted_sum(losses: dict[str, Tensor], options: LossOptions) -> Tensor:
    """Add up losses by their weights (paper, equation 5)."""
    weights = options.weights()
    return torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()


def feature_spread(features: Tensor) -> Tensor:
    """How much segments differ: the mean deviation over a batch relative to the features' size.

    A backbone that gives every segment the same vector has a spread of 0, which the regression of
    hidden features rewards ("collapse").

    Args:
        features: (M, A), M segments, at least two for a spread above 0.

    Returns:
        Root of (mean variance over segments / mean square), 0 to 1 for M segments, (); a tensor, so
        that a GPU is not waited for.
    """
    values = features.detach().float()
    variance = (values - values.mean(dim=0)).square().mean()
    # Zero features have no variance either: 0 / 1.
    mean_square = values.square().mean()
    return (variance / torch.where(mean_square == 0, 1.0, mean_square)).sqrt()
