"""Captions relative to the corpus: every word is met, and none contradicts another."""

import re
from collections import Counter

import numpy as np
import pytest

from mulap.corpora.described.facets import clash, read_words
from mulap.corpora.described.hear import tag_names
from mulap.corpora.described.relative import _NAMES, relative_captions
from mulap.corpora.described.tracks import DescribeOptions, HeardClip, Measured


def make_clips(count, seed=0):
    """Clips of which no tagger is sure of anything."""
    odds = np.random.default_rng(seed).normal(-6, 1, (count, len(tag_names()))).astype(np.float32)
    measured = Measured(-20.0, 0.0)
    return [HeardClip(f"audio/{i}.flac", 0.0, 18.0, own, measured) for i, own in enumerate(odds)]


def words_in(caption):
    """The table's words that a caption names."""
    spoken = {_NAMES.get(word, word): word for word in read_words().words}
    parts = re.split(r", | with | and ", re.sub(r"^([^,]*?) (music|track)$", r"\1", caption))
    return [spoken.get(part) or spoken[f"{part} music"] for part in parts]


def test_every_word_is_said_of_some_clips_however_unsure_the_taggers_are():
    captions = relative_captions(make_clips(3000), 4, seed=0)
    said = Counter(word for texts in captions for text in texts for word in set(words_in(text)))
    assert set(said) == set(read_words().words)
    assert min(said.values()) >= 20


def test_no_caption_contradicts_itself_and_none_is_there_twice():
    for texts in relative_captions(make_clips(50), 8, seed=1):
        assert len(set(texts)) == len(texts) <= 8
        for text in texts:
            words = words_in(text)
            assert 1 <= len(words) <= 5
            assert not any(clash(one, other) for one in words for other in words if one != other)


def test_the_highest_word_of_a_clip_is_said_most():
    clips = make_clips(100)
    for tag in ("mtt country", "msd country"):
        clips[7].odds[tag_names().index(tag)] = 2.0
    texts = relative_captions(clips, 20, seed=0)[7]
    assert sum("country" in words_in(text) for text in texts) > len(texts) / 2


def test_the_order_of_the_clips_changes_nothing():
    clips = make_clips(40)
    captions = relative_captions(clips, 3, seed=0)
    assert relative_captions(clips[::-1], 3, seed=0) == captions[::-1]


def test_a_seed_decides_and_no_captions_are_none():
    clips = make_clips(10)
    first = relative_captions(clips, 3, seed=0)
    assert first == relative_captions(clips, 3, seed=0)
    assert first != relative_captions(clips, 3, seed=1)
    assert relative_captions(clips, 0, seed=0) == [[]] * 10
    assert relative_captions([], 3, seed=0) == []
    with pytest.raises(ValueError, match="relative_captions 0"):
        DescribeOptions(relative_captions=-1)
