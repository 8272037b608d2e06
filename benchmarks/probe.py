"""Probing from cached vectors against running the backbone again in every epoch.

    python -m benchmarks.probe            # 1,000 tracks x 10 segments, 200 epochs, 3 seeds
    python -m benchmarks.probe --toy      # does it still run?

Three things are timed in one run, so that a slow machine slows all:

    cached      `train_probe` on vectors in a memory map, all seeds together, no early stopping
    one by one  the same, a seed after the other
    backbone    the waveforms of a few batches of segments -> log-mel -> vectors

From the last follows what an epoch costs that runs the frozen backbone again, as the authors' code
does, and what filling the cache costs. These are EXTRAPOLATED from segments a second, and say so;
decoding is in neither. The vectors are random with labels that depend on them, which changes no
cost. Nothing here fails on a slow result.
"""

from __future__ import annotations

import argparse
import dataclasses
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from mulap.inference.embedder import Embedder
from mulap.probing.features import TrackFeatures
from mulap.probing.probe import train_probe
from mulap.probing.settings import ProbeSettings
from mulap.tasks.task import Example, Task, TaskData, build_task_data

NUM_LABELS = 50
SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}
TOY = {"tracks": 30, "segments": 2, "epochs": 2, "seeds": 2, "batches": 1, "batch_size": 4}


def _make_features(options: argparse.Namespace, width: int, folder: str) -> TrackFeatures:
    """Write random vectors to a file and map it, as the cache does."""
    shape = (options.tracks * options.segments, width)
    vectors = np.memmap(Path(folder) / "vectors.f32", np.float32, "w+", shape=shape)
    vectors[:] = np.random.default_rng(0).normal(size=shape)
    vectors.flush()
    counts = np.full(options.tracks, options.segments)
    return TrackFeatures(vectors, np.cumsum(counts) - counts, counts, [])


def _make_data(options: argparse.Namespace, features: TrackFeatures) -> TaskData:
    """Make 50 tags: each the sign of another sum of a track's first vector, so not by chance."""
    weights = np.random.default_rng(1).normal(size=(features.vectors.shape[1], NUM_LABELS))
    labels = tuple(f"tag{index}" for index in range(NUM_LABELS))
    is_tagged = features.vectors[features.starts] @ weights > 0
    ends = np.cumsum([round(share * options.tracks) for share in SHARES.values()])[:-1]
    splits = np.repeat(list(SHARES), np.diff([0, *ends, options.tracks]))
    examples = [
        Example(f"{index}", f"{index}.wav", tuple(np.array(labels)[row].tolist()), str(split))
        for index, (row, split) in enumerate(zip(is_tagged, splits, strict=True))
    ]
    return build_task_data(Task("toy", "Toy", "tags", labels), "default", Path("toy"), examples)


def _time_probe(data: TaskData, features: TrackFeatures, settings: ProbeSettings) -> float:
    start = time.perf_counter()
    train_probe(data, features, [settings])
    return time.perf_counter() - start


def _time_segment(embedder: Embedder, options: argparse.Namespace) -> float:
    """Return seconds a segment, waveform to vector, over a few batches; one more warms up."""
    extractor = embedder.feature_extractor
    shape = (options.batch_size, extractor.segment_samples)
    waveforms = np.random.default_rng(2).uniform(-0.5, 0.5, shape).astype(np.float32)
    start = 0.0
    for index in range(options.batches + 1):
        if index == 1:
            start = time.perf_counter()
        for _ in embedder.stream_rows([extractor.log_mel(waveforms)]):
            pass
    return (time.perf_counter() - start) / (options.batches * options.batch_size)


def _compare(options: argparse.Namespace, folder: str) -> None:
    embedder = Embedder.from_pretrained("random")
    features = _make_features(options, embedder.embedding_size, folder)
    data = _make_data(options, features)
    settings = ProbeSettings(
        batch_size=options.batch_size,
        num_epochs=options.epochs,
        stop_patience=options.epochs,
        seeds=tuple(range(options.seeds)),
    )
    print(f"machine: {platform.machine()}, {platform.system()}, torch {torch.__version__}")
    print(
        f"{options.tracks} tracks x {options.segments} segments x {embedder.embedding_size}, "
        f"{options.epochs} epochs, {options.seeds} seeds, {options.threads} threads"
    )
    one_epoch = dataclasses.replace(settings, num_epochs=1)
    _time_probe(data, features, one_epoch)  # libraries are loaded, the file is in memory
    alone = [dataclasses.replace(settings, seeds=(seed,)) for seed in settings.seeds]
    # In turn, so that the machine's moods spread over the three.
    together = _time_probe(data, features, settings)
    segment = _time_segment(embedder, options)
    one_by_one = sum(_time_probe(data, features, each) for each in alone)
    segment = (segment + _time_segment(embedder, options)) / 2
    print(f"cached, seeds together: {together:.1f} s")
    print(f"cached, seeds one by one: {one_by_one:.1f} s, {one_by_one / together:.2f} times that")
    print(
        f"backbone: {1e3 * segment:.1f} ms a segment, measured on "
        f"{2 * options.batches * options.batch_size}"
    )
    _print_extrapolated(options, data.counts(), segment, together, one_by_one)


def _print_extrapolated(
    options: argparse.Namespace,
    counts: dict[str, int],
    segment: float,
    together: float,
    one_by_one: float,
) -> None:
    """Print what epochs with the backbone in them would take; the times are all in seconds."""
    filling = options.tracks * options.segments * segment
    print(f"extrapolated, filling the cache once: {filling:.0f} s (decoding not counted)")
    num_epochs = options.epochs * options.seeds
    for name, num_valid in (
        ("every segment of the valid tracks", counts["valid"] * options.segments),
        ("one segment a valid track, as the authors' code", counts["valid"]),
    ):
        epoch = (counts["train"] + num_valid) * segment + one_by_one / num_epochs
        total = num_epochs * epoch
        print(
            f"extrapolated, the backbone in every epoch, {name}: {epoch:.1f} s an epoch of one "
            f"seed, {total:.0f} s in all: {total / together:.0f} times the cached probe, "
            f"{total / (together + filling):.1f} times filling and probing"
        )


def main() -> None:
    """Parse the options, then time everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tracks", type=int, default=1000)
    parser.add_argument("--segments", type=int, default=10, help="of each track")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--batches", type=int, default=4, help="given to the backbone, twice")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--toy", action="store_true", help="a small size; others are ignored")
    options = parser.parse_args()
    if options.toy:
        vars(options).update(TOY)
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        _compare(options, folder)


if __name__ == "__main__":
    main()
