"""Debian's machine-readable copyright files -> the licence and the holders of one file.

The paragraphs name files of the source package, the music lies where the package installs it: so a
pattern fits where it fits the end of the path, at first as it is, then without its first folders.
As in the format, the last paragraph that fits wins.

Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
"""

import fnmatch
import re
from dataclasses import dataclass
from pathlib import PurePosixPath

_LONGEST_HOLDERS = 300  # characters
_YEARS = re.compile(r"^[\s©(c)]*(\d{4}\s*([-–,]\s*(\d{2,4}|present))*[\s,:]*)+", re.I)


@dataclass(frozen=True)
class Paragraph:
    """Files of one licence."""

    patterns: tuple[str, ...]
    holders: str
    licence: str  # its short name, as GPL-2+


def parse_copyright(text: str) -> list[Paragraph]:
    """Return the paragraphs about files; none where the text is not in the format."""
    if not text.lstrip().startswith("Format"):
        return []
    found = []
    for block in re.split(r"\n\s*\n", text):
        fields: dict[str, list[str]] = {}
        lines: list[str] = []
        for line in block.splitlines():
            if match := re.match(r"([A-Za-z-]+):\s*(.*)", line):
                lines = fields.setdefault(match[1].lower(), [])
                line = match[2]
            lines.append(line.strip())
        if "files" in fields and fields.get("license"):
            patterns = tuple(" ".join(fields["files"]).replace(",", " ").split())
            found.append(
                Paragraph(patterns, _join_holders(fields), " ".join(fields["license"][0].split()))
            )
    return found


def find_paragraph(paragraphs: list[Paragraph], path: str) -> Paragraph | None:
    """Return the paragraph for a file by its installed path; None if none fits."""
    found = None
    for paragraph in paragraphs:
        if any(_fits(pattern, path) for pattern in paragraph.patterns):
            found = paragraph
    return found


def _fits(pattern: str, path: str) -> bool:
    if pattern == "*":
        return True
    parts = PurePosixPath(pattern.removeprefix("./")).parts
    if parts[0] == "debian":
        return False
    for start in range(len(parts)):
        rest = "/".join(parts[start:])
        # What is left must name something: `*.ogg` of one folder is not that of another.
        is_telling = start == 0 or not parts[-1].startswith("*") or len(parts) - start > 1
        if is_telling and fnmatch.fnmatchcase("/" + path, "*/" + rest):
            return True
    return False


def _join_holders(fields: dict[str, list[str]]) -> str:
    holders = [_YEARS.sub("", line) for line in fields.get("copyright", []) if line]
    names = dict.fromkeys(re.sub(r"\s*<[^>]*>", "", holder).strip(" ,") for holder in holders)
    return ", ".join(filter(None, names))[:_LONGEST_HOLDERS]
