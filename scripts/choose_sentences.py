"""Choose the sentences that `mulap caption` retrieves, out of a corpus's training captions.

    python scripts/choose_sentences.py CORPUS/metadata.csv mulap/use/sentences.txt

Only captions of mulap's own wording are taken: those that say what is heard, measured, or true of
rendered music. Titles, tags and packages' texts stay out, as they carry names; so do sentences that
name a composer, a key, a number or a sound effect, and bare lists of words. The same table gives
the same file.
"""

import argparse
import csv
import hashlib
import heapq
import json
import re
from collections import Counter
from pathlib import Path

from mulap.corpora.rendered.vocabulary import EFFECT_PHRASES, EFFECT_TAGS
from mulap.corpora.wording import capitalise

# Sources of captions, and how many sentences each kind of music gives.
RECORDED, RENDERED = {"heard", "heard+measured", "measured"}, {"truth"}
NUM_RECORDED, NUM_RENDERED = 1_200, 800
WORDS = range(4, 16)  # of a sentence
FUNCTION_WORDS = set(
    "a an and at by for has have hear here in is it like music of on or piece played playing "
    "recording song sound sounds that the there this to track tune with without you".split()
)
TELLING = re.compile(r"\b(a|an|and|with|featuring|played|for|is|has|without|sounds?)\b", re.I)
# What is true of one recording alone: effects, level, and how it goes on.
PRIVATE = re.compile(
    "|".join(phrase for phrases in EFFECT_PHRASES.values() for phrase in phrases)
    + "|" + "|".join(EFFECT_TAGS.values()) + "|recording|volume|quieter|louder|dies down|builds up"
)  # fmt: skip
KEY = re.compile(r"\b[A-G](b|#|-flat|-sharp| flat| sharp)? (major|minor)\b")
NUMBER = re.compile(r"\d")
KNOWN_NUMBER = re.compile(r"\b(8-bit|[0-9]0s)\b")


def main(metadata: Path, output: Path) -> None:
    """Write the sentences, one a line, in alphabetical order."""
    csv.field_size_limit(2**30)
    with open(metadata, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "train"]
    names = {
        name.casefold()
        for row in rows
        for name in re.findall(r"\w{4,}", row["composer"])
        if name.casefold() not in FUNCTION_WORDS
    }
    found: list[Counter[str]] = [Counter(), Counter()]
    for row in rows:
        captions, sources = json.loads(row["caption"]), json.loads(row["caption_source"])
        for caption, source in zip(captions, sources, strict=True):
            if source in RECORDED | RENDERED and is_fit(caption, names):
                found[source in RENDERED][finished(caption)] += 1
    taken = choose(found[0], NUM_RECORDED)
    for sentence in taken:
        del found[1][sentence]
    sentences = sorted({*taken, *choose(found[1], NUM_RENDERED)})
    output.write_text("\n".join(sentences) + "\n", encoding="utf-8")


def is_fit(caption: str, names: set[str]) -> bool:
    """Say whether a caption may be shown for other music."""
    words = {word.casefold() for word in re.findall(r"\w+", caption)}
    return (
        len(caption.split()) in WORDS
        and bool(TELLING.search(caption))
        and not words & names
        and not PRIVATE.search(caption)
        and not KEY.search(caption)
        and not NUMBER.search(KNOWN_NUMBER.sub("", caption))
    )


def finished(caption: str) -> str:
    """Return a caption as a sentence, with a capital and a full stop."""
    return capitalise(caption.strip().rstrip(".")) + "."


def content(sentence: str) -> frozenset[str]:
    """Return the words that say something."""
    words = re.findall(r"[\w&'-]+", sentence.casefold())
    return frozenset(word for word in words if word not in FUNCTION_WORDS)


def choose(found: Counter[str], count: int) -> list[str]:
    """Choose sentences of words that are seldom among those chosen yet; none says the same twice.

    A word's worth is the root of how often it is found, over how often it was chosen.
    """
    frequency = Counter[str]()
    for sentence, times in found.items():
        frequency.update(dict.fromkeys(content(sentence), times))
    chosen: Counter[str] = Counter()

    def worth(words: frozenset[str]) -> float:
        return sum(frequency[w] ** 0.5 / (1 + chosen[w]) for w in words) / (1 + len(words))

    said, taken = set[frozenset[str]](), list[str]()
    order = sorted(found, key=lambda each: hashlib.sha256(each.encode()).digest())
    heap = [(-worth(content(each)), place) for place, each in enumerate(order) if content(each)]
    heapq.heapify(heap)
    while heap and len(taken) < count:
        old, place = heapq.heappop(heap)
        words = content(order[place])
        if words in said:
            continue
        now = -worth(words)  # it can only have fallen
        if now > old and heap and now > heap[0][0]:
            heapq.heappush(heap, (now, place))
            continue
        said.add(words)
        taken.append(order[place])
        chosen.update(words)
    return taken


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("metadata", type=Path)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    main(arguments.metadata, arguments.output)
