"""musicnn: log-mel segment -> feature vector, in the two variants of `MulapAudioConfig.variant`.

        log-mel (M, F, N) -> BatchNorm
          timbral:  2 tall convolutions, maximum over frequency      (M, 408, N)
          temporal: 3 long convolutions, see below                   (M, 153, N)
        -> 3 dense convolutions with residual sums                   (M,  64, N) each
        -> all of them, maximum and mean over time                   (M, 1506)

    port      convolution -> BatchNorm -> ReLU; the temporal ones (129, 65, 33 taps) see the mean of
              all bands. What MuLaP's authors trained.
    original  convolution -> ReLU -> BatchNorm; the temporal ones (128, 64, 32 taps) run on every
              band, then the maximum over frequency is taken. Pons & Serra's musicnn, the one with
              public weights (`musicnn-mtt`, `musicnn-msd`).

Segments of all clips are folded into one axis (M = B * T) and pass the network at once: run once
per segment index, BatchNorm would take its statistics per position and update them T times a step.

Shapes: M segments, F mel bins, N frames, C channels.
"""

import math
import os
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from transformers import PreTrainedModel
from transformers import initialization as init

from .bundled import locate_weights
from .config import MulapAudioConfig

_TIMBRAL_FRAMES = 7
_TIMBRAL_SHARES = {"port": (0.7, 0.4), "original": (0.4, 0.7)}  # of the bands, the kernels' heights
_TEMPORAL_FRAMES = {"port": (129, 65, 33), "original": (128, 64, 32)}
_MIDEND_FRAMES = 7
_EVALUATED_AT_ONCE = 128  # segments, on a GPU
BATCH_NORM_EPS = {"port": 1e-5, "original": 1e-3}  # the defaults of PyTorch and of TensorFlow


def _activate(x: torch.Tensor, bn: nn.Module, variant: str) -> torch.Tensor:
    return F.relu(bn(x)) if variant == "port" else bn(F.relu(x))


