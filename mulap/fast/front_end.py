"""Musicnn's front end, fused for training: the same values and gradients up to rounding.

Scope: training of the `port` variant. In evaluation mode, on devices without kernels and without
numba on a CPU, it is the plain front end.
"""

import torch
from torch import nn
from torch.nn import functional as F

from mulap.fast.sync_batch_norm import is_synchronised, normalise_synchronised, update_running
from mulap.fast.timbral import fused_timbral, fused_timbral_available
from mulap.model.musicnn import FrontEnd


def fuse_front_end(model: nn.Module, is_fused: bool = True) -> nn.Module:
    """Let every front end in a model train the fast way where that is possible, or the plain way.

    Parameters, buffers and their names are kept, so optimisers, checkpoints and references to any
    of them stay valid.

    Args:
        model: changed in place.
        is_fused: the fast way.

    Returns:
        The same model.
    """
    for part in model.modules():
        if isinstance(part, FrontEnd):
            part.__class__ = FusedFrontEnd if is_fused else FrontEnd
    return model


class FusedFrontEnd(FrontEnd):
    """The front end whose timbral blocks never hold their convolutions' output."""

    def forward(self, log_mel: torch.Tensor) -> torch.Tensor:
        """Return (M, C, N) for a log-mel (M, F, N)."""
        if not self._is_fusible(log_mel):
            return super().forward(log_mel)
        with torch.autocast(log_mel.device.type, enabled=False):
            # The fused blocks take the affine part of this BatchNorm apart from it.
            x_hat = _standardise(self.spectrogram_bn, log_mel[:, None])[:, 0]
            scale, shift = self.spectrogram_bn.weight[0], self.spectrogram_bn.bias[0]
            spectrogram = scale * x_hat + shift
        spectrogram = spectrogram.to(next(self.timbral.parameters()).dtype)
        timbral = fused_timbral(x_hat, scale, shift, list(self.timbral))
        return torch.cat([*timbral, *(block(spectrogram) for block in self.temporal)], dim=1)

    def _is_fusible(self, log_mel: torch.Tensor) -> bool:
        return (
            self.training
            and torch.is_grad_enabled()
            and self.timbral[0].variant == "port"
            and fused_timbral_available(log_mel, list(self.timbral))
        )


def _standardise(bn: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    """Return a training pass of BatchNorm without its weight and bias."""
    if is_synchronised(bn):
        return normalise_synchronised(bn, x, is_affine=False)
    if x.is_cuda:
        # torch gives a channel one block of threads, and here is one channel: 45 ms for 512 clips.
        variance, mean = torch.var_mean(x, correction=0)
        update_running(bn, mean[None], variance[None], x.numel())
        return (x - mean) * torch.rsqrt(variance + bn.eps)
    assert bn.momentum is not None
    assert bn.num_batches_tracked is not None
    bn.num_batches_tracked.add_(1)
    running = bn.running_mean, bn.running_var
    return F.batch_norm(x, *running, training=True, momentum=bn.momentum, eps=bn.eps)
