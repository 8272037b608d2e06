"""The file of results: appended to, torn by kills, put in order; names of files; plain values."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.probing.rows import (
    append_row,
    canonical_hash,
    file_stem,
    order_rows,
    pair_id,
    plain,
    read_rows,
    write_rows,
)


def make_row(task="gtzan", backbone="mel", value=0.5):
    return {
        "task": task,
        "title": task.upper(),
        "split_name": "filtered",
        "backbone": backbone,
        "protocol": "paper",
        "value": value,
    }


def test_appended_rows_are_read_back(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    rows = [make_row(), make_row(backbone="random", value=None)]
    for row in rows:
        append_row(path, row)
    assert read_rows(path) == read_rows(str(path)) == rows
    assert read_rows(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("num_bytes", [1, 2, 30, 90])
def test_a_torn_last_line_is_left_out_and_cut_off_when_mending(tmp_path, num_bytes):
    path = tmp_path / "results.jsonl"
    append_row(path, make_row())
    whole = path.read_bytes()
    append_row(path, make_row(backbone="torn"))
    torn = path.read_bytes()[:-num_bytes]
    path.write_bytes(torn)
    assert read_rows(path) == [make_row()]
    assert path.read_bytes() == torn
    assert read_rows(path, repair=True) == [make_row()]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["{", "[1]", '{"task": "x"}', "7"])
def test_a_line_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "results.jsonl"
    append_row(path, make_row())
    path.write_text(path.read_text() + line + "\n")
    append_row(path, make_row())
    with pytest.raises(ValueError, match="line 2 is not a result"):
        read_rows(path)


def test_rows_come_into_the_order_of_the_config_and_the_last_of_a_pair_counts():
    old, new = make_row("a", "x", 1), make_row("a", "x", 2)
    other, first, gone = make_row("b", "x"), make_row("b", "y"), make_row("z", "old config")
    wanted = [pair_id(first), pair_id(new), ("not", "there", "yet", "", ""), pair_id(other)]
    assert order_rows([gone, old, other, first, new], wanted) == [first, new, other, gone]


def test_writing_the_same_rows_does_not_touch_the_file(tmp_path):
    path = tmp_path / "results.jsonl"
    write_rows(path, [make_row()])
    before = path.stat().st_ino
    write_rows(path, [make_row()])
    assert path.stat().st_ino == before
    write_rows(path, [make_row(value=0.6)])
    assert read_rows(path) == [make_row(value=0.6)]


def test_values_become_what_json_has():
    value = {"a": np.float32(0.5), "b": np.arange(2), 3: (float("nan"), None, True, "x")}
    assert plain(value) == {"a": 0.5, "b": [0, 1], "3": [None, None, True, "x"]}
    assert json.loads(json.dumps(plain(float("inf")), allow_nan=False)) is None


def test_a_hash_does_not_depend_on_the_order_of_keys():
    assert canonical_hash({"a": 1, "b": (2,)}) == canonical_hash({"b": [2], "a": 1})
    assert canonical_hash([1]) != canonical_hash(["1"])


@settings(derandomize=True, max_examples=60)
@given(st.lists(st.text(min_size=1), min_size=1, max_size=4))
def test_a_file_name_is_safe_whatever_the_names_are(names):
    stem = file_stem(*names)
    assert "/" not in stem
    assert not stem.startswith(".")
    assert stem.isascii()
    assert len(stem) < 280


def test_names_that_look_alike_give_different_files():
    names = ["a/b", "a-b", "a b", "a:b", "a-b-"]
    assert len({file_stem("task", name) for name in names}) == len(names)
    assert file_stem("gtzan", "filtered", "mel", "paper") == "gtzan--filtered--mel--paper"
