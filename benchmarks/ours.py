"""What `mulap` does, as contestants: by the same calls as its commands, without their start-up."""

# First of all, since it says how torch's threads wait, as it does for every command.
import mulap.cli.group  # isort: skip

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmarks.problems import CLIP_SEGMENTS, collate, make_captions, make_clips, make_model
from mulap.audio import load_audio
from mulap.embedding.embed import embed_files
from mulap.encoders.embedder import Embedder
from mulap.encoders.segments import SEGMENTS_AT_ONCE
from mulap.model.features import MulapFeatureExtractor
from mulap.objectives.losses import LossOptions, compute_losses, weighted_sum
from mulap.training.loop import parameter_groups
from mulap.training.pretrain.evaluate import split_batch
from mulap.training.pretrain.settings import TrainingSettings

__all__ = ["embed", "mulap", "run_backbone", "train"]


def embed(
    files: Sequence[str], encoder: str = "random", warm_up: Sequence[str] = ()
) -> Callable[[], int]:
    """Make what embeds files to a Parquet file, as `mulap embed`; it returns the rows' number.

    `warm_up` are other files that are embedded first, untimed; the first one where not given.
    """
    embedder = Embedder.from_pretrained(encoder)

    def run(some: Sequence[str] = files) -> int:
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder) / "vectors.parquet"
            report = embed_files(some, embedder, output)
        if report.failures:
            raise RuntimeError(f"not embedded: {report.failures}")
        return report.num_rows

    run(warm_up or files[:1])
    return run


def load_libraries() -> Callable[[], None]:
    """Make what does nothing, in a process that holds all libraries that `Step` needs."""
    return lambda: None


def decode(files: Sequence[str]) -> Callable[[], int]:
    """Make what decodes files to 16 kHz mono; it returns the number of samples."""

    def run() -> int:
        return sum(len(load_audio(path)) for path in files)

    run()
    return run


def log_mel(num_seconds: float) -> Callable[[], Sequence[int]]:
    """Make what cuts samples into segments and computes their log-mels; it returns the shape."""
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, round(num_seconds * 16_000))
    samples, extractor = samples.astype(np.float32), MulapFeatureExtractor()

    def run() -> Sequence[int]:
        return extractor.log_mel(extractor.segment(samples)).shape

    run()
    return run


def run_backbone(num_segments: int, encoder: str = "random") -> Callable[[], int]:
    """Make what embeds log-mels of `num_segments`, cut and shared by threads as files' are."""
    embedder = Embedder.from_pretrained(encoder)
    extractor = embedder.feature_extractor
    shape = (num_segments, extractor.num_mel_bins, extractor.num_frames)
    log_mels = np.random.default_rng(0).standard_normal(shape, np.float32)
    parts = [
        log_mels[start : start + SEGMENTS_AT_ONCE]
        for start in range(0, num_segments, SEGMENTS_AT_ONCE)
    ]

    def run(some: Sequence[np.ndarray] = parts) -> int:
        with embedder.block_mapper() as map_blocks:
            rows = embedder.stream_rows(some, map_blocks=map_blocks)
            return sum(len(vectors) for _, vectors in rows)

    run(parts[:1])
    return run


class Step:
    """One step of `mulap pretrain`, log-mel and collator included.

    Args:
        is_toy: a tiny model.
    """

    def __init__(self, is_toy: bool = False) -> None:
        training = TrainingSettings()
        self.is_toy, self.options = is_toy, LossOptions()
        self.max_grad_norm = training.max_grad_norm
        self.model = make_model(is_toy).train()
        self.extractor = MulapFeatureExtractor()
        betas = (training.adam_beta1, training.adam_beta2)
        groups = parameter_groups(self.model, set(), training)
        self.optimizer = torch.optim.AdamW(
            groups, lr=training.learning_rate, betas=betas, fused=True
        )

    def __call__(self, clips: torch.Tensor, captions: Sequence[str]) -> dict[str, float]:
        """Train on clips (B, T, 48000) and their captions; return the losses."""
        log_mels = self.extractor.log_mel(clips.flatten(0, 1)).reshape(*clips.shape[:2], 96, -1)
        inputs, targets = split_batch(collate(list(log_mels), captions, self.is_toy))
        losses = compute_losses(self.model(**inputs), targets, self.options)
        weighted_sum(losses, self.options).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()  # here, as the Trainer does: the next forward holds no gradients
        return {name: loss.item() for name, loss in losses.items()}


def train(batch_size: int, is_toy: bool = False) -> Callable[[], dict[str, float]]:
    """Make what takes one step of pre-training on `batch_size` clips; it returns the losses."""
    step, num_segments = Step(is_toy), 2 if is_toy else CLIP_SEGMENTS
    step(make_clips(2, num_segments), make_captions(2, is_toy))  # AdamW's state is made
    clips, captions = make_clips(batch_size, num_segments), make_captions(batch_size, is_toy)
    return lambda: step(clips, captions)
