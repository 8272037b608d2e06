"""Timbral front end of the `port` musicnn, fused for training on a CPU.

    x_hat (M, F, N) -> scale * x_hat + shift -> pad time with zeros -> convolution (I x J)
      -> BatchNorm over the batch -> ReLU -> maximum over the F - I + 1 output bands -> (M, C, N)

The maximum throws nearly all of the convolution's output away. `plain_timbral` computes it all,
keeps it for the backward pass, and is the readable definition. `fused_timbral` gives the same
values and gradients, up to rounding, and never holds that output:

1. Mean and variance of the output are a linear and a quadratic form of the moments of the input's
   windows, so one Gram matrix of the input gives BatchNorm's statistics.
2. BatchNorm then folds into the filters, and what is left is a short correlation along the bands:
   a product in the frequency domain, with the maximum taken as the bands come out.
3. On the way back the maximum passes gradient at one band only, and what BatchNorm spreads over
   all the others is again linear in the moments.

Time is padded after the shift is added. So shift multiplies not a constant but the indicator of
the unpadded interior, which the moments carry as one more band.

Where bands tie for the maximum, one of them gets the gradient; where they nearly tie, rounding may
choose another one than torch does. Two runs with the same number of threads give the same bits; for
another number the compiled loops still do, torch's matrix products before them may not.

This file knows nothing of the rest of the backbone, and not of evaluation mode or other devices:
there the caller takes `plain_timbral`. It has no second derivative and no gradient for x_hat.

Legend: M segments, C channels, F mel bins, N frames, I band taps and J time taps of a filter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad


class _Moments(NamedTuple):
    """Sums over segments and frames that blocks of any height share, float64.

    Band F is the indicator of the interior.
    """

    rows: Tensor  # input with its time padding, (M, N + J - 1, F + 1)
    first: Tensor  # (J, F + 1)
    second: Tensor  # (J, F + 1, J, F + 1)


class _Statistics(NamedTuple):
    """What BatchNorm has to know of one convolution's output, float64."""

    count: int  # values per channel, M * (F - I + 1) * N
    filters: Tensor  # weights of input and indicator, (C, J * I + J)
    window_sum: Tensor  # sum of all windows, (J * I + J,)
    covariance: Tensor  # sum of the centred output times the windows, (C, J * I + J)
    mean: Tensor  # without the convolution's bias, (C,)
    variance: Tensor  # biased, (C,)
    deviation: Tensor  # sqrt(variance + eps), (C,)


def plain_timbral(
    x_hat: Tensor, scale: Tensor, shift: Tensor, blocks: Sequence[nn.Module]
) -> list[Tensor]:
    """Convolution, BatchNorm, ReLU and maximum over bands for each block, by plain torch.

    Args:
        x_hat: Log-mel spectrogram before the affine part of its normalisation, (M, F, N).
        scale: Factor of that affine part, ().
        shift: What it adds, ().
        blocks: Modules with `conv` (a Conv2d from one channel) and `bn` (a BatchNorm2d).

    Returns:
        For each block the maximum over bands, (M, C, N).
    """
    x = (scale * x_hat + shift).unsqueeze(1)  # (M, 1, F, N)
    outputs = []
    for conv, norm in map(_parts, blocks):
        outputs.append(torch.relu(norm(conv(x))).max(dim=2).values)
    return outputs


def fused_timbral(
    x_hat: Tensor, scale: Tensor, shift: Tensor, blocks: Sequence[nn.Module]
) -> list[Tensor]:
    """Same as `plain_timbral` in training mode, without the convolution's output.

    Running statistics are updated as BatchNorm2d does. The gradient of a convolution's bias is
    exactly zero, since BatchNorm takes the bias out again.

    Args:
        x_hat: Log-mel spectrogram before the affine part of its normalisation, (M, F, N).
        scale: Factor of that affine part, ().
        shift: What it adds, ().
        blocks: Modules with `conv` (a Conv2d from one channel, of odd width, its time padded to
            keep N) and `bn` (a BatchNorm2d in training mode).

    Returns:
        For each block the maximum over bands, (M, C, N).

    Raises:
        ValueError: If `fused_timbral_available` says no, or BatchNorm gets one value per channel.
    """
    if not fused_timbral_available(x_hat, blocks):
        raise ValueError("these inputs or blocks cannot be fused (use plain_timbral)")
    moments: dict[int, _Moments] = {}
    outputs = []
    for conv, norm in map(_parts, blocks):
        num_taps = conv.weight.shape[3]
        with torch.no_grad():
            if num_taps not in moments:
                moments[num_taps] = _sum_moments(x_hat, num_taps)
            rows = moments[num_taps].rows
            statistics = _derive_statistics(moments[num_taps], scale, shift, conv.weight, norm.eps)
            _update_running(conv, norm, statistics)
        parameters = (scale, shift, conv.weight, conv.bias, norm.weight, norm.bias)
        outputs.append(_FusedBlock.apply(statistics, rows, x_hat, *parameters))
    return outputs


