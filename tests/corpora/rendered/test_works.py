"""Scores in MusicXML: notes, rights, players."""

from pathlib import Path

import numpy as np
import pytest

from mulap.corpora.rendered.truth import VOICE_OF
from mulap.corpora.rendered.works import find_works, play_work, read_score
from tests.corpora.rendered.conftest import make_note, make_score, write_mxl


def test_chords_ties_voices_and_accidentals_are_read(tmp_path):
    first = (
        make_note("C", 4, 2) + make_note("E", 4, 2, chord=True)
        + make_note("F", 4, 4, alter=1, tie="start")
        + "<backup><duration>6</duration></backup>" + make_note("B", 3, 6, alter=-1)
    )  # fmt: skip
    second = (
        make_note("F", 4, 2, alter=1, tie="stop") + "<note><rest/><duration>2</duration></note>"
    )
    second += make_note("G", 4, 2)
    score = read_score(write_mxl(tmp_path / "x.mxl", make_score([[first, second]])))
    assert score.parts == (
        ((0.0, 1.0, 60), (0.0, 1.0, 64), (0.0, 3.0, 58), (1.0, 3.0, 66), (5.0, 1.0, 67)),
    )
    assert (score.metre, score.tempo, score.title) == ("3/4", 90.0, "A piece")


def test_transposing_instruments_sound_where_they_sound_and_grace_notes_are_left_out(tmp_path):
    measure = (
        "<attributes><transpose><chromatic>-2</chromatic></transpose></attributes>"
        + make_note("D", 5, 2).replace("<note>", "<note><grace/>") + make_note("D", 5, 2)
    )  # fmt: skip
    path = tmp_path / "x.xml"
    path.write_text(make_score([[measure]]))
    assert read_score(path).parts == (((0.0, 1.0, 72),),)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("<score-partwise>", "cannot be read"),
        ("<score-timewise/>", "is score-timewise, not score-partwise"),
        (make_score([[""]]), "0 parts with notes"),
        (make_score([[make_note("C", 4, 2)]] * 9), "9 parts with notes"),
        (make_score([[make_note("C", 4, 2)]], rights="© 2003 Edizioni"), "rights are reserved"),
    ],
)
def test_scores_that_cannot_serve_are_refused_with_the_reason(tmp_path, text, reason):
    with pytest.raises(ValueError, match=reason) as told:
        read_score(write_mxl(tmp_path / "x.mxl", text))
    assert "\n" not in str(told.value)


def test_rights_that_are_given_away_are_no_obstacle(tmp_path):
    text = make_score([[make_note("C", 4, 2)]], rights="© 2014, Creative Commons License (CC-BY)")
    assert read_score(write_mxl(tmp_path / "x.mxl", text)).parts
    (tmp_path / "y.mxl").write_bytes(b"PK no zip")
    with pytest.raises(ValueError, match="cannot be read"):
        read_score(tmp_path / "y.mxl")


def test_the_corpus_is_listed_with_composers_and_movements_share_a_group(packages):
    works = find_works(packages)
    groups = {work.group: work for work in works}
    assert set(groups) == {
        "work mozart k155", "work mozart k156", "work haydn opus1no1", "work bach bwv1",
        "work bach bwv438", "work monteverdi 3.1",
    }  # fmt: skip
    assert groups["work bach bwv1"].composer == "Johann Sebastian Bach"
    assert all(read_score(work.path).parts for work in works)


@pytest.mark.parametrize("seed", range(30))
def test_players_get_notes_in_their_range_and_only_true_things_are_said_of_them(packages, seed):
    works = find_works(packages)
    work = works[seed % len(works)]
    parts, truth = play_work(work, np.random.default_rng(seed), 6.0)
    for part in parts:
        voice = VOICE_OF[part.program]
        assert all(voice.lowest <= note.pitch <= voice.highest for note in part.notes)
        assert min(note.start_seconds for note in part.notes) >= 0
    names = {VOICE_OF[part.program].name for part in parts}
    for size, words in ((2, "duo"), (3, "trio"), (4, "quartet")):
        if truth.ensemble.endswith(f" {words}"):
            assert len(parts) == size
    if truth.ensemble == "string quartet":
        assert names <= {"violin", "viola", "cello"}
    if truth.manner == "exchanged":
        assert not any("string" in word for word in truth.style_words)
    _, unplayed = play_work(work, np.random.default_rng(seed), 6.0, has_players=False)
    assert unplayed.ensemble == ""
    assert Path(work.path).exists()
