"""One run of a supervised training: one fold, one seed, one folder.

    given -> trainer -> checkpoints -> best -> outputs for the test tracks

Which runs there are, and what becomes of their outputs, `supervised` knows.
"""

import hashlib
import json
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PrinterCallback, TrainerState

from mulap.data.reader import Tracks
from mulap.data.splits import SPLITS
from mulap.encoders.backbones import RANDOM, hash_weights
from mulap.files import FailureLog
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnBackbone
from mulap.tasks.metrics import HEADLINE, choose_thresholds, decide
from mulap.tasks.task import Fold, TaskData
from mulap.terminal import say
from mulap.training.checkpoints import (
    claim_run,
    export_models,
    hold_run,
    remove_incomplete,
)
from mulap.training.loop import RunCallback, newest_checkpoint, speed_up
from mulap.training.processes import fail_together, joined_processes
from mulap.training.progress import ProgressCallback
from mulap.training.supervised.classifier import (
    MusicnnClassifier,
    classifier_config,
    load_classifier,
)
from mulap.training.supervised.settings import SupervisedSettings
from mulap.training.supervised.tracks import CropDataset, SegmentDataset
from mulap.training.supervised.trainer import (
    StopCallback,
    SupervisedTrainer,
    is_out_of_patience,
    supervised_arguments,
    validation_scores,
)


@dataclass(frozen=True)
class FoldInput:
    """What a run is given, but its settings and folder.

    Attributes:
        data: the task.
        fold: of it, without tracks that cannot be decoded.
        audio: of all tracks.
        backbone: config of the backbone.
        start: whose weights it starts from; None for random ones.
        failures: the tracks left out.
    """

    data: TaskData
    fold: Fold
    audio: Tracks
    backbone: MulapAudioConfig
    start: MusicnnBackbone | None
    failures: FailureLog


@dataclass(frozen=True)
class FoldOutcome:
    """What a run found.

    Attributes:
        outputs: of the test tracks, float32 (n, C).
        decisions: bool (n, C) for tags, by thresholds chosen on validation; else None.
        valid_score: of the best validation.
    """

    outputs: np.ndarray
    decisions: np.ndarray | None
    valid_score: float


def run_fold(given: FoldInput, settings: SupervisedSettings, run: Path) -> FoldOutcome:
    """Train on one fold, or go on where an earlier call was stopped, and predict its test tracks.

    Args:
        given: the fold and the audio.
        settings: of the run.
        run: its folder.

    Raises:
        ValueError: the folder belongs to another run or is in use.
    """
    processes = joined_processes()
    metric = HEADLINE[given.data.task.kind]
    with ExitStack() as held:
        with fail_together(processes):
            trainer = make_trainer(given, settings, run)
            if processes.is_main:
                held.enter_context(hold_run(run))
                _claim(held, given, settings, run, trainer)
        newest = newest_checkpoint(run, processes)
        if newest:
            say(f"going on from {newest.name}")
            trainer.state = TrainerState.load_from_json(str(newest / "trainer_state.json"))
        if not _is_finished(trainer.state, settings, metric):
            trainer.train(resume_from_checkpoint=str(newest) if newest else None)
        with fail_together(processes):
            if processes.is_main:
                export_models(run, trainer.state.best_global_step)
        outputs, decisions = _predict_test(given, trainer, run / "best")
    return FoldOutcome(outputs, decisions, max(validation_scores(trainer.state, metric)))


def _claim(
    held: ExitStack,
    given: FoldInput,
    settings: SupervisedSettings,
    run: Path,
    trainer: SupervisedTrainer,
) -> None:
    """Make a folder this run's, and show its progress until `held` is left."""
    size = trainer.args.per_device_train_batch_size * trainer.args.world_size
    progress = ProgressCallback(size, "training", "crops", _describe_scores)
    held.callback(progress.close)
    trainer.add_callback(progress)
    claim_run(run, asdict(settings), identify_fold(given))
    given.failures.write()
    for name in remove_incomplete(run):
        say(f"removed {name}, which an interruption left half written")


def _is_finished(state: TrainerState, settings: SupervisedSettings, metric: str) -> bool:
    training = settings.training
    if (state.epoch or 0.0) >= training.num_epochs:
        return True
    return is_out_of_patience(validation_scores(state, metric), training.stop_patience)


def _describe_scores(values: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in values.items())


def identify_fold(given: FoldInput) -> dict[str, Any]:
    """Describe what a run learns and is chosen by, so that anything else is told from it."""
    data, digest = given.data, hashlib.sha256()
    for part in SPLITS:
        for index in getattr(given.fold, part):
            example = data.examples[index]
            row = (part, example.track_id, example.file_name, example.target)
            digest.update(json.dumps(row).encode())
    return {
        "task": data.task.name,
        "split": data.split_name,
        "labels": list(data.task.labels),
        "sha256": digest.hexdigest(),
        "start": hash_weights(given.start) if given.start else RANDOM,
    }


def initial_classifier(
    settings: SupervisedSettings,
    backbone: MulapAudioConfig,
    data: TaskData,
    start: MusicnnBackbone | None = None,
) -> MusicnnClassifier:
    """Build the model that training starts from; the global random state is left as it was.

    Args:
        settings: of the classifier, and the seed.
        backbone: config of the backbone.
        data: whose labels are learned.
        start: whose weights are taken over; None for random ones.
    """
    config = classifier_config(
        backbone, data.task.kind, data.task.labels, settings.model.hidden_size
    )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.training.seed)
        model = MusicnnClassifier(config, settings.model.dropout)
    if start is not None:
        model.backbone.load_state_dict(start.state_dict())
    speed_up(model, settings.training)
    return model


def make_trainer(given: FoldInput, settings: SupervisedSettings, run: Path) -> SupervisedTrainer:
    """Put the trainer of a run together."""
    data, fold = given.data, given.fold
    metric = HEADLINE[data.task.kind]
    model = initial_classifier(settings, given.backbone, data, given.start)
    dtype = torch.int64 if data.task.kind == "class" else torch.float32
    if data.task.kind == "numbers":
        model.standardize_targets(data.targets[fold.train])
    targets = torch.as_tensor(data.targets[fold.train]).to(dtype)
    names = [name for name, _ in model.named_parameters() if name.startswith("backbone.")]
    trainer = SupervisedTrainer(
        settings,
        set(names) if given.start else set(),
        SegmentDataset(given.audio, fold.valid, settings.data.valid_segments),
        data.targets[fold.valid],
        model=model,
        args=supervised_arguments(settings, run, len(fold.train), metric),
        train_dataset=CropDataset(given.audio, fold.train, targets, settings.training.seed),
        processing_class=given.audio.extractor,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(RunCallback(trainer, run))
    trainer.add_callback(StopCallback(metric, settings.training.stop_patience))
    return trainer


def _predict_test(
    given: FoldInput, trainer: SupervisedTrainer, best: Path
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the best model's outputs for the test tracks (n, C), and decisions for tags."""
    model = load_classifier(best)
    model.to(trainer.args.device)  # pyright: ignore[reportArgumentType] (a decorator hides its type)
    outputs = trainer.predict_shared(SegmentDataset(given.audio, given.fold.test), model)
    if given.data.task.kind != "tags":
        return outputs, None
    valid = trainer.predict_shared(trainer.valid, model)
    targets = given.data.targets[given.fold.valid]
    return outputs, decide(outputs[None], choose_thresholds(targets, valid[None]))[0]
