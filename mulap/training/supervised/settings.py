"""Settings of a supervised training: YAML -> dataclasses, checked before anything is loaded.

The defaults are the paper's downstream settings (section 3.2), which are the probe's too, with the
backbone trained as well. How a file is read is told in `mulap.settings`.
"""

import os
from dataclasses import dataclass, field
from typing import Any, Literal

from mulap.settings import build_settings, read_settings


@dataclass(frozen=True)
class SupervisedModelSettings:
    """The backbone, which a start checkpoint brings itself, and the classifier on it.

    Attributes:
        audio_variant: musicnn's, `port` or `original`; a start checkpoint has its own.
        audio_width: share of musicnn's filters to use, 1.0 is musicnn; a start checkpoint has its
            own.
        hidden_size: width of the classifier's one hidden layer; 0 for none, a linear classifier.
        dropout: probability, on the classifier's input and after its ReLU; never on its output.
    """

    audio_variant: Literal["port", "original"] = "port"
    audio_width: float = 1.0
    hidden_size: int = 512
    dropout: float = 0.0


@dataclass(frozen=True)
class SupervisedDataSettings:
    """Which parts of the tracks are read.

    Attributes:
        valid_segments: most segments of a validation track, from its middle; 0 for all, as the
            paper. For tracks of minutes, all of which would be decoded for every validation.
        cache_features: keep the log-mels of all segments in memory, 72 KB per segment, so that no
            epoch decodes anything; a crop is then one of these segments, not any 3 seconds.
        num_workers: processes that decode.
    """

    valid_segments: int = 0
    cache_features: bool = False
    num_workers: int = 2


@dataclass(frozen=True)
class SupervisedTrainingSettings:
    """The optimisation; patience is counted in validations.

    Attributes:
        batch_size: tracks per step, over all processes. Where an epoch does not divide by it, the
            batches are made nearly equal, none larger than this.
        num_epochs: most epochs; in each, one random crop of every track is used.
        learning_rate: Adam's learning rate.
        pretrained_lr_scale: factor for the backbone of a start checkpoint.
        weight_decay: Adam's, that is an L2 term of the gradient, on matrices and kernels only.
        plateau_factor: what the learning rate is multiplied with on a plateau.
        plateau_patience: validations without a better score; one more is a plateau.
        stop_patience: validations without a better score after which training stops.
        max_grad_norm: gradients are clipped to it; 0 does not clip.
        precision: `fp32`, or `bf16` on a GPU.
        seed: random seed of weights, order, crops and dropout.
        evaluate_every_epochs: validation and a checkpoint every N epochs.
        save_every_steps: a checkpoint every N steps within an epoch too; 0 for none.
        log_every_steps: steps between two lines of the log.
        report_to: `tensorboard`, `wandb`, both or none.
        fused_front_end: train musicnn's front end the fast way where that is possible.
        sync_batch_norm: as in pre-training: statistics over the batches of all processes.
    """

    batch_size: int = 64
    num_epochs: int = 200
    learning_rate: float = 1e-3
    pretrained_lr_scale: float = 1.0
    weight_decay: float = 0.01
    plateau_factor: float = 0.5
    plateau_patience: int = 10
    stop_patience: int = 50
    max_grad_norm: float = 0.0
    precision: Literal["fp32", "bf16"] = "fp32"
    seed: int = 0
    evaluate_every_epochs: int = 1
    save_every_steps: int = 0
    log_every_steps: int = 50
    report_to: list[str] = field(default_factory=lambda: ["tensorboard"])
    fused_front_end: bool = True
    sync_batch_norm: bool = True


@dataclass(frozen=True)
class SupervisedSettings:
    """Everything a supervised training is told, but the task."""

    model: SupervisedModelSettings = field(default_factory=SupervisedModelSettings)
    data: SupervisedDataSettings = field(default_factory=SupervisedDataSettings)
    training: SupervisedTrainingSettings = field(default_factory=SupervisedTrainingSettings)


def load_supervised_settings(
    path: str | os.PathLike[str] | None, overrides: list[str] | None = None
) -> SupervisedSettings:
    """Read settings from a YAML file.

    Args:
        path: the file; None for the defaults, the paper's.
        overrides: `section.key=value`, applied last, with YAML's notation for values.

    Raises:
        ValueError: the file cannot be read, a key is not known, or a value cannot be.
    """
    settings = read_settings(SupervisedSettings, path, overrides)
    _check_ranges(settings, where=str(path or "the settings"))
    return settings


def make_supervised_settings(values: Any, where: str) -> SupervisedSettings:
    """Make settings of a dictionary of sections, as a part of another YAML file gives them.

    Args:
        values: section -> key -> value.
        where: the file and its part, for messages.

    Raises:
        ValueError: a key is not known, or a value cannot be.
    """
    settings = build_settings(SupervisedSettings, values, where)
    _check_ranges(settings, where)
    return settings


def _check_ranges(settings: SupervisedSettings, where: str) -> None:
    training = settings.training
    for name in ("batch_size", "num_epochs", "stop_patience", "evaluate_every_epochs"):
        _require(getattr(training, name) >= 1, where, f"training.{name}", "1 up")
    for name in ("plateau_patience", "save_every_steps", "seed"):
        _require(getattr(training, name) >= 0, where, f"training.{name}", "0 up")
    is_factor = 0 < training.plateau_factor < 1
    _require(is_factor, where, "training.plateau_factor", "more than 0, below 1")
    _require(training.learning_rate > 0, where, "training.learning_rate", "more than 0")
    _require(settings.model.hidden_size >= 0, where, "model.hidden_size", "0 up")
    _require(0 <= settings.model.dropout < 1, where, "model.dropout", "0 up, below 1")
    _require(settings.model.audio_width > 0, where, "model.audio_width", "more than 0")
    _require(settings.data.valid_segments >= 0, where, "data.valid_segments", "0 up")


def _require(is_good: bool, where: str, name: str, remedy: str) -> None:
    if not is_good:
        raise ValueError(f"{where}: '{name}' is out of range: give {remedy}")
