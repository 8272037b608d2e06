"""Parts of the training step, as contestants: the backbone, the text side, AdamW.

Each is a forward and a backward pass, gradients included, or a step of the optimiser. The text side
is that of the paper's model on one batch of captions: text layers, then scores of hidden words. Its
changes are made one by one, and all together.
"""

import mulap.cli.group  # isort: skip  # says how torch's threads wait

from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy

from benchmarks.authors import pad_captions
from benchmarks.problems import make_backbone, make_model, make_pairs
from mulap.fast.front_end import fuse_front_end
from mulap.model.modeling import IGNORED_LABEL

__all__ = ["backbone", "mulap", "optimizer", "text"]


def backbone(
    num_segments: int, is_fused: bool = False, is_channels_last: bool = False
) -> Callable[[], None]:
    """Make a forward and backward pass of the `port` musicnn in training mode."""
    model = make_backbone().train()
    fuse_front_end(model, is_fused)
    if is_channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore
    log_mels = torch.randn(num_segments, 96, 188)

    def run() -> None:
        model.zero_grad()
        model(log_mels).square().mean().backward()

    run()
    return run


def text(
    num_captions: int,
    is_padded: bool = True,
    scores_all: bool = True,
    attention: str = "eager",
    is_toy: bool = False,
) -> Callable[[], float]:
    """Make a pass of the text side.

    Args:
        num_captions: in the batch.
        is_padded: to 64 tokens, not to the longest caption.
        scores_all: every token's words, not the hidden ones' alone.
        attention: `eager` or `sdpa`.
        is_toy: a tiny model.

    Returns:
        What runs it and returns the loss.
    """
    model = make_model(is_toy).train()
    model.mulap.text_encoder.set_attn_implementation(attention)
    _, batch = make_pairs(num_captions, is_toy)
    if is_padded:
        batch |= pad_captions(batch)
    labels = batch["mlm_labels"].flatten()

    def run() -> float:
        model.zero_grad()
        states = model.mulap.encode_text(batch["input_ids"], batch["attention_mask"]).flatten(0, 1)
        is_scored = torch.ones_like(labels, dtype=torch.bool)
        if not scores_all:
            is_scored = labels != IGNORED_LABEL
        scores = model.mlm_head(states[is_scored])
        loss = cross_entropy(scores, labels[is_scored], ignore_index=IGNORED_LABEL)
        loss.backward()
        return loss.item()

    run()
    return run


def optimizer(is_toy: bool = False, **options: bool) -> Callable[[], None]:
    """Make a step of AdamW over the paper's model; options `foreach` and `fused` are torch's."""
    model = make_model(is_toy)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 1e-3)
    adam = torch.optim.AdamW(model.parameters(), lr=1e-4, **options)

    def run() -> None:
        adam.step()

    run()
    return run
