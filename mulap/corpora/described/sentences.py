"""What is known of a clip -> captions, as people would type or write them.

Some name one thing ("jazz", "female vocals"), some several ("slow piano music", "a sad folk song
with guitar, sung by a woman"). Each comes with its source: `heard`, `measured`, both as
`heard+measured`, `tags`, `title`, or the name that came with a text.
"""

import re
from collections import Counter
from collections.abc import Callable

import numpy as np

from mulap.corpora.described.facets import Facts
from mulap.corpora.described.tracks import Track
from mulap.corpora.described.wordings import (
    ADJECTIVES,
    CHANGES,
    GENRES_ALONE,
    INSTRUMENTS,
    MODES,
    NO_ARTICLE,
    SINGERS,
    VOICES,
)
from mulap.corpora.tags import describe_tags, draw_captions, says_nothing
from mulap.corpora.wording import capitalise, draw, join_words, seeded, with_article

LONGEST_CAPTION_WORDS = 30
_DRAWS_PER_CAPTION = 8
_MOST_OF_SAME_FACETS = 2
_TELLING = {"genre", "comment"}  # tags that say more of music than names do

Caption = tuple[str, str]
"""A caption and its source."""

# Facets that a caption may draw from, and how readily.
_WEIGHTS = {
    "genre": 3.0, "instrument": 3.0, "vocals": 1.5, "mood": 2.0, "energy": 1.0, "tempo": 1.5,
    "sound": 1.0, "era": 0.6, "mode": 0.3, "change": 0.3,
}  # fmt: skip
_NO_VOCALS_WEIGHT, _MODE_LEFT_OUT = 0.4, 0.5
_BEFORE_NOUNS = ("mood", "tempo", "energy", "era", "sound")


class _Writer:
    """Words for the facts of one clip; every draw comes from the generator it is given."""

    def __init__(self, facts: Facts, rng: np.random.Generator) -> None:
        self.facts, self.rng = facts, rng
        self.used: set[str] = set()  # facets of the caption being written
        self.chosen: set[str] = set()

    def pick(self, *choices: str) -> str:
        return draw(self.rng, choices)

    def choose(self, least: int, most: int) -> None:
        """Draw some facets that the next caption may name."""
        there = [facet for facet in _WEIGHTS if self.facts.words.get(facet)]
        weights = np.array([_WEIGHTS[facet] for facet in there])
        if self.facts.first("vocals") == "none":  # of most music without words it says little
            weights[there.index("vocals")] = _NO_VOCALS_WEIGHT
        count = min(len(there), int(self.rng.integers(least, most + 1)))
        drawn = self.rng.choice(len(there), count, replace=False, p=weights / weights.sum())
        self.chosen, self.used = {there[index] for index in drawn}, set()
        if count > 1 and self.rng.random() < _MODE_LEFT_OUT:  # people rarely name it
            self.chosen.discard("mode")

    def take(self, facet: str) -> tuple[str, ...]:
        """Return the words of a facet, if it was drawn; the caption names it then."""
        words = self.facts.words.get(facet, ()) if facet in self.chosen else ()
        if words:
            self.used.add(facet)
        return words

    def source(self) -> str:
        """Return where the caption comes from."""
        kinds = {"measured" if f in self.facts.measured else "heard" for f in self.used}
        return "+".join(sorted(kinds))

    def adjectives(self) -> list[str]:
        """Return what stands before a genre: at most three words on mood, tempo and the like."""
        found: list[str] = []
        most = int(self.rng.integers(1, 4))
        for facet in _BEFORE_NOUNS:
            words = [word for word in self.facts.words.get(facet, ()) if word not in _NO_ADJECTIVES]
            if facet not in self.chosen or not words or len(found) >= most:
                continue
            self.used.add(facet)
            count = int(self.rng.integers(1, min(len(words), most - len(found)) + 1))
            found += [self.pick(*ADJECTIVES.get(word, (word,))) for word in words[:count]]
        return found

    def genre(self, is_alone: bool) -> str:
        """Name one genre or two that go together."""
        words = list(self.take("genre"))
        if len(words) == 2 and self.rng.random() < 0.5:
            words.pop(int(self.rng.integers(2)))
        if len(words) == 2:
            one, other = words
            if {*one.split()} < {*other.split()} or {*other.split()} < {*one.split()}:
                words = [max(words, key=len)]
            elif one.endswith(" rock") and other.endswith(" rock"):
                words = [f"{one.removesuffix(' rock')} and {other}"]
            elif is_alone:
                one, other = sorted(words, key=lambda word: word in _NEED_MUSIC)
                return f"{one} and {other}" + (" music" if other in _NEED_MUSIC else "")
            else:
                words = [f"{one} and {other}"]
        if not words:
            return ""
        table = GENRES_ALONE if is_alone else ADJECTIVES
        return self.pick(*table.get(words[0], (words[0],)))

    def instruments(self, most: int = 3, is_one: bool = False) -> str:
        """List instruments: "piano, strings and drums", or "a piano, strings and drums"."""
        words = [self.pick(*INSTRUMENTS.get(word, (word,))) for word in self.take("instrument")]
        if is_one:
            words = [
                w if w.endswith(NO_ARTICLE) or w[:2] == "a " else with_article(w) for w in words
            ]
        count = int(self.rng.integers(1, min(most, len(words)) + 1)) if words else 0
        return join_words(words[:count])

    def voice(self, table: dict[str, tuple[str, ...]] = VOICES) -> str:
        word = self.facts.first("vocals")
        if "vocals" not in self.chosen or word not in table:
            return ""
        self.used.add("vocals")
        return self.pick(*table[word])

    def is_instrumental(self) -> bool:
        """Whether the caption may say that there are no vocals."""
        return "vocals" in self.chosen and self.facts.first("vocals") == "none"


