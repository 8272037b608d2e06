"""What a MuLaP model is made of: typed fields and their defaults, no logic.

`MulapAudioConfig` describes the musicnn backbone alone, `MulapConfig` the whole model. The defaults
are the paper's (section 3.1) and, where the paper defers to it, ViLBERT's. Training settings are
not here: a checkpoint does not know how it was trained.
"""

from dataclasses import dataclass
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
        tagging_hidden_size: width of the tagging head's hidden layer.
        num_towers: musicnns of these sizes side by side, whose vectors are joined end to end.
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
    tagging_hidden_size: int = 200
    num_towers: int = 1
    initializer_range: float = 0.02

    @property
    def feature_size(self) -> int:
        """Length of one segment's feature vector: maximum and mean over time of every channel."""
        num_front_end = 2 * self.num_timbral_filters + 3 * self.num_temporal_filters
        return 2 * (num_front_end + 3 * self.num_midend_filters) * self.num_towers


@dataclass
class ModelSwitches:
    """What a model's config and a run's settings (`model:`) have under one name and default.

    Attributes:
        layout: `paper`, text through the text-only layers, audio straight from its embedding, then
            N co-attention layers (paper, figure 2); or `official`, the authors' code, in which both
            streams also have self-attention layers between and after the co-attention.
        num_coattention_layers: the paper's N.
        num_audio_layers: `official` only, self-attention layers of the audio stream. (Its text
            stream has one after each co-attention layer.)
        audio_hidden_size: width of the audio stream. The matching score is the element-wise product
            of both streams' first outputs; where the widths differ, a linear layer brings the
            audio's to the text's.
        audio_num_attention_heads: attention heads of the audio stream.
        audio_intermediate_size: width inside the audio stream's feed-forward parts.
        feature_norm: what the backbone's features pass before they are masked and embedded: `none`
            (the paper says nothing), or `batch`, a BatchNorm without parameters. That takes out
            the mean that all segments share, which otherwise hides their differences, and
            keeps the scale of the masked-audio targets; features of no spread cannot win.
        global_token: what a_0 is the mean of. `unmasked`, the valid segments that are not masked;
            `all`, every valid segment, as the authors' code does, which lets the model solve a
            masked segment by arithmetic; `all_detached`, that and no gradient to the backbone.
        atm_head: `product`, as the paper; `pooler`, tanh poolers before the product, as the
            authors' code.
        has_contrastive_head: whether there are projections of both streams into one space.
        projection_dim: width of that space.
        projection_hidden_size: width of the hidden layer (GELU) of the audio's projection; 0 for a
            single linear layer.
        projection_dropout: before each layer of the audio's projection.
        has_text_projection: whether the text has a linear projection, too; without one the space is
            the pooled text's own, and `projection_dim` is its width.
        text_pooling: the text in that space. `cls`, the first state of the text-only layers, as in
            mulap 0.1; or `mean`, the mean over words of the last states of the whole text model.
            [CLS] of a BERT that was not trained for it is nearly one vector for all captions.
    """

    layout: Literal["paper", "official"] = "paper"
    num_coattention_layers: int = 2
    num_audio_layers: int = 6
    audio_hidden_size: int = 768
    audio_num_attention_heads: int = 12
    audio_intermediate_size: int = 3072
    feature_norm: Literal["none", "batch"] = "none"
    global_token: Literal["unmasked", "all", "all_detached"] = "unmasked"
    atm_head: Literal["product", "pooler"] = "product"
    has_contrastive_head: bool = False
    projection_dim: int = 256
    projection_hidden_size: int = 0
    projection_dropout: float = 0.0
    has_text_projection: bool = True
    text_pooling: Literal["cls", "mean"] = "cls"


@strict
class MulapConfig(ModelSwitches, PreTrainedConfig):
    """The whole model: text branch, audio branch and the co-attention that joins them.

    Attributes:
        text_config: the text-only BERT layers; `num_hidden_layers` is the paper's L - N = 4.
        audio_config: the musicnn backbone.
        max_segments: most segments of a clip that have a position embedding.
        num_upper_text_layers: layers of the text model above the text-only ones, which only the
            pooled text passes (`text_pooling: mean`).
    """

    model_type = "mulap"
    sub_configs: ClassVar[Any] = {"text_config": BertConfig, "audio_config": MulapAudioConfig}

    # A dictionary, a config or None on the way in; BertConfig and MulapAudioConfig from then on.
    text_config: Any = None
    audio_config: Any = None
    max_segments: int = 200
    num_upper_text_layers: int = 0
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    layer_norm_eps: float = 1e-12
    initializer_range: float = 0.02
    tie_word_embeddings: bool = True

    def __post_init__(self, **kwargs: Any) -> None:
        """Make the two parts' configs out of dictionaries, and give the paper's where missing."""
        if self.text_config is None:
            self.text_config = BertConfig(num_hidden_layers=4)
        elif isinstance(self.text_config, dict):
            self.text_config = BertConfig(**self.text_config)
        if self.audio_config is None:
            self.audio_config = MulapAudioConfig()
        elif isinstance(self.audio_config, dict):
            self.audio_config = MulapAudioConfig(**self.audio_config)
        super().__post_init__(**kwargs)
