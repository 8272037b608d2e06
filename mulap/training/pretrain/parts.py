"""Parts of the pre-training model by the names of their parameters: freezing, learning rates."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

Part = Literal["backbone", "front_end", "text"]

# What the names of a part's parameters begin with.
_PREFIXES: dict[str, tuple[str, ...]] = {
    "backbone": ("mulap.audio_backbone.",),
    "text": ("mulap.text_encoder.", "mulap.upper_text."),
    "heads": (
        *("mlm_head.", "mam_head.", "atm_head."),
        *("mulap.audio_projection.", "mulap.text_projection.", "mulap.logit_scale"),
    ),
}


def is_in(part: str, name: str) -> bool:
    """Return whether a parameter belongs to a part: backbone, front_end, text or heads."""
    if part == "front_end":  # of each tower
        return is_in("backbone", name) and ".front_end." in name
    return name.startswith(_PREFIXES[part])


def freeze(model: nn.Module, parts: Sequence[Part]) -> None:
    """Take the gradients from some parts, so that none is computed for them.

    Args:
        model: changed in place.
        parts: what `hold_frozen` is to be given before each step, too.
    """
    for name, parameter in model.named_parameters():
        if any(is_in(part, name) for part in parts):
            parameter.requires_grad_(False)


def hold_frozen(model: nn.Module, parts: Sequence[Part]) -> None:
    """Put frozen parts into evaluation mode: their BatchNorm keeps its statistics, none drops out.

    Call it after each `model.train()`.
    """
    for name, module in model.named_modules():
        if any(is_in(part, f"{name}.") for part in parts):
            module.eval()
