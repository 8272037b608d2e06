"""The trainer of a backbone and its classifier on a task: loss, validation, schedule, early stop.

Validation is at track level, as the test: the mean over a track's segments of what the model says
of each. Every track passes alone, so a score depends neither on the batch size nor on how many
processes share the tracks.
"""

import math
import os
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn
from torch.optim import Adam
from torch.utils.data import DataLoader
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from mulap.cores import start_method
from mulap.data.dataset import as_it_is
from mulap.model.features import DYNAMIC_RANGE_DB
from mulap.tasks.metrics import HEADLINE, headline
from mulap.training.loop import KeyedTrainer, make_arguments
from mulap.training.supervised.classifier import MusicnnClassifier
from mulap.training.supervised.settings import SupervisedSettings, SupervisedTrainingSettings
from mulap.training.supervised.tracks import SegmentDataset

_SEGMENTS_AT_ONCE = 32  # bounds the memory of one pass through the model


def count_batch(training: SupervisedTrainingSettings, num_tracks: int) -> int:
    """Count the tracks of a batch in one process: as many as asked for, or less to be even.

    Of 65 tracks, batches of 64 would leave one alone, and the last batch before each validation
    moves BatchNorm's statistics by a tenth. So an epoch's batches are made nearly equal.

    Raises:
        ValueError: the processes cannot share a batch.
    """
    num_processes = int(os.environ.get("WORLD_SIZE", "1"))
    if training.batch_size % num_processes:
        raise ValueError(
            f"training.batch_size = {training.batch_size} is no multiple of {num_processes} "
            "processes: change one"
        )
    num_batches = math.ceil(num_tracks / training.batch_size)
    return math.ceil(num_tracks / num_batches / num_processes)


def supervised_arguments(
    settings: SupervisedSettings, run: Path, num_tracks: int, metric: str
) -> TrainingArguments:
    """Turn the settings into the Trainer's arguments.

    Args:
        settings: of the run.
        run: its folder.
        num_tracks: of the training split.
        metric: the validation metric, of which more is better.

    Raises:
        ValueError: see `count_batch`, and bf16 where there is no accelerator.
    """
    training = settings.training
    num_workers = 0 if settings.data.cache_features else settings.data.num_workers
    return make_arguments(
        training,
        run,
        num_workers,
        per_device_train_batch_size=count_batch(training, num_tracks),
        lr_scheduler_type="reduce_lr_on_plateau",
        lr_scheduler_kwargs={
            "mode": "max",
            "factor": training.plateau_factor,
            "patience": training.plateau_patience,
            "threshold": 0.0,  # anything better is better, also below zero
        },
        metric_for_best_model=f"eval_{metric}",
        greater_is_better=True,
        ddp_find_unused_parameters=False,
    )


@torch.no_grad()
def predict_tracks(
    model: MusicnnClassifier, dataset: SegmentDataset, num_workers: int = 0
) -> np.ndarray:
    """Score tracks: the mean over each one's segments of probabilities, or of numbers.

    Args:
        model: moved nowhere; put in evaluation mode and back.
        dataset: the tracks.
        num_workers: processes that decode.

    Returns:
        float32 (n, C).
    """
    was_training = model.training
    model.eval()
    loader = DataLoader(
        dataset,
        batch_size=None,
        collate_fn=as_it_is,
        num_workers=num_workers,
        multiprocessing_context=start_method() if num_workers else None,
    )
    rows = np.empty((len(dataset), model.config.num_labels or 0), np.float32)
    for index, segments in enumerate(loader):
        parts = torch.from_numpy(segments).split(_SEGMENTS_AT_ONCE)
        scores = [model.scores(model(part.to(model.device))).double().sum(0) for part in parts]
        rows[index] = (torch.stack(scores).sum(0) / len(segments)).cpu().numpy()
    model.train(was_training)
    return rows


class SupervisedTrainer(KeyedTrainer):
    """The Trainer with a task's loss, Adam and track-level validation.

    Args:
        settings: of the run.
        pretrained: names of the parameters that a start checkpoint brought.
        valid: the tracks that the best checkpoint is chosen by.
        valid_targets: bool (n_valid, C), int (n_valid,) or float (n_valid, C).
        **kwargs: of `Trainer`.
    """

    def __init__(
        self,
        settings: SupervisedSettings,
        pretrained: set[str],
        valid: SegmentDataset,
        valid_targets: np.ndarray,
        **kwargs: Any,
    ) -> None:
        self.settings = settings
        self.valid = valid
        self.valid_targets = valid_targets
        kwargs |= {"eval_dataset": valid, "optimizer_cls_and_kwargs": (Adam, {})}
        super().__init__(settings.training, pretrained, **kwargs)

    @property
    def classifier(self) -> MusicnnClassifier:
        """The model without what wraps it."""
        return cast(MusicnnClassifier, self.accelerator.unwrap_model(self.model))

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Return the mean loss of a batch of crops."""
        log_mels, config = inputs["input_features"], self.classifier.config
        if config.variant == "port" and config.db_reference == "batch":
            log_mels = torch.maximum(log_mels, log_mels.max() - DYNAMIC_RANGE_DB)
        outputs = model(log_mels)
        loss = self.classifier.compute_loss(outputs, inputs["targets"])
        return (loss, outputs) if return_outputs else loss

    def predict_shared(self, dataset: SegmentDataset, model: MusicnnClassifier) -> np.ndarray:
        """Score tracks (n, C); the processes share them, and each gets all scores."""
        tracks = dataset.tracks[self.processes.rank :: self.processes.count]
        share = SegmentDataset(dataset.audio, tracks, dataset.num_segments)
        cached = dataset.audio.log_mels is not None
        num_workers = 0 if cached else self.settings.data.num_workers
        rows = predict_tracks(model, share, num_workers)
        return np.stack(self.processes.gather_shares(list(rows), len(dataset)))

    def measure(self, model: Any) -> dict[str, float]:
        """Score the validation tracks by the task's first metric."""
        scores = self.predict_shared(self.valid, model)
        value = headline(model.kind, self.valid_targets, scores[None])[0]
        return {HEADLINE[model.kind]: float(value)}


def validation_scores(state: TrainerState, metric: str) -> list[float]:
    """Return what each validation of a run found, in order, from its log."""
    name = f"eval_{metric}"
    return [float(record[name]) for record in state.log_history if name in record]


def is_out_of_patience(scores: list[float], stop_patience: int) -> bool:
    """Whether the best of some scores is `stop_patience` validations old or older."""
    return bool(scores) and len(scores) - 1 - int(np.argmax(scores)) >= stop_patience


class StopCallback(TrainerCallback):
    """Stops a run out of patience. It looks at the log alone, so a resumed run stops alike.

    Args:
        metric: the validation metric.
        stop_patience: see `SupervisedTrainingSettings`.
    """

    def __init__(self, metric: str, stop_patience: int) -> None:
        self.metric = metric
        self.stop_patience = stop_patience

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop after this epoch, whose checkpoint is still written."""
        scores = validation_scores(state, self.metric)
        if is_out_of_patience(scores, self.stop_patience):
            control.should_training_stop = True
