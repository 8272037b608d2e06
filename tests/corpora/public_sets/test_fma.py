"""FMA's tables: header rows of two levels, genres by number, cells of several lines."""

import pytest
from public_set_samples import write_fma

from mulap.corpora.public_sets.fma import read


def test_a_size_holds_the_smaller_ones(tmp_path):
    audio, metadata = write_fma(tmp_path)
    numbers = {}
    for subset in ("small", "medium", "large", "full"):
        tracks, failures = read(audio, metadata, subset)
        assert failures == []
        numbers[subset] = [each.track.track_id for each in tracks]
    assert numbers["small"] == ["000/000002", "001/001003"]
    assert numbers["medium"] == ["000/000002", "000/000005", "001/001003"]
    assert numbers["large"] == numbers["full"] == [*numbers["medium"], "002/002004"]


def test_genres_names_licence_and_split_of_a_track(tmp_path):
    audio, metadata = write_fma(tmp_path)
    tracks = {each.track.track_id: each for each in read(audio, metadata, "medium")[0]}
    food = tracks["000/000002"]
    assert food.words == {"genre": ("hip-hop",)}
    assert food.track.path == audio / "000" / "000002.mp3"
    assert food.track.licence == "Attribution-NonCommercial 3.0"
    assert food.track.attribution == "Food by AWOL, Free Music Archive, track 2"
    assert (food.track.group, food.track.split) == ("artist 1", "train")
    assert food.track.tags["album"] == "A Way"
    nameless = tracks["000/000005"]
    assert nameless.track.texts == (("tags", "lo-fi, home"),)
    assert nameless.words == {"genre": ("pop", "experimental pop")}
    assert nameless.track.attribution == "untitled by Kurt, Free Music Archive, track 5"
    assert (nameless.track.split, nameless.track.tags["title"]) == ("valid", "")
    assert tracks["001/001003"].words == {"vocals": ("none",), "genre": ("country and western",)}
    assert (tracks["001/001003"].track.split, tracks["001/001003"].track.licence) == (
        "test",
        "unknown",
    )


def test_the_folder_above_the_archive_may_be_named(tmp_path):
    audio, metadata = write_fma(tmp_path)
    tracks, _ = read(audio.parent, metadata, "medium")
    assert all(each.track.path.is_file() for each in tracks)


def test_a_table_that_is_missing_or_lacks_a_column_is_one_line(tmp_path):
    audio, metadata = write_fma(tmp_path)
    text = (metadata / "tracks.csv").read_text()
    (metadata / "tracks.csv").write_text(text.replace("license", "rights"))
    with pytest.raises(ValueError, match="no column 'track,license' in its three header rows"):
        read(audio, metadata)
    (metadata / "tracks.csv").write_text(text.replace("small", "huge"))
    with pytest.raises(ValueError, match="no track is in the subset 'small'"):
        read(audio, metadata)
    (metadata / "genres.csv").write_text("id,title\n")
    with pytest.raises(ValueError, match="no column 'genre_id'"):
        read(audio, metadata)
    (metadata / "genres.csv").write_text("genre_id,title\n")
    (metadata / "tracks.csv").unlink()
    with pytest.raises(ValueError, match=r"tracks\.csv: cannot be read .*Run mulap download"):
        read(audio, metadata)
