"""Check that a task's data is complete and what was published.

Counts tracks by split beside the published sizes, looks for every audio file, decodes each to its
end, and sums labels and playing time. A file that decodes may still be another recording: where
the source publishes checksums, `mulap.tasks.fetch` compares them.
"""

import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mulap.audio import SAMPLING_RATE
from mulap.data.reader import Decoding, decode_files
from mulap.data.splits import SPLITS, find_leaking_groups
from mulap.tasks.task import Fold, TaskData

MISSING = "does not exist"


@dataclass(frozen=True)
class SplitReport:
    """One split of a task."""

    num_tracks: int  # that the label files list; summed over folds
    num_published: int | None  # how many there should be; None where nothing is published
    num_missing: int  # of them without an audio file
    num_undecodable: int  # of them whose audio cannot be used
    duration_seconds: float | None  # of what was decoded; None where nothing was
    # label -> tracks that have it (tags, class), or the mean value (numbers)
    labels: dict[str, float]


@dataclass(frozen=True)
class TaskReport:
    """What a task's folder holds."""

    task: str  # its name
    split_name: str  # which split was looked at
    root: Path  # its folder
    is_decoded: bool  # True if every file was decoded; False if only looked for
    splits: dict[str, SplitReport]  # train, valid and test
    missing: list[str]  # names of audio files that are not there
    # (file name, reason) of those that are there and cannot be used
    undecodable: list[tuple[str, str]]
    # of all that was decoded, each file once; None where nothing was
    duration_seconds: float | None
    # (source, reason): rows left out, and files or groups in two splits
    problems: list[tuple[str, str]]
    # artists or the like in two splits, with those splits
    leaking_groups: dict[str, tuple[str, ...]]
    num_unusable_rows: int  # of a table of the user's own; told in `problems`
    notes: list[str]  # how the labels of such a table were read

    @property
    def num_unusable(self) -> int:
        """How many files and rows cannot be used."""
        return len(self.missing) + len(self.undecodable) + self.num_unusable_rows

    @property
    def is_whole(self) -> bool:
        """Whether every listed track is there and usable. Leaks are the source's, not ours."""
        sizes = (split.num_published in (None, split.num_tracks) for split in self.splits.values())
        return all(sizes) and not self.num_unusable

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return {**asdict(self), "root": str(self.root), "is_whole": self.is_whole}


def verify_task(data: TaskData, decode: bool = True, num_processes: int = 2) -> TaskReport:
    """Look at every file of a task: what is there, what is missing, and what cannot be used.

    Args:
        data: the tracks, read from the task's own files.
        decode: decode each file to its end; if not, it only has to be there and not be empty.
        num_processes: that decode side by side.

    Raises:
        ValueError: a decoding process died, as for want of memory.
    """
    names = list(dict.fromkeys(example.file_name for example in data.examples))
    found = {name: (0.0, _look(data.root / name)) for name in names}
    if decode:
        there = [name for name in names if found[name][1] != MISSING]
        paths = [data.root / name for name in there]
        outcomes = decode_files(paths, Decoding(SAMPLING_RATE), num_processes)
        for name, decoded in zip(there, outcomes, strict=True):
            found[name] = decoded.num_samples / SAMPLING_RATE, decoded.reason
    return TaskReport(
        task=data.task.name,
        split_name=data.split_name,
        root=data.root,
        is_decoded=decode,
        splits={split: _report_split(data, split, found, decode) for split in SPLITS},
        missing=[name for name, (_, reason) in found.items() if reason == MISSING],
        undecodable=[
            (name, reason) for name, (_, reason) in found.items() if reason not in ("", MISSING)
        ],
        duration_seconds=sum(seconds for seconds, _ in found.values()) if decode else None,
        problems=data.problems + _find_shared_files(data),
        leaking_groups=_find_leaks(data),
        num_unusable_rows=data.num_unusable_rows,
        notes=data.notes,
    )


def _look(path: Path) -> str:
    """Say why a file cannot be audio, without opening it; "" if it may be."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return MISSING
    except OSError as error:  # in a folder that is closed to us
        return f"cannot be read: {error.strerror}. Check the file and your rights to it."
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file. Replace it."
    return "" if status.st_size else "is empty, 0 bytes. Replace the file."


def _report_split(
    data: TaskData, split: str, found: dict[str, tuple[float, str]], is_decoded: bool
) -> SplitReport:
    rows = np.concatenate([getattr(fold, split) for fold in data.folds])
    outcomes = [found[data.examples[row].file_name] for row in rows]
    reasons = [reason for _, reason in outcomes if reason]
    published = data.task.splits.get(data.split_name)
    return SplitReport(
        num_tracks=len(rows),
        num_published=published[SPLITS.index(split)] if published else None,
        num_missing=reasons.count(MISSING),
        num_undecodable=len(reasons) - reasons.count(MISSING),
        duration_seconds=sum(seconds for seconds, _ in outcomes) if is_decoded else None,
        labels=_sum_labels(data, rows),
    )


def _sum_labels(data: TaskData, rows: np.ndarray) -> dict[str, float]:
    targets, labels = data.targets[rows], data.task.labels
    if data.task.kind == "numbers":
        values = targets.mean(0).tolist()
    elif data.task.kind == "class":
        values = np.bincount(targets, minlength=len(labels)).tolist()
    else:
        values = targets.sum(0).tolist()
    return dict(zip(labels, values, strict=True))


def _find_leaks(data: TaskData) -> dict[str, tuple[str, ...]]:
    """Return the groups that lie in two splits of one fold."""
    leaks: dict[str, tuple[str, ...]] = {}
    for fold in data.folds:
        groups = ((data.examples[row].group, split) for row, split in _rows_of(fold))
        leaks |= find_leaking_groups(pair for pair in groups if pair[0])
    return leaks


def _find_shared_files(data: TaskData) -> list[tuple[str, str]]:
    """Return the files that stand for tracks in two splits of one fold, each with the reason."""
    shared: dict[str, str] = {}
    for fold in data.folds:
        split_of: dict[str, str] = {}
        for row, split in _rows_of(fold):
            name = data.examples[row].file_name
            first = split_of.setdefault(name, split)
            if first != split:
                shared[name] = f"one file in two splits, {first} and {split}. Keep it in one."
    return list(shared.items())


def _rows_of(fold: Fold) -> Iterator[tuple[int, str]]:
    for split in SPLITS:
        for row in getattr(fold, split).tolist():
            yield row, split
