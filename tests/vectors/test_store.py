"""The store: what is in a journal is there; what a kill or a power cut tore counts for nothing."""

import json
import os
import signal
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.vectors import journal as journals
from mulap.vectors import store as stores
from mulap.vectors.journal import read_journal
from mulap.vectors.store import VectorStore, fingerprint, read_rows, remove_part, stored_makings

MAKING = {"model": "m", "level": "segment"}
SIZE = 4


def rows_of(seed, *lengths):
    rng = np.random.default_rng(seed)
    for length in lengths:
        yield rng.normal(size=(length, SIZE)).astype(np.float32)


def expected_rows(seed, *lengths):
    return np.concatenate(list(rows_of(seed, *lengths)))


def vectors_of(folder, entry):
    return np.concatenate(list(read_rows(folder, SIZE, entry)))


def open_store(folder, making=MAKING):
    return VectorStore(folder, SIZE, making)


def write(folder, *keys):
    store = open_store(folder)
    writer = store.writer()
    return writer, [writer.add(key, rows_of(seed, 3, 2)) for seed, key in enumerate(keys)]


def found_in(folder):
    return list(open_store(folder).entries.values())


def test_rows_come_back_by_their_keys(tmp_path):
    writer, entries = write(tmp_path, "b", "a")
    writer.close()
    store = open_store(tmp_path)
    assert list(store.entries.values()) == entries
    for seed, key in enumerate(("b", "a")):
        found = np.concatenate(list(store.read(key)))
        np.testing.assert_array_equal(found, expected_rows(seed, 3, 2))
    assert len(list(tmp_path.iterdir())) == 3


def test_a_key_that_fails_leaves_nothing_and_the_next_one_is_whole(tmp_path):
    writer, _ = write(tmp_path, "a")
    size = next(tmp_path.glob("*.f32")).stat().st_size

    def failing():
        yield from rows_of(9, 3)
        raise ValueError("broken in the middle")

    with pytest.raises(ValueError, match="broken"):
        writer.add("broken", failing())
    assert next(tmp_path.glob("*.f32")).stat().st_size == size
    entry = writer.add("c", rows_of(2, 2))
    writer.close()
    assert list(open_store(tmp_path).entries) == ["a", "c"]
    np.testing.assert_array_equal(vectors_of(tmp_path, entry), expected_rows(2, 2))


def test_a_finished_key_is_there_without_any_sync(tmp_path):
    _, entries = write(tmp_path, "a", "b")  # as a process that is killed now: nothing is closed
    assert found_in(tmp_path) == entries


@settings(derandomize=True, max_examples=60, deadline=None)
@given(kept=st.floats(0, 1), is_journal=st.booleans(), fill=st.sampled_from(["cut", "zeros"]))
def test_whatever_is_read_of_a_torn_part_is_right(tmp_path_factory, kept, is_journal, fill):
    """A power cut leaves less of either file than was written, or zeros in its place."""
    folder = tmp_path_factory.mktemp("parts")
    writer, entries = write(folder, "a", "b", "c", "d")
    expected = {entry.key: vectors_of(folder, entry) for entry in entries}
    path = next(folder.glob("*.journal" if is_journal else "*.f32"))
    whole = path.read_bytes()
    torn = whole[: round(len(whole) * kept)]
    path.write_bytes(torn if fill == "cut" else torn.ljust(len(whole), b"\0"))
    found = found_in(folder)
    assert found == entries[: len(found)]
    for entry in found:
        np.testing.assert_array_equal(vectors_of(folder, entry), expected[entry.key])
    if kept == 1:
        assert found == entries
    writer.close()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(place=st.floats(0, 0.999), flip=st.integers(1, 255))
def test_a_damaged_byte_of_the_journal_costs_its_line_and_no_vector(tmp_path_factory, place, flip):
    folder = tmp_path_factory.mktemp("parts")
    writer, entries = write(folder, "a", "b", "c", "d")
    writer.close()
    size = next(folder.glob("*.f32")).stat().st_size
    path = next(folder.glob("*.journal"))
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= flip
    path.write_bytes(data)
    found = found_in(folder)
    assert len(found) in (0, 2, 3, 4)  # 0: who made them; 2: a line break becomes a letter
    assert all(entry in entries for entry in found)
    with open_store(folder).writer() as writer:
        writer.add("e", rows_of(9, 1))
    assert size in [each.stat().st_size for each in folder.glob("*.f32")]


def test_what_was_synced_is_not_read_again_to_be_believed(tmp_path, monkeypatch):
    writer, entries = write(tmp_path, "a", "b")
    writer.sync()
    last = writer.add("c", rows_of(5, 1))
    seen, plain = [], stores.read_rows

    def watch(folder, size, entry):
        seen.append(entry)
        return plain(folder, size, entry)

    monkeypatch.setattr(stores, "read_rows", watch)
    assert found_in(tmp_path) == [*entries, last]
    assert seen == [last]


