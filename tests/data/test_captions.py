"""Normal form and equality of captions for any text at all; what cleaning drops, and why."""

import re
import time
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data.captions import (
    BAD_PATTERNS,
    caption_key,
    clean_manifest,
    find_broken_rule,
    leave_out_sources,
    normalize_caption,
)
from mulap.data.clips import Clip, Manifest

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Every code point, lone surrogates and unassigned ones among them."""


@settings(max_examples=500, deadline=None, derandomize=True)
@given(text=ANY_TEXT)
def test_normal_form_and_key_are_idempotent_and_agree(text: str) -> None:
    normal, key = normalize_caption(text), caption_key(text)
    assert normalize_caption(normal) == normal
    assert caption_key(key) == key
    assert caption_key(normal) == key
    assert bool(key) == bool(normal)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(text=ANY_TEXT)
def test_a_normal_caption_can_be_stored_and_shows_on_one_line(text: str) -> None:
    normal = normalize_caption(text)
    normal.encode("utf-8")
    assert unicodedata.is_normalized("NFC", normal)
    assert normal == " ".join(normal.split())
    assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in normal)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(text=ANY_TEXT, more=ANY_TEXT)
def test_a_key_ignores_case_space_and_punctuation(text: str, more: str) -> None:
    key = caption_key(f"a {text} b")
    assert caption_key(f"  a  {text}\tb \n") == key
    assert caption_key(f"(a) {text} -- b!") == key
    assert caption_key(f"A {text} B") == key
    if normalize_caption(text) == normalize_caption(more):
        assert caption_key(text) == caption_key(more)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Hip-hop, 90 BPM!", "hip hop 90 bpm"),
        ("A waltz in C\u266f minor", "a waltz in c# minor"),
        ("Don\u2019t stop", "DON'T STOP"),
        ("don't stop", "dont stop"),
        ("STRASSE", "straße"),
        ("cafe\u0301", "CAFÉ"),
        ("\uff41 waltz", "a waltz"),
        ("soft\u00adly", "softly"),
        ("zero\u200bwidth", "zerowidth"),
    ],
)
def test_captions_that_say_the_same_have_one_key(one: str, other: str) -> None:
    assert caption_key(one) == caption_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a waltz in C", "a waltz in C#"),
        ("a waltz in B", "a waltz in B\u266d"),
        ("!!!", "???"),
        ("कि", "की"),
        ("90 bpm", "9 0 bpm"),
        ("été", "ete"),
    ],
)
def test_captions_that_differ_in_meaning_have_two_keys(one: str, other: str) -> None:
    assert caption_key(one) != caption_key(other)


GOOD = [
    "An uplifting and reflective pop track featuring synth, electric guitar, and male vocals.",
    "slow waltz, piano",
    "TR-808 drums and a DX7 bass from 1983-1984",
    "MPC2000 drums at 120 BPM",
    "Prelude in C major, BWV 846 by J. S. Bach",
    "Concerto no. 4 in F minor, Op. 8",
    "AN EPIC ORCHESTRAL BUILD UP",
    "a test of strength for brass",
    "Ein fröhlicher Marsch für Blasmusik",
    "медленный вальс для фортепиано",
    "mixes 60s soul & 1990 - 1995 hip-hop",
    "see the sun rise, as one",
    "flute as main theme, described as 80 BPM house",
    "a song 1970 style on a Fender® guitar",
]


@pytest.mark.parametrize("caption", GOOD)
def test_good_captions_break_no_rule(caption: str) -> None:
    assert find_broken_rule(caption) is None


BAD = {
    "too_short": ["", "waltz", "slow waltz"],
    "too_long": ["word " * 16],
    "url": ["more at https://x.org/y now", "music by www.x.de here", "made for example.com only"],
    "email": ["write to ann@example.de for it"],
    "html": ["a <b>slow</b> waltz", "drums &amp; bass loop", "slow<br/>piano and strings"],
    "file_name": ["the file waltz.WAV is it", "drum_loop_120 with some bass"],
    "catalogue_number": ["piano piece ABC-01234 in minor", "a waltz KPM12345 for strings"],
    "phone_number": ["call us +44 (0)20 7946 0958"],
    "track_number": ["calm piano Track 01", "this is track no. 12"],
    "untitled": ["Untitled piece for piano", "by an unknown artist today"],
    "placeholder": ["Lorem ipsum dolor sit amet", "mood TBC by editor"],
    "licensing": ["royalty free corporate music", "slow waltz © 2020", "Royalty-free calm piano"],
    "advertising": ["Subscribe for more calm piano", "free download of a waltz"],
    "cross_reference": [
        "as above, no drums",
        "Same as 1 without the choir",
        "edit of main version",
    ],
    "edit_length": ["calm piano 30 sec edit", "a 60s version of it"],
    "repeated_character": ["soooooo slow a waltz", "slow ------ piano waltz"],
    "wrong_encoding": [
        "a caf\u00c3\u00a9 in Paris",
        "donâ€™t stop the waltz",
        "a \ufffd slow waltz",
    ],
    "no_letters": ["1 2 3", "12 / 34 - 56"],
}


def test_every_rule_has_an_example_here() -> None:
    assert BAD.keys() == {"too_short", "too_long", *BAD_PATTERNS}


@pytest.mark.parametrize(("rule", "caption"), [(r, c) for r, cs in BAD.items() for c in cs])
def test_bad_captions_break_the_rule_that_names_them(rule: str, caption: str) -> None:
    assert find_broken_rule(normalize_caption(caption)) == rule


def clip(name: str, *captions: str) -> Clip:
    return Clip(Path(name), captions, name, name, "train", f"row of {name}")


def with_sources(name: str, captions: dict[str, str]) -> Clip:
    return replace(clip(name, *captions), caption_sources=tuple(captions.values()))


def test_captions_of_a_source_are_left_out_and_clips_with_no_other_are_counted() -> None:
    clips = [
        with_sources("a", {"jazz": "heard", "slow jazz": "heard+measured", "Blue": "title"}),
        with_sources("b", {"loud drums": "heard"}),
        clip("c", "of no source"),
    ]
    manifest, line = leave_out_sources(Manifest(clips), ["heard"])
    assert [each.captions for each in manifest.clips] == [("Blue",), ("of no source",)]
    assert [each.caption_sources for each in manifest.clips] == [("title",), ()]
    assert line == "left out by source: 3 captions, and 1 clips with no other"
    manifest, line = leave_out_sources(Manifest(clips), ["measured", "human"])
    assert [each.captions for each in manifest.clips][0] == ("jazz", "Blue")
    assert line == "left out by source: 1 captions, and 0 clips with no other"


def test_leaving_out_every_source_or_those_of_data_without_any_is_one_clear_line() -> None:
    with pytest.raises(ValueError, match="no caption is left without heard, title. Name fewer"):
        leave_out_sources(Manifest([with_sources("a", {"x": "heard"})]), ["heard", "title"])
    with pytest.raises(ValueError, match="the data name no sources of captions. Give a corpus"):
        leave_out_sources(Manifest([clip("a", "x")]), ["heard"])


def test_cleaning_keeps_the_sources_of_the_captions_that_it_keeps() -> None:
    own = with_sources("a", {"x": "title", "a slow  waltz": "heard", "a sad song": "tags"})
    manifest, _ = clean_manifest(Manifest([own]))
    assert manifest.clips[0].captions == ("a slow waltz", "a sad song")
    assert manifest.clips[0].caption_sources == ("heard", "tags")


def clean(captions: Sequence[str]):
    """The captions that are kept of one clip's, or none; and the report or the reason."""
    try:
        manifest, report = clean_manifest(Manifest([clip("a", *captions)]))
    except ValueError as error:
        return [], str(error)
    return list(manifest.clips[0].captions), report


