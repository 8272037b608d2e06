"""Cells of labels: classes, tags, numbers, and what is none of them."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.tasks.labels import BadRow, infer_kind, parse_label, read_number, read_tags, read_text


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


@settings(derandomize=True, max_examples=200, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
        max_leaves=5,
    )
)
def test_no_cell_of_a_table_breaks_the_readers(cell):
    assert isinstance(read_text(cell), str)
    assert all(tag and "|" not in tag or isinstance(cell, list) for tag in read_tags(cell))
    number = read_number(cell)
    assert number is None or abs(number) < float("inf")
