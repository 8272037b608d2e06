"""Tags of public sets -> words by facet -> captions, written by `described.sentences`.

A tag is true of the whole track only. So each clip has its own draw of a track's tags.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from mulap.corpora.described.facets import Facts
from mulap.corpora.described.sentences import Caption, write_captions
from mulap.corpora.described.tracks import DescribeOptions, Track
from mulap.corpora.wording import seeded

Words = dict[str, tuple[str, ...]]
"""What may be said of a track, by facet."""

_MOST_WORDS = {"genre": 2, "instrument": 3, "mood": 2}  # of a clip; one of the other facets

# Names that the tags of MTG-Jamendo run together, or that are no genre.
_SPELLED = {
    "acidjazz": "acid jazz", "acousticbassguitar": "acoustic bass guitar",
    "acousticguitar": "acoustic guitar", "alternativerock": "alternative rock", "beat": "a beat",
    "bell": "bells", "bluesrock": "blues rock", "bossanova": "bossa nova", "celtic": "Celtic",
    "chillout": "chill-out", "classicalguitar": "classical guitar", "classicrock": "classic rock",
    "darkambient": "dark ambient", "deephouse": "deep house",
    "doublebass": "double bass", "drummachine": "drum machine", "drumnbass": "drum and bass",
    "easylistening": "easy listening", "edm": "EDM", "electricguitar": "electric guitar",
    "electricpiano": "electric piano", "eurodance": "Eurodance", "hardrock": "hard rock",
    "hiphop": "hip-hop", "idm": "IDM", "improvisation": "improvised",
    "instrumentalpop": "instrumental pop", "instrumentalrock": "instrumental rock",
    "jazzfusion": "jazz fusion", "latin": "Latin", "newage": "new age", "newwave": "new wave",
    "pad": "synth pads", "pipeorgan": "pipe organ", "popfolk": "folk pop", "poprock": "pop rock",
    "postrock": "post-rock", "punkrock": "punk rock", "rhodes": "Rhodes piano", "rnb": "R&B",
    "rocknroll": "rock and roll", "singersongwriter": "singer-songwriter",
    "synthpop": "synth-pop", "triphop": "trip-hop", "worldfusion": "world fusion",
}  # fmt: skip
# Tags that are of another facet than their kind; "" is of none.
_FACETS = {
    "60s": "era", "70s": "era", "80s": "era", "90s": "era", "atmospheric": "mood",
    "choir": "vocals", "voice": "vocals", "slow": "tempo", "fast": "tempo", "soft": "energy",
    "hard": "", "groove": "", "ethno": "", "computer": "", "sampler": "",
}  # fmt: skip
_MOODS = {"dream": "dreamy", "voice": "singing"}
# Tags on what music is for: how people say it.
_THEMES = {
    "action": ("action music", "music for an action scene"),
    "adventure": ("adventure music", "music for an adventure"),
    "advertising": ("advertising music", "music for an advert"),
    "background": ("background music", "music for the background"),
    "ballad": ("ballad", "a ballad"),
    "children": ("children's music", "music for children"),
    "christmas": ("Christmas music", "music for Christmas"),
    "commercial": ("music for a commercial", "music for adverts"),
    "corporate": ("corporate music", "music for a company video"),
    "documentary": ("documentary music", "music for a documentary"),
    "drama": ("music for a drama", "music for a dramatic scene"),
    "film": ("film music", "music for a film"),
    "game": ("game music", "music for a video game"),
    "holiday": ("holiday music", "music for the holidays"),
    "love": ("music about love", "love theme"),
    "movie": ("movie music", "music for a movie"),
    "nature": ("music about nature", "music for nature scenes"),
    "soundscape": ("soundscape", "a soundscape"),
    "space": ("space music", "music about space"),
    "sport": ("sports music", "music for sports"),
    "summer": ("summer music", "music for the summer"),
    "trailer": ("trailer music", "music for a trailer"),
    "travel": ("travel music", "music for travelling"),
}
# Genres of FMA that keep their capitals, say nothing, or are said in other words.
_PROPER = re.compile(
    r"\b(africa|america|asia|balkan|bollywood|brazil|british|celtic|christmas|europe|french|indian"
    r"|latin|middle east|pacific|spanish|turkish)\w*"
)
_FMA_GENRES = {
    "20th Century Classical": "20th-century classical", "Drum & Bass": "drum and bass",
    "Country & Western": "country and western", "Improv": "improvised", "N. Indian Traditional":
    "North Indian traditional", "Old-Time / Historic": "old-time", "Soul-RnB": "soul and R&B",
    "Romany (Gypsy)": "Romany", "Big Band/Swing": "big band swing", "Jazz: Out": "free jazz",
    "Spoken": "spoken word", "Spoken Weird": "spoken word", "Unclassifiable": "",
}  # fmt: skip


def words_of_jamendo(tags: Sequence[str]) -> Words:
    """Return what tags such as "mood/theme---happy" say; themes are texts, not words."""
    found: list[tuple[str, str]] = []
    for tag in tags:
        kind, _, name = tag.partition("---")
        facet = _FACETS.get(name, "mood" if kind == "mood/theme" else kind)
        if facet and not (kind == "mood/theme" and name in _THEMES):
            found.append((facet, _MOODS.get(name, _SPELLED.get(name, name))))
    return _by_facet(found)


def texts_of_jamendo(tags: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Return what tags say music is for, with where that is from."""
    themes = (tag.removeprefix("mood/theme---") for tag in tags)
    return tuple(("tags", text) for theme in themes for text in _THEMES.get(theme, ()))


def words_of_fma(genres: Sequence[str]) -> Words:
    """Return what the titles of FMA's genres say."""
    found = []
    for title in genres:
        # "Reggae - Dub" and "Jazz: Vocal" are kinds of the first.
        name = " ".join(reversed(re.split(r" - |: ", title)))
        name = _PROPER.sub(lambda match: match[0].title(), name.lower())
        word = _FMA_GENRES.get(title, title if title.isupper() else name)
        found.append(("vocals", "none") if title == "Instrumental" else ("genre", word))
    return _by_facet(found)


def _by_facet(found: Iterable[tuple[str, str]]) -> Words:
    words: dict[str, dict[str, None]] = {}
    for facet, word in found:
        if word:
            words.setdefault(facet, {})[word] = None
    return {facet: tuple(own) for facet, own in words.items()}


def write_tag_captions(
    track: Track, words: Mapping[str, tuple[str, ...]], clip_name: str, options: DescribeOptions
) -> list[Caption]:
    """Write a clip's captions, each with its source: a pure function of its arguments.

    Args:
        track: whose title, artist and texts are used too.
        words: what its tags say, by facet.
        clip_name: counts beside the seed, so that clips differ.
        options: how many captions, and the seed.
    """
    rng = seeded(options.seed, 2, clip_name)
    drawn = {
        facet: tuple(own[place] for place in rng.permutation(len(own))[: _MOST_WORDS.get(facet, 1)])
        for facet, own in words.items()
    }
    captions = write_captions(track, Facts(drawn), clip_name, options.captions, options.seed)
    return [(text, source.replace("heard", "tags")) for text, source in captions]
