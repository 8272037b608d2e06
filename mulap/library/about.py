"""library.json: which embedding space answers, which one is being filled, and the music's folders.

LIB/
  library.json    this file, replaced atomically
  files.journal   every known file: its version, and its audio's key or why it cannot be used
  lance/          two tables per embedding space, see `mulap.library.store`
  lock            held by the one process that writes
  .indexing       how many tracks there will be, while it adds some
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from mulap.files import AnyPath, atomic_path, leftover_path, remove_leftover
from mulap.locks import hold_lock

FILE = "library.json"
JOURNAL = "files.journal"
_INDEXING = ".indexing"
_FORMAT = 1


@dataclass(frozen=True)
class Space:
    """An embedding space of a library."""

    name: str  # NAME@HASH: the model's name and the first 8 hex digits of its weights' hash
    model: str  # what `load_encoder` takes
    size: int  # length D of a point

    @property
    def hash(self) -> str:
        """The 8 hex digits after the name."""
        return self.name.rpartition("@")[2]


@dataclass(frozen=True)
class About:
    """What library.json says."""

    space: Space  # the one that answers
    filling: Space | None = None  # the one that `index --upgrade` is filling
    roots: tuple[str, ...] = ()  # absolute paths of the folders and files that were indexed
    last_run: dict[str, Any] = field(default_factory=dict)  # what the last finished run did
    tables: str = ""  # where the tables are, such as s3://bucket/lance; empty: in the folder

    def write(self, folder: AnyPath) -> None:
        """Replace library.json."""
        with atomic_path(Path(folder) / FILE) as temporary:
            values = asdict(self)
            if not self.tables:
                del values["tables"]  # versions before do not know it
            text = json.dumps({"format": _FORMAT, **values}, indent=2)
            temporary.write_text(text + "\n", encoding="utf-8")

    def switched(self) -> "About":
        """Return the same library with the filled space in the place of the old one."""
        assert self.filling
        return replace(self, space=self.filling, filling=None)


def default_library() -> Path:
    """Return the library's folder if none is named, in the user's data folder."""
    home = os.environ.get("XDG_DATA_HOME") or os.path.join("~", ".local", "share")
    return Path(home).expanduser() / "mulap" / "library"


def is_library(folder: AnyPath) -> bool:
    """Return whether a folder is a library."""
    return os.path.isfile(os.path.join(folder, FILE))


def read_about(folder: AnyPath) -> About:
    """Read library.json.

    Raises:
        ValueError: the folder is not a library, or library.json is damaged or of a later mulap.
    """
    path = Path(folder) / FILE
    if not path.is_file():
        raise ValueError(f"{folder}: is not a library. Make one: mulap index MUSIC --library DIR.")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("format") > _FORMAT:
            raise ValueError(f"{path}: was written by a later mulap. Install that version.")
        space, filling = Space(**values.pop("space")), values.pop("filling")
        roots = tuple(values.pop("roots"))
        return About(space, Space(**filling) if filling else None, roots, **values)
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{path}: is damaged. Remove the library's folder and run mulap index again."
        ) from error


@contextmanager
def writing(folder: AnyPath) -> Iterator[None]:
    """Make a library's folder if it is missing, and be the only one that writes to it.

    Raises:
        ValueError: another process writes to it.
        OSError: the folder is read-only, or is a file.
    """
    os.makedirs(folder, exist_ok=True)
    busy = f"{folder}: another mulap index is writing to this library. Wait for it to end."
    try:
        with hold_lock(Path(folder) / "lock", busy):
            for name in (FILE, JOURNAL):
                remove_leftover(leftover_path(Path(folder) / name))  # of a kill
            (Path(folder) / _INDEXING).unlink(missing_ok=True)
            yield
    finally:
        if not os.listdir(folder):  # nothing came of a new one
            os.rmdir(folder)


@contextmanager
def announce(folder: AnyPath, num_tracks: int) -> Iterator[None]:
    """Let readers know how many tracks there will be once the block has run."""
    path = Path(folder) / _INDEXING
    path.write_text(json.dumps({"process": os.getpid(), "tracks": num_tracks}), encoding="utf-8")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_announced(folder: AnyPath) -> int | None:
    """Return how many tracks there will be; None if no process of this machine adds any."""
    try:
        values = json.loads((Path(folder) / _INDEXING).read_text(encoding="utf-8"))
        process, num_tracks = int(values["process"]), int(values["tracks"])
    except (OSError, ValueError, KeyError, TypeError):  # none, or what a kill left of it
        return None
    try:
        os.kill(process, 0)  # is it alive?
    except PermissionError:  # it is, and another user's
        return num_tracks
    except (OSError, OverflowError):
        return None
    return num_tracks
