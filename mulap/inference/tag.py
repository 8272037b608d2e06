"""Audio -> named tags with scores: array -> file, each through one stream of segments.

A file's score is the mean of its segments' probabilities, taken over the whole file in constant
memory. The scores are those of independent yes-or-no questions: they need not add up to one, and
they are not calibrated, so compare tags within a file rather than with a threshold.
"""

import os
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from mulap.audio import stream_audio
from mulap.inference.backbones import load_whole, loading
from mulap.inference.embedder import Embedder, check_finite
from mulap.inference.stream import stream_log_mels
from mulap.model.bundled import locate_weights
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnForTagging


class Tagger:
    """A tagging model and the feature extractor that belongs to it.

    Args:
        model: `config.id2label` names its outputs. Its weights are taken as they are now.
        feature_extractor: of the same variant as the model.
        device: where the model runs.

    Attributes:
        tags: names of the model's outputs, in its order.
    """

    def __init__(
        self,
        model: MusicnnForTagging,
        feature_extractor: MulapFeatureExtractor,
        device: str | torch.device = "cpu",
    ) -> None:
        if model.config.variant != feature_extractor.variant:
            raise ValueError(
                f"the model is of variant {model.config.variant}, its feature extractor of "
                f"{feature_extractor.variant} (load both from one folder)"
            )
        self.model = model.eval()
        self.model.to(device)  # pyright: ignore[reportArgumentType] (a decorator hides its type)
        self._embedder = Embedder(model.backbone, device=device)
        self.feature_extractor = feature_extractor
        self.tags: list[str] = [label for _, label in sorted((model.config.id2label or {}).items())]

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | os.PathLike[str], device: str | torch.device = "cpu"
    ) -> "Tagger":
        """Load a tagger, offline for the bundled `musicnn-mtt` and `musicnn-msd`.

        Args:
            name_or_path: a bundled name, a folder, or a name on the hub.
            device: where the model runs.

        Returns:
            The tagger, ready to use.

        Raises:
            ValueError: what is there is no tagging model.
        """
        with loading(f"{name_or_path}: has no config"):
            config, _ = MulapAudioConfig.get_config_dict(locate_weights(name_or_path))
            architectures = list(config.get("architectures") or ())
        if MusicnnForTagging.__name__ not in architectures:
            raise ValueError(
                f"{name_or_path}: is a {config.get('model_type')} model without the head that this "
                "command reads: use musicnn-mtt or musicnn-msd"
            )
        model = load_whole(MusicnnForTagging, name_or_path)
        with loading(f"{name_or_path}: has no feature extractor"):
            extractor = MulapFeatureExtractor.from_pretrained(name_or_path)
        return cls(model, extractor, device)

    def taggram(self, waveform: np.ndarray | torch.Tensor) -> np.ndarray:
        """Return the probability of every tag in every segment.

        Args:
            waveform: mono samples at the feature extractor's rate, (num_samples,).

        Returns:
            float32 (T, num_tags), in the order of `tags`.

        Raises:
            ValueError: the waveform is empty, or not mono.
        """
        return np.concatenate(list(self._probabilities([waveform])))

    def tag_waveform(self, waveform: np.ndarray | torch.Tensor) -> dict[str, float]:
        """Return each tag's mean probability over a waveform, highest first.

        Args:
            waveform: mono samples at the feature extractor's rate, (num_samples,).

        Returns:
            `{tag: score}`, scores between 0 and 1.

        Raises:
            ValueError: the waveform is empty, or not mono.
        """
        return self._tag([waveform])

    def tag_file(self, path: str | os.PathLike[str]) -> dict[str, float]:
        """Return each tag's mean probability over a whole file, highest first.

        Args:
            path: an audio file of any length, format and rate that `mulap.audio` reads.

        Returns:
            `{tag: score}`, scores between 0 and 1.

        Raises:
            AudioError: the file cannot be decoded, holds no audio, or gives no finite vectors.
        """
        return self._tag(stream_audio(path, self.feature_extractor.sampling_rate), path)

    def _tag(
        self,
        blocks: Iterable[np.ndarray | torch.Tensor],
        path: str | os.PathLike[str] | None = None,
    ) -> dict[str, float]:
        total, num_segments = np.zeros(len(self.tags)), 0
        for probabilities in self._probabilities(blocks, path):
            total += probabilities.sum(0, dtype=np.float64)
            num_segments += len(probabilities)
        scores = total / num_segments
        return {self.tags[index]: float(scores[index]) for index in np.argsort(-scores)}

    def _probabilities(
        self,
        blocks: Iterable[np.ndarray | torch.Tensor],
        path: str | os.PathLike[str] | None = None,
    ) -> Iterator[np.ndarray]:
        """Yield (some segments, num_tags) for consecutive blocks of samples, of a file or not."""
        log_mels = stream_log_mels(self.feature_extractor, blocks)
        with self._embedder.block_mapper() as map_blocks:
            rows = self._embedder.stream_rows(log_mels, map_blocks=map_blocks)
            for _, vectors in rows if path is None else check_finite(path, rows):
                yield self._score(vectors)

    @torch.inference_mode()
    def _score(self, vectors: np.ndarray) -> np.ndarray:
        features = torch.from_numpy(vectors).to(self.model.device, self.model.dtype)
        logits = self.model.head(features)
        return torch.sigmoid(logits.float()).cpu().numpy()