_NO_ADJECTIVES = {"party", "solo"}
_NEED_MUSIC = {word for word, ways in GENRES_ALONE.items() if ways[0] == f"{word} music"}


def _one_thing(w: _Writer) -> str:
    """Name one thing, as in a search box."""
    w.choose(1, 1)
    if genre := w.genre(is_alone=True):
        return genre
    if w.take("instrument"):
        word = w.instruments(1).removeprefix("a ")
        return w.pick(word, word, f"{_before_noun(word)} music")
    if w.take("vocals"):
        if w.is_instrumental():
            return w.pick("instrumental", "instrumental music", "no vocals", "without vocals")
        return w.voice().removeprefix("a ")
    if w.take("mode"):
        return f"music {w.pick(*MODES[w.facts.first('mode')])}"
    if w.take("change"):
        return f"music {w.pick(*CHANGES[w.facts.first('change')])}"
    if adjectives := w.adjectives():
        return w.pick(adjectives[0], f"{adjectives[0]} music", f"something {adjectives[0]}")
    if w.facts.first("mood") == "party" and w.take("mood"):
        return w.pick("party music", "music for a party")
    return ""


def _keywords(w: _Writer) -> str:
    """List keywords: "ambient, synthesizer, slow"."""
    w.choose(2, 5)
    words = w.adjectives()
    if genre := w.genre(is_alone=False):
        words.append(genre)
    words += [word.removeprefix("a ") for word in w.facts.words.get("instrument", ())[:2]
              if w.take("instrument")]  # fmt: skip
    if w.is_instrumental() and w.take("vocals"):
        words.append("instrumental")
    elif voice := w.voice():
        words.append(voice.removeprefix("a "))
    if mode := w.take("mode"):
        words.append(f"{mode[0]} key")
    w.rng.shuffle(words)
    return ", ".join(words) if len(words) > 1 else ""


