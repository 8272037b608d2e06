"""Files as data sets publish them are read whole, or refused in one line; no pickle is run."""

import os
import pickle
import pickletools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data.official_files import (
    find_layout,
    read_lines,
    read_pickled_strings,
    read_table,
)

FEW = settings(max_examples=60, derandomize=True, deadline=None)


class Bomb:
    def __reduce__(self):
        return os.system, ("touch exploded",)


class Plain:
    """Built by REDUCE or, from protocol 2 on, NEWOBJ."""


def outcome(path) -> list[str] | str:
    """What the reader gives: strings, or its complaint."""
    try:
        return read_pickled_strings(path)
    except ValueError as error:
        return str(error)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("count", [0, 1, 3, 1_500])
def test_a_pickled_list_of_strings_reads_the_same_without_unpickling(tmp_path, protocol, count):
    names = [f"0/artist-{number}-0-29.npy" for number in range(count)]
    path = tmp_path / "list.cP"
    path.write_bytes(pickle.dumps(names, protocol))
    assert read_pickled_strings(path) == names


def test_a_list_that_python_2_pickled_reads_the_same(tmp_path):
    path = tmp_path / "list.cP"
    path.write_bytes(b"(lp1\nS'a/one.npy'\np2\naS'b/two.npy'\np3\na.")  # cPickle, protocol 0
    assert read_pickled_strings(path) == ["a/one.npy", "b/two.npy"]
    path.write_bytes(b"\x80\x02]q\x01(U\x05a/oneq\x02U\x05b/twoq\x03e.")  # cPickle, protocol 2
    assert read_pickled_strings(path) == ["a/one", "b/two"]


@FEW
@given(st.lists(st.text(max_size=20), max_size=30), st.integers(0, 5), st.booleans())
def test_any_list_of_strings_reads_as_pickle_reads_it(tmp_path_factory, names, protocol, is_twice):
    names = names * 2 if is_twice else names  # the same object twice is stored and recalled
    path = tmp_path_factory.mktemp("lists") / "list.cP"
    path.write_bytes(pickle.dumps(names, protocol))
    assert read_pickled_strings(path) == names


@FEW
@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_read_or_give_one_line(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("lists") / "list.cP"
    path.write_bytes(data)
    found = outcome(path)
    if isinstance(found, str):
        assert found.startswith(f"{path}: not a pickled list of strings (")
        assert "\n" not in found
    else:
        assert all(isinstance(each, str) for each in found)


@FEW
@given(st.integers(0, 5), st.data())
def test_a_damaged_list_reads_or_gives_one_line(tmp_path_factory, protocol, data):
    whole = bytearray(pickle.dumps(["0/one.npy", "0/two.npy", "0/one.npy"], protocol))
    position = data.draw(st.integers(0, len(whole) - 1))
    whole[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("lists") / "list.cP"
    path.write_bytes(whole)
    found = outcome(path)
    assert isinstance(found, list) or "\n" not in found


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize(
    "thing",
    [
        Bomb(),
        [Bomb()],
        ["0/one.npy", Bomb()],
        [Plain()],
        [os.system],
        [["nested"]],
        ("a", "tuple"),
        {"a": "dict"},
        {"a set"},
        "only a string",
        [1],
        [None],
        [b"bytes"],
        [True],
        [1.5],
    ],
    ids=lambda thing: type(thing[0] if isinstance(thing, list) else thing).__name__,
)
def test_anything_but_a_list_of_strings_is_refused_and_never_run(tmp_path, thing, protocol):
    path = tmp_path / "list.cP"
    path.write_bytes(pickle.dumps(thing, protocol))
    with pytest.raises(ValueError, match=r"list\.cP: not a pickled list of strings \("):
        read_pickled_strings(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'touch exploded'\ntR.",  # GLOBAL, REDUCE
        b"(S'touch exploded'\nios\nsystem\n.",  # INST
        b"(cos\nsystem\nS'touch exploded'\no.",  # OBJ
        b"(lp1\nS'a'\np2\nacos\nsystem\n(S'touch exploded'\ntRa.",  # behind an honest list
        b"\x80\x04]\x8c\x02os\x8c\x06system\x93\x8c\x0etouch exploded\x85Ra.",  # STACK_GLOBAL
        b"(lp1\nP1\na.",  # PERSID
        b"(lp1\nS'a'\np2\na0.",  # POP
        b"(lp1\ng1\na.",  # the list within itself
        b"(lp1\ng9\na.",  # recalls what was never stored
        b"\x82\x01.",  # EXT1
        b"",
        b"(lp1\nS'cut sho",
    ],
)
def test_hand_made_pickles_are_refused_and_never_run(tmp_path, data):
    path = tmp_path / "list.cP"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="not a pickled list of strings"):
        read_pickled_strings(path)
    assert not (tmp_path / "exploded").exists()


