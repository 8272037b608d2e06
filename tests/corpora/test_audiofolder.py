"""Folders that a corpus is written into: new, empty or made by the same command, and no others."""

from pathlib import Path

import pytest

from mulap.corpora.audiofolder import making_audiofolder, write_metadata
from mulap.data.row_files import UNFINISHED

OWN = "own_column"


def make(output: Path | str, own_column: str = OWN) -> None:
    with making_audiofolder(output, own_column) as audio:
        (audio / "a.wav").touch()
        write_metadata(output, [{"file_name": "audio/a.wav", own_column: "x"}], own_column)


def test_a_folder_is_made_and_made_again_by_the_same_command(tmp_path):
    make(tmp_path / "new")
    make(str(tmp_path / "new"))
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["audio", "metadata.csv"]
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")


@pytest.mark.parametrize("name", ["failures.jsonl", "notes.txt", ".hidden", "audio/x.wav"])
def test_a_folder_that_holds_anything_else_is_refused_and_stays_as_it_is(tmp_path, name):
    """A failures.jsonl of another program was deleted."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match="holds files that this command did not make. Choose anot"):
        make(tmp_path)
    assert (tmp_path / name).read_text() == "mine"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / name]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "x").touch()
    with pytest.raises(ValueError, match="x: is a file. Choose another folder"):
        make(tmp_path / "x")


def stop_half_way(output: Path, own_column: str) -> None:
    with making_audiofolder(output, own_column):
        raise KeyboardInterrupt


def test_an_unfinished_folder_is_finished_by_the_same_command_only(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        stop_half_way(tmp_path, OWN)
    with pytest.raises(ValueError, match="Choose another folder"):
        make(tmp_path, "other_column")
    make(tmp_path)
    assert not (tmp_path / UNFINISHED).exists()


def test_the_empty_mark_of_version_0_1_is_known_and_that_of_a_preparation_is_refused(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / UNFINISHED).touch()
    make(tmp_path / "old")
    (tmp_path / "prepared" / UNFINISHED).mkdir(parents=True)
    with pytest.raises(ValueError, match="Choose another folder"):
        make(tmp_path / "prepared")
