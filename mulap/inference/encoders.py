"""Load an encoder by name: it turns a file into one vector per 3-second segment.

    random               untrained weights, the baseline of the paper
    mel                  statistics of log-mel and MFCCs
    musicnn-mtt, -msd    musicnn, trained on tags
    FOLDER               a MuLaP checkpoint, or a Hugging Face audio model
    hear:MODULE[:WEIGHTS], hf:NAME_OR_FOLDER    models of others

`embed`, the probes and the benchmark take any of them. Encoders are frozen: nothing that they are
given changes them, and a file's vectors do not depend on other files.
"""

import json
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from mulap.inference.backbones import RANDOM
from mulap.inference.embedder import Embedder, Level, Rows
from mulap.model.bundled import bundled_names
from mulap.model.config import MulapAudioConfig, MulapConfig
from mulap.vectors.store import fingerprint
from mulap.vectors.table import Making

MEL = "mel"
_OURS = (MulapConfig.model_type, MulapAudioConfig.model_type)


class Encoder(Protocol):
    """What turns audio into one vector a segment; `Embedder` and `SegmentEncoder` are some."""

    @property
    def name(self) -> str:
        """What the rows are said to be made by."""
        ...

    @property
    def embedding_size(self) -> int:
        """Length D of a vector."""
        ...

    @property
    def stride_seconds(self) -> float:
        """Distance between the starts of two segments."""
        ...

    def describe(self, level: Level = "segment") -> dict[str, Any]:
        """Return what makes the vectors, as JSON; `model` is the name, and decides nothing."""
        ...

    def stream_file(self, path: str | PathLike[str]) -> Iterator[np.ndarray]:
        """Yield a file's inputs to `stream_rows`, some segments each, in constant memory."""
        ...

    def stream_rows(self, inputs: Iterable[np.ndarray], /, level: Level = "segment") -> Rows:
        """Yield where some segments start, in seconds (M,), and their vectors, float32 (M, D)."""
        ...


def load_encoder(name: str, device: str | torch.device = "cpu", seed: int = 0) -> Encoder:
    """Load an encoder by name.

    Args:
        name: one of those at the head of this module.
        device: where it runs; `mel` runs on the CPU.
        seed: of untrained weights.

    Returns:
        The encoder, ready to use.

    Raises:
        ValueError: there is none of that name, or it cannot be loaded.
    """
    # Encoders are imported when asked for: each stands on packages that others do without.
    if name.startswith("hear:"):
        from mulap.inference.foreign import hear_encoder

        return hear_encoder(name, device)
    if name.startswith("hf:"):
        from mulap.inference.foreign import hugging_face_encoder

        return hugging_face_encoder(name.removeprefix("hf:"), device, name)
    if name == MEL:
        from mulap.inference.mel import mel_encoder

        return mel_encoder()
    is_known = name == RANDOM or name in bundled_names()
    if not is_known and not Path(name).is_dir():
        names = ", ".join([RANDOM, MEL, *bundled_names()])
        raise ValueError(
            f"{name}: is no encoder (give a model's folder, {names}, hear:MODULE or hf:NAME)"
        )
    if not is_known and _model_type(Path(name)) not in (None, *_OURS):
        from mulap.inference.foreign import hugging_face_encoder

        return hugging_face_encoder(name, device)
    return Embedder.from_pretrained(name, device, seed)


def making_of(encoder: Encoder, level: Level = "segment") -> Making:
    """Return what makes an encoder's vectors, for a table or a store of them."""
    stride_seconds = encoder.stride_seconds if level == "segment" else 0.0
    return Making(encoder.embedding_size, stride_seconds, encoder.describe(level))


def encoder_sha256(encoder: Encoder) -> str:
    """Return the SHA-256 of what makes an encoder's segment vectors, whatever its name is."""
    return fingerprint(encoder.describe())


def _model_type(folder: Path) -> Any:
    """Return what a folder's config.json says of the model; None where it does not say."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None  # `load_backbone` says what is wrong
    return config.get("model_type") if isinstance(config, dict) else None
