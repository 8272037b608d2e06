"""`pretrain(settings, data, output)`: from a manifest to a checkpoint.

OUT/settings.yaml, corpus.json   what the run is of
OUT/lengths.json                 how long each file is, for random crops
OUT/features/                    of a frozen backbone, computed once (data.features_folder)
OUT/failures.jsonl               rows and files that could not be used
OUT/checkpoint-N/                the newest and the best, with the optimiser's state
OUT/best/, OUT/last/             the models alone, with the average track of a joint space
OUT/log.jsonl                    losses and evaluations by step
"""

import hashlib
import json
import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PrinterCallback, TrainingArguments

from mulap import terminal
from mulap.data.captions import clean_manifest, leave_out_sources
from mulap.data.clips import CaptionPool
from mulap.data.dataset import ClipDataset, ClipReader
from mulap.data.manifest import Manifest, read_manifest
from mulap.data.reader import LENGTHS_FILE
from mulap.encoders.devices import choose_device
from mulap.encoders.embedder import Embedder
from mulap.files import FailureLog
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor
from mulap.terminal import is_shown, say, shown, warn, without_transformers_bars
from mulap.training.checkpoints import (
    check_settings,
    claim_run,
    export_models,
    hold_run,
    remove_incomplete,
)
from mulap.training.loop import RunCallback, check_reporting, newest_checkpoint, speed_up
from mulap.training.pretrain.average import write_average_track
from mulap.training.pretrain.evaluate import choose_pool
from mulap.training.pretrain.features import features_folder, use_cached_features
from mulap.training.pretrain.heard import MOST_HEARD_CLIPS, HeardWords
from mulap.training.pretrain.initial import describe_unknown_words, initial_model
from mulap.training.pretrain.settings import PretrainSettings, is_of_pool, settings_to_dict
from mulap.training.pretrain.trainer import (
    MulapTrainer,
    check_negatives,
    count_steps,
    held_out_clips,
    training_arguments,
    training_collator,
)
from mulap.training.processes import (
    check_same_data,
    check_same_settings,
    fail_together,
    join_processes,
    joined_processes,
    tell_of_lost_processes,
)
from mulap.training.progress import ProgressCallback

_DEFAULTS = settings_to_dict(PretrainSettings())


@dataclass
class RunReport:
    """What a run leaves behind.

    Attributes:
        best: the model that validated best.
        last: the model of the last step.
        num_clips: clips of each split that were used.
        num_failures: rows and files that could not be used, listed in `failures.jsonl`.
        metrics: of the last validation.
    """

    best: Path
    last: Path
    num_clips: dict[str, int]
    num_failures: int
    metrics: dict[str, float]


def read_clips(
    settings: PretrainSettings,
    data: str | os.PathLike[str],
    failures: FailureLog,
    cache_folder: str | os.PathLike[str] | None = None,
) -> Manifest:
    """Read the manifest, and drop the captions that the settings leave out.

    Raises:
        ValueError: the data cannot be used at all.
    """
    manifest = read_manifest(
        data, group_column=settings.data.group_column, cache_folder=cache_folder
    )
    for source, reason in manifest.problems:
        failures.add(source, reason)
    if settings.data.leave_out_sources:
        manifest, line = leave_out_sources(manifest, settings.data.leave_out_sources)
        terminal.say(line)
    if settings.data.clean_captions:
        manifest, report = clean_manifest(manifest)
        for line in report.lines():  # no failures: dropping captions is what was asked for
            terminal.say(line)
    return manifest


def corpus_identity(datasets: dict[str, ClipDataset]) -> dict[str, Any]:
    """Describe what a run trains and validates on, so that anything else is told from it.

    Args:
        datasets: by split, without the clips that cannot be decoded: one of them more or less would
            shift all that follow.

    Returns:
        Counts and a hash.
    """
    digest = hashlib.sha256()
    for dataset in datasets.values():
        for clip in dataset.clips:  # one by one: of prepared data there may be millions
            row = (clip.track_id, clip.group, clip.split, *clip.captions)
            # Names inside a tar may be no UTF-8.
            digest.update(json.dumps(row, ensure_ascii=False).encode("utf-8", "surrogatepass"))
    return {"num_clips": sum(map(len, datasets.values())), "sha256": digest.hexdigest()}


