"""The tracks of a library by id, and their audio. An id is looked up, and never part of a path."""

import os
import re
from typing import TYPE_CHECKING, Any

from starlette.responses import FileResponse

from mulap.vectors.keys import real_path
from mulap.web.limits import Refused

if TYPE_CHECKING:
    from mulap.library.library import Library

_ID = re.compile(r"[0-9a-zA-Z:_.-]{1,128}")
# What browsers play, by the ending; they look at the content of everything else themselves.
_TYPES = {
    **dict.fromkeys((".mp3", ".mp2", ".mpa"), "audio/mpeg"),
    **dict.fromkeys((".m4a", ".m4b", ".mp4", ".aac"), "audio/mp4"),
    **dict.fromkeys((".ogg", ".oga", ".opus"), "audio/ogg"),
    **dict.fromkeys((".wav", ".wave"), "audio/wav"),
    ".flac": "audio/flac",
    ".webm": "audio/webm",
    ".weba": "audio/webm",
}


def find_track(library: "Library | None", name: Any) -> dict[str, Any]:
    """Return the row of a track.

    Raises:
        Refused: there is no such track.
    """
    row = None
    if library is not None and isinstance(name, str) and _ID.fullmatch(name):
        row = library.store.track(name)
    if row is None:
        raise Refused(404, "No track has this id.", "Search again: the library may have changed.")
    return row


def existing_file(row: dict[str, Any]) -> str:
    """Return the first file of a track that is there.

    Raises:
        Refused: none is.
    """
    for file in map(real_path, row["files"]):
        if os.path.isfile(file):
            return file
    raise Refused(410, "This file is no longer there.", "Run mulap index to tidy up.")


def audio_of(row: dict[str, Any]) -> FileResponse:
    """Return a track's audio; parts of it by HTTP ranges.

    Raises:
        Refused: its files are gone.
    """
    file = existing_file(row)
    kind = _TYPES.get(os.path.splitext(file)[1].lower(), "application/octet-stream")
    return FileResponse(file, media_type=kind, headers={"cache-control": "private, max-age=3600"})