def test_a_damaged_row_is_found_when_it_is_read(tmp_path):
    writer, (entry,) = write(tmp_path, "a" * 64)
    writer.close()
    path = next(tmp_path.glob("*.f32"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"f32: the rows of aaaaaaaaaaaa... are damaged"):
        list(read_rows(tmp_path, SIZE, entry))


def test_a_folder_holds_vectors_of_one_making_whatever_its_name(tmp_path):
    _, entries = write(tmp_path, "a")
    assert list(open_store(tmp_path, {**MAKING, "model": "renamed"}).entries.values()) == entries
    assert not open_store(tmp_path, {**MAKING, "level": "track"}).entries
    assert stored_makings(tmp_path) == {fingerprint(MAKING)}
    assert json.loads((tmp_path / "making.json").read_text()) == MAKING


def test_a_fingerprint_depends_on_everything_but_the_name():
    assert fingerprint(MAKING) == fingerprint({"level": "segment", "model": "other"})
    assert fingerprint(MAKING) != fingerprint({**MAKING, "level": "track"})
    assert len(fingerprint(MAKING)) == 64


def test_a_part_ends_where_it_is_large_enough_and_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "PART_BYTES", 1)
    writer, entries = write(tmp_path, "a", "b", "c")
    writer.close()
    assert len({entry.part for entry in entries}) == 3
    remove_part(tmp_path, entries[1].part)
    assert len(list(tmp_path.iterdir())) == 5
    assert open_store(tmp_path).entries.keys() == {"a", "c"}


@pytest.mark.parametrize("full", [".f32", ".journal"])
def test_a_full_disk_spoils_neither_what_was_there_nor_what_comes_next(tmp_path, monkeypatch, full):
    writer, _ = write(tmp_path, "a")
    plain = journals.write_whole

    def write_some(out, data):
        if out.name.endswith(full):
            plain(out, data[:5])
            raise OSError(28, "No space left on device")
        plain(out, data)

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_whole", write_some)
        patch.setattr(stores, "write_whole", write_some)
        with pytest.raises(OSError, match=f"No space left on device: .*{tmp_path.name}"):
            writer.add("b", rows_of(1, 1))
    entry = writer.add("c", rows_of(2, 2))
    lines = list(read_journal(next(tmp_path.glob("*.journal"))))
    assert [line.get("key") for line in lines] == [None, "a", "c"]
    np.testing.assert_array_equal(vectors_of(tmp_path, entry), expected_rows(2, 2))
    assert open_store(tmp_path).entries.keys() == {"a", "c"}


def test_of_a_key_in_two_parts_the_newer_rows_count(tmp_path):
    for when, name in enumerate(("b", "a")):  # not in the order of their names
        with open_store(tmp_path).writer() as writer:
            part = writer.add("song", rows_of(when, 2)).part
        for suffix in (".f32", ".journal"):
            os.rename(tmp_path / f"{part}{suffix}", tmp_path / f"{name}{suffix}")
            os.utime(tmp_path / f"{name}{suffix}", (when, when))
    found = np.concatenate(list(open_store(tmp_path).read("song")))
    np.testing.assert_array_equal(found, expected_rows(1, 2))


@pytest.mark.parametrize("line", ["5", "{}", '{"key": "b"}', "[]", '"', "00000000 5"])
def test_a_line_of_the_journal_that_is_something_else_is_passed_over(tmp_path, line):
    writer, entries = write(tmp_path, "a")
    with open(next(tmp_path.glob("*.journal")), "a") as journal:
        journal.write(f"\n{line}")
    entries.append(writer.add("b", rows_of(7, 1)))
    writer.close()
    assert found_in(tmp_path) == entries


def test_rows_are_read_by_number_across_parts(tmp_path, monkeypatch):
    keys = [f"{index}" for index in range(7)]
    for turn in range(3):  # three writers, one after the other
        with open_store(tmp_path).writer() as writer:
            for index in range(turn, 7, 3):
                writer.add(keys[index], rows_of(index, index + 1))
    store = open_store(tmp_path)
    rows = store.rows()
    assert rows.shape == (sum(range(1, 8)), SIZE)
    starts = [rows.start_of(store.entries[key]) for key in keys]
    wanted = np.array([[starts[6] + 6, starts[0]], [starts[3] + 1, starts[3]]])
    expected = [[expected_rows(6, 7)[6], expected_rows(0, 1)[0]],
                [expected_rows(3, 4)[1], expected_rows(3, 4)[0]]]  # fmt: skip
    np.testing.assert_array_equal(rows[wanted], expected)
    assert rows[wanted].dtype == np.float32
    for index, key in enumerate(keys):
        where = rows.start_of(store.entries[key]) + np.arange(index + 1)
        np.testing.assert_array_equal(rows[where], expected_rows(index, index + 1))


def test_rows_of_an_empty_store_are_none(tmp_path):
    assert open_store(tmp_path).rows().shape == (0, SIZE)


def made_up(index):
    """The vectors of a key, float32 (1 to 4, SIZE)."""
    return np.full((1 + index % 4, SIZE), index, np.float32)


def fill_up(folder, num_keys):
    store = open_store(folder)
    with store.writer() as writer:
        for index in range(num_keys):
            if f"{index}" not in store.entries:
                writer.add(f"{index}", [made_up(index)])


def test_a_writer_killed_at_random_moments_leaves_no_wrong_vector(tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "SYNC_SECONDS", 0.005)
    rng, num_before = np.random.default_rng(1), 0
    for _ in range(15):
        child = os.fork()  # it only writes files: no thread of torch's is needed in it
        if child == 0:
            try:
                fill_up(tmp_path, 100_000)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        store = open_store(tmp_path)
        for key in store.entries:
            found = np.concatenate(list(store.read(key)))
            np.testing.assert_array_equal(found, made_up(int(key)))
        assert len(store.entries) >= num_before
        num_before = len(store.entries)
    assert 0 < num_before < 100_000
    fill_up(tmp_path, num_before + 3)
    assert len(open_store(tmp_path).entries) == num_before + 3
