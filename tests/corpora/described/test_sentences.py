"""Captions of any facts: grammatical in form, never contradictory, and each with its source."""

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.corpora.described.facets import Facts, choose_facts, read_words, score_words
from mulap.corpora.described.sentences import (
    LONGEST_CAPTION_WORDS,
    write_captions,
    write_heard,
)
from mulap.corpora.described.tracks import Measured, Track

WORDS = read_words()
TRACK = Track(Path("05.ogg"), "a", "a")
FULL = Facts(
    {
        "genre": ("jazz", "blues"),
        "instrument": ("piano", "drums", "synthesizer"),
        "vocals": ("female",),
        "mood": ("sad", "mellow"),
        "tempo": ("slow",),
        "mode": ("minor",),
    },
    frozenset({"tempo", "mode"}),
)
INSTRUMENTAL = Facts({"genre": ("ambient",), "instrument": ("strings",), "vocals": ("none",)})
SUNG = r"\b(vocals|voice|voices|singer|singing|sings|sung|choir|song|woman|man)\b"
UNSUNG = r"(?i)without vocals|no vocals|nobody sings|instrumental"
# Of each pair, one caption may not hold both.
OPPOSITES = [
    (r"\b(slow|slow-paced|unhurried)\b", r"\b(fast|fast-paced|quick)\b"),
    (r"\b(loud)\b", r"\b(quiet|soft|gentle)\b"),
    (r"\b(sad|melancholy)\b", r"\b(happy|cheerful|party)\b"),
    (r"\b(minor)\b", r"\b(major)\b"),
    (r"\b(female|woman)\b", r"\b(male|man)\b"),
]


def some_facts(seed: int, spread: float) -> Facts:
    rng = np.random.default_rng(seed)
    odds = WORDS.mean + spread * rng.standard_normal(len(WORDS.mean))
    mode = ("", "major", "minor")[int(rng.integers(3))]
    measured = Measured(rng.uniform(-45, -5), rng.uniform(-20, 20), rng.uniform(50, 200), mode)
    return choose_facts(score_words(odds[None])[0], odds, measured)


def sources_of(captions: list[tuple[str, str]]) -> list[str]:
    return [source for _, source in captions]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), spread=st.floats(0.5, 5.0), count=st.integers(1, 12))
def test_captions_of_any_facts_are_clean_and_hold_no_contradiction(seed, spread, count):
    facts = some_facts(seed, spread)
    captions = write_heard(facts, count, np.random.default_rng(seed))
    texts = [text for text, _ in captions]
    assert len(texts) == len(set(texts)) <= count
    for text, source in captions:
        assert 1 <= len(text.split()) <= LONGEST_CAPTION_WORDS
        assert text == " ".join(text.split())
        assert not re.search(r" ,|,,|\.\.| \.|\ba a\b|\ban an\b|\band and\b|, and,", text), text
        assert not re.search(r"\ba [aeio]", text), text
        assert source in {"heard", "measured", "heard+measured"}
    together = " | ".join(texts)
    for one, other in OPPOSITES:
        assert not (re.search(one, together) and re.search(other, together)), together
    if facts.first("vocals") == "none":
        sung = re.sub(UNSUNG, "", together)
        assert not re.search(SUNG, sung), sung
    elif facts.first("vocals"):
        assert not re.search(UNSUNG, together), together


def test_captions_are_a_function_of_seed_and_clip():
    def write(name: str, seed: int) -> list[tuple[str, str]]:
        return write_captions(TRACK, FULL, name, 6, seed)

    assert write("audio/a-000.flac", 0) == write("audio/a-000.flac", 0)
    different = {tuple(write(f"audio/a-{i:03d}.flac", 0)) for i in range(20)}
    assert len(different) == 20
    assert write("audio/a-000.flac", 0) != write("audio/a-000.flac", 1)


def test_many_facts_give_many_forms():
    captions = write_heard(FULL, 60, np.random.default_rng(0))
    texts = [text for text, _ in captions]
    lengths = [len(text.split()) for text in texts]
    assert min(lengths) <= 2
    assert max(lengths) >= 9
    assert any(text.endswith(".") for text in texts)
    assert any("," in text and not text.startswith(("a ", "an ")) for text in texts)
    words = set(re.findall(r"[a-z&-]+", " ".join(texts).lower()))
    assert {"jazz", "blues", "piano", "slow", "sad", "mellow"} <= words
    assert words & {"woman", "female"}


def test_a_caption_of_what_was_measured_is_of_that_source():
    generators = map(np.random.default_rng, range(30))
    captions = dict(each for rng in generators for each in write_heard(FULL, 10, rng))
    assert set(captions.values()) == {"heard", "measured", "heard+measured"}
    for text, source in captions.items():
        is_measured = bool(re.search(r"slow|unhurried|minor", text))
        is_heard = bool(
            re.search(r"jazz|blues|piano|drums|percussion|synth|sad|mel|female|wom", text)
        )
        expected = ["heard"] * is_heard + ["measured"] * is_measured
        assert source == "+".join(expected), text


def test_an_instrumental_is_never_a_song():
    captions = write_heard(INSTRUMENTAL, 60, np.random.default_rng(2))
    assert len(captions) > 10
    assert not [text for text, _ in captions if "song" in text]


def test_a_text_and_a_telling_tag_stand_beside_what_is_heard_and_a_title_gives_way():
    tags = {"title": "Northern Lights", "artist": "Ann", "genre": "Folk"}
    texts = (("package", "music for a fantasy game"), ("package", "another"))
    track = Track(Path("x.ogg"), "x", "x", tags=tags, texts=texts)
    captions = write_captions(track, FULL, "audio/x-000.flac", 6)
    sources = sources_of(captions)
    assert len(captions) == 6
    assert sources[-2:] == ["package", "tags"]
    assert "folk" in captions[-1][0]
    assert all("heard" in source or "measured" in source for source in sources[:4])
    named = Track(Path("01.ogg"), "x", "x", tags={"artist": "Ann"})
    assert "tags" not in sources_of(write_captions(named, FULL, "audio/x-000.flac", 6))
    # With nothing heard, all that is known is said, once each.
    kinds = sources_of(write_captions(track, Facts(), "audio/x-000.flac", 6))
    assert kinds[:2] == ["package", "tags"]
    assert "title" in kinds[2]
    assert kinds[3] == "tags"  # the artist alone


def test_a_title_is_a_caption_alone_only_where_nothing_else_is_known():
    track = Track(Path("x.ogg"), "x", "x", tags={"title": "Northern Lights"})
    assert sources_of(write_captions(track, Facts(), "audio/x-000.flac", 6)) == ["title"]
    for index in range(20):
        (only,) = write_captions(track, FULL, f"audio/x-{index:03d}.flac", 1)
        assert "title" not in only[1]


@pytest.mark.parametrize(
    "title", ["track 03", "mission4", "Untitled", "5f3a9c01d2", "01", "rybky04"]
)
def test_titles_that_say_nothing_are_dropped(title):
    track = Track(Path("bgm_02.ogg"), "x", "x", tags={"title": title})
    assert write_captions(track, Facts(), "audio/x-000.flac", 6) == []


def test_a_title_that_was_refused_is_not_taken_from_the_files_name_either():
    path = Path("three_blind_mice.ogg")
    assert write_captions(Track(path, "x", "x"), Facts(), "audio/x.flac", 6)
    assert write_captions(Track(path, "x", "x", tags={"title": ""}), Facts(), "audio/x.flac") == []
