"""The files of a library: which version of each was looked at, and what came of it.

They are in a journal; the last line of a file counts. The tables follow from it: a track has the
files whose key it is.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import av
import soundfile as sf

from mulap import __version__
from mulap.files import atomic_path
from mulap.vectors.journal import Journal, read_journal

# A file may be written again within one tick of its clock, unseen: the younger are hashed again.
_SETTLED_NANOSECONDS = 2_000_000_000
_MOST_LINES = 2  # a file, before the journal is written again without the outdated ones


def decoder_version() -> str:
    """Name the versions of all that decodes: what one could not use, another may."""
    versions = {"av": av.__version__, "soundfile": sf.__version__, "mulap": __version__}
    return ", ".join(f"{name} {version}" for name, version in versions.items())


@dataclass(frozen=True)
class Known:
    """What is known of a file.

    Attributes:
        version: of the file, see `mulap.vectors.keys.file_version`.
        key: of its audio; empty if it cannot be used.
        reason: why it cannot be used; empty if it can.
        is_final: False if it has to be looked at again: it was too young, or could not be opened.
        decoder: what could not use it, see `decoder_version`: another version may.
    """

    version: str
    key: str = ""
    reason: str = ""
    is_final: bool = True
    decoder: str = ""


class LibraryFiles:
    """The known files of a library, by absolute path. Close it at the end."""

    def __init__(self, path: Path) -> None:
        self._path, self._files, self._num_lines = path, dict[str, Known](), 0
        for line in read_journal(path):
            self._num_lines += 1
            name = line.pop("file")
            if line["version"]:
                self._files[name] = Known(**line)
            else:
                self._files.pop(name, None)
        self._journal: Journal | None = None

    def __iter__(self) -> Iterator[str]:
        """Yield the files in order."""
        return iter(sorted(self._files))

    def __len__(self) -> int:
        return len(self._files)

    def get(self, file: str) -> Known | None:
        """Return what is known of a file."""
        return self._files.get(file)

    def set(self, file: str, known: Known) -> None:
        """Remember a file; of one that was just written, that it has to be looked at again."""
        age = time.time_ns() - int(known.version.partition("-")[2])
        is_settled = abs(age) > _SETTLED_NANOSECONDS  # no later write has a time in the future
        known = replace(known, is_final=known.is_final and is_settled)
        if self._files.get(file) != known:
            self._files[file] = known
            self._append(file, known)

    def remove(self, file: str) -> None:
        """Forget a file."""
        del self._files[file]
        self._append(file, Known(""))

    def by_key(self) -> dict[str, list[str]]:
        """Return the files of each audio, in order."""
        found: dict[str, list[str]] = {}
        for file in self:
            if key := self._files[file].key:
                found.setdefault(key, []).append(file)
        return found

    def failures(self) -> list[tuple[str, str]]:
        """Return the files that cannot be used, each with its reason, in order."""
        return [(file, reason) for file in self if (reason := self._files[file].reason)]

    def close(self) -> None:
        """Bring the journal to the disk, and write it again if most of it is outdated."""
        if self._journal:
            self._journal.sync()
            self._journal.close()
            self._journal = None
        if self._num_lines > _MOST_LINES * len(self._files) + 1_000:
            with atomic_path(self._path) as temporary:
                journal = Journal(temporary)
                for file in self:
                    journal.append({"file": file, **vars(self._files[file])})
                journal.close()

    def _append(self, file: str, known: Known) -> None:
        self._journal = self._journal or Journal(self._path)
        self._journal.append({"file": file, **vars(known)})
        self._num_lines += 1
