"""Models of others as encoders: modules with the HEAR interface, and Hugging Face audio models.

    hear:MODULE[:WEIGHTS]   `load_model`, `get_scene_embeddings`; one scene embedding a segment
    hf:NAME_OR_FOLDER       AutoModel: `get_audio_features` where it has one (CLAP), otherwise the
                            mean over time of the last hidden state (Wav2Vec2, HuBERT, AST, ...)

Each hears what it asks for, at its own rate, and is cut as ours is (`mulap.inference.segments`).
Weights are read from safetensors only and no code of a model repository is run; a HEAR module is a
Python module that the user has installed and named, and does what it likes.

It does not know what was in a model's training data, nor which layer is best for a task: HEAR
modules decide that themselves, and of HF models the last layer is taken.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoFeatureExtractor, AutoModel

from mulap.files import sha256_of
from mulap.inference.backbones import hash_weights
from mulap.inference.devices import computing_on
from mulap.inference.segments import SegmentEncoder
from mulap.model.features import MulapFeatureExtractor
from mulap.terminal import without_transformers_bars

HEAR_RATES = (16_000, 22_050, 32_000, 44_100, 48_000)
_HEAR_FUNCTIONS = ("load_model", "get_scene_embeddings", "get_timestamp_embeddings")
# Weights that checkpoints may lack, since nothing that is read here depends on them.
_UNUSED_WEIGHTS = ("masked_spec_embed", "pooler.")
# What transformers raises where there is no model, or not a whole one.
_UNLOADABLE = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)


def hear_encoder(name: str, device: str | torch.device = "cpu") -> SegmentEncoder:
    """Load a module with the HEAR interface.

    Args:
        name: `hear:MODULE` or `hear:MODULE:WEIGHTS`; the weights are given to its `load_model`.
        device: where the model runs.

    Raises:
        ValueError: there is no such module, or it does not keep to the interface.
    """
    _, module_name, *rest = name.split(":", 2)
    weights = rest[0] if rest else ""
    module = _import_hear(name, module_name)
    try:
        model = module.load_model(weights) if weights else module.load_model()
    except OSError as error:
        raise ValueError(f"{name}: its weights cannot be read, {error} (check the path)") from error
    _check_hear_model(name, model)
    with computing_on(device):
        model = model.to(device).eval()
    size = model.scene_embedding_size

    def embed(segments: np.ndarray) -> np.ndarray:
        with torch.no_grad(), computing_on(device):
            audio = torch.from_numpy(segments).to(device)
            return _as_vectors(name, module.get_scene_embeddings(audio, model), len(audio), size)

    making = {
        "hear_module": module_name,
        "module_sha256": _hash_module(module),
        "weights_sha256": _hash_model(name, model),
        "weights": sha256_of(weights) if Path(weights).is_file() else weights,
    }
    cutter = MulapFeatureExtractor(sampling_rate=model.sample_rate)
    return SegmentEncoder(name, size, cutter, embed, making)


def hugging_face_encoder(
    name_or_path: str, device: str | torch.device = "cpu", name: str = ""
) -> SegmentEncoder:
    """Load an audio model that transformers knows.

    Args:
        name_or_path: of the hub, or a folder.
        device: where the model runs.
        name: what the rows are said to be made by; `name_or_path` where not given.

    Raises:
        ValueError: there is no such model, it hears no audio, or its weights are not all there.
    """
    extractor, model = _load_hugging_face(name_or_path)
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int):
        raise ValueError(f"{name_or_path}: is no audio model (give one with a sampling rate)")
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{name_or_path}: a {model.config.model_type} model writes text and has no embedding "
            "of its own (give an encoder, as Wav2Vec2, AST or CLAP)"
        )
    with computing_on(device):
        model = model.to(device).eval()
    embed = _hugging_face_function(name_or_path, extractor, model)
    cutter = MulapFeatureExtractor(sampling_rate=rate)
    silence = np.zeros((1, cutter.segment_samples), np.float32)
    making = {
        "model_type": model.config.model_type,
        "weights_sha256": _hash_model(name_or_path, model),
        "config_sha256": _hash_settings(model.config.to_json_string(use_diff=False)),
        "features_sha256": _hash_settings(extractor.to_json_string()),
        "vector": "get_audio_features" if _has_audio_features(model) else "mean of last hidden",
    }
    return SegmentEncoder(name or name_or_path, embed(silence).shape[1], cutter, embed, making)


def _import_hear(name: str, module_name: str) -> ModuleType:
    if not module_name or module_name.startswith(".") or "/" in module_name:
        raise ValueError(
            f"{name}: names no module (give hear:MODULE or hear:MODULE:WEIGHTS, as one imports it)"
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{name}: cannot be imported, {error} (install it)") from error
    missing = [each for each in _HEAR_FUNCTIONS if not callable(getattr(module, each, None))]
    if missing:
        raise ValueError(f"{name}: has no function {missing[0]} (give a module of the HEAR kind)")
    return module


def _hash_module(module: ModuleType) -> str:
    """Return the SHA-256 of a module's file; in a package of all its .py files and their names."""
    package = sys.modules[module.__name__.partition(".")[0]]
    if not hasattr(package, "__path__"):
        return sha256_of(module.__file__) if module.__file__ else ""
    digest = hashlib.sha256()
    for folder in map(Path, package.__path__):
        paths = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.py")}
        for name in sorted(paths):
            digest.update(f"{name}\0{sha256_of(paths[name])}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _check_hear_model(name: str, model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise ValueError(
            f"{name}: load_model gives a {type(model).__name__} (it must give a torch.nn.Module)"
        )
    rate: Any = getattr(model, "sample_rate", None)
    if rate not in HEAR_RATES:
        known = ", ".join(map(str, HEAR_RATES))
        raise ValueError(f"{name}: the model's sample_rate is {rate} (it must be one of {known})")
    for attribute in ("scene_embedding_size", "timestamp_embedding_size"):
        size: Any = getattr(model, attribute, None)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name}: the model's {attribute} is {size} (it must be an integer)")


