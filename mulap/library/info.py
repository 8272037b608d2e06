"""What a library holds: counts, sizes, failures and the last run."""

import os
from typing import Any

from mulap.files import AnyPath
from mulap.library.about import JOURNAL, Space, read_about
from mulap.library.known import LibraryFiles
from mulap.library.store import Store


def library_info(folder: AnyPath) -> dict[str, Any]:
    """Describe a library, as `mulap info --json` prints it.

    Raises:
        ValueError: the folder is not a library, or its tables cannot be read.
    """
    about, store = read_about(folder), Store.open(folder)
    known = LibraryFiles(store.folder / JOURNAL)
    failures = len(known.failures())
    return {
        "library": os.path.abspath(folder),
        "space": about.space.name,
        "model": about.space.model,
        "size": about.space.size,
        "tracks": len(store),
        "files": len(known) - failures,
        "windows": store.num_windows(),
        "failures": failures,
        "unindexed": store.unindexed(),
        "tags": sorted(store.own_tags() or ()),
        "bytes": _count_bytes(folder),
        "filling": about.filling.name if about.filling else None,
        "filled": _count_filled(folder, about.filling) if about.filling else None,
        "music": list(about.roots),
        "last_run": about.last_run or None,
    }


def _count_filled(folder: AnyPath, space: Space) -> int:
    try:
        return len(Store(folder, space))
    except ValueError:  # an upgrade was stopped before it made its tables
        return 0


def _count_bytes(folder: AnyPath) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(parent, name)).st_size
            except FileNotFoundError:  # compacted away meanwhile
                continue
    return total
