"""Timbral front end of the `port` musicnn, fused for training.

    x_hat (M, F, N) -> scale * x_hat + shift -> pad time with zeros -> convolution (I x J)
      -> BatchNorm over the batch -> ReLU -> maximum over the F - I + 1 output bands -> (M, C, N)

The maximum throws nearly all of the convolution's output away. `plain_timbral` computes it all,
keeps it for the backward pass, and is the readable definition. `fused_timbral` gives the same
values and gradients, up to rounding, and never holds that output:

1. Mean and variance of the output are a linear and a quadratic form of the moments of the input's
   windows, so one Gram matrix of the input gives BatchNorm's statistics.
2. BatchNorm then folds into the filters, and what is left is a short correlation along the bands
   with the maximum taken as they come out: on a CPU in the frequency domain (`timbral_kernels`),
   on a GPU as a dense convolution of some segments at a time (`timbral_chunks`).
3. On the way back the maximum passes gradient at one band only, and what BatchNorm spreads over
   all the others is again linear in the moments.

Time is padded after the shift is added. So shift multiplies not a constant but the indicator of
the unpadded interior, which the moments carry as one more band.

Where bands tie for the maximum, one of them gets the gradient; where they nearly tie, rounding may
choose another one than torch does. On a CPU two runs give the same bits, whatever the number of
threads: no sum is split between them, and what is left to torch runs on one.

Scope: training mode; in evaluation mode the caller takes `plain_timbral`. There is no second
derivative and no gradient for x_hat.

Legend: M segments, C channels, F mel bins, N frames, I band taps and J time taps of a filter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from mulap.fast.sync_batch_norm import (
    SyncBatchNorm2d,
    is_synchronised,
    sum_over_processes,
    update_running,
)
from mulap.fast.threads import one_torch_thread
from mulap.fast.timbral_chunks import TORCH_KERNELS

#: Segments whose windows are laid out at a time, to bound their memory: on a CPU, elsewhere.
SEGMENTS_AT_ONCE = 8, 256

#: What takes moments, maxima and sums of windows, by name; see `timbral_kernels`.
Kernels = Mapping[str, Callable]


class _Input(NamedTuple):
    """What blocks of any height share. Band F is the indicator of the interior."""

    size: tuple[int, int, int]  # M (of all processes that share statistics), F, N
    laid_out: Tensor  # scale * x_hat + shift, as the kernel that takes the maximum wants it
    first: Tensor  # sum over segments and frames, (J, F + 1), float64
    second: Tensor  # sum of products, (J, F + 1, J, F + 1), float64


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
    for conv, norm in map(block_parts, blocks):
        outputs.append(torch.relu(norm(conv(x))).max(dim=2).values)
    return outputs


def fused_timbral(
    x_hat: Tensor,
    scale: Tensor,
    shift: Tensor,
    blocks: Sequence[nn.Module],
    kernels: Kernels | None = None,
) -> list[Tensor]:
    """Same as `plain_timbral` in training mode, without the convolution's output.

    Running statistics are updated as BatchNorm2d does. The gradient of a convolution's bias is
    exactly zero, since BatchNorm takes the bias out again. Under autocast, which there is on a GPU
    only, the convolutions run in its precision, the statistics do not.

    Args:
        x_hat: Log-mel spectrogram before the affine part of its normalisation, (M, F, N).
        scale: Factor of that affine part, ().
        shift: What it adds, ().
        blocks: Modules with `conv` (a Conv2d from one channel, of odd width, its time padded to
            keep N) and `bn` (a BatchNorm2d in training mode).
        kernels: None for those of x_hat's device.

    Returns:
        For each block the maximum over bands, (M, C, N), in the convolutions' precision.

    Raises:
        ValueError: If `fused_timbral_available` says no, or BatchNorm gets one value per channel.
    """
    if not fused_timbral_available(x_hat, blocks):
        raise ValueError("these inputs or blocks cannot be fused. Use plain_timbral.")
    kernels = kernels or kernels_for(x_hat)
    device = x_hat.device.type
    is_mixed = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_mixed else x_hat.dtype
    inputs: dict[int, _Input] = {}
    outputs = []
    # Around the loops there are many small operations. On a machine with other work, each that is
    # split waits for threads that have no core, which together took longer than the loops did.
    with one_torch_thread() as num_threads, torch.autocast(device, enabled=False):
        for conv, norm in map(block_parts, blocks):
            num_taps = conv.weight.shape[3]
            with torch.no_grad():
                if num_taps not in inputs:
                    inputs[num_taps] = _prepare(x_hat, scale, shift, num_taps, dtype, kernels)
                    if is_synchronised(norm):
                        inputs[num_taps] = _share(inputs[num_taps])
                shared = inputs[num_taps]
                statistics = _derive_statistics(
                    shared, scale, shift, conv.weight, norm.eps, kernels
                )
                mean = statistics.mean if conv.bias is None else statistics.mean + conv.bias
                update_running(norm, mean, statistics.variance, statistics.count)
            parameters = (scale, shift, conv.weight, conv.bias, norm.weight, norm.bias)
            outputs.append(
                _FusedBlock.apply(shared, statistics, kernels, num_threads, x_hat, *parameters)
            )
    return outputs


def fused_timbral_available(x_hat: Tensor, blocks: Sequence[nn.Module] = ()) -> bool:
    """Whether `fused_timbral` can run: float32 or float64, and kernels for where the input is.

    Args:
        x_hat: The input, (M, F, N); it must not ask for a gradient itself.
        blocks: Blocks to check against what `fused_timbral` takes; none: not checked.

    Returns:
        False where the caller has to take `plain_timbral`.
    """
    return (
        x_hat.dtype in (torch.float32, torch.float64)
        and not x_hat.requires_grad
        and is_fusible(blocks)
        and bool(kernels_for(x_hat))
    )


def kernels_for(x_hat: Tensor) -> Kernels:
    """Return the kernels for where a tensor is: compiled ones on a CPU, torch's on a GPU.

    There are none without numba or under autocast on a CPU, and on other devices, of which not all
    have double precision.
    """
    if x_hat.is_cuda:
        return TORCH_KERNELS
    if x_hat.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        return {}
    return _load_kernels()


def block_parts(block: Any) -> tuple[nn.Conv2d, nn.BatchNorm2d]:
    """Return a block's convolution and BatchNorm."""
    return block.conv, block.bn


