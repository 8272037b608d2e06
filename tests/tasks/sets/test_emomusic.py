"""Emomusic: jukemir's split song by song, numbers in their own units, tables of another kind."""

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from task_samples_more import emomusic_songs, write_emomusic

from mulap.tasks.registry import find_task
from mulap.tasks.sets.emomusic import LABELS, NUMBERS, SONGS, SPLITS, choose_split

TASK = find_task("emomusic")
REAL = Path(__file__).resolve().parents[2].parent / "shared" / "splits" / "emomusic.csv"


def real_songs() -> list[dict[str, str]]:
    if not REAL.is_file():
        pytest.skip(f"the real split file is not here ({REAL})")
    with open(REAL, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def load_real(folder: Path):
    """The real artists and numbers in the official tables, which say only what is test."""
    songs = [
        (
            int(row["song_id"]),
            row["artist"],
            "evaluation" if row["split"] == "test" else "development",
            row["mean_arousal"],
            row["mean_valence"],
        )
        for row in real_songs()
    ]
    return TASK.load(write_emomusic(folder, songs))


def test_the_split_is_jukemir_s_song_by_song(tmp_path):
    data = load_real(tmp_path)
    assert {e.track_id: e.split for e in data.examples} == {
        row["song_id"]: row["split"] for row in real_songs()
    }
    assert tuple(data.counts().values()) == SPLITS["jukemir"] == (504, 115, 125)


def test_targets_are_arousal_then_valence_in_their_own_units(tmp_path):
    data = load_real(tmp_path)
    assert LABELS == ("arousal", "valence")
    rows = real_songs()
    wanted = [[float(row["mean_arousal"]), float(row["mean_valence"])] for row in rows]
    np.testing.assert_array_equal(data.targets, wanted)
    # jukemir scales by the songs that are not test, its train and valid together.
    is_test = np.array([row["split"] == "test" for row in rows])
    learnt = data.targets[~is_test]
    scaled = (data.targets - learnt.mean(0)) / learnt.std(0)
    theirs = [[float(row["y_arousal_z"]), float(row["y_valence_z"])] for row in rows]
    np.testing.assert_allclose(scaled, theirs, atol=1e-12)


def test_the_artists_that_test_shares_are_as_many_as_the_caveat_says(tmp_path):
    data = load_real(tmp_path)
    learnt = {e.group for e in data.examples if e.split != "test"}
    num_shared = sum(e.group in learnt for e in data.examples if e.split == "test")
    assert TASK.caveat.startswith(f"{num_shared} of the 125 test clips")
    assert not {e.group for e in data.examples if e.split == "train"} & {
        e.group for e in data.examples if e.split == "valid"
    }
    assert "groups in two splits" in data.problems[0][1]


@pytest.mark.parametrize("names", [("Vieux Farka Touré", "vieux  FARKA tour"), ("U2", "u")])
def test_only_ascii_letters_of_an_artist_count(names):
    first, second = (choose_split(name, "development") for name in names)
    assert first == second
    assert choose_split(names[0], "evaluation") == "test"


@pytest.mark.parametrize("inside", ["annotations", "."])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_tables_are_read_where_the_archive_may_be_unpacked(tmp_path, inside, line_end):
    data = TASK.load(write_emomusic(tmp_path, inside=inside, line_end=line_end))
    assert Counter(e.split for e in data.examples)["test"] == 10
    first = data.examples[0]
    assert (first.track_id, first.file_name) == ("2", "clips_45seconds/2.mp3")
    assert first.group == "Band A"  # without the tab
    assert first.target == (1.5, 8.5)


def test_a_byte_order_mark_changes_nothing(tmp_path):
    for name in (SONGS, NUMBERS):
        path = write_emomusic(tmp_path) / "annotations" / name
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(TASK.load(tmp_path)) == 30


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda song: (*song[:2], "later", *song[3:]), "unknown set: 'later'"),
        (lambda song: (*song[:3], "high", song[4]), "no numbers"),
        (lambda song: (*song[:3], 9.5, song[4]), "no numbers"),
        (lambda song: (*song[:3], "nan", song[4]), "no numbers"),
        (lambda song: (song[0], " ", *song[2:]), "empty cell"),
        (lambda song: (*song[:4], ""), "empty cell"),
    ],
)
def test_a_song_that_cannot_be_used_is_counted(tmp_path, change, reason):
    songs = emomusic_songs()
    songs[4] = change(songs[4])
    data = TASK.load(write_emomusic(tmp_path, songs))
    assert len(data) == 29
    assert any(said.startswith(reason) for _, said in data.problems)
    assert all(source.split()[0] in (SONGS, NUMBERS) for source, _ in data.problems[:-1])


@pytest.mark.parametrize("name", [SONGS, NUMBERS])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such file. Run `mulap"),
        (b"", "is empty"),
        (b"id,number\n1,2\n", "no column 'song_id', only 'id', 'number'"),
        (b"song_id,Caf\xe9\n", "line 1 is not UTF-8"),
        (b"\xff\xfes\x00t", "not UTF-16"),
    ],
)
def test_a_table_that_is_not_the_authors_is_refused_in_one_line(tmp_path, name, content, message):
    path = write_emomusic(tmp_path) / "annotations" / name
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        TASK.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_song_twice_is_refused(tmp_path):
    songs = emomusic_songs()
    with pytest.raises(ValueError, match="has the track '2' twice"):
        TASK.load(write_emomusic(tmp_path, [*songs, songs[0]]))


def test_nothing_is_fetched_and_what_to_place_is_told():
    assert TASK.remotes == {}
    for word in ("form", TASK.homepage, "clips_45seconds/2.mp3", SONGS, NUMBERS, "SHA-256"):
        assert word in TASK.by_hand
