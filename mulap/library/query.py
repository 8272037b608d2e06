"""What is asked: words and examples, wanted and not wanted -> one point to search with.

    "calm piano with strings, no drums"  ->  calm piano with strings; not: drums

The text model hardly hears "no" ("drums" and "no drums" have a cosine of 0.83), so negations are
taken out of the words. What is not wanted acts twice (measured, see docs/search.md):

    point = mean of what is wanted - half the mean of what is not
    a track is left out where unwanted words stand out, or if it is nearer to an unwanted example
    than to the point

A mean is one of deviations from an average track, since two tracks have far higher cosines than
a track and a text. Both are linear in the track's point, so that one point stands for all.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mulap.encoders.zero_shot import YES, Reference, unit_length

MOST_WORDS = 60  # of a query; the text model was trained on fewer
_UNWANTED_WEIGHT = 0.5
_LEAST_LENGTH = 1e-3
_NEGATION = re.compile(
    r"""(?:\b(?:and|but|with|that\ is|that\ are|which\ is|which\ has|that\ has)\s+)?
    \b(?:no|not|without(?:\s+any)?)\s+(?!wave\b|doubt\b|one\b|longer\b|only\b|just\b)
    (?P<what>.+?)
    (?=\s*(?:[,;.!?)\]]|$|\b(?:but|with|no|not|without|and\s+(?:no|not|without|with))\b))""",
    re.IGNORECASE | re.VERBOSE,
)
_EMPHASIS = re.compile(r"^(?:(?:too|so|very|any|much|a|an|the)\s+)+", re.IGNORECASE)
_ALTERNATIVES = re.compile(r"\s+(?:or|nor|and)\s+|\s*/\s*", re.IGNORECASE)
_LEFT_OVER = re.compile(  # at either end of what is wanted
    r"^[\s,;.]*(?:(?:and|but|with|or)\b[\s,;.]*)+"
    r"|[\s,;.]*(?:\b(?:and|but|with|or|that is|that are|that has|which is|which has)[\s,;.]*)+$",
    re.IGNORECASE,
)
_WEIGHTED = re.compile(r"(?P<what>.*\S)\^(?P<weight>[0-9]+(?:\.[0-9]+)?)\s*", re.DOTALL)
_TIME = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,5}):)?(\d{1,9}(?:\.\d{1,6})?)")


class Words(NamedTuple):
    """Words that are asked for."""

    text: str
    weight: float = 1.0


class Example(NamedTuple):
    """A track that is asked for: music like it."""

    file: str
    weight: float = 1.0
    at: float | None = None  # seconds; None for the whole track
    features: np.ndarray | None = None  # of a file that was listened to already


@dataclass(frozen=True)
class Query:
    """What is asked for. Make it with `ask`."""

    words: tuple[Words, ...] = ()
    unwanted_words: tuple[Words, ...] = ()
    examples: tuple[Example, ...] = ()
    unwanted_examples: tuple[Example, ...] = ()
    notes: tuple[str, ...] = ()  # lines for who asked: how it was read, what was cut

    def read_as(self) -> str:
        """Return the words in one line, such as `calm piano; not: drums`."""
        wanted = [_show(*each) for each in self.words]
        wanted += [f"like {_show(each.file, each.weight)}" for each in self.examples]
        unwanted = [_show(*each) for each in self.unwanted_words]
        unwanted += [f"like {_show(each.file, each.weight)}" for each in self.unwanted_examples]
        return "; ".join([*wanted, *([f"not: {', '.join(unwanted)}"] if unwanted else [])])


class Point(NamedTuple):
    """A query in the joint space.

    Attributes:
        search: what tracks are compared with, of unit length (D,).
        words: of the wanted words alone (D,); None if there are none.
        examples: of the wanted examples alone (D,); None if there are none.
        unwanted_words: of each (K, D).
        unwanted_examples: of each (L, D).
        reference: the average track.
    """

    search: np.ndarray
    words: np.ndarray | None
    examples: np.ndarray | None
    unwanted_words: np.ndarray
    unwanted_examples: np.ndarray
    reference: Reference

    def allows(self, tracks: np.ndarray) -> np.ndarray:
        """Return which tracks' points (N, D) have nothing that is not wanted (N,)."""
        stands_out = self.reference.deviations(tracks, self.unwanted_words) > YES
        is_nearer = tracks @ self.unwanted_examples.T > (tracks @ self.search)[:, None]
        return np.logical_not(stands_out.any(1) | is_nearer.any(1))


