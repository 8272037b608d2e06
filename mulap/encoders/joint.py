"""The space that audio and text share in a MuLaP model with a contrastive head.

    segments' features (M, A)  -> feature_norm, audio_projection, unit length  -> (M, D)
    sentences                  -> text-only layers, pooled, projected, likewise -> (N, D)

Audio needs the projection alone. The text branch is loaded when a sentence is embedded first.
"""

import json
import os
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from mulap.encoders.backbones import hash_weights, load_part, load_whole, loading, read_weights
from mulap.encoders.kept import kept
from mulap.encoders.known_words import hardly_known
from mulap.encoders.zero_shot import (
    Reference,
    ZeroShot,
    check_tags,
    default_tags,
    hash_sentences,
    sentences,
)
from mulap.fast.threads import one_torch_thread
from mulap.files import sha256_of
from mulap.model.audio_input import FeatureNorm, audio_projection
from mulap.model.bundled import locate_weights
from mulap.model.config import MulapConfig
from mulap.model.modeling import MulapModel
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor
from mulap.terminal import Progress
from mulap.vectors.store import fingerprint

_SENTENCES_AT_ONCE = 64
_TAGS_AT_ONCE, _LEAST_TAGS_KEPT = 256, 300
_FEW_SENTENCES = 4
_TEXT = ("model", "processor")


class AudioProjection(nn.Module):
    """The contrastive head's audio side; its tensors have the names that `MulapModel` gives."""

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        self.feature_norm = FeatureNorm(config)
        self.audio_projection = audio_projection(config)

    def forward(self, features: Tensor) -> Tensor:
        """Map the backbone's features, or their mean over a track, (M, A) to points (M, D)."""
        return normalize(self.audio_projection(self.feature_norm(features)), dim=-1)


