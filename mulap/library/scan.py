"""The files of the music's folders compared with the known ones, by size and time alone.

    found on the disk        known, same version     unchanged; one that failed is left alone by
                            the versions of mulap and its decoders that failed
                             known, other version    changed
                             not known               new, or moved, see below
    known, but not found     the disk is there       gone
                             its folder cannot be listed, or no answer    as it was

A file moved if a file of its size is gone and both have the same audio: of those alone the audio is
hashed here. If most files of a folder are gone, its disk is probably not mounted.
"""

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mulap.audio import AudioError, find_audio
from mulap.library.known import LibraryFiles, decoder_version
from mulap.terminal import Progress
from mulap.vectors.keys import audio_key, file_name, file_version

_LEAST_GONE = 10  # fewer can be gone from a folder that has others left


@dataclass
class Scan:
    """What was found. Names are absolute paths, as `file_name` writes them."""

    paths: dict[str, Path] = field(default_factory=dict)  # of all files that are there
    versions: dict[str, str] = field(default_factory=dict)  # of the same
    new: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    moved: dict[str, str] = field(default_factory=dict)  # new name -> key of its audio
    gone: list[str] = field(default_factory=list)  # moved ones too
    again: list[str] = field(default_factory=list)  # unchanged, but known without certainty
    # (file or folder, reason) of what did not answer; what is known of it stays
    failures: list[tuple[str, str]] = field(default_factory=list)
    left_aside: Counter[str] = field(default_factory=Counter)  # ending -> files without audio

    def counts(self, known: LibraryFiles) -> dict[str, int]:
        """Return what a user reads about the scan: how many files are new, changed ..."""
        looked_at = {*self.new, *self.changed}
        unreadable = sum(
            file in self.versions and file not in looked_at for file, _ in known.failures()
        )
        return {
            "new": len(self.new) - len(self.moved),
            "changed": len(self.changed),
            "moved": len(self.moved),
            "gone": max(0, len(self.gone) - len(self.moved)),
            "unreadable": unreadable,
        }


def scan_files(roots: Sequence[str], known: LibraryFiles) -> Scan:
    """Look at the files of some folders.

    Args:
        roots: absolute paths of folders and files.
        known: the files of the library; those outside of the roots are passed over.

    Raises:
        ValueError: a root of which no file is known does not exist.
    """
    scan = Scan()
    for path in _find(roots, known, scan):
        file = file_name(path)
        try:
            scan.versions[file] = file_version(path)
        except FileNotFoundError:  # gone since it was found
            continue
        except OSError as error:
            scan.failures.append((file, f"cannot be read: {error.strerror}. Check the disk."))
            continue
        scan.paths[file] = path
        _sort_in(scan, known, file)
    within, no_answer = _names(roots), _names(name for name, _ in scan.failures)
    for file in known:
        if file not in scan.versions and is_within(file, within) and not is_within(file, no_answer):
            scan.gone.append(file)
    _find_moved(scan, known)
    return scan


def check_disks(roots: Sequence[str], known: LibraryFiles, scan: Scan) -> None:
    """Refuse to go on if a disk is probably not there.

    Raises:
        ValueError: of the known files of a root all are gone, or ten and more than half of them.
    """
    sources = Counter(scan.moved.values())
    lost = []
    for file in scan.gone:
        key = known.get(file).key  # pyright: ignore[reportOptionalMemberAccess] (it is known)
        if key and sources[key]:
            sources[key] -= 1  # it only moved
        else:
            lost.append(file)
    for root in _names(roots):
        num_known = sum(is_within(file, [root]) for file in known)
        num_gone = sum(is_within(file, [root]) for file in lost)
        is_most = num_gone >= _LEAST_GONE and num_gone > num_known / 2
        if num_gone and (is_most or not any(is_within(file, [root]) for file in scan.versions)):
            raise ValueError(
                f"{root}: {num_gone:,} of {num_known:,} indexed files are gone. Is the disk there? "
                "Nothing was removed (--prune removes them)."
            )


def is_within(file: str, roots: Iterable[str]) -> bool:
    """Return whether a file is one of some paths, or below one."""
    return any(file == root or file.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _names(paths: Iterable[str]) -> list[str]:
    """Return paths as files of the library are named, also where they are not UTF-8."""
    return [file_name(path) for path in paths]


def _find(roots: Sequence[str], known: LibraryFiles, scan: Scan) -> list[Path]:
    """Return the audio files below the roots that exist."""
    there = []
    for root in roots:
        if os.path.exists(root) or not any(is_within(file, _names([root])) for file in known):
            there.append(root)  # one that is missing from the start is an error
    return find_audio(there, scan.failures, scan.left_aside) if there else []


def _sort_in(scan: Scan, known: LibraryFiles, file: str) -> None:
    before = known.get(file)
    if before is None:
        scan.new.append(file)
    elif before.version != scan.versions[file]:
        scan.changed.append(file)
    elif not before.is_final or (before.reason and before.decoder != decoder_version()):
        scan.again.append(file)


def _find_moved(scan: Scan, known: LibraryFiles) -> None:
    """Hash the new files that have the size of one that is gone."""
    gone_keys = Counter[str]()
    sizes = set()
    for file in scan.gone:
        before = known.get(file)
        if before and before.key:
            gone_keys[before.key] += 1
            sizes.add(before.version.partition("-")[0])
    maybe = [file for file in scan.new if scan.versions[file].partition("-")[0] in sizes]
    with Progress("looking for moved files", len(maybe)) as progress:
        for file in maybe:
            try:
                key = audio_key(scan.paths[file])
            except AudioError:  # said when it is embedded
                key = ""
            if gone_keys[key]:
                gone_keys[key] -= 1
                scan.moved[file] = key
            progress.advance()
