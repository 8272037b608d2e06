"""`MulapFeatureExtractor`: waveform -> log-mel segments, the input of musicnn.

Two recipes, as the weights ask for (`MulapAudioConfig.variant`):

    port      the clip is cut into segments first; each is framed on its own (centred, reflected at
              its ends), HTK mels, decibels, floored 80 dB under the segment's own maximum.
    original  musicnn frames the whole clip (zeros at its two ends) and cuts the frames into
              patches: Slaney mels, log10(10000 x + 1). A patch needs 186 hops and one window, so
              here it is a cut as well, and neighbours share one window less one hop:

        zeros|------------------- clip -------------------|zeros
        |-------- segment 0 --------|                            188 * 256 samples
                                  |-------- segment 1 --------|  187 * 256 samples further on

In both, a segment depends on nothing outside its own window, so a file of any length can be
streamed. A tail that fills no segment is dropped; a clip shorter than one is repeated to fill it.

Scope: arrays at `sampling_rate`. Files and other rates: `mulap.encoders`.
"""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import torch
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .bundled import locate_weights
from .waveforms import split_clips, to_mono

_MIN_POWER = 1e-10  # -100 dB, where silence ends up
DYNAMIC_RANGE_DB = 80.0
_COMPRESSION = 10_000.0
# What a log-mel depends on: arguments of the extractor, of one name in `MulapAudioConfig`.
_LOG_MEL_SETTINGS = (
    "variant", "sampling_rate", "n_fft", "hop_length", "num_mel_bins", "segment_seconds",
    "db_reference",
)  # fmt: skip
_SEGMENTS_AT_ONCE = 32  # spectra of this many segments are in memory at a time