def _load_hugging_face(name_or_path: str) -> tuple[Any, Any]:
    """Return the feature extractor and the model, float32."""
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name_or_path, trust_remote_code=False)
        # Weights that a checkpoint lacks are drawn: always the same, for the sake of the hash.
        with torch.random.fork_rng(devices=[]), without_transformers_bars():
            torch.default_generator.manual_seed(0)
            model, info = AutoModel.from_pretrained(
                name_or_path,
                trust_remote_code=False,
                use_safetensors=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except _UNLOADABLE as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"{name_or_path}: is no Hugging Face audio model that can be read: {reason}"
        ) from error
    missing = sorted(
        each
        for each in info["missing_keys"]
        if not any(unused in each for unused in _UNUSED_WEIGHTS)
    )
    if missing:
        raise ValueError(f"{name_or_path}: its weights lack {missing[0]} (copy the folder again)")
    return extractor, model


def _has_audio_features(model: nn.Module) -> bool:
    return callable(getattr(model, "get_audio_features", None))


def _hugging_face_function(
    name: str, extractor: Any, model: Any
) -> Callable[[np.ndarray], np.ndarray]:
    def embed(segments: np.ndarray) -> np.ndarray:
        inputs = extractor(
            list(segments), sampling_rate=extractor.sampling_rate, return_tensors="pt"
        )
        if "is_longer" in inputs:  # CLAP's extractor draws one of the batch to be long; none is
            inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
        with torch.no_grad(), computing_on(model.device):
            inputs = inputs.to(model.device)
            if _has_audio_features(model):
                output = model.get_audio_features(**inputs)
                vectors = getattr(output, "pooler_output", output)
            else:
                hidden = getattr(model(**inputs), "last_hidden_state", None)
                if hidden is None or hidden.ndim != 3:
                    raise ValueError(f"{name}: gives no last hidden state (give another model)")
                vectors = hidden.mean(1)
        return _as_vectors(name, vectors, len(segments), vectors.shape[-1])

    return embed


def _as_vectors(name: str, vectors: Any, num_segments: int, size: int) -> np.ndarray:
    """Return float32 (M, D), after a check that they are."""
    shape = tuple(getattr(vectors, "shape", ()))
    if shape != (num_segments, size):
        raise ValueError(f"{name}: gives embeddings of shape {shape} for {num_segments} of {size}")
    return vectors.float().cpu().numpy()


def _hash_model(name: str, model: Any) -> str:
    try:
        return hash_weights(model)
    except TypeError as error:
        raise ValueError(f"{name}: its weights are of an unusual type, {error}") from error


def _hash_settings(settings: str) -> str:
    """Return the SHA-256 of settings in JSON, without those that say where they came from."""
    values = json.loads(settings)
    kept = {
        name: value
        for name, value in values.items()
        if not name.endswith("name_or_path") and name != "transformers_version"
    }
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()
