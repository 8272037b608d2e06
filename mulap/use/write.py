"""Write a sentence about a clip by the masked-word head: mask-predict, candidates of all lengths.

    [MASK] [MASK] [MASK] [MASK]     all words at once, beside the clip
    a      calm   calm   song       the least sure are hidden and predicted again, fewer each time
    a      calm   piano  song       one candidate per length; `Engine.match` ranks them

After Ghazvininejad et al. 2019 (Mask-Predict), with a masked language model in place of a decoder.
"""

from collections.abc import Sequence

import numpy as np

from mulap.encoders.engine import WINDOW, Engine, Tokens

LENGTHS = (5, 7, 9, 11)  # of the candidates, in words and parts of words
ITERATIONS = 6


def write_candidates(
    engine: Engine,
    features: np.ndarray,
    lengths: Sequence[int] = LENGTHS,
    iterations: int = ITERATIONS,
) -> list[str]:
    """Write a sentence of each length about a clip; none is chosen.

    Args:
        engine: one that can match.
        features: of the clip (T, A), of which the first `WINDOW` segments are used.
        lengths: in tokens, each at least 1.
        iterations: times that words are predicted.

    Returns:
        Sentences in lower case, as the text model knows words.
    """
    ids = predict_tokens(engine, features[:WINDOW], lengths, iterations)
    return [_join([engine.vocabulary.words[index] for index in row]) for row in ids]


def predict_tokens(
    engine: Engine, features: np.ndarray, lengths: Sequence[int], iterations: int
) -> list[np.ndarray]:
    """As `write_candidates`; returns the ids of each sentence's tokens."""
    vocabulary = engine.vocabulary
    width = max(lengths) + 2
    places, ends = np.arange(width), 1 + np.array(lengths)[:, None]
    is_word = (places > 0) & (places < ends)
    ids = np.where(is_word, vocabulary.mask, vocabulary.padding)
    ids[:, 0] = vocabulary.start
    ids[places == ends] = vocabulary.end
    mask = (places <= ends).astype(np.int64)
    never = [*vocabulary.never, *(i for i, w in enumerate(vocabulary.words) if _is_mark(w))]
    sureness = np.zeros(ids.shape)
    is_asked = is_word
    for iteration in range(iterations):
        scores = engine.score_words(features, Tokens(ids, mask), is_asked).astype(np.float64)
        scores[:, never] = -np.inf
        starts = np.nonzero(is_asked)[1] == 1
        scores[np.ix_(starts, vocabulary.parts)] = -np.inf  # no sentence begins within a word
        for row in range(len(ids)):
            here = np.flatnonzero(is_asked[row])
            if len(here):
                kept = ids[row][is_word[row] & ~is_asked[row]]
                of_row = scores[np.nonzero(is_asked)[0] == row]
                ids[row, here], sureness[row, here] = _fill(of_row, kept)
        share = 1 - (iteration + 1) / iterations
        is_asked = _least_sure(sureness, is_word, share)
        if not is_asked.any():
            break
        ids = np.where(is_asked, vocabulary.mask, ids) if iteration + 1 < iterations else ids
    return [row[words] for row, words in zip(ids, is_word, strict=True)]


def _fill(scores: np.ndarray, taken: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose a word for each place, the surest first, none twice in a sentence.

    Args:
        scores: of the vocabulary at each place, before softmax (K, V); changed.
        taken: ids that the sentence has already.

    Returns:
        The ids, and their probabilities (K,).
    """
    log_odds = scores - scores.max(1, keepdims=True)
    log_odds -= np.log(np.exp(log_odds).sum(1, keepdims=True))
    log_odds[:, taken] = -np.inf
    ids, sureness = np.zeros(len(scores), np.int64), np.zeros(len(scores))
    for _ in range(len(scores)):
        place, best = np.unravel_index(log_odds.argmax(), log_odds.shape)
        ids[place], sureness[place] = best, np.exp(log_odds[place, best])
        log_odds[place], log_odds[:, best] = -np.inf, -np.inf
    return ids, sureness


def _least_sure(sureness: np.ndarray, is_word: np.ndarray, share: float) -> np.ndarray:
    """Return the places of a share of each row's words, the least sure, as bool (N, L)."""
    ranks = np.where(is_word, sureness, np.inf).argsort(axis=1).argsort(axis=1)
    return (ranks < np.floor(share * is_word.sum(1, keepdims=True))) & is_word


def _is_mark(word: str) -> bool:
    return word != "," and not any(map(str.isalnum, word))


def _join(tokens: Sequence[str]) -> str:
    """Join tokens: parts to their words, commas to the word before them."""
    return " ".join(tokens).replace(" ##", "").replace(" ,", ",").strip(",")
