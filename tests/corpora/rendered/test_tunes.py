"""Tunes in ABC notation: notes, keys and dances."""

from pathlib import Path

import pytest

from mulap.corpora.rendered.scores import Key
from mulap.corpora.rendered.tunes import Tune, find_tunes, read_tune

HEAD = "X:1\nT:A tune\nR:{dance}\nM:{metre}\nL:1/8\nK:{key}\n"
FILL = "cdef gabc' | " * 3


def read(tmp_path: Path, body: str, key: str = "C", metre: str = "4/4", dance: str = "reel"):
    path = tmp_path / f"{abs(hash((body, key, metre, dance)))}.abc"
    path.write_text(HEAD.format(dance=dance, metre=metre, key=key) + body + "\n")
    return read_tune(Tune(path, 0, dance, "A tune", ""))


def first_notes(tmp_path: Path, body: str, count: int, **kwargs) -> list[tuple[float, float, int]]:
    return list(read(tmp_path, f"{body} | {FILL}", **kwargs).notes[:count])


def test_lengths_octaves_and_rests(tmp_path):
    assert first_notes(tmp_path, "C,2 c/ z/ c' c3/2 B//", 5) == [
        (0.0, 1.0, 48), (1.0, 0.25, 72), (1.5, 0.5, 84), (2.0, 0.75, 72), (2.75, 0.125, 71),
    ]  # fmt: skip


def test_broken_rhythm_triplets_and_ties(tmp_path):
    assert first_notes(tmp_path, "c>d e<f (3gab c'-|c'", 8) == [
        (0.0, 0.75, 72), (0.75, 0.25, 74), (1.0, 0.25, 76), (1.25, 0.75, 77),
        (2.0, pytest.approx(1 / 3), 79), (pytest.approx(7 / 3), pytest.approx(1 / 3), 81),
        (pytest.approx(8 / 3), pytest.approx(1 / 3), 83), (3.0, 1.0, 84),
    ]  # fmt: skip


def test_key_signatures_accidentals_and_bars(tmp_path):
    pitches = [p for *_, p in first_notes(tmp_path, "F c =c c | c ^G G", 7, key="D")]
    assert pitches == [66, 73, 72, 72, 73, 68, 68]
    pitches = [p for *_, p in first_notes(tmp_path, "B e A", 3, key="Gm")]
    assert pitches == [70, 75, 69]


def test_grace_notes_chord_names_and_decorations_are_left_out_and_chords_give_the_top_note(
    tmp_path,
):
    notes = first_notes(tmp_path, '"Am"{ga}c ~d !trill!e [CEG]2 f', 5)
    assert notes == [
        (0.0, 0.5, 72), (0.5, 0.5, 74), (1.0, 0.5, 76), (1.5, 1.0, 67), (2.5, 0.5, 77),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "last", "believed"),
    [("D", "D", Key(2, "major")), ("Bm", "B,", Key(11, "minor")), ("Edor", "E", None),
     ("D", "A", None)],
)  # fmt: skip
def test_a_key_is_believed_only_if_it_is_major_or_minor_and_ends_the_tune(
    tmp_path, key, last, believed
):
    assert read(tmp_path, f"{FILL} {last}4", key=key).key == believed


@pytest.mark.parametrize(
    ("kwargs", "body", "reason"),
    [
        ({"metre": "9/8", "dance": "jig"}, FILL, "a jig in 9/8"),
        ({"metre": "4/4", "dance": "jig"}, FILL, "a jig in 4/4"),
        ({"key": "HP"}, FILL, "key 'HP'"),
        ({}, "c d e", "only 3 notes"),
    ],
)
def test_tunes_that_cannot_serve_are_refused_with_the_reason(tmp_path, kwargs, body, reason):
    with pytest.raises(ValueError, match=reason):
        read(tmp_path, body, **kwargs)


def test_the_collections_are_listed_with_dance_and_region_and_share_groups_by_title(packages):
    tunes = find_tunes(packages)
    assert [(tune.dance, tune.title, tune.region) for tune in tunes] == [
        ("reel", "The Test -- Reel", ""), ("jig", "The Other Test", "Irish"),
    ]  # fmt: skip
    assert all(read_tune(tune).notes for tune in tunes)
    assert tunes[0].group == "tune test"
    assert Tune(Path("x.abc"), 0, "jig", "Test, The", "").group == "tune test"
