"""What a clip sounds like beside the other clips, whether or not a listener would say so.

`facets` says of a clip only what its taggers are sure of, so that in a corpus of game music hardly
any clip is called hip-hop or R&B, and a model trained on such captions never meets these words.
Here each word goes to the clips that are highest in it, however low they all are. Such captions are
weak ("funk, female vocals" for a synthesizer that resembles them); `caption_source` is `relative`,
so that a training can leave them out.
"""

from collections.abc import Sequence

import numpy as np

from mulap.corpora.described.facets import clash, merge_tags, read_words, score_words
from mulap.corpora.described.tracks import HeardClip
from mulap.corpora.wording import draw, seeded

RELATIVE = "relative"
_CANDIDATES = 12  # words of the highest scores that captions draw from
_MOST_WORDS = 5
_NAMES = {
    "none": "no vocals",
    "singing": "vocals",
    "female": "female vocals",
    "male": "male vocals",
    "a beat": "beats",
    "old": "oldies",
    "party": "party music",
    "60s": "60s music",
    "70s": "70s music",
    "80s": "80s music",
    "90s": "90s music",
}


def relative_captions(clips: Sequence[HeardClip], count: int, seed: int) -> list[list[str]]:
    """Write captions of one to five words for each clip.

    Args:
        clips: of the whole corpus, which they are compared with.
        count: how many captions each gets; fewer where they would be equal.
        seed: of the choice of words and forms.

    Returns:
        For each clip its captions, none twice.
    """
    if not clips or not count:
        return [[] for _ in clips]
    table = read_words()
    captions = []
    scored = score_words(merge_tags(np.stack([clip.odds for clip in clips])))
    for clip, scores in zip(clips, scored, strict=True):
        rng = seeded(seed, 1, clip.file_name)
        best = np.argsort(-scores, kind="stable")[:_CANDIDATES]
        weights = np.exp(scores[best] - scores[best].max())
        texts: dict[str, None] = {}
        for _ in range(count):
            drawn = rng.choice(
                best,
                int(rng.integers(1, _MOST_WORDS + 1)),
                replace=False,
                p=weights / weights.sum(),
            )
            texts[_phrase(_without_clashes([table.words[word] for word in drawn]), rng)] = None
        captions.append(list(texts))
    return captions


def describe_word(word: str) -> str:
    """Return what a word of the table reads as on its own: "no vocals" for "none"."""
    return _NAMES.get(word, word)


def _without_clashes(words: Sequence[str]) -> list[str]:
    kept: list[str] = []
    for word in words:
        if not any(clash(word, each) for each in kept):
            kept.append(word)
    return kept


def _phrase(words: Sequence[str], rng: np.random.Generator) -> str:
    first, *others = map(describe_word, words)
    forms = [", ".join([first, *others])]
    if others:
        forms += [f"{first} with {' and '.join(others)}", f"{first} and {', '.join(others)}"]
    elif not first.endswith(("music", "vocals")):
        forms += [f"{first} music", f"{first} track"]
    return draw(rng, forms)
