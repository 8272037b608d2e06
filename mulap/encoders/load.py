"""Load an encoder by name: it turns a file into one vector per 3-second segment.

    random               untrained weights, the baseline of the paper
    mel                  statistics of log-mel and MFCCs
    musicnn-mtt, -msd    musicnn, trained on tags
    mulap-small          MuLaP on both musicnns, trained on weak sentences
    FOLDER               a MuLaP checkpoint, or a Hugging Face audio model
    hear:MODULE[:WEIGHTS], hf:NAME_OR_FOLDER    models of others

`embed`, the probes and the benchmark take any of them. Encoders are frozen: nothing that they are
given changes them, and a file's vectors do not depend on other files.
"""

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from mulap.encoders.backend import Backend, choose_backend, needs_torch
from mulap.encoders.encoder import Encoder, Level, Space
from mulap.encoders.joint import no_joint_space
from mulap.model.bundled import bundled_names
from mulap.vectors.store import fingerprint
from mulap.vectors.table import Making

if TYPE_CHECKING:
    import torch

RANDOM = "random"
MEL = "mel"
_OURS = ("mulap", "mulap_audio")  # types of models
_ON_CPU = ("auto", "cpu")


def load_encoder(
    name: str | os.PathLike[str],
    device: "str | torch.device" = "auto",
    seed: int = 0,
    space: Space = "backbone",
    backend: Backend = "auto",
) -> Encoder:
    """Load an encoder by name; `mulap.load` is this function.

    Args:
        name: one of those at the head of this module, or a model's folder.
        device: where it runs, as torch names it; `auto` is a GPU if torch has one, else the CPU.
            `mel` always runs on the CPU.
        seed: of untrained weights.
        space: of the vectors: `backbone`, the network's features, or `joint`, points of the space
            that a MuLaP model with a contrastive head shares with text.
        backend: what computes, `torch` or `onnx`; see `choose_backend`. Without PyTorch there are
            the bundled models, and folders of `mulap export`, on the CPU.

    Returns:
        The encoder, ready to use.

    Raises:
        ValueError: there is no such encoder or device, it cannot be loaded, or it has no such
            space.
    """
    name = os.path.expanduser(name)
    if space not in get_args(Space):
        raise ValueError(f"space is '{space}' (give {' or '.join(get_args(Space))})")
    if choose_backend(backend) == "torch":
        encoder = _load(name, device, seed, space)
    else:
        encoder = _load_onnx(name, str(device), space)
    if encoder.space != space:
        raise no_joint_space(name)
    return encoder


def _load(name: str, device: "str | torch.device", seed: int, space: Space) -> Encoder:
    # Encoders are imported when asked for: each stands on packages that others do without.
    from mulap.encoders.devices import choose_device

    device = choose_device(device)
    if name.startswith("hear:"):
        from mulap.encoders.foreign import hear_encoder

        return hear_encoder(name, device)
    if name.startswith("hf:"):
        from mulap.encoders.foreign import hugging_face_encoder

        return hugging_face_encoder(os.path.expanduser(name.removeprefix("hf:")), device, name)
    if name == MEL:
        from mulap.encoders.mel import mel_encoder

        return mel_encoder()
    if not _is_ours(name):
        from mulap.encoders.foreign import hugging_face_encoder

        return hugging_face_encoder(name, device)
    from mulap.encoders.embedder import Embedder

    return Embedder.from_pretrained(name, device, seed, space)


def _load_onnx(name: str, device: str, space: Space) -> Encoder:
    if name.startswith(("hear:", "hf:")) or name in (MEL, RANDOM) or not _is_ours(name):
        raise needs_torch(name)
    if device not in _ON_CPU:
        raise needs_torch(f"--device {device}")
    from mulap.encoders.onnx_embedder import OnnxEmbedder

    return OnnxEmbedder(name, space)


def _is_ours(name: str) -> bool:
    """Whether a model is ours; another folder is one of Hugging Face's.

    Raises:
        ValueError: there is no such model.
    """
    if name == RANDOM or name in bundled_names():
        return True
    if not (name and Path(name).is_dir()):
        names = ", ".join([RANDOM, MEL, *bundled_names()])
        if Path(name).is_file():
            raise ValueError(f"{name}: is a file. Give the folder of a model.")
        raise ValueError(
            f"{name}: no encoder or folder has this name. Give {names}, hear:MODULE, hf:NAME or a "
            "model's folder."
        )
    return _model_type(Path(name)) in (None, *_OURS)


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
