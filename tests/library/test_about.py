"""library.json: whole, or refused in a line; one writer."""

import json

import pytest

from mulap.library.about import (
    FILE,
    About,
    Space,
    announce,
    is_library,
    read_about,
    read_announced,
    writing,
)
from mulap.library.store import Store

SPACE = Space("tiny@0123abcd", "tiny", 8)


def test_what_is_written_is_read(tmp_path):
    about = About(SPACE, Space("b@00000001", "b", 4), ("/music", "/\udcff"), {"ended": 1})
    about.write(tmp_path)
    assert is_library(tmp_path)
    assert read_about(tmp_path) == about
    assert about.switched().space.hash == "00000001"


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', '{"format": 1, "space": 3}'])
def test_a_damaged_file_is_refused_in_a_line(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(ValueError, match="library.json: is damaged"):
        read_about(tmp_path)


def test_a_later_format_is_refused(tmp_path):
    (tmp_path / FILE).write_text('{"format": 2}')
    with pytest.raises(ValueError, match="by a later mulap"):
        read_about(tmp_path)


def test_one_process_writes_and_nothing_is_left_of_a_library_that_came_to_nothing(tmp_path):
    folder = tmp_path / "new" / "lib"
    with writing(folder), pytest.raises(ValueError, match="another mulap index is writing"):
        with writing(folder):
            pass
    assert not folder.exists()


def test_what_a_kill_left_of_a_write_is_removed(tmp_path):
    About(SPACE).write(tmp_path)
    (tmp_path / ".library.partial.json").write_text("{")
    (tmp_path / ".files.partial.journal").touch()
    with writing(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {FILE, "lock"}


def test_readers_see_how_many_tracks_there_will_be_while_they_are_added(tmp_path):
    assert read_announced(tmp_path) is None
    with announce(tmp_path, 12):
        assert read_announced(tmp_path) == 12
    assert read_announced(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"process": 2147483647, "tracks": 9}'])
def test_what_a_kill_left_of_an_announcement_says_nothing_and_is_removed(tmp_path, text):
    About(SPACE).write(tmp_path)
    (tmp_path / ".indexing").write_text(text)
    assert read_announced(tmp_path) is None
    with writing(tmp_path):
        assert {path.name for path in tmp_path.iterdir()} == {FILE, "lock"}


def test_tables_may_lie_elsewhere_and_a_library_without_that_says_nothing_of_it(tmp_path):
    About(SPACE).write(tmp_path)
    assert "tables" not in json.loads((tmp_path / "library.json").read_text())
    elsewhere = tmp_path / "elsewhere"
    About(SPACE, tables=str(elsewhere)).write(tmp_path)
    assert read_about(tmp_path).tables == str(elsewhere)
    Store.write(tmp_path, SPACE)
    assert [path.name for path in sorted(elsewhere.iterdir())] == [
        f"tracks_{SPACE.hash}.lance",
        f"windows_{SPACE.hash}.lance",
    ]
    assert not (tmp_path / "lance").exists()