def is_fusible(blocks: Sequence[nn.Module]) -> bool:
    """Whether blocks are what `fused_timbral` takes."""
    return all(
        type(norm) in (nn.BatchNorm2d, SyncBatchNorm2d)
        and norm.training
        and norm.affine
        and conv.in_channels == 1
        and conv.stride == conv.dilation == (1, 1)
        and conv.kernel_size[1] % 2 == 1
        and conv.padding == (0, conv.kernel_size[1] // 2)
        and conv.padding_mode == "zeros"
        for conv, norm in map(block_parts, blocks)
    )


@functools.cache
def _load_kernels() -> dict[str, Callable]:
    """Return the compiled sums by name, or nothing without numba."""
    # numba is optional and slow to import.
    try:
        from mulap.fast.timbral_kernels import KERNELS  # noqa: PLC0415
    except ImportError:
        return {}
    return KERNELS


def _prepare(
    x_hat: Tensor,
    scale: Tensor,
    shift: Tensor,
    num_taps: int,
    dtype: torch.dtype,
    kernels: Kernels,
) -> _Input:
    # Frames as rows, each with a 1 behind its bands; padding adds rows of zeros, 0 behind them too.
    num_segments, num_bands, num_frames = x_hat.shape
    interior = x_hat.new_ones((num_segments, 1, num_frames))
    rows = torch.cat([x_hat, interior], 1).transpose(1, 2).double()
    rows = pad(rows, (0, 0, num_taps // 2, num_taps // 2)).contiguous()  # (M, N + J - 1, F + 1)
    width = num_bands + 1
    products = rows.new_zeros((width, num_taps * width))  # of tap 0 with all taps
    for part in rows.split(SEGMENTS_AT_ONCE[x_hat.device.type != "cpu"]):
        # In memory J frames follow each other, so a window of J whole frames is one run of values.
        windows = part.flatten(1).unfold(1, num_taps * width, width).flatten(0, 1)
        products.addmm_(windows[:, :width].T, windows)
    # Products of taps j and k both above 0 are those of j - 1 and k - 1, one frame later: the sum
    # loses its first term and gains one at the end. `edges` holds what it gains less what it loses.
    starts, ends = rows[:, : num_taps - 1].flatten(1), rows[:, num_frames:].flatten(1)
    edges = (ends.T @ ends - starts.T @ starts).view((num_taps - 1, width) * 2)
    second = kernels["shift_products"](products.view(width, num_taps, width), edges)
    # Of each tap, the sum over the N frames that it meets: J windows of N rows.
    first = rows.sum(0).unfold(0, num_frames, 1).sum(2)
    # The convolution's input: shift only where the indicator is 1, zeros in the padding.
    x = scale * rows[..., :-1] + shift * rows[..., -1:]
    laid_out = kernels["lay_out"](x, num_taps, dtype)
    return _Input((num_segments, num_bands, num_frames), laid_out, first, second)


def _share(own: _Input) -> _Input:
    """Sum the moments over all processes, by which everything that follows is of all of them.

    On the way back nothing is summed: a gradient is linear in what the maximum passes on, so each
    process gives its share, and the shares add up to the gradient of the processes' summed losses.
    """
    moments = torch.cat([own.first.flatten(), own.second.flatten()])
    sizes = moments.new_tensor([own.size[0]])
    *totals, num_segments = sum_over_processes(torch.cat([moments, sizes])).split(
        [own.first.numel(), own.second.numel(), 1]
    )
    first, second = (total.view_as(of) for total, of in zip(totals, own[2:], strict=True))
    return _Input((int(num_segments), *own.size[1:]), own.laid_out, first, second)


def _derive_statistics(
    shared: _Input, scale: Tensor, shift: Tensor, weight: Tensor, eps: float, kernels: Kernels
) -> _Statistics:
    num_segments, num_bands, num_frames = shared.size
    height = weight.shape[2]
    num_windows = num_bands - height + 1
    count = num_segments * num_windows * num_frames
    if num_windows < 1 or count < 2:
        raise ValueError(
            f"{num_bands} bands under filters of {height} leave {max(count, 0)} values per "
            "channel, and BatchNorm trains on 2 or more. Give more bands, frames or segments."
        )
    # Tap (j, i) meets bands i to i + O - 1, as the window takes its O places; the indicator, which
    # is the same at all bands, is met O times.
    window_sum = shared.first[:, :-1].unfold(1, num_windows, 1).sum(-1).flatten()
    window_sum = torch.cat([window_sum, num_windows * shared.first[:, -1]])
    taps = weight.double()[:, 0].transpose(1, 2)  # (C, J, I)
    # The output is linear in a window of x_hat and the indicator of its J frames:
    # y = sum over j of (scale * w[j] . x_hat[j] + shift * sum(w[j]) * indicator[j])
    filters = torch.cat([scale * taps.flatten(1), shift * taps.sum(2)], 1)
    mean = filters @ window_sum / count
    # sum of (y - mean) * window = filters @ (sum of products of windows) - mean * (sum of windows);
    # times the filters again it is the sum of (y - mean) * y, count times the variance.
    covariance = filters @ kernels["sum_windows"](shared.second, height)
    covariance -= torch.outer(mean, window_sum)
    variance = ((covariance * filters).sum(1) / count).clamp_min(0)  # rounding may go below
    deviation = torch.sqrt(variance + eps)
    return _Statistics(count, filters, window_sum, covariance, mean, variance, deviation)


class _FusedBlock(torch.autograd.Function):
    """One block as one step of autograd; its statistics are given."""

    @staticmethod
    def forward(
        ctx: Any,
        shared: _Input,
        statistics: _Statistics,
        kernels: Kernels,
        num_threads: int,
        *tensors: Tensor,
    ) -> Tensor:
        """Return the maximum over bands, (M, C, N)."""
        x_hat, scale, shift, weight, bias, gamma, beta = tensors
        # BatchNorm as a factor and a sum, folded into the filters. The convolution's bias is
        # missing: it is in the mean too, and BatchNorm takes it out again.
        slope = gamma.double() / statistics.deviation
        taps = weight.double()[:, 0].transpose(1, 2) * slope.view(-1, 1, 1)
        offset = beta.double() - statistics.mean * slope
        values, positions = kernels["maximise_correlation"](
            shared.laid_out, taps, offset, shared.size[1:], num_threads
        )
        ctx.statistics, ctx.kernels, ctx.has_bias = statistics, kernels, bias is not None
        ctx.dtype = shared.laid_out.dtype
        ctx.save_for_backward(x_hat, scale, shift, weight, gamma, positions)
        return values

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of scale, shift, weight, bias, gamma and beta."""
        with one_torch_thread() as num_threads:
            gradients = _differentiate(ctx, grad_outputs[0], num_threads)
        return (None, None, None, None, None, *gradients)


def _differentiate(ctx: Any, grad: Tensor, num_threads: int) -> tuple[Tensor | None, ...]:
    x_hat, scale, shift, weight, gamma, positions = ctx.saved_tensors
    statistics: _Statistics = ctx.statistics
    num_channels, _, height, num_taps = weight.shape
    padding = (num_taps // 2, num_taps // 2)
    rows = pad(x_hat.to(ctx.dtype).transpose(1, 2), (0, 0, *padding)).contiguous()
    # g is the gradient of the block's output; it reaches one window per channel and frame, that of
    # the maximum, or none where the ReLU is off. `sparse` is the sum of g * window over those, and
    # `by_frame` of g alone, from which follows what the indicator's taps get.
    on_input, by_frame = ctx.kernels["add_windows"](
        grad.contiguous(), positions, rows, (num_taps, height), num_threads
    )
    interior = pad(by_frame.new_ones(x_hat.shape[2]), padding).unfold(0, num_taps, 1)  # (N, J)
    sparse = torch.cat([on_input.flatten(1), by_frame @ interior], 1)  # (C, J * I + J)

    deviation = statistics.deviation
    # With y' = (y - mean) / deviation, BatchNorm's backward pass gives each y of all bands
    #     gamma / deviation * (g - sum(g) / count - y' * sum(g * y') / count),
    # and the filters get the sum of that times the windows: of the first term `sparse`, of the
    # other two, which are dense, `window_sum` and `covariance / deviation` by the moments.
    grad_beta = by_frame.sum(1)
    # Gradient times output is filters times `sparse`: nothing is divided by gamma, 0 is fine.
    grad_gamma = (sparse * statistics.filters).sum(1) - statistics.mean * grad_beta
    grad_gamma /= deviation
    dense = torch.outer(grad_beta, statistics.window_sum)
    dense += (grad_gamma / deviation).unsqueeze(1) * statistics.covariance
    windows = (gamma / deviation).unsqueeze(1) * (sparse - dense / statistics.count)
    on_input = windows[:, :-num_taps].view(num_channels, num_taps, height)
    on_interior = windows[:, -num_taps:].unsqueeze(2)  # the same for all band taps
    # From filters back to what they were made of: scale * w and shift * (sum of w over its bands).
    taps = weight.double()[:, 0].transpose(1, 2)
    grad_weight = (scale * on_input + shift * on_interior).transpose(1, 2).unsqueeze(1)
    return (
        (taps * on_input).sum().to(scale.dtype),
        (taps * on_interior).sum().to(shift.dtype),
        grad_weight.to(weight.dtype),
        torch.zeros_like(gamma) if ctx.has_bias else None,
        grad_gamma.to(gamma.dtype),
        grad_beta.to(gamma.dtype),
    )
