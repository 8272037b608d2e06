"""From samples to a backbone's features, as `mulap.fast.frozen` computes them.

    samples (M, S) -> frames -> DFT in double precision -> mel power -> log-mel (M, F, N)
      tall filters in the frequency domain along the bands, the larger output of each pair
      long filters tile by tile (`original`) or on the mean of the bands (`port`)
    -> channels (M, C, N) -> maximum and mean over time -> features (M, A)

BatchNorm, half precision and the filters' spectra are constants, which onnxruntime works out once
when it loads the graph.

Legend: M segments, S samples, F mel bins, N frames, C channels, K bins of the DFT along F, P pairs
of output bands, I band taps and J time taps of a tall filter.
"""

import math
from typing import Any

import numpy as np

from mulap.fast.timbral_spectrum import tabulate_filters
from mulap.graphs.build import DOUBLE, FLOAT, Graph
from mulap.model.cuts import Cuts
from mulap.model.features import COMPRESSION, DYNAMIC_RANGE_DB, MIN_POWER
from mulap.model.musicnn import BATCH_NORM_EPS

_CHANNELS_AT_ONCE = 24
_BANDS_AT_ONCE = 16
_TILE_FRAMES = 11


def add_log_mel(graph: Graph, samples: str, extractor: Cuts) -> str:
    """Add `MulapFeatureExtractor.log_mel`: samples (M, S) -> (M, F, N).

    Raises:
        ValueError: the log-mel of a segment depends on its neighbours.
    """
    if extractor.variant == "port" and extractor.db_reference == "batch":
        raise ValueError(
            "db_reference is batch: a segment's log-mel depends on its neighbours, and no graph "
            "computes that. Train with db_reference segment."
        )
    n_fft, hop, num_frames = extractor.n_fft, extractor.hop_length, extractor.num_frames
    if extractor.variant == "port":
        side = n_fft // 2
        samples = graph.Pad(samples, np.array([0, side, 0, side]), mode="reflect")
    # Frames are rows of whole blocks, which are copied sooner than single samples.
    block = math.gcd(n_fft, hop)
    num_blocks = ((num_frames - 1) * hop + n_fft) // block
    used = graph.Slice(samples, np.array([0]), np.array([num_blocks * block]), np.array([1]))
    blocks = graph.Reshape(used, np.array([0, num_blocks, block]))
    rows = np.arange(num_frames)[:, None] * (hop // block) + np.arange(n_fft // block)
    frames = graph.Reshape(graph.Gather(blocks, rows, axis=1), np.array([0, num_frames, n_fft, 1]))
    window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n_fft) / n_fft)).astype(np.float32)
    windowed = graph.Mul(graph.Cast(frames, to=DOUBLE), window.astype(np.float64)[:, None])
    spectrum = graph.DFT(windowed, np.array(n_fft), np.array(-2), onesided=1)
    power = graph.ReduceSumSquare(spectrum, np.array([-1]), keepdims=0)  # (M, N, n_fft / 2 + 1)
    filters = extractor.mel_filters().T
    mel = graph.Transpose(graph.MatMul(graph.Cast(power, to=FLOAT), filters), perm=[0, 2, 1])
    per_decade = np.float32(1 / np.log(10.0))
    if extractor.variant == "original":
        compressed = graph.Add(graph.Mul(mel, np.float32(COMPRESSION)), np.float32(1.0))
        return graph.Mul(graph.Log(compressed), per_decade)
    floored = graph.Max(mel, np.float32(MIN_POWER))
    decibels = graph.Mul(graph.Log(floored), np.float32(10.0) * per_decade)
    highest = graph.ReduceMax(decibels, np.array([1, 2]), keepdims=1)
    return graph.Max(decibels, graph.Sub(highest, np.float32(DYNAMIC_RANGE_DB)))


def add_tower(graph: Graph, log_mel: str, prefix: str, config: Any) -> list[str]:
    """Add one musicnn: log-mels (M, F, N) -> maxima and means over time, (M, C) each.

    Args:
        graph: to add to.
        log_mel: its input.
        prefix: of the names of its weights.
        config: of the backbone.
    """
    return _Tower(graph, prefix, config).add(log_mel)


