"""Tags of public sets are said as people would say them."""

import re
from pathlib import Path

import pytest

from mulap.corpora.described.tracks import DescribeOptions, Track
from mulap.corpora.public_sets.sentences import (
    texts_of_jamendo,
    words_of_fma,
    words_of_jamendo,
    write_tag_captions,
)
from mulap.tasks.sets.mtg_jamendo import GENRES, INSTRUMENTS, MOODS

OPTIONS = DescribeOptions(captions=8)


def captions(words, name="audio/a-0-18.flac", texts=()) -> list[tuple[str, str]]:
    track = Track(Path("a.mp3"), "a", "g", tags={"title": ""}, texts=texts)
    return write_tag_captions(track, words, name, OPTIONS)


def test_tags_become_words_of_their_facet():
    tags = (
        "genre---drumnbass genre---80s genre---atmospheric instrument---voice instrument---pad "
        "instrument---computer mood/theme---slow mood/theme---dream mood/theme---film"
    ).split()
    assert words_of_jamendo(tags) == {
        "genre": ("drum and bass",),
        "era": ("80s",),
        "mood": ("atmospheric", "dreamy"),
        "vocals": ("singing",),
        "instrument": ("synth pads",),
        "tempo": ("slow",),
    }
    assert texts_of_jamendo(tags) == (("tags", "film music"), ("tags", "music for a film"))


@pytest.mark.parametrize(
    ("title", "word"),
    [
        ("Hip-Hop", "hip-hop"),
        ("Reggae - Dub", "dub reggae"),
        ("Jazz: Vocal", "vocal jazz"),
        ("Latin America", "Latin America"),
        ("South Indian Traditional", "south Indian traditional"),
        ("IDM", "IDM"),
        ("Old-Time / Historic", "old-time"),
    ],
)
def test_titles_of_genres_become_words(title, word):
    assert words_of_fma([title]) == {"genre": (word,)}


def test_genres_that_say_nothing_or_that_nobody_sings():
    assert words_of_fma(["Unclassifiable"]) == {}
    assert words_of_fma(["Instrumental"]) == {"vocals": ("none",)}


@pytest.mark.parametrize("tag", [*GENRES, *INSTRUMENTS, *MOODS])
def test_a_tag_of_mtg_jamendo_alone_makes_plain_captions(tag):
    words, texts = words_of_jamendo([tag]), texts_of_jamendo([tag])
    for name in ("a", "b", "c", "d"):
        for text, source in captions(words, name, texts):
            assert source == "tags"
            assert not re.search(r"---|/|_|\b(a [aeio]|an [^aeiouR8EI])|\b(\w+) \2\b", text)


def test_clips_of_a_track_draw_from_all_its_tags():
    words = words_of_jamendo([f"genre---{name}" for name in ("rock", "pop", "jazz", "folk")])
    said = {text for number in range(20) for text, _ in captions(words, f"audio/{number}.flac")}
    assert all(any(name in text for text in said) for name in ("rock", "pop", "jazz", "folk"))
    assert captions(words) == captions(words)
