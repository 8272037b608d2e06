"""`train_supervised(data, output, settings)`: backbone and classifier, jointly, on a task's labels.

It serves three ways (paper, 4.1):
    Supervised    RUN/best, trained by auto-tagging on another task (`swap_source`), is probed
    end-to-end    the predictions of the test tracks, from scratch on the task itself
    fine-tuning   the same with `start`, any backbone that `load_backbone` reads

The bundled musicnn-mtt and musicnn-msd are stand-ins for the first: taggers trained by others, with
another recipe, on MagnaTagATune (so no fair start where that is the target) and on MSD.

OUT/lengths.json                      of the tracks, decoded
OUT/failures.jsonl                    tracks that could not be used
OUT/predictions.npz                   of the test tracks, of all folds
RUN/settings.yaml, corpus.json        what the run is of; RUN is OUT, or OUT/fold-NAME of several
RUN/checkpoint-N/, best/, last/       as pre-training leaves them
RUN/log.jsonl                         losses and validations by step
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np

from mulap.data.reader import LENGTHS_FILE, Tracks, count_cache_bytes, read_tracks
from mulap.data.splits import SPLITS
from mulap.encoders.backbones import RANDOM, load_backbone
from mulap.files import FailureLog
from mulap.model.config import MulapAudioConfig
from mulap.model.features import MulapFeatureExtractor
from mulap.tasks.metrics import headline
from mulap.tasks.result import Predictions
from mulap.tasks.task import Fold, TaskData
from mulap.terminal import is_shown, say, shown, without_transformers_bars
from mulap.training.checkpoints import SETTINGS_FILE, check_settings
from mulap.training.loop import check_reporting
from mulap.training.pretrain.initial import scaled_audio_config
from mulap.training.processes import (
    Processes,
    check_same_data,
    check_same_settings,
    fail_together,
    join_processes,
    tell_of_lost_processes,
)
from mulap.training.supervised.fold import FoldInput, FoldOutcome, identify_fold, run_fold
from mulap.training.supervised.settings import SupervisedSettings

PREDICTIONS_FILE = "predictions.npz"


@dataclass(frozen=True)
class SupervisedReport:
    """What a supervised training leaves behind.

    Attributes:
        best: a folder that `load_backbone` reads: the model that validated best, of the first fold
            (and seed) where there are several.
        predictions: of the test tracks of all folds, in the task's order; S = 1, or the seeds.
        valid_scores: the best validation score of every run, seeds after folds.
        num_used: tracks in train, valid and test that were used, summed over folds.
        num_left_out: tracks that could not be decoded, listed in `failures.jsonl`.
    """

    best: Path
    predictions: Predictions
    valid_scores: tuple[float, ...]
    num_used: dict[str, int]
    num_left_out: int


def swap_source(task_name: str) -> str:
    """Return the task that the Supervised baseline is trained on, for a target task.

    The paper's rule (4.1): MTG-Jamendo's top 50 tags; for a target that is itself a part of
    MTG-Jamendo, whose audio the backbone would have heard with labels, MagnaTagATune.
    """
    return "magnatagatune" if task_name.startswith("mtg_jamendo_") else "mtg_jamendo_top50"


def train_supervised(
    data: TaskData,
    output: str | os.PathLike[str],
    settings: SupervisedSettings,
    start: str | None = None,
) -> SupervisedReport:
    """Train backbone and classifier on a task, or go on where an earlier call was stopped.

    Args:
        data: the tracks, their labels and folds; every fold is trained on.
        output: folder of the run; one that holds checkpoints of the same run is resumed.
        settings: of the run.
        start: what `load_backbone` reads, to fine-tune it; None or `random` starts from scratch.

    Returns:
        SupervisedReport, S = 1.

    Raises:
        ValueError: settings or data cannot be used, or the folder belongs to another run or is in
            use.
    """
    return _train(data, Path(output), [(settings, Path(output))], start)


def train_supervised_seeds(
    data: TaskData,
    output: str | os.PathLike[str],
    settings: SupervisedSettings,
    seeds: Sequence[int],
    start: str | None = None,
) -> SupervisedReport:
    """Train once for each seed, in OUT/seed-N; the predictions are stacked in the seeds' order.

    Args:
        data: as `train_supervised`.
        output: as `train_supervised`.
        settings: as `train_supervised`; its own seed is not used.
        seeds: of weights, order, crops and dropout.
        start: as `train_supervised`.

    Returns:
        SupervisedReport, S seeds.

    Raises:
        ValueError: as `train_supervised`.
    """
    if not seeds or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds are {list(seeds)}: give different numbers from 0 up")
    runs = []
    for seed in seeds:
        training = replace(settings.training, seed=seed)
        runs.append((replace(settings, training=training), Path(output) / f"seed-{seed}"))
    return _train(data, Path(output), runs, start)


def _train(
    data: TaskData,
    output: Path,
    runs: Sequence[tuple[SupervisedSettings, Path]],
    start: str | None,
) -> SupervisedReport:
    processes = join_processes()
    is_told = is_shown() and processes.is_main
    with tell_of_lost_processes(processes), shown(is_told), without_transformers_bars():
        return _train_together(data, output, runs, start, processes)


def _train_together(
    data: TaskData,
    output: Path,
    runs: Sequence[tuple[SupervisedSettings, Path]],
    start: str | None,
    processes: Processes,
) -> SupervisedReport:
    seeds = [each.training.seed for each, _ in runs]
    check_same_settings(processes, asdict(runs[0][0]) | {"seeds": seeds})
    with fail_together(processes):
        given = _prepare(data, output, runs, start)
        identities = {f"fold-{place}": identify_fold(each) for place, each in enumerate(given)}
    check_same_data(processes, identities)
    counts = {part: sum(len(getattr(each.fold, part)) for each in given) for part in SPLITS}
    told = ", ".join(f"{count} {part}" for part, count in counts.items())
    failures = given[0].failures
    say(f"{data.task.title}: {told}; {len(failures)} tracks left out")
    outcomes: list[list[FoldOutcome]] = []  # of each fold for each seed
    for run_settings, run in runs:
        outcomes.append([])
        for fold, folder in zip(given, _fold_folders(run, data), strict=True):
            if len(runs) * len(given) > 1:
                say(f"{folder}:")
            outcomes[-1].append(run_fold(fold, run_settings, folder))
    predictions = _pool(data, [each.fold for each in given], outcomes)
    if processes.is_main:
        predictions.save(output / PREDICTIONS_FILE)
    return SupervisedReport(
        best=_fold_folders(runs[0][1], data)[0] / "best",
        predictions=predictions,
        valid_scores=tuple(outcome.valid_score for seed in outcomes for outcome in seed),
        num_used=counts,
        num_left_out=len(failures),
    )


def _prepare(
    data: TaskData,
    output: Path,
    runs: Sequence[tuple[SupervisedSettings, Path]],
    start: str | None,
) -> list[FoldInput]:
    """Check the folders, read the start and the tracks; return what a run of each fold is given."""
    settings = runs[0][0]
    _check_folders(output, [folder for _, run in runs for folder in _fold_folders(run, data)])
    for each, run in runs:
        for folder in _fold_folders(run, data):
            check_settings(folder, asdict(each))
    check_reporting(settings.training.report_to)
    backbone = None if start is None or start == RANDOM else load_backbone(start)
    config = scaled_audio_config(settings.model.audio_variant, settings.model.audio_width)
    if backbone is not None:
        config = cast(MulapAudioConfig, backbone.config)
    failures = FailureLog(output / "failures.jsonl")
    audio = _read_audio(data, MulapFeatureExtractor.from_config(config), settings, failures)
    folds = [_drop_tracks(data, fold, audio, failures) for fold in data.folds]
    return [FoldInput(data, fold, audio, config, backbone, failures) for fold in folds]


def _fold_folders(run: Path, data: TaskData) -> list[Path]:
    if len(data.folds) == 1:
        return [run]
    return [run / f"fold-{position}" for position in range(len(data.folds))]


def _check_folders(output: Path, folders: Sequence[Path]) -> None:
    """Refuse a folder of one run for several and the other way round: they share `predictions`."""
    for part in (".", "fold-*", "seed-*", "seed-*/fold-*"):
        there = [path.parent for path in output.glob(f"{part}/{SETTINGS_FILE}")]
        if there and not set(there) & set(folders):
            raise ValueError(
                f"{output}: holds a run with other folds or seeds (in {min(there)}): give another "
                "--output"
            )


def _read_audio(
    data: TaskData,
    extractor: MulapFeatureExtractor,
    settings: SupervisedSettings,
    failures: FailureLog,
) -> Tracks:
    paths = [data.audio_path(index) for index in range(len(data))]
    keep = settings.data.cache_features
    told = f"decoding {len(paths)} tracks once, to find those that cannot be used"
    if keep:
        size = count_cache_bytes(extractor, paths) / 2**20
        told = f"keeping the log-mels of {len(paths)} tracks in memory: {size:,.1f} MiB a process"
    say(told)
    lengths = failures.path.with_name(LENGTHS_FILE)
    audio = read_tracks(extractor, paths, keep, settings.data.num_workers, lengths)
    for index, reason in audio.failures:
        failures.add(paths[index], reason)
    return audio


def _drop_tracks(data: TaskData, fold: Fold, audio: Tracks, failures: FailureLog) -> Fold:
    """Leave out what cannot be decoded, and refuse a fold that cannot be trained or scored."""
    parts = {part: getattr(fold, part) for part in SPLITS}
    parts = {part: tracks[audio.num_samples[tracks] > 0] for part, tracks in parts.items()}
    where = f" of fold {fold.name!r}" if fold.name else ""
    for part, tracks in parts.items():
        if not len(tracks):
            failures.write()
            raise ValueError(
                f"{data.task.name}: no track in {part}{where} can be decoded: see {failures.path}"
            )
    valid = data.targets[parts["valid"]]
    try:
        headline(data.task.kind, valid, np.zeros((1, len(valid), len(data.task.labels))))
    except ValueError as error:
        raise ValueError(f"{data.task.name}, valid{where}: {error}") from error
    return replace(fold, **parts)


def _pool(
    data: TaskData, folds: Sequence[Fold], outcomes: Sequence[Sequence[FoldOutcome]]
) -> Predictions:
    """Join what the seeds and folds say of their test tracks, in the order of the task."""
    tested = np.concatenate([fold.test for fold in folds])
    order = tested.argsort()
    outputs = np.stack([np.concatenate([o.outputs for o in seed])[order] for seed in outcomes])
    decisions = [
        np.concatenate([o.decisions for o in seed if o.decisions is not None])[order]
        for seed in outcomes
        if seed[0].decisions is not None
    ]
    stacked = np.stack(decisions) if decisions else None
    return Predictions.of_tracks(data, tested[order], outputs, stacked)