class MulapFeatureExtractor(SequenceFeatureExtractor):
    """Cuts mono audio into segments and turns each into a log-mel.

    Args:
        variant: `port` or `original`, see the module's head.
        sampling_rate: of the audio, in Hz.
        n_fft: window, in samples.
        hop_length: step between frames, in samples.
        num_mel_bins: bands between 0 Hz and half the sampling rate.
        segment_seconds: length of a segment (`original`: rounded down to whole frames).
        db_reference: `port` only: `segment`, or `batch` for one maximum over all segments of a
            call, the authors' behaviour: features then depend on the neighbours in the batch.
        **kwargs: passed to `SequenceFeatureExtractor`.

    Attributes:
        segment_samples: length of a segment's window.
        stride_samples: distance between the starts of two segments.
        num_frames: mel columns of a segment.
    """

    model_input_names = ["input_features", "audio_attention_mask"]

    def __init__(
        self,
        variant: Literal["port", "original"] = "port",
        sampling_rate: int = 16_000,
        n_fft: int = 512,
        hop_length: int = 256,
        num_mel_bins: int = 96,
        segment_seconds: float = 3.0,
        db_reference: Literal["segment", "batch"] = "segment",
        **kwargs: Any,
    ) -> None:
        if variant not in ("port", "original"):
            raise ValueError(f"variant is '{variant}'. Give port or original.")
        if db_reference not in ("segment", "batch"):
            raise ValueError(f"db_reference is '{db_reference}'. Give segment or batch.")
        kwargs.pop("feature_size", None)
        padding_value = kwargs.pop("padding_value", 0.0)
        super().__init__(num_mel_bins, sampling_rate, padding_value, **kwargs)
        self.variant = variant
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.num_mel_bins = num_mel_bins
        self.segment_seconds = segment_seconds
        self.db_reference = db_reference
        mel_scale = "htk" if variant == "port" else "slaney"
        filters = mel_filters(sampling_rate, n_fft, num_mel_bins, mel_scale)
        self._filters = torch.from_numpy(filters)  # (F, n_fft / 2 + 1)
        self._window = torch.hann_window(n_fft)

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
    def from_config(cls, config: Any) -> "MulapFeatureExtractor":
        """Make the extractor that a backbone listens through, from its `MulapAudioConfig`."""
        return cls(**{name: getattr(config, name) for name in _LOG_MEL_SETTINGS})

    def log_mel_settings(self) -> dict[str, Any]:
        """Return all that a log-mel depends on, by name."""
        return {name: getattr(self, name) for name in _LOG_MEL_SETTINGS}

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> "MulapFeatureExtractor":
        """Load from a bundled name (`musicnn-mtt`), a folder or the hub."""
        return super().from_pretrained(locate_weights(pretrained_model_name_or_path), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return what `preprocessor_config.json` holds: the arguments, not the filters."""
        return {name: value for name, value in super().to_dict().items() if name[0] != "_"}

    def segment(self, waveform: np.ndarray | torch.Tensor) -> np.ndarray:
        """Cut a whole clip into segments.

        Args:
            waveform: one clip at `sampling_rate`, as `to_mono` takes it.

        Returns:
            float32 (T, segment_samples), T >= 1.

        Raises:
            ValueError: the waveform is empty, or refused by `to_mono`.
        """
        return np.concatenate(list(self.stream_segments([waveform])))

    def stream_segments(self, blocks: Iterable[np.ndarray | torch.Tensor]) -> Iterator[np.ndarray]:
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

    @torch.no_grad()
    def log_mel(self, segments: np.ndarray | torch.Tensor) -> np.ndarray:
        """Turn segments into log-mels, always in float32, also where autocast is on.

        Args:
            segments: (M, segment_samples), from `segment`; `db_reference="batch"` takes its one
                maximum over these M.

        Returns:
            float32 (M, F, N).
        """
        is_tensor = isinstance(segments, torch.Tensor)
        samples = (segments if is_tensor else torch.from_numpy(segments)).float()
        with torch.autocast(samples.device.type, enabled=False):
            power = torch.cat([self._mel_power(part) for part in samples.split(_SEGMENTS_AT_ONCE)])
            return self._compress(power).cpu().numpy()

    def _mel_power(self, samples: torch.Tensor) -> torch.Tensor:
        """Return mel power (M, F, N) of samples (M, segment_samples)."""
        spectrum = torch.stft(
            samples,
            self.n_fft,
            self.hop_length,
            window=self._window.to(samples.device),
            center=self.variant == "port",
            pad_mode="reflect",
            return_complex=True,
        )
        power = spectrum.real.square() + spectrum.imag.square()  # (M, n_fft / 2 + 1, N)
        return self._filters.to(samples.device) @ power

    def _compress(self, power: torch.Tensor) -> torch.Tensor:
        if self.variant == "original":
            return torch.log10(_COMPRESSION * power + 1.0)
        decibels = 10.0 * power.clamp_min(_MIN_POWER).log10()
        dims = (-2, -1) if self.db_reference == "segment" else (-3, -2, -1)
        floor = decibels.amax(dims, keepdim=True) - DYNAMIC_RANGE_DB
        return torch.maximum(decibels, floor)

    def amplify(self, log_mels: np.ndarray, gain_db: float) -> np.ndarray:
        """Return what log-mels (M, F, N) would be if the audio were louder by some decibels.

        With `port`, of bands that the floor has cut off no more than the floor is known; it moves
        with the segment's maximum, as it should.
        """
        if self.variant == "original":
            power = np.expm1(log_mels * np.float32(np.log(10.0)))  # times the compression
            return (np.log1p(power * np.float32(10.0 ** (gain_db / 10.0))) / np.log(10.0)).astype(
                np.float32
            )
        lowest = np.float32(10.0 * np.log10(_MIN_POWER))
        return np.maximum(log_mels + np.float32(gain_db), lowest)

    def __call__(
        self,
        audio: np.ndarray | torch.Tensor | list[Any] | tuple[Any, ...],
        sampling_rate: int | None = None,
        return_tensors: str | None = None,
        max_segments: int | None = None,
    ) -> BatchFeature:
        """Turn one clip or several into a padded batch.

        Args:
            audio: one clip (num_samples,) or (num_samples, C), or several: a list of clips, each as
                `to_mono` takes it, or an array (B, num_samples) or (B, C, num_samples).
            sampling_rate: of `audio`, in Hz; taken to be the extractor's own where not given.
            return_tensors: `pt`, `np` or None (NumPy arrays as well).
            max_segments: take no more than this many segments of each clip, from its start.

        Returns:
            `input_features` float32 (B, T, F, N), zeros where a clip has fewer than T segments,
            and `audio_attention_mask` int64 (B, T), 1 for a segment and 0 for padding.

        Raises:
            ValueError: another sampling rate, no clip, an empty one, or one that `to_mono` refuses.
        """
        if sampling_rate is not None and sampling_rate != self.sampling_rate:
            raise ValueError(
                f"the audio is at {sampling_rate} Hz, the model takes {self.sampling_rate} Hz. "
                "Resample it first."
            )
        if max_segments is not None and max_segments < 1:
            raise ValueError(f"max_segments is {max_segments}. Give at least 1.")
        clips = [self.segment(clip)[:max_segments] for clip in split_clips(audio)]
        log_mels = self.log_mel(np.concatenate(clips))
        is_segment = np.arange(max(map(len, clips))) < np.array([[len(clip)] for clip in clips])
        features = np.zeros((*is_segment.shape, *log_mels.shape[1:]), np.float32)  # (B, T, F, N)
        features[is_segment] = log_mels
        data = {"input_features": features, "audio_attention_mask": is_segment.astype(np.int64)}
        return BatchFeature(data, tensor_type=return_tensors)


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
