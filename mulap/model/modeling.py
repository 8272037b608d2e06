"""MuLaP: a music-audio encoder and a text encoder joined by co-attention (paper, section 2.1).

    input_features -> musicnn -> a_1..a_T ---- mean of the unmasked -> a_0
                                    |               |
                           audio embedding + position  (B, 1 + T, Da)
                                              \\
                                               co-attention -> h_a0.., h_w0.. -> mam, atm, mlm heads
                                              /
    input_ids -> BERT, text-only layers  (C, L, Dt)

A batch holds B clips and C captions; `caption_index` says which caption each clip is paired with.
Swapping captions for the matching objective is therefore an index, and clip and caption are encoded
once however often they are used: with P = K * B entries each clip is paired K times, in turn.

Shapes: B clips, C captions, P pairs, T segments, F mel bins, N frames, L tokens, A features of a
segment, Da and Dt the widths of the audio and text streams, V words of the vocabulary.

Losses and their weights are in `mulap.objectives`; what is masked is given, not drawn here.
"""

from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize
from transformers import AutoConfig, AutoModel, PreTrainedModel
from transformers.models.bert.modeling_bert import BertModel
from transformers.utils.generic import ModelOutput

from .audio_input import AudioEmbeddings, FeatureNorm, audio_projection, valid_mean
from .bundled import locate_weights
from .coattention import CoAttentionStack, text_layer
from .config import MulapConfig
from .musicnn import MusicnnBackbone

IGNORED_LABEL = -100
ALWAYS_GIVEN = cast(Tensor, None)  # ModelOutput wants a default of every field
CAPTIONS_AT_ONCE = 64  # of like length, in a text model without gradients


@dataclass
class MulapOutput(ModelOutput):
    """What `MulapModel` gives.

    Attributes:
        backbone_features: the backbone's features of the segments that exist, as they are, before
            `feature_norm` (M, A).
        audio_features: a_1..a_T, the backbone's features after `feature_norm`, before any masking
            (B, T, A); zeros where there is no segment.
        audio_hidden_states: h_a0, h_a1.. (P, 1 + T, Da); None without co-attention.
        text_hidden_states: h_w0.. of the caption each clip is paired with (P, L, Dt); likewise.
        audio_embeds: pooled audio, see `MulapModel.get_audio_features` (B, D).
        text_embeds: pooled text, see `MulapModel.get_text_features` (C, D).
        logits_per_audio: scaled cosine similarities (B, C), with a contrastive head only.
        logits_per_text: its transpose (C, B).
    """

    backbone_features: Tensor = ALWAYS_GIVEN
    audio_features: Tensor = ALWAYS_GIVEN
    audio_hidden_states: Tensor = ALWAYS_GIVEN
    text_hidden_states: Tensor = ALWAYS_GIVEN
    audio_embeds: Tensor = ALWAYS_GIVEN
    text_embeds: Tensor = ALWAYS_GIVEN
    logits_per_audio: Tensor | None = None
    logits_per_text: Tensor | None = None


