"""Conditions in text: what they select, whatever characters they hold, and what is refused."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from library.test_store import SPACE, rows

from mulap.library.about import About
from mulap.library.store import Store
from mulap.library.where import between_seconds, parse_where

EVIL = [
    "x' OR 1=1 --",
    "it's",
    '"; DROP TABLE tracks; --',
    "100%",
    "a_b",
    "back\\slash",
    "`artist`",
    "Björk",
    "ÉTUDE",
    "日本",
    "🎹",
    "",
    "a|b",
    "$1 {0} %s",
]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("library")
    About(SPACE).write(folder)
    store = Store.write(folder, SPACE)
    keys = [f"k{number}" for number in range(len(EVIL))]
    seconds = [10.0 * number for number in range(len(EVIL))]
    years = [0, *range(1990, 1990 + len(EVIL) - 1)]
    moods = [text or None for text in EVIL]  # as in a file that has no such tag
    texts = ["128", "90.5", "fast", None, "128.0", *([None] * (len(EVIL) - 5))]
    numbers = [None if text in (None, "fast") else float(text) for text in texts]
    own = {"text_mood": moods, "text_bpm": texts, "number_bpm": numbers}
    store.add(*rows(keys, artist=EVIL, seconds=seconds, year=years, **own))
    return store


def select(store, *conditions):
    expression = parse_where(conditions, store.own_tags()).expression
    return store.tracks(expression, ["artist", "seconds", "year", "text_bpm"]).to_pylist()


def artists(store, *conditions):
    return sorted(row["artist"] for row in select(store, *conditions))


@pytest.mark.parametrize("value", [each for each in EVIL if each and "|" not in each])
def test_a_text_selects_itself_and_nothing_else_whatever_its_characters(store, value):
    assert artists(store, f"artist={value}") == [value]
    assert artists(store, f"artist~{value}") == [value]
    assert len(artists(store, f"artist!={value}")) == len(EVIL) - 1
    assert len(artists(store, f"artist!~{value}")) == len(EVIL) - 1


def test_case_does_not_count_and_alternatives_are_any_of(store):
    assert artists(store, "artist=BJÖRK|étude") == ["Björk", "ÉTUDE"]
    assert artists(store, "ARTIST ~ jör | tud ") == ["Björk", "ÉTUDE"]
    assert len(artists(store, "artist!=björk|étude")) == len(EVIL) - 2
    assert artists(store, "artist=") == [""]


def test_bytes_that_are_no_text_select_nothing(store):
    assert artists(store, "artist=\udcff\ud800") == []


def test_numbers_compare_and_an_unknown_year_fulfils_no_comparison(store):
    assert [row["seconds"] for row in select(store, "seconds<0:20")] == [0, 10]
    assert sorted(row["seconds"] for row in select(store, "seconds>=100", "seconds<=1:50.5")) == [
        100,
        110,
    ]
    assert sorted(row["year"] for row in select(store, "year<1992")) == [1990, 1991]
    assert [row["year"] for row in select(store, "year=1993")] == [1993]
    found = store.tracks(between_seconds(20, 40), ["seconds"]).column("seconds").to_pylist()
    assert sorted(found) == [20, 30, 40]


def tempos(store, *conditions):
    return [row["text_bpm"] for row in select(store, *conditions)]


def test_a_tag_of_the_user_s_own_compares_as_text_and_as_a_number(store):
    assert tempos(store, "bpm>90.5") == ["128", "128.0"]
    assert tempos(store, "tempo<=100") == ["90.5"]
    assert tempos(store, "bpm=128") == ["128", "128.0"]
    assert tempos(store, "bpm=fast|90.50") == ["90.5", "fast"]
    assert tempos(store, "bpm~a") == ["fast"]
    assert tempos(store, "bpm!=128", "bpm!=") == ["90.5", "fast"]
    assert len(select(store, "bpm!=128")) == len(EVIL) - 2
    assert len(select(store, "bpm=")) == len(EVIL) - 4
    assert artists(store, "mood=BJÖRK", "artist~ö") == ["Björk"]


@pytest.mark.parametrize(
    ("condition", "line"),
    [
        ("mod=calm", "one of title, artist, album, genre, path, seconds, year; of the files' own "
         "tags: bpm, mood."),
        ("mood>3", "mood is text. Use =, !=, ~ or !~."),
        ("bpm>fast", "'fast' is not a number. Write, say, 120 or 99.5."),
        ("mood~", "has no value. Add the text to look for."),
    ],
)  # fmt: skip
def test_a_wrong_condition_on_a_tag_is_refused_and_an_unknown_one_names_the_known(
    store, condition, line
):
    with pytest.raises(ValueError, match=f"^--where '{condition}': ") as raised:
        parse_where([condition], store.own_tags())
    assert str(raised.value).endswith(line)


def test_a_library_whose_tags_were_not_read_says_how_to_read_them():
    with pytest.raises(ValueError, match="year; or run mulap index, which reads"):
        parse_where(["mood=calm"], None)
    with pytest.raises(ValueError, match="year; no file has any other tag"):
        parse_where(["mood=calm"], {})


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from(
        [f"{tag}{end}" for tag in ("artist", "mood") for end in ("=", "~", "!=", "!~")]
    ),
    st.one_of(st.text(max_size=12), st.sampled_from(EVIL)),
)
def test_any_text_selects_what_python_selects(store, start, value):
    alternatives = [each.strip().lower() for each in value.strip().split("|")]
    if "~" in start and not all(alternatives):
        with pytest.raises(ValueError, match="has no value"):
            parse_where([start + value], store.own_tags())
        return

    def is_found(artist):
        if "~" in start:
            return any(each in artist.lower() for each in alternatives)
        return artist.lower() in alternatives

    expected = [each for each in EVIL if is_found(each) != ("!" in start)]
    assert artists(store, start + value) == sorted(expected)


@pytest.mark.parametrize(
    ("condition", "part"),
    [
        ("", "is no condition"),
        ("artist", "is no condition"),
        ("1=1 OR artist=x", "no field has this name"),
        ("point=1", "no field has this name"),
        ("artist<x", "artist is text"),
        ("seconds~3", "seconds is a number"),
        ("seconds<abc", "'abc' is not a number"),
        ("seconds<1e999", "'1e999' is not a number"),
        ("seconds<-1", "'-1' is not a number"),
        ("seconds<nan", "'nan' is not a number"),
        ("year=1990.5", "'1990.5' is not a number"),
        ("year=1990; DROP TABLE tracks", "is not a number"),
    ],
)
def test_other_conditions_are_refused_in_one_line(condition, part):
    with pytest.raises(ValueError, match="^--where ") as raised:
        parse_where([condition])
    assert part in str(raised.value)
    assert "\n" not in str(raised.value)
