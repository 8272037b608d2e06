"""The co-attention: two streams of transformer layers that exchange keys and values.

A co-attention layer is a standard encoder layer (attention, feed-forward, LayerNorm after each
residual) whose keys and values come from the other stream (paper, equation 1, as in ViLBERT). Both
streams of a layer read the other's state from *before* the layer. Each stream keeps its own width:
keys and values are projected from the other's width to it.

Shapes: B clips, T segments (here with the global token in front), L tokens, Da and Dt the widths of
the audio and text streams, D the width of the stream at hand, H heads.

This file knows neither log-mels nor tokens: hidden states in, hidden states out.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from .config import MulapConfig


class Attention(nn.Module):
    """Multi-head attention from a stream of width `hidden_size` to a memory of any width.

    Args:
        hidden_size: width of the queries and of the output.
        memory_size: width of what keys and values are made from.
        num_heads: heads, which share `hidden_size` evenly.
        dropout: probability of dropping an attention weight.

    Raises:
        ValueError: `hidden_size` is no multiple of `num_heads`.
    """

    def __init__(self, hidden_size: int, memory_size: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        if hidden_size % num_heads:
            raise ValueError(
                f"a stream of width {hidden_size} cannot be shared by {num_heads} attention heads: "
                "make the width a multiple of the number of heads"
            )
        self.num_heads = num_heads
        self.dropout = dropout
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key = nn.Linear(memory_size, hidden_size)
        self.value = nn.Linear(memory_size, hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)

    def forward(self, hidden_states: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Attend to the memory.

        Args:
            hidden_states: queries (B, L, D).
            memory: keys and values (B, S, memory_size).
            memory_mask: (B, S), nonzero where the memory may be attended to.

        Returns:
            Tensor (B, L, D).
        """
        context = scaled_dot_product_attention(
            self._heads(self.query(hidden_states)),
            self._heads(self.key(memory)),
            self._heads(self.value(memory)),
            attn_mask=memory_mask[:, None, None, :].bool(),
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(context.transpose(1, 2).flatten(2))

    def weights(self, hidden_states: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Return how much each query attends to each place of the memory (B, H, L, S).

        Args:
            hidden_states: as `forward`, like the others.
            memory: (B, S, memory_size).
            memory_mask: (B, S).
        """
        query, key = self._heads(self.query(hidden_states)), self._heads(self.key(memory))
        scores = query @ key.transpose(-2, -1) / query.shape[-1] ** 0.5
        is_hidden = ~memory_mask[:, None, None, :].bool()
        return scores.masked_fill(is_hidden, -torch.inf).softmax(-1)

    def _heads(self, states: Tensor) -> Tensor:
        """Share the width of (B, L, D) among the heads (B, H, L, D/H)."""
        return states.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class TransformerLayer(nn.Module):
    """One BERT encoder layer whose memory may be another stream.

    Args:
        hidden_size: width of this stream.
        memory_size: width of the stream attended to.
        num_heads: attention heads.
        intermediate_size: width inside the feed-forward part.
        config: dropout rates and the LayerNorm epsilon are taken from it.
    """

    def __init__(
        self,
        hidden_size: int,
        memory_size: int,
        num_heads: int,
        intermediate_size: int,
        config: MulapConfig,
    ) -> None:
        super().__init__()
        self.attention = Attention(
            hidden_size, memory_size, num_heads, config.attention_probs_dropout_prob
        )
        self.attention_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.intermediate = nn.Linear(hidden_size, intermediate_size)
        self.output = nn.Linear(intermediate_size, hidden_size)
        self.output_norm = nn.LayerNorm(hidden_size, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)

    def forward(self, hidden_states: Tensor, memory: Tensor, memory_mask: Tensor) -> Tensor:
        """Map hidden states (B, L, D), memory (B, S, memory_size) and its mask to (B, L, D)."""
        attended = self.dropout(self.attention(hidden_states, memory, memory_mask))
        hidden_states = self.attention_norm(hidden_states + attended)
        transformed = self.dropout(self.output(gelu(self.intermediate(hidden_states))))
        return self.output_norm(hidden_states + transformed)


def audio_layer(config: MulapConfig, memory_size: int) -> TransformerLayer:
    """Make a layer of the audio stream that attends to a memory of width `memory_size`."""
    return TransformerLayer(
        config.audio_hidden_size,
        memory_size,
        config.audio_num_attention_heads,
        config.audio_intermediate_size,
        config,
    )


def text_layer(config: MulapConfig, memory_size: int) -> TransformerLayer:
    """Make a layer of the text stream that attends to a memory of width `memory_size`."""
    text = config.text_config
    return TransformerLayer(
        text.hidden_size, memory_size, text.num_attention_heads, text.intermediate_size, config
    )


class CoAttentionBlock(nn.Module):
    """One co-attention layer: each stream attends to the other."""

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        self.audio = audio_layer(config, memory_size=config.text_config.hidden_size)
        self.text = text_layer(config, memory_size=config.audio_hidden_size)

    def forward(
        self, audio: Tensor, text: Tensor, audio_mask: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map both streams; each sees the other as it was before this layer."""
        return self.audio(audio, text, text_mask), self.text(text, audio, audio_mask)


class SelfAttentionBlock(nn.Module):
    """One layer in which each stream attends to itself (`official` layout only).

    Args:
        config: the model's config.
        has_text: whether the text stream has a layer here too; without, it passes unchanged.
    """

    def __init__(self, config: MulapConfig, has_text: bool) -> None:
        super().__init__()
        self.audio = audio_layer(config, memory_size=config.audio_hidden_size)
        self.text = text_layer(config, config.text_config.hidden_size) if has_text else None

    def forward(
        self, audio: Tensor, text: Tensor, audio_mask: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map both streams, each on its own."""
        audio = self.audio(audio, audio, audio_mask)
        return audio, text if self.text is None else self.text(text, text, text_mask)


class CoAttentionStack(nn.Module):
    """All layers after the text-only ones.

        paper      co -> co
        official   co -> self -> co -> self -> self (audio only), until num_audio_layers are used

    Args:
        config: the model's config.

    Raises:
        ValueError: `official` with fewer audio layers than co-attention layers.
    """

    def __init__(self, config: MulapConfig) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        num_exchanges = config.num_coattention_layers
        for _ in range(num_exchanges):
            blocks.append(CoAttentionBlock(config))
            if config.layout == "official":
                blocks.append(SelfAttentionBlock(config, has_text=True))
        if config.layout == "official":
            num_left = config.num_audio_layers - num_exchanges
            if num_left < 0:
                raise ValueError(
                    f"num_audio_layers = {config.num_audio_layers} is below num_coattention_layers "
                    f"= {num_exchanges}: the official layout has one after each; raise it"
                )
            blocks.extend(SelfAttentionBlock(config, has_text=False) for _ in range(num_left))
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, audio: Tensor, text: Tensor, audio_mask: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Pass both streams through all layers.

        Args:
            audio: (B, 1 + T, Da), the global token first.
            text: (B, L, Dt).
            audio_mask: (B, 1 + T), nonzero where there is a segment.
            text_mask: (B, L), nonzero where there is a token.

        Returns:
            Both streams, in the same shapes.
        """
        for block in self.blocks:
            audio, text = block(audio, text, audio_mask, text_mask)
        return audio, text
