"""The words people use for facts about a demo clip.

The tables of synonyms serve both ways: `text` picks words from them, and `find_mentions`
reads a sentence back into the instruments and tempi it names, for the tests and for judging the
descriptions that come with grooves. Scope: words.
"""

import re
from dataclasses import dataclass

from mulap.corpora.rendered.styles import FAMILY_OF
from mulap.corpora.rendered.truth import Truth

# Synonyms, the label first. Those of one instrument are never another's label.
INSTRUMENT_WORDS = {
    "piano": ("piano", "acoustic piano", "grand piano"),
    "electric piano": ("electric piano", "Rhodes"),
    "vibraphone": ("vibraphone", "vibes"),
    "organ": ("organ", "electric organ"),
    "church organ": ("church organ", "pipe organ"),
    "accordion": ("accordion", "squeezebox"),
    "harmonica": ("harmonica", "mouth organ"),
    "classical guitar": ("classical guitar", "nylon-string guitar", "Spanish guitar"),
    "acoustic guitar": ("acoustic guitar", "steel-string guitar", "folk guitar"),
    "electric guitar": ("electric guitar", "clean electric guitar"),
    "distorted guitar": ("distorted guitar", "overdriven guitar", "fuzzy guitar"),
    "violin": ("violin", "fiddle"),
    "strings": ("strings", "string section", "string ensemble"),
    "pizzicato strings": ("pizzicato strings", "plucked strings"),
    "choir": ("choir", "choir voices", "wordless voices"),
    "french horn": ("french horn", "orchestral horn"),
    "brass section": ("brass section", "brass", "horn section"),
    "saxophone": ("saxophone", "sax"),
    "bagpipes": ("bagpipes", "pipes"),
    "synthesizer": ("synthesizer", "synth", "electronic keyboard"),
    "steel drums": ("steel drums", "steel pans"),
    "double bass": ("double bass", "upright bass", "acoustic bass"),
    "electric bass": ("electric bass", "bass guitar"),
    "synth bass": ("synth bass", "synthesizer bass"),
    "drums": ("drums", "drum kit", "percussion"),
    "flute": ("flute",),
    "pan flute": ("pan flute", "panpipes"),
}
PLURAL_WORDS = set(
    "strings,pizzicato strings,plucked strings,choir voices,wordless voices,bagpipes,pipes,vibes,"
    "steel drums,steel pans,drums,percussion,brass,panpipes".split(",")
)
# From (in beats a minute) | words. A word belongs to one band only.
TEMPO_BANDS = (
    (0, ("very slow", "crawling", "drawn-out")),
    (66, ("slow", "unhurried", "leisurely", "slow-paced")),
    (92, ("mid-tempo", "moderate", "medium-tempo", "moderately paced")),
    (126, ("fast", "quick", "upbeat", "lively", "brisk")),
    (168, ("very fast", "rapid", "racing", "breakneck")),
)
METRE_WORDS = {
    "4/4": ("in 4/4", "in four", "in common time", "with four beats to the bar"),
    "3/4": ("in 3/4", "in three", "in triple time", "with three beats to the bar"),
    "2/4": ("in 2/4", "in two", "with two beats to the bar"),
    "6/8": ("in 6/8", "in six-eight time", "with a lilting 6/8"),
    "5/4": ("in 5/4", "in five", "with five beats to the bar"),
}
# By convention only: minor and slow counts as sad, major and fast as happy.
MOODS = {
    ("minor", "slow"): ("sad", "melancholy", "wistful", "mournful"),
    ("minor", "fast"): ("tense", "restless", "driving", "dark"),
    ("major", "slow"): ("calm", "peaceful", "gentle", "relaxed"),
    ("major", "fast"): ("happy", "cheerful", "bright", "sunny"),
}
VAGUE_CAPTIONS = (
    "a nice piece of music",
    "music for many occasions",
    "something to listen to",
    "a short instrumental piece",
    "purely instrumental music",
    "a pleasant instrumental",
    "background music for work",
    "an instrumental excerpt",
    "an old favourite of mine",
    "good for any playlist",
    "one more tune from the archive",
    "excerpt of a longer piece",
    "a computer rendering of a score",
    "not sure what to call this",
)
STYLES_THAT_ARE_NOUNS = set(
    "waltz march polka tango rumba rhumba beguine mambo bolero samba merengue foxtrot quickstep "
    "charleston rag ballad study lullaby hymn spiritual tune cha-cha twist shuffle calypso".split()
)
# What programmers of grooves write for each other, not for listeners.
_PROGRAM_TEXT = re.compile(
    r"\b(bars?|grooves?|patterns?|sequences?|main|sections?|versions?|variations?|tracks?|fill\w*|"
    r"add\w*|same|similar|like|less|more|our|your|previous|original|standard|chang\w*|replac\w*|"
    r"variables?|sets?|mma|auto\w*|hits?|notes?|beats?|kill\w*|skip\w*|missing|alternat\w*|"
    r"another|without|no|not|only|just|root|plus|1st|2nd|\w*\.sty|boring|annoying|sub-?style|"
    r"substitut\w*|combin\w*|extra|mixe?d?|here|this|voice leading|let|bring|cut|counter|"
    r"8ths?|16ths?|quarters|even|some|continuo|pseudo|sustain|good|with with|in \d|straight\w*|"
    r"unshuffled|background|wow|[a-z]+\d+\w*)\b|[\\{}\[\]_$\"`]|\b(with|and|doing|for)$",
    re.I,
)