def _phrase(w: _Writer, is_alone: bool) -> str:
    """Write a noun phrase: "slow piano music" (`is_alone`), or "a slow piece with piano"."""
    front, genre = w.adjectives(), w.genre(is_alone=False)
    if len(front) > 1 and w.rng.random() < 0.5:
        front = [", ".join(front)]
    before, tails = _place_instruments(w, is_alone and not genre)
    front += before
    is_song = _place_voice(w, front, tails)
    if w.facts.first("mood") == "party" and w.take("mood"):
        tails.append(", good for a party" if tails else "for a party")
    for facet, table in (("mode", MODES), ("change", CHANGES)):
        if words := w.take(facet):
            tails.append((", " if tails else "") + w.pick(*table[words[0]]))
    noun = w.pick("song", "song", "track") if is_song else w.pick("piece", "piece", "track")
    text = " ".join([*front, *filter(None, [genre]), "music" if is_alone else noun, *tails])
    text = text.replace(" , ", ", ")
    if not w.used:
        return ""
    return text if is_alone else with_article(text)


def _place_instruments(w: _Writer, may_lead: bool) -> tuple[list[str], list[str]]:
    """Return what to say of instruments before the noun ("piano music") and after it."""
    instruments = w.instruments()
    if not instruments:
        return [], []
    if w.facts.words["instrument"][1:] == () and "solo" in w.take("sound"):
        return [], [w.pick(f"for solo {instruments}", f"for {instruments} alone")]
    is_short = not re.search(r",|\ba |beat", instruments)
    if may_lead and is_short and "vocals" not in w.chosen:
        return [_before_noun(instruments)], []
    return [], [f"{w.pick('with', 'with', 'featuring')} {instruments}"]


def _place_voice(w: _Writer, front: list[str], tails: list[str]) -> bool:
    """Add what to say of vocals before the noun or after it; return whether it makes a song."""
    if w.is_instrumental():
        w.take("vocals")
        if w.rng.random() < 0.6:
            front.append("instrumental")
        else:
            tails.append(", no vocals" if tails else "without vocals")
        return False
    word = w.facts.first("vocals")
    if word not in VOICES or not w.take("vocals"):
        return False
    sung = w.pick(*VOICES[word])
    if tails and w.rng.random() < 0.6:
        tails[-1] = tails[-1].replace(" and ", ", ")  # a list has one "and"
        tails.append(f"and {sung}")
    elif tails or w.rng.random() < 0.5:
        tails.append(f"sung by {w.pick(*SINGERS[word])}")
    else:
        tails.append(f"with {sung}")
    return word != "choir"


def _bare_phrase(w: _Writer) -> str:
    w.choose(2, 4)
    return _phrase(w, is_alone=True)


def _full_phrase(w: _Writer) -> str:
    w.choose(2, 6)
    return _phrase(w, is_alone=False)


def _sentence(w: _Writer) -> str:
    w.choose(2, 6)
    text = _phrase(w, is_alone=False)
    start = w.pick("This is", "This is", "Here is", "You hear", "It is")
    return f"{start} {text}." if text else ""


def _players(w: _Writer) -> str:
    """Say who plays or sings."""
    w.choose(2, 6)
    w.chosen |= {"instrument", "vocals"}
    if w.is_instrumental() and w.rng.random() < 0.7:
        w.chosen.discard("vocals")
    instruments = w.instruments(is_one=True)
    if w.is_instrumental():
        w.take("vocals")
        if not instruments:
            return w.pick("It is purely instrumental.", "There are no vocals.", "", "", "", "")
        return w.pick(
            f"There are no vocals, but you can hear {instruments}.",
            f"An instrumental with {instruments}.",
            f"{capitalise(instruments)} can be heard, and nobody sings.",
        )
    singer = w.voice(SINGERS)
    if singer and instruments:
        verb = w.pick("sings over", "sings to", "is accompanied by")
        return f"{capitalise(singer)} {verb} {instruments}."
    if singer:
        return w.pick(f"{capitalise(singer)} sings.", f"You can hear {singer} singing.")
    if instruments:
        return w.pick(
            f"You can hear {instruments}.",
            f"{capitalise(instruments)} can be heard.",
            f"It has {instruments}.",
            f"music with {instruments}",
            f"featuring {instruments}",
        )
    return ""


