"""Frequency domain of the fused timbral front end: tables and the transform of its input.

`timbral` says what it is for, `timbral_kernels` multiplies there. Plain torch in double precision;
only the finished spectrum has the precision of the loops. The transforms are matrix products, for
their lengths are small and have any factors; the tables are kept from call to call.

Legend: M segments, F mel bins, N frames, K bins of the DFT along F, P pairs of output bands, I band
taps and J time taps of a filter.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor
from torch.nn.functional import pad

# `timbral_kernels` is unrolled by hand for these two: they change together or not at all.
#: Sums are taken over this many terms at a time; K and J are padded with zeros.
TERMS = 7
#: Pairs of output bands that are worked out at a time; the last one is repeated.
PAIRS = 3

#: Frames that are correlated at a time; their spectrum should stay in cache.
MAX_WIDTH = 192


@functools.lru_cache(maxsize=8)
def tabulate_filters(num_bands: int, height: int) -> tuple[Tensor, Tensor, Tensor]:
    """Tabulate how filters of one height get their spectrum, and how outputs come back from it.

    F bands under a filter of I give F - I + 1 outputs that do not wrap around, so a circular
    correlation of length F holds them all. Phases of the filters move the outputs to lie around
    band 0: those at +p and -p are then one sum of cosines minus or plus one of sines.

    Args:
        num_bands: Bands of the input, F.
        height: Band taps of the filters, I.

    Returns:
        Phases that take the taps to their spectrum, (I, K * 2); cosines and sines of the inverse
        transform, (2, P, K); lower and upper output band of each pair, (2, P), int32.
    """
    num_outputs = num_bands - height + 1
    middle = (num_outputs - 1) / 2
    bins = torch.arange(num_bands // 2 + 1, dtype=torch.double)
    omega = 2 * math.pi / num_bands * bins
    # A real signal's bins come in conjugate pairs of which one is kept, so it counts twice; bin 0
    # and, for even F, the middle one have no partner.
    is_single = (bins == 0) | (2 * bins == num_bands)
    power = (2 - is_single.double()) / num_bands
    # The sum of w[i] x[o + i] is a correlation, so the filter's spectrum is conjugated: plus sine.
    # `middle` more turns output o = middle to band 0.
    angle = torch.outer(torch.arange(height, dtype=torch.double) + middle, omega)
    phases = torch.stack([angle.cos() * power, angle.sin() * power], 2).flatten(1)
    pairs = torch.arange((num_outputs + 1) // 2, dtype=torch.int32)
    pairs = torch.cat([pairs, pairs[-1:].expand(-len(pairs) % PAIRS)])  # a pair twice: no harm
    # Outputs at -p and +p around the middle: real * cos(p omega) plus or minus imag * sin(p omega).
    angle = torch.outer(middle - pairs, omega)
    tables = pad(torch.stack([angle.cos(), angle.sin()]), (0, -len(bins) % TERMS))
    return phases, tables, torch.stack([pairs, num_outputs - 1 - pairs])


@functools.lru_cache(maxsize=8)
def _tabulate_analysis(num_bands: int) -> Tensor:
    """Return the real DFT of F bands as a matrix, (K * 2, F)."""
    bins = torch.arange(num_bands // 2 + 1, dtype=torch.double)
    angle = torch.outer(2 * math.pi / num_bands * bins, torch.arange(num_bands).double())
    return torch.stack([angle.cos(), -angle.sin()], 1).flatten(0, 1)


def transform_bands(rows: Tensor, num_taps: int, dtype: torch.dtype) -> Tensor:
    """Bring the input into the frequency domain, along its bands.

    Args:
        rows: Input with its time padding, (M, N + J - 1, F), float64.
        num_taps: Time taps of the filters to come, J.
        dtype: Of the loops and of the result.

    Returns:
        For `maximise_correlation`, (M, K, 2, some more frames than the input).
    """
    spectrum = _tabulate_analysis(rows.shape[2]) @ rows.transpose(1, 2)
    num_bins, num_frames = spectrum.shape[1] // 2, rows.shape[1] - num_taps + 1
    # Up to whole widths of the loops, which read `TERMS` frames at once past the last one too.
    length = rows.shape[1] + -num_frames % choose_width(num_frames) + TERMS
    out = torch.zeros((len(rows), num_bins + -num_bins % TERMS, 2, length), dtype=dtype)
    out[:, :num_bins, :, : rows.shape[1]] = spectrum.unflatten(1, (-1, 2))
    return out


def choose_width(num_frames: int) -> int:
    """Return equal parts of at most `MAX_WIDTH` frames, made multiples of a vector register."""
    return math.ceil(num_frames / math.ceil(num_frames / MAX_WIDTH) / 16) * 16
