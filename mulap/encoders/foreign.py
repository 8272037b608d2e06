"""Models of others as encoders: modules with the HEAR interface, and Hugging Face audio models.

    hear:MODULE[:WEIGHTS]   `load_model`, `get_scene_embeddings`; one scene embedding a segment
    hf:NAME_OR_FOLDER       AutoModel: `get_audio_features` (CLAP), or else the model's own pooling
                            (AST), or else the mean of the last hidden state over the frames that
                            hold audio (Wav2Vec2, HuBERT, ...)

Each hears what it asks for, at its own rate, and is cut as ours is (`mulap.encoders.segments`).
Weights are read from safetensors only and no code of a model repository is run; a HEAR module is a
Python module that the user has installed and named, and does what it likes.

It does not know what was in a model's training data, nor which layer is best for a task: HEAR
modules decide that themselves, and of HF models the last layer is taken.
"""

import hashlib
import inspect
import json
import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import nn
from transformers import AutoFeatureExtractor, AutoModel

from mulap.encoders.backbones import hash_weights
from mulap.encoders.devices import computing_on
from mulap.encoders.segments import SegmentEncoder
from mulap.files import sha256_of
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
    weights = os.path.expanduser(rest[0]) if rest else ""
    module = _import_hear(name, module_name)
    try:
        model = module.load_model(weights) if weights else module.load_model()
    except OSError as error:
        raise ValueError(f"{name}: its weights cannot be read, {error}. Check the path.") from error
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
    extractor, model, has_pooling = _load_hugging_face(name_or_path)
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int):
        raise ValueError(f"{name_or_path}: is no audio model. Give one with a sampling rate.")
    if getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"{name_or_path}: a {model.config.model_type} model writes text and has no embedding "
            "of its own. Give an encoder, as Wav2Vec2, AST or CLAP."
        )
    with computing_on(device):
        model = model.to(device).eval()
    cutter = MulapFeatureExtractor(sampling_rate=rate)
    silence = np.zeros((1, cutter.segment_samples), np.float32)
    embed = _HuggingFaceFunction(name_or_path, extractor, model, has_pooling, silence)
    size = embed(silence).shape[1]
    making = {
        "model_type": model.config.model_type,
        "weights_sha256": _hash_model(name_or_path, model),
        "config_sha256": _hash_settings(model.config.to_json_string(use_diff=False)),
        "features_sha256": _hash_settings(extractor.to_json_string()),
        "vector": embed.vector,
    }
    return SegmentEncoder(name or name_or_path, size, cutter, embed, making)


def _import_hear(name: str, module_name: str) -> ModuleType:
    if not module_name or module_name.startswith(".") or "/" in module_name:
        raise ValueError(
            f"{name}: names no module. Give hear:MODULE or hear:MODULE:WEIGHTS, as one imports it."
        )
    try:
        module = import_module(module_name)
    except ImportError as error:
        raise ValueError(f"{name}: cannot be imported, {error}. Install it.") from error
    missing = [each for each in _HEAR_FUNCTIONS if not callable(getattr(module, each, None))]
    if missing:
        raise ValueError(f"{name}: has no function {missing[0]}. Give a module of the HEAR kind.")
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
            f"{name}: load_model gives a {type(model).__name__}. It must give a torch.nn.Module."
        )
    rate: Any = getattr(model, "sample_rate", None)
    if rate not in HEAR_RATES:
        known = ", ".join(map(str, HEAR_RATES))
        raise ValueError(f"{name}: the model's sample_rate is {rate} (it must be one of {known})")
    for attribute in ("scene_embedding_size", "timestamp_embedding_size"):
        size: Any = getattr(model, attribute, None)
        if not isinstance(size, int) or size < 1:
            raise ValueError(f"{name}: the model's {attribute} is {size}. It must be an integer.")


