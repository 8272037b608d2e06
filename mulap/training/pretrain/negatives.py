"""Contrastive negatives beyond a micro-batch: of all micro-batches of a step, and all processes.

Before the first micro-batch of a step, the clips and captions of all of them are embedded without
gradients. Each then computes the loss of the whole batch, with its own rows computed again and
those of the others as constants: the gradients of all add up to that of one batch ("cached
gradients", Gao et al. 2021). Weights do not change within a step, so nothing is stale, as rows of a
queue would be, and there is no queue to be saved in a checkpoint. The price is a forward pass.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from mulap.model.modeling import MulapModel
from mulap.model.pretraining import MulapForPreTrainingOutput
from mulap.objectives.losses import Targets
from mulap.training.pretrain.evaluate import split_batch
from mulap.training.processes import Processes


@dataclass(frozen=True)
class Embedded:
    """The clips and captions of one micro-batch, of all processes."""

    audio: Tensor  # (B, D)
    text: Tensor  # (C, D)
    clip_hash: Tensor  # int64 (B,), of the clips' own captions
    caption_hash: Tensor  # int64 (C,)


def embed_ahead(
    model: MulapModel, batches: Sequence[dict[str, Tensor]], processes: Processes
) -> list[Embedded]:
    """Embed the micro-batches of a step, without gradients and without changing the model.

    Args:
        model: in training mode, with a contrastive head.
        batches: as the collator gives them, on the model's device.
        processes: that share negatives, and all do the same.
    """
    # The fused front end, many times as fast as the plain one, runs only where gradients may come.
    is_trained = any(each.requires_grad for each in model.audio_backbone.parameters())
    embedded = []
    with _keep_statistics(model):
        for batch in batches:
            inputs, targets = split_batch(batch)
            with torch.set_grad_enabled(is_trained):
                features = inputs["input_features"], inputs["audio_attention_mask"]
                audio = model.get_audio_features(*features).detach()
            with torch.no_grad():
                text = _embed_text(model, inputs)
            embedded.append(_gather(audio, text, targets, processes))
    return embedded


def join_batches(
    outputs: MulapForPreTrainingOutput,
    targets: Targets,
    log_scale: Tensor,
    processes: Processes,
    ahead: Sequence[Embedded] = (),
    place: int = 0,
) -> tuple[MulapForPreTrainingOutput, Targets]:
    """Hold the clips of all micro-batches and processes against the captions of all.

    Args:
        outputs: of this process's micro-batch, with a contrastive head.
        targets: of it.
        log_scale: logarithm of what similarities are multiplied with.
        processes: that all do the same.
        ahead: all micro-batches of the step, from `embed_ahead`; none where it has only this one.
        place: of this micro-batch among them.

    Returns:
        The two with `logits_per_audio`, `clip_hash` and `caption_hash` of all clips and captions.
        Every process has the same, and computes the same loss of them. Of K micro-batches each has
        that of all, so its gradient is to be multiplied by K, the steps over which it is averaged;
        the scale, which is in every one, gets a share of its own.
    """
    own = _gather(outputs.audio_embeds, outputs.text_embeds, targets, processes)
    parts = [*ahead[:place], own, *ahead[place + 1 :]]
    audio = torch.cat([part.audio for part in parts])
    text = torch.cat([part.text for part in parts])
    shared = log_scale.detach() + (log_scale - log_scale.detach()) / len(parts)
    with torch.autocast(audio.device.type, enabled=False):  # as in the model
        similarity = shared.exp() * audio.to(shared.dtype) @ text.to(shared.dtype).T
    return (
        replace(outputs, logits_per_audio=similarity),
        replace(
            targets,
            clip_hash=torch.cat([part.clip_hash for part in parts]),
            caption_hash=torch.cat([part.caption_hash for part in parts]),
        ),
    )


def scale_gradient(loss: Tensor, factor: int) -> Tensor:
    """Return a loss of the same value whose gradient is multiplied."""
    return loss.detach() + factor * (loss - loss.detach())


def _embed_text(model: MulapModel, inputs: dict[str, Tensor]) -> Tensor:
    if "text_summary" in inputs:
        return model.project_text(inputs["text_summary"])
    ids = inputs.get("whole_input_ids", inputs["input_ids"])
    return model.get_text_features(ids, inputs["attention_mask"])


def _gather(audio: Tensor, text: Tensor, targets: Targets, processes: Processes) -> Embedded:
    rows = audio, text, targets.clip_hash, targets.caption_hash
    return Embedded(*map(processes.gather_rows, rows))


@contextmanager
def _keep_statistics(model: nn.Module) -> Iterator[None]:
    """Let BatchNorm use a batch's statistics without moving its running ones."""
    norms: list[Any] = [each for each in model.modules() if hasattr(each, "running_mean")]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked.clone() for norm in norms]
    try:
        for norm in norms:
            norm.momentum = 0.0
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            norm.num_batches_tracked.copy_(count)
