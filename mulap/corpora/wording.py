"""What writers of captions share: draws by seed and name, lists in words, "a" or "an"."""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

_T = TypeVar("_T")


def seeded(*seeds: int | str) -> np.random.Generator:
    """Return a generator for some numbers and names: its draws depend on no other clip or file."""
    return np.random.default_rng(
        [
            seed if isinstance(seed, int) else zlib.crc32(seed.encode("utf-8", "surrogatepass"))
            for seed in seeds
        ]
    )


def draw(rng: np.random.Generator, choices: Sequence[_T]) -> _T:
    """Draw one of some things, each as likely as the others."""
    return choices[int(rng.integers(len(choices)))]


def draw_weighted(rng: np.random.Generator, weights: Mapping[_T, float]) -> _T:
    """Draw one of the keys, each as often as its weight says."""
    shares = np.array(list(weights.values()), dtype=float)
    return list(weights)[int(rng.choice(len(shares), p=shares / shares.sum()))]


def reshuffled(rng: np.random.Generator, items: Sequence[_T]) -> Iterator[_T]:
    """Yield all items in random order, then all in another one, and so on."""
    while True:
        yield from (items[i] for i in rng.permutation(len(items)))


def join_words(words: Sequence[str]) -> str:
    """Join words: "a, b and c"."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def with_article(phrase: str) -> str:
    """Put "a" or "an" before a phrase, by its sound."""
    start = phrase[:2].lower()
    is_vowel = start in ("un", "up", "r&") or (start[0] in "aeio8" and start != "eu")
    return f"an {phrase}" if is_vowel else f"a {phrase}"


def capitalise(text: str) -> str:
    """Return the text with a capital at its beginning, and all else as it is."""
    return text[:1].upper() + text[1:]