def _check_hub(name: str) -> None:
    """Fetch a Hub model's config.json: its errors say what is wrong, the loaders' often do not."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of each time that it tries again
    try:
        hf_hub_download(name, "config.json")
    except LocalEntryNotFoundError as error:
        raise _not_downloaded(name) from error
    except HFValidationError as error:
        raise ValueError(
            f"hf:{name}: no such folder, and no name of a Hub model. Write hf:OWNER/MODEL or a "
            "folder."
        ) from error
    except HfHubHTTPError as error:
        raise ValueError(
            f"hf:{name}: the Hub has no such model, or does not show it to you. Check the name, or "
            "log in with `hf auth login`."
        ) from error
    finally:
        logger.setLevel(level)


def _not_downloaded(name: str) -> ValueError:
    why = "HF_HUB_OFFLINE is set" if constants.HF_HUB_OFFLINE else "the Hub cannot be reached"
    return ValueError(
        f"hf:{name}: not downloaded yet, and {why}. Run `hf download {name}` where there is a "
        "network, or name the folder of a copy."
    )


def _load_hugging_face(name_or_path: str) -> tuple[Any, Any, bool]:
    """Return the extractor, the model in float32, and whether the weights of a pooler are whole."""
    is_folder = bool(name_or_path) and Path(name_or_path).is_dir()
    if not is_folder:
        _check_hub(name_or_path)
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
        if "trust_remote_code" in str(error):
            raise ValueError(
                f"{name_or_path}: needs code that comes with the model, and mulap never runs code "
                "from the Hub. Name a model that transformers knows, or wrap it as hear:MODULE."
            ) from error
        if not is_folder and constants.HF_HUB_OFFLINE:  # a part of it is there
            raise _not_downloaded(name_or_path) from error
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(
            f"{name_or_path}: is no Hugging Face audio model that can be read: {reason}"
        ) from error
    lacking = sorted(info["missing_keys"])
    missing = [key for key in lacking if not any(unused in key for unused in _UNUSED_WEIGHTS)]
    if missing:
        raise ValueError(f"{name_or_path}: its weights lack {missing[0]}. Copy the folder again.")
    return extractor, model, not any("pooler." in key for key in lacking)


class _HuggingFaceFunction:
    """Embeds segments with a Hugging Face model.

    Args:
        name: for messages.
        extractor: makes the model's inputs.
        model: in evaluation mode.
        has_pooling: the model's own pooling may be used, if it has one.
        silence: one segment, float32 (1, num_samples); all others are as long.

    Attributes:
        vector: what of the model's output is the embedding.
    """

    def __init__(
        self, name: str, extractor: Any, model: Any, has_pooling: bool, silence: np.ndarray
    ) -> None:
        self.name, self.extractor, self.model = name, extractor, model
        self.is_audio = None  # which of the extractor's frames are no padding
        self.vector = "get_audio_features"
        if callable(getattr(model, "get_audio_features", None)):
            return
        self.vector = "pooler_output"
        if has_pooling and getattr(self._run(silence), "pooler_output", None) is not None:
            return
        self.vector = "mean of last hidden"
        mask = self._mask_frames(silence)
        if mask is not None and not mask.all():
            self.is_audio, self.vector = mask, "mean of last hidden, without padding"

    def __call__(self, segments: np.ndarray) -> np.ndarray:
        """Return float32 (M, D) for segments (M, num_samples)."""
        output = self._run(segments)
        if self.vector in ("get_audio_features", "pooler_output"):
            vectors = getattr(output, "pooler_output", output)
        else:
            hidden = getattr(output, "last_hidden_state", None)
            if hidden is None or hidden.ndim != 3:
                raise ValueError(f"{self.name}: gives no last hidden state. Give another model.")
            if self.is_audio is not None:  # each token begins at a frame of the extractor's
                num_tokens, num_frames = hidden.shape[1], len(self.is_audio)
                hidden = hidden[:, self.is_audio[np.arange(num_tokens) * num_frames // num_tokens]]
            vectors = hidden.mean(1)
        return _as_vectors(self.name, vectors, len(segments), vectors.shape[-1])

    def _run(self, segments: np.ndarray) -> Any:
        inputs = self._extract(segments)
        if "is_longer" in inputs:  # CLAP's extractor draws one of the batch to be long; none is
            inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
        with torch.no_grad(), computing_on(self.model.device):
            inputs = inputs.to(self.model.device)
            if self.vector == "get_audio_features":
                return self.model.get_audio_features(**inputs)
            return self.model(**inputs)

    def _extract(self, segments: np.ndarray, **options: bool) -> Any:
        rate = self.extractor.sampling_rate
        return self.extractor(list(segments), sampling_rate=rate, return_tensors="pt", **options)

    def _mask_frames(self, segment: np.ndarray) -> np.ndarray | None:
        """Return bool (num_frames,) where a segment is no padding; None if the extractor is mute.

        Some models take no mask, so that it is asked for here alone.
        """
        name = "return_attention_mask"
        is_known = name in inspect.signature(self.extractor.__call__).parameters
        inputs = self._extract(segment, **({name: True} if is_known else {}))
        masks = [inputs[key] for key in inputs if key.endswith("mask")]
        return masks[0][0].bool().numpy() if masks and masks[0].ndim == 2 else None


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
