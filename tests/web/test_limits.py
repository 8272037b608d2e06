"""Fields of requests, checked; errors with a remedy."""

import pytest

from mulap.web.limits import Fields, Limits, Refused, read_json, was_cut

LIMITS = Limits(text_letters=10, num_texts=3)


def fields(is_query=False, **values) -> Fields:
    return Fields(values, LIMITS, is_query)


def refusal(call) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def test_an_error_in_our_form_is_split_into_what_is_wrong_and_what_to_do():
    error = ValueError("a.flac: has no second 9.5, it ends at 3.\nGive another --at.")
    refused = Refused.by(error, 409)
    assert refused.to_json() == {
        "error": "a.flac: has no second 9.5, it ends at 3.",
        "remedy": "Give another --at.",
    }
    assert refused.status == 409
    assert Refused.by(ValueError("odd")).to_json() == {"error": "odd", "remedy": ""}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"1", b"\xff", b'{"a": NaN}', b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body):
    assert refusal(lambda: read_json(body)).status == 400


def test_one_text_is_a_list_of_one():
    assert fields(query="a").texts("query") == ["a"]
    assert fields(query=["a", "b"]).texts("query") == ["a", "b"]
    assert fields().texts("query") == []


@pytest.mark.parametrize("value", [1, None.__class__, {}, [1], [["a"]], "", " ", "\ud800", "a\0"])
def test_what_is_no_text_is_refused(value):
    assert "query" in refusal(lambda: fields(query=value).texts("query")).error


def test_long_texts_and_long_lists_are_refused():
    assert refusal(lambda: fields(query="x" * 11).texts("query")).status == 413
    assert refusal(lambda: fields(query=["x"] * 4).texts("query")).status == 400
    assert refusal(lambda: fields(like=["x"] * 4).values("like")).status == 400


@pytest.mark.parametrize("value", [0, 21, 1.5, "3", True, [], 10**400])
def test_a_number_has_to_be_whole_and_in_its_bounds(value):
    refused = refusal(lambda: fields(top=value).whole("top", 10, 1, 20))
    assert refused.remedy == "Give a whole number from 1 to 20."
    assert fields(top=3).whole("top", 10, 1, 20) == 3
    assert fields().whole("top", 10, 1, 20) == 10


def test_a_query_string_gives_text_that_is_read_as_numbers_and_flags():
    query = fields(True, top=["3"], at=["1.5"], any_length=["true"], tags=["a,b", "c"])
    assert query.whole("top", 10, 1, 20) == 3
    assert query.seconds("at") == 1.5
    assert query.flag("any_length") is True
    assert query.tags("tags") == ("a", "b", "c")
    for value in ("x", "", "1e3", "-1", "²", "9" * 5_000):
        refusal(lambda value=value: fields(True, top=[value]).whole("top", 10, 1, 20))
    for value in ("x", "nan", "inf", "-1"):
        refusal(lambda value=value: fields(True, at=[value]).seconds("at"))
    refusal(lambda: fields(True, any_length=["yes"]).flag("any_length"))


def test_a_number_of_many_digits_is_not_cut_to_a_smaller_one():
    over = fields(is_query=True, vary=["21474836470"])
    assert refusal(lambda: over.whole("vary", 0, 0, 2**31)).status == 400


def test_a_field_that_no_route_takes_is_named():
    given = fields(query="x", tpo=3)
    given.texts("query")
    refused = refusal(given.end)
    assert (refused.error, refused.remedy) == ("tpo: is no field here.", "Use query.")


def test_the_note_about_a_cut_names_the_minutes():
    assert was_cut(Limits()) == "Longer than 30 minutes: the first 30 are used."
