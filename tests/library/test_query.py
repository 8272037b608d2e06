"""Queries: how negations, weights and times are read, and the points that they become."""

import numpy as np
import pytest

from mulap.encoders.zero_shot import Reference
from mulap.library.query import (
    MOST_WORDS,
    Example,
    Words,
    ask,
    combine,
    parse_time,
    split_negations,
    split_weight,
)
from mulap.terminal import clock_time


@pytest.mark.parametrize(
    ("text", "positive", "negated"),
    [
        ("calm piano with strings, no drums", "calm piano with strings", ["drums"]),
        ("calm piano without drums or vocals", "calm piano", ["drums", "vocals"]),
        ("rock with no vocals", "rock", ["vocals"]),
        ("music that is not sad", "music", ["sad"]),
        ("fast, not too dark, no vocals and no piano", "fast", ["dark", "vocals", "piano"]),
        ("jazz, no drums, soft piano", "jazz, soft piano", ["drums"]),
        ("no drums but with soft piano", "soft piano", ["drums"]),
        ("jazz (no vocals)", "jazz", ["vocals"]),
        ("No drums. Calm piano.", "Calm piano", ["drums"]),
        ("Ambient WITHOUT ANY DRUMS", "Ambient", ["DRUMS"]),
        ("no drums", "", ["drums"]),
        ("no wave", "no wave", []),
        ("nothing else, knots", "nothing else, knots", []),
        ("not only piano", "not only piano", []),
        ("piano.", "piano.", []),
    ],
)
def test_no_and_without_are_taken_out_of_words(text, positive, negated):
    assert split_negations(text) == (positive, negated)


def test_a_query_says_how_it_was_read_only_where_that_differs():
    assert ask(["calm piano"]).notes == ()
    asked = ask(["calm  piano^2", "strings, no drums"], ["vocals"], [Example("a.mp3", 0.5)])
    assert asked.words == (Words("calm piano", 2), Words("strings"))
    assert asked.unwanted_words == (Words("drums"), Words("vocals"))
    read = "calm piano^2; strings; like a.mp3^0.5; not: drums, vocals"
    assert asked.notes == (f"Read as: {read}",)


def test_a_long_query_is_cut_and_says_so():
    asked = ask([" ".join(f"w{number}" for number in range(600))])
    assert asked.words[0].text.split()[-1] == f"w{MOST_WORDS - 1}"
    assert asked.notes == ("Only the first 60 words are used.",)


@pytest.mark.parametrize("texts", [[], [""], [" \n\t"], ["calm", ""]])
def test_an_empty_query_is_refused(texts):
    with pytest.raises(ValueError, match=r"the query: it is empty\. Give words"):
        ask(texts)


def test_bytes_that_are_no_text_become_question_marks():
    assert ask(["calm \udcff\ud800"]).words == (Words("calm ??"),)


def test_a_query_that_wants_nothing_is_refused():
    with pytest.raises(ValueError, match="only what is not wanted is given"):
        ask(["no drums"])


def test_weights_and_times_are_read():
    assert split_weight("piano^2.5") == ("piano", 2.5)
    assert split_weight("C^major") == ("C^major", 1)
    with pytest.raises(ValueError, match="the weight is 0"):
        split_weight("piano^0")
    times = {"83": 83, "1:23": 83, "1:02:03": 3723, "0:07.5": 7.5, " 5 ": 5}
    assert {text: parse_time(text) for text in times} == times
    assert [parse_time(each) for each in ("", "-1", "1:2:3:4", "nan", "1e3", "x")] == [None] * 6
    assert [parse_time(clock_time(each)) for each in (0, 72.9, 3723)] == [0, 72, 3723]


def units(*rows):
    points = np.array(rows, np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


NONE = np.empty((0, 3), np.float32)
# An average track; cosines with the first direction deviate twice as much as with the others.
REFERENCE = Reference(np.array([0.1, 0, 0]), np.diag([0.5, 0.25, 0.25]))


def test_a_point_is_the_mean_of_deviations_less_half_of_what_is_not_wanted():
    asked = ask(["a^3", "b, no c"])
    a, b, c = units([1, 0, 0], [0, 1, 0], [0, 0, 1])
    point = combine(np.stack([a, b]), c[None], NONE, NONE, asked, REFERENCE)
    wanted = (3 * a / 0.5 + b / 0.25) / 4
    assert point.words == pytest.approx(units(wanted)[0])
    assert point.search == pytest.approx(units(wanted - 0.5 * c / 0.25)[0])
    assert point.examples is None


def test_words_and_an_example_weigh_the_same_though_tracks_have_higher_cosines():
    asked = ask(["a"], like=[Example("b.mp3")])
    words, examples = units([0, 1, 0]), units([1, 0, 0])
    point = combine(words, NONE, examples, NONE, asked, REFERENCE)
    assert point.search == pytest.approx(units([1 / 0.5, 1 / 0.25, 0])[0])


def test_parts_that_cancel_each_other_are_refused():
    parts = units([1, 0, 0], [-1, 0, 0]), NONE, NONE, NONE
    with pytest.raises(ValueError, match="cancel each other"):
        combine(*parts, ask(["a", "b"]), REFERENCE)


def test_tracks_in_which_unwanted_words_stand_out_and_those_nearer_to_an_unwanted_example_go():
    wanted, unwanted = units([1, 0, 0]), units([0, 1, 0])
    tracks = units([1, 0, 0], [1, 0.3, 0], [1, 1, 0], [0, 1, 0.1])
    point = combine(wanted, unwanted, NONE, NONE, ask(["a, no b"]), REFERENCE)
    # Cosines with b: 0, 0.29, 0.71, 0.995; a deviation is 0.25, so that 0.375 is too much.
    assert point.allows(tracks).tolist() == [True, True, False, False]
    asked = ask(["a"], unlike=[Example("b.mp3")])
    point = combine(wanted, NONE, NONE, unwanted, asked, REFERENCE)
    assert point.allows(tracks).tolist() == [True, True, False, False]
