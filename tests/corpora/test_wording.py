"""Draws and small rules of English that writers of captions share."""

from collections import Counter

import numpy as np
import pytest

from mulap.corpora.wording import (
    capitalise,
    draw,
    draw_weighted,
    join_words,
    reshuffled,
    seeded,
    with_article,
)


def test_words_are_joined_as_one_writes_them():
    assert join_words(["a"]) == "a"
    assert join_words(["a", "b"]) == "a and b"
    assert join_words(["a", "b", "c"]) == "a, b and c"
    assert join_words([]) == ""


@pytest.mark.parametrize("phrase", ["an organ", "an upbeat tune", "an R&B piece", "an 80s hit"])
def test_the_article_follows_the_sound(phrase):
    assert with_article(phrase.removeprefix("an ")) == phrase
    assert with_article("waltz") == "a waltz"
    assert with_article("Eurodance hit") == "a Eurodance hit"


def test_only_the_first_letter_is_made_a_capital():
    assert capitalise("a cello by JS Bach") == "A cello by JS Bach"
    assert capitalise("") == ""


def test_draws_depend_on_the_names_and_numbers_alone():
    first, again, other = (seeded(3, name).random() for name in ("a.flac", "a.flac", "b.flac"))
    assert first == again != other


def test_everything_is_drawn_as_often_as_it_should():
    rng = np.random.default_rng(0)
    assert set(Counter(draw(rng, "abc") for _ in range(300))) == set("abc")
    counts = Counter(draw_weighted(rng, {"often": 3, "rarely": 1, "never": 0}) for _ in range(400))
    assert counts["never"] == 0
    assert 250 < counts["often"] < 350


def test_nothing_comes_back_before_all_have_come():
    items = reshuffled(np.random.default_rng(0), [1, 2, 3])
    assert sorted(next(items) for _ in range(3)) == [1, 2, 3] == sorted(next(items) for _ in "abc")
