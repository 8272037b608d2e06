"""The table of packages whose music is used (packages.csv).

Columns of packages.csv:
    package, registry, version    debian or npm; a version for npm only
    split                         train, valid or test: packages are held out whole
    megabytes                     that are downloaded
    licence, attribution          of files that the package's copyright file does not name
    about                         what the music is for, without an article: "fantasy strategy game"
    composer                      of all tracks, where it is one person
    files                         a regular expression: which paths are used; empty means all but
                                  what lies in folders of effects, voices and ambience
    style                         of all tracks, where the package is made of one
"""

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

MACHINE_MADE = "machine-made"
"""The split of music that a generator made: for evaluation only, in a folder of its own."""

_EFFECTS = re.compile(r"/(s|snd|sfx|sounds?|soundfx|effects?|speech|voices?|ambien(t|ce))/", re.I)
# What a licence must be one of, or a choice of, to be used.
_FREE = re.compile(
    r"(CC0(-1\.0)?|CC-BY(-SA)?(-\d(\.\d)?)?\+?|[AL]?GPL(v?-?\d(\.\d)?)?\+?|public[ -]domain|PD"
    r"|Expat|MIT|ISC|Zlib|BSD(-\d-clause)?|Artistic(-2\.0)?|Free-Art-License-1\.[23]|OFL-1\.1)",
    re.I,
)


@dataclass(frozen=True)
class Source:
    """A package of music."""

    package: str
    registry: str
    version: str
    split: str
    megabytes: int
    licence: str
    attribution: str
    about: str
    composer: str
    files: str
    style: str

    def uses(self, path: str) -> bool:
        """Say whether an audio file of the package, by its installed path, is music to use."""
        if self.files:
            return bool(re.search(self.files, path))
        return "music" in path.lower() or not _EFFECTS.search(f"/{path}")


def read_sources(packages: Sequence[str] = ()) -> list[Source]:
    """Return the table's packages, or those of the names given, in the table's order.

    Raises:
        ValueError: a name is not in the table.
    """
    with open(Path(__file__).parent / "packages.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    sources = [Source(**{**row, "megabytes": int(row["megabytes"])}) for row in rows]
    known = {source.package for source in sources}
    for name in packages:
        if name not in known:
            raise ValueError(
                f"{name}: is not in the table of packages. Choose from: {', '.join(sorted(known))}"
            )
    return [source for source in sources if not packages or source.package in packages]


def is_free(licence: str) -> bool:
    """Say whether all licences of an "and" list, or one of an "or" list, are free ones."""
    choices = re.split(r"\s+or\s+|\s*\|\s*", licence.strip(), flags=re.I)
    return any(
        all(_FREE.fullmatch(each.strip()) for each in re.split(r"\s+and\s+|,\s*", choice) if each)
        and bool(choice.strip())
        for choice in choices
    )
