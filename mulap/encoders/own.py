"""What our own networks do, whatever computes them: features, points, tags, words.

`mulap.encoders.embedder` computes them by PyTorch, `mulap.encoders.onnx_embedder` without it.
"""

import copy
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any, Self

import numpy as np

from mulap.encoders.encoder import Embedding, Encoder, Level, Rows, Tags
from mulap.encoders.joint import JointSpace, NoJointSpace
from mulap.encoders.neutral import Neutral, load_neutral
from mulap.encoders.zero_shot import ZeroShot, unit_length
from mulap.pools import BlockMapper


class OwnEncoder(Encoder):
    """A backbone, and what stands on it: a tagging head, or a space shared with text.

    Attributes:
        feature_size: length A of the backbone's features.
        shares_cores: whether several files are embedded side by side, each on a core.
        is_threaded: whether they are in threads, however many cores there are; else processes do
            better on many.
    """

    feature_size: int
    shares_cores: bool = True
    is_threaded: bool = False

    @property
    @abstractmethod
    def joint(self) -> JointSpace:
        """The space that the model shares with text; ValueError if it has none."""

    @abstractmethod
    def weights_sha256(self) -> str:
        """Return the hash of the backbone's tensors, as float32."""

    @abstractmethod
    def cores(self) -> AbstractContextManager[int]:
        """Yield how many threads may share files, each on one core meanwhile."""

    @abstractmethod
    def block_mapper(self, num_threads: int | None = None) -> AbstractContextManager[BlockMapper]:
        """Open threads for `stream_rows`; as many as there are cores where not given."""

    def in_joint_space(self) -> Self:
        """Return an embedder of the same backbone, whose vectors are points of the joint space.

        A segment's point is `MulapModel.get_audio_features` of that segment alone; a track's is the
        projection of the mean of its segments' features, and not the mean of their points.

        Raises:
            ValueError: the model has no such space.
        """
        size = self.joint.size  # loaded once, for both
        other = copy.copy(self)
        other.space, other.embedding_size, other.tags = "joint", size, ()
        return other

    def in_backbone_space(self) -> Self:
        """Return an embedder of the same backbone, whose vectors are its features."""
        other = copy.copy(self)
        other.space, other.embedding_size = "backbone", self.feature_size
        return other

    @cached_property
    def neutral(self) -> Neutral:
        """What tells how well words fit a point of the joint space; see `load_neutral`."""
        return load_neutral(self)

    def tag_clip(self, clip: Embedding, zero_shot: ZeroShot | None = None) -> Tags:
        """See `Encoder.tag_clip`."""
        if zero_shot is None:
            return super().tag_clip(clip)
        features = np.vstack([clip.embeddings, clip.embeddings.mean(0, dtype=np.float64)])
        points = self.joint.project(features.astype(np.float32))
        scores = self.neutral.percentile(points, zero_shot.points)
        deviations = zero_shot.score(points[-1:])[0]
        return Tags(
            clip.file, zero_shot.tags, scores[:-1], clip.start_seconds, scores[-1], deviations
        )

    def zero_shot(self, tags: Sequence[str] | None = None) -> ZeroShot:
        """See `Encoder.zero_shot`."""
        if self.tags:
            return super().zero_shot(tags)
        try:
            return self.joint.zero_shot(tags)
        except NoJointSpace:
            return super().zero_shot(tags)

    def embed_text(self, texts: str | Sequence[str]) -> np.ndarray:
        """Embed sentences in the joint space; see `JointSpace.embed_text`."""
        return self.joint.embed_text(texts)

    get_text_features = embed_text  # as CLAP calls it

    def get_audio_features(self, audio: Any, sampling_rate: int | None = None) -> np.ndarray:
        """Embed files or arrays in the joint space, as CLAP calls it.

        Args:
            audio: as `embed` takes it.
            sampling_rate: likewise.

        Returns:
            A point of unit length per clip, float32 (N, D); of one clip (1, D).

        Raises:
            ValueError: as of `embed`, or the model shares no space with text.
        """
        clips = self.in_joint_space().embed(audio, sampling_rate, "track")
        points = [clip.embeddings for clip in (clips if isinstance(clips, list) else [clips])]
        return unit_length(np.concatenate(points))

    def similarity(
        self, audio: Any, texts: str | Sequence[str], sampling_rate: int | None = None
    ) -> np.ndarray:
        """Return the cosines of files or arrays and sentences, float32 (N, M).

        They rank the clips for a sentence, and the sentences for a clip, and no more: what a cosine
        is worth, `tag` says. See `get_audio_features`.
        """
        return self.get_audio_features(audio, sampling_rate) @ self.embed_text(texts).T

    def describe(self, level: Level = "segment") -> dict[str, Any]:
        """Return what makes the vectors, for the table's metadata.

        Returns:
            `model`, the name; `weights_sha256`; `features`, the log-mel's
            settings; `level`; in the joint space `space` and `projection_sha256`, too.
        """
        is_joint = self.space == "joint"
        joint = {"space": "joint", "projection_sha256": self.joint.sha256()} if is_joint else {}
        return {
            "model": self.name,
            "weights_sha256": self.weights_sha256(),
            "features": self.feature_extractor.log_mel_settings(),
            "level": level,
            **joint,
        }

    def stream_rows(
        self,
        inputs: Iterable[np.ndarray],
        level: Level = "segment",
        map_blocks: BlockMapper = map,
    ) -> Rows:
        """See `Encoder.stream_rows`; points of the joint space come of the rows of features."""
        rows = super().stream_rows(inputs, level, map_blocks)
        if self.space == "backbone":
            return rows
        return ((starts, self.joint.project(features)) for starts, features in rows)
