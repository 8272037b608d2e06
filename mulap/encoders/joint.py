"""The space that audio and text share in a MuLaP model with a contrastive head.

    segments' features (M, A)  -> feature_norm, audio_projection, unit length  -> (M, D)
    sentences                  -> text-only layers, pooled, projected, likewise -> (N, D)

Audio needs the projection alone. The text branch is loaded when a sentence is embedded first. What
computes is `mulap.encoders.torch_joint`, or `mulap.encoders.onnx_embedder` without PyTorch.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from mulap.encoders.kept import kept
from mulap.encoders.known_words import hardly_known
from mulap.encoders.tokens import Tokenizer, Tokens
from mulap.encoders.zero_shot import (
    Reference,
    ZeroShot,
    check_tags,
    default_tags,
    hash_sentences,
    sentences,
)
from mulap.files import sha256_of
from mulap.terminal import Progress
from mulap.vectors.store import fingerprint

_SENTENCES_AT_ONCE = 64
_TAGS_AT_ONCE, _LEAST_TAGS_KEPT = 256, 300


class JointSpace(ABC):
    """Audio features and sentences -> points of one space, of unit length.

    Attributes:
        folder: of the model.
        size: D.
        can_match: whether the weights hold the co-attention and the heads on it.
    """

    folder: Path
    size: int
    can_match: bool

    @abstractmethod
    def project(self, features: np.ndarray) -> np.ndarray:
        """Map the backbone's features, float32 (M, A), to points, float32 (M, D)."""

    @abstractmethod
    def sha256(self) -> str:
        """Return the hash of what maps features to points."""

    @property
    @abstractmethod
    def tokenizer(self) -> Tokenizer:
        """Of the text model; loaded when it is used first."""

    @abstractmethod
    def embed_tokens(self, tokens: Tokens) -> np.ndarray:
        """Map sentences to points, float32 (N, D)."""

    @abstractmethod
    def match(
        self, clips: Sequence[np.ndarray], tokens: Tokens, hidden: Sequence[np.ndarray] | None
    ) -> np.ndarray:
        """Return the log-odds that clips and sentences belong together, float32 (M, N).

        Args:
            clips: features (T, A) of each.
            tokens: of N sentences.
            hidden: bool (T,) of each clip, True where a segment is hidden; None hides none.
        """

    @abstractmethod
    def score_words(self, features: np.ndarray, tokens: Tokens, is_asked: np.ndarray) -> np.ndarray:
        """Return scores of the vocabulary, float32 (K, V), at K places of sentences beside a clip.

        Args:
            features: of the clip (T, A).
            tokens: of N sentences.
            is_asked: bool (N, L).
        """

    @abstractmethod
    def attend(self, features: np.ndarray, tokens: Tokens) -> tuple[np.ndarray, np.ndarray]:
        """Return the co-attention's weights for a clip (T, A) and one sentence.

        Returns:
            From tokens to the clip and its segments (K, H, L, 1 + T), and back (K, H, 1 + T, L).
        """

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
        points = np.empty((len(texts), self.size), np.float32)
        order = sorted(range(len(texts)), key=lambda index: len(texts[index]))  # little padding
        for start in range(0, len(texts), _SENTENCES_AT_ONCE):
            some = order[start : start + _SENTENCES_AT_ONCE]
            points[some] = self.embed_tokens(self.tokenizer([texts[index] for index in some]))
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
        return hardly_known(texts, self.tokenizer)

    @cached_property
    def files_sha256(self) -> str:
        """The hash of its weights and its tokenizer, as files."""
        files = [*self.folder.glob("*.safetensors"), *self.folder.glob("tokenizer*.json")]
        return fingerprint({path.name: sha256_of(path) for path in sorted(files)})


class NoJointSpace(ValueError):
    """An encoder shares no space with text."""


def no_joint_space(name: str) -> NoJointSpace:
    """Return the error of an encoder that has no contrastive head."""
    return NoJointSpace(
        f"{name}: has no space that it shares with text. Give a model trained with "
        "model.has_contrastive_head, or the space backbone."
    )
