"""The two backbones that a benchmark trains itself: `supervised` and `end-to-end`.

    supervised   a backbone trained on another task's labels, then frozen like any other. Paper,
                 4.1: on MTG-Jamendo, or on MagnaTagATune where the target is MTG-Jamendo.
    end-to-end   backbone and classifier trained together on the task, from scratch: no probe.

A backbone of `supervised` is read from a folder named for the task it was trained on; where there
is none it is trained, and put there whole once its training has ended.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mulap.encoders.load import encoder_sha256, load_encoder
from mulap.files import read_failures
from mulap.probing.pair import Judged
from mulap.probing.rows import canonical_hash
from mulap.tasks.task import TaskData
from mulap.training.supervised.run import swap_source, train_supervised, train_supervised_seeds
from mulap.training.supervised.settings import SupervisedSettings

# Settings that change no number; and the seed, which is recorded by itself.
_SILENT = ("seed", "num_workers", "log_every_steps", "save_every_steps", "report_to")


def find_supervised(
    task: str, checkpoints: Path, tasks: Mapping[str, TaskData], settings: SupervisedSettings
) -> Path:
    """Return the folder of the supervised backbone for a task; train it where there is none.

    `checkpoints` holds a folder for each source, `tasks` what may be trained on, by name.

    Raises:
        ValueError: there is none, and no data to train it on.
    """
    source = swap_source(task)
    folder = checkpoints / source
    if folder.is_dir():
        return folder
    if source not in tasks:
        raise ValueError(
            f"{folder}: no backbone trained on {source}. Train one there with mulap "
            f"pretrain-supervised --task {source}, or add {source} to the tasks."
        )
    run = checkpoints / f"{source}.training"
    report = train_supervised(tasks[source], run, settings)
    copy = checkpoints / f"{source}.copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(report.best, copy)
    os.replace(copy, folder)
    return folder


def recipe_of(settings: SupervisedSettings) -> dict[str, Any]:
    """Return what decides a training's numbers, which stands for weights that are not there yet."""
    return {
        name: {key: value for key, value in section.items() if key not in _SILENT}
        for name, section in asdict(settings).items()
    }


def train_whole(
    data: TaskData, output: Path, settings: SupervisedSettings, seeds: list[int]
) -> Judged:
    """Train backbone and classifier together, once a seed and fold, and predict the test tracks.

    The runs lie in `output`. The seed of the settings is not used.
    """
    report = train_supervised_seeds(data, output, settings, seeds)
    hashes = [
        encoder_sha256(load_encoder(str(best)))
        for seed in seeds
        for best in sorted((output / f"seed-{seed}").glob("**/best"))
    ]
    return Judged(
        report.predictions,
        [asdict(settings)],
        report.num_used,
        read_failures(output / "failures.jsonl"),
        hashes[0] if len(hashes) == 1 else canonical_hash(hashes),
    )
