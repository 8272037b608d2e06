"""Our own networks as an encoder: the audio backbone alone, and the tagging head if there is one.

On the CPU the backbone runs as `FrozenBackbone`, on as many cores as torch has threads; elsewhere
it runs as it is.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch

from mulap.encoders.backbones import hash_weights, load_backbone, load_tagging_head
from mulap.encoders.devices import computing_on
from mulap.encoders.encoder import Encoder, Level
from mulap.encoders.stream import stream_log_mels
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
    ) -> "Embedder":
        """Load an embedder; of a MuLaP checkpoint only the audio backbone is read.

        Args:
            name_or_path: `musicnn-mtt`, `musicnn-msd`, a folder that holds a MuLaP model, a tagger
                or a backbone, or `random` for untrained weights.
            device: where the backbone runs.
            seed: of `random`.

        Raises:
            ValueError: there is no such name or folder, or no backbone in it.
        """
        backbone = load_backbone(name_or_path, seed)
        head = load_tagging_head(name_or_path, backbone)
        return cls(backbone, os.fspath(name_or_path), device, head)

    def describe(self, level: Level = "segment") -> dict[str, Any]:
        """Return what makes the vectors, for the table's metadata.

        Returns:
            `model`, the name; `weights_sha256`, see `hash_weights`; `features`, the log-mel's
            settings; `level`.
        """
        return {
            "model": self.name,
            "weights_sha256": hash_weights(self.backbone),
            "features": self.feature_extractor.log_mel_settings(),
            "level": level,
        }

    def stream_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yield a clip's log-mels, each (M, F, N)."""
        return stream_log_mels(self.feature_extractor, blocks)

    def block_mapper(self) -> AbstractContextManager[BlockMapper]:
        """Open threads for `stream_rows`; see `threads.block_mapper`."""
        return block_mapper() if self.frozen else nullcontext(map)

    @torch.inference_mode()
    def embed_input(self, some: np.ndarray) -> np.ndarray:
        """Return float32 (M, D) for log-mels (M, F, N)."""
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
