"""Cells: text, numbers, lists written as text, and files whatever way their names are spelled."""

import os
import unicodedata
from pathlib import Path

import pytest
from closed_folders import closed_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data.cells import BadRow, FileFinder, read_list, read_number, read_text

COMPOSED, DECOMPOSED = "café noir.wav", unicodedata.normalize("NFD", "café noir.wav")


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("cell", "items"),
    [
        (["a", 3, None], ["a", 3, None]),
        ('["a", "b, c"]', ["a", "b, c"]),
        (' ["it\'s", "\\ud83c\\udfb9"]\n', ["it's", "🎹"]),
        ("['rock', 'guitar']", ["rock", "guitar"]),
        ("['rock']", ["rock"]),
        ("('a', 'b')", ["a", "b"]),
        ("('a',)", ["a"]),
        ("{'a', 'b'}", ["a", "b"]),
        ("['a' 'b'\n 'c']", ["a", "b", "c"]),  # numpy's; Python would read one string
        ("array(['a', 'b'], dtype=object)", ["a", "b"]),
        ("['it\\'s', \"don't\", None, nan, 3, -1.5]", ["it's", "don't", None, None, 3, -1.5]),
        ("[]", []),
        ("[1, 2]", [1, 2]),
    ],
)
def test_lists_are_read_as_json_python_pandas_and_numpy_write_them(cell, items):
    assert read_list(cell) == items


@pytest.mark.parametrize(
    "cell",
    ["rock", "[piano] and [drums]", "[live]", "(1990)", "('a' 'b)", "['a']['b']", "{'a': 1}", 3]
    + ["['a'] (live)", '{"a": 1}', '"a"', "", None, "[007]", "[__import__('os')]", "[" * 10_000],
)
def test_other_cells_are_no_lists(cell):
    assert read_list(cell) is None


CELLS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text("[]()'\", \\n0"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=5,
)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(CELLS)
def test_no_cell_of_a_table_breaks_the_readers(cell):
    assert isinstance(read_text(cell), str)
    number = read_number(cell)
    assert number is None or abs(number) < float("inf")
    assert isinstance(read_list(cell), list | None)


@settings(derandomize=True, max_examples=300, deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_every_list_of_texts_that_python_prints_is_read(items):
    assert read_list(str(items)) == items


@pytest.mark.parametrize(("on_disk", "in_table"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_accents_may_be_composed_in_the_table_and_not_on_the_disk(tmp_path, on_disk, in_table):
    touch(tmp_path, on_disk, f"Ål/{on_disk}")
    finder = FileFinder([tmp_path])
    assert finder.find(in_table) == (str(tmp_path / on_disk), on_disk)
    # A folder is spelled one way, the file in it the other.
    mixed = unicodedata.normalize("NFD", "Ål") + f"/{in_table}"
    assert finder.find(mixed) == (str(tmp_path / "Ål" / on_disk), f"Ål/{on_disk}")
    touch(tmp_path, in_table)
    assert FileFinder([tmp_path]).find(in_table) == (str(tmp_path / in_table), in_table)


def test_backslashes_of_windows_are_slashes_where_there_is_no_such_name(tmp_path):
    touch(tmp_path, f"audio/{DECOMPOSED}", "odd\\name.wav")
    finder = FileFinder([tmp_path])
    found = str(tmp_path / "audio" / DECOMPOSED), f"audio/{DECOMPOSED}"
    assert finder.find(f"audio\\{COMPOSED}") == finder.find(f".\\audio\\{COMPOSED}") == found
    assert finder.find("odd\\name.wav") == (str(tmp_path / "odd\\name.wav"), "odd\\name.wav")
    with pytest.raises(BadRow, match=r"^no such file: 'C:.* its backslashes were tried as slashes"):
        finder.find("C:\\music\\a.wav")


def test_a_tilde_is_the_home_folder_where_there_is_no_such_name(tmp_path, monkeypatch):
    touch(tmp_path, "home/a.wav", "table/~/b.wav")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    finder = FileFinder([tmp_path / "table"])
    assert finder.find("~/a.wav")[0] == str(tmp_path / "home" / "a.wav")
    assert finder.find("~/b.wav")[0] == str(tmp_path / "table" / "~" / "b.wav")


def test_a_name_is_looked_for_in_every_folder_and_may_be_absolute(tmp_path):
    touch(tmp_path, "audio/a.wav", "b.wav")
    finder = FileFinder([tmp_path / "x", tmp_path / "audio"])
    assert finder.find("a.wav")[0] == str(tmp_path / "audio" / "a.wav")
    assert finder.find("../b.wav")[0] == str(tmp_path / "b.wav")
    assert finder.find(str(tmp_path / "b.wav"))[0] == str(tmp_path / "b.wav")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "no file name: the cell is empty"),
        ("gone.wav", "no such file: 'gone.wav' in "),
        ("ünknown.wav", "no such file: 'ünknown.wav' in "),
        ("a.wav/b.wav", "no such file: 'a.wav/b.wav' in "),
        ("nul\0.wav", "no such file: "),
        ("folder", "is a folder: 'folder' in "),
        ("pipe.wav", "not a regular file: 'pipe.wav' in "),
        ("x" * 5_000, "cannot be looked up: 'xxx.*File name too long"),
        ("a.npy", "not audio: 'a.npy' holds a NumPy array. Name the recording"),
        ("https://example.org/a.mp3", "not a file: 'https://example.org/a.mp3' is an address"),
    ],
)
def test_a_file_that_cannot_be_found_costs_its_row_with_the_reason(tmp_path, name, reason):
    touch(tmp_path, "a.wav", "folder/x.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(BadRow, match="^" + reason) as raised:
        FileFinder([tmp_path]).find(name)
    assert "\n" not in str(raised.value)


def test_a_file_in_a_closed_folder_is_not_said_to_be_missing(tmp_path):
    touch(tmp_path, "closed/a.wav")
    with closed_folder(tmp_path / "closed"), pytest.raises(BadRow, match="Permission denied"):
        FileFinder([tmp_path]).find("closed/a.wav")
