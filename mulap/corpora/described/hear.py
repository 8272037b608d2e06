"""What the public musicnn taggers hear in a clip: log-odds of 100 tags, and an embedding.

Both taggers read the same log-mels, which are computed once.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from mulap.corpora.described.tracks import TAGGERS
from mulap.fast.frozen import FrozenBackbone
from mulap.fast.threads import one_torch_thread
from mulap.model.bundled import locate_weights
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnForTagging
from mulap.terminal import without_transformers_bars

_EVERY = 2  # of the segments one is heard: a clip's tags hardly change in 3 s, and it costs half


@dataclass(frozen=True)
class Taggers:
    """The two networks, ready to listen; a copy of them can be sent to another process."""

    extractor: MulapFeatureExtractor
    backbones: tuple[FrozenBackbone, ...]
    heads: tuple[nn.Module, ...]

    @property
    def frames_per_second(self) -> float:
        """How many frames of a log-mel make a second."""
        return self.extractor.sampling_rate / self.extractor.hop_length

    def log_mels(self, samples: np.ndarray) -> np.ndarray:
        """Return log-mels, float32 (T, F, N), of mono samples (num_samples,) at 16 kHz."""
        with one_torch_thread():
            return self.extractor.log_mel(self.extractor.segment(samples))

    def listen(self, log_mels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Listen to a clip.

        Args:
            log_mels: float32 (T, F, N).

        Returns:
            Log-odds of the tags' mean probability over every other segment, float32 (num_tags,),
            and the mean embedding of these, float32 (D,).
        """
        odds, vector = [], np.empty(0, np.float32)
        for backbone, head in zip(self.backbones, self.heads, strict=True):
            vectors = backbone(np.ascontiguousarray(log_mels[::_EVERY]))
            with torch.inference_mode(), one_torch_thread():
                scores = torch.sigmoid(head(torch.from_numpy(vectors)).double()).mean(0)
                odds.append(torch.logit(scores, eps=1e-9).float().numpy())
            vector = vectors.mean(0)
        # Rounded, as the last bits differ with the processor and between processes.
        return np.round(np.concatenate(odds), 2), vector


def load_taggers() -> Taggers:
    """Load the taggers that ship with the package."""
    with without_transformers_bars():
        models = [MusicnnForTagging.from_pretrained(name).eval() for name in TAGGERS]
    return Taggers(
        MulapFeatureExtractor.from_config(models[0].config),
        tuple(FrozenBackbone(model.backbone) for model in models),
        tuple(model.head for model in models),
    )


@cache
def tag_names() -> tuple[str, ...]:
    """Return the names of all tags in order: "mtt guitar", ..., "msd rock", ..."""
    configs = [(name, MulapAudioConfig.from_pretrained(locate_weights(name))) for name in TAGGERS]
    return tuple(
        f"{name.removeprefix('musicnn-')} {label.lower()}"
        for name, config in configs
        for _, label in sorted((config.id2label or {}).items())
    )
