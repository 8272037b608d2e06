"""Our own networks by PyTorch: the audio backbone, and what stands on it.

That is the tagging head of a tagger, or the projection of a model with a contrastive head.

On the CPU the backbone runs as `FrozenBackbone`, on as many cores as torch has threads; elsewhere
it runs as it is.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import numpy as np
import torch

from mulap.encoders.backbones import hash_weights, load_backbone, load_tagging_head
from mulap.encoders.devices import computing_on
from mulap.encoders.encoder import Space
from mulap.encoders.own import OwnEncoder
from mulap.encoders.stream import stream_log_mels
from mulap.encoders.torch_joint import TorchJoint
from mulap.fast.frozen import FrozenBackbone, is_freezable
from mulap.fast.threads import block_mapper, one_torch_thread
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone, TaggingHead
from mulap.pools import BlockMapper


class Embedder(OwnEncoder):
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

    feature_extractor: MulapFeatureExtractor

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
        self.embedding_size = self.feature_size = backbone.config.feature_size
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

    @property
    def shares_cores(self) -> bool:
        """Whether the backbone runs on the CPU, a segment on one core."""
        return self.frozen is not None

    @cached_property
    def joint(self) -> TorchJoint:
        """The space that the model shares with text; ValueError if it has none."""
        return TorchJoint(self.name)

    def weights_sha256(self) -> str:
        """Return the hash of the backbone as it is now, see `hash_weights`."""
        return hash_weights(self.backbone)

    def cores(self) -> AbstractContextManager[int]:
        """See `OwnEncoder.cores`; torch's threads are counted."""
        return one_torch_thread()

    def stream_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield a clip's log-mels, each (M, F, N)."""
        return stream_log_mels(self.feature_extractor, blocks)

    def block_mapper(self, num_threads: int | None = None) -> AbstractContextManager[BlockMapper]:
        """Open threads for `stream_rows`; see `threads.block_mapper`."""
        is_shared = self.frozen or num_threads
        return block_mapper(num_threads) if is_shared else nullcontext(map)

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
