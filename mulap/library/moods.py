"""Moods as numbers: where each track stands between two opposites, among those of its library.

happy, sad -> the difference of both words' deviations in a track
           -> the percentage of the library's tracks in which it is smaller
"""

from collections.abc import Sequence

import numpy as np

from mulap.encoders.zero_shot import ZeroShot

MOODS = (
    ("happy", "sad"),
    ("energetic", "calm"),
    ("aggressive", "peaceful"),
    ("loud", "quiet"),
    ("fast", "slow"),
    ("electronic", "acoustic"),
)


def words_of(pairs: Sequence[tuple[str, str]]) -> list[str]:
    """Return the words of pairs, each once."""
    return list(dict.fromkeys(word for pair in pairs for word in pair))


def rank_moods(points: np.ndarray, tags: ZeroShot, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """Rank tracks between opposites.

    Args:
        points: of all tracks of a library (N, D).
        tags: what scores `words_of` the pairs.
        pairs: words and their opposites.

    Returns:
        0 for the track most like the opposite, 100 for that most like the word, equal steps between
        them, float32 (N, number of pairs).
    """
    scores = tags.score(points)
    place = {tag: index for index, tag in enumerate(tags.tags)}
    ranks = np.empty((len(points), len(pairs)), np.float32)
    for column, (word, opposite) in enumerate(pairs):
        difference = scores[:, place[word]] - scores[:, place[opposite]]
        ranks[np.argsort(difference, kind="stable"), column] = np.arange(len(points))
    return 100 * ranks / max(len(points) - 1, 1)
