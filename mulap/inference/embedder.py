"""Audio -> embeddings, the first two steps of the ladder: array -> file.

One vector a segment, from the audio backbone alone; a track's is the mean of its segments'. Every
segment of a clip is taken, in order, and nothing is random. Many files: `mulap.inference.embed`.

On the CPU the backbone runs as `FrozenBackbone`, on as many cores as torch has threads; elsewhere
it runs as it is.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch

from mulap.audio import AudioError
from mulap.fast.threads import BlockMapper, block_mapper
from mulap.inference.backbones import hash_weights, load_backbone
from mulap.inference.devices import computing_on
from mulap.inference.frozen import FrozenBackbone, is_freezable
from mulap.inference.stream import stream_file, stream_log_mels
from mulap.model.features import MulapFeatureExtractor
from mulap.model.musicnn import MusicnnBackbone

Level = Literal["segment", "track"]
# Of one clip, some at a time: where segments start, in seconds (M,), and their vectors (M, D).
Rows = Iterator[tuple[np.ndarray, np.ndarray]]


def check_level(level: str) -> None:
    """Refuse a level that is neither `segment` nor `track`."""
    if level not in get_args(Level):
        raise ValueError(f"level is '{level}' (give {' or '.join(get_args(Level))})")


@dataclass(frozen=True)
class FileEmbedding:
    """The embeddings of one file.

    Attributes:
        file: its path.
        embeddings: float32 (T, D); (1, D) for a whole track.
        start_seconds: where each segment starts, float64 (T,).
    """

    file: str
    embeddings: np.ndarray
    start_seconds: np.ndarray


class Embedder:
    """A backbone and the feature extractor that its config asks for.

    Args:
        backbone: put into evaluation mode, so that BatchNorm uses its statistics and keeps them.
            Its weights are taken as they are now: train it further and make a new embedder.
        name: what the rows are said to be made by.
        device: where the backbone runs. Another device gives other last bits, as it adds up in
            another order, and no more than that: it convolves in float32 as well, not in TF32.

    Attributes:
        frozen: what embeds on the CPU, to the same bits on any number of threads; None where the
            backbone itself does.
    """

    def __init__(
        self, backbone: MusicnnBackbone, name: str = "", device: str | torch.device = "cpu"
    ) -> None:
        self.name = name
        self.backbone = backbone.eval()
        with computing_on(device):
            self.backbone.to(device)  # pyright: ignore[reportArgumentType] (a decorator hides it)
        self.frozen = FrozenBackbone(backbone) if is_freezable(backbone) else None
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
        return cls(load_backbone(name_or_path, seed), os.fspath(name_or_path), device)

    @property
    def embedding_size(self) -> int:
        """Length D of a vector."""
        return self.backbone.config.feature_size

    @property
    def stride_seconds(self) -> float:
        """Distance between the starts of two segments."""
        return self.feature_extractor.stride_samples / self.feature_extractor.sampling_rate

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

    def embed_waveform(
        self, waveform: np.ndarray | torch.Tensor, level: Level = "segment"
    ) -> np.ndarray:
        """Embed samples.

        Args:
            waveform: mono, at the feature extractor's rate, (num_samples,).
            level: `segment`, or `track` for their mean.

        Returns:
            float32 (T, D); (1, D) for a track.

        Raises:
            ValueError: the waveform is empty, or not mono.
        """
        log_mels = stream_log_mels(self.feature_extractor, [waveform])
        with self.block_mapper() as map_blocks:
            rows = list(self.stream_rows(log_mels, level, map_blocks))
        return np.concatenate([vectors for _, vectors in rows])

    def embed_file(self, path: str | os.PathLike[str], level: Level = "segment") -> FileEmbedding:
        """Embed a file of any format and rate. (`embed_files` does it without holding all rows.)

        Args:
            path: the file.
            level: `segment`, or `track` for their mean.

        Returns:
            The same vectors, to the bit, as `embed_files` writes.

        Raises:
            AudioError: the file cannot be decoded, or gives no finite vectors.
        """
        with self.block_mapper() as map_blocks:
            rows = self.stream_rows(self.stream_file(path), level, map_blocks)
            start_seconds, vectors = zip(*check_finite(path, rows), strict=True)
        return FileEmbedding(
            os.fspath(path), np.concatenate(vectors), np.concatenate(start_seconds)
        )

    def stream_file(self, path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
        """Yield a file's log-mels, each (M, F, N), in constant memory."""
        return stream_file(self.feature_extractor, path)

    def block_mapper(self) -> AbstractContextManager[BlockMapper]:
        """Open threads for `stream_rows`; see `threads.block_mapper`."""
        return block_mapper() if self.frozen else nullcontext(map)

    def stream_rows(
        self,
        log_mels: Iterable[np.ndarray],
        level: Level = "segment",
        map_blocks: BlockMapper = map,
    ) -> Rows:
        """Embed the consecutive log-mels of one clip, in constant memory.

        Args:
            log_mels: each (M, F, N), from `stream_log_mels`.
            level: `segment` for a row each, `track` for one row in all.
            map_blocks: from `block_mapper`, to embed a few log-mels ahead of who reads the rows.
                The rows are the same.

        Returns:
            See `to_rows`.

        Raises:
            ValueError: the level is neither.
        """
        return to_rows(map_blocks(self._embed, log_mels), self.stride_seconds, level)

    @torch.inference_mode()
    def _embed(self, log_mel: np.ndarray) -> np.ndarray:
        """Return float32 (M, D) for log-mels (M, F, N)."""
        if self.frozen and self.backbone.device.type == "cpu":  # it may have been moved since
            return self.frozen(log_mel)
        with computing_on(self.backbone.device):
            vectors = self.backbone(torch.from_numpy(log_mel).to(self.backbone.device))
            return vectors.float().cpu().numpy()


def to_rows(vectors: Iterable[np.ndarray], stride_seconds: float, level: Level) -> Rows:
    """Say where segments start, and take their mean if it is asked for; in constant memory.

    Args:
        vectors: of one clip's consecutive segments, each float32 (M, D); at least one in all.
        stride_seconds: distance between the starts of two segments.
        level: `segment` for a row each, `track` for one row in all.

    Yields:
        Where some segments start, float64 (M,), and their vectors, float32 (M, D).

    Raises:
        ValueError: the level is neither.
    """
    check_level(level)
    total, num_segments = np.zeros(1), 0
    for some in vectors:
        if level == "segment":
            yield (num_segments + np.arange(len(some))) * stride_seconds, some
        total = total + some.sum(0, dtype=np.float64)
        num_segments += len(some)
    if level == "track":
        yield np.zeros(1), (total / num_segments).astype(np.float32)[None]


def check_finite(path: str | os.PathLike[str], rows: Rows) -> Rows:
    """Pass a file's rows on, as long as their vectors are finite.

    Raises:
        AudioError: a vector is not, which samples of absurd size can do.
    """
    for start_seconds, vectors in rows:
        if not np.isfinite(vectors).all():
            where = f"near {start_seconds[0]:.0f} s"
            raise AudioError(path, f"has no finite embedding {where} (export it at a usual level)")
        yield start_seconds, vectors
