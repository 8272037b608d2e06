"""Checkpoints of a run: which are whole, which to go on from, which to keep.

A checkpoint counts only once its marker is written, after everything else; what a kill left half
written is removed at the next start. A run folder belongs to one set of settings and one corpus.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from mulap.files import atomic_path, sha256_of
from mulap.locks import hold_lock

COMPLETE_MARKER = "complete"
SETTINGS_FILE = "settings.yaml"
CORPUS_FILE = "corpus.json"
LOCK_FILE = ".lock"
# What a finished model folder does not need of a checkpoint.
_TRAINING_STATE = "optimizer.pt", "scheduler.pt", "rng_state*", "scaler.pt", "trainer_state.json"


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; a kill lets go of it.

    Processes that outlive a killed launcher would otherwise write into the run that goes on.

    Args:
        run: made if it is missing.

    Raises:
        ValueError: another process holds it.
    """
    run.mkdir(parents=True, exist_ok=True)
    message = (
        f"{run}: another process is at work here: wait for it or end it, or give another --output"
    )
    with hold_lock(run / LOCK_FILE, message):
        yield


def checkpoint_path(run: Path, step: int | None) -> Path:
    """Return the folder of a step's checkpoint."""
    return run / f"checkpoint-{step}"


def mark_complete(checkpoint: Path) -> None:
    """Say that everything of a checkpoint is on disk, and note its checksums."""
    files = sorted(path for path in checkpoint.rglob("*") if path.is_file())
    sums = {path.relative_to(checkpoint).as_posix(): sha256_of(path) for path in files}
    with atomic_path(checkpoint / COMPLETE_MARKER) as path:
        path.write_text(json.dumps(sums, indent=2) + "\n", encoding="utf-8")


def check_checkpoint(checkpoint: Path) -> None:
    """Check that a checkpoint is what was saved, before the optimiser's state is read out of it.

    Raises:
        ValueError: a file is missing or has changed.
    """
    try:
        sums = json.loads((checkpoint / COMPLETE_MARKER).read_text(encoding="utf-8"))
        changed = [name for name, sha256 in sums.items() if sha256_of(checkpoint / name) != sha256]
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        changed = [getattr(error, "filename", None) or COMPLETE_MARKER]
    if changed:
        raise ValueError(
            f"{checkpoint}: is damaged, {Path(changed[0]).name} is not what was saved. Remove this "
            "folder: the run then goes on from an earlier checkpoint, or starts again."
        )


def complete_checkpoints(run: Path) -> list[Path]:
    """Return a run's whole checkpoints, oldest first."""
    found = [path for path in run.glob("checkpoint-*") if (path / COMPLETE_MARKER).is_file()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def remove_incomplete(run: Path) -> list[str]:
    """Remove the checkpoints that a kill left half written; return their names."""
    whole = set(complete_checkpoints(run))
    torn = [path for path in run.glob("checkpoint-*") if path not in whole]
    for path in torn:
        shutil.rmtree(path)
    return sorted(path.name for path in torn)


def remove_old(run: Path, best_step: int | None) -> None:
    """Remove all whole checkpoints but the newest and the best.

    Args:
        run: the run's folder.
        best_step: of the best checkpoint, if there is one yet.
    """
    for path in complete_checkpoints(run)[:-1]:
        if path != checkpoint_path(run, best_step):
            # Without its marker first, so that a kill in between leaves nothing that looks whole.
            (path / COMPLETE_MARKER).unlink()
            shutil.rmtree(path)


def export_model(checkpoint: Path, target: Path) -> None:
    """Copy a checkpoint's model, without the optimiser, to a folder of its own.

    Args:
        checkpoint: a whole checkpoint.
        target: replaced as one.

    Raises:
        ValueError: it cannot be written.
    """
    ignored = shutil.ignore_patterns(*_TRAINING_STATE, COMPLETE_MARKER)
    fresh = target.with_name(f".{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        shutil.copytree(checkpoint, fresh, ignore=ignored)
    except shutil.Error as error:  # it collects those of all files
        shutil.rmtree(fresh, ignore_errors=True)
        reason = " ".join(str(error.args[0][0][2]).split())
        raise ValueError(
            f"{target}: the model cannot be copied there, {reason}. Free some space, or check its "
            "rights, and call it again: the checkpoints are kept."
        ) from error
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def export_models(run: Path, best_step: int | None) -> None:
    """Copy the best and the last checkpoint's model to folders of their own.

    Args:
        run: the run's folder.
        best_step: of the best checkpoint; by its step, since the folder may have been moved.
    """
    remove_old(run, best_step)  # what a kill after the last checkpoint left
    last = complete_checkpoints(run)[-1]
    best = checkpoint_path(run, best_step)
    export_model(last, run / "last")
    export_model(best if best.is_dir() else last, run / "best")


# A run may go on with other values of these: they change no weight.
_FREE_SETTINGS = (
    "data.num_workers", "training.log_every_steps", "training.report_to",
    "training.save_every_steps",
)  # fmt: skip


def check_settings(
    run: Path, settings: dict[str, Any], defaults: dict[str, Any] | None = None
) -> None:
    """Check that a run folder is new, or holds a run with these settings.

    Args:
        run: the folder.
        settings: of the run.
        defaults: values of settings that an earlier version did not have yet.

    Raises:
        ValueError: it holds a run with other settings.
    """
    path = run / SETTINGS_FILE
    if path.exists():
        before = yaml.safe_load(path.read_text(encoding="utf-8"))
        before = flatten(defaults or {}) | flatten(before)
        _compare(run, "other settings", before, settings)


def claim_run(
    run: Path,
    settings: dict[str, Any],
    corpus: dict[str, Any],
    defaults: dict[str, Any] | None = None,
) -> None:
    """Write down what a run folder is for, or check that it is for the same.

    Args:
        run: made if it is missing.
        settings: of the run.
        corpus: what identifies the clips.
        defaults: see `check_settings`.

    Raises:
        ValueError: the folder holds a run with other settings or another corpus.
    """
    run.mkdir(parents=True, exist_ok=True)
    settings_path, corpus_path = run / SETTINGS_FILE, run / CORPUS_FILE
    check_settings(run, settings, defaults)
    if corpus_path.exists():
        _compare(run, "another corpus", json.loads(corpus_path.read_text(encoding="utf-8")), corpus)
    with atomic_path(settings_path) as path:
        path.write_text(yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")
    with atomic_path(corpus_path) as path:
        path.write_text(json.dumps(corpus, indent=2) + "\n", encoding="utf-8")


def _compare(run: Path, what: str, before: dict[str, Any], now: dict[str, Any]) -> None:
    changed = differing_names(before, now, _FREE_SETTINGS)
    if changed:
        name = changed[0]
        raise ValueError(
            f"{run}: holds a run with {what} ({name} is {flatten(before).get(name)!r} there and "
            f"{flatten(now).get(name)!r} now): give another --output, or the same to go on with it"
        )


def differing_names(
    first: dict[str, Any], second: dict[str, Any], free: Sequence[str] = ()
) -> list[str]:
    """Return the names, as `section.key`, whose values differ or that one of two lacks.

    Args:
        first: sections, of any depth.
        second: likewise.
        free: names that may differ.
    """
    ours, theirs = flatten(first), flatten(second)
    names = [name for name in {**ours, **theirs} if name not in free]
    return [name for name in names if ours.get(name) != theirs.get(name)]


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Name what sections hold by `section.key`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat
