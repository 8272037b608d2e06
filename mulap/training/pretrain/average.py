"""The average track that scores of tags are compared with, beside a run's models.

    training clips, spread evenly -> backbone -> mean over segments -> joint space -> Reference

Without it `mulap tag --model RUN/best` would have nothing to compare a score with.
"""

from pathlib import Path

import numpy as np

from mulap.data.dataset import ClipDataset
from mulap.encoders.embedder import Embedder
from mulap.encoders.zero_shot import Reference
from mulap.model.config import MulapConfig

_MOST_CLIPS = 1_000


def write_average_track(folder: Path, clips: ClipDataset) -> None:
    """Write `reference.safetensors` into a model's folder, if the model has a contrastive head.

    Args:
        folder: of the model.
        clips: that it was trained on; of each the crop of epoch 0 counts, and at most 1,000 of
            them do. They may give log-mels or the features of this model's backbone.
    """
    if not MulapConfig.from_pretrained(folder).has_contrastive_head:
        return
    embedder = Embedder.from_pretrained(folder)
    chosen = np.linspace(0, len(clips) - 1, min(len(clips), _MOST_CLIPS)).astype(int)
    means = [_features(embedder, clips, index).mean(0) for index in chosen.tolist()]
    Reference.of(embedder.joint.project(np.stack(means))).save(folder)


def _features(embedder: Embedder, clips: ClipDataset, index: int) -> np.ndarray:
    """Return the features of a clip's segments, float32 (T, A)."""
    item = clips[index]
    if not clips.gives_features:
        return embedder.embed_input(item.input_features)
    return item.input_features if item.own_features is None else item.own_features
