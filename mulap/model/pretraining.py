"""The heads of pre-training on top of `MulapModel`: masked words, masked audio, matching.

    mlm_head   h_wm -> scores over the vocabulary       (paper, equation 2)
    mam_head   h_am -> the hidden segment's features    (equation 3)
    atm_head   h_a0 * h_w0 -> log-odds of a match       (equation 4)

This file computes answers, not losses (`mulap.objectives.losses`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding, gelu, linear
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForPreTraining

from .config import MulapConfig
from .modeling import (
    ALWAYS_GIVEN,
    IGNORED_LABEL,
    MulapModel,
    MulapOutput,
    MulapPreTrainedModel,
)


@dataclass
class MulapForPreTrainingOutput(MulapOutput):
    """What `MulapForPreTraining` gives: `MulapOutput` and the heads' answers.

    Attributes:
        mlm_logits: scores over the vocabulary at the labelled tokens only (K, V), in each clip's
            first pair; at every token (B * L, V) where no labels were given.
        mlm_targets: the hidden words' ids (K,).
        mlm_clip_index: which clip each of them belongs to (K,).
        mam_predictions: the features regressed from h_a1..h_aT of the first pair (B, T, A).
        atm_logits: log-odds that clip and caption match (P,).
    """

    mlm_logits: Tensor = ALWAYS_GIVEN
    mlm_targets: Tensor | None = None
    mlm_clip_index: Tensor | None = None
    mam_predictions: Tensor = ALWAYS_GIVEN
    atm_logits: Tensor = ALWAYS_GIVEN


class MlmHead(nn.Module):
    """BERT's head: dense, GELU, LayerNorm, then a product with the word embeddings."""

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        text = config.text_config
        self.transform = nn.Linear(text.hidden_size, text.hidden_size)
        self.norm = nn.LayerNorm(text.hidden_size, eps=text.layer_norm_eps)
        self.decoder = nn.Linear(text.hidden_size, text.vocab_size)

    def forward(self, hidden_states: Tensor, words: Tensor | None = None) -> Tensor:
        """Map hidden states (K, Dt) to scores (K, V), by the words given (V, Dt) or its own."""
        hidden_states = self.norm(gelu(self.transform(hidden_states)))
        if words is None:
            return self.decoder(hidden_states)
        return linear(hidden_states, words, self.decoder.bias)


class _LookUp(torch.autograd.Function):
    """Rows of the word embeddings, and the embeddings themselves for the head that shares them.

    Two uses of one parameter have two gradients of its size, by far the largest there is, and a
    third for their sum. Here the rows' gradient is added to the head's, in place.
    """

    @staticmethod
    def forward(
        ctx: Any, words: Tensor, input_ids: Tensor, padding_id: int | None
    ) -> tuple[Tensor, Tensor]:
        """Return rows (C, L, Dt) and the words (V, Dt) as they are."""
        ctx.save_for_backward(input_ids)
        ctx.padding_id = padding_id
        return embedding(input_ids, words), words.view_as(words)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        """Return the gradient of the words; a padding's row gets none from the look-up."""
        (input_ids,), (on_rows, on_words) = ctx.saved_tensors, grad_outputs
        if ctx.padding_id is not None:
            on_rows = on_rows.masked_fill((input_ids == ctx.padding_id)[..., None], 0.0)
        # Nobody else holds the head's gradient: it was made for this and is used up by it.
        return on_words.index_add_(0, input_ids.flatten(), on_rows.flatten(0, 1)), None, None


class AtmHead(nn.Module):
    """Whether clip and caption match: product of both streams' summaries, then linear.

    The paper multiplies h_a0 and h_w0 as they are, which needs equal widths. With other widths a
    linear layer brings the audio's to the text's; with `atm_head = "pooler"` both streams have one,
    followed by tanh, and dropout before the score, as in the authors' code.
    """

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        text_width = config.text_config.hidden_size
        self.audio = self.text = nn.Identity()
        self.dropout = nn.Identity()
        if config.atm_head == "pooler":
            self.audio = nn.Sequential(nn.Linear(config.audio_hidden_size, text_width), nn.Tanh())
            self.text = nn.Sequential(nn.Linear(text_width, text_width), nn.Tanh())
            self.dropout = nn.Dropout(config.hidden_dropout_prob)
        elif config.audio_hidden_size != text_width:
            self.audio = nn.Linear(config.audio_hidden_size, text_width)
        self.score = nn.Linear(text_width, 1)

    def forward(self, audio_summary: Tensor, text_summary: Tensor) -> Tensor:
        """Map h_a0 (B, Da) and h_w0 (B, Dt) to log-odds (B,)."""
        product = self.audio(audio_summary) * self.text(text_summary)
        return self.score(self.dropout(product)).squeeze(-1)


