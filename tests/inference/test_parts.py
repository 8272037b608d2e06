"""Parts: what is in the journal is there; what a kill or a power cut tore counts for nothing."""

import json
import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.inference import parts
from mulap.inference.parts import PartWriter, read_journals, read_rows, remove_part
from mulap.inference.tables import batch_embeddings, row_schema

SCHEMA = row_schema(4, {"model": "m", "level": "segment"})


def rows_of(seed, *lengths):
    rng = np.random.default_rng(seed)
    for length in lengths:
        yield np.arange(length) * 3.0, rng.normal(size=(length, 4)).astype(np.float32)


def vectors_of(folder, entry):
    return batch_embeddings(pa.Table.from_batches(read_rows(folder, entry)))


def write(folder, *files):
    writer = PartWriter(folder, SCHEMA)
    entries = [writer.add(file, "1-1", rows_of(seed, 3, 2)) for seed, file in enumerate(files)]
    return writer, entries


def test_rows_come_back_by_their_entries(tmp_path):
    writer, entries = write(tmp_path, "b", "a")
    writer.close()
    assert list(read_journals(tmp_path, SCHEMA)) == entries
    for seed, entry in enumerate(entries):
        expected = np.concatenate([vectors for _, vectors in rows_of(seed, 3, 2)])
        np.testing.assert_array_equal(vectors_of(tmp_path, entry), expected)
        table = pa.Table.from_batches(read_rows(tmp_path, entry))
        assert table["segment_index"].to_pylist() == [0, 1, 2, 3, 4]
        assert set(table["file"].to_pylist()) == {entry.file}
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_fails_leaves_nothing_and_the_next_one_is_whole(tmp_path):
    writer, _ = write(tmp_path, "a")
    size = next(tmp_path.glob("*.arrow")).stat().st_size

    def failing():
        yield from rows_of(9, 3)
        raise ValueError("broken in the middle")

    with pytest.raises(ValueError, match="broken"):
        writer.add("broken", "1-1", failing())
    assert next(tmp_path.glob("*.arrow")).stat().st_size == size
    entry = writer.add("c", "1-1", rows_of(2, 2))
    writer.close()
    assert [each.file for each in read_journals(tmp_path, SCHEMA)] == ["a", "c"]
    assert len(vectors_of(tmp_path, entry)) == 2


def test_a_finished_file_is_there_without_any_sync(tmp_path):
    _, entries = write(tmp_path, "a", "b")  # as a process that is killed now: nothing is closed
    assert list(read_journals(tmp_path, SCHEMA)) == entries


@settings(derandomize=True, max_examples=40, deadline=None)
@given(kept=st.floats(0, 1), is_journal=st.booleans(), fill=st.sampled_from(["cut", "zeros"]))
def test_of_a_torn_part_all_that_is_read_is_right(tmp_path_factory, kept, is_journal, fill):
    """A power cut leaves less of either file than was written, or zeros in its place."""
    folder = tmp_path_factory.mktemp("parts")
    writer, entries = write(folder, "a", "b", "c", "d")
    expected = {entry.file: vectors_of(folder, entry) for entry in entries}
    path = next(folder.glob("*.jsonl" if is_journal else "*.arrow"))
    whole = path.read_bytes()
    torn = whole[: round(len(whole) * kept)]
    path.write_bytes(torn if fill == "cut" else torn.ljust(len(whole), b"\0"))
    found = list(read_journals(folder, SCHEMA))
    assert found == entries[: len(found)]
    for entry in found:
        np.testing.assert_array_equal(vectors_of(folder, entry), expected[entry.file])
    if kept == 1:
        assert found == entries
    writer.close()


def test_what_was_synced_is_not_read_again_to_be_believed(tmp_path, monkeypatch):
    writer, entries = write(tmp_path, "a", "b")
    writer.sync()
    last = writer.add("c", "1-1", rows_of(5, 1))
    seen = []
    plain = parts.read_rows
    monkeypatch.setattr(
        parts, "read_rows", lambda folder, entry: (seen.append(entry), plain(folder, entry))[1]
    )
    assert list(read_journals(tmp_path, SCHEMA)) == [*entries, last]
    assert seen == [last]


def test_a_damaged_row_is_found_when_it_is_read(tmp_path):
    writer, (entry,) = write(tmp_path, "a")
    writer.close()
    path = tmp_path / entry.part
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="the rows of a are damaged .*--skip-existing"):
        list(read_rows(tmp_path, entry))


def test_only_rows_of_the_same_making_count(tmp_path):
    _, entries = write(tmp_path, "a")
    for other in ({"model": "renamed", "level": "segment"}, {"model": "m", "level": "track"}):
        found = list(read_journals(tmp_path, row_schema(4, other)))
        assert found == (entries if other["level"] == "segment" else [])
    assert list(read_journals(tmp_path, None)) == entries


def test_a_part_ends_where_it_is_large_enough_and_can_be_removed(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 1)
    writer, entries = write(tmp_path, "a", "b", "c")
    writer.close()
    assert len({entry.part for entry in entries}) == 3
    remove_part(tmp_path, entries[1].part)
    assert len(list(tmp_path.iterdir())) == 4
    assert {entry.file for entry in read_journals(tmp_path, SCHEMA)} == {"a", "c"}


def test_a_full_disk_spoils_no_line_of_the_journal(tmp_path, monkeypatch):
    writer, _ = write(tmp_path, "a")
    plain = parts._write_whole

    def full(out, data):
        if out.name.endswith(".jsonl"):
            plain(out, data[:5])
            raise OSError(28, "No space left on device")
        plain(out, data)

    with monkeypatch.context() as patch:
        patch.setattr(parts, "_write_whole", full)
        with pytest.raises(OSError, match="No space left"):
            writer.add("b", "1-1", rows_of(1, 1))
    entry = writer.add("c", "1-1", rows_of(2, 2))
    lines = next(tmp_path.glob("*.jsonl")).read_text().splitlines()
    assert [json.loads(line).get("file") for line in lines] == ["a", "c"]
    assert len(vectors_of(tmp_path, entry)) == 2


def test_of_a_file_in_two_parts_the_newer_rows_count(tmp_path):
    for version, name in enumerate(("b", "a")):  # not in the order of their names
        writer = PartWriter(tmp_path, SCHEMA)
        part = writer.add("song", f"1-{version}", rows_of(version, 2)).part
        writer.close()
        journal = (tmp_path / part).with_suffix(".jsonl")
        journal.write_text(journal.read_text().replace(part, f"{name}.arrow"))
        os.rename(tmp_path / part, tmp_path / f"{name}.arrow")
        os.rename(journal, tmp_path / f"{name}.jsonl")
        os.utime(tmp_path / f"{name}.jsonl", (version, version))
    assert [entry.version for entry in read_journals(tmp_path, SCHEMA)] == ["1-0", "1-1"]


@pytest.mark.parametrize("line", ["5", "{}", '{"file": "b"}', "[]"])
def test_a_line_of_the_journal_that_is_something_else_ends_it(tmp_path, line):
    writer, entries = write(tmp_path, "a")
    writer.close()
    with open(next(tmp_path.glob("*.jsonl")), "a") as journal:
        journal.write(f"{line}\n")
    assert list(read_journals(tmp_path, SCHEMA)) == entries