def ask(
    texts: Sequence[str],
    unwanted: Sequence[str] = (),
    like: Sequence[Example] = (),
    unlike: Sequence[Example] = (),
) -> Query:
    """Read a query.

    Args:
        texts: words; `^2` behind them is their weight. "no X" and "without X" are taken out.
        unwanted: words that are not wanted.
        like: examples.
        unlike: examples that are not wanted.

    Raises:
        ValueError: nothing is wanted, a text is empty, or a weight is 0.
    """
    wanted: list[Words] = []
    negated: list[str] = []
    cut = False
    for text in texts:
        words, weight = split_weight(_clean(text))
        kept = " ".join(words.split()[:MOST_WORDS])
        cut = cut or kept != words
        positive, negative = split_negations(kept)
        negated += negative
        wanted += [Words(positive, weight)] if positive else []
    unwanted_words = [Words(*split_weight(_clean(each))) for each in (*negated, *unwanted)]
    if not (wanted or like):
        asked = "only what is not wanted is given" if unwanted_words or unlike else "it is empty"
        raise ValueError(f"the query: {asked}. Give words, such as 'calm piano', or --like FILE.")
    notes = (f"Only the first {MOST_WORDS} words are used.",) if cut else ()
    query = Query(tuple(wanted), tuple(unwanted_words), tuple(like), tuple(unlike), notes)
    if negated:
        return Query(**{**vars(query), "notes": (*notes, f"Read as: {query.read_as()}")})
    return query


def split_negations(text: str) -> tuple[str, list[str]]:
    """Return words without their negations, and what was negated."""
    negated: list[str] = []
    for found in _NEGATION.finditer(text):
        phrases = _ALTERNATIVES.split(found["what"])
        negated += [_EMPHASIS.sub("", each).strip() for each in phrases]
    if not any(negated):
        return text, []
    positive = re.sub(r"\(\s*\)|\[\s*\]", "", _NEGATION.sub("", text))
    positive = " ".join(positive.split())
    positive = re.sub(r"\s*([,;.])(?:\s*[,;.])*", r"\1", positive)
    return _LEFT_OVER.sub("", positive).strip(" ,;.!?"), [each for each in negated if each]


def split_weight(text: str) -> tuple[str, float]:
    """Split `calm piano^2` into words and weight, which is 1 where none is given.

    Raises:
        ValueError: the weight is 0.
    """
    matched = _WEIGHTED.fullmatch(text)
    if not matched:
        return text, 1.0
    weight = float(matched["weight"])
    if not 0 < weight <= 100:
        raise ValueError(f"{text}: the weight is {matched['weight']}. Give one from 0.01 to 100.")
    return matched["what"], weight


def parse_time(text: str) -> float | None:
    """Return the seconds of `83`, `1:23` or `1:02:03`; None for anything else."""
    matched = _TIME.fullmatch(text.strip())
    if not matched:
        return None
    hours, minutes, seconds = (float(each or 0) for each in matched.groups())
    return hours * 3600 + minutes * 60 + seconds


def combine(
    words: np.ndarray,
    unwanted_words: np.ndarray,
    examples: np.ndarray,
    unwanted_examples: np.ndarray,
    query: Query,
    reference: Reference,
) -> Point:
    """Make the point of a query of its parts' points, each (K, D), in the query's order.

    Raises:
        ValueError: the parts cancel each other.
    """
    weigh = [each.weight for each in (*query.words, *query.examples)]
    wanted = _mean(np.concatenate([words, examples]), weigh, reference)
    weigh = [each.weight for each in (*query.unwanted_words, *query.unwanted_examples)]
    unwanted = _mean(np.concatenate([unwanted_words, unwanted_examples]), weigh, reference)
    search = _unit(wanted - _UNWANTED_WEIGHT * unwanted)
    of_words = _mean(words, [each.weight for each in query.words], reference)
    of_examples = _mean(examples, [each.weight for each in query.examples], reference)
    return Point(
        search,
        _unit(of_words) if query.words else None,
        _unit(of_examples) if query.examples else None,
        unwanted_words,
        unwanted_examples,
        reference,
    )


def _mean(points: np.ndarray, weights: Sequence[float], reference: Reference) -> np.ndarray:
    """Return the mean of points (K, D), each as long as makes its cosines deviate by 1; or 0."""
    if not len(points):
        return np.zeros(points.shape[1])
    scale = np.asarray(weights) / reference.deviation(points)
    return scale @ points / sum(weights)


def _unit(point: np.ndarray) -> np.ndarray:
    if not np.linalg.norm(point) > _LEAST_LENGTH:
        raise ValueError("the query: its parts cancel each other. Leave one of them out.")
    return unit_length(point)


def encodable(text: str) -> str:
    """Return text with ? for what is no character: bytes of the command line that are not UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _clean(text: str) -> str:
    cleaned = " ".join(encodable(text).split())
    if not cleaned:
        raise ValueError(
            "the query: it is empty. Give words, such as 'calm piano', or --like FILE."
        )
    return cleaned


def _show(what: str, weight: float) -> str:
    return what if weight == 1 else f"{what}^{weight:g}"