@dataclass(frozen=True)
class Mentions:
    """What a sentence names: instrument labels, and the tempo bands' numbers."""

    instruments: frozenset[str]
    tempo_bands: frozenset[int]


def instrument_words(name: str) -> tuple[str, ...]:
    """Return what people call an instrument, its label first."""
    return INSTRUMENT_WORDS.get(name, (name,))


def tempo_band(tempo_bpm: float) -> int:
    """Return the number of the tempo's band, 0 (very slow) to 4 (very fast)."""
    return max(i for i, (start, _) in enumerate(TEMPO_BANDS) if tempo_bpm >= start)


def _longest_first(table: dict[str, str]) -> tuple[re.Pattern[str], dict[str, str]]:
    words = sorted(table, key=len, reverse=True)
    return re.compile(r"\b(" + "|".join(map(re.escape, words)) + r")s?\b", re.I), table


_INSTRUMENT_SEARCH = _longest_first(
    {word.lower(): name for name in FAMILY_OF for word in instrument_words(name)}
    | {"guitar": "any guitar", "bass": "any bass", "drum": "drums", "string": "strings"}
    | {"horn": "any horn", "voice": "choir", "vocalization": "choir", "orchestra": "strings"}
    | {"bandoneon": "accordion", "sawtooth": "synthesizer", "musicbox": "music box"}
    | {"sax": "saxophone", "saxe": "saxophone", "minstrel": "a singer", "fraulein": "a singer"}
)
_TEMPO_SEARCH = _longest_first(
    {word: str(band) for band, (_, words) in enumerate(TEMPO_BANDS) for word in words}
)


def find_mentions(sentence: str) -> Mentions:
    """Read instruments and tempo words out of a sentence ("any guitar" where no kind is named).

    "No drums" names no drums.
    """
    found = []
    sentence = re.sub(r"\b(no|without) (drums|percussion)\b", "", sentence, flags=re.I)
    for pattern, table in (_INSTRUMENT_SEARCH, _TEMPO_SEARCH):
        found.append(frozenset(table[match[1].lower()] for match in pattern.finditer(sentence)))
    return Mentions(found[0], frozenset(int(band) for band in found[1]))


def judge_description(description: str, facts: Truth) -> str:
    """Return a groove author's line if a listener could have written it about this clip, else "".

    Program text is out, and so is any line that names an instrument or tempo that the clip has not
    (its instruments may have been exchanged).
    """
    text = re.sub(
        r"^(a )?(basic|simple|plain|very simple)[, ]+(?!with)", "", description, flags=re.I
    )
    text = " ".join(text.split()).rstrip(". ")
    if not 3 <= len(text.split()) <= 12 or _PROGRAM_TEXT.search(text):
        return ""
    mentions = find_mentions(text)
    kinds = {f"any {name.split()[-1]}" for name in facts.instruments}
    if not mentions.instruments <= set(facts.instruments) | kinds:
        return ""
    if mentions.tempo_bands - {tempo_band(facts.tempo_bpm)} or re.search(r"\d/\d", text):
        return ""
    return text