def _feeling(w: _Writer) -> str:
    """Say how it sounds."""
    w.choose(2, 6)
    w.chosen |= {"mood", "tempo", "energy"}
    w.chosen -= {"era", "sound"}
    words = w.adjectives()
    if not words:
        return ""
    joined = join_words(words)
    choices = [f"It sounds {joined}.", f"The music is {joined}.", f"music that is {joined}"]
    if genre := w.genre(is_alone=True):
        return w.pick(f"{capitalise(genre)} that sounds {joined}.", f"{joined} {genre}")
    return w.pick(*choices)


def _before_noun(instruments: str) -> str:
    return re.sub(r"\b(string|drum|beat|bell|pad)s\b", r"\1", instruments)


_FORMS: tuple[Callable[[_Writer], str], ...] = (
    _one_thing, _keywords, _bare_phrase, _full_phrase, _full_phrase, _sentence, _players, _feeling,
)  # fmt: skip


def write_heard(facts: Facts, count: int, rng: np.random.Generator) -> list[Caption]:
    """Write captions from what was heard and measured, none twice, of as many forms as there are.

    Returns:
        At most `count`, fewer where the facts give no more.
    """
    if not any(facts.words.get(facet) for facet in _WEIGHTS):
        return []
    writer, captions = _Writer(facts, rng), dict[str, str]()
    forms: list[int] = []
    said = Counter[frozenset[str]]()  # the same facets are not named again and again
    for _ in range(_DRAWS_PER_CAPTION * count):
        if len(captions) == count:
            break
        forms = forms or list(rng.permutation(len(_FORMS)))
        text = _FORMS[forms.pop()](writer)
        facets = frozenset(writer.used)
        is_new = text not in captions and said[facets] < _MOST_OF_SAME_FACETS
        if text and facets and is_new and len(text.split()) <= LONGEST_CAPTION_WORDS:
            captions[text] = writer.source()
            said[facets] += 1
    return list(captions.items())


def write_captions(
    track: Track, facts: Facts, clip_name: str, count: int = 6, seed: int = 0
) -> list[Caption]:
    """Write a clip's captions: a pure function of its arguments.

    Args:
        track: whose texts and tags are used.
        facts: of the clip.
        clip_name: counts beside the seed, so that clips differ.
        count: most captions.
        seed: of all draws.

    Returns:
        Captions with their sources, none twice. At least two in three are from what was heard and
        measured, where that gives so many; at most one is from the title; none at all if nothing
        is known.
    """
    rng = seeded(seed, clip_name)
    heard = write_heard(facts, count, rng)
    others, names = _write_others(track, rng)
    num_others = min(len(others), max(count - len(heard), count // 3))
    captions = dict(heard[: count - num_others])
    for text, source in [*others[:num_others], *names][: count - len(captions)]:
        captions.setdefault(text, source)
    return list(captions.items())


def _write_others(track: Track, rng: np.random.Generator) -> tuple[list[Caption], list[Caption]]:
    """Write at most one caption from each source of texts, from tags and with the title.

    Returns:
        These, and a caption of names alone, such as the artist's, which says least.
    """
    found: dict[str, Caption] = {}  # by what it is from
    for index in rng.permutation(len(track.texts)):
        source, text = track.texts[index]
        text = " ".join(text.split())
        if 0 < len(text.split()) <= LONGEST_CAPTION_WORDS and not says_nothing(text):
            found.setdefault(source, (text, source))
    said = describe_tags(track.tags, track.path.name)
    is_refused = track.tags.get("title") == ""  # and then not from the file's name either
    if is_refused or says_nothing(said.get("title", "")):
        said.pop("title", None)
    for text, needs in draw_captions(said, rng):
        if len(text.split()) <= LONGEST_CAPTION_WORDS:
            sources = {"title" if need == "title" else "tags" for need in needs}
            kind = "title" if "title" in sources else "tags" if {*needs} & _TELLING else "names"
            found.setdefault(kind, (text, "+".join(sorted(sources))))
    title, names = ([found.pop(kind)] if kind in found else [] for kind in ("title", "names"))
    return [*found.values(), *title], names
