"""Cuts mono audio into the segments that a network hears, one vector each.

Two recipes, as the weights ask for (`MulapAudioConfig.variant`):

    port      the clip is cut into segments first; each is framed on its own (centred, reflected at
              its ends).
    original  musicnn frames the whole clip (zeros at its two ends) and cuts the frames into
              patches. A patch needs 186 hops and one window, so here it is a cut as well, and
              neighbours share one window less one hop:

        zeros|------------------- clip -------------------|zeros
        |-------- segment 0 --------|                            188 * 256 samples
                                  |-------- segment 1 --------|  187 * 256 samples further on

In both, a segment depends on nothing outside its own window, so a file of any length can be
streamed. A tail that fills no segment is dropped; a clip shorter than one is repeated to fill it.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

import numpy as np

from .waveforms import to_mono

# What a log-mel depends on: arguments of the extractor, of one name in `MulapAudioConfig`.
_LOG_MEL_SETTINGS = (
    "variant", "sampling_rate", "n_fft", "hop_length", "num_mel_bins", "segment_seconds",
    "db_reference",
)  # fmt: skip


class Cuts:
    """How audio is cut, and what a log-mel of it depends on.

    Args:
        variant: `port` or `original`, see the module's head.
        sampling_rate: of the audio, in Hz.
        n_fft: window, in samples.
        hop_length: step between frames, in samples.
        num_mel_bins: bands between 0 Hz and half the sampling rate.
        segment_seconds: length of a segment (`original`: rounded down to whole frames).
        db_reference: `port` only, see `MulapFeatureExtractor`.

    Attributes:
        segment_samples: length of a segment's window.
        stride_samples: distance between the starts of two segments.
        num_frames: mel columns of a segment.
    """

    def __init__(
        self,
        variant: Literal["port", "original"] = "port",
        sampling_rate: int = 16_000,
        n_fft: int = 512,
        hop_length: int = 256,
        num_mel_bins: int = 96,
        segment_seconds: float = 3.0,
        db_reference: Literal["segment", "batch"] = "segment",
    ) -> None:
        if variant not in ("port", "original"):
            raise ValueError(f"variant is '{variant}'. Give port or original.")
        if db_reference not in ("segment", "batch"):
            raise ValueError(f"db_reference is '{db_reference}'. Give segment or batch.")
        self.variant = variant
        self.sampling_rate = sampling_rate
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.num_mel_bins = num_mel_bins
        self.segment_seconds = segment_seconds
        self.db_reference = db_reference

    @property
    def num_frames(self) -> int:
        """Mel columns of a segment."""
        num_hops = round(self.segment_seconds * self.sampling_rate) // self.hop_length
        return num_hops + 1 if self.variant == "port" else num_hops

    @property
    def segment_samples(self) -> int:
        """Length of a segment's window, in samples."""
        if self.variant == "port":
            return round(self.segment_seconds * self.sampling_rate)
        return (self.num_frames - 1) * self.hop_length + self.n_fft

    @property
    def stride_samples(self) -> int:
        """Distance between the starts of two segments, in samples."""
        return self.segment_samples if self.variant == "port" else self.num_frames * self.hop_length

    @property
    def pad_samples(self) -> int:
        """Zeros that go before and after a whole clip, in samples."""
        return 0 if self.variant == "port" else self.n_fft // 2

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """Make what a backbone listens through, from its `MulapAudioConfig`."""
        return cls(**{name: getattr(config, name) for name in _LOG_MEL_SETTINGS})

    def log_mel_settings(self) -> dict[str, Any]:
        """Return all that a log-mel depends on, by name."""
        return {name: getattr(self, name) for name in _LOG_MEL_SETTINGS}

    def mel_filters(self) -> np.ndarray:
        """Return the filters of the log-mel, see `mel_filters`."""
        mel_scale = "htk" if self.variant == "port" else "slaney"
        return mel_filters(self.sampling_rate, self.n_fft, self.num_mel_bins, mel_scale)

    def segment(self, waveform: Any) -> np.ndarray:
        """Cut a whole clip into segments.

        Args:
            waveform: one clip at `sampling_rate`, as `to_mono` takes it.

        Returns:
            float32 (T, segment_samples), T >= 1.

        Raises:
            ValueError: the waveform is empty, or refused by `to_mono`.
        """
        return np.concatenate(list(self.stream_segments([waveform])))

    def stream_segments(self, blocks: Iterable[Any]) -> Iterator[np.ndarray]:
        """Cut a clip that comes in consecutive blocks, as `segment` would cut it whole.

        Args:
            blocks: of samples, each as `to_mono` takes it, of any lengths.

        Yields:
            float32 (T, segment_samples), some segments at a time; at least one in all.

        Raises:
            ValueError: there are no samples, or `to_mono` refuses a block.
        """
        zeros = np.zeros(self.pad_samples, np.float32)
        held, num_segments, num_samples = zeros, 0, 0
        for block in blocks:
            samples = to_mono(block, num_samples)
            num_samples += len(samples)
            held = np.concatenate([held, samples])
            segments, held = self._cut(held)
            num_segments += len(segments)
            if len(segments):
                yield segments
        held = np.concatenate([held, zeros])
        if num_segments == 0 and len(held) < self.segment_samples:
            clip = held[len(zeros) : len(held) - len(zeros)]
            if not len(clip):
                raise ValueError("the audio is empty. Give at least one sample.")
            clip = np.resize(clip, self.segment_samples - 2 * len(zeros))  # repeats it
            held = np.concatenate([zeros, clip, zeros])
        segments, _ = self._cut(held)
        if len(segments):
            yield segments

    def _cut(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return all full segments, (T, segment_samples), and the samples still needed."""
        if len(samples) < self.segment_samples:
            return np.empty((0, self.segment_samples), np.float32), samples
        windows = np.lib.stride_tricks.sliding_window_view(samples, self.segment_samples)
        segments = windows[:: self.stride_samples].copy()
        return segments, samples[len(segments) * self.stride_samples :].copy()


def mel_filters(
    sampling_rate: int, n_fft: int, num_mel_bins: int, mel_scale: Literal["htk", "slaney"]
) -> np.ndarray:
    """Return triangular filters, (num_mel_bins, n_fft / 2 + 1), float32, from 0 Hz to Nyquist.

    `htk` as torchaudio's `MelSpectrogram` makes them (peak 1), `slaney` as `librosa.filters.mel`
    does (linear under 1 kHz, logarithmic above, each of the same area). With the defaults no
    filter is empty; the lowest are narrower than the spectrum's resolution and see one bin or two.

    Args:
        sampling_rate: in Hz.
        n_fft: window of the spectrum, in samples.
        num_mel_bins: number of filters.
        mel_scale: `htk` or `slaney`.

    Returns:
        The filters, to be multiplied with a power spectrum.
    """
    bins_hz = np.linspace(0.0, sampling_rate / 2, n_fft // 2 + 1)
    if mel_scale == "htk":
        top_mel = 2595.0 * np.log10(1.0 + sampling_rate / 2 / 700.0)
        mels = np.linspace(0.0, top_mel, num_mel_bins + 2)
        edges_hz = 700.0 * (10.0 ** (mels / 2595.0) - 1.0)
    else:
        log_step = np.log(6.4) / 27.0
        top_hz = sampling_rate / 2
        top_mel = 15.0 + np.log(top_hz / 1000.0) / log_step if top_hz > 1000.0 else top_hz * 0.015
        mels = np.linspace(0.0, top_mel, num_mel_bins + 2)
        edges_hz = np.where(mels < 15.0, mels / 0.015, 1000.0 * np.exp(log_step * (mels - 15.0)))
    low, centre, high = edges_hz[:-2, None], edges_hz[1:-1, None], edges_hz[2:, None]
    rising, falling = (bins_hz - low) / (centre - low), (high - bins_hz) / (high - centre)
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if mel_scale == "slaney":
        filters *= 2.0 / (high - low)
    return filters.astype(np.float32)