class MulapPreTrainedModel(PreTrainedModel):
    """What the classes below share: config, safetensors only, weight initialisation."""

    config_class = MulapConfig
    base_model_prefix = "mulap"
    main_input_name = "input_features"
    input_modalities = ["audio", "text"]
    _supports_sdpa = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, MulapModel) and module.logit_scale is not None:
            # CLIP's start: similarities are divided by a temperature of 0.07.
            nn.init.constant_(module.logit_scale, 2.6593)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Load from a bundled name (`mulap-small`), a folder or the hub; safetensors only."""
        located = pretrained_model_name_or_path and locate_weights(pretrained_model_name_or_path)
        return super().from_pretrained(located, *args, **{**kwargs, "use_safetensors": True})


class MulapModel(MulapPreTrainedModel):
    """Both branches and the co-attention, without the heads of pre-training."""

    _keys_to_ignore_on_load_unexpected = [r"^(mlm|mam|atm)_head\."]

    def __init__(self, config: MulapConfig) -> None:
        super().__init__(config)
        self.audio_backbone = MusicnnBackbone(config.audio_config)
        self.feature_norm = FeatureNorm(config)
        self.audio_embeddings = AudioEmbeddings(config)
        self.text_encoder = BertModel(config.text_config, add_pooling_layer=False)
        self.coattention = CoAttentionStack(config)
        self.upper_text = nn.ModuleList(
            text_layer(config, config.text_config.hidden_size)
            for _ in range(config.num_upper_text_layers)
        )
        self.audio_projection = self.text_projection = self.logit_scale = None
        if config.has_contrastive_head:
            self.audio_projection = audio_projection(config)
            text_width = config.text_config.hidden_size
            if config.has_text_projection:
                self.text_projection = nn.Linear(text_width, config.projection_dim)
            elif config.projection_dim != text_width:
                wrong = f"projection_dim is {config.projection_dim}, the text {text_width} wide"
                raise ValueError(f"{wrong}. Set projection_dim to {text_width}.")
            self.logit_scale = nn.Parameter(torch.empty(()))
        self.post_init()

    def encode_audio(self, input_features: Tensor, audio_attention_mask: Tensor) -> Tensor:
        """Run the backbone once over all segments that exist.

        Padding never meets the backbone: in training it would enter BatchNorm's statistics.

        Args:
            input_features: log-mels (B, T, F, N), or the backbone's features (B, T, A).
            audio_attention_mask: (B, T), 1 where there is a segment.

        Returns:
            Features a_1..a_T (B, T, A), zeros where there is no segment.
        """
        is_segment = audio_attention_mask.bool()
        return self._place(self._run_backbone(input_features[is_segment]), is_segment)

    def _run_backbone(self, segments: Tensor) -> Tensor:
        """Map log-mels (M, F, N) to features (M, A); what is features already stays as it is."""
        return segments if segments.ndim == 2 else self.audio_backbone(segments)

    def _place(self, backbone_features: Tensor, is_segment: Tensor) -> Tensor:
        """Normalise features (M, A) and put them where their segments are (B, T, A)."""
        features = self.feature_norm(backbone_features)
        padded = features.new_zeros(*is_segment.shape, features.shape[-1])
        return padded.masked_scatter(is_segment[..., None], features)

    def encode_text(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
    ) -> Tensor:
        """Run the text-only layers over token ids (C, L); returns hidden states (C, L, Dt).

        `inputs_embeds` are the ids' word embeddings (C, L, Dt), where they are looked up already.
        """
        is_trained = torch.is_grad_enabled() and any(
            each.requires_grad for each in self.text_encoder.parameters()
        )
        if attention_mask is not None and token_type_ids is None and inputs_embeds is None:
            if len(input_ids) > CAPTIONS_AT_ONCE and not is_trained:
                return self._encode_by_length(input_ids, attention_mask)
        return self.text_encoder(
            input_ids=input_ids if inputs_embeds is None else None,
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            token_type_ids=token_type_ids,
        ).last_hidden_state

    def _encode_by_length(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """As `encode_text`, captions of like length at once; the same states of words, to rounding.

        Most captions are half as long as the longest of a batch, and padding costs as much as
        words do.
        """
        lengths = attention_mask.sum(dim=1)
        states = attention_mask.new_zeros(
            *input_ids.shape, self.config.text_config.hidden_size, dtype=self.dtype
        )
        for rows in lengths.argsort().split(CAPTIONS_AT_ONCE):
            longest = int(lengths[rows].max())
            some = self.text_encoder(
                input_ids=input_ids[rows, :longest], attention_mask=attention_mask[rows, :longest]
            ).last_hidden_state
            states[rows, :longest] = some.to(states.dtype)
        return states

    def fuse(
        self,
        audio_features: Tensor,
        text_states: Tensor,
        audio_attention_mask: Tensor,
        attention_mask: Tensor,
        is_masked_segment: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Pass features and text-only states of B pairs through the co-attention.

        Masked segments are set to zero (paper, section 2.2). The features given are left as they
        are, so they can serve as the regression's targets.

        Args:
            audio_features: (B, T, A).
            text_states: (B, L, Dt).
            audio_attention_mask: (B, T).
            attention_mask: (B, L).
            is_masked_segment: bool (B, T), True where a segment is hidden. None hides none.

        Returns:
            Hidden states of the audio stream (B, 1 + T, Da) and of the text stream (B, L, Dt).
        """
        is_segment = audio_attention_mask.bool()
        if is_masked_segment is None:
            is_masked_segment = torch.zeros_like(is_segment)
        seen = audio_features.masked_fill(is_masked_segment[..., None], 0.0)
        if self.config.global_token == "unmasked":
            global_token = valid_mean(seen, is_segment & ~is_masked_segment)
        else:
            global_token = valid_mean(audio_features, is_segment)
            if self.config.global_token == "all_detached":
                global_token = global_token.detach()
        audio = self.audio_embeddings(torch.cat([global_token[:, None], seen], dim=1))
        audio_mask = torch.cat([is_segment.new_ones(len(is_segment), 1), is_segment], dim=1)
        return self.coattention(audio, text_states, audio_mask, attention_mask)

    def pool_audio(self, audio_features: Tensor, audio_attention_mask: Tensor) -> Tensor:
        """Mean of the segments' features (B, A); projected, of unit length, with a projection."""
        pooled = valid_mean(audio_features, audio_attention_mask)
        if self.audio_projection is None:
            return pooled
        return normalize(self.audio_projection(pooled), dim=-1)

    def pool_text(self, text_states: Tensor, attention_mask: Tensor) -> Tensor:
        """Pool text-only states as `MulapConfig.text_pooling` says.

        Args:
            text_states: (C, L, Dt).
            attention_mask: (C, L).

        Returns:
            (C, Dt); projected, of unit length, with a contrastive head.
        """
        return self.project_text(self.summarize_text(text_states, attention_mask))

    def summarize_text(self, text_states: Tensor, attention_mask: Tensor) -> Tensor:
        """As `pool_text`, before the projection (C, Dt): what a frozen text model always gives."""
        if self.config.text_pooling != "mean":
            return text_states[:, 0]
        for layer in self.upper_text:
            text_states = layer(text_states, text_states, attention_mask)
        return valid_mean(text_states, attention_mask)

    def project_text(self, summary: Tensor) -> Tensor:
        """Map what `summarize_text` gives (C, Dt) to what `pool_text` gives (C, D)."""
        if self.logit_scale is None:
            return summary
        if self.text_projection is not None:
            summary = self.text_projection(summary)
        return normalize(summary, dim=-1)

    def get_audio_features(self, input_features: Tensor, audio_attention_mask: Tensor) -> Tensor:
        """Embed clips on their own.

        Args:
            input_features: log-mels (B, T, F, N), or the backbone's features (B, T, A).
            audio_attention_mask: (B, T).

        Returns:
            (B, D). With a contrastive head, points of the space shared with `get_text_features`;
            without, the mean of the segments' features, which is no such space.
        """
        features = self.encode_audio(input_features, audio_attention_mask)
        return self.pool_audio(features, audio_attention_mask)

    def get_text_features(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Embed captions on their own: token ids (C, L) -> (C, D), see `get_audio_features`."""
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        states = self.encode_text(input_ids, attention_mask, token_type_ids)
        return self.pool_text(states, attention_mask)

    def forward(  # noqa: PLR0913  (what a batch holds)
        self,
        input_ids: Tensor,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        audio_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        caption_index: Tensor | None = None,
        is_masked_segment: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        whole_input_ids: Tensor | None = None,
        text_summary: Tensor | None = None,
        fuses: bool = True,
    ) -> MulapOutput:
        """Encode clips and captions and join each clip with its caption.

        Args:
            input_ids: token ids (C, L).
            input_features: log-mels (B, T, F, N), or the backbone's features (B, T, A).
            attention_mask: (C, L), 1 where there is a token. None: everywhere.
            audio_attention_mask: (B, T), 1 where there is a segment. None: everywhere.
            token_type_ids: (C, L). None: zeros.
            caption_index: (P,), the caption of each pair; pair p has clip p % B. None: P = C = B.
            is_masked_segment: bool (B, T), True where a segment is masked. None masks none.
            inputs_embeds: word embeddings of both ids (C or 2 C, L, Dt), if looked up already.
            whole_input_ids: (C, L) before masking, for `text_embeds` and the logits, if masked.
            text_summary: what `summarize_text` gives of the whole captions (C, Dt), if known.
            fuses: False leaves the co-attention out, where only embeddings are wanted.
        """
        if audio_attention_mask is None:
            audio_attention_mask = input_ids.new_ones(input_features.shape[:2])
        if attention_mask is None:
            attention_mask = torch.ones_like(input_ids)
        if caption_index is None:
            caption_index = torch.arange(len(input_features), device=input_ids.device)
        # Audio last: going back, its activations are given up before text's large gradients come.
        texts = input_ids, attention_mask, token_type_ids
        if whole_input_ids is not None:
            types = None if token_type_ids is None else token_type_ids.repeat(2, 1)
            texts = torch.cat([input_ids, whole_input_ids]), attention_mask.repeat(2, 1), types
        text_states: Any = None
        audio = text = ALWAYS_GIVEN
        if fuses or text_summary is None:
            text_states = self.encode_text(*texts, inputs_embeds)
        is_segment = audio_attention_mask.bool()
        backbone_features = self._run_backbone(input_features[is_segment])
        audio_features = self._place(backbone_features, is_segment)
        if fuses:
            num_draws = len(caption_index) // len(input_features)
            audio, text = self.fuse(
                audio_features.repeat(num_draws, 1, 1),
                # On a CPU [...] adds in no fixed order.
                text_states.index_select(0, caption_index),
                audio_attention_mask.repeat(num_draws, 1),
                attention_mask[caption_index],
                None if is_masked_segment is None else is_masked_segment.repeat(num_draws, 1),
            )
        audio_embeds = self.pool_audio(audio_features, audio_attention_mask)
        if text_summary is None:
            text_summary = self.summarize_text(text_states[-len(input_ids) :], attention_mask)
        text_embeds = self.project_text(text_summary)
        similarity = _compare(audio_embeds, text_embeds, self.logit_scale)
        return MulapOutput(
            backbone_features=backbone_features,
            audio_features=audio_features,
            audio_hidden_states=audio,
            text_hidden_states=text,
            audio_embeds=audio_embeds,
            text_embeds=text_embeds,
            logits_per_audio=similarity,
            logits_per_text=similarity if similarity is None else similarity.T,
        )


def _compare(audio: Tensor, text: Tensor, log_scale: Tensor | None) -> Tensor | None:
    """Return similarities (B, C) in the scale's precision; bf16 has steps of 0.06 at 14."""
    if log_scale is None:
        return None
    with torch.autocast(audio.device.type, enabled=False):
        return log_scale.exp() * audio.to(log_scale.dtype) @ text.to(log_scale.dtype).T


# So that `AutoModel.from_pretrained(folder)` knows the class, and a saved folder carries its code.
AutoConfig.register("mulap", MulapConfig, exist_ok=True)
AutoModel.register(MulapConfig, MulapModel, exist_ok=True)
MulapConfig.register_for_auto_class()
MulapModel.register_for_auto_class("AutoModel")
