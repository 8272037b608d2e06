"""What a model says of audio and text together, as numpy arrays: all that `mulap.use` needs of it.

    engine = load_engine("mulap-small")
    features = engine.backbone.embed("song.mp3").embeddings      # (T, A), of 3-second segments
    engine.project(features), engine.embed_text(["calm piano"])  # points of one space (., D)
    engine.match(features, ["calm piano", "loud guitar"])        # probabilities of a match (2,)
    engine.score_words(features, tokens, is_asked)               # the masked-word head (K, V)
    engine.attend(features, "calm piano")                        # the co-attention's weights

The text branch, the co-attention and its heads are loaded when they are used first, and run on the
CPU. The co-attention was trained on clips of some segments and has learnt no position beyond them:
longer tracks pass it in windows of `WINDOW` segments.
"""

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mulap.encoders.backend import Backend
from mulap.encoders.joint import JointSpace
from mulap.encoders.load import load_encoder
from mulap.encoders.neutral import Neutral
from mulap.encoders.own import OwnEncoder
from mulap.encoders.tokens import Tokens, Vocabulary
from mulap.encoders.weights import hash_stored
from mulap.encoders.zero_shot import Reference
from mulap.vectors.store import fingerprint

WINDOW = 6  # segments: 18 seconds, the clips that mulap-small was trained on
# What makes the points of audio and text; the co-attention and the heads do not.
_MAKES_POINTS = (
    *("audio_backbone.", "feature_norm.", "audio_projection."),
    *("text_encoder.", "upper_text.", "text_projection."),
)


class Attention(NamedTuple):
    """What each stream of the co-attention looks at, in each layer and head (K, H).

    Attributes:
        tokens: of the sentence, [CLS] and [SEP] with them (L,).
        of_words: from each token to the whole track and its segments (K, H, L, 1 + T).
        of_audio: from the whole track and its segments to each token (K, H, 1 + T, L).
    """

    tokens: tuple[str, ...]
    of_words: np.ndarray
    of_audio: np.ndarray


