"""A task's files -> its folder: fetched, checked and unpacked once.

    FOLDER/<remote.path>              each file, whole or not there (`mulap.downloads`)
    FOLDER/<remote.unpack_to>/...     what was in the archives (`mulap.archives`)
    FOLDER/.mulap/unpacked/<path>.json  which archive was unpacked, by its address and checksum,
                                      and what came out of it; written last

To resume after a kill, call it again. An archive that was unpacked may be deleted: as
long as its files are there it is not fetched again.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mulap.archives import OWN_FOLDER, unpack
from mulap.downloads import fetch
from mulap.files import AnyPath, atomic_path
from mulap.tasks.task import Remote, Task
from mulap.terminal import say


@dataclass
class FetchReport:
    """What was done to get a task's files."""

    task: str  # its name
    split_name: str  # which split's files were fetched
    folder: Path  # where they are
    by_hand: str  # instructions for files that the user must get; empty if there are none
    # Paths of files fetched now, relative to the folder
    fetched: list[str] = field(default_factory=list)
    # those that were there and right, or unpacked before
    already_there: list[str] = field(default_factory=list)
    # archives unpacked now; the first part stands for all
    unpacked: list[str] = field(default_factory=list)
    num_unpacked_files: int = 0  # how many files came out of them

    @property
    def summary(self) -> str:
        """What was done, in one line."""
        if not (self.fetched or self.already_there):
            where = "follow the instructions below" if self.by_hand else "see its homepage"
            return f"{self.task}: mulap may download none of its files; {where}"
        return (
            f"{self.task}: {len(self.fetched)} files fetched, {len(self.already_there)} already "
            f"present, {len(self.unpacked)} archives unpacked into {self.num_unpacked_files:,} "
            f"files, in {self.folder}"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the report as plain values, for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def fetch_task(task: Task, folder: AnyPath, split_name: str = "") -> FetchReport:
    """Fetch and unpack what may be fetched of a task.

    Args:
        task: one of the registry.
        folder: the task's; made if it is missing.
        split_name: one of the task's splits; empty means the default.

    Raises:
        ValueError: there is no such split, or a file cannot be fetched or unpacked. What was
            fetched before stays; the next run resumes.
    """
    folder, split_name = Path(folder), split_name or next(iter(task.splits), "")
    if split_name and split_name not in task.splits:
        known = ", ".join(task.splits)
        raise ValueError(f"{task.name}: there is no split '{split_name}'. Give {known}.")
    remotes = task.remotes.get("", ()) + (task.remotes.get(split_name, ()) if split_name else ())
    groups = _group_parts(remotes)
    report = FetchReport(task.name, split_name, folder, task.by_hand)
    for number, group in enumerate(groups, start=1):
        paths = [remote.path for remote in group]
        if group[0].unpack_to is not None and _is_unpacked(group, folder):
            report.already_there += paths
            continue
        for remote in group:
            target = folder / remote.path
            is_new = fetch(remote.url, target, remote.checksum, remote.num_bytes)
            (report.fetched if is_new else report.already_there).append(remote.path)
        if group[0].unpack_to is not None:
            report.num_unpacked_files += _unpack_group(group, folder)
            report.unpacked.append(paths[0])
        say(f"{task.name}: {number} of {len(groups)} done, {paths[0]}")
    return report


def _group_parts(remotes: Sequence[Remote]) -> list[list[Remote]]:
    """Put the parts of one archive together; all else stands alone, in order."""
    groups: dict[str, list[Remote]] = {}
    for remote in remotes:
        is_archive = remote.unpack_to is not None
        name = re.sub(r"\.\d{3}$", "", remote.path) if is_archive else remote.path
        groups.setdefault(name, []).append(remote)
    return list(groups.values())


def _marker_path(group: Sequence[Remote], folder: Path) -> Path:
    return folder / OWN_FOLDER / "unpacked" / f"{group[0].path.replace('/', '-')}.json"


def _describe(group: Sequence[Remote]) -> list[dict[str, Any]]:
    return [asdict(remote) for remote in group]


def _unpack_group(group: Sequence[Remote], folder: Path) -> int:
    """Unpack an archive and note what came out of it; return how many files."""
    assert group[0].unpack_to is not None
    target = folder / group[0].unpack_to
    files = unpack([folder / remote.path for remote in group], target)
    names = [file.relative_to(folder).as_posix() for file in files]
    marker = _marker_path(group, folder)
    try:
        with atomic_path(marker) as temporary:
            content = json.dumps({"archive": _describe(group), "files": names})
            temporary.write_text(content, encoding="ascii")
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        raise ValueError(f"{marker}: {reason}. Free some space, or give another folder.") from error
    return len(names)


def _is_unpacked(group: Sequence[Remote], folder: Path) -> bool:
    """Whether this very archive was unpacked and all its files are still there."""
    try:
        noted = json.loads(_marker_path(group, folder).read_text(encoding="ascii"))
    except (FileNotFoundError, ValueError):
        return False
    if not isinstance(noted, dict) or noted.get("archive") != _describe(group):
        return False
    return all((folder / name).is_file() for name in noted["files"])
