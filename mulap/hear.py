"""Our backbones for others: the HEAR 2021 interface, so that HEAR's tools can judge them.

    load_model            a name or folder -> a module with the sizes that HEAR asks for
    get_scene_embeddings      (n, num_samples) -> (n, D): the mean of the segments' vectors, as
                              `mulap embed --level track` gives
    get_timestamp_embeddings  (n, num_samples) -> (n, T, C): the network's channels before it pools
                              them over time, averaged over 3 frames of 16 ms

        frames centred at   0   16   32   48   64   80   96  112  128 ms ...
        embedding           |___ 16 ___|  |___ 64 ___|  |___ 112 ___|

The network is convolutional, so that it takes a whole clip at once for time stamps; the channels of
a frame then know about a second on either side. Frames that fill no group of 3 at the end are
dropped. A clip is embedded on its own, never with its neighbours.

Use it as `heareval` does: module `mulap.hear`, weights `musicnn-msd`, a folder, `random`.
"""

import numpy as np
import torch
from torch import nn

from mulap.encoders.embedder import Embedder
from mulap.model.waveforms import to_mono

DEFAULT_WEIGHTS = "musicnn-msd"
_FRAMES_AT_ONCE = 3  # 48 ms with the paper's frames; HEAR asks for 50 ms or less


class HearModel(nn.Module):
    """A backbone with what HEAR reads from a model.

    Args:
        embedder: the backbone and its feature extractor.

    Attributes:
        sample_rate: that the audio must have, in Hz.
        scene_embedding_size: D.
        timestamp_embedding_size: C, the channels: half of D, which is their maximum and mean.
    """

    def __init__(self, embedder: Embedder) -> None:
        super().__init__()
        self.backbone = embedder.backbone  # registered here, so that `.to(device)` moves it
        self.embedder = embedder
        self.sample_rate = embedder.feature_extractor.sampling_rate
        self.scene_embedding_size = embedder.embedding_size
        self.timestamp_embedding_size = embedder.embedding_size // 2


def load_model(model_file_path: str = "") -> HearModel:
    """Load a backbone.

    Args:
        model_file_path: whatever `Embedder.from_pretrained` reads: `musicnn-mtt`, a folder, ...;
            `musicnn-msd` where it is empty.

    Raises:
        ValueError: there is no such backbone.
    """
    return HearModel(Embedder.from_pretrained(model_file_path or DEFAULT_WEIGHTS)).eval()


@torch.no_grad()
def get_scene_embeddings(audio: torch.Tensor, model: HearModel) -> torch.Tensor:
    """Embed whole clips.

    Args:
        audio: (n, num_samples), at `model.sample_rate`, between -1 and 1.
        model: from `load_model`.

    Returns:
        float32 (n, D), where the audio is.

    Raises:
        ValueError: the audio is empty, or not of this shape.
    """
    clips = _as_clips(audio)
    rows = [model.embedder.embed_waveform(clip, "track")[0] for clip in clips]
    return torch.from_numpy(np.stack(rows)).to(audio.device)


@torch.no_grad()
def get_timestamp_embeddings(
    audio: torch.Tensor, model: HearModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embed clips along time.

    Args:
        audio: (n, num_samples), at `model.sample_rate`, between -1 and 1. Memory grows with the
            length.
        model: from `load_model`.

    Returns:
        float32 (n, T, C), and the centre of what each embedding was taken from, in milliseconds,
        float32 (n, T); both where the audio is.

    Raises:
        ValueError: the audio is empty, or not of this shape.
    """
    embeddings = torch.stack([_embed_frames(clip, model) for clip in _as_clips(audio)])
    extractor = model.embedder.feature_extractor
    frame_ms = 1000 * extractor.hop_length / extractor.sampling_rate
    middle = (_FRAMES_AT_ONCE - 1) / 2
    stamps = (torch.arange(embeddings.shape[1]) * _FRAMES_AT_ONCE + middle) * frame_ms
    stamps = stamps.expand(len(audio), -1).clone()
    return embeddings.to(audio.device), stamps.to(audio.device)


def _embed_frames(clip: np.ndarray, model: HearModel) -> torch.Tensor:
    """Return float32 (T, C) for one clip (num_samples,)."""
    extractor, backbone = model.embedder.feature_extractor, model.backbone
    # Zeros make one group of frames of a very short clip, and what `port` reflects at its ends.
    least = max(extractor.n_fft, (_FRAMES_AT_ONCE - 1) * extractor.hop_length)
    missing = max(0, least - len(clip))
    samples = np.pad(clip, (extractor.pad_samples, extractor.pad_samples + missing))
    log_mel = torch.from_numpy(extractor.log_mel(samples[None])).to(backbone.device)
    towers = [tower.mid_end(tower.front_end(log_mel)) for tower in backbone.towers]
    channels = torch.cat(towers, dim=1)  # (1, C, N)
    num_groups = channels.shape[2] // _FRAMES_AT_ONCE
    groups = channels[0, :, : num_groups * _FRAMES_AT_ONCE].unflatten(1, (num_groups, -1))
    return groups.mean(2).T.float().contiguous()


def _as_clips(audio: torch.Tensor) -> np.ndarray:
    if audio.ndim != 2 or not audio.shape[1]:
        shape = tuple(audio.shape)
        raise ValueError(f"the audio has shape {shape}. Give clips by samples, at least one.")
    return np.stack([to_mono(clip) for clip in audio])
