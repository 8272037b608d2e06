"""Ranks between opposites: one track, and words in any order."""

import numpy as np
import pytest

from mulap.encoders.zero_shot import Reference, ZeroShot
from mulap.library.moods import rank_moods, words_of


def test_tracks_are_ranked_from_the_opposite_to_the_word():
    reference = Reference(np.zeros(2), np.diag([1.0, 2.0]))
    pairs = [("happy", "sad"), ("sad", "happy")]
    tags = ZeroShot(tuple(words_of(pairs)), np.eye(2), reference)
    points = np.array([[1, 0], [0, 1], [0.6, 0.8], [0.8, 0.6]])
    # Deviations: happy = x / 1, sad = y / 2.
    ranks = rank_moods(points, tags, pairs)
    assert ranks[:, 0] == pytest.approx([100, 0, 100 / 3, 200 / 3])
    assert ranks[:, 1] == pytest.approx(100 - ranks[:, 0])
    assert rank_moods(points[:1], tags, pairs).tolist() == [[0, 0]]
