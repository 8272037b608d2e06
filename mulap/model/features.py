"""`MulapFeatureExtractor`: waveform -> log-mel segments, the input of musicnn.

Two recipes, as the weights ask for (`MulapAudioConfig.variant`): HTK mels in decibels, floored
80 dB under the segment's own maximum (`port`), or Slaney mels, log10(10000 x + 1) (`original`). How
a clip is cut is in `mulap.model.cuts`.

Scope: arrays at `sampling_rate`. Files and other rates: `mulap.encoders`.
"""

import os
from typing import Any, Literal

import numpy as np
import torch
from transformers.feature_extraction_sequence_utils import SequenceFeatureExtractor
from transformers.feature_extraction_utils import BatchFeature

from .bundled import locate_weights
from .cuts import Cuts
from .waveforms import split_clips

MIN_POWER = 1e-10  # -100 dB, where silence ends up
DYNAMIC_RANGE_DB = 80.0
COMPRESSION = 10_000.0
_SEGMENTS_AT_ONCE = 32  # spectra of this many segments are in memory at a time


class MulapFeatureExtractor(Cuts, SequenceFeatureExtractor):
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
        Cuts.__init__(
            self,
            variant,
            sampling_rate,
            n_fft,
            hop_length,
            num_mel_bins,
            segment_seconds,
            db_reference,
        )
        kwargs.pop("feature_size", None)
        padding_value = kwargs.pop("padding_value", 0.0)
        SequenceFeatureExtractor.__init__(
            self, num_mel_bins, sampling_rate, padding_value, **kwargs
        )
        self._filters = torch.from_numpy(self.mel_filters())  # (F, n_fft / 2 + 1)
        self._window = torch.hann_window(n_fft)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | os.PathLike[str], **kwargs: Any
    ) -> "MulapFeatureExtractor":
        """Load from a bundled name (`musicnn-mtt`), a folder or the hub."""
        return super().from_pretrained(locate_weights(pretrained_model_name_or_path), **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """Return what `preprocessor_config.json` holds: the arguments, not the filters."""
        return {name: value for name, value in super().to_dict().items() if name[0] != "_"}

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
            return torch.log10(COMPRESSION * power + 1.0)
        decibels = 10.0 * power.clamp_min(MIN_POWER).log10()
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
        lowest = np.float32(10.0 * np.log10(MIN_POWER))
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
