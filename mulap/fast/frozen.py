"""The musicnn backbone of `mulap.model.musicnn`, frozen: the same vectors, several times as fast.

In evaluation mode BatchNorm is a factor and a sum for each channel, and all that is left of a
filter under the maximum over bands is its best place. Both make most of the arithmetic needless:

1. BatchNorm folds into the filters (`port`) or moves behind the maximum (`original`, where a
   negative factor makes it a minimum: the filter changes its sign, and its maximum does again).
2. The tall filters run in the frequency domain along the bands, where F bands hold all valid
   outputs without any padding. Outputs at +p and -p around the middle are the sum and the
   difference of two rows, so the larger of the two is one row plus the other's absolute value:

       filters (K, 2c, 2J) @ spectrum (K, 2J, N)         a few channels c at a time, so that
       tables (2, P, K) @ that, as (2, K, c * N)         everything stays in cache

3. `port`: three long filters on one mean are one product. `original`: long filters on every band
   run tile by tile, each tile one row of a product, and the maximum is taken as bands come.

Everything is a matrix product of torch's. Segments pass one by one through the same buffers, and
torch is kept to one thread meanwhile: a segment's vector depends on nothing else, to the bit.
Threads may share a `FrozenBackbone`; each call takes a set of buffers of its own.

Scope: log-mels in, vectors out, in float32 on the CPU; no gradients.

Legend: M segments, C channels, F mel bins, N frames, K bins of the DFT along F, P pairs of output
bands, I band taps and J time taps of a tall filter, D width of a vector.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from mulap.fast.threads import one_torch_thread
from mulap.fast.timbral_spectrum import tabulate_filters
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnBackbone

# Measured with a second-level cache of 2 MB a core; half or twice as many cost some per cent.
_CHANNELS_AT_ONCE = 12
_BANDS_AT_ONCE = 16
_TILE_FRAMES = 11


def is_freezable(backbone: MusicnnBackbone) -> bool:
    """Whether `FrozenBackbone` takes it: all of it on the CPU, in float32."""
    tensors = [*backbone.parameters(), *backbone.buffers()]
    return all(
        each.device.type == "cpu" and (each.dtype == torch.float32 or not each.is_floating_point())
        for each in tensors
    )


class FrozenBackbone:
    """A backbone's vectors, by the weights that it has now.

    Args:
        backbone: one that `is_freezable`. It is not changed, and what becomes of it later changes
            nothing here.
    """

    def __init__(self, backbone: MusicnnBackbone) -> None:
        with torch.no_grad(), one_torch_thread():
            config: Any = backbone.config
            self._towers = [_FrozenTower(tower, config) for tower in backbone.towers]

    def __call__(self, log_mels: np.ndarray) -> np.ndarray:
        """Return float32 (M, D) for log-mels, float32 (M, F, N)."""
        with torch.inference_mode(), one_torch_thread():
            return np.concatenate([embed(log_mels) for embed in self._towers], axis=1)


class _FrozenTower:
    """One musicnn of a backbone."""

    def __init__(self, tower: Any, config: MulapAudioConfig) -> None:
        self._fold(tower, config)
        self._idle: list[_Buffers] = []  # of no call at work; append and pop are atomic

    def _fold(self, tower: Any, config: MulapAudioConfig) -> None:
        front_end = tower.front_end
        self._variant = config.variant
        num_bands = config.num_mel_bins
        self._factor, self._offset = (each.item() for each in _affine(front_end.spectrogram_bn))
        self._analysis = _analyse(num_bands)

        # Each `_fold` gives filters, and four numbers per channel for what follows them.
        timbral = [_fold(each, self._variant, True) for each in front_end.timbral]
        temporal = [_fold(each.block, self._variant, True) for each in front_end.temporal]
        paddings = [each.block.padding for each in front_end.temporal]
        self._tall = [_TallFilters(weight, num_bands) for weight, _ in timbral]
        weights = [weight for weight, _ in temporal]
        # `port` averages the bands before these filters, so one row of frames passes all of them.
        self._long: list[_MeanFilters] | list[_LongFilters] = (
            [_MeanFilters(weights, paddings)]
            if self._variant == "port"
            else [_LongFilters(*each) for each in zip(weights, paddings, strict=True)]
        )
        self._activation = _Activation([after for _, after in timbral + temporal])

        mid_end = [_fold(each, self._variant, False) for each in tower.mid_end.blocks]
        self._mid_end = [  # by time tap, (J, C, inputs): a convolution is a sum of J products
            (weight.permute(2, 0, 1).float().contiguous(), _Activation([after]), block.residual)
            for (weight, after), block in zip(mid_end, tower.mid_end.blocks, strict=True)
        ]
        self._num_channels = sum(after.shape[1] for _, after in timbral + temporal + mid_end)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the buffers out of a copy: some share memory, which pickling would not keep."""
        return self.__dict__ | {"_idle": []}

    def __call__(self, log_mels: np.ndarray) -> np.ndarray:
        """Return float32 (M, D / number of towers) for log-mels, float32 (M, F, N)."""
        buffers = self._take_buffers(log_mels.shape[2])
        vectors = [self._embed(log_mel, buffers) for log_mel in torch.from_numpy(log_mels)]
        self._idle.append(buffers)
        return torch.stack(vectors).numpy()

    def _embed(self, log_mel: Tensor, buffers: "_Buffers") -> Tensor:
        """Return a segment's vector (D,) for its log-mel (F, N)."""
        num_frames = log_mel.shape[1]
        # The convolutions pad with zeros after this BatchNorm. So the zeros stand around the
        # normalised log-mel; nothing ever writes to them, and the next segment finds them again.
        inside = buffers.spectrogram[:, buffers.margin : buffers.margin + num_frames]
        torch.mul(log_mel, self._factor, out=inside).add_(self._offset)
        self._open_windows(buffers)
        first = 0  # channel to write next; the front end's come first, in the network's order
        for filters in self._tall + self._long:
            out = buffers.frames[first : first + filters.num_channels]
            filters.maximise(buffers, out)
            first += filters.num_channels
        self._activation.apply(buffers.frames[:first])
        start = 0  # a layer reads the channels that the one before it wrote, and writes after them
        for taps, activation, is_residual in self._mid_end:
            x, out = buffers.channels[start:first], buffers.frames[first : first + taps.shape[1]]
            torch.mm(taps[0], x[:, :num_frames], out=out)
            for j in range(1, len(taps)):
                out.addmm_(taps[j], x[:, j : j + num_frames])
            activation.apply(out)
            if is_residual:
                out.add_(buffers.frames[start:first])
            start, first = first, first + len(out)
        # The network pools what every layer gave, not only the last one.
        return torch.cat([buffers.frames.amax(1), buffers.frames.mean(1)])

    def _open_windows(self, buffers: "_Buffers") -> None:
        """Lay out the spectrum's windows: each bin's real and imaginary part at J time taps."""
        num_bins, rows, num_frames = buffers.windows.shape
        num_taps = rows // 2
        first = buffers.margin - num_taps // 2
        x = buffers.spectrogram[:, first : first + num_frames + num_taps - 1]
        spectrum = torch.mm(self._analysis, x, out=buffers.spectrum)  # (K * 2, N + J - 1)
        taps = spectrum.unfold(1, num_frames, 1)  # (K * 2, J, N); no copy yet
        # Bin by bin: J rows of real parts, then J of imaginary ones, as the filters' columns are.
        buffers.windows.view(taps.shape).copy_(taps)

    def _take_buffers(self, num_frames: int) -> "_Buffers":
        try:
            buffers = self._idle.pop()
        except IndexError:  # all are at work
            return self._allocate(num_frames)
        # Of another length they are dropped: segments of one model are all of one length.
        is_fitting = buffers.frames.shape[1] == num_frames
        return buffers if is_fitting else self._allocate(num_frames)

    def _allocate(self, num_frames: int) -> "_Buffers":
        num_bins, rows = self._tall[0].parts[0].shape[0], self._tall[0].parts[0].shape[2]
        num_taps = rows // 2
        # Zeros for the widest filter on either side; the last tile may reach past the end as well.
        before = max(num_taps // 2, *(filters.before for filters in self._long))
        after = max(num_taps // 2, *(filters.after for filters in self._long)) + _TILE_FRAMES
        margin = len(self._mid_end[0][0]) // 2
        channels = torch.zeros(self._num_channels, num_frames + 2 * margin)
        num_outputs = max(each.count_outputs(num_frames) for each in self._tall + self._long)
        return _Buffers(
            margin=before,
            spectrogram=torch.zeros(self._analysis.shape[1], before + num_frames + after),
            spectrum=torch.empty(2 * num_bins, num_frames + num_taps - 1),
            windows=torch.empty(num_bins, rows, num_frames),
            products=torch.empty(num_bins * 2 * _CHANNELS_AT_ONCE * num_frames),
            outputs=torch.empty(num_outputs),
            channels=channels,
            frames=channels[:, margin : margin + num_frames],
        )


class _Buffers(NamedTuple):
    """What one segment passes through, and the next one after it."""

    margin: int  # zeros before the spectrogram's first frame
    spectrogram: Tensor  # (F, N and zeros before and after)
    spectrum: Tensor  # of that along the bands, (K * 2, N + J - 1)
    windows: Tensor  # of that, (K, 2J, N)
    products: Tensor  # of some filters with those, (K * 2c * N,)
    outputs: Tensor  # of some filters, before the maximum, flat
    channels: Tensor  # of all layers, (C, N and zeros before and after)
    frames: Tensor  # the same without the zeros, (C, N)


class _Activation:
    """What follows a convolution, or the maximum: `relu(sign * x + bias) * scale + shift`.

    Args:
        after: sign, bias, scale and shift of each channel, from `_fold`, (4, C) each.
    """

    def __init__(self, after: list[Tensor]) -> None:
        sign, self._bias, scale, shift = torch.cat(after, 1)[:, :, None].float()
        self._sign = sign if (sign < 0).any() else None
        is_needed = (scale != 1).any() or (shift != 0).any()
        self._scale_shift = (scale, shift) if is_needed else None

    def apply(self, x: Tensor) -> None:
        """Change x, (C, N)."""
        if self._sign is not None:
            x.mul_(self._sign)
        x.add_(self._bias).relu_()
        if self._scale_shift:
            x.mul_(self._scale_shift[0]).add_(self._scale_shift[1])


class _TallFilters:
    """Filters over many bands and few frames, and the maximum over output bands.

    Args:
        filters: (C, 1, I, J), float64.
        num_bands: of the spectrogram, F.
    """

    def __init__(self, filters: Tensor, num_bands: int) -> None:
        self.num_channels, _, height, _ = filters.shape
        num_bins = num_bands // 2 + 1
        phases, tables, _ = tabulate_filters(num_bands, height)
        # The filters' spectrum along the bands. The phases also turn it so that the middle one of
        # the outputs comes to lie at band 0, and weigh the bins for the inverse transform.
        spectrum = (filters[:, 0].transpose(1, 2) @ phases).unflatten(2, (num_bins, 2))
        real, imag = spectrum.permute(3, 2, 0, 1)  # (K, C, J) each
        # (a + ib)(u + iv) = (au - bv) + i(bu + av), as one real matrix: rows give the real parts of
        # c channels, then the imaginary ones; columns take u at J time taps, then v.
        self.parts = [
            torch.cat([torch.cat([a, -b], 2), torch.cat([b, a], 2)], 1).float()
            for a, b in zip(*(x.split(_CHANNELS_AT_ONCE, 1) for x in (real, imag)), strict=True)
        ]  # (K, 2c, 2J) each
        self._tables = tables[:, :, :num_bins].float().contiguous()  # (2, P, K)

    def count_outputs(self, num_frames: int) -> int:
        """Return how large `_Buffers.outputs` has to be."""
        return 2 * self._tables.shape[1] * _CHANNELS_AT_ONCE * num_frames

    def maximise(self, buffers: _Buffers, out: Tensor) -> None:
        """Write the maximum over output bands into out, (C, N)."""
        num_frames, first = out.shape[1], 0
        # By number of channels: all parts but the last have the same, and views take time to make.
        views: dict[int, tuple[Tensor, ...]] = {}
        for part in self.parts:
            c = part.shape[1] // 2
            if c not in views:
                views[c] = self._view(buffers, c, num_frames)
            products, spectra, pairs, even, odd = views[c]
            torch.bmm(part, buffers.windows, out=products)
            torch.bmm(self._tables, spectra, out=pairs)  # cosines @ real, sines @ imaginary parts
            # The two outputs of a pair are even + odd and even - odd; the larger one adds |odd|.
            highest = even.add_(odd.abs_()).amax(0)  # faster than into the rows of `out`
            out[first : first + c] = highest.view(c, num_frames)
            first += c

    def _view(self, buffers: _Buffers, c: int, num_frames: int) -> tuple[Tensor, ...]:
        """Return what c channels need of the buffers: products, spectra, pairs, even and odd."""
        _, num_pairs, num_bins = self._tables.shape
        products = buffers.products[: num_bins * 2 * c * num_frames]
        spectra = products.view(num_bins, 2, c * num_frames).transpose(0, 1)
        pairs = buffers.outputs[: 2 * num_pairs * c * num_frames]
        pairs = pairs.view(2, num_pairs, c * num_frames)
        return products.view(num_bins, 2 * c, num_frames), spectra, pairs, *pairs


class _MeanFilters:
    """Filters along the frames of the mean of all bands: those of all lengths, padded to one.

    Args:
        filters: (C, 1, taps) each, float64.
        paddings: frames of zeros before and after, for each.
    """

    def __init__(self, filters: list[Tensor], paddings: list[tuple[int, int]]) -> None:
        self.before, self.after = (max(sides) for sides in zip(*paddings, strict=True))
        self._rows = torch.cat(
            [
                pad(each[:, 0], (self.before - before, self.after - after))
                for each, (before, after) in zip(filters, paddings, strict=True)
            ]
        ).float()  # (C, taps)
        self.num_channels = len(self._rows)

    def count_outputs(self, num_frames: int) -> int:
        """Return how large `_Buffers.outputs` has to be."""
        return 0

    def maximise(self, buffers: _Buffers, out: Tensor) -> None:
        """Write the filters' outputs into out, (C, N); the mean leaves no bands to choose from."""
        mean = buffers.spectrogram.mean(0)[buffers.margin - self.before :]
        windows = mean.unfold(0, out.shape[1], 1)[: self._rows.shape[1]]  # (taps, N)
        torch.mm(self._rows, windows, out=out)


class _LongFilters:
    """Filters along the frames of every band, and the maximum over bands.

    A tile of frames is a row of the product, and each filter at each of its places a column:

        frames  |...................|          tile 0: `_TILE_FRAMES` + taps - 1
                       |...................|   tile 1
        filter  |taps........       |
                | taps........      |

    Args:
        filters: (C, 1, taps), float64.
        padding: frames of zeros before and after.
    """

    def __init__(self, filters: Tensor, padding: tuple[int, int]) -> None:
        self.num_channels, _, num_taps = filters.shape
        self.before, self.after = padding
        # Zeros but for the filter, which starts one row lower at each place: a tile's row times
        # these is the filter's output at all frames of the tile.
        columns = filters.new_zeros(_TILE_FRAMES + num_taps - 1, _TILE_FRAMES, self.num_channels)
        for place in range(_TILE_FRAMES):
            columns[place : place + num_taps, place] = filters[:, 0].T
        self._columns = columns.flatten(1).float()

    def count_outputs(self, num_frames: int) -> int:
        """Return how large `_Buffers.outputs` has to be."""
        return _BANDS_AT_ONCE * -(-num_frames // _TILE_FRAMES) * self._columns.shape[1]

    def maximise(self, buffers: _Buffers, out: Tensor) -> None:
        """Write the maximum over bands into out, (C, N)."""
        num_tiles = -(-out.shape[1] // _TILE_FRAMES)
        length, width = self._columns.shape
        spectrogram = buffers.spectrogram[:, buffers.margin - self.before :]
        # Tiles overlap in memory; only `reshape` below copies them, some bands at a time.
        tiles = spectrogram.unfold(1, length, _TILE_FRAMES)[:, :num_tiles]  # (F, tiles, length)
        best = spectrogram.new_full((num_tiles * width,), -torch.inf)
        for bands in tiles.split(_BANDS_AT_ONCE):
            outputs = buffers.outputs[: len(bands) * num_tiles * width]
            torch.mm(bands.reshape(-1, length), self._columns, out=outputs.view(-1, width))
            torch.maximum(best, outputs.view(len(bands), -1).amax(0), out=best)
        # Rows are now frames; those past the end come from the last tile's rest.
        out.copy_(best.view(-1, self.num_channels)[: out.shape[1]].T)


def _affine(bn: Any) -> tuple[Tensor, Tensor]:
    """Return BatchNorm in evaluation mode as a factor and a sum, (C,) each, float64."""
    factor = bn.weight.double() / torch.sqrt(bn.running_var.double() + bn.eps)
    return factor, bn.bias.double() - bn.running_mean.double() * factor


def _fold(block: Any, variant: str, is_maximised: bool) -> tuple[Tensor, Tensor]:
    """Join a convolution with its BatchNorm.

    Args:
        block: has `conv` and `bn`.
        variant: says in which order BatchNorm and ReLU come.
        is_maximised: whether the maximum over bands follows, to be taken before the activation.

    Returns:
        The filters (C, inputs, ...) and `_Activation`'s numbers (4, C), float64.
    """
    factor, offset = _affine(block.bn)
    weight, bias = block.conv.weight.double(), block.conv.bias.double()
    one, shape = torch.ones_like(factor), (-1, *[1] * (weight.dim() - 1))
    if variant == "port":  # relu(factor * (w x + b) + offset): all but the ReLU joins the filter
        after = one, bias * factor + offset, one, torch.zeros_like(one)
        return weight * factor.view(shape), torch.stack(after)
    # max over bands of relu(w x + b) * factor + offset. Where factor is negative that falls as w x
    # rises, so the maximum is at the smallest w x, which is -max(-w x).
    sign = torch.where(factor < 0, -one, one) if is_maximised else one
    return weight * sign.view(shape), torch.stack([sign, bias, factor, offset])


def _analyse(num_bands: int) -> Tensor:
    """Return the DFT of F bands as a matrix, rows of real and imaginary parts, (K * 2, F)."""
    spectra = torch.fft.rfft(torch.eye(num_bands, dtype=torch.double), dim=0)  # (K, F)
    return torch.view_as_real(spectra).transpose(1, 2).flatten(0, 1).float()
