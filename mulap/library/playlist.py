"""Playlists, as players read them: extended m3u8, UTF-8 without a byte order mark.

Paths are written relative to the playlist, with `/`, so that playlists move with their music.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from mulap.files import AnyPath, atomic_path

SUFFIXES = (".m3u8", ".m3u")


class Entry(NamedTuple):
    """A track of a playlist."""

    file: str  # its path
    seconds: float
    name: str  # to be shown, such as "Artist - Title"


def write_playlist(path: AnyPath, entries: Iterable[Entry]) -> None:
    """Write a playlist; an earlier one is replaced.

    Raises:
        ValueError: a path cannot be written in a playlist, or the name does not end in .m3u8.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: is no playlist's name. Let it end in .m3u8.")
    text = playlist_text(entries, os.path.abspath(path.parent))
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode("utf-8"))


def playlist_text(entries: Iterable[Entry], folder: str = "") -> str:
    """Return what is in a playlist: paths relative to its folder, or absolute without one.

    Raises:
        ValueError: a path cannot be written in a playlist.
    """
    lines = ["#EXTM3U"]
    for entry in entries:
        path = Path(os.path.relpath(entry.file, folder) if folder else entry.file).as_posix()
        if len(path.splitlines()) > 1:
            raise ValueError(f"{entry.file!r}: has no place in a playlist. Rename the file.")
        shown = f"./{path}" if path.startswith("#") else path  # # begins a comment
        lines += [f"#EXTINF:{round(entry.seconds)},{one_line(entry.name)}", shown]
    return "\n".join(lines) + "\n"


def read_playlist(path: AnyPath) -> list[str]:
    """Return the absolute paths that a playlist names; addresses of streams are left out.

    Raises:
        ValueError: the file cannot be read, or is no text.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"{path}: cannot be read, {error.strerror}. Give a playlist.") from error
    if b"\0" in content:
        raise ValueError(f"{path}: is no playlist. Give an .m3u8 file.")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = content.decode("cp1252", "replace")  # an .m3u of old
    folder = os.path.abspath(os.path.dirname(os.fspath(path)))
    found = []
    for line in map(str.strip, text.splitlines()):
        if line.startswith("file://"):
            line = unquote(line.removeprefix("file://"))
        if line and not line.startswith("#") and not re.match(r"\w{2,}://", line):
            found.append(os.path.normpath(os.path.join(folder, line)))
    return found


def one_line(text: str) -> str:
    """Return text without line breaks and control characters, which a terminal would obey."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
