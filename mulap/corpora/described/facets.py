"""Taggers' odds and measurements -> what can be said of a clip, without contradictions.

The 100 tags make some 60 words (`words.csv`): synonyms are one word, the mean of their log-odds,
and tags that say nothing ("awesome", "00s") are none. A word's score is how far its log-odds lie
above the usual ones, in standard deviations, plus half of how far they lie above the clip's other
words. Usual is the mean over the corpus and over the music that the table was made with, which
counts as much as `_TABLE_CLIPS` clips: alone in a small or uniform corpus, nothing is unusual.

Words are taken by score, from the highest down to a threshold. A word that contradicts one taken
before it is left out.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from itertools import product

import numpy as np

from mulap.corpora.described.hear import tag_names
from mulap.corpora.described.tracks import HeardClip, Measured

FACETS = (
    "genre", "instrument", "vocals", "mood", "energy", "tempo", "sound", "era", "mode", "change",
)  # fmt: skip
_MOST_WORDS = {"genre": 2, "instrument": 3, "mood": 2}  # one of the others
_TABLE_CLIPS = 300
_LEAST_SCORE = 1.2
_LEAST_SCORES = {"instrument": 1.8, "tempo": 2.5}
_OWN_SHARE = 0.5
_SECOND_GENRE = 1.0  # how far its score may lie below the first one's
# What of a clip's level can be called so, in decibels below full scale.
_LOUD_DB, _QUIET_DB, _CHANGE_DB = -12.0, -32.0, 12.0
# By the tempo alone they are right for 54% and 81% of rendered clips, as half of it is often found;
# with so much more of the tag in log-odds than of its opposite, for 25 of 28 and 72 of 78.
_SLOW_BPM, _FAST_BPM, _SLOW_ODDS, _FAST_ODDS = 84.0, 132.0, 3.0, -1.0
# In log-odds: how far every voice lies below its least for "no vocals", and how far apart the two
# kinds of singers are for one of them.
_SURELY_NONE, _SURELY_ONE = 1.0, 0.7

_HEAVY = {"rock", "alternative rock", "classic rock", "hard rock", "punk", "metal", "heavy metal"}
_ELECTRONIC = {"techno", "electronic", "electro", "house", "dance", "hip-hop"}
_INDIE = {"indie", "indie rock", "indie pop"}
_GENTLE = {"quiet", "soft", "mellow", "chilled", "easy listening", "new age"}
_GENRES_THAT_GO = (  # together
    {"rock", "alternative rock", "indie rock", "indie"},
    {"rock", "classic rock", "hard rock", "progressive rock", "blues"},
    {"metal", "heavy metal", "hard rock", "punk", "progressive rock", "experimental"},
    {"electronic", "techno", "electro", "house", "dance"},
    {"electronic", "ambient", "experimental", "new age"},
    {"pop", "dance", "R&B", "soul", "indie pop", "easy listening"},
    {"jazz", "blues", "soul", "funk", "easy listening"},
    {"R&B", "hip-hop", "soul", "funk"},
    {"folk", "country", "blues", "indie"},
    {"classical", "opera"},
    {"classical", "new age"},
    {"electronic", "pop", "indie pop"},
    {"indie pop", "indie", "indie rock"},
)
_CLASHES = (  # any of the first with any of the second
    (
        _GENTLE | {"ambient"},
        {"loud", "party", "punk", "metal", "heavy metal", "hard rock", "techno"},
    ),
    ((_GENTLE - {"quiet"}) | {"ambient", "sad"}, {"fast"}),
    ({"slow"}, {"fast", "party", "dance", "punk", "techno"}),
    ({"quiet", "soft"}, {"loud", "dance", "house", "rock"}),
    ({"sad"}, {"happy", "party"}),
    ({"acoustic"}, _ELECTRONIC | {"metal", "heavy metal", "hard rock", "synthesizer", "punk"}),
    ({"classical", "opera"}, _HEAVY | _ELECTRONIC | {"a beat", "synthesizer", "pop", "drums"}),
    ({"harpsichord", "harp", "cello", "violin", "flute"}, _HEAVY | _ELECTRONIC),
    ({"harpsichord", "harp", "cello", "flute", "sitar"}, _INDIE),
    # Its tag is high on orchestras too.
    ({"violin", "strings", "cello", "harp", "flute", "choir"} | _GENTLE, {"progressive rock"}),
    ({"sitar"}, _HEAVY | _ELECTRONIC | {"classical", "opera", "country", "jazz"}),
    ({"drums"}, {"a beat"}),
    ({"none"}, {"opera", "hip-hop", "R&B"}),
    ({"60s", "70s", "old"}, _ELECTRONIC | {"synthesizer", "metal", "heavy metal"}),
    ({"80s", "90s", "60s", "70s", "old"}, {"classical", "opera", "Indian", "new age", "ambient"}),
)


@dataclass(frozen=True)
class Facts:
    """What can be said of a clip: by facet its words, the surest first."""

    words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    measured: frozenset[str] = frozenset()  # facets that were measured; the others were heard

    def first(self, facet: str) -> str:
        """Return the surest word of a facet, "" where there is none."""
        return next(iter(self.words.get(facet, ())), "")

    def listing(self) -> str:
        """Return all words, for a table."""
        return "; ".join(word for facet in FACETS for word in self.words.get(facet, ()))


@dataclass(frozen=True)
class _Words:
    """The table of words."""

    facets: tuple[str, ...]
    words: tuple[str, ...]
    tags: tuple[tuple[str, ...], ...]
    least: np.ndarray  # log-odds below which a word is never said, float64 (W,)
    mean: np.ndarray  # of log-odds, float64 (W,)
    deviation: np.ndarray


@cache
def read_words() -> _Words:
    """Read words.csv."""
    text = (files("mulap.corpora.described") / "words.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return _Words(
        tuple(row["facet"] for row in rows),
        tuple(row["word"] for row in rows),
        tuple(tuple(row["tags"].split(";")) for row in rows),
        *(np.array([float(row[name]) for row in rows]) for name in ("least", "mean", "deviation")),
    )


def merge_tags(odds: np.ndarray) -> np.ndarray:
    """Return log-odds of the words, (M, W), for those of the tags, (M, num_tags)."""
    place = {tag: index for index, tag in enumerate(tag_names())}
    columns = [[place[tag] for tag in own] for own in read_words().tags]
    return np.stack([odds[:, each].mean(1) for each in columns], axis=1).astype(np.float64)


def score_words(odds: np.ndarray) -> np.ndarray:
    """Return how much each word stands out, (M, W), for their log-odds, (M, W); see above."""
    table, num_clips = read_words(), len(odds)
    share = num_clips / (num_clips + _TABLE_CLIPS)
    mean = share * odds.mean(0) + (1 - share) * table.mean
    spread = share * ((odds - mean) ** 2).mean(0)
    spread += (1 - share) * (table.deviation**2 + (table.mean - mean) ** 2)
    unusual = (odds - mean) / np.sqrt(spread + 1e-6)
    own = (odds - odds.mean(1, keepdims=True)) / (odds.std(1, keepdims=True) + 1e-6)
    return unusual + _OWN_SHARE * own


def describe_clips(clips: Sequence[HeardClip]) -> list[Facts]:
    """Say of each clip what stands out and what was measured."""
    if not clips:
        return []
    odds = merge_tags(np.stack([clip.odds for clip in clips]))
    triples = zip(score_words(odds), odds, clips, strict=True)
    return [choose_facts(scores, own, clip.measured) for scores, own, clip in triples]


def choose_facts(scores: np.ndarray, odds: np.ndarray, measured: Measured | None = None) -> Facts:
    """Choose what to say of one clip.

    Args:
        scores: of its words, (W,), from `score_words`.
        odds: log-odds of its words, (W,), from `merge_tags`.
        measured: what was measured of it.
    """
    table = read_words()
    by_word = dict(zip(table.words, odds, strict=True))
    taken = {facet: [word] for facet, word in _measured_words(measured, by_word).items()}
    measured_facets = frozenset(taken)
    voice = _choose_voice(by_word)
    strongest: dict[str, float] = {}  # by facet, the score of its first word
    for index in np.argsort(-scores, kind="stable"):
        facet, word, score = table.facets[index], table.words[index], float(scores[index])
        is_free = facet != "vocals" and facet not in measured_facets
        is_wanted = is_free and odds[index] >= table.least[index]
        if (
            score < _LEAST_SCORES.get(facet, _LEAST_SCORE)
            or not is_wanted
            or clash(word, voice or "none")
        ):
            continue
        is_full = len(taken.get(facet, ())) >= _MOST_WORDS.get(facet, 1)
        is_weak = facet == "genre" and score < strongest.setdefault(facet, score) - _SECOND_GENRE
        if not (is_full or is_weak or _clashes(word, taken)):
            taken.setdefault(facet, []).append(word)
    if voice and not _clashes(voice, taken):
        taken["vocals"] = [voice]
    return Facts({facet: tuple(words) for facet, words in taken.items()}, measured_facets)


def _clashes(word: str, taken: dict[str, list[str]]) -> bool:
    return any(clash(word, each) for words in taken.values() for each in words)


def clash(one: str, other: str) -> bool:
    """Whether two words must not be said of one clip."""
    return frozenset((one, other)) in _clashing_pairs()


@cache
def _clashing_pairs() -> frozenset[frozenset[str]]:
    table = read_words()
    genres = [w for f, w in zip(table.facets, table.words, strict=True) if f == "genre"]
    pairs = {frozenset(pair) for one, other in _CLASHES for pair in product(one, other)}
    pairs |= {
        frozenset(pair)
        for pair in product(genres, genres)
        if pair[0] != pair[1] and not any(set(pair) <= group for group in _GENRES_THAT_GO)
    }
    return frozenset(pairs)


def _choose_voice(odds: dict[str, float]) -> str:
    """Return the one word on vocals that may be said, "" where nothing is sure.

    By log-odds alone: a voice is there or not, whatever the rest of the corpus sounds like.
    """
    table = read_words()
    voices = {w: i for i, w in enumerate(table.words) if table.facets[i] == "vocals"}
    margins = {word: odds[word] - table.least[i] for word, i in voices.items() if word != "none"}
    best = max(margins, key=lambda word: margins[word])
    if margins[best] < 0:
        return "none" if margins[best] < -_SURELY_NONE else ""
    if best != "choir" and abs(odds["female"] - odds["male"]) < _SURELY_ONE:
        return "singing"
    return best


def _measured_words(measured: Measured | None, odds: dict[str, float]) -> dict[str, str]:
    """Return by facet the word for what was measured, only for facets with one."""
    if measured is None:
        return {}
    level, change = measured.loudness_db, measured.change_db
    found = {
        "energy": "loud" if level >= _LOUD_DB else "quiet" if level <= _QUIET_DB else "",
        "change": "louder" if change >= _CHANGE_DB else "softer" if change <= -_CHANGE_DB else "",
        "tempo": _tempo_word(measured.tempo_bpm, odds["slow"] - odds["fast"]),
        "mode": measured.mode,
    }
    return {facet: word for facet, word in found.items() if word}


def _tempo_word(tempo_bpm: float | None, slow_odds: float) -> str:
    """Return "slow" or "fast" where measurement and tagger agree."""
    if tempo_bpm is not None and tempo_bpm <= _SLOW_BPM and slow_odds >= _SLOW_ODDS:
        return "slow"
    if tempo_bpm is not None and tempo_bpm >= _FAST_BPM and -slow_odds >= _FAST_ODDS:
        return "fast"
    return ""
