"""The recipe of MuLaP's authors, rebuilt out of public parts, to be compared with.

Written anew from the paper and from what is known of their code; nothing of theirs is in here.

    embedding   librosa.load -> segments, one at a time: log-mel, then the plain backbone
    training    the backbone once for each segment's place in the clip; captions padded to 64
                tokens; every token's scores over the vocabulary; attention as matrix, softmax,
                dropout, matrix; AdamW as torch makes it where nothing is asked

The weights, the network and the losses are ours (`MulapForPreTraining`, its front end unfused). So
what differs is how the same numbers are computed, with two exceptions in training: BatchNorm takes
its statistics for each place of a segment apart, and its running averages move once a place; and a
log-mel's floor is 80 dB under the loudest of the batch, not under the segment's own maximum.
"""

import math
from collections.abc import Callable, Sequence

import librosa
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout, pad

from benchmarks.problems import make_backbone, make_model, make_pairs
from mulap.fast.front_end import fuse_front_end
from mulap.model.coattention import Attention, TransformerLayer
from mulap.model.cuts import mel_filters
from mulap.model.modeling import IGNORED_LABEL
from mulap.model.musicnn import MusicnnBackbone
from mulap.model.pretraining import MulapForPreTraining
from mulap.objectives.losses import (
    LossOptions,
    atm_loss,
    counted_segments,
    mam_loss,
)
from mulap.training.pretrain.evaluate import split_batch

RATE, SEGMENT_SAMPLES = 16_000, 48_000
N_FFT, HOP, NUM_BINS = 512, 256, 96
MAX_TOKENS = 64
MAX_GRAD_NORM = 1.0


