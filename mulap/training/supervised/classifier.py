"""Backbone and classifier in one network, for training both on a task.

    log-mel (M, F, N) -> musicnn -> features (M, D) -> dropout -> hidden -> ReLU -> dropout
                                                    -> output (M, C)

The classifier is the probe's: one hidden layer. What it puts out is a logit a tag or a class, or a
number in units of the training targets' deviation; `scores` turns them into what is reported. A
saved model is a folder that `load_backbone` reads as well.
"""

import json
import os
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F

from mulap.encoders.backbones import read_audio_config
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnBackbone, MusicnnPreTrainedModel
from mulap.tasks.task import Kind

# How Hugging Face's configs name the kinds.
_PROBLEM_TYPES: dict[Kind, str] = {
    "tags": "multi_label_classification",
    "class": "single_label_classification",
    "numbers": "regression",
}


class Classifier(nn.Module):
    """Features -> outputs through one hidden layer, or none where its size is 0."""

    def __init__(
        self, num_features: int, hidden_size: int, num_outputs: int, dropout: float
    ) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.hidden = nn.Linear(num_features, hidden_size) if hidden_size else None
        self.output = nn.Linear(hidden_size or num_features, num_outputs)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Return outputs (M, C) for features (M, D). Dropout never touches an output."""
        hidden = self.dropout(features)
        if self.hidden is not None:
            hidden = self.dropout(F.relu(self.hidden(hidden)))
        return self.output(hidden)


class MusicnnClassifier(MusicnnPreTrainedModel):
    """The backbone with a classifier; `config.id2label` names its outputs.

    Args:
        config: `num_labels`, `problem_type` and `tagging_hidden_size` are the classifier's; see
            `classifier_config`.
        dropout: probability, on the classifier's input and after its ReLU; of training only, so no
            part of the config.
    """

    target_mean: torch.Tensor
    target_deviation: torch.Tensor

    def __init__(self, config: MulapAudioConfig, dropout: float = 0.0) -> None:
        super().__init__(config)
        num_labels = config.num_labels or 0
        self.backbone = MusicnnBackbone(config)
        self.classifier = Classifier(
            config.feature_size, config.tagging_hidden_size, num_labels, dropout
        )
        # Of the training targets, for `numbers`: without them the outputs mean nothing.
        self.register_buffer("target_mean", torch.zeros(num_labels))
        self.register_buffer("target_deviation", torch.ones(num_labels))
        self.post_init()

    @property
    def kind(self) -> Kind:
        """What the labels are."""
        return next(k for k, name in _PROBLEM_TYPES.items() if name == self.config.problem_type)

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        """Return outputs (M, C) for log-mels (M, F, N)."""
        return self.classifier(self.backbone(input_features))

    def compute_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean loss of a batch.

        Args:
            outputs: (M, C), of `forward`.
            targets: tags: float (M, C) of 0 and 1, binary cross-entropy; class: int64 (M,),
                cross-entropy; numbers: float (M, C) in the labels' units, squared error of the
                standardised.

        Returns:
            A scalar.
        """
        outputs = outputs.float()
        if self.kind == "tags":
            return F.binary_cross_entropy_with_logits(outputs, targets)
        if self.kind == "class":
            return F.cross_entropy(outputs, targets)
        return F.mse_loss(outputs, (targets - self.target_mean) / self.target_deviation)

    def scores(self, outputs: torch.Tensor) -> torch.Tensor:
        """Turn outputs (M, C) into probabilities, or into numbers in the labels' own units."""
        outputs = outputs.float()
        if self.kind == "tags":
            return outputs.sigmoid()
        if self.kind == "class":
            return outputs.softmax(1)
        return outputs * self.target_deviation + self.target_mean

    def standardize_targets(self, targets: np.ndarray) -> None:
        """Take mean and deviation of the training targets (n, C); a constant's deviation is 1."""
        deviation = targets.std(0)
        self.target_mean.copy_(torch.from_numpy(targets.mean(0)))
        self.target_deviation.copy_(torch.from_numpy(np.where(deviation > 0, deviation, 1.0)))


def classifier_config(
    backbone: MulapAudioConfig, kind: Kind, labels: tuple[str, ...], hidden_size: int
) -> MulapAudioConfig:
    """Make the config of a classifier on a backbone.

    Args:
        backbone: its config; not changed.
        kind: what the labels are.
        labels: in the order of the outputs.
        hidden_size: of the classifier; 0 for none.
    """
    values = backbone.to_dict()
    for name in ("architectures", "id2label", "label2id", "num_labels", "problem_type"):
        values.pop(name, None)
    return MulapAudioConfig(
        **values
        | {
            "tagging_hidden_size": hidden_size,
            "problem_type": _PROBLEM_TYPES[kind],
            "id2label": dict(enumerate(labels)),
            "label2id": {label: index for index, label in enumerate(labels)},
        }
    )


def load_classifier(folder: str | os.PathLike[str]) -> MusicnnClassifier:
    """Load a saved model; every tensor must be there, and no other.

    Args:
        folder: that a training saved, as `RUN/best`.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: it holds no such model, or not a whole one.
    """
    folder = Path(folder)
    try:
        values = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        weights = load_file(folder / "model.safetensors")
    except (OSError, ValueError, RecursionError, SafetensorError) as error:
        raise ValueError(f"{folder}: holds no whole model. Name a RUN/best folder.") from error
    values = values if isinstance(values, dict) else {}
    if MusicnnClassifier.__name__ not in (values.get("architectures") or ()):
        raise ValueError(
            f"{folder}: holds no {MusicnnClassifier.__name__}. Name a RUN/best folder."
        )
    model = MusicnnClassifier(read_audio_config(values, folder / "config.json"))
    expected = model.state_dict()
    odd = sorted(expected.keys() ^ weights.keys())
    odd += [
        name for name in expected.keys() & weights.keys()
        if expected[name].shape != weights[name].shape
    ]  # fmt: skip
    if odd:
        raise ValueError(
            f"{folder}: its weights do not fit config.json, as {odd[0]}. Copy it again."
        )
    model.load_state_dict(weights)
    return model.eval()
