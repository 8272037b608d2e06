"""Every encoder on every task: one row per pair, resumable.

A config gives results.jsonl, predictions/, left_out/ and failures.jsonl. A pair whose row is there
with the same key is skipped. The key does not cover audio: if you replace the content of a file
under its old name, remove the row. A pair that fails is listed with its reason, the run continues,
and a row that the pair has from an earlier run stays.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mulap.benchmark.config import BenchmarkConfig, TaskEntry
from mulap.benchmark.trained import find_supervised, recipe_of, train_whole
from mulap.encoders.encoder import Encoder, Space
from mulap.encoders.load import load_encoder
from mulap.files import FailureLog
from mulap.probing.pair import (
    END_TO_END,
    SUPERVISED,
    Backbone,
    Judged,
    Pair,
    ProbeOptions,
    make_row,
    probe_pair,
    score_columns,
)
from mulap.probing.rows import (
    FAILURES_FILE,
    RESULTS_FILE,
    Row,
    append_row,
    file_stem,
    order_rows,
    pair_id,
    plain,
    read_rows,
    write_rows,
)
from mulap.probing.zero_shot import ZERO_SHOT, read_phrases, zero_shot_pair
from mulap.tasks.result import Predictions
from mulap.tasks.task import TaskData
from mulap.terminal import say
from mulap.training.checkpoints import hold_run


@dataclass
class BenchmarkReport:
    """What a benchmark did."""

    rows: list[Row]  # all of results.jsonl, in its order
    num_run: int  # pairs that were judged now
    num_skipped: int  # pairs whose rows were there
    failures: FailureLog  # pairs that could not be judged, each with its reason


def run_benchmark(
    config: BenchmarkConfig, output: str | os.PathLike[str], device: str = "cpu"
) -> BenchmarkReport:
    """Evaluate every backbone on every task; resume an earlier run.

    Args:
        config: what is compared.
        output: the folder of `results.jsonl`, `predictions/`, `left_out/`, `failures.jsonl`, and,
            unless the config says otherwise, `cache/` and `supervised/`.
        device: of backbones and probes.

    Raises:
        ValueError: another process works here, or `results.jsonl` holds what is no row.
    """
    output = Path(output)
    with hold_run(output):
        results = output / RESULTS_FILE
        rows = read_rows(results, repair=True)
        report = BenchmarkReport(rows, 0, 0, FailureLog(output / FAILURES_FILE))
        loaded = list(_load_tasks(config, report.failures))
        pairs = _Pairs(config, output, device, {d.task.name: d for _, d in loaded[::-1]})
        for backbone in config.backbones:
            for entry, data in loaded:
                try:
                    _run_one(pairs.make(entry, data, backbone), output, report)
                except Exception as error:  # noqa: BLE001  (other people's models raise anything)
                    reason = _reason(error)
                    report.failures.add(f"{entry}, {backbone.label}", reason)
                    say(f"{entry}, {backbone.label}: failed: {reason}")
        wanted = [
            (d.task.name, d.task.title, d.split_name, b.name, pairs.protocol_of(b))
            for _, d in loaded
            for b in config.backbones
        ]
        report.rows = order_rows(report.rows, wanted)
        write_rows(results, report.rows)
        report.failures.write()
    return report


def _load_tasks(
    config: BenchmarkConfig, failures: FailureLog
) -> Iterator[tuple[TaskEntry, TaskData]]:
    """Read all tasks before anything is embedded, so that what is wrong is known at once."""
    for entry in config.tasks:
        try:
            yield entry, entry.load()
        except (ValueError, OSError) as error:
            for backbone in config.backbones:
                failures.add(f"{entry}, {backbone.label}", _reason(error))


def _reason(error: Exception) -> str:
    """Return an error in one line; one that is not meant for users is named by its class."""
    text = " ".join(str(error).split())
    if isinstance(error, ValueError | OSError | RuntimeError) and text:
        return text  # torch raises RuntimeError for users, as where memory is full
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Pairs:
    """Makes the pairs of a config; holds one encoder at a time."""

    def __init__(
        self, config: BenchmarkConfig, output: Path, device: str, tasks: dict[str, TaskData]
    ) -> None:
        self.config, self.output, self.tasks = config, output, tasks
        cache = config.cache or output / "cache"
        self.options = ProbeOptions(cache, config.probe.protocol, config.probe.seeds, device)
        self.settings = config.supervised.load()
        self.loaded: tuple[str, Space, Encoder] | None = None

    def protocol_of(self, backbone: Backbone) -> str:
        """Return the protocol that the rows of a backbone name."""
        if backbone.zero_shot:
            return ZERO_SHOT
        return END_TO_END if backbone.name == END_TO_END else self.config.probe.protocol

    def make(self, entry: TaskEntry, data: TaskData, backbone: Backbone) -> Pair:
        """Make a pair; the encoder is loaded, or trained, if need be."""
        if backbone.name == END_TO_END:
            return self._whole_pair(data, backbone)
        source, more = backbone.source, {}
        if backbone.name == SUPERVISED:
            checkpoints = self.config.supervised.checkpoints or self.output / SUPERVISED
            folder = find_supervised(data.task.name, checkpoints, self.tasks, self.settings)
            source, more = str(folder), {"trained_on": folder.name}
        space = backbone.space
        if self.loaded is None or self.loaded[:2] != (source, space):
            self.loaded = None  # let go of the last before the next is loaded
            encoder = load_encoder(source, self.options.device, space=space)
            self.loaded = (source, space, encoder)
        encoder = self.loaded[2]
        if backbone.zero_shot:
            phrases = read_phrases(entry.phrases) if entry.phrases else None
            return zero_shot_pair(data, backbone, self.options, encoder, phrases)
        pair = probe_pair(data, backbone, self.options, encoder)
        pair.more = more
        return pair

    def _whole_pair(self, data: TaskData, backbone: Backbone) -> Pair:
        seeds = list(range(self.config.supervised.seeds))

        def judge() -> Judged:
            # Runs with other settings or data have folders of their own.
            names = (data.task.name, data.split_name, pair.key()[:12])
            folder = self.output / END_TO_END / file_stem(*names)
            return train_whole(data, folder, self.settings, seeds)

        recipe = recipe_of(self.settings)
        pair = Pair(data, backbone, END_TO_END, seeds, END_TO_END, recipe, judge)
        return pair


def _run_one(pair: Pair, output: Path, report: BenchmarkReport) -> None:
    """Evaluate a pair, unless its row is there already."""
    name = f"{pair.data.task.title} ({pair.data.split_name}), {pair.backbone.label}"
    there = next((row for row in report.rows if pair_id(row) == pair.id), None)
    if there is not None and _is_current(there, pair.key(), output):
        report.num_skipped += 1
        # The label is only how it is printed.
        there["label"] = pair.backbone.label
        is_new = _regroup(there, pair.data, output)
        say(f"{name}: already present{', intervals recomputed' if is_new else ''}")
        return
    row = make_row(pair, output)
    append_row(output / RESULTS_FILE, row)
    report.rows = [*(each for each in report.rows if each is not there), row]
    report.num_run += 1
    metric, score = next(iter(row["scores"].items()))
    say(f"{name}: {metric} {score['mean']:.4f}")


def _regroup(row: Row, data: TaskData, output: Path) -> bool:
    """Make a row's intervals again if its groups are not the task's: version 0.1 had none."""
    path = output / row["predictions"]
    saved = Predictions.load(path)
    grouped = saved.regroup(data)
    if (saved.groups, saved.unit) == (grouped.groups, grouped.unit) and "resampled" in row:
        return False
    row |= plain(score_columns(data, grouped))
    # The row first: a kill before the second file is made good by the next run.
    append_row(output / RESULTS_FILE, row)
    grouped.save(path)
    return True


def _is_current(row: Row, key: str, output: Path) -> bool:
    return row.get("key") == key and (output / row["predictions"]).is_file()