class PlainLogMel(nn.Module):
    """Log-mel of segments: torch's STFT, HTK filters, decibels, 80 dB under the common maximum."""

    def __init__(self) -> None:
        super().__init__()
        filters = torch.from_numpy(mel_filters(RATE, N_FFT, NUM_BINS, "htk"))
        self.register_buffer("filters", filters)  # (F, N_FFT / 2 + 1)
        self.register_buffer("window", torch.hann_window(N_FFT))

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (M, num_samples) to log-mels (M, F, N)."""
        spectrum = torch.stft(samples, N_FFT, HOP, window=self.window, return_complex=True)
        decibels = 10.0 * (self.filters @ spectrum.abs().square()).clamp_min(1e-10).log10()
        return torch.maximum(decibels, decibels.amax() - 80.0)


def load_segments(path: str) -> Tensor:
    """Decode a file by librosa and cut it, (T, 48000); a tail that fills no segment is dropped."""
    waveform, _ = librosa.load(path, sr=RATE)
    num_segments = len(waveform) // SEGMENT_SAMPLES
    return torch.from_numpy(waveform[: num_segments * SEGMENT_SAMPLES]).view(num_segments, -1)


@torch.no_grad()
def embed_segments(backbone: MusicnnBackbone, log_mel: PlainLogMel, segments: Tensor) -> Tensor:
    """Embed segments (T, 48000) one after the other, (T, D)."""
    return torch.cat([backbone(log_mel(segment[None])) for segment in segments])


def embed(files: Sequence[str]) -> Callable[[], int]:
    """Make what embeds files; it returns the number of segments."""
    backbone, log_mel = plain_backbone(), PlainLogMel()

    def run() -> int:
        vectors = [embed_segments(backbone, log_mel, load_segments(path)) for path in files]
        return sum(map(len, vectors))

    embed_segments(backbone, log_mel, load_segments(files[0]))
    return run


def run_backbone(num_segments: int, at_once: int = 1, is_training: bool = False) -> Callable:
    """Make what runs the plain backbone alone over log-mels, `at_once` segments a call.

    With `is_training` BatchNorm uses the batch's statistics, as the authors' frozen backbone does;
    no gradient is taken.
    """
    backbone = plain_backbone().train(is_training)
    log_mels = torch.randn(num_segments, NUM_BINS, SEGMENT_SAMPLES // HOP + 1)

    @torch.no_grad()
    def run() -> None:
        for part in log_mels.split(at_once):
            backbone(part)

    with torch.no_grad():
        backbone(log_mels[:at_once])
    return run


def plain_backbone() -> MusicnnBackbone:
    """Return an untrained `port` musicnn in evaluation mode that takes no fast path."""
    return make_backbone()


class EagerAttention(nn.Module):
    """The attention of ours with the same weights, its matrix of weights written out."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.num_heads, self.dropout = attention.num_heads, attention.dropout
        self.query, self.key, self.value = attention.query, attention.key, attention.value
        self.output = attention.output

    def forward(self, hidden_states: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """As `Attention.forward`."""
        query = self._split(self.query(hidden_states))
        key, value = self._split(self.key(memory)), self._split(self.value(memory))
        scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])  # (B, H, L, S)
        hidden = (1.0 - memory_mask[:, None, None, :].to(scores.dtype)) * -10_000.0
        weights = dropout((scores + hidden).softmax(-1), self.dropout, self.training)
        return self.output((weights @ value).transpose(1, 2).flatten(2))

    def _split(self, states: Tensor) -> Tensor:
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class AuthorsStep:
    """One step of pre-training in the authors' manner.

    Args:
        model: ours; its attention and front end are made plain.
        learning_rate: of AdamW.
    """

    def __init__(self, model: MulapForPreTraining, learning_rate: float = 1e-4) -> None:
        self.model, self.log_mel, self.options = model, PlainLogMel(), LossOptions()
        fuse_front_end(model, False)
        model.mulap.text_encoder.set_attn_implementation("eager")
        for layer in [each for each in model.modules() if isinstance(each, TransformerLayer)]:
            layer.attention = EagerAttention(layer.attention)  # pyright: ignore
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98))

    def losses(self, log_mels: Tensor, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Compute the three losses of log-mels (B, T, F, N) and what the collator made beside."""
        mulap, rows = self.model.mulap, pad_captions(batch)
        is_segment = batch["audio_attention_mask"]
        places = [mulap.audio_backbone(log_mels[:, place]) for place in range(log_mels.shape[1])]
        features = torch.stack([mulap.feature_norm(place) for place in places], dim=1)
        pairs = batch["caption_index"][: len(features)]
        states = mulap.encode_text(rows["input_ids"], rows["attention_mask"])[pairs]
        audio, text = mulap.fuse(
            features,
            states,
            is_segment,
            rows["attention_mask"][pairs],
            batch["is_masked_segment"],
        )
        scores = self.model.mlm_head(text.flatten(0, 1))
        labels = rows["mlm_labels"][pairs].flatten()
        _, targets = split_batch(batch)
        return {
            "mlm": cross_entropy(scores, labels, ignore_index=IGNORED_LABEL),
            "mam": mam_loss(
                self.model.mam_head(audio[:, 1:]),
                features,
                counted_segments(targets, self.options),
            ),
            "atm": atm_loss(self.model.atm_head(audio[:, 0], text[:, 0]), batch["atm_labels"]),
        }

    def __call__(self, segments: Tensor, batch: dict[str, Tensor]) -> dict[str, float]:
        """Train on segments (B, T, 48000) and what the collator made beside; return the losses."""
        with torch.no_grad():
            places = [self.log_mel(segments[:, place]) for place in range(segments.shape[1])]
        losses = self.losses(torch.stack(places, dim=1), batch)
        weights = self.options.weights()
        sum(weights[name] * loss for name, loss in losses.items()).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return {name: loss.item() for name, loss in losses.items()}


def pad_captions(batch: dict[str, Tensor], length: int = MAX_TOKENS) -> dict[str, Tensor]:
    """Return token ids, their mask and labels of a batch, padded on to `length` tokens."""
    missing = length - batch["input_ids"].shape[1]
    values = {"input_ids": 0, "attention_mask": 0, "mlm_labels": IGNORED_LABEL}
    return {name: pad(batch[name], (0, missing), value=value) for name, value in values.items()}


def train(batch_size: int, is_toy: bool = False) -> Callable[[], dict[str, float]]:
    """Make what takes one step of pre-training on `batch_size` clips; it returns the losses."""
    step = AuthorsStep(make_model(is_toy).train())
    step(*make_pairs(2, is_toy))  # AdamW's state is made, in little time
    data = make_pairs(batch_size, is_toy)
    return lambda: step(*data)
