"""Tags of an audio file -> sentences about it.

Titles, artists, genres and comments are weak text, but they are what a folder of music has. What
they cannot check: whether a tag is true.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mulap.corpora.wording import seeded, with_article

_LONGEST_COMMENT_WORDS = 25
# Tags that say nothing, and comments that programs or sellers leave.
_EMPTY_TAG = re.compile(
    r"^\W*(unknown( (artist|album|title|genre))?|untitled|none?|n/?a|other|various( artists)?"
    r"|sound (fx|clip|effects?)|\d*)\W*$",
    re.I,
)
_NO_COMMENT = re.compile(
    r"https?:|www\.|encod|ripped|copyright|licen[cs]e|\(c\)|©|exact audio copy|lavf|libvorbis"
    r"|(made|created|processed) (with|by|in)|sonic foundry|acid pro|wikipedia|�",
    re.I,
)
# Addresses, in place of a name or after it; characters that were lost.
_ADDRESS = re.compile(r"\W*(https?:\S+|www\.\S+|\S+\.(com|org|net)(/\S*)?)\W*", re.I)
_NO_NAME = re.compile(r"�|\(c\)|©|must credit|downloaded", re.I)
_BY = re.compile(r"^((composed|performed|written|made|produced|music)( and |\s))+by\s+", re.I)
# Titles of such words and numbers alone are only places in a list.
_NUMBERED = re.compile(
    r"^(the|a|track|title|song|piste|spur|audio|untitled|music|musik|bgm|ost|loop|theme|level|lvl|"
    r"stage|mission|map|world|area|zone|episode|chapter|part|pt|no|disc|cd|file|sound|snd|mus|"
    r"game|menu|final|new|full|mix|edit|version|ver|v|demo|test|sample|tmp|temp|intro|outro|option|"
    r"options|credits|title(music|screen|theme)|start|end|ending|win|lose|screen|[a-z])$",
    re.I,
)
# A hash, a date; or one word with a number at its end, which names no music ("collective2").
_CODE = re.compile(
    r"^\W*[^\W\d_]+\d+\W*$|(?=.*\d)(?=.*[a-f])[\da-f]{8,}|(?:[a-z]+\d+){3,}\w*|\w*\d{6,}\w*", re.I
)

# Genres that are no word for music by themselves.
_GENRES = {"game": "game music", "dnb": "drum and bass", "d'n'b": "drum and bass"}

# What a sentence needs, and its wordings.
_TEMPLATES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("title", "artist"), "{title} by {artist}"),
    (("title", "artist"), "{artist}: {title}"),
    (("title", "artist", "genre"), "{title}, {genre} by {artist}"),
    (("title", "artist", "year"), "{title} by {artist}, from {year}"),
    (("title", "genre"), "{a_genre} piece called {title}"),
    (("title", "genre"), "{title}, {genre}"),
    (("title", "genre", "year"), "{title}, {genre} from {year}"),
    (("title", "album"), "{title} from {album}"),
    (("genre", "artist"), "{genre} by {artist}"),
    (("genre", "album"), "{genre} from the album {album}"),
    (("title", "composer"), "{title}, composed by {composer}"),
    (("title", "year"), "{title}, made in {year}"),
    (("comment",), "{comment}"),
    (("title", "comment"), "{title}: {comment}"),
)
# Where nothing richer can be said.
_POOR_TEMPLATES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("title",), "a track called {title}"),
    (("title",), "{title}"),
    (("artist",), "a piece by {artist}"),
    (("genre",), "{a_genre} piece"),
    (("album",), "a track from {album}"),
)


def describe_tags(tags: Mapping[str, str], file_name: str) -> dict[str, str]:
    """Return what tags and file name say, cleaned: title, artist, album, genre, year, comment ...

    Keys of tags are in lower case. The file name gives the title where there is no such tag.
    """
    text = {key: " ".join(value.split()) for key, value in tags.items()}
    said = {
        key: name
        for key in ("title", "artist", "album", "composer")
        if not _EMPTY_TAG.match(name := _clean_name(text.get(key, "")))
    }
    genre = re.sub(r"^\(\d+\)", "", text.get("genre", "")).strip()
    genre = ", ".join(filter(None, map(str.strip, genre.split(";"))))  # several tags, joined
    if not _EMPTY_TAG.match(genre) and len(genre.split()) <= 4:
        genre = _GENRES.get(genre.lower(), genre)
        said["genre"] = genre if genre.isupper() else genre.lower()
    if year := re.search(r"\b(1[5-9]|20)\d\d\b", text.get("date", "") or text.get("year", "")):
        said["year"] = year[0]
    comment = text.get("comment", "") or text.get("description", "")
    if comment and not _NO_COMMENT.search(comment) and len(comment.split()) >= 3:
        said["comment"] = " ".join(comment.split()[:_LONGEST_COMMENT_WORDS])
    if "title" not in said:
        words = re.sub(r"[^\w']+|_+", " ", Path(file_name).stem)
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", words)
        words = re.sub(r"^\d+\s+(?=\D)", "", words).strip()
        if not _EMPTY_TAG.match(words):
            said["title"] = words
    return said


def _clean_name(text: str) -> str:
    """Return a name without addresses and "composed by"; nothing where it is another note."""
    first = text.split(";")[0].replace("_", " ")  # of several
    return "" if _NO_NAME.search(text) else _BY.sub("", _ADDRESS.sub(" ", first)).strip()


def is_poor(said: Mapping[str, str], has_title_tag: bool) -> bool:
    """Say whether the text is too little to learn much from: only a number or one file word."""
    if set(said) - {"title", "year"}:
        return False
    title = said.get("title", "")
    return says_nothing(title) or (not has_title_tag and len(title.split()) < 2)


def says_nothing(title: str) -> bool:
    """Say whether a title is only a place in a list or a code: "track 03", "mission4", a hash."""
    words = re.findall(r"[^\W\d_]+", _CODE.sub(" ", title))
    return all(_NUMBERED.match(word) for word in words)


def caption_from_tags(
    tags: Mapping[str, str], file_name: str, seed: int = 0, num_captions: int = 1
) -> list[str]:
    """Write at most `count` captions from tags, none twice: a pure function of its arguments.

    Without a title the file's name is used; it also counts beside the seed, so that tracks differ.
    There are none at all if nothing is known.
    """
    drawn = draw_captions(describe_tags(tags, file_name), seeded(seed, file_name))
    return [caption for caption, _ in drawn][:num_captions]


def draw_captions(
    said: Mapping[str, str], rng: np.random.Generator
) -> list[tuple[str, tuple[str, ...]]]:
    """Write every caption that cleaned tags allow, in an order drawn at random, the richer first.

    Returns:
        Captions, none twice, each with the tags that it uses.
    """
    captions: dict[str, tuple[str, ...]] = {}
    a_genre = with_article(said["genre"]) if "genre" in said else ""
    for templates in (_TEMPLATES, _POOR_TEMPLATES):
        fitting = [each for each in templates if set(each[0]) <= set(said)]
        for index in rng.permutation(len(fitting)):
            needs, text = fitting[index]
            captions.setdefault(text.format(**said, a_genre=a_genre), needs)
    return list(captions.items())