def fused_timbral_available(x_hat: Tensor, blocks: Sequence[nn.Module] = ()) -> bool:
    """Whether `fused_timbral` can run: numba, a CPU, float32 or float64, no autocast.

    Args:
        x_hat: The input, (M, F, N); it must not ask for a gradient itself.
        blocks: Blocks to check against what `fused_timbral` takes; none: not checked.

    Returns:
        False where the caller has to take `plain_timbral`.
    """
    return (
        x_hat.device.type == "cpu"
        and x_hat.dtype in (torch.float32, torch.float64)
        and not x_hat.requires_grad
        and not torch.is_autocast_enabled("cpu")
        and all(_is_fusible(*_parts(block)) for block in blocks)
        and bool(_load_kernels())
    )


def _parts(block: Any) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    return block.conv, block.bn


def _is_fusible(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> bool:
    return (
        type(norm) is nn.BatchNorm2d  # SyncBatchNorm would need the other ranks' moments
        and norm.training
        and norm.affine
        and conv.in_channels == 1
        and conv.stride == conv.dilation == (1, 1)
        and conv.kernel_size[1] % 2 == 1
        and conv.padding == (0, conv.kernel_size[1] // 2)
        and conv.padding_mode == "zeros"
    )


@functools.cache
def _load_kernels() -> dict[str, Callable]:
    """Return the compiled sums by name, or nothing without numba."""
    # numba is optional and slow to import. `from . import` would read better, but transformers
    # would then not see that a checkpoint with code of its own needs this file.
    try:
        from .timbral_kernels import add_windows, maximise_correlation, sum_windows  # noqa: PLC0415
    except ImportError:
        return {}
    return {f.__name__: f for f in (add_windows, maximise_correlation, sum_windows)}


def _sum_moments(x_hat: Tensor, num_taps: int) -> _Moments:
    num_segments, num_bands, num_frames = x_hat.shape
    interior = x_hat.new_ones((num_segments, 1, num_frames))
    rows = torch.cat([x_hat, interior], 1).double().transpose(1, 2)
    rows = pad(rows, (0, 0, num_taps // 2, num_taps // 2)).contiguous()
    first = torch.stack([rows[:, j : j + num_frames].sum((0, 1)) for j in range(num_taps)])
    second = rows.new_empty((num_taps, num_taps, num_bands + 1, num_bands + 1))
    for lag in range(num_taps):
        product = rows[:, :num_frames].transpose(1, 2) @ rows[:, lag : lag + num_frames]
        product = product.sum(0)
        for j in range(num_taps - lag):
            if j > 0:  # one frame on: one enters at the end, one leaves at the start
                end, start = num_frames + j - 1, j - 1
                product = product + rows[:, end].T @ rows[:, end + lag]
                product = product - rows[:, start].T @ rows[:, start + lag]
            second[j, j + lag], second[j + lag, j] = product, product.T
    return _Moments(rows, first, second.transpose(1, 2).contiguous())


def _derive_statistics(
    moments: _Moments, scale: Tensor, shift: Tensor, weight: Tensor, eps: float
) -> _Statistics:
    _, _, height, num_taps = weight.shape
    num_segments, num_rows, num_bands = moments.rows.shape
    num_windows = num_bands - height
    count = num_segments * num_windows * (num_rows - num_taps + 1)
    if num_windows < 1 or count < 2:
        raise ValueError(
            f"{num_bands - 1} bands under filters of {height} leave {max(count, 0)} values per "
            "channel, and BatchNorm trains on 2 or more (give more bands, frames or segments)"
        )
    window_sum = moments.first[:, :-1].unfold(1, num_windows, 1).sum(-1).flatten()
    window_sum = torch.cat([window_sum, num_windows * moments.first[:, -1]])
    second = _load_kernels()["sum_windows"](moments.second, height)
    second -= torch.outer(window_sum, window_sum) / count
    taps = weight.double()[:, 0].transpose(1, 2)  # (C, J, I)
    filters = torch.cat([scale * taps.flatten(1), shift * taps.sum(2)], 1)
    mean = filters @ window_sum / count
    covariance = filters @ second
    variance = ((covariance * filters).sum(1) / count).clamp_min(0)  # rounding may go below
    deviation = torch.sqrt(variance + eps)
    return _Statistics(count, filters, window_sum, covariance, mean, variance, deviation)


def _update_running(conv: nn.Conv2d, norm: nn.BatchNorm2d, statistics: _Statistics) -> None:
    if norm.running_mean is None or norm.running_var is None:
        return
    assert norm.num_batches_tracked is not None  # the three come together
    norm.num_batches_tracked.add_(1)
    # No momentum: the average over all batches so far.
    momentum = 1 / int(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    mean = statistics.mean if conv.bias is None else statistics.mean + conv.bias
    unbiased = statistics.variance * (statistics.count / (statistics.count - 1))
    norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), momentum)
    norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), momentum)


class _FusedBlock(torch.autograd.Function):
    """One block as one step of autograd; its statistics are given."""

    @staticmethod
    def forward(ctx: Any, statistics: _Statistics, rows: Tensor, *tensors: Tensor) -> Tensor:
        """Return the maximum over bands, (M, C, N)."""
        x_hat, scale, shift, weight, bias, gamma, beta = tensors
        slope = gamma.double() / statistics.deviation
        taps = weight.double()[:, 0].transpose(1, 2) * slope.view(-1, 1, 1)
        x = scale * rows[..., :-1] + shift * rows[..., -1:]
        offset = beta.double() - statistics.mean * slope
        maximise = _load_kernels()["maximise_correlation"]
        values, positions = maximise(x, taps, offset, x_hat.dtype)
        ctx.statistics, ctx.has_bias = statistics, bias is not None
        ctx.save_for_backward(x_hat, scale, shift, weight, gamma, positions)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of scale, shift, weight, bias, gamma and beta."""
        x_hat, scale, shift, weight, gamma, positions = ctx.saved_tensors
        statistics: _Statistics = ctx.statistics
        num_channels, _, height, num_taps = weight.shape
        grad = torch.where(positions >= 0, grad_outputs[0], 0).contiguous()
        padding = (num_taps // 2, num_taps // 2)
        rows = pad(x_hat.transpose(1, 2), (0, 0, *padding)).contiguous()
        on_input = _load_kernels()["add_windows"](grad, positions, rows, (num_taps, height))
        by_frame = grad.sum(0, dtype=torch.double)  # (C, N)
        interior = pad(by_frame.new_ones(x_hat.shape[2]), padding).unfold(0, num_taps, 1)  # (N, J)
        sparse = torch.cat([on_input.flatten(1), by_frame @ interior], 1)  # (C, J * I + J)

        deviation = statistics.deviation
        grad_beta = by_frame.sum(1)
        # Gradient times output is filters times `sparse`: nothing is divided by gamma, 0 is fine.
        grad_gamma = (sparse * statistics.filters).sum(1) - statistics.mean * grad_beta
        grad_gamma /= deviation
        dense = torch.outer(grad_beta, statistics.window_sum)
        dense += (grad_gamma / deviation).unsqueeze(1) * statistics.covariance
        windows = (gamma / deviation).unsqueeze(1) * (sparse - dense / statistics.count)
        on_input = windows[:, :-num_taps].view(num_channels, num_taps, height)
        on_interior = windows[:, -num_taps:].unsqueeze(2)  # the same for all band taps
        taps = weight.double()[:, 0].transpose(1, 2)
        grad_weight = (scale * on_input + shift * on_interior).transpose(1, 2).unsqueeze(1)
        return (
            *(None, None, None),
            (taps * on_input).sum().to(scale.dtype),
            (taps * on_interior).sum().to(shift.dtype),
            grad_weight.to(weight.dtype),
            torch.zeros_like(gamma) if ctx.has_bias else None,
            grad_gamma.to(gamma.dtype),
            grad_beta.to(gamma.dtype),
        )
