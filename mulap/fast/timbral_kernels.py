"""The sums of the fused timbral front end that torch has no fast operation for.

Tensors in, tensors out, loops compiled by numba. `timbral` says what the sums are for. They are
apart because numba is an extra and takes a second to import: only `timbral` imports this file, and
only to train on a CPU.

The loops let go of the interpreter lock and Python threads share the items among them. numba's own
`parallel=True` is avoided: its default threading layer stops the process when two threads enter it
at once. No sum is split between threads, so their number changes nothing.

The inner loops are unrolled by hand, seven terms at a time: sums then stay in registers.

Legend: M segments, C channels, F mel bins, N frames, K bins of the DFT along F, P pairs of output
bands, I band taps and J time taps of a filter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mulap.fast.timbral_spectrum import (
    PAIRS,
    TERMS,
    choose_width,
    tabulate_filters,
    transform_bands,
)

#: Pieces of work per thread: enough to even out the load, few enough to cost nothing.
PIECES_PER_THREAD = 8


class _Correlation(NamedTuple):
    """A circular correlation along the bands, in the frequency domain.

    Attributes:
        spectrum: DFT of the input along its bands, (M, K, 2, N + J - 1 or more).
        filters: Spectrum of the filters, (C, K, 2, J).
        tables: Cosines and sines of the inverse DFT, (2, P, K).
        bands: Lower and upper output band of each pair, the first being band 0, (2, P), int32.
        bias: Added to the maximum, (C,).
    """

    spectrum: NDArray
    filters: NDArray
    tables: NDArray
    bands: NDArray
    bias: NDArray


def _compile(function: Callable) -> Callable:
    # "contract" allows a * b + c in one rounding; NaN and the order of sums keep their meaning.
    options = {"nogil": True, "fastmath": {"contract"}, "error_model": "numpy"}
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder that compiled code can be kept in: compile in each process
        return numba.njit(**options)(function)


@_compile
def _multiply_spectra(u: NDArray, v: NDArray, taps: NDArray, real: NDArray, imag: NDArray) -> None:
    """Add one bin of the input, u + iv (N + TERMS - 1,), times `TERMS` time taps (2, TERMS)."""
    a, b = taps[0], taps[1]
    a0, a1, a2, a3, a4, a5, a6 = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
    b0, b1, b2, b3, b4, b5, b6 = b[0], b[1], b[2], b[3], b[4], b[5], b[6]
    for t in range(real.shape[0]):
        u0, u1, u2, u3 = u[t], u[t + 1], u[t + 2], u[t + 3]
        u4, u5, u6 = u[t + 4], u[t + 5], u[t + 6]
        v0, v1, v2, v3 = v[t], v[t + 1], v[t + 2], v[t + 3]
        v4, v5, v6 = v[t + 4], v[t + 5], v[t + 6]
        re = real[t] + a0 * u0 + a1 * u1 + a2 * u2 + a3 * u3 + a4 * u4 + a5 * u5 + a6 * u6
        im = imag[t] + a0 * v0 + a1 * v1 + a2 * v2 + a3 * v3 + a4 * v4 + a5 * v5 + a6 * v6
        real[t] = re - b0 * v0 - b1 * v1 - b2 * v2 - b3 * v3 - b4 * v4 - b5 * v5 - b6 * v6
        imag[t] = im + b0 * u0 + b1 * u1 + b2 * u2 + b3 * u3 + b4 * u4 + b5 * u5 + b6 * u6


@_compile
def _multiply_rows(table: NDArray, y: NDArray, out: NDArray) -> None:
    """Matrix product table (PAIRS, K) @ y (K, N) into out (PAIRS, N)."""
    out[:] = 0
    for k in range(0, y.shape[0], TERMS):
        a, b, c = table[0, k : k + TERMS], table[1, k : k + TERMS], table[2, k : k + TERMS]
        a0, a1, a2, a3, a4, a5, a6 = a[0], a[1], a[2], a[3], a[4], a[5], a[6]
        b0, b1, b2, b3, b4, b5, b6 = b[0], b[1], b[2], b[3], b[4], b[5], b[6]
        c0, c1, c2, c3, c4, c5, c6 = c[0], c[1], c[2], c[3], c[4], c[5], c[6]
        for t in range(y.shape[1]):
            y0, y1, y2, y3 = y[k, t], y[k + 1, t], y[k + 2, t], y[k + 3, t]
            y4, y5, y6 = y[k + 4, t], y[k + 5, t], y[k + 6, t]
            s, p, q = out[0, t], out[1, t], out[2, t]
            s = s + a0 * y0 + a1 * y1 + a2 * y2 + a3 * y3 + a4 * y4 + a5 * y5 + a6 * y6
            p = p + b0 * y0 + b1 * y1 + b2 * y2 + b3 * y3 + b4 * y4 + b5 * y5 + b6 * y6
            q = q + c0 * y0 + c1 * y1 + c2 * y2 + c3 * y3 + c4 * y4 + c5 * y5 + c6 * y6
            out[0, t], out[1, t], out[2, t] = s, p, q


@_compile
def _keep_maximum(
    even: NDArray, odd: NDArray, bands: NDArray, best: NDArray, position: NDArray
) -> None:
    """Take pairs of output bands, even + odd and even - odd (PAIRS, N), into a running maximum."""
    for pair in range(PAIRS):
        e, o, low, high = even[pair], odd[pair], bands[0, pair], bands[1, pair]
        for t in range(best.shape[0]):
            # No branches, so that the compiler takes several frames at once. A comparison with NaN
            # is false: a NaN that is there stays.
            value, band = best[t], position[t]
            lower, upper = e[t] + o[t], e[t] - o[t]
            band = low if lower > value else band
            value = lower if lower > value else value
            band = high if upper > value else band
            value = upper if upper > value else value
            best[t], position[t] = value, band


@_compile
def _maximise_correlation(
    start: int, stop: int, problem: _Correlation, width: int, values: NDArray, positions: NDArray
) -> None:
    """Work on items start to stop; an item is a channel of a segment, number m * C + c."""
    spectrum, filters, tables, bands, bias = problem
    num_channels, num_bins, _, num_taps = filters.shape
    real = np.empty((num_bins, width), spectrum.dtype)
    imag = np.empty((num_bins, width), spectrum.dtype)
    even = np.empty((PAIRS, width), spectrum.dtype)
    odd = np.empty((PAIRS, width), spectrum.dtype)
    best = np.empty(width, spectrum.dtype)
    position = np.empty(width, np.int32)
    for item in range(start, stop):
        m, c = item // num_channels, item % num_channels
        for first in range(0, values.shape[2], width):  # frames, as many as fit into the cache
            real[:] = 0
            imag[:] = 0
            for k in range(num_bins):
                for j in range(0, num_taps, TERMS):
                    u, v = spectrum[m, k, 0, first + j :], spectrum[m, k, 1, first + j :]
                    _multiply_spectra(u, v, filters[c, k, :, j : j + TERMS], real[k], imag[k])
            for pair in range(0, tables.shape[1], PAIRS):
                _multiply_rows(tables[0, pair : pair + PAIRS], real, even)
                _multiply_rows(tables[1, pair : pair + PAIRS], imag, odd)
                if pair == 0:  # band 0 opens the maximum: NaN stays NaN, a tie of all stays there
                    best[:] = even[0] + odd[0]
                    position[:] = 0
                _keep_maximum(even, odd, bands[:, pair : pair + PAIRS], best, position)
            for t in range(min(width, values.shape[2] - first)):
                value = best[t] + bias[c]
                is_off = value <= 0  # false for NaN, which is passed on
                values[m, c, first + t] = 0 if is_off else value
                positions[m, c, first + t] = -1 if is_off else position[t]


@_compile
def _add_scaled(factor: float, x: NDArray, out: NDArray) -> None:
    for i in range(out.shape[0]):
        out[i] += factor * x[i]


@_compile
def _add_windows(
    start: int,
    stop: int,
    grad: NDArray,
    positions: NDArray,
    rows: NDArray,
    by_frame: NDArray,
    out: NDArray,
) -> None:
    """Work on channels start to stop."""
    num_taps, height = out.shape[1:]
    total = np.empty((num_taps, height), rows.dtype)  # of one segment; their sum has more precision
    for c in range(start, stop):
        out[c] = 0
        by_frame[c] = 0
        for m in range(grad.shape[0]):
            total[:] = 0
            for t in range(grad.shape[2]):
                band = positions[m, c, t]
                if band >= 0:
                    by_frame[c, t] += grad[m, c, t]
                    for j in range(num_taps):
                        window = rows[m, t + j, band : band + height]
                        _add_scaled(grad[m, c, t], window, total[j])
            out[c] += total


@_compile
def _shift_products(products: NDArray, edges: NDArray, out: NDArray) -> None:
    num_taps = out.shape[0]
    for lag in range(num_taps):  # taps j and j + lag
        out[0, :, lag] = products[:, lag]
        for j in range(1, num_taps - lag):
            out[j, :, j + lag] = out[j - 1, :, j - 1 + lag] + edges[j - 1, :, j - 1 + lag]
    for j in range(num_taps):  # the other half is the same, transposed
        for k in range(j):
            out[j, :, k] = out[k, :, j].T


@_compile
def _sum_windows(gram: NDArray, height: int, out: NDArray) -> None:
    num_taps, num_bands = gram.shape[0], gram.shape[1] - 1
    num_windows, size = num_bands - height + 1, num_taps * height
    for j in range(num_taps):
        for k in range(num_taps):
            block = gram[j, :, k, :]
            for i in range(height):
                # With the indicator, which all windows meet at every place.
                out[j * height + i, size + k] = block[i : i + num_windows, num_bands].sum()
                out[size + k, j * height + i] = out[j * height + i, size + k]
                for h in range(height):
                    if i == 0 or h == 0:
                        value = 0.0
                        for f in range(num_windows):
                            value += block[i + f, h + f]
                    else:  # the sum before, moved on by one along the diagonal
                        value = out[j * height + i - 1, k * height + h - 1] - block[i - 1, h - 1]
                        value += block[i + num_windows - 1, h + num_windows - 1]
                    out[j * height + i, k * height + h] = value
            out[size + j, size + k] = num_windows * block[num_bands, num_bands]


def _run_in_threads(num_threads: int, kernel: Callable, num_items: int, *arguments: Any) -> None:
    """Call a compiled loop over ranges of all items."""
    arguments = tuple(a.numpy() if isinstance(a, Tensor) else a for a in arguments)
    if num_threads == 1:
        kernel(0, num_items, *arguments)
        return
    step = math.ceil(num_items / (num_threads * PIECES_PER_THREAD))
    with ThreadPoolExecutor(num_threads) as pool:
        starts = range(0, num_items, step)
        pieces = [pool.submit(kernel, i, min(i + step, num_items), *arguments) for i in starts]
    for piece in pieces:
        piece.result()


def maximise_correlation(
    spectrum: Tensor, taps: Tensor, bias: Tensor, size: tuple[int, int], num_threads: int
) -> tuple[Tensor, Tensor]:
    """Correlate with filters along the bands and keep the maximum over output bands.

    Args:
        spectrum: Of the input, from `timbral_spectrum.transform_bands`.
        taps: Filters, (C, J, I), float64.
        bias: Added to the maximum, (C,), float64.
        size: Of the input, (F, N).
        num_threads: Threads that share the channels of all segments.

    Returns:
        Maximum after the ReLU (M, C, N); its output band, or -1 where the ReLU is off, int16.
    """
    num_bands, num_frames = size
    num_channels, num_taps, height = taps.shape
    num_bins, dtype = num_bands // 2 + 1, spectrum.dtype
    phases, tables, bands = tabulate_filters(num_bands, height)
    shape = (num_channels, spectrum.shape[1], 2, num_taps + -num_taps % TERMS)
    filters = torch.zeros(shape, dtype=dtype)  # zeros fill bins and taps up to whole `TERMS`
    filters[:, :num_bins, :, :num_taps] = (
        (taps @ phases).unflatten(2, (num_bins, 2)).permute(0, 2, 3, 1)
    )
    problem = _Correlation(
        *(x.numpy() for x in (spectrum, filters, tables.to(dtype), bands, bias.to(dtype)))
    )
    values = torch.empty((len(spectrum), num_channels, num_frames), dtype=dtype)
    positions = torch.empty(values.shape, dtype=torch.int16)
    width, num_items = choose_width(num_frames), len(spectrum) * num_channels
    _run_in_threads(
        num_threads, _maximise_correlation, num_items, problem, width, values, positions
    )
    return values, positions


def add_windows(
    grad: Tensor, positions: Tensor, rows: Tensor, shape: tuple[int, int], num_threads: int
) -> tuple[Tensor, Tensor]:
    """Sum the input windows under the maxima, each times its gradient.

    Args:
        grad: Gradient at each maximum, (M, C, N).
        positions: Band where its window starts, (M, C, N); negative where there is none.
        rows: Input with its time padding, (M, N + J - 1, F).
        shape: Of a window, (J, I).
        num_threads: Threads that share the channels.

    Returns:
        The sums (C, J, I), and the gradient summed over segments (C, N), float64.
    """
    num_channels, num_frames = grad.shape[1:]
    by_frame = torch.empty((num_channels, num_frames), dtype=torch.double)
    total = torch.empty((num_channels, *shape), dtype=torch.double)
    _run_in_threads(num_threads, _add_windows, num_channels, grad, positions, rows, by_frame, total)
    return total, by_frame


def shift_products(products: Tensor, edges: Tensor) -> Tensor:
    """Second moments of bands at any two time taps, from those with tap 0.

    Moving both taps on by one frame, one product enters the sum at the end and one leaves it at
    the start.

    Args:
        products: Of a band at tap 0 and one at tap j, (F + 1, J, F + 1), float64.
        edges: Products that enter less those that leave, (J - 1, F + 1, J - 1, F + 1).

    Returns:
        (J, F + 1, J, F + 1).
    """
    num_bands, num_taps, _ = products.shape
    out = products.new_empty((num_taps, num_bands, num_taps, num_bands))
    _shift_products(products.numpy(), edges.numpy(), out.numpy())
    return out


def sum_windows(second: Tensor, height: int) -> Tensor:
    """Second moments of all windows of some bands, from those of single bands.

    Args:
        second: Moments of bands at two time taps, (J, F + 1, J, F + 1), float64; band F is the
            indicator of the interior, and is not cut into windows.
        height: Bands of a window, I.

    Returns:
        (J * I + J, J * I + J): first the taps (j, i), then the indicator at j.
    """
    size = second.shape[0] * (height + 1)
    total = second.new_empty((size, size))
    _sum_windows(second.numpy(), height, total.numpy())
    return total


#: What `timbral` needs, by name.
KERNELS: dict[str, Callable] = {
    f.__name__: f for f in (add_windows, maximise_correlation, shift_products, sum_windows)
} | {"lay_out": transform_bands}