class _Tower:
    def __init__(self, graph: Graph, prefix: str, config: Any) -> None:
        self.graph, self.prefix, self.variant = graph, prefix, config.variant
        self.num_bands = config.num_mel_bins
        self.num_frames = Cuts.from_config(config).num_frames

    def add(self, log_mel: str) -> list[str]:
        graph, front_end = self.graph, f"{self.prefix}front_end."
        # The convolutions pad with zeros after this BatchNorm.
        x = self._affine(log_mel, f"{front_end}spectrogram_bn.", [-1])
        windows, tall = "", []
        for index in range(2):
            name = f"{front_end}timbral.{index}."
            num_taps = graph.shape(f"{name}conv.weight")[3]
            windows = windows or self._open_windows(x, num_taps)
            tall.append(self._add_tall(windows, name))
        long = [self._add_long(x, f"{front_end}temporal.{index}.block.") for index in range(3)]
        outputs = [graph.Concat(*tall, *long, axis=1)]
        for index in range(3):
            y = self._add_dense(outputs[-1], f"{self.prefix}mid_end.blocks.{index}.")
            outputs.append(graph.Add(outputs[-1], y) if index else y)
        channels = graph.Concat(*outputs, axis=1)
        time = np.array([2])
        return [
            graph.ReduceMax(channels, time, keepdims=0),
            graph.ReduceMean(channels, time, keepdims=0),
        ]

    def _factors(self, name: str) -> tuple[str, str]:
        """BatchNorm in evaluation mode as a factor and a sum, (C,) each."""
        graph = self.graph
        eps = np.float32(BATCH_NORM_EPS[self.variant])
        deviation = graph.Sqrt(graph.Add(graph.weight(f"{name}running_var"), eps))
        factor = graph.Div(graph.weight(f"{name}weight"), deviation)
        mean = graph.Mul(graph.weight(f"{name}running_mean"), factor)
        return factor, graph.Sub(graph.weight(f"{name}bias"), mean)

    def _affine(self, x: str, name: str, shape: list[int]) -> str:
        graph = self.graph
        factor, offset = (graph.Reshape(each, np.array(shape)) for each in self._factors(name))
        return graph.Add(graph.Mul(x, factor), offset)

    def _activate(self, x: str, name: str) -> str:
        """Add the bias, BatchNorm and ReLU in the variant's order; x is (M, C, N)."""
        graph, shape = self.graph, np.array([1, -1, 1])
        x = graph.Add(x, graph.Reshape(graph.weight(f"{name}conv.bias"), shape))
        if self.variant == "port":
            return graph.Relu(self._affine(x, f"{name}bn.", [1, -1, 1]))
        return self._affine(graph.Relu(x), f"{name}bn.", [1, -1, 1])

    def _signed(self, name: str) -> tuple[str, str]:
        """Filters and signs (C, ...), such that the maximum over bands may come first.

        Where BatchNorm's factor is negative, the highest output after it is the lowest before.
        """
        graph = self.graph
        weight = graph.weight(f"{name}conv.weight")
        factor, _ = self._factors(f"{name}bn.")
        is_positive = graph.Cast(graph.GreaterOrEqual(factor, np.float32(0)), to=FLOAT)
        sign = graph.Sub(graph.Mul(is_positive, np.float32(2)), np.float32(1))
        dims = [-1] + [1] * (len(graph.shape(f"{name}conv.weight")) - 1)
        return graph.Mul(weight, graph.Reshape(sign, np.array(dims))), graph.Reshape(
            sign, np.array([1, -1, 1])
        )

    def _open_windows(self, x: str, num_taps: int) -> str:
        """Return the bands' spectrum at J time taps: real parts, then imaginary (M, K, 2J, N)."""
        graph, num_frames = self.graph, self.num_frames
        side, num_bins = num_taps // 2, self.num_bands // 2 + 1
        spectrum = np.fft.rfft(np.eye(self.num_bands), axis=0)
        analysis = np.stack([spectrum.real, spectrum.imag], 1).reshape(2 * num_bins, -1)
        padded = graph.Pad(x, np.array([0, 0, side, 0, 0, side]))
        rows = graph.MatMul(analysis.astype(np.float32), padded)
        length = num_frames + 2 * side
        rows = graph.Reshape(rows, np.array([0, num_bins, 2, 1, length]))
        taps = [
            graph.Slice(rows, np.array([j]), np.array([j + num_frames]), np.array([4]))
            for j in range(num_taps)
        ]
        return graph.Reshape(
            graph.Concat(*taps, axis=3), np.array([0, num_bins, 2 * num_taps, num_frames])
        )

    def _add_tall(self, windows: str, name: str) -> str:
        graph, num_bins = self.graph, self.num_bands // 2 + 1
        num_channels, _, height, _ = graph.shape(f"{name}conv.weight")
        phases, tables, _ = (each.numpy() for each in tabulate_filters(self.num_bands, height))
        phases = phases.reshape(height, num_bins, 2).astype(np.float32)
        cosines, sines = tables[:, :, :num_bins].astype(np.float32)
        weight, sign = self._signed(name)
        taps = graph.Transpose(graph.Squeeze(weight, np.array([1])), perm=[0, 2, 1])  # (C, J, I)
        real, imag = (
            graph.Transpose(graph.MatMul(taps, phases[..., part]), perm=[2, 0, 1])
            for part in range(2)
        )  # (K, C, J) each
        # (a + ib)(u + iv) = (au - bv) + i(bu + av): columns take u at J time taps, then v.
        to_real = graph.Concat(real, graph.Neg(imag), axis=2)
        to_imag = graph.Concat(imag, real, axis=2)
        parts = []
        for first in range(0, num_channels, _CHANNELS_AT_ONCE):
            last = min(first + _CHANNELS_AT_ONCE, num_channels)
            of_pairs = []
            for filters, table in ((to_real, cosines), (to_imag, sines)):
                some = graph.Slice(filters, np.array([first]), np.array([last]), np.array([1]))
                products = graph.MatMul(some, windows)  # (M, K, c, N)
                flat = graph.Reshape(products, np.array([0, num_bins, -1]))
                of_pairs.append(graph.MatMul(table, flat))  # (M, P, c * N)
            # The two outputs of a pair are even + odd and even - odd.
            highest = graph.Add(of_pairs[0], graph.Abs(of_pairs[1]))
            highest = graph.ReduceMax(highest, np.array([1]), keepdims=0)
            parts.append(graph.Reshape(highest, np.array([0, last - first, self.num_frames])))
        return self._activate(graph.Mul(graph.Concat(*parts, axis=1), sign), name)

    def _add_long(self, x: str, name: str) -> str:
        graph = self.graph
        num_channels, _, num_taps = graph.shape(f"{name}conv.weight")
        before, after = (num_taps - 1) // 2, num_taps // 2
        if self.variant == "port":
            mean = graph.ReduceMean(x, np.array([1]), keepdims=1)
            y = graph.Conv(mean, graph.weight(f"{name}conv.weight"), pads=[before, after])
            return self._activate(y, name)
        weight, sign = self._signed(name)
        # A tile of frames is a row of a product, and each filter at each of its places a column.
        # Tiles are whole blocks of `_TILE_FRAMES`, which are copied sooner than single frames.
        num_tiles = -(-self.num_frames // _TILE_FRAMES)
        num_blocks = -(-(num_taps - 1) // _TILE_FRAMES) + 1
        length, width = num_blocks * _TILE_FRAMES, _TILE_FRAMES * num_channels
        total = (num_tiles + num_blocks - 1) * _TILE_FRAMES
        right = total - before - self.num_frames
        padded = graph.Pad(x, np.array([0, 0, before, 0, 0, right]))
        shape = np.array([0, self.num_bands, num_tiles + num_blocks - 1, _TILE_FRAMES])
        blocks = graph.Reshape(padded, shape)
        taps = graph.Transpose(graph.Squeeze(weight, np.array([1])), perm=[1, 0])  # (taps, C)
        places = [
            graph.Unsqueeze(
                graph.Pad(taps, np.array([place, 0, length - num_taps - place, 0])), np.array([1])
            )
            for place in range(_TILE_FRAMES)
        ]
        columns = graph.Reshape(graph.Concat(*places, axis=1), np.array([length, width]))
        rows = np.arange(num_tiles)[:, None] + np.arange(num_blocks)
        best = []
        for first in range(0, self.num_bands, _BANDS_AT_ONCE):
            last = min(first + _BANDS_AT_ONCE, self.num_bands)
            some = graph.Slice(blocks, np.array([first]), np.array([last]), np.array([1]))
            tiles = graph.Gather(some, rows, axis=2)  # (M, bands, tiles, blocks, frames)
            tiles = graph.Reshape(tiles, np.array([0, last - first, num_tiles, length]))
            outputs = graph.MatMul(tiles, columns)
            best.append(graph.ReduceMax(outputs, np.array([1]), keepdims=0))
        y = graph.Max(*best) if len(best) > 1 else best[0]
        y = graph.Reshape(y, np.array([0, num_tiles * _TILE_FRAMES, num_channels]))
        y = graph.Slice(y, np.array([0]), np.array([self.num_frames]), np.array([1]))
        return self._activate(graph.Mul(graph.Transpose(y, perm=[0, 2, 1]), sign), name)

    def _add_dense(self, x: str, name: str) -> str:
        side = self.graph.shape(f"{name}conv.weight")[2] // 2
        y = self.graph.Conv(x, self.graph.weight(f"{name}conv.weight"), pads=[side, side])
        return self._activate(y, name)
