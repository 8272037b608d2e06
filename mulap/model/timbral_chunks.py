"""Timbral front end of the `port` musicnn in little memory, by plain torch on any device.

`plain_timbral` keeps the convolution's output for the backward pass, gigabytes for a large batch.
Here it is made for some segments at a time and forgotten: the forward pass keeps the maximum over
bands and where it was, and the backward pass convolves once more. That is a convolution for each
pass and one for the weight's gradient; `plain_timbral` needs as many, its third one for a gradient
of the input, which here follows from that of the weight.

    y = convolution, turned over where BatchNorm's weight is negative
    statistics of y, its maximum over bands                              chunk by chunk
    BatchNorm and ReLU, which are increasing, of the maximum             all at once

`FrontEnd` takes it on a GPU, where `fused_timbral` cannot run. On no GPU has it been measured yet:
that it equals `plain_timbral` is tested on a CPU, its speed and memory are as reckoned above.

Legend: M segments, C channels, F mel bins, N frames, I band taps and J time taps of a filter.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, pad

from .sync_batch_norm import is_synchronised, sum_over_processes, update_running
from .timbral import block_parts

#: Values of the convolution's output that are made at a time; a few tensors of this size are held.
VALUES_AT_ONCE = 2**28


def chunked_timbral(
    x_hat: Tensor,
    scale: Tensor,
    shift: Tensor,
    blocks: Sequence[nn.Module],
    segments_at_once: int | None = None,
) -> list[Tensor]:
    """Same as `timbral.plain_timbral` in training mode, some segments at a time.

    Running statistics move once. The gradient of a convolution's bias is exactly zero, since
    BatchNorm takes the bias out again. Under autocast the convolutions run in its precision.

    Args:
        x_hat: Log-mel spectrogram before the affine part of its normalisation, (M, F, N), without
            a gradient.
        scale: Factor of that affine part, ().
        shift: What it adds, ().
        blocks: Modules of which `timbral.is_fusible` is true.
        segments_at_once: Size of a chunk. None: by `VALUES_AT_ONCE`.

    Returns:
        For each block the maximum over bands, (M, C, N), in the convolutions' precision.
    """
    device = x_hat.device.type
    is_mixed = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_mixed else x_hat.dtype
    outputs = []
    with torch.autocast(device, enabled=False):
        for conv, norm in map(block_parts, blocks):
            num_values = conv.out_channels * (x_hat.shape[1] - conv.kernel_size[0] + 1)
            at_once = segments_at_once or VALUES_AT_ONCE // (num_values * x_hat.shape[2])
            tensors = (x_hat, scale, shift, conv.weight, conv.bias, norm.weight, norm.bias)
            outputs.append(_ChunkedBlock.apply(norm, dtype, max(at_once, 1), *tensors))
    return outputs


class _ChunkedBlock(torch.autograd.Function):
    """One block as one step of autograd."""

    @staticmethod
    def forward(
        ctx: Any, norm: nn.BatchNorm2d, dtype: torch.dtype, at_once: int, *tensors: Tensor
    ) -> Tensor:
        """Return the maximum over bands, (M, C, N)."""
        x_hat, scale, shift, weight, bias, gamma, beta = tensors
        sign = torch.where(gamma < 0, -1.0, 1.0).to(gamma.dtype)
        filters = (weight * sign.view(-1, 1, 1, 1)).to(dtype)
        count, mean, variance, best, bands = _scan(scale * x_hat + shift, filters, at_once, norm)
        update_running(norm, sign * mean if bias is None else sign * mean + bias, variance, count)
        deviation = torch.sqrt(variance + norm.eps)
        best.sub_(_stretch(mean, best)).div_(_stretch(deviation, best))
        values = torch.relu(best * _stretch(gamma.abs(), best) + _stretch(beta, best))
        ctx.norm, ctx.at_once, ctx.count, ctx.has_bias = norm, at_once, count, bias is not None
        kept = x_hat, scale, shift, weight, gamma, sign, filters, mean, deviation
        ctx.save_for_backward(*kept, best, bands, values > 0)
        return values.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of scale, shift, weight, bias, gamma and beta."""
        x_hat, scale, shift, weight, gamma, sign, filters, mean, deviation = ctx.saved_tensors[:9]
        best, bands, is_on = ctx.saved_tensors[9:]
        grad = grad_outputs[0].to(x_hat.dtype) * is_on
        own = torch.stack([_sum(grad), _sum(grad * best)])
        total = sum_over_processes(own) if is_synchronised(ctx.norm) else own
        on_mean, on_deviation = (_stretch(each, grad)[..., None] for each in total / ctx.count)
        center, width = (_stretch(each, grad)[..., None] for each in (mean, deviation))
        on_input = torch.zeros_like(weight, dtype=torch.double)
        by_frame = torch.zeros_like(grad[0], dtype=torch.double)  # (C, N)
        x = scale * x_hat + shift
        for part in _chunks(len(x), ctx.at_once):
            dense = _convolve(x[part], filters).to(x.dtype)  # (m, C, F - I + 1, N)
            dense = dense.sub_(center).div_(width).mul_(-on_deviation).sub_(on_mean)
            dense.scatter_add_(2, bands[part, :, None].long(), grad[part, :, None])
            by_frame += dense.sum((0, 2), dtype=torch.double)
            seen = x_hat[part, None].to(filters.dtype)
            on_input += _weigh(dense.to(filters.dtype), seen, filters)
        slope = (gamma / deviation).double()
        on_input *= slope.view(-1, 1, 1, 1)
        num_taps = weight.shape[3]
        interior = pad(by_frame.new_ones(x.shape[2]), (num_taps // 2, num_taps // 2))
        on_interior = (slope[:, None] * by_frame) @ interior.unfold(0, num_taps, 1)  # (C, J)
        on_interior = on_interior[:, None, None].expand_as(on_input)
        gradients = (
            (weight * on_input).sum().to(scale.dtype),
            (weight * on_interior).sum().to(shift.dtype),
            (scale * on_input + shift * on_interior).to(weight.dtype),
            torch.zeros_like(gamma) if ctx.has_bias else None,
            (sign * own[1]).to(gamma.dtype),
            own[0].to(gamma.dtype),
        )
        return (None, None, None, None, *gradients)


def _scan(
    x: Tensor, filters: Tensor, at_once: int, norm: nn.BatchNorm2d
) -> tuple[int, Tensor, Tensor, Tensor, Tensor]:
    """Convolve (M, F, N) chunk by chunk, and keep what does not grow with the bands.

    Returns:
        Values per channel over all processes that share statistics; their mean and their biased
        variance, (C,) float64; maximum over bands and its band, (M, C, N).
    """
    # Where BatchNorm's weight is zero all bands tie. As in torch, the first gets the gradient.
    is_tie = (norm.weight == 0).view(-1, 1)
    sizes, means, variances, highest, bands = [], [], [], [], []
    for part in _chunks(len(x), at_once):
        y = _convolve(x[part], filters).to(x.dtype)
        values, at = y.max(2)
        highest.append(torch.where(is_tie, y[:, :, 0], values))
        bands.append(at.masked_fill_(is_tie, 0).short())
        variance, mean = torch.var_mean(y, (0, 2, 3), correction=0)
        sizes.append(y.numel() // y.shape[1])
        means.append(mean.double())
        variances.append(variance.double())
    size = means[0].new_tensor(sizes)[:, None]
    mean, variance = torch.stack(means), torch.stack(variances)
    share = sum_over_processes if is_synchronised(norm) else torch.clone
    count = share(size.sum())
    total_mean = share((size * mean).sum(0)) / count
    total_variance = share((size * (variance + (mean - total_mean).square())).sum(0)) / count
    return int(count), total_mean, total_variance, torch.cat(highest), torch.cat(bands)


def _convolve(x: Tensor, filters: Tensor) -> Tensor:
    padding = (0, filters.shape[3] // 2)
    return conv2d(x[:, None].to(filters.dtype), filters, padding=padding)


def _weigh(grad: Tensor, x: Tensor, filters: Tensor) -> Tensor:
    """Return the gradient of the filters alone."""
    geometry = [1, 1], [0, filters.shape[3] // 2], [1, 1], False, [0, 0], 1
    is_wanted = [False, True, False]
    return torch.ops.aten.convolution_backward(grad, x, filters, None, *geometry, is_wanted)[1]


def _chunks(num_segments: int, at_once: int) -> Iterator[slice]:
    return (slice(start, start + at_once) for start in range(0, num_segments, at_once))


def _sum(values: Tensor) -> Tensor:
    return values.sum((0, 2), dtype=torch.double)


def _stretch(values: Tensor, like: Tensor) -> Tensor:
    """Let (C,) stand at the channels of (M, C, N), in a precision that is given."""
    return values.to(like.dtype).view(-1, 1)
