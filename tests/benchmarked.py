"""Small tasks with made-up outputs, and the rows that the real code makes of them: no audio."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mulap.probing.pair import Backbone, Judged, Pair, make_row
from mulap.probing.rows import Row, write_rows
from mulap.tasks.registry import find_task
from mulap.tasks.result import Predictions
from mulap.tasks.task import Example, Kind, Task, TaskData, build_task_data

NUM_TEST = 60
SETTINGS = [{"hidden_size": 512, "learning_rate": 0.001, "dropout": 0.0, "seeds": [0, 1, 2]}]


def make_data(task: Task | str, split_name: str = "", num_test: int = NUM_TEST) -> TaskData:
    """Tracks with random labels for a task of the registry, or any other."""
    task = find_task(task) if isinstance(task, str) else task
    rng = np.random.default_rng([len(task.labels), num_test])
    examples = []
    for index in range(num_test + 8):
        split = "test" if index < num_test else ("train", "valid")[index % 2]
        target = tuple(rng.uniform(-1, 1, len(task.labels)).tolist())
        if task.kind == "class":
            target = task.labels[index % len(task.labels)]
        elif task.kind == "tags":
            target = tuple(
                label for place, label in enumerate(task.labels) if (index + place) % 7 == 0
            )
        examples.append(Example(f"track-{index}", f"{index}.wav", target, split))
    return build_task_data(task, split_name or task.default_split, Path("data"), examples)


def make_task(kind: Kind, labels: Sequence[str], title: str = "Own labels") -> Task:
    return Task("folder", title, kind, tuple(labels), splits={"split column": (1, 1, 1)})


def make_outputs(data: TaskData, quality: float, num_seeds: int = 3) -> Predictions:
    """Noise with some of the truth in it: a quality of 0 knows nothing."""
    test = data.folds[0].test
    targets, kind = data.targets[test], data.task.kind
    shape = (num_seeds, len(test), len(data.task.labels))
    noise = np.random.default_rng([7, round(1000 * quality)]).normal(size=shape)
    truth = np.eye(shape[2])[targets] if kind == "class" else targets.astype(float)
    if kind == "numbers":
        outputs = quality * truth + (1 - quality) * 0.3 * noise
    else:
        outputs = 1 / (1 + np.exp(-(4 * quality * truth - 2 + noise)))
        outputs = outputs / outputs.sum(2, keepdims=True) if kind == "class" else outputs
    decisions = outputs > 0.5 if kind == "tags" else None
    return Predictions.of_tracks(data, test, outputs, decisions)


def make_result(
    folder: Path | None,
    data: TaskData,
    name: str,
    quality: float,
    label: str = "",
    num_seeds: int = 3,
    left_out: Sequence[tuple[str, str]] = (),
) -> Row:
    """A row, with its predictions in the folder."""

    def judge() -> Judged:
        predictions = make_outputs(data, quality, num_seeds)
        return Judged(
            predictions, SETTINGS, data.counts(), list(left_out), f"{round(quality * 100):064}"
        )

    protocol = "end-to-end" if name == "end-to-end" else "paper"
    backbone = Backbone(name, label or name, name)
    seeds = list(range(num_seeds))
    return make_row(Pair(data, backbone, protocol, seeds, name, SETTINGS, judge), folder)


QUALITIES = {
    "random": 0.05,
    "mel": 0.2,
    "musicnn-mtt": 0.5,
    "runs/out/tour/best": 0.45,
    "end-to-end": 0.6,
}


def write_results(folder: Path, tasks: Sequence[TaskData], **options) -> list[Row]:
    """Results of all of `QUALITIES` on some tasks."""
    rows = [
        make_result(folder, data, name, quality, **options)
        for data in tasks
        for name, quality in QUALITIES.items()
    ]
    write_rows(folder / "results.jsonl", rows)
    return rows
