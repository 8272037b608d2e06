"""What files say of themselves: names, numbers, and what is left out."""

import numpy as np
import soundfile as sf

from mulap.library.tags import own_tags, read_tags


def test_tags_keep_their_text_and_numbers_are_numbers_as_well():
    said = own_tags({"mood": "Calm;  Dark", "TBPM": "128", "replaygain_track_gain": "-7.30 dB"})
    assert said == {
        "text_mood": "Calm; Dark",
        "text_bpm": "128",
        "number_bpm": 128.0,
        "text_replaygain_track_gain": "-7.30 dB",
        "number_replaygain_track_gain": -7.3,
    }


def test_one_name_stands_for_what_kinds_of_files_call_differently():
    assert own_tags({"initialkey": "Am", "tmpo": "90", "publisher": "ECM"}) == {
        "text_key": "Am",
        "text_bpm": "90",
        "number_bpm": 90.0,
        "text_label": "ECM",
    }
    assert own_tags({"bpm": "fast", "tmpo": "90"}) == {"text_bpm": "fast"}  # the plain name wins


def test_names_are_letters_digits_and_underscores_whatever_the_file_calls_them():
    names = {"Größe (cm)": "1a", "`; DROP TABLE x": "y", "a.b": "z", "--": "w", "\udcff!": "v"}
    assert own_tags(names) == {"text_größe_cm": "1a", "text_drop_table_x": "y", "text_a_b": "z"}


def test_fixed_columns_and_what_programs_write_for_each_other_are_left_out():
    assert (
        own_tags({"title": "x", "language": "und", "encoder": "Lavf", "major_brand": "M4A "}) == {}
    )
    assert len(own_tags({"lyrics": "la " * 9_000})["text_lyrics"]) == 1_000


def test_a_file_s_tags_are_read_from_its_headers(tmp_path):
    path = tmp_path / "05 some_song.flac"
    with sf.SoundFile(path, "w", 16_000, 1, format="FLAC") as out:
        out.artist, out.comment, out.tracknumber = "Ann", "calm", "5"
        out.write(np.zeros(16_000))
    assert read_tags(path) == {
        **{"title": "some song", "artist": "Ann", "album": "", "genre": "", "year": 0},
        **{"seconds": 1.0, "tags_version": 1},
        **{"text_comment": "calm", "text_track": "5", "number_track": 5.0},
    }
