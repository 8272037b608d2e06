"""Kernels of the fused timbral front end by plain torch: for a GPU, where `timbral_kernels` cannot
run. They take and give the same, and work on any device.

The convolution runs densely, for some segments at a time, and is forgotten but for its maximum over
bands. Three things make it fast on a GPU; measured on an H100 in bf16, in docs/benchmarks.md:

1. No gradient passes through BatchNorm's dense part, so there is no second convolution on the way
   back, and nothing of the convolution's size is kept or touched in single precision.
2. The bands under a filter are laid out as the channels of a convolution along time:

       rows (m, N + J - 1, F) -> (m * O, I, N + J - 1), O = F - I + 1 starts of a window

   From one channel to 204 cuDNN takes no matrix units; from 72 to 208 it does.
3. Channels are padded with zeros to a multiple of 8 and come last in memory, as those units ask.

Where bands tie for the maximum after rounding to the precision of the convolution, one of them gets
the gradient.

Legend: M segments (m at a time), C channels, F mel bins, N frames, I band taps and J time taps.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

#: Values of the convolution's output that are made at a time; two tensors of this size are held.
VALUES_AT_ONCE = 2**28
_CHANNELS_AT_ONCE = 8  # that the matrix units take


def lay_out(rows: Tensor, num_taps: int, dtype: torch.dtype) -> Tensor:
    """Return the input (M, N + J - 1, F) in the precision of the convolutions."""
    return rows.to(dtype)


def maximise_correlation(
    rows: Tensor, taps: Tensor, bias: Tensor, size: tuple[int, int], num_threads: int
) -> tuple[Tensor, Tensor]:
    """As `timbral_kernels.maximise_correlation`, of rows from `lay_out`; one thread or another."""
    num_channels, num_taps, height = taps.shape
    num_bands, num_frames = size
    filters = _as_filters(taps, rows.dtype)
    at_once = _segments_at_once((num_bands - height + 1) * num_frames * len(filters))
    values, positions = [], []
    for part in rows.split(at_once):
        y = conv2d(_windows(part, height), filters)  # (m * O, C, 1, N)
        y = y[:, :, 0].transpose(1, 2).unflatten(0, (len(part), -1))  # (m, O, N, C)
        highest, band = y.max(1)
        values.append(highest[..., :num_channels])
        positions.append(band[..., :num_channels].short())
    best = torch.cat(values).to(torch.promote_types(rows.dtype, torch.float))
    best = torch.relu(best + bias.to(best.dtype)).transpose(1, 2)
    # Of filters without a slope all bands tie; as in torch, the first gets the gradient.
    is_tie = (taps == 0).all(2).all(1)[:, None]
    band = torch.cat(positions).transpose(1, 2).masked_fill(is_tie, 0)
    return best.to(rows.dtype), band.masked_fill_(best <= 0, -1).contiguous()


def add_windows(
    grad: Tensor, positions: Tensor, rows: Tensor, shape: tuple[int, int], num_threads: int
) -> tuple[Tensor, Tensor]:
    """As `timbral_kernels.add_windows`: by the gradient of a convolution that is zero elsewhere."""
    num_taps, height = shape
    num_channels, num_frames = grad.shape[1:]
    grad = grad.masked_fill(positions < 0, 0)
    by_frame = grad.sum(0, dtype=torch.double)
    num_windows = rows.shape[2] - height + 1
    filters = _as_filters(rows.new_zeros(num_channels, num_taps, height), rows.dtype)
    at_once = _segments_at_once(num_windows * num_frames * len(filters))
    total = torch.zeros(filters.shape, dtype=torch.double, device=rows.device)
    for part, of_part, band in zip(
        *(each.split(at_once) for each in (rows, grad.to(rows.dtype), positions)), strict=True
    ):
        dense = part.new_zeros(len(part), num_windows, num_frames, len(filters))  # (m, O, N, C)
        # -1, where the ReLU is off, goes to band 0: the gradient that is put there is 0.
        where = band.transpose(1, 2)[:, None].long().clamp_min(0)
        dense[..., :num_channels].scatter_(1, where, of_part.transpose(1, 2)[:, None])
        dense = dense.flatten(0, 1).transpose(1, 2)[:, :, None]  # (m * O, C, 1, N)
        total += _weigh(dense, _windows(part, height), filters)
    return total[:num_channels, :height, 0].transpose(1, 2), by_frame


def shift_products(products: Tensor, edges: Tensor) -> Tensor:
    """As `timbral_kernels.shift_products`."""
    num_bands, num_taps, _ = products.shape
    out = products.new_empty((num_taps, num_bands, num_taps, num_bands))
    for lag in range(num_taps):
        block = products[:, lag]
        for tap in range(num_taps - lag):
            if tap:
                block = block + edges[tap - 1, :, tap - 1 + lag]
            out[tap, :, tap + lag], out[tap + lag, :, tap] = block, block.T
    return out


def sum_windows(second: Tensor, height: int) -> Tensor:
    """As `timbral_kernels.sum_windows`."""
    num_taps, num_bands = second.shape[0], second.shape[1] - 1
    num_windows, size = num_bands - height + 1, num_taps * height
    steps = second.stride()
    shape = (num_taps, height, num_taps, height, num_windows)
    # Both bands move on together from window to window.
    total = second.as_strided(shape, (*steps, steps[1] + steps[3])).sum(-1).reshape(size, size)
    cross = second[:, :-1, :, -1].unfold(1, num_windows, 1).sum(-1).reshape(size, num_taps)
    corner = num_windows * second[:, -1, :, -1]
    return torch.cat([torch.cat([total, cross], 1), torch.cat([cross.T, corner], 1)])


def _windows(rows: Tensor, height: int) -> Tensor:
    """Lay out (m, L, F) as (m * O, I and zeros, 1, L), channels last in memory."""
    more = -height % _CHANNELS_AT_ONCE
    num_windows = rows.shape[2] - height + 1
    windows = pad(rows, (0, more)).unfold(2, height + more, 1)[:, :, :num_windows]
    return windows.transpose(1, 2).flatten(0, 1).transpose(1, 2)[:, :, None]


def _as_filters(taps: Tensor, dtype: torch.dtype) -> Tensor:
    """Lay out (C, J, I) as (C and zeros, I and zeros, 1, J), channels last in memory."""
    num_channels, _, height = taps.shape
    more = -height % _CHANNELS_AT_ONCE, -num_channels % _CHANNELS_AT_ONCE
    filters = pad(taps.to(dtype), (0, more[0], 0, 0, 0, more[1]))
    return filters.transpose(1, 2)[:, :, None]


def _weigh(grad: Tensor, x: Tensor, filters: Tensor) -> Tensor:
    """Return the gradient of the filters alone."""
    # Stride, padding, dilation, not transposed, output padding, groups; of the three gradients
    # (input, filters, bias) only the second is computed.
    geometry = [1, 1], [0, 0], [1, 1], False, [0, 0], 1
    is_wanted = [False, True, False]
    return torch.ops.aten.convolution_backward(grad, x, filters, None, *geometry, is_wanted)[1]


def _segments_at_once(num_values: int) -> int:
    return max(1, VALUES_AT_ONCE // num_values)


#: What `timbral` needs, by name, as `timbral_kernels.KERNELS`.
TORCH_KERNELS: dict[str, Callable] = {
    f.__name__: f for f in (add_windows, lay_out, maximise_correlation, shift_products, sum_windows)
}
