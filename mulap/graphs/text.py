"""The text model, the co-attention and the heads on both, as `mulap.model` computes them.

Legend: B clips, C captions, P pairs of them, T segments, L tokens, A features of a segment, Da and
Dt the widths of the audio and text streams, V words of the vocabulary, K layers, H heads.
"""

from typing import Any, NamedTuple

import numpy as np

from mulap.graphs.build import FLOAT, Graph

_HIDDEN = np.float32(np.finfo(np.float32).min)  # a score of what may not be attended to
_LEAST_NORM = np.float32(1e-12)  # as torch's `normalize` takes it


class _Names(NamedTuple):
    """Where a transformer layer's weights are, after the layer's own name."""

    query: str
    key: str
    value: str
    output: str
    attention_norm: str
    intermediate: str
    widened: str
    output_norm: str


_OURS = _Names(
    query="attention.query",
    key="attention.key",
    value="attention.value",
    output="attention.output",
    attention_norm="attention_norm",
    intermediate="intermediate",
    widened="output",
    output_norm="output_norm",
)
_BERT = _Names(
    query="attention.self.query",
    key="attention.self.key",
    value="attention.self.value",
    output="attention.output.dense",
    attention_norm="attention.output.LayerNorm",
    intermediate="intermediate.dense",
    widened="output.dense",
    output_norm="output.LayerNorm",
)


def add_linear(graph: Graph, x: str, name: str) -> str:
    """Add torch's Linear: x (..., inputs) -> (..., outputs)."""
    weight = graph.Transpose(graph.weight(f"{name}.weight"), perm=[1, 0])
    return graph.Add(graph.MatMul(x, weight), graph.weight(f"{name}.bias"))


def add_unit_length(graph: Graph, x: str) -> str:
    """Scale rows (M, D) to length 1."""
    length = graph.ReduceL2(x, np.array([-1]), keepdims=1)
    return graph.Div(x, graph.Max(length, _LEAST_NORM))


def add_feature_norm(graph: Graph, features: str, config: Any) -> str:
    """Add `FeatureNorm`: features (..., A) -> (..., A)."""
    if config.feature_norm == "none":
        return features
    spread = graph.Add(graph.weight("feature_norm.norm.running_var"), np.float32(1e-5))
    centred = graph.Sub(features, graph.weight("feature_norm.norm.running_mean"))
    return graph.Div(centred, graph.Sqrt(spread))


def add_projection(graph: Graph, features: str, config: Any) -> str:
    """Add the audio's way into the joint space: features (M, A) -> points (M, D)."""
    x = add_feature_norm(graph, features, config)
    names = ["audio_projection", *(f"audio_projection.{index}" for index in range(8))]
    names = [name for name in names if graph.has(f"{name}.weight")]
    for index, name in enumerate(names):
        x = add_linear(graph, graph.Gelu(x) if index else x, name)
    return add_unit_length(graph, x)


def add_tagging_head(graph: Graph, features: str, eps: float) -> str:
    """Add `TaggingHead` and a sigmoid: features (M, A) -> (M, tags)."""
    x = _norm_batch(graph, features, "head.feature_bn", eps)
    x = graph.Relu(add_linear(graph, x, "head.hidden"))
    x = _norm_batch(graph, x, "head.hidden_bn", eps)
    return graph.Sigmoid(add_linear(graph, x, "head.output"))


def _norm_batch(graph: Graph, x: str, name: str, eps: float) -> str:
    weights = [graph.weight(f"{name}.{each}") for each in ("weight", "bias")]
    centred = graph.Sub(x, graph.weight(f"{name}.running_mean"))
    deviation = graph.Sqrt(graph.Add(graph.weight(f"{name}.running_var"), np.float32(eps)))
    return graph.Add(graph.Mul(graph.Div(centred, deviation), weights[0]), weights[1])


