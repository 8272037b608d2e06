"""What may be said of a clip: enough evidence, and no contradictions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.corpora.described.facets import (
    FACETS,
    Facts,
    choose_facts,
    clash,
    describe_clips,
    merge_tags,
    read_words,
    score_words,
)
from mulap.corpora.described.hear import tag_names
from mulap.corpora.described.tracks import HeardClip, Measured

WORDS = read_words()
USUAL = WORDS.mean
QUIET_ABOUT_IT = {"msd favorites", "msd awesome", "msd 00s", "msd sexy", "msd catchy"}


def odds_of(**words: float) -> np.ndarray:
    """Usual odds but for some words, whose log-odds are given; `_` stands for a space."""
    odds = np.minimum(USUAL, WORDS.least - 2.0)
    for word, value in words.items():
        odds[WORDS.words.index(word.replace("_", " "))] = value
    return odds


def facts_of(measured: Measured | None = None, **words: float) -> Facts:
    odds = odds_of(**words)
    return choose_facts(score_words(odds[None])[0], odds, measured)


def all_words(facts: Facts) -> set[str]:
    return {word for words in facts.words.values() for word in words}


def test_every_word_is_of_a_facet_and_every_tag_is_used_once_or_dropped_on_purpose():
    assert set(WORDS.facets) <= set(FACETS)
    used = [tag for tags in WORDS.tags for tag in tags]
    assert len(used) == len(set(used))
    assert set(tag_names()) - set(used) == QUIET_ABOUT_IT & set(tag_names())
    assert len(set(WORDS.words)) == len(WORDS.words)
    assert (WORDS.deviation > 0).all()


def test_synonyms_of_both_taggers_are_one_word():
    odds = np.full((1, len(tag_names())), -5.0)
    for tag in ("mtt female", "mtt woman", "mtt female vocal", "mtt female voice"):
        odds[0, tag_names().index(tag)] = -1.0
    merged = merge_tags(odds)[0]
    assert merged[WORDS.words.index("female")] == pytest.approx((4 * -1.0 + 2 * -5.0) / 6)
    assert merged[WORDS.words.index("male")] == pytest.approx(-5.0)


def test_what_stands_out_is_said_and_what_does_not_is_not():
    facts = facts_of(piano=1.5, jazz=0.5)
    assert facts.first("instrument") == "piano"
    assert facts.first("genre") == "jazz"
    assert all_words(facts) == {"piano", "jazz", "none"}


def test_what_stands_out_on_too_little_evidence_is_not_said():
    odds = odds_of(piano=-2.5)
    scores = np.zeros(len(odds))
    scores[WORDS.words.index("piano")] = 5.0
    assert "piano" not in all_words(choose_facts(scores, odds))


def test_alone_in_a_corpus_a_clip_is_compared_with_the_table():
    odds = odds_of(guitar=1.0)
    place = WORDS.words.index("guitar")
    alone, twins = score_words(odds[None])[0, place], score_words(np.tile(odds, (5000, 1)))
    assert alone > 3  # in a corpus of guitars a guitar stands out less
    assert twins[0, place] < alone - 1


@pytest.mark.parametrize(
    ("words", "voice"),
    [
        ({"female": 0.0}, "female"),
        ({"male": 0.0}, "male"),
        ({"male": 0.0, "female": 0.1}, "singing"),
        ({"choir": 1.0}, "choir"),
        ({"none": 1.0}, "none"),
        ({"none": 1.0, "female": 0.5}, "female"),
        ({"female": -2.5}, ""),  # perhaps
    ],
)
def test_one_thing_is_said_of_vocals(words, voice):
    assert facts_of(**words).first("vocals") == voice


def test_opera_is_not_said_of_what_has_no_vocals():
    assert "opera" not in all_words(facts_of(opera=1.0, none=0.0))
    assert "opera" in all_words(facts_of(opera=1.0, choir=1.0))


def test_tempo_is_said_only_where_tagger_and_measurement_agree():
    def tempo(bpm: float | None, **words: float) -> str:
        measured = Measured(loudness_db=-20.0, change_db=0.0, tempo_bpm=bpm)
        return facts_of(measured, **words).first("tempo")

    assert tempo(150, fast=-1.0, slow=-2.0) == "fast"
    assert tempo(150, fast=-4.0, slow=-2.0) == ""
    assert tempo(70, fast=-5.0, slow=-1.5) == "slow"
    assert tempo(70, fast=-2.0, slow=-1.5) == ""
    assert tempo(105, fast=-4.0, slow=-2.0) == ""
    assert tempo(None, fast=-4.0, slow=-2.0) == ""


def test_measured_facets_are_marked_and_win_over_what_is_heard():
    measured = Measured(loudness_db=-40.0, change_db=15.0, mode="minor")
    facts = facts_of(measured, loud=1.0)
    assert facts.first("energy") == "quiet"
    assert facts.first("mode") == "minor"
    assert facts.first("change") == "louder"
    assert facts.measured == {"energy", "mode", "change"}


def test_genres_that_do_not_go_together_are_not_said_together():
    assert clash("metal", "jazz")
    assert clash("jazz", "metal")
    assert not clash("jazz", "blues")
    facts = facts_of(jazz=2.0, metal=-1.0)
    assert facts.words["genre"] == ("jazz",)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    spread=st.floats(0.1, 6.0),
    loudness_db=st.floats(-60, 0),
    bpm=st.none() | st.floats(40, 240),
)
def test_no_facts_contradict_each_other(seed, spread, loudness_db, bpm):
    rng = np.random.default_rng(seed)
    odds = USUAL + spread * rng.standard_normal(len(USUAL))
    measured = Measured(loudness_db, change_db=0.0, tempo_bpm=bpm, mode="major")
    facts = choose_facts(score_words(odds[None])[0], odds, measured)
    words = sorted(all_words(facts))
    assert not [(a, b) for a in words for b in words if a < b and clash(a, b)]
    assert len(words) == sum(map(len, facts.words.values()))
    for facet, most in {"vocals": 1, "tempo": 1, "energy": 1, "genre": 2, "instrument": 3}.items():
        assert len(facts.words.get(facet, ())) <= most


def test_clips_are_described_in_order():
    tags = tag_names()
    clips = []
    for loud in ("mtt piano", "mtt guitar"):
        odds = np.full(len(tags), -8.0, np.float32)
        odds[[tags.index(loud)]] = 2.0
        odds[[tags.index("msd guitar")]] = 2.0 if loud == "mtt guitar" else -8.0
        clips.append(HeardClip(f"{loud}.flac", 0.0, 18.0, odds, Measured(-20.0, 0.0)))
    first = [facts.first("instrument") for facts in describe_clips(clips)]
    assert first == ["piano", "guitar"]
    assert describe_clips([]) == []