def make_datasets(
    settings: PretrainSettings,
    manifest: Manifest,
    processor: MulapProcessor,
    failures: FailureLog,
    embedder: Embedder | None = None,
) -> dict[str, ClipDataset]:
    """Make the train and valid data sets, leaving out what cannot be decoded.

    Args:
        settings: of the run.
        manifest: of all clips.
        processor: of the model.
        failures: is told what was left out; the run's folder is its.
        embedder: of a frozen backbone, whose features then take the place of log-mels.

    Raises:
        ValueError: a split has no clip left.
    """
    data, seed = settings.data, settings.training.seed
    datasets = {}
    for split in ("train", "valid"):
        clips, extractor = manifest.split(split), processor.feature_extractor
        if split == "train":
            reader = ClipReader(extractor, data.crop_seconds, data.crop, seed, data.gain_db)
            dataset = ClipDataset(clips, reader, seed)
        else:
            dataset = held_out_clips(settings, clips, extractor)
        lengths = failures.path.with_name(LENGTHS_FILE)
        if embedder is None:
            left_out = dataset.verify(data.num_workers, data.cache_features, lengths)
        else:
            folder = features_folder(settings, failures.path.parent)
            gain_db = data.gain_db if split == "train" else 0.0
            left_out = use_cached_features(dataset, embedder, folder, gain_db)
        for clip, reason in left_out:
            failures.add(clip.audio_path, reason)
        if not len(dataset):
            failures.write()
            raise ValueError(
                f"no clip of the {split} split can be used: see failures.jsonl, add tracks, or "
                "give the split in a column `split`"
            )
        datasets[split] = dataset
    if is_of_pool(settings.training.best_by):
        valid = datasets["valid"]
        if len(choose_pool(valid, range(len(valid)), 2)) < 2:
            raise ValueError(
                f"training.best_by is {settings.training.best_by}, which needs validation clips of "
                "two groups (tracks, albums or artists) or more: add tracks, or set it to loss"
            )
    counts = ", ".join(f"{len(dataset)} {split}" for split, dataset in datasets.items())
    say(f"clips: {counts}; {len(failures)} rows or files left out")
    return datasets


def pretrain(
    settings: PretrainSettings,
    data: str | os.PathLike[str],
    output: str | os.PathLike[str],
    cache_folder: str | os.PathLike[str] | None = None,
) -> RunReport:
    """Pre-train a model, or go on where an earlier call was stopped.

    Args:
        settings: of the run.
        data: anything that `mulap.data.manifest.read_manifest` reads.
        output: folder of the run; one that holds checkpoints of the same run is resumed.
        cache_folder: as `read_manifest` takes it.

    Returns:
        RunReport.

    Raises:
        ValueError: settings or data cannot be used, or the folder belongs to another run or is in
            use.
    """
    processes = join_processes()
    run = Path(output)
    failures = FailureLog(run / "failures.jsonl")
    with ExitStack() as held, tell_of_lost_processes(processes):
        held.enter_context(without_transformers_bars())
        held.enter_context(shown(is_shown() and processes.is_main))
        check_same_settings(processes, settings_to_dict(settings))
        with fail_together(processes):
            trainer, datasets = _prepare(settings, data, run, failures, cache_folder)
            identity = corpus_identity(datasets)
        check_same_data(processes, identity)
        # Only now, so that a run that cannot start claims no folder.
        with fail_together(processes):
            if processes.is_main:
                held.enter_context(hold_run(run))
                progress = ProgressCallback(settings.training.batch_size)
                held.callback(progress.close)
                trainer.add_callback(progress)
                claim_run(run, settings_to_dict(settings), identity, _DEFAULTS)
                failures.write()
                for name in remove_incomplete(run):
                    say(f"removed {name}, which an interruption left half written")
        newest = newest_checkpoint(run, processes)
        if newest:
            say(f"going on from {newest.name}")
        trainer.train(resume_from_checkpoint=os.fspath(newest) if newest else None)
        with fail_together(processes):
            if processes.is_main:
                export_models(run, trainer.state.best_global_step)
                for name in ("best", "last"):
                    write_average_track(run / name, datasets["train"])
    return RunReport(
        best=run / "best",
        last=run / "last",
        num_clips={split: len(dataset) for split, dataset in datasets.items()},
        num_failures=len(failures),
        metrics=last_evaluation(trainer.state.log_history),
    )


