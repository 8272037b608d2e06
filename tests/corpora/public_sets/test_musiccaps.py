"""MusicCaps: one table, and audio named as public downloaders name it."""

import shutil

import pytest
from public_set_samples import MUSICCAPS, MUSICCAPS_HEADER, write_musiccaps, write_rows

from mulap.corpora.public_sets.musiccaps import read


def test_captions_aspects_and_splits(tmp_path):
    audio, table = write_musiccaps(tmp_path)
    tracks, failures = read(audio, table)
    assert failures == []
    assert [each.track.track_id for each in tracks] == [ytid for ytid, *_ in MUSICCAPS]
    splits = {each.track.track_id: each.track.split for each in tracks}
    assert [ytid for ytid, split in splits.items() if split == "test"] == [
        "-ab_defghij",
        "Ybcdefghijk",
        "f0-defghijk",
    ]
    assert set(splits.values()) == {"train", "test"}
    first = tracks[0]
    assert first.words is None
    assert first.track.texts == (("human", "Jazz. Slow."), ("aspects", "jazz, a singer's voice"))
    assert first.track.group == "-ab_defghij"
    human = read(audio, table, has_aspects=False)[0]
    assert human[0].track.texts == first.track.texts[:1]
    assert {each.track.split for each in read(audio, table.parent, is_all_test=True)[0]} == {"test"}


def test_files_are_found_by_any_usual_name(tmp_path):
    audio, table = write_musiccaps(tmp_path)
    tracks, _ = read(audio, table)
    found = {each.track.track_id: each.track.path.name for each in tracks}
    assert found == {ytid: name or f"{ytid}.wav" for ytid, _, name, *_ in MUSICCAPS}
    # Only a name without a time may be a longer video.
    assert [each.track.excerpt for each in tracks] == [
        (30, 40),
        None,
        None,
        (10, 20),
        (0, 10),
        (0, 10),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "{}_30_40.mp3", "{}_30-40.wav", "{}-30-40.flac", "[{}]-[30-40].mp4", "{}_30.wav",
        "{}_30.000_40.000.wav", "{}_000030_000040.ogg", "{}_30000.wav", "Y{}_30000_40000.wav",
        "deep/er/Y{}.m4a", "A title - with [brackets] [{}].opus",
    ],
)  # fmt: skip
def test_a_name(tmp_path, name):
    audio, table = write_musiccaps(tmp_path)
    shutil.rmtree(audio)
    for ytid in ("-ab_defghij", "Ybcdefghijk"):
        path = audio / name.format(ytid)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    tracks, _ = read(audio, table)
    assert [each.track.path for each in tracks[:2]] == [
        audio / name.format(ytid) for ytid in ("-ab_defghij", "Ybcdefghijk")
    ]
    assert not any(each.track.path.exists() for each in tracks[2:])


def test_a_clip_from_elsewhere_in_the_video_is_not_taken(tmp_path):
    audio, table = write_musiccaps(tmp_path)
    (audio / "-ab_defghij.wav").rename(audio / "-ab_defghij_50_60.wav")
    assert not read(audio, table)[0][0].track.path.exists()


def test_rows_that_cannot_be_used_are_listed(tmp_path):
    audio, table = write_musiccaps(tmp_path)
    row = ["g0-defghijk", 0, 10, "", "[]", "A tune.", 1, False, True]
    rows = [
        row,
        row,  # twice
        [*row[:1], 60, 70, *row[3:]],  # another part of the video
        ["", *row[1:]],
        ["h0-defghijk", "x", *row[2:]],
        ["i0-defghijk", *row[1:5], "", *row[6:]],
        ["j0-defghijk", 0, 10],
        [*row, "too many"],
    ]
    write_rows(table, [MUSICCAPS_HEADER, *rows])
    tracks, failures = read(audio, table)
    assert [each.track.track_id for each in tracks] == ["g0-defghijk", "g0-defghijk_60"]
    assert [(place.rpartition(" ")[2], reason.partition(".")[0]) for place, reason in failures] == [
        ("3", "is there twice"),
        ("5", "has no ytid, start_s and end_s of a clip"),
        ("6", "has no ytid, start_s and end_s of a clip"),
        ("7", "has no caption"),
        ("8", "has no caption"),
        ("9", "too many cells: 10 cells for 9 columns"),
    ]


def test_a_table_without_a_column_is_one_line(tmp_path):
    audio, table = write_musiccaps(tmp_path)
    write_rows(table, [[name for name in MUSICCAPS_HEADER if name != "caption"]])
    with pytest.raises(ValueError, match=r"musiccaps-public\.csv: no column 'caption'; it has"):
        read(audio, table)
    with pytest.raises(ValueError, match=r"musiccaps-public\.csv: cannot be read"):
        read(audio, tmp_path)