def test_only_instructions_that_call_nothing_are_accepted(tmp_path):
    """Every instruction of pickle but the listed ones, alone behind a list, is refused."""
    accepted = {"MARK", "APPEND", "APPENDS", "LIST", "EMPTY_LIST", "STOP", "PROTO", "FRAME"}
    accepted |= {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET"}
    accepted |= {"STRING", "BINSTRING", "SHORT_BINSTRING"}
    accepted |= {"UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"}
    path = tmp_path / "list.cP"
    for opcode in pickletools.opcodes:
        if opcode.name in accepted:
            continue
        path.write_bytes(b"]" + opcode.code.encode("latin-1") + b"\x00" * 8 + b"0\n0\n.")
        with pytest.raises(ValueError, match="not a pickled list of strings"):
            read_pickled_strings(path)


def test_lines_may_end_as_on_any_system_and_begin_with_a_byte_order_mark(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"\xef\xbb\xbfblues/one.wav\r\n\r\njazz/two.wav \nrock/three.wav")
    assert read_lines(path) == ["blues/one.wav", "jazz/two.wav", "rock/three.wav"]


def test_a_list_that_cannot_be_read_gives_one_line(tmp_path):
    path = tmp_path / "list.txt"
    with pytest.raises(ValueError, match=r"list\.txt: cannot be read: No such file .*Fetch"):
        read_lines(path)
    path.write_bytes(b"caf\xe9\n")
    with pytest.raises(ValueError, match=r"list\.txt: line 1 is not UTF-8 .*Fetch it with"):
        read_lines(path)
    path.write_bytes(b"\n \r\n")
    with pytest.raises(ValueError, match=r"list\.txt: empty"):
        read_lines(path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no column 'id' in its header"),
        ("name\tlabel\nx\ty\n", "no column 'id' in its header"),
        ("id\tlabel\nx\n", "line 2: 1 cells under 2 columns"),
        ("id\tlabel\nx\ty\nx\ty\tz\n", "line 3: 3 cells under 2 columns"),
        ("id\tlabel\n" + "x" * 200_000 + "\ty\n", "line 2: .*field larger"),
    ],
)
def test_a_table_of_another_form_gives_one_line(tmp_path, text, complaint):
    path = tmp_path / "table.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=complaint) as failure:
        list(read_table(path, ("id", "label")))
    assert "\n" not in str(failure.value)


def test_a_table_gives_its_columns_by_name_whatever_their_order(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_bytes(b'"x"\t"label"\t"id"\r\n"1"\t"a ""b"""\t"7"\r\n')
    rows = list(read_table(path, ("id", "label")))
    assert rows == [(f"{path}, line 2", {"id": "7", "label": 'a "b"'}, [])]


def test_an_open_last_column_takes_every_further_cell(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text('id\ttags\n1\ta\n2\ta\tb\t"c\n')
    rows = list(read_table(path, ("id", "tags"), is_quoted=False, is_last_open=True))
    assert [cells for _, _, cells in rows] == [["a"], ["a", "b", '"c']]


def test_the_layout_is_the_one_in_which_a_file_is_there(tmp_path):
    layouts = ("audio/{}.wav", "{}.wav", "{}.au")
    assert find_layout(tmp_path, layouts, ["one", "two"]) == "audio/{}.wav"
    (tmp_path / "two.au").touch()
    assert find_layout(tmp_path, layouts, ["one", "two"]) == "{}.au"