class TimbralBlock(nn.Module):
    """A convolution over many bands and few frames, then the maximum over frequency."""

    def __init__(self, num_filters: int, kernel_bins: int, variant: str) -> None:
        super().__init__()
        self.variant = variant
        kernel, padding = (kernel_bins, _TIMBRAL_FRAMES), (0, _TIMBRAL_FRAMES // 2)
        self.conv = nn.Conv2d(1, num_filters, kernel, padding=padding)
        self.bn = nn.BatchNorm2d(num_filters, eps=BATCH_NORM_EPS[variant])

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Return (M, C, N) for a normalised spectrogram (M, F, N)."""
        return _activate(self.conv(spectrogram[:, None]), self.bn, self.variant).amax(2)


class ConvBlock(nn.Module):
    """A convolution over time that keeps the number of frames, with a residual sum if asked."""

    def __init__(
        self, num_inputs: int, num_filters: int, kernel_frames: int, variant: str, residual: bool
    ) -> None:
        super().__init__()
        self.variant, self.residual = variant, residual
        # An even kernel has its extra frame at the right, as TensorFlow pads.
        self.padding = ((kernel_frames - 1) // 2, kernel_frames // 2)
        self.is_padded_evenly = kernel_frames % 2 == 1  # the convolution then pads, without a copy
        padding = kernel_frames // 2 if self.is_padded_evenly else 0
        self.conv = nn.Conv1d(num_inputs, num_filters, kernel_frames, padding=padding)
        self.bn = nn.BatchNorm1d(num_filters, eps=BATCH_NORM_EPS[variant])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return (M, C, N) for (M, num_inputs, N)."""
        padded = x if self.is_padded_evenly else F.pad(x, self.padding)
        y = _activate(self.conv(padded), self.bn, self.variant)
        return x + y if self.residual else y


class TemporalBlock(nn.Module):
    """A long convolution over time, on the mean of the bands or on every band."""

    def __init__(self, num_filters: int, kernel_frames: int, variant: str) -> None:
        super().__init__()
        self.variant = variant
        self.block = ConvBlock(1, num_filters, kernel_frames, variant, residual=False)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        """Return (M, C, N) for a normalised spectrogram (M, F, N)."""
        if self.variant == "port":
            return self.block(spectrogram.mean(1, keepdim=True))
        bands = self.block(spectrogram.flatten(0, 1)[:, None])  # (M * F, C, N)
        return bands.unflatten(0, spectrogram.shape[:2]).amax(1)


class FrontEnd(nn.Module):
    """BatchNorm on the log-mel, then the timbral and temporal blocks side by side."""

    def __init__(self, config: MulapAudioConfig) -> None:
        super().__init__()
        variant, num_bins = config.variant, config.num_mel_bins
        self.spectrogram_bn = nn.BatchNorm2d(1, eps=BATCH_NORM_EPS[variant])
        self.timbral = nn.ModuleList(
            TimbralBlock(config.num_timbral_filters, int(share * num_bins), variant)
            for share in _TIMBRAL_SHARES[variant]
        )
        self.temporal = nn.ModuleList(
            TemporalBlock(config.num_temporal_filters, frames, variant)
            for frames in _TEMPORAL_FRAMES[variant]
        )

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Return (M, C, N) for a log-mel (M, F, N)."""
        # Decibels lose their small differences in half precision, so this part never runs in it.
        with torch.autocast(log_mel.device.type, enabled=False):
            # In single or double precision, as the parameters are.
            dtype = torch.promote_types(self.spectrogram_bn.weight.dtype, torch.float)
            spectrogram = self.spectrogram_bn(log_mel.to(dtype)[:, None])[:, 0]
        spectrogram = spectrogram.to(next(self.timbral.parameters()).dtype)
        if spectrogram.is_cuda and not self.training:
            # Some at a time: a validation batch of 512 clips took 43 GB where training takes 10.
            parts = spectrogram.split(_EVALUATED_AT_ONCE)
            timbral = [torch.cat([block(part) for part in parts]) for block in self.timbral]
        else:
            timbral = [block(spectrogram) for block in self.timbral]
        return torch.cat([*timbral, *(block(spectrogram) for block in self.temporal)], dim=1)


class MidEnd(nn.Module):
    """Three dense convolutions over time; the second and third add what they were given."""

    def __init__(self, config: MulapAudioConfig, num_inputs: int) -> None:
        super().__init__()
        num_filters = config.num_midend_filters
        self.blocks = nn.ModuleList(
            ConvBlock(
                num_inputs if index == 0 else num_filters,
                num_filters,
                _MIDEND_FRAMES,
                config.variant,
                residual=index > 0,
            )
            for index in range(3)
        )

    def forward(self, front_end: torch.Tensor) -> torch.Tensor:
        """Return the front end and all three outputs, (M, C, N), for the front end's output."""
        return torch.cat(self.stages(front_end), dim=1)

    def stages(self, front_end: torch.Tensor) -> list[torch.Tensor]:
        """Return the front end's output and all three others, each (M, C, N)."""
        outputs = [front_end]
        for block in self.blocks:
            outputs.append(block(outputs[-1]))
        return outputs


class Tower(nn.Module):
    """One musicnn without a head."""

    def __init__(self, config: MulapAudioConfig) -> None:
        super().__init__()
        num_front_end = 2 * config.num_timbral_filters + 3 * config.num_temporal_filters
        self.front_end, self.mid_end = FrontEnd(config), MidEnd(config, num_front_end)


class _PoolTime(torch.autograd.Function):
    """Maximum and mean over time, which remember where the maximum was and nothing else.

    Of frames that tie, the first gets the gradient. torch's `amax` shares it out, which ends in the
    same: what ties here is what a ReLU has cut off, and the ReLU stops the gradient.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return two tensors (M, C) for (M, C, N)."""
        maximum, positions = x.max(2)
        ctx.save_for_backward(positions)
        ctx.num_frames = x.shape[2]
        return maximum, x.mean(2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: torch.Tensor) -> torch.Tensor:
        """Return the gradient (M, C, N)."""
        (positions,), (on_maximum, on_mean) = ctx.saved_tensors, grad_outputs
        shared = (on_mean / ctx.num_frames)[..., None].expand(-1, -1, ctx.num_frames).contiguous()
        return shared.scatter_add_(2, positions[..., None], on_maximum[..., None])


def pool_time(channels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the maximum and the mean over time, (M, C) each, of channels (M, C, N)."""
    if torch.is_grad_enabled() and channels.requires_grad:
        return _PoolTime.apply(channels)
    return channels.amax(2), channels.mean(2)


class MusicnnPreTrainedModel(PreTrainedModel):
    """Loading and initialisation shared by the backbone and the tagger."""

    config_class = MulapAudioConfig
    base_model_prefix = "backbone"
    main_input_name = "input_features"
    _keep_in_fp32_modules_strict = ["spectrogram_bn"]

    def _init_weights(self, module: nn.Module) -> None:
        # PyTorch's own initialisation, which the authors' training started from; BatchNorm follows
        # each convolution, so the scale matters little. The parent class does BatchNorm.
        if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Linear):
            bound = 1.0 / math.sqrt(module.weight[0].numel())
            init.uniform_(module.weight, -bound, bound)
            if module.bias is not None:
                init.uniform_(module.bias, -bound, bound)
        else:
            super()._init_weights(module)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike[str] | None,
        *model_args: Any,
        **kwargs: Any,
    ) -> Any:
        """Load from a bundled name (`musicnn-mtt`), a folder or the hub; safetensors only."""
        if pretrained_model_name_or_path is not None:
            pretrained_model_name_or_path = locate_weights(pretrained_model_name_or_path)
        kwargs["use_safetensors"] = True
        return super().from_pretrained(pretrained_model_name_or_path, *model_args, **kwargs)


class MusicnnBackbone(MusicnnPreTrainedModel):
    """The network without a head: one feature vector a segment."""

    _keys_to_ignore_on_load_unexpected = [r"^head\."]

    def __init__(self, config: MulapAudioConfig) -> None:
        super().__init__(config)
        first = Tower(config)
        self.front_end, self.mid_end = first.front_end, first.mid_end
        self.more = nn.ModuleList(Tower(config) for _ in range(config.num_towers - 1))
        self.post_init()

    @property
    def towers(self) -> list[Any]:
        """The musicnns side by side; each has a `front_end` and a `mid_end`."""
        return [self, *self.more]

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Turn log-mel segments into feature vectors.

        Args:
            input_features: log-mels, (M, F, N).

        Returns:
            Of each tower, the maximum over time of every channel, then the mean, (M, feature_size).
        """
        vectors = []
        for tower in self.towers:
            stages = tower.mid_end.stages(tower.front_end(input_features))
            maxima, means = zip(*map(pool_time, stages), strict=True)
            vectors += [*maxima, *means]
        return torch.cat(vectors, dim=1)


class TaggingHead(nn.Module):
    """Feature vector -> one logit a tag, through one hidden layer."""

    def __init__(self, config: MulapAudioConfig) -> None:
        super().__init__()
        eps = BATCH_NORM_EPS[config.variant]
        self.feature_bn = nn.BatchNorm1d(config.feature_size, eps=eps)
        self.hidden = nn.Linear(config.feature_size, config.tagging_hidden_size)
        self.hidden_bn = nn.BatchNorm1d(config.tagging_hidden_size, eps=eps)
        self.output = nn.Linear(config.tagging_hidden_size, config.num_labels or 0)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return logits (M, num_labels) for features (M, feature_size)."""
        hidden = self.hidden(self.feature_bn(features))
        return self.output(_activate(hidden, self.hidden_bn, "original"))


class MusicnnForTagging(MusicnnPreTrainedModel):
    """The backbone and musicnn's tagging head; `config.id2label` names the tags."""

    def __init__(self, config: MulapAudioConfig) -> None:
        super().__init__(config)
        self.backbone = MusicnnBackbone(config)
        self.head = TaggingHead(config)
        self.post_init()

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Score every tag for every segment.

        Args:
            input_features: log-mels, (M, F, N).

        Returns:
            Logits, (M, num_labels); their sigmoid is musicnn's taggram.
        """
        return self.head(self.backbone(input_features))