class Engine:
    """A model with a joint space.

    Args:
        name_or_path: a bundled name or a folder.
        device: where the audio backbone runs, as `load_encoder` takes it.
        backend: what computes, likewise.

    Attributes:
        name: of the model.
        size: D, of the joint space.

    Raises:
        ValueError: there is no such model or device, or it shares no space with text.
    """

    def __init__(
        self,
        name_or_path: str | os.PathLike[str],
        device: str = "auto",
        backend: Backend = "auto",
    ) -> None:
        backbone = load_encoder(name_or_path, device, backend=backend)
        encoder = backbone.in_joint_space()
        assert isinstance(backbone, OwnEncoder)  # no other has a joint space
        self.backbone, self.encoder = backbone, encoder
        self.name: str = backbone.name
        self._joint: JointSpace = backbone.joint
        self.size = self._joint.size

    @cached_property
    def space(self) -> str:
        """The model's name and 8 digits of the hash of what makes its points."""
        making = {
            "weights": hash_stored(self._joint.folder, ("mulap.", ""), _MAKES_POINTS),
            "features": self.encoder.feature_extractor.log_mel_settings(),
            "words": self.vocabulary.words,
        }
        return f"{Path(self.name).name}@{fingerprint(making)[:8]}"

    @cached_property
    def reference(self) -> Reference:
        """The average track that scores are compared with; ValueError if it has none."""
        return Reference.load(self._joint.folder)

    @property
    def can_match(self) -> bool:
        """Whether it has a co-attention and the heads on it."""
        return self._joint.can_match

    def project(self, features: np.ndarray) -> np.ndarray:
        """Map features, float32 (M, A), to points of unit length, float32 (M, D).

        A track's point is the projection of the mean of its segments' features.
        """
        return self._joint.project(features)

    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Embed sentences: points of unit length, float32 (N, D)."""
        return self._joint.embed_text(texts)

    @cached_property
    def neutral(self) -> Neutral:
        """What says how well sentences fit a track, as percentiles; see `load_neutral`."""
        return self.backbone.neutral

    def hardly_known(self, texts: Sequence[str]) -> list[str]:
        """Return those of some sentences whose words the text model hardly knows."""
        return self._joint.hardly_known(texts)

    def tokenize(self, texts: Sequence[str]) -> Tokens:
        """Turn sentences into tokens; those too long for the text model are cut."""
        return self._joint.tokenizer(texts)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words that the text model knows."""
        return self._joint.tokenizer.vocabulary

    def match(
        self,
        tracks: np.ndarray | Sequence[np.ndarray],
        texts: Sequence[str],
        hidden: Sequence[np.ndarray] | None = None,
        window: int = WINDOW,
    ) -> np.ndarray:
        """Say how likely tracks and sentences belong together, by the co-attention.

        Each track and each sentence is encoded once; each pair passes the co-attention.

        Args:
            tracks: features of one track (T, A), or of several.
            texts: N sentences, at least one.
            hidden: bool (T,) of each track, True where a segment is hidden. One track may be given
                several times, each with other segments hidden.
            window: segments that pass together. A longer track is cut into windows of about equal
                length, of whose log-odds the mean is taken.

        Returns:
            Probabilities, float32 (N,) of one track, (M, N) of several.

        Raises:
            ValueError: there is nothing to match, or the model has no co-attention.
        """
        several = [tracks] if isinstance(tracks, np.ndarray) else list(tracks)
        if not (several and texts and all(map(len, several))):
            raise ValueError("there is nothing to match. Give features of tracks, and sentences.")
        self._check_can_match()
        counts = [-(-len(track) // window) for track in several]
        pieces = [each for pair in zip(several, counts, strict=True) for each in _cut(*pair)]
        masks = None
        if hidden is not None:
            masks = [each for pair in zip(hidden, counts, strict=True) for each in _cut(*pair)]
        log_odds = self._joint.match(pieces, self.tokenize(texts), masks)
        starts = np.cumsum([0, *counts[:-1]])
        mean = np.add.reduceat(log_odds, starts) / np.array(counts, np.float32)[:, None]
        scores = np.exp(-np.logaddexp(np.float32(0), -mean))
        return scores[0] if isinstance(tracks, np.ndarray) else scores

    def score_words(self, features: np.ndarray, tokens: Tokens, is_asked: np.ndarray) -> np.ndarray:
        """Score the vocabulary at places of sentences, as seen beside a clip.

        Args:
            features: of one clip (T, A), at most `WINDOW` segments that fit the training.
            tokens: of N sentences, with `Vocabulary.mask` where words are hidden.
            is_asked: bool (N, L), at K places.

        Returns:
            Scores before softmax, float32 (K, V), in order of sentences and places.
        """
        self._check_can_match()
        return self._joint.score_words(features, tokens, is_asked)

    def attend(self, features: np.ndarray, text: str) -> Attention:
        """Return where the co-attention looks, for a clip's features (T, A) and a sentence."""
        self._check_can_match()
        tokens = self.tokenize([text])
        words = tuple(self.vocabulary.words[index] for index in tokens.ids[0])
        return Attention(words, *self._joint.attend(features, tokens))

    def _check_can_match(self) -> None:
        if not self.can_match:
            raise ValueError(
                f"{self.name}: has no co-attention that matches audio and text. Give a model of "
                "mulap pretrain, such as mulap-small."
            )


def load_engine(
    name: str | os.PathLike[str] = "mulap-small", device: str = "auto", backend: Backend = "auto"
) -> Engine:
    """Load an engine; see `Engine`."""
    return Engine(name, device, backend)


def _cut(rows: np.ndarray, count: int) -> list[np.ndarray]:
    """Cut rows into so many pieces of about equal length."""
    return np.array_split(rows, count)
