"""A pool of captions is a list that is never made."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mulap.data.clips import CaptionPool, Clip


def make_clips(captions):
    return [
        Clip(Path(f"{index}.wav"), tuple(texts), str(index), str(index), "train", f"row {index}")
        for index, texts in enumerate(captions)
    ]


@given(st.lists(st.lists(st.text(), max_size=3), max_size=8), st.slices(12))
def test_a_pool_reads_like_the_list_of_all_captions(captions, part):
    pool = CaptionPool(make_clips(captions))
    whole = [text for texts in captions for text in texts]
    assert list(pool) == whole
    assert len(pool) == len(whole)
    assert bool(pool) == bool(whole)
    assert pool[part] == whole[part]
    assert [pool[index] for index in range(-len(whole), len(whole))] == whole * 2


def test_beyond_the_pool_is_no_caption():
    pool = CaptionPool(make_clips([["one"], ["two", "three"]]))
    for index in (3, -4):
        with pytest.raises(IndexError):
            pool[index]
