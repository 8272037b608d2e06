"""Our own networks as an encoder: the audio backbone, and what stands on it.

That is the tagging head of a tagger, or the projection of a model with a contrastive head.

On the CPU the backbone runs as `FrozenBackbone`, on as many cores as torch has threads; elsewhere
it runs as it is.
"""

import copy
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import numpy as np
import torch

from mulap.encoders.backbones import hash_weights, load_backbone, load_tagging_head
from mulap.encoders.devices import computing_on
from mulap.encoders.encoder import Embedding, Encoder, Level, Rows, Space, Tags
from mulap.encoders.joint import JointSpace, NoJointSpace
from mulap.encoders.neutral import Neutral, load_neutral
from mulap.encoders.stream import stream_log_mels
from mulap.encoders.zero_shot import ZeroShot
from mulap.fast.frozen import FrozenBackbone, is_freezable
from mulap.fast.threads import BlockMapper, block_mapper
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone, TaggingHead


class Embedder(Encoder):
    """A backbone, the feature extractor that its config asks for, and perhaps a tagging head.

    Args:
        backbone: put into evaluation mode, so that BatchNorm uses its statistics and keeps them.
            Its weights are taken as they are now: train it further and make a new embedder.
        name: what tables call it.
        device: where the backbone runs. Another device gives other last bits, as it adds up in
            another order, and no more than that: it convolves in float32 as well, not in TF32.
        head: scores the tags that the backbone's config names.

    Attributes:
        frozen: what embeds on the CPU, to the same bits on any number of threads; None where the
            backbone itself does.
    """

    def __init__(
        self,
        backbone: MusicnnBackbone,
        name: str = "",
        device: str | torch.device = "cpu",
        head: TaggingHead | None = None,
    ) -> None:
        self.name = name
        self.backbone = backbone.eval()
        self.head = head
        with computing_on(device):
            self.backbone.to(device)  # pyright: ignore[reportArgumentType] (a decorator hides it)
            if head:
                head.eval().to(device)
                labels = backbone.config.id2label or {}
                self.tags = tuple(label for _, label in sorted(labels.items()))
        self.frozen = FrozenBackbone(backbone) if is_freezable(backbone) else None
        self.embedding_size = backbone.config.feature_size
        self.feature_extractor = MulapFeatureExtractor.from_config(backbone.config)

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str],
        device: str | torch.device = "cpu",
        seed: int = 0,
        space: Space = "backbone",
    ) -> "Embedder":
        """Load an embedder; of a MuLaP checkpoint only what embeds audio is read.

        Args:
            name_or_path: a bundled name, a folder that holds a MuLaP model, a tagger or a backbone,
                or `random` for untrained weights.
            device: where the backbone runs.
            seed: of `random`.
            space: of the vectors.

        Raises:
            ValueError: there is no such name or folder, no backbone in it, or no joint space.
        """
        backbone = load_backbone(name_or_path, seed)
        head = load_tagging_head(name_or_path, backbone)
        embedder = cls(backbone, os.fspath(name_or_path), device, head)
        return embedder.in_joint_space() if space == "joint" else embedder

    @cached_property
    def joint(self) -> JointSpace:
        """The space that the model shares with text; ValueError if it has none."""
        return JointSpace(self.name)

    def in_joint_space(self) -> "Embedder":
        """Return an embedder of the same backbone, whose vectors are points of the joint space.

        A segment's point is `MulapModel.get_audio_features` of that segment alone; a track's is the
        projection of the mean of its segments' features, and not the mean of their points.

        Raises:
            ValueError: the model has no such space.
        """
        size = self.joint.size  # loaded once, for both
        other = copy.copy(self)
        other.space, other.embedding_size, other.head, other.tags = "joint", size, None, ()
        return other

    def in_backbone_space(self) -> "Embedder":
        """Return an embedder of the same backbone, whose vectors are its features."""
        other = copy.copy(self)
        other.space, other.embedding_size = "backbone", self.backbone.config.feature_size
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
        points = np.concatenate(points)
        return points / np.linalg.norm(points, axis=1, keepdims=True)

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
            `model`, the name; `weights_sha256`, see `hash_weights`; `features`, the log-mel's
            settings; `level`; in the joint space `space` and `projection_sha256`, too.
        """
        is_joint = self.space == "joint"
        joint = {"space": "joint", "projection_sha256": self.joint.sha256()} if is_joint else {}
        return {
            "model": self.name,
            "weights_sha256": hash_weights(self.backbone),
            "features": self.feature_extractor.log_mel_settings(),
            "level": level,
            **joint,
        }

    def stream_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield a clip's log-mels, each (M, F, N)."""
        return stream_log_mels(self.feature_extractor, blocks)

    def block_mapper(self) -> AbstractContextManager[BlockMapper]:
        """Open threads for `stream_rows`; see `threads.block_mapper`."""
        return block_mapper() if self.frozen else nullcontext(map)

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

    @torch.inference_mode()
    def embed_input(self, some: np.ndarray) -> np.ndarray:
        """Return the backbone's features, float32 (M, A), of log-mels (M, F, N)."""
        if self.frozen and self.backbone.device.type == "cpu":  # it may have been moved since
            return self.frozen(some)
        with computing_on(self.backbone.device):
            vectors = self.backbone(torch.from_numpy(some).to(self.backbone.device))
            return vectors.float().cpu().numpy()

    @torch.inference_mode()
    def score_tags(self, vectors: np.ndarray) -> np.ndarray:
        """Return float32 (M, num_tags) for vectors (M, D); see `Encoder.score_tags`."""
        assert self.head  # it has tags
        with computing_on(self.backbone.device):
            logits = self.head(torch.from_numpy(vectors).to(self.backbone.device))
            return torch.sigmoid(logits.float()).cpu().numpy()
