"""Evaluating a finished run on a held-out split, beside the model that it started from.

What a number is worth is only seen next to chance and to the untrained model, so both come with it.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mulap.data.clips import CaptionPool, Clip
from mulap.data.dataset import ClipDataset
from mulap.data.reader import LENGTHS_FILE
from mulap.encoders.devices import choose_device, computing_on
from mulap.encoders.embedder import Embedder
from mulap.files import FailureLog
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor
from mulap.tasks.bootstrap import bootstrap_interval
from mulap.terminal import warn
from mulap.training.checkpoints import SETTINGS_FILE
from mulap.training.pretrain.evaluate import Evaluation, evaluate
from mulap.training.pretrain.features import features_folder, use_cached_features
from mulap.training.pretrain.initial import describe_unknown_words, initial_model, load_model
from mulap.training.pretrain.retrieval import RECALL_AT
from mulap.training.pretrain.run import read_clips
from mulap.training.pretrain.settings import PretrainSettings, load_settings
from mulap.training.pretrain.trainer import evaluation_collator, held_out_clips

#: Log-mels of a split that are kept for the untrained model; larger splits are decoded again.
MOST_KEPT_BYTES = 2 * 2**30


@dataclass
class RunEvaluation:
    """Evaluations of one split.

    Attributes:
        split: which.
        num_clips: of the split that could be used.
        trained: the run's model.
        untrained: the model that training started from.
        failures: rows and files that could not be used.
    """

    split: str
    num_clips: int
    trained: Evaluation
    untrained: Evaluation | None
    failures: list[tuple[str, str]]

    def as_dict(self) -> dict[str, object]:
        """Return all figures as plain values for JSON, with 95% bootstrap intervals over groups."""
        figures: dict[str, object] = {"split": self.split, "num_clips": self.num_clips}
        for name, evaluation in (("trained", self.trained), ("untrained", self.untrained)):
            if evaluation is None:
                continue
            values: dict[str, object] = dict(evaluation.metrics)
            groups = evaluation.groups
            if len(evaluation.pair_accuracy):
                interval = bootstrap_interval(evaluation.pair_accuracy, groups)
                values["atm/pair_accuracy/95%"] = interval
            for head, ranks in evaluation.ranks.items():
                for k in RECALL_AT:
                    is_found = (ranks <= k).astype(float)
                    interval = bootstrap_interval(is_found, evaluation.groups_of(head))
                    values[f"retrieval/{head}/R@{k}/95%"] = interval
            if evaluation.ranks:
                values["retrieval/groups"] = len(np.unique(groups))
                values["retrieval/captions"] = len(evaluation.caption_groups)
            figures[name] = values
        return figures


def locate_model(path: Path) -> Path:
    """Return the model folder of a run (its best) or of a checkpoint.

    Raises:
        ValueError: the folder holds no model.
    """
    for folder in (path, path / "best"):
        if (folder / "model.safetensors").is_file() and (folder / "config.json").is_file():
            return folder
    raise ValueError(f"{path}: holds no model: name a run folder, or a checkpoint in it")


def locate_run(model: Path) -> Path:
    """Return the folder of the run that a model folder belongs to, where its settings are.

    Raises:
        ValueError: there are none, in it or above it.
    """
    for folder in (model, model.parent):
        if (folder / SETTINGS_FILE).is_file():
            return folder
    raise ValueError(
        f"{model}: has no {SETTINGS_FILE} in it or above it: keep the model in its run's folder"
    )


def evaluate_run(
    path: str | os.PathLike[str],
    data: str | os.PathLike[str],
    split: str = "test",
    with_untrained: bool = True,
    pool: int = 200,
    device: str = "cpu",
    cache_folder: str | os.PathLike[str] | None = None,
    per_group: int = 1,
    asks_all: bool = False,
) -> RunEvaluation:
    """Evaluate a run's model on a split, and the model it started from.

    Clips are read as a run reads its validation clips, see `held_out_clips`. With random crops, the
    lengths of files that are new to the run are added to its `lengths.json` if it can be written.

    Args:
        path: the run's folder, or a checkpoint in it.
        data: the corpus.
        split: train, valid or test.
        with_untrained: evaluate the untrained model as well.
        pool: most clips among which pairs and retrieval are measured.
        device: as torch names it, or `auto`.
        cache_folder: as `read_manifest` takes it.
        per_group: most clips of one group among them.
        asks_all: retrieval asks for every caption of a clip, not for one.

    Returns:
        RunEvaluation.

    Raises:
        ValueError: no model, no settings, no such device, or no clip that can be used.
    """
    device = choose_device(device)
    folder = locate_model(Path(path))
    run = locate_run(folder)
    settings = load_settings(run / SETTINGS_FILE)
    failures = FailureLog(folder / "failures.jsonl")
    manifest = read_clips(settings, data, failures, cache_folder)
    model, processor = load_model(folder)
    clips = manifest.split(split)
    embedder = None
    if "backbone" in settings.model.freeze:  # the untrained model has the same one
        embedder = Embedder(model.mulap.audio_backbone, "frozen", device)
    dataset, num_workers = _make_dataset(settings, clips, processor, failures, run, embedder)
    if not len(dataset):
        raise ValueError(f"{data}: no clip of the {split} split can be used: name another --split")
    captions = CaptionPool(clips)
    if unknown := describe_unknown_words(processor.tokenizer, captions):
        warn(unknown)
    with computing_on(device):
        how = dataset, settings, pool, num_workers, per_group, asks_all
        model.to(device)  # pyright: ignore[reportArgumentType] (a decorator hides its type)
        evaluations = [_evaluate(model, processor, *how)]
        if with_untrained:
            captions = CaptionPool(manifest.split("train"))
            untrained, own, _ = initial_model(settings.model, captions, settings.training.seed)
            untrained.to(device)  # pyright: ignore[reportArgumentType] (a decorator hides its type)
            evaluations.append(_evaluate(untrained, own, *how))
    trained, *rest = evaluations
    return RunEvaluation(split, len(dataset), trained, rest[0] if rest else None, failures.failures)


def _make_dataset(
    settings: PretrainSettings,
    clips: Sequence[Clip],
    processor: MulapProcessor,
    failures: FailureLog,
    run: Path,
    embedder: Embedder | None,
) -> tuple[ClipDataset, int]:
    """Return the data set, and how many processes are to decode when it is read again.

    Random crops need the run's file of lengths: those in it are not measured again. With an
    embedder, of a frozen backbone, features are read from where the run keeps them, as in its
    validation; a batch as large as such runs have would not fit into memory as log-mels.
    """
    extractor = processor.feature_extractor
    dataset = held_out_clips(settings, clips, extractor)
    if embedder:
        for clip, reason in use_cached_features(dataset, embedder, features_folder(settings, run)):
            failures.add(clip.audio_path, reason)
        return dataset, 0
    lengths = run / LENGTHS_FILE
    segment_bytes = 4 * extractor.num_mel_bins * extractor.num_frames
    num_bytes = len(clips) * dataset.reader.num_segments * segment_bytes
    keep = settings.data.crop == "start" and num_bytes <= MOST_KEPT_BYTES
    for clip, reason in dataset.verify(settings.data.num_workers, keep, lengths):
        failures.add(clip.audio_path, reason)
    return dataset, 0 if keep else settings.data.num_workers


def _evaluate(
    model: MulapForPreTraining,
    processor: MulapProcessor,
    dataset: ClipDataset,
    settings: PretrainSettings,
    pool: int,
    num_workers: int,
    per_group: int,
    asks_all: bool,
) -> Evaluation:
    collator = evaluation_collator(settings, processor)
    how = settings.objectives, settings.training.micro_batch_size, pool, num_workers
    return evaluate(model, dataset, collator, *how, per_group=per_group, asks_all=asks_all)