class MulapForPreTraining(MulapPreTrainedModel):
    """MuLaP with the heads it is pre-trained by."""

    _tied_weights_keys = {
        "mlm_head.decoder.weight": "mulap.text_encoder.embeddings.word_embeddings.weight"
    }
    # The Trainer would divide a loss that it thinks is per token; ours is a mean over a batch.
    accepts_loss_kwargs = False

    def __init__(self, config: MulapConfig) -> None:
        super().__init__(config)
        self.mulap = MulapModel(config)
        self.mlm_head = MlmHead(config)
        self.mam_head = nn.Linear(config.audio_hidden_size, config.audio_config.feature_size)
        self.atm_head = AtmHead(config)
        if config.tie_word_embeddings:
            # A copy of another tensor; said here, or resuming would warn that it is missing.
            self._keys_to_ignore_on_save = list(self._tied_weights_keys)
        self.post_init()

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """As `PreTrainedModel.save_pretrained`; by the folder's code `AutoModel` opens it too."""
        auto_map = getattr(self.config, "auto_map", None) or {}
        self.config.auto_map = {**auto_map, "AutoModel": "modeling.MulapModel"}
        super().save_pretrained(*args, **kwargs)

    def get_input_embeddings(self) -> nn.Module:
        """Return the word embeddings, which the masked-word head shares."""
        return self.mulap.text_encoder.get_input_embeddings()

    def get_output_embeddings(self) -> nn.Module:
        """Return the layer that scores the vocabulary."""
        return self.mlm_head.decoder

    def forward(  # noqa: PLR0913  (what a batch holds)
        self,
        input_ids: Tensor,
        input_features: Tensor,
        attention_mask: Tensor | None = None,
        audio_attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        caption_index: Tensor | None = None,
        is_masked_segment: Tensor | None = None,
        mlm_labels: Tensor | None = None,
        whole_input_ids: Tensor | None = None,
        text_summary: Tensor | None = None,
        fuses: bool = True,
    ) -> MulapForPreTrainingOutput:
        """As `MulapModel.forward`, and the heads' answers.

        Args:
            input_ids: as there, like all arguments that are not named here.
            input_features: log-mels (B, T, F, N).
            attention_mask: (C, L).
            audio_attention_mask: (B, T).
            token_type_ids: (C, L).
            caption_index: (P,).
            is_masked_segment: bool (B, T).
            mlm_labels: (C, L), the masked word's id where a word is masked, -100 elsewhere. The
                vocabulary, by far the widest layer, is then scored at those places only.
            whole_input_ids: (C, L).
            text_summary: (C, Dt).
            fuses: False leaves out the co-attention and the heads on top of it.

        Returns:
            MulapForPreTrainingOutput.
        """
        both = [input_ids] if whole_input_ids is None else [input_ids, whole_input_ids]
        rows, words = self._look_up(torch.cat(both)) if fuses else (None, None)
        base = self.mulap(
            input_ids,
            input_features,
            attention_mask,
            audio_attention_mask,
            token_type_ids,
            caption_index,
            is_masked_segment,
            rows,
            whole_input_ids,
            text_summary,
            fuses,
        )
        if not fuses:
            return MulapForPreTrainingOutput(**base)
        num_clips = len(input_features)
        text = base.text_hidden_states[:num_clips]
        targets = clip_index = None
        if mlm_labels is None:
            labelled = text.flatten(0, 1)
        else:
            labels = mlm_labels if caption_index is None else mlm_labels[caption_index[:num_clips]]
            is_labelled = labels != IGNORED_LABEL
            targets, clip_index = labels[is_labelled], is_labelled.nonzero()[:, 0]
            labelled = text.flatten(0, 1).index_select(0, is_labelled.flatten().nonzero()[:, 0])
        return MulapForPreTrainingOutput(
            **base,
            mlm_logits=self.mlm_head(labelled, words),
            mlm_targets=targets,
            mlm_clip_index=clip_index,
            mam_predictions=self.mam_head(base.audio_hidden_states[:num_clips, 1:]),
            atm_logits=self.atm_head(base.audio_hidden_states[:, 0], base.text_hidden_states[:, 0]),
        )

    def _look_up(self, input_ids: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Look up words that the head shares (`_LookUp`); None where there is nothing to gain."""
        words = self.get_input_embeddings()
        assert isinstance(words, nn.Embedding)
        is_shared = words.weight is self.mlm_head.decoder.weight and type(words) is nn.Embedding
        if not (is_shared and torch.is_grad_enabled() and words.weight.requires_grad):
            return None, None
        return _LookUp.apply(words.weight, input_ids, words.padding_idx)

    @torch.no_grad()
    def pairs(
        self,
        clips: Iterable[Tensor],
        input_ids: Tensor,
        attention_mask: Tensor,
        captions_at_once: int = 32,
        pairs_at_once: int = 512,
        fuses: bool = True,
        hidden: Iterable[Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Score every clip against every caption, by each head that can; the model is in eval mode.

        MuLaP is a cross-encoder: each of the A * C pairs passes the co-attention. The backbone and
        the text-only layers see each clip and each caption once.

        Args:
            clips: log-mels of A clips, (T, F, N) each, of any lengths T; or the backbone's
                features, (T, A) each.
            input_ids: token ids (C, L).
            attention_mask: (C, L).
            captions_at_once: captions that pass the text-only layers together.
            pairs_at_once: pairs that pass the co-attention together. Both bound the memory.
            fuses: False leaves out the co-attention, and `atm` with it.
            hidden: bool (T,) of each clip, True where a segment is hidden, as in training.

        Returns:
            Scores (A, C) by head: `atm`, log-odds of a match, and, with a contrastive head,
            `contrastive`, the cosine similarity of the two projections.
        """
        input_ids, attention_mask = input_ids.to(self.device), attention_mask.to(self.device)
        features, masks = [], []  # of each clip, (T, A) and (T,)
        for clip in clips:
            masks.append(torch.ones(len(clip), dtype=torch.long, device=self.device))
            log_mel = clip[None].to(self.device)
            features.append(self.mulap.encode_audio(log_mel, masks[-1][None])[0])
        audio, is_segment = (pad_sequence(each, batch_first=True) for each in (features, masks))
        is_hidden = None if hidden is None else pad_sequence(list(hidden), batch_first=True)
        chunks = input_ids.split(captions_at_once), attention_mask.split(captions_at_once)
        text = torch.cat([self.mulap.encode_text(*chunk) for chunk in zip(*chunks, strict=True)])
        scores = {}
        if fuses:
            log_odds = []
            number = torch.arange(len(audio) * len(text), device=self.device)
            for pairs in number.split(pairs_at_once):
                clip, caption = pairs // len(text), pairs % len(text)
                fused = audio[clip], text[caption], is_segment[clip], attention_mask[caption]
                masked = None if is_hidden is None else is_hidden.to(self.device)[clip]
                audio_states, text_states = self.mulap.fuse(*fused, masked)
                log_odds.append(self.atm_head(audio_states[:, 0], text_states[:, 0]))
            scores["atm"] = torch.cat(log_odds).view(len(audio), len(text))
        if self.config.has_contrastive_head:
            own = self.mulap.pool_audio(audio, is_segment)
            scores["contrastive"] = own @ self.mulap.pool_text(text, attention_mask).T
        return scores

    def score_pairs(
        self,
        input_features: Tensor,
        audio_attention_mask: Tensor,
        input_ids: Tensor,
        attention_mask: Tensor,
    ) -> Tensor:
        """Return probabilities of a match (A, C) for what `MulapProcessor` gives.

        Args:
            input_features: log-mels (A, T, F, N).
            audio_attention_mask: (A, T).
            input_ids: token ids (C, L).
            attention_mask: (C, L).
        """
        both = zip(input_features, audio_attention_mask.bool(), strict=True)
        clips = [log_mel[is_segment] for log_mel, is_segment in both]
        return self.pairs(clips, input_ids, attention_mask)["atm"].sigmoid()


AutoModelForPreTraining.register(MulapConfig, MulapForPreTraining, exist_ok=True)
MulapForPreTraining.register_for_auto_class("AutoModelForPreTraining")
