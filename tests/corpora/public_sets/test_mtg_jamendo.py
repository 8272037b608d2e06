"""MTG-Jamendo's tables: a varying number of tags a row, names and licences in files beside them."""

import shutil
from pathlib import Path

import pytest
from public_set_samples import write_mtg_jamendo

from mulap.corpora.public_sets.corpus import SetTrack
from mulap.corpora.public_sets.mtg_jamendo import read


@pytest.fixture
def folders(tmp_path) -> tuple[Path, Path]:
    return write_mtg_jamendo(tmp_path)


def by_id(folders: tuple[Path, Path], **options) -> dict[str, SetTrack]:
    tracks, failures = read(*folders, **options)
    assert failures == []
    return {each.track.track_id: each for each in tracks}


def test_tags_names_licence_and_split_of_a_track(folders):
    tracks = by_id(folders)
    track = tracks["01/1"].track
    assert track.path == folders[0] / "01" / "1.mp3"
    assert (track.group, track.split, track.source) == ("artist_000001", "train", "mtg_jamendo")
    assert track.licence == "Creative Commons Attribution license: http://example.org/by/3.0/"
    assert track.attribution.startswith("The Owl by Ann Bee from Jamendo")
    assert track.tags == {
        "title": 'The "Owl',  # a stray quote swallows no rows
        "artist": "Ann Bee",
        "album": "Night",
        "date": "2010-02-03",
        "genre": "hip-hop",
    }
    assert tracks["01/1"].words == {
        "genre": ("hip-hop", "jazz"),
        "instrument": ("acoustic guitar",),
    }
    assert [each.track.split for each in tracks.values()] == [
        "train", "train", "valid", "test", "test",
    ]  # fmt: skip


def test_the_smaller_version_of_the_audio_is_found_and_its_name_is_no_title(folders):
    track = by_id(folders)["02/102"].track
    assert track.path.name == "102.low.mp3"
    assert track.tags["title"] == ""


def test_names_in_the_wrong_columns_are_not_used(folders):
    assert "artist" not in by_id(folders)["04/304"].track.tags


def test_a_track_in_no_split_is_in_that_of_its_artist(folders):
    table = folders[1] / "autotagging.tsv"
    raw = folders[1] / "raw_30s.tsv"
    shutil.copy(table, raw)
    new = "track_0000406\tartist_000009\talbum_000001\t06/406.mp3\t30.0\tgenre---pop\n"
    raw.write_text(raw.read_text() + new)
    tracks = by_id(folders, table="raw_30s")
    assert tracks["05/305"].track.split == "test"  # another track of its artist is tested
    assert tracks["06/406"].track.split == "train"
    assert not tracks["06/406"].track.path.exists()


def test_the_tables_of_the_splits_are_enough(folders):
    (folders[1] / "autotagging.tsv").unlink()
    (folders[1] / "raw.meta.tsv").unlink()
    (folders[1].parent / "audio_licenses.txt").unlink()
    tracks = by_id(folders)
    assert list(tracks) == ["01/1", "02/102", "03/203", "04/304"]
    assert tracks["01/1"].track.licence == "Creative Commons, see Jamendo"


def test_the_repository_itself_may_be_named(folders):
    assert len(by_id((folders[0], folders[1].parent))) == 5


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("splits/split-0/autotagging-test.tsv", "TRACK_ID\tPATH\n", "no column 'ARTIST_ID'.*Give"),
        ("autotagging.tsv", "id\n", "no column 'TRACK_ID' in its header. Give --metadata"),
        ("raw.meta.tsv", "TRACK_ID\n", "no column 'TRACK_NAME'"),
    ],
)
def test_a_table_without_its_columns_is_one_line(folders, name, text, complaint):
    (folders[1] / name).write_text(text)
    with pytest.raises(ValueError, match=complaint) as failure:
        read(*folders)
    assert "\n" not in str(failure.value)


def test_a_split_that_is_not_there_is_one_line(folders):
    with pytest.raises(ValueError, match=r"split-3.autotagging-train\.tsv: cannot be read.*Give"):
        read(*folders, split=3)
