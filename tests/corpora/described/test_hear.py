"""What the taggers that ship with the package hear."""

import pickle

import numpy as np
import pytest
from tiny import RATE, tone

from mulap.corpora.described.hear import Taggers, load_taggers, tag_names
from mulap.encoders.embedder import Embedder


@pytest.fixture(scope="module")
def taggers() -> Taggers:
    return load_taggers()


def test_odds_and_vector_are_those_of_the_encoders_over_every_other_segment(taggers):
    samples = tone(3, 10.0)
    odds, vector = taggers.listen(taggers.log_mels(samples))
    expected = []
    for name in ("musicnn-mtt", "musicnn-msd"):
        encoder = Embedder.from_pretrained(name)
        scores = encoder.tag(samples, RATE).scores[::2].mean(0, dtype=np.float64)
        expected.append(np.log(scores) - np.log1p(-scores))
    np.testing.assert_allclose(odds, np.concatenate(expected), rtol=0, atol=0.011)
    last = encoder.embed(samples, RATE).embeddings[::2].mean(0)
    np.testing.assert_allclose(vector, last, rtol=1e-5, atol=1e-6)
    assert odds.dtype == vector.dtype == np.float32


def test_tags_are_named_in_the_order_of_the_odds():
    names = tag_names()
    assert len(names) == 100
    assert names[:2] == ("mtt guitar", "mtt classical")
    assert names[50:52] == ("msd rock", "msd pop")


def test_taggers_can_be_sent_to_another_process(taggers):
    log_mels = taggers.log_mels(tone(1, 4.0))
    copy = pickle.loads(pickle.dumps(taggers))
    for ours, theirs in zip(taggers.listen(log_mels), copy.listen(log_mels), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=0.011)
