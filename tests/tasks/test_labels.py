"""Cells of labels: classes, tags, numbers, and what is none of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data.cells import BadRow, read_list
from mulap.tasks.labels import find_mark, infer_kind, parse_label, read_tags


def kind_of(*cells: object) -> str:
    return infer_kind(("label",), [(cell,) for cell in cells])


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (("rock", "pop", "rock"), "class"),
        (("rock", "", None), "class"),
        (("90s", "80s"), "class"),
        ((True, False), "class"),
        (("rock", "rock|pop"), "tags"),
        (("rock;;pop",), "tags"),
        ((["rock"], ["pop"]), "tags"),
        (("0.5", "1", "2"), "numbers"),
        ((0.25, 3), "numbers"),
        (("1e-3", ""), "numbers"),
    ],
)
def test_the_kind_is_inferred_where_it_is_clear(cells, kind):
    assert kind_of(*cells) == kind


@pytest.mark.parametrize(
    ("cells", "what"),
    [
        (("0", "1", "1"), "whole numbers"),
        ((60, 120), "whole numbers"),
        ((1.0, 2.0), "whole numbers"),
        (("0.5", "fast"), "both numbers and words"),
    ],
)
def test_who_has_the_table_is_asked_where_it_is_not(cells, what):
    with pytest.raises(ValueError, match=f"{what}.*--kind class or --kind numbers"):
        kind_of(*cells)


def test_several_columns_are_numbers():
    assert infer_kind(("a", "b"), [("1", "2")]) == "numbers"


def test_a_label_is_read_as_its_kind_says():
    assert parse_label("class", ("l",), (" rock ",)) == "rock"
    assert parse_label("class", ("l",), ("a|b",)) == "a|b"
    assert parse_label("class", ("l",), (1.0,)) == "1"
    assert parse_label("tags", ("l",), ("b| a ;;b||",)) == ("a", "b")
    assert parse_label("tags", ("l",), (["x", 3, None],)) == ("3", "x")
    assert parse_label("numbers", ("l", "m"), ("1.5", 2)) == (1.5, 2.0)


@pytest.mark.parametrize(
    ("kind", "cell", "reason"),
    [
        ("class", "  ", "no label"),
        ("class", float("nan"), "no label"),
        ("class", ["a"], "no label"),
        ("tags", "|", "no label"),
        ("tags", [], "no label"),
        ("tags", None, "no label"),
        ("numbers", "", "not a number: ''"),
        ("numbers", "1,5", "not a number: '1,5'"),
        ("numbers", "inf", "not a number: 'inf'"),
        ("numbers", True, "not a number: True"),
        ("numbers", 10**400, "not a number"),
    ],
)
def test_a_cell_that_holds_no_label_says_why(kind, cell, reason):
    with pytest.raises(BadRow, match="^" + reason):
        parse_label(kind, ("l",), (cell,))


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        (("a;b", "b"), "tags"),
        (("['a', 'b']", "['b']"), "tags"),
        (("Folk, World, & Country", "Rock"), "class"),
        (("AC,DC", "AC,DC", "Abba"), "class"),
    ],
)
def test_semicolons_and_lists_are_tags_and_a_comma_alone_is_not(cells, kind):
    assert kind_of(*cells) == kind


def test_commas_that_may_separate_tags_are_asked_about():
    with pytest.raises(
        ValueError, match=r"may separate tags .such as 'rock'.*--kind tags or --kin"
    ):
        kind_of("rock, guitar", "jazz, piano", "rock, drums")
    with pytest.raises(
        ValueError, match="'label' has commas in its numbers. Write points, such as 1.5"
    ):
        kind_of("1,5", "2,5", "-3,0")


@pytest.mark.parametrize(
    ("cells", "mark"),
    [
        (("a|b", "c;d", "e,f"), "|"),
        (("a;;b", "c;d"), "|"),
        (("a;b", "e,f"), ";"),
        (("a", None, "e,f", 3), ","),
        (("a", "b"), "|"),
        ((["a;b"], "['a;b']", "c"), "|"),
    ],
)
def test_the_mark_of_a_column_is_the_first_of_the_usual_ones(cells, mark):
    assert find_mark(cells) == mark


@settings(derandomize=True, max_examples=200, deadline=None)
@given(st.text() | st.lists(st.text() | st.none(), max_size=3), st.sampled_from("|;,"))
def test_tags_are_sorted_and_hold_no_mark(cell, mark):
    tags = read_tags(cell, mark)
    assert list(tags) == sorted(set(tags))
    assert all(tag.strip() == tag and tag for tag in tags)
    assert read_list(cell) is not None or not any(mark in tag for tag in tags)
