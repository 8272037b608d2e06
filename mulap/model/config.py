"""What a MuLaP model is made of: typed fields and their defaults, no logic.

`MulapAudioConfig` describes the musicnn backbone alone, `MulapConfig` the whole model. The defaults
are the paper's (section 3.1) and, where the paper defers to it, ViLBERT's. Training settings are
not here: a checkpoint does not know how it was trained.
"""

from typing import Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig
from transformers.models.bert.configuration_bert import BertConfig


@strict
class MulapAudioConfig(PreTrainedConfig):
    """The musicnn backbone and the log-mel it listens to.

    Attributes:
        variant: `port`, the PyTorch port that the authors trained (HTK mels in dB, convolution ->
            BatchNorm -> ReLU), or `original`, Pons & Serra's musicnn (Slaney mels, convolution ->
            ReLU -> BatchNorm), the one with public weights. Weights do not carry over.
        sampling_rate: in Hz.
        n_fft: window of the short-time Fourier transform, in samples.
        hop_length: step between frames, in samples.
        num_mel_bins: height of the log-mel.
        segment_seconds: length of the cut that becomes one feature vector.
        db_reference: `port` only. `segment` floors each segment 80 dB under its own maximum;
            `batch` takes one maximum for all segments of a call, as the authors' code does, which
            makes the features of a track depend on its neighbours in the batch.
        num_timbral_filters: channels of each of the two vertical convolutions.
        num_temporal_filters: channels of each of the three horizontal convolutions.
        num_midend_filters: channels of each of the three dense convolutions.
    """

    model_type = "mulap_audio"
    base_config_key = "audio_config"

    variant: Literal["port", "original"] = "port"
    sampling_rate: int = 16_000
    n_fft: int = 512
    hop_length: int = 256
    num_mel_bins: int = 96
    segment_seconds: float = 3.0
    db_reference: Literal["segment", "batch"] = "segment"
    num_timbral_filters: int = 204
    num_temporal_filters: int = 51
    num_midend_filters: int = 64
    initializer_range: float = 0.02

    @property
    def feature_size(self) -> int:
        """Length of one segment's feature vector: maximum and mean over time of every channel."""
        num_front_end = 2 * self.num_timbral_filters + 3 * self.num_temporal_filters
        return 2 * (num_front_end + 3 * self.num_midend_filters)
