"""Song Describer: several captions of one recording; all of it is the split test."""

import pytest
from public_set_samples import SONG_DESCRIBER_HEADER, write_rows, write_song_describer

from mulap.corpora.public_sets.song_describer import read


def test_all_validated_captions_of_a_recording_are_its_own(tmp_path):
    tracks, failures = read(*write_song_describer(tmp_path))
    assert failures == []
    assert {each.track.track_id: each.track.texts for each in tracks} == {
        "34/1004034": (
            ("human", "An electronic tune, with echo"),
            ("human", "Slow synthesizer music"),
        ),
        "74/1007274": (("human", "Solo acoustic guitar"),),
        "10/1010": (("human", "Slow synthesizer music"),),
    }
    assert {each.track.split for each in tracks} == {"test"}
    assert tracks[0].words is None
    assert tracks[0].track.group == "artist 368880"
    assert tracks[0].track.facts == {"song_describer_id": "1004034", "caption_ids": "11; 12"}
    assert tracks[0].track.path.name == "1004034.2min.mp3"
    assert tracks[1].track.path.name == "1007274.mp3"  # the spelling of the table
    assert all(each.track.path.is_file() for each in tracks)


def test_captions_that_nobody_validated_are_taken_if_asked_for(tmp_path):
    audio, table = write_song_describer(tmp_path)
    tracks, _ = read(audio, table, has_unvalidated=True)
    assert [len(each.track.texts) for each in tracks] == [3, 1, 1, 1]


def test_licences_stand_beside_the_table(tmp_path):
    audio, table = write_song_describer(tmp_path)
    (table.parent / "audio_licenses.txt").write_text(
        "34/1004034.mp3\r\nA by B: http://example.org/1\r\nAvailable under a CC license: u\r\n\r\n"
    )
    track = read(audio, table.parent)[0][0].track
    assert track.licence == "captions CC BY-SA 4.0; audio CC license: u"
    assert track.attribution == "A by B: http://example.org/1"


def test_rows_and_tables_that_cannot_be_used(tmp_path):
    audio, table = write_song_describer(tmp_path)
    write_rows(table, [SONG_DESCRIBER_HEADER, [1, 2, "", "True", 1, 1, 1, "00/2.mp3", 3]])
    tracks, failures = read(audio, table)
    assert tracks == []
    assert failures == [(f"{table} row 2", "has no path or no caption.")]
    write_rows(table, [["caption_id", "caption", "track_id"]])
    with pytest.raises(ValueError, match=r"song_describer\.csv: no column 'is_valid_subset'"):
        read(audio, table)
