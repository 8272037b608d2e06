"""A task without training: its labels as tags, scored by the space that audio and text share.

    label -> its phrases, by default itself -> sentences -> a point
    track -> the mean of its segments' features -> a point -> a score for each label

A track of a class gets the label of the highest score; tags are compared with `zero_shot.YES`.
"""

import csv
import hashlib
import os
from collections.abc import Mapping, Sequence

import numpy as np

from mulap.embedding.cache import cache_vectors
from mulap.encoders.embedder import Embedder
from mulap.encoders.encoder import Encoder
from mulap.encoders.load import encoder_sha256
from mulap.encoders.zero_shot import TEMPLATES, YES, ZeroShot
from mulap.probing.pair import Backbone, Judged, Pair, ProbeOptions
from mulap.tasks.result import Predictions
from mulap.tasks.task import TaskData
from mulap.vectors.keys import file_name

ZERO_SHOT = "zero-shot"
"""The protocol that rows name."""

Phrases = Mapping[str, Sequence[str]]


def read_phrases(path: str | os.PathLike[str]) -> dict[str, list[str]]:
    """Read a CSV file without a header: a label and its phrases in each row.

    Raises:
        ValueError: a label has no phrase, or is there twice.
    """
    phrases: dict[str, list[str]] = {}
    with open(path, encoding="utf-8-sig", newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            label, *found = (cell.strip() for cell in row or [""])
            if row and (label in phrases or not any(found)):
                reason = "is there twice" if label in phrases else "has no phrase"
                raise ValueError(f"{path}: row {number}: '{label}' {reason}. Give each one row.")
            if row:
                phrases[label] = [phrase for phrase in found if phrase]
    return phrases


def zero_shot_pair(
    data: TaskData,
    backbone: Backbone,
    options: ProbeOptions,
    encoder: Encoder,
    phrases: Phrases | None = None,
) -> Pair:
    """Make the pair of a task and an encoder that shares a space with text; nothing is run yet.

    Args:
        data: a task of tags or of a class.
        backbone: how the encoder is called.
        options: the cache, of the backbone's features, which a probe shares.
        encoder: in the space `backbone`.
        phrases: label -> what is asked instead of its name.

    Raises:
        ValueError: the labels are numbers, a phrase is of no label, or the encoder has no text.
    """
    task = data.task
    if task.kind == "numbers":
        raise ValueError(f"{task.title}: has numbers for labels. Zero-shot needs tags or classes.")
    phrases = phrases or {}
    if unknown := [label for label in phrases if label not in task.labels]:
        raise ValueError(
            f"there is no label '{unknown[0]}'. Give phrases of {task.title}'s labels."
        )
    asked = {label: list(phrases.get(label, [label.replace("_", " ")])) for label in task.labels}
    scorer = _ask(encoder, asked)
    assert isinstance(encoder, Embedder)  # the others were refused
    weights = encoder_sha256(encoder.in_joint_space())

    def judge() -> Judged:
        return _judge(data, options, encoder, scorer, weights)

    reference = hashlib.sha256(scorer.reference.factor.tobytes()).hexdigest()
    recipe = [asked, TEMPLATES, YES, reference]
    return Pair(data, backbone, ZERO_SHOT, [0], weights, recipe, judge)


def _ask(encoder: Encoder, asked: Phrases) -> ZeroShot:
    """Return what scores labels, each by the mean of its phrases' points."""
    scorer = encoder.zero_shot([phrase for each in asked.values() for phrase in each])
    points = dict(zip(scorer.tags, scorer.points, strict=True))
    own = [np.mean([points[" ".join(p.split())] for p in each], 0) for each in asked.values()]
    return ZeroShot(tuple(asked), np.stack(own), scorer.reference, scorer.unknown)


def _judge(
    data: TaskData,
    options: ProbeOptions,
    encoder: Embedder,
    scorer: ZeroShot,
    weights: str,
) -> Judged:
    tested = np.unique(np.concatenate([fold.test for fold in data.folds]))
    paths = [data.audio_path(index) for index in tested]
    cached = cache_vectors(paths, encoder, options.cache)
    left_out = [(file_name(paths[place]), reason) for place, reason in cached.reasons.items()]
    is_used = cached.counts > 0
    if not is_used.any():
        raise ValueError(f"no test track of {data.task.name} can be used. Check the files.")
    means = [
        cached.vectors[np.arange(start, start + count)].mean(0, dtype=np.float64)
        for start, count in zip(cached.starts[is_used], cached.counts[is_used], strict=True)
    ]
    scores = scorer.score(encoder.joint.project(np.stack(means).astype(np.float32)))[None]
    decisions = scores >= YES if data.task.kind == "tags" else None
    predictions = Predictions.of_tracks(data, tested[is_used], scores, decisions)
    num_used = {"train": 0, "valid": 0, "test": int(is_used.sum())}
    return Judged(predictions, [], num_used, sorted(left_out), weights)