def add_text_model(graph: Graph, ids: str, mask: str, config: Any) -> tuple[str, str]:
    """Add the text model.

    Args:
        graph: to add to.
        ids: of tokens, int64 (C, L).
        mask: 1 where there is a token, int64 (C, L).
        config: of the model.

    Returns:
        Points of the joint space (C, D), and the text-only layers' states (C, L, Dt).
    """
    text, embeddings = config.text_config, "text_encoder.embeddings"
    length = graph.Shape(ids, start=1, end=2)
    places = graph.Range(np.array(0), graph.Squeeze(length), np.array(1))
    words, positions = (
        graph.Cast(
            graph.Gather(graph.weight(f"{embeddings}.{name}.weight", as_stored=True), rows),
            to=FLOAT,
        )
        for name, rows in (("word_embeddings", ids), ("position_embeddings", places))
    )
    kinds = graph.Gather(graph.weight(f"{embeddings}.token_type_embeddings.weight"), np.array(0))
    x = graph.Add(graph.Add(words, kinds), positions)
    x = _norm_layer(graph, x, f"{embeddings}.LayerNorm", text.layer_norm_eps)
    is_token = graph.Greater(mask, np.array(0))
    heads = text.num_attention_heads
    for index in range(text.num_hidden_layers):
        layer = _Layer(graph, f"text_encoder.encoder.layer.{index}.", heads, text, _BERT)
        x, _ = layer.add(x, x, is_token)
    states = x
    if config.text_pooling == "mean":
        for index in range(config.num_upper_text_layers):
            layer = _Layer(graph, f"upper_text.{index}.", heads, config)
            x, _ = layer.add(x, x, is_token)
        pooled = _valid_mean(graph, x, graph.Cast(is_token, to=FLOAT))
    else:
        pooled = graph.Gather(x, np.array(0), axis=1)
    if config.has_text_projection:
        pooled = add_linear(graph, pooled, "text_projection")
    return add_unit_length(graph, pooled), states


class Fused(NamedTuple):
    """What `add_matching` gives.

    Attributes:
        log_odds: of a match (P,).
        words: states of the text stream (P, L, Dt).
        of_words: attention from each token to the track and its segments (P, K, H, L, 1 + T).
        of_audio: from the track and its segments to each token (P, K, H, 1 + T, L).
    """

    log_odds: str
    words: str
    of_words: str
    of_audio: str


def add_matching(graph: Graph, config: Any) -> Fused:
    """Add the co-attention and the matching head.

    Its inputs are `features` (B, T, A); `is_segment` and `is_hidden`, bool (B, T); `states`
    (C, L, Dt) and `mask` (C, L) of sentences; `clip` and `caption`, int64 (P,), of each pair.
    """
    axis = np.array([-1])
    is_segment = graph.Cast("is_segment", to=FLOAT)
    is_seen = graph.Mul(is_segment, graph.Cast(graph.Not("is_hidden"), to=FLOAT))
    features = add_feature_norm(graph, "features", config)
    seen = graph.Mul(features, graph.Unsqueeze(is_seen, axis))
    counted = is_seen if config.global_token == "unmasked" else is_segment
    track = graph.Unsqueeze(_valid_mean(graph, features, counted), np.array([1]))
    audio = add_linear(graph, graph.Concat(track, seen, axis=1), "audio_embeddings.projection")
    last = graph.Squeeze(graph.Shape(audio, start=1, end=2))
    places = graph.Range(np.array(0), last, np.array(1))
    audio = graph.Add(
        audio, graph.Gather(graph.weight("audio_embeddings.positions.weight"), places)
    )
    audio = _norm_layer(graph, audio, "audio_embeddings.norm", config.layer_norm_eps)
    # The global token is always there.
    whole = graph.Cast(graph.Slice("is_segment", *map(np.array, ([0], [1], [1]))), to=FLOAT)
    audio_mask = graph.Concat(graph.Greater(whole, np.float32(-1)), "is_segment", axis=1)
    text_mask = graph.Greater("mask", np.array(0))
    audio, audio_mask = (graph.Gather(each, "clip") for each in (audio, audio_mask))
    text, text_mask = (graph.Gather(each, "caption") for each in ("states", text_mask))
    of_words, of_audio = [], []
    for index, kind in enumerate(_blocks(config)):
        name = f"coattention.blocks.{index}."
        of_a = _Layer(graph, f"{name}audio.", config.audio_num_attention_heads, config)
        of_t = _Layer(graph, f"{name}text.", config.text_config.num_attention_heads, config)
        if kind == "co":
            before = audio
            audio, to_text = of_a.add(audio, text, text_mask)
            text, to_audio = of_t.add(text, before, audio_mask)
            of_words.append(graph.Unsqueeze(to_audio, np.array([1])))
            of_audio.append(graph.Unsqueeze(to_text, np.array([1])))
        else:
            audio, _ = of_a.add(audio, audio, audio_mask)
            if kind == "self":
                text, _ = of_t.add(text, text, text_mask)
    first = np.array(0)
    heard, read = graph.Gather(audio, first, axis=1), graph.Gather(text, first, axis=1)
    log_odds = _add_atm_head(graph, heard, read, config)
    to_audio, to_text = (graph.Concat(*each, axis=1) for each in (of_words, of_audio))
    return Fused(log_odds, text, of_words=to_audio, of_audio=to_text)