def test_lengths_are_the_papers_three_to_fifteen_words() -> None:
    captions = [" ".join(["word"] * num_words) for num_words in range(1, 20)]
    kept, report = clean(captions)
    assert [len(caption.split()) for caption in kept] == list(range(3, 16))
    assert report.num_dropped == {"too_short": 2, "too_long": 4}


def test_the_report_counts_what_went_by_rule_and_shows_examples() -> None:
    captions = [*["a\nslow  waltz", "A slow waltz!"] * 2, "slow", "x " * 99, "see it: www.x.de", ""]
    kept, report = clean(captions)
    assert kept == ["a slow waltz", "A slow waltz!"] * 2
    assert (report.num_captions, report.num_kept.total()) == (8, 4)
    assert report.num_dropped == {"too_short": 2, "too_long": 1, "url": 1}
    assert report.examples["too_short"] == "slow"
    assert len(report.examples["too_long"]) == 80
    assert report.lines() == [
        "captions kept: 4 of 8",
        "dropped as too_short: 2, such as 'slow'",
        f"dropped as too_long: 1, such as '{'x ' * 38}x...'",
        "dropped as url: 1, such as 'see it: www.x.de'",
        "captions that repeat another: 3; the most frequent comes 4 times: 'a slow waltz'",
    ]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(captions=st.lists(ANY_TEXT, max_size=8))
def test_cleaning_survives_any_text_and_cleans_nothing_twice(captions: list[str]) -> None:
    captions = [f"a slow {caption}" for caption in captions]  # long enough
    kept, report = clean(captions)
    assert bool(kept) != isinstance(report, str)
    if kept:
        assert report.num_captions == len(captions)
        assert clean(kept)[0] == kept


@pytest.mark.parametrize("piece", ["a", "1", "a@", "<a", "1(", "a.", "_", "(", "\u0301", "&", "a_"])
def test_no_pattern_is_slow_on_hostile_text(piece: str) -> None:
    # Twice the text may take about twice the time; a pattern that tries all pairs of places takes
    # minutes at this length, so the bound is far from both.
    caption = piece * (100_000 // len(piece)) + "!"
    start = time.process_time()
    for pattern in BAD_PATTERNS.values():
        re.search(pattern, caption)
    caption_key(caption)
    assert time.process_time() - start < 10


def test_a_clip_that_loses_all_captions_is_dropped_and_counted() -> None:
    problem = ("metadata.csv row 9", "no such file: 'z.wav'")
    manifest = Manifest(
        [clip("a", "a slow waltz", "untitled"), clip("b", "waltz"), clip("c", "A slow waltz.")],
        [problem],
    )
    cleaned, report = clean_manifest(manifest)
    assert cleaned.clips == [clip("a", "a slow waltz"), clip("c", "A slow waltz.")]
    assert cleaned.problems == [problem]
    assert (report.num_clips_dropped, report.num_captions) == (1, 4)
    assert report.num_kept == {"a slow waltz": 2}
    assert "dropped: 1" in report.lines()[-2]
    assert len(manifest.clips) == 3


def test_cleaning_everything_away_is_an_error_that_names_the_rule() -> None:
    manifest = Manifest([clip("a", "waltz"), clip("b", "march", "a " * 20)])
    with pytest.raises(ValueError, match=r"none of 3 captions .*too_short: 2.*. Set data.clean"):
        clean_manifest(manifest)
