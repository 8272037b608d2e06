"""What files say of themselves: title, artist ... as `mulap corpus` reads them, and all other tags.

mood, bpm, key, comment ... have columns of their own, made when a tag first comes up: `text_mood`,
and `number_bpm` beside `text_bpm` where the text is a number.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mulap.audio import AudioError, probe_audio
from mulap.corpora.tags import describe_tags

TAGS_VERSION = 1  # of `read_tags`; the tags of rows of another version are read again
TEXT, NUMBER = "text_", "number_"
_FIXED = ("title", "artist", "album", "genre")
_MOST_CHARACTERS = 1_000  # of a value: lyrics are longer
# The names of mp3, m4a and Vorbis files for the same.
_NAMES = {
    **{"tempo": "bpm", "tbpm": "bpm", "tmpo": "bpm"},
    **{"initialkey": "key", "initial_key": "key", "tkey": "key"},
    **{"tmoo": "mood", "tit1": "grouping", "contentgroup": "grouping", "tlan": "language"},
    **{"publisher": "label", "tpub": "label", "organization": "label", "description": "comment"},
    **{"albumartist": "album_artist", "tracknumber": "track", "discnumber": "disc"},
}
# Fixed columns, and what programs write for each other; "und" is their unknown language.
_LEFT_OUT = re.compile(
    r"title|artist|album|genre|date|year|encod.*|software|tsse|tenc|tlen|vendor.*|handler_name|"
    r"(major|compatible)_brands?|minor_version|creation_time|itun.*|waveformat.*|.*picture|"
    r"cover.*|id3v2_priv.*"
)
_NUMBER = re.compile(r"([-+]?[0-9]{1,15}(?:\.[0-9]{1,15})?)\s*(?:dB|LUFS|BPM|Hz|%)?", re.IGNORECASE)


def read_tags(path: Path, fallback_seconds: float = 0.0) -> dict[str, Any]:
    """Return columns of a file's row: title, artist, album, genre, year, seconds and its own tags.

    The title is made of the file's name where it has none. Of a file whose headers cannot be read
    that is all.
    """
    tags: Mapping[str, str] = {}
    try:
        info = probe_audio(path)
        tags, seconds = info.tags, info.duration_seconds
    except AudioError:
        seconds = fallback_seconds
    said = describe_tags(tags, path.name)
    about: dict[str, Any] = {tag: said.get(tag, "") for tag in _FIXED}
    about |= {"year": int(said.get("year", 0)), "seconds": seconds or fallback_seconds}
    return about | {"tags_version": TAGS_VERSION} | own_tags(tags)


def own_tags(tags: Mapping[str, str]) -> dict[str, Any]:
    """Return tags without columns of their own yet: `text_NAME`, and `number_NAME` of numbers."""
    found: dict[str, Any] = {}
    # A name that needs no translation comes last, and so wins.
    for given, text in sorted(tags.items(), key=lambda item: own_name(item[0]) == item[0]):
        name, value = own_name(given), " ".join(text.split())[:_MOST_CHARACTERS]
        if name and value not in ("", "und") and not _LEFT_OUT.fullmatch(name):
            found.pop(NUMBER + name, None)
            found[TEXT + name] = value.encode("utf-8", "replace").decode("utf-8")
            if (number := as_number(value)) is not None:
                found[NUMBER + name] = number
    return found


def own_name(name: str) -> str:
    """Return the name of a tag as conditions write it: letters, digits and _, in lower case."""
    plain = re.sub(r"\W+", "_", name.encode("utf-8", "replace").decode("utf-8").lower()).strip("_")
    return _NAMES.get(plain, plain)


def as_number(text: str) -> float | None:
    """Return the number that a text is, such as `128` or `-7.3 dB`."""
    matched = _NUMBER.fullmatch(text.strip())
    return float(matched[1]) if matched else None


def is_own(column: str) -> bool:
    """Return whether a column of tracks is of a tag without a fixed column."""
    return column.startswith((TEXT, NUMBER))


def own_columns(names: Iterable[str]) -> list[pa.Field]:
    """Return the columns of tags among some names, sorted."""
    return [
        pa.field(name, pa.string() if name.startswith(TEXT) else pa.float64())
        for name in sorted(filter(is_own, set(names)))
    ]


def with_own_tags(
    schema: pa.Schema, rows: Sequence[dict[str, Any]], also: Iterable[str] = ()
) -> tuple[pa.Schema, dict[str, list[Any]]]:
    """Return the columns of rows, without points: of a schema, of their tags, and of others' tags.

    Tags that a row lacks are None.
    """
    own = own_columns([*also, *(name for row in rows for name in row)])
    fields = [*schema, *own]
    columns = {
        each.name: [row.get(each.name) for row in rows] for each in fields if each.name != "point"
    }
    return pa.schema(fields), columns