def _blocks(config: Any) -> list[str]:
    """Return the layers of `CoAttentionStack`, of both streams or of the audio's alone."""
    num_exchanges = config.num_coattention_layers
    if config.layout == "paper":
        return ["co"] * num_exchanges
    return ["co", "self"] * num_exchanges + ["audio"] * (config.num_audio_layers - num_exchanges)


def _add_atm_head(graph: Graph, audio: str, text: str, config: Any) -> str:
    if config.atm_head == "pooler":
        audio = graph.Tanh(add_linear(graph, audio, "atm_head.audio.0"))
        text = graph.Tanh(add_linear(graph, text, "atm_head.text.0"))
    elif graph.has("atm_head.audio.weight"):
        audio = add_linear(graph, audio, "atm_head.audio")
    score = add_linear(graph, graph.Mul(audio, text), "atm_head.score")
    return graph.Squeeze(score, np.array([1]))


class _Layer:
    """A transformer layer, see `mulap.model.coattention.TransformerLayer`."""

    def __init__(
        self, graph: Graph, prefix: str, num_heads: int, config: Any, names: _Names = _OURS
    ) -> None:
        self.graph, self.num_heads, self.eps = graph, num_heads, config.layer_norm_eps
        self.names = _Names._make(prefix + name for name in names)

    def add(self, x: str, memory: str, is_memory: str) -> tuple[str, str]:
        """Map x (P, L, D) and a memory (P, S, E), bool (P, S), to x and its attention."""
        graph, names = self.graph, self.names
        query = self._share(add_linear(graph, x, names.query), [0, 2, 1, 3])
        key = self._share(add_linear(graph, memory, names.key), [0, 2, 3, 1])
        value = self._share(add_linear(graph, memory, names.value), [0, 2, 1, 3])
        size = graph.shape(f"{names.query}.weight")[0] // self.num_heads
        scores = graph.Mul(graph.MatMul(query, key), np.float32(size**-0.5))
        shown = graph.Unsqueeze(is_memory, np.array([1, 2]))
        attention = graph.Softmax(graph.Where(shown, scores, _HIDDEN), axis=-1)
        context = graph.Transpose(graph.MatMul(attention, value), perm=[0, 2, 1, 3])
        context = graph.Reshape(context, np.array([0, 0, -1]))
        x = graph.Add(x, add_linear(graph, context, names.output))
        x = _norm_layer(graph, x, names.attention_norm, self.eps)
        wide = graph.Gelu(add_linear(graph, x, names.intermediate))
        x = graph.Add(x, add_linear(graph, wide, names.widened))
        return _norm_layer(graph, x, names.output_norm, self.eps), attention

    def _share(self, states: str, order: list[int]) -> str:
        shared = self.graph.Reshape(states, np.array([0, 0, self.num_heads, -1]))
        return self.graph.Transpose(shared, perm=order)


def add_words(graph: Graph, states: str, config: Any) -> str:
    """Add the masked-word head: states (N, Dt) -> scores (N, V)."""
    x = graph.Gelu(add_linear(graph, states, "mlm_head.transform"))
    x = _norm_layer(graph, x, "mlm_head.norm", config.text_config.layer_norm_eps)
    words = "mlm_head.decoder.weight"
    if not graph.has(words):
        words = "text_encoder.embeddings.word_embeddings.weight"  # which it shares
    return graph.Gemm(x, graph.weight(words), graph.weight("mlm_head.decoder.bias"), transB=1)


def _norm_layer(graph: Graph, x: str, name: str, eps: float) -> str:
    weights = [graph.weight(f"{name}.{each}") for each in ("weight", "bias")]
    return graph.LayerNormalization(x, *weights, epsilon=eps, axis=-1)


def _valid_mean(graph: Graph, values: str, is_counted: str) -> str:
    """Mean over the second dimension of (B, T, D) of what counts, float32 (B, T)."""
    weights = graph.Unsqueeze(is_counted, np.array([-1]))
    total = graph.ReduceSum(graph.Mul(values, weights), np.array([1]), keepdims=0)
    count = graph.ReduceSum(is_counted, np.array([1]), keepdims=1)
    return graph.Div(total, graph.Max(count, np.float32(1)))