class JointSpace:
    """Audio features and sentences -> points of one space, of unit length.

    Args:
        name_or_path: a bundled name or a folder.

    Attributes:
        folder: of the model.
        config: of the model.
        size: D.
        projection: of the audio, in evaluation mode, float32, on the CPU.

    Raises:
        ValueError: the model has no contrastive head, or it is not whole.
    """

    def __init__(self, name_or_path: str | os.PathLike[str]) -> None:
        self.folder = Path(locate_weights(name_or_path)).absolute()
        self.config = config = _read_config(os.fspath(name_or_path), self.folder)
        weights = read_weights(self.folder, ("mulap.", ""), ("feature_norm.", "audio_projection."))
        self.size: int = config.projection_dim
        self.projection = load_part(AudioProjection, config, weights, self.folder)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the text branch out of what is sent to other processes, which embed audio."""
        return {name: value for name, value in self.__dict__.items() if name not in _TEXT}

    @torch.inference_mode()
    def project(self, features: np.ndarray) -> np.ndarray:
        """Map the backbone's features, float32 (M, A), to points, float32 (M, D)."""
        with one_torch_thread():
            return self.projection(torch.from_numpy(features)).numpy()

    def sha256(self) -> str:
        """Return the hash of what maps features to points."""
        return hash_weights(self.projection)

    @torch.inference_mode()
    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Embed sentences; what is longer than the text model takes is cut.

        Args:
            texts: one or several.

        Returns:
            Points of unit length, float32 (N, D).

        Raises:
            ValueError: there is no sentence.
        """
        texts = [texts] if isinstance(texts, str) else list(texts)
        if not texts:
            raise ValueError("there is no sentence to embed. Give one or more.")
        model, processor = self.model, self.processor
        if isinstance(model, MulapForPreTraining):
            model = model.mulap
        points = np.empty((len(texts), self.size), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding
        # More threads gain nothing on a query, and wait for each other on a busy machine.
        with one_torch_thread() if len(texts) <= _FEW_SENTENCES else nullcontext():
            for start in range(0, len(texts), _SENTENCES_AT_ONCE):
                some = order[start : start + _SENTENCES_AT_ONCE]
                inputs = processor(
                    [texts[i] for i in some], max_length=self.max_tokens, return_tensors="pt"
                )
                points[some] = model.get_text_features(**inputs).numpy()
        return points

    def embed_tags(self, tags: Sequence[str]) -> np.ndarray:
        """Return the mean of each tag's sentences' points, float32 (num_tags, D).

        Those of hundreds of tags take many seconds and are kept in the user's cache.
        """

        def compute() -> dict[str, np.ndarray]:
            points = np.empty((len(tags), self.size), np.float32)
            with Progress("reading tags", len(tags), "tags") as progress:
                for start in range(0, len(tags), _TAGS_AT_ONCE):
                    some = tags[start : start + _TAGS_AT_ONCE]
                    of_lines = self.embed_text([line for tag in some for line in sentences(tag)])
                    rows = of_lines.reshape(len(some), -1, self.size).mean(1)
                    points[start : start + len(some)] = rows
                    progress.advance(len(some))
            return {"points": points}

        if len(tags) < _LEAST_TAGS_KEPT:
            return compute()["points"]
        making = fingerprint({"tags": hash_sentences(tags), "files": self.files_sha256})
        return kept("tags", making, compute)["points"]

    def zero_shot(self, tags: Sequence[str] | None = None) -> ZeroShot:
        """Return what scores tags of tracks.

        Args:
            tags: any words; None for the list that comes with mulap.

        Raises:
            ValueError: a tag is empty, or the model has no average track to compare with.
        """
        reference = Reference.load(self.folder)
        known = default_tags()
        tags = known if tags is None else check_tags(tags)
        is_stored = tags == known and reference.sentences_sha256 == hash_sentences(known)
        if is_stored and reference.tag_points is not None:
            return ZeroShot(tags, reference.tag_points, reference)
        return ZeroShot(tags, self.embed_tags(tags), reference, tuple(self.hardly_known(tags)))

    def hardly_known(self, texts: Sequence[str]) -> list[str]:
        """Return those of some texts whose words the text model hardly knows."""
        return hardly_known(texts, self.processor.tokenizer)

    @cached_property
    def model(self) -> MulapModel | MulapForPreTraining:
        """The whole model, in evaluation mode, float32, on the CPU."""
        kind = MulapForPreTraining if self.has_heads else MulapModel
        return load_whole(kind, self.folder).float().eval()

    @cached_property
    def processor(self) -> MulapProcessor:
        """Its feature extractor and its tokenizer."""
        with loading(f"{self.folder}: has no tokenizer"):
            return MulapProcessor.from_pretrained(self.folder)

    @cached_property
    def files_sha256(self) -> str:
        """The hash of its weights and its tokenizer, as files."""
        files = [*self.folder.glob("*.safetensors"), *self.folder.glob("tokenizer*.json")]
        return fingerprint({path.name: sha256_of(path) for path in sorted(files)})

    @property
    def max_tokens(self) -> int:
        """How many tokens of a sentence the text model takes."""
        longest = self.config.text_config.max_position_embeddings
        return min(self.processor.tokenizer.model_max_length, longest)

    @property
    def has_heads(self) -> bool:
        """Whether the weights hold the heads of pre-training, as matching needs."""
        return MulapForPreTraining.__name__ in (self.config.architectures or ())


class NoJointSpace(ValueError):
    """An encoder shares no space with text."""


def no_joint_space(name: str) -> NoJointSpace:
    """Return the error of an encoder that has no contrastive head."""
    return NoJointSpace(
        f"{name}: has no space that it shares with text. Give a model trained with "
        "model.has_contrastive_head, or the space backbone."
    )


def _read_config(name: str, folder: Path) -> MulapConfig:
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise no_joint_space(name) from error
    is_ours = isinstance(values, dict) and values.get("model_type") == MulapConfig.model_type
    if not (is_ours and values.get("has_contrastive_head")):
        raise no_joint_space(name)
    with loading(f"{folder / 'config.json'}: cannot be used"):
        return MulapConfig.from_pretrained(folder)