def _prepare(
    settings: PretrainSettings,
    data: str | os.PathLike[str],
    run: Path,
    failures: FailureLog,
    cache_folder: str | os.PathLike[str] | None,
) -> tuple[MulapTrainer, dict[str, ClipDataset]]:
    """Read the data, build the model, and put together what trains it."""
    check_settings(run, settings_to_dict(settings), _DEFAULTS)
    check_reporting(settings.training.report_to)
    manifest = read_clips(settings, data, failures, cache_folder)
    train_clips = manifest.split("train")
    count_steps(settings.training, len(train_clips))
    check_negatives(settings)
    captions = CaptionPool(train_clips)
    model, processor, pretrained = initial_model(settings.model, captions, settings.training.seed)
    unknown = describe_unknown_words(processor.tokenizer, captions)
    if unknown and joined_processes().is_main:
        warn(unknown)
    embedder = None
    if "backbone" in settings.model.freeze:
        embedder = Embedder(model.mulap.audio_backbone, "frozen", choose_device("auto"))
    datasets = make_datasets(settings, manifest, processor, failures, embedder)
    for line in describe_doubts(settings):
        say(f"Warning: {line}")
    speed_up(model, settings.training)
    arguments = training_arguments(settings, run, len(datasets["train"]))
    heard = None
    if settings.objectives.tags:
        heard = HeardWords(settings.model.audio_weights, model.mulap, processor.tokenizer)
        train = datasets["train"]
        some = range(0, len(train), 1 + len(train) // MOST_HEARD_CLIPS)
        heard.fit(train.features_of(index) for index in some)
    parts = model, processor, pretrained, datasets, captions, heard
    trainer = make_trainer(settings, arguments, *parts)
    trainer.add_callback(RunCallback(trainer, run))
    return trainer, datasets


def describe_doubts(settings: PretrainSettings) -> list[str]:
    """Return what is known to keep a model from learning, a line each with its remedy."""
    lines: list[str] = []
    if settings.model.weights:  # whose config counts, not the settings
        return lines
    if settings.model.feature_norm == "none":
        lines.append(
            "model.feature_norm is none, as in the paper: the features of different segments are "
            "nearly equal, and matching was not seen to leave chance in minutes. Set "
            "model.feature_norm to batch to train on few tracks."
        )
    if settings.objectives.contrastive and settings.model.text_pooling == "cls":
        lines.append(
            "model.text_pooling is cls: the [CLS] of a BERT hardly tells captions apart, and the "
            "contrastive term learns little. Set model.text_pooling to mean."
        )
    return lines


def make_trainer(
    settings: PretrainSettings,
    arguments: TrainingArguments,
    model: MulapForPreTraining,
    processor: MulapProcessor,
    pretrained: set[str],
    datasets: dict[str, ClipDataset],
    captions: CaptionPool,
    heard: HeardWords | None = None,
) -> MulapTrainer:
    """Put the trainer together."""
    trainer = MulapTrainer(
        settings,
        pretrained,
        processor,
        training_collator(settings, processor, captions),
        heard,
        model=model,
        args=arguments,
        train_dataset=datasets["train"],
        eval_dataset=datasets["valid"],
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def last_evaluation(history: list[dict[str, Any]]) -> dict[str, float]:
    """Return the figures of the last validation in a run's log."""
    for record in reversed(history):
        if "eval_loss" in record:
            return {k.removeprefix("eval_"): v for k, v in record.items() if k.startswith("eval_")}
    return {}
