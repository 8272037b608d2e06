"""Probing from cached vectors against running the backbone again in every epoch.

    cached      every segment is embedded once, from its file; then `train_probe` on vectors in a
                memory map, all seeds, no early stopping
    re-running  in every epoch of every seed, the backbone on a random segment of each train track
                and on the valid tracks: on every segment, as our probe validates, or on one of
                each track, as the authors' code does for tags

The authors' frozen backbone stays in training mode on train tracks, so BatchNorm takes the batch's
statistics; batches of 64. How long re-running would take is EXTRAPOLATED from segments a second,
decoding left out; probing is timed in full, and filling the cache is extrapolated from some files,
decoding included: so many that the start and the end, where nothing overlaps, weigh little. The
vectors are random with labels that depend on them, which changes no cost.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.measure import Conditions, Contestant, Outcome, Spread, digits, race
from benchmarks.problems import write_files
from benchmarks.sizes import Sizes
from benchmarks.tables import Goal, Table
from mulap.model.config import MulapAudioConfig
from mulap.probing.embeddings import TrackFeatures
from mulap.probing.probe import train_probe
from mulap.probing.settings import ProbeSettings
from mulap.tasks.task import Example, Task, TaskData, build_task_data

NUM_LABELS = 50
SHARES = {"train": 0.7, "valid": 0.15, "test": 0.15}
PROBE, FILL = "probe, all seeds", "filling the cache"
FAST, TRAIN, VALID = "mulap's backbone", "plain backbone, training mode", "plain backbone"


def run_probe(
    tracks: int, segments: int, epochs: int, seeds: int, batch_size: int
) -> Callable[[], None]:
    """Make what trains probes of all seeds on vectors in a memory map."""
    folder = tempfile.TemporaryDirectory()
    features = _make_features(tracks, segments, folder.name)
    data = _make_data(tracks, features)
    settings = ProbeSettings(
        batch_size=batch_size,
        num_epochs=epochs,
        stop_patience=epochs,
        seeds=tuple(range(seeds)),
    )

    def run(kept: Any = folder) -> None:
        train_probe(data, features, [settings])

    return run


def _make_features(tracks: int, segments: int, folder: str) -> TrackFeatures:
    """Write random vectors to a file and map it, as the cache does."""
    shape = (tracks * segments, MulapAudioConfig().feature_size)
    vectors = np.memmap(Path(folder) / "vectors.f32", np.float32, "w+", shape=shape)
    vectors[:] = np.random.default_rng(0).standard_normal(shape, np.float32)
    vectors.flush()
    counts = np.full(tracks, segments)
    return TrackFeatures(vectors, np.cumsum(counts) - counts, counts, [])


def _make_data(tracks: int, features: TrackFeatures) -> TaskData:
    """Make 50 tags: each the sign of another sum of a track's first vector, so not by chance."""
    weights = np.random.default_rng(1).normal(size=(features.vectors.shape[1], NUM_LABELS))
    labels = tuple(f"tag{index}" for index in range(NUM_LABELS))
    is_tagged = features.vectors[features.starts] @ weights > 0
    splits = np.repeat(list(SHARES), _count_tracks(tracks))
    examples = [
        Example(f"{index}", f"{index}.wav", tuple(np.array(labels)[row].tolist()), str(split))
        for index, (row, split) in enumerate(zip(is_tagged, splits, strict=True))
    ]
    return build_task_data(Task("toy", "Toy", "tags", labels), "default", Path("toy"), examples)


def _count_tracks(tracks: int) -> list[int]:
    """Count the tracks in train, valid and test."""
    ends = np.cumsum([round(share * tracks) for share in SHARES.values()])[:-1]
    return np.diff([0, *ends, tracks]).tolist()


def measure_probe(conditions: Conditions, sizes: Sizes) -> Table:
    """Time probing, and the pieces of what it saves."""
    probe = {
        "tracks": sizes.probe_tracks,
        "segments": sizes.probe_segments,
        "epochs": sizes.probe_epochs,
        "seeds": sizes.probe_seeds,
        "batch_size": sizes.probe_batch,
    }
    batch = {"num_segments": sizes.probe_batch, "at_once": sizes.probe_batch}
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), sizes.file_seconds, sizes.probe_files, ["mp3"])["mp3"]
        num_segments = len(files) * max(1, int(sizes.file_seconds // 3))
        outcomes = race(
            [
                Contestant(PROBE, "benchmarks.probe:run_probe", probe),
                Contestant(FILL, "benchmarks.ours:embed", {"files": files}, num_segments),
                Contestant(
                    FAST,
                    "benchmarks.ours:run_backbone",
                    {"num_segments": sizes.probe_batch},
                    sizes.probe_batch,
                ),
                Contestant(
                    TRAIN,
                    "benchmarks.authors:run_backbone",
                    batch | {"is_training": True},
                    sizes.probe_batch,
                ),
                Contestant(VALID, "benchmarks.authors:run_backbone", batch, sizes.probe_batch),
            ],
            conditions,
            sizes.probe_rounds,
        )
    return _tabulate(outcomes, sizes)


def _tabulate(outcomes: dict[str, Outcome], sizes: Sizes) -> Table:
    """Put the pieces together, round by round."""
    seconds = {name: np.array(outcome.seconds) for name, outcome in outcomes.items()}
    rates = {name: np.array(outcome.rates) for name, outcome in outcomes.items()}
    probing = seconds[PROBE]
    filling = sizes.probe_tracks * sizes.probe_segments / rates[FILL]
    ours = filling + probing
    num_train, num_valid, _ = _count_tracks(sizes.probe_tracks)
    num_epochs = sizes.probe_epochs * sizes.probe_seeds
    rows = [
        _row("probing, all seeds", probing, ours),
        _row("filling the cache, files to vectors *", filling, ours),
        ["**both: filling, then all seeds**", _seconds(ours), "1", ""],
    ]
    goals = []
    for scope, count in (
        ("every segment of valid tracks", num_valid * sizes.probe_segments),
        ("one segment of each valid track", num_valid),
    ):
        plain = num_epochs * (num_train / rates[TRAIN] + count / rates[VALID]) + probing
        fast = num_epochs * (num_train + count) / rates[FAST] + probing
        rows.append(_row(f"re-running the plain backbone, {scope} *", plain, ours, probing))
        rows.append(_row(f"re-running mulap's, {scope} *", fast, ours, probing))
        what = f"probing with its cache, against re-running the plain backbone, {scope}"
        goals.append(Goal(what, 150, Spread.of(plain / ours)))
    notes = [
        f"{sizes.probe_tracks:,} tracks of {sizes.probe_segments} segments, {sizes.probe_epochs} "
        f"epochs, {sizes.probe_seeds} seeds. * extrapolated: "
        + "; ".join(
            f"{name} {digits(rates[name].mean())} segments/s" for name in (FILL, FAST, TRAIN, VALID)
        )
        + ". An epoch re-runs the backbone on "
        f"{num_train} + {num_valid * sizes.probe_segments} segments, or {num_train} + {num_valid}."
    ]
    head = ["", "seconds", "÷ both", "÷ probing alone"]
    title = "Probes"
    return Table("probe", title, head, rows, notes, goals, list(outcomes.values()))


def _seconds(values: np.ndarray) -> str:
    return Spread.of(values.tolist()).format()


def _row(name: str, values: np.ndarray, *others: np.ndarray) -> list[str]:
    ratios = [_seconds(values / other) for other in others]
    return [name, _seconds(values), *ratios, *[""] * (2 - len(ratios))]
