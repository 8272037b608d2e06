"""The files of a package's music -> tracks with what is known about them, each with its licence.

Titles and composers come from lists that games ship (`.music` XML, album.json, song.ini, npm's
catalog.json), else from the file's tags, which are read later, when it is cut.
"""

import configparser
import html
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from mulap.corpora.described.tracks import HeardTrack, Track
from mulap.corpora.free_music.licences import find_paragraph, parse_copyright
from mulap.corpora.free_music.music import Music
from mulap.corpora.free_music.sources import Source, is_free
from mulap.corpora.wording import draw, seeded, with_article
from mulap.data.splits import choose_group

_ABOUT = (
    "music from {a_game}",
    "background music for {a_game}",
    "soundtrack of {a_game}",
    "a piece from the soundtrack of {a_game}",
)
# Of what has no "of", "about" or "with" in its name: "cartoon kart racing game music".
_ABOUT_SHORT = (*_ABOUT, "{game} music", "{game} soundtrack")


@dataclass
class Found:
    """What was found in a package."""

    tracks: list[Track] = field(default_factory=list)
    failures: list[tuple[str, str]] = field(default_factory=list)  # (file, reason)
    left_out: list[tuple[str, str]] = field(default_factory=list)  # for their licence
    num_no_music: int = 0  # effects, voices and ambience, as the table says


def find_tracks(source: Source, music: Music) -> Found:
    """Return a package's tracks, each with its licence; those without a free one are left out."""
    found = Found(failures=list(music.failures))
    listed = _read_lists(music.folder / "texts", found.failures)
    text = "\n\n".join(
        path.read_text("utf-8", "replace") for path in music.folder.glob("texts/**/copyright")
    )
    paragraphs = parse_copyright(text)
    names = [name for name in music.files if source.uses(name)]
    stems = [_strip(name) for name in names]
    for name, stem in zip(names, stems, strict=True):
        licence, holders = source.licence, ""
        paragraph = find_paragraph(paragraphs, name)
        if paragraph and paragraph.licence and "*" not in paragraph.patterns:
            licence, holders = paragraph.licence, paragraph.holders
        if not is_free(licence):
            reason = f"its licence is {licence}, which is not in the list of free ones"
            found.left_out.append((f"{source.package}/{name}", reason))
            continue
        tags = listed.get(name, {})
        if source.composer and "artist" not in tags:
            tags = {**tags, "artist": source.composer}
        track_id = f"{source.package}/{stem if stems.count(stem) == 1 else name}"
        by = ", ".join(dict.fromkeys(filter(None, (tags.get("artist"), holders))))
        found.tracks.append(
            Track(
                music.folder / "files" / name,
                track_id,
                group=source.package,
                split=source.split,
                source=source.package,
                licence=licence,
                attribution=f"{by or source.attribution}; {source.registry} package "
                f"{source.package}",
                tags=tags,
                texts=(("package", _say_about(source.about, track_id)),),
                facts={"style": source.style},
            )
        )
    found.num_no_music = len(music.files) - len(names)
    return found


def complete(heard: HeardTrack) -> HeardTrack:
    """Finish a track by its file's tags, which are known once it was heard.

    Its group is the composer, else the package. A file's name that is a code gives no title.
    """
    track = heard.track
    composers = (track.tags.get("artist", ""), track.tags.get("composer", ""))
    tags = dict(track.tags)
    if not tags.get("title", "").strip() and _is_code(track.path.stem, track.source):
        tags["title"] = ""
    group = choose_group(composers, track.source)
    return replace(heard, track=replace(track, tags=tags, group=group))


def _is_code(stem: str, package: str) -> bool:
    """Say whether a file's name is a number, an abbreviation or the game's: stg1, OA14, toppler."""
    word = re.sub(r"[\W\d_]+$", "", stem).lower()
    is_one = re.fullmatch(r"[^\W\d_]+", word) is not None
    return is_one and (len(word) < 4 or word == "ingame" or word in package.lower())


def _say_about(about: str, track_id: str) -> str:
    is_long = re.search(r" (of|about|after|for|with|through|and) ", about)
    templates = _ABOUT if is_long else _ABOUT_SHORT
    return draw(seeded(track_id), templates).format(game=about, a_game=with_article(about))


def _strip(name: str) -> str:
    """Shorten an installed path to what tells files apart: no folders of the system, no ending."""
    path = PurePosixPath(re.sub(r"^usr/(share/)?(games/)?", "", name))
    return str(path.with_suffix(""))


def _read_lists(texts: Path, failures: list[tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Return what lists of tracks say, by installed path or by file name."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(texts.rglob("*")):
        folder = path.parent.relative_to(texts)
        try:
            for name, tags in _read_list(path):
                said = {key: " ".join(value.split()) for key, value in tags.items() if value}
                found[(folder / name).as_posix()] = said
        except (ValueError, KeyError, configparser.Error) as error:
            reason = " ".join(str(error).split())[:200]
            failures.append((str(path), f"is no list of tracks in a form that is known: {reason}"))
    return found


def _read_list(path: Path) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Yield (file relative to the list's folder, tags)."""
    text = path.read_text("utf-8", "replace") if path.is_file() else ""
    if path.suffix == ".music" and text.lstrip().startswith("<"):  # SuperTux's hold no titles
        said = dict(re.findall(r'(\w+)\s*=\s*"([^"]*)"', text))  # some are not well-formed
        tags = {"title": said.get("title", ""), "artist": said.get("composer", "")}
        yield said.get("file", f"{path.stem}.ogg"), {k: html.unescape(v) for k, v in tags.items()}
    elif path.name == "album.json":
        album = json.loads(text)
        for track in album["tracks"]:
            artist = track.get("author", "") or album.get("author", "")
            tags = {"title": track["title"], "artist": artist, "album": album.get("title", "")}
            yield track["filename"], tags
    elif path.name == "catalog.json":
        for track in json.loads(text)["tracks"]:
            yield track["packagePath"], {"title": track["title"]}
    elif path.name == "song.ini":
        song = configparser.ConfigParser(interpolation=None)
        song.read_string(text)
        values = song["song"]
        tags = {"title": values.get("name", ""), "artist": values.get("artist", "")}
        for stem in ("song", "guitar", "rhythm", "drums"):
            yield f"{stem}.ogg", tags
