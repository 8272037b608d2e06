"""Tables of embeddings: every format keeps every bit, and a wrong file is refused by name."""

import json
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mulap.vectors.formats import FORMATS, open_rows, write_rows
from mulap.vectors.rows import row_batch, row_schema
from mulap.vectors.table import list_files, read_embeddings

METADATA = {
    "model": "a \u266b",
    "weights_sha256": "00",
    "features": {"n_fft": 512},
    "level": "segment",
}


def write(path, embeddings, files=None, batch_rows=7):
    files = files or ["a.wav"] * len(embeddings)
    schema = row_schema(embeddings.shape[1], METADATA)
    batches = []
    for start in range(0, len(embeddings), batch_rows):
        index = np.arange(start, min(start + batch_rows, len(embeddings)), dtype=np.int32)
        columns = {
            "file": [files[i] for i in index],
            "segment_index": index,
            "start_seconds": index * 2.992,
            "file_version": "12-345",
            "audio_key": "ab",
        }
        batches.append(row_batch(schema, columns, embeddings[index]))
    write_rows(path, schema, iter(batches), len(embeddings))


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_reads_back_as_it_was_written(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    vectors = np.random.default_rng(0).normal(size=(1030, 6)).astype(np.float32)
    files = [f"\u266a/{i % 3} 'x\".wav" for i in range(1030)]
    write(path, vectors, files)
    table = read_embeddings(path)
    np.testing.assert_array_equal(table.embeddings, vectors)
    assert table.embeddings.dtype == np.float32
    assert table.files.tolist() == files
    np.testing.assert_array_equal(table.segment_index, np.arange(1030))
    np.testing.assert_array_equal(table.start_seconds, np.arange(1030) * 2.992)
    assert table.metadata == METADATA
    assert list_files(path)[1] == {file: ("12-345", "ab", files.count(file)) for file in set(files)}


@settings(max_examples=30, derandomize=True, deadline=None)
@given(
    hnp.arrays(
        np.float32, (2, 3), elements=st.floats(width=32, allow_nan=False, allow_infinity=False)
    )
)
def test_json_keeps_every_bit_of_a_float32(tmp_path_factory, vectors):
    path = tmp_path_factory.mktemp("json") / "table.jsonl"
    write(path, vectors)
    np.testing.assert_array_equal(read_embeddings(path).embeddings, vectors)


@pytest.mark.parametrize("suffix", FORMATS)
def test_equal_rows_make_equal_bytes(tmp_path, suffix):
    vectors = np.ones((9, 4), np.float32)
    for name in "ab":
        write(tmp_path / f"{name}{suffix}", vectors)
    assert (tmp_path / f"a{suffix}").read_bytes() == (tmp_path / f"b{suffix}").read_bytes()


def test_parquet_has_the_documented_columns_and_metadata(tmp_path):
    write(tmp_path / "table.parquet", np.ones((9, 4), np.float32))
    schema = pq.read_schema(tmp_path / "table.parquet")
    names = ["file", "segment_index", "start_seconds", "embedding", "file_version", "audio_key"]
    assert schema.names == names
    assert str(schema.field("embedding").type).startswith("fixed_size_list")
    assert schema.field("embedding").type.list_size == 4
    assert json.loads(schema.metadata[b"mulap"]) == METADATA


def test_npz_reads_with_numpy_alone(tmp_path):
    write(tmp_path / "table.npz", np.ones((9, 4), np.float32))
    with np.load(tmp_path / "table.npz", allow_pickle=False) as arrays:
        assert arrays["embeddings"].shape == (9, 4)
        assert arrays["file"].tolist() == ["a.wav"] * 9
        assert json.loads(str(arrays["metadata"])) == METADATA


def test_json_lines_are_one_object_a_row(tmp_path):
    write(tmp_path / "table.jsonl", np.full((2, 4), 0.1, np.float32))
    rows = [json.loads(line) for line in (tmp_path / "table.jsonl").read_text("utf-8").splitlines()]
    assert [row["segment_index"] for row in rows] == [0, 1]
    assert rows[0]["file"] == "a.wav"
    assert rows[0]["metadata"] == METADATA
    assert len(rows[0]["embedding"]) == 4


def test_an_unknown_suffix_is_refused_and_the_known_ones_named(tmp_path):
    with pytest.raises(ValueError, match=r"table.csv: .csv.*\.parquet, \.npz, \.jsonl"):
        read_embeddings(tmp_path / "table.csv")


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "content", [b"", b"{}\n", b"\xff\xfe nonsense", b"PK\x03\x04", b"[" * 99_999]
)
def test_a_file_that_is_no_table_is_refused_by_name_in_one_line(tmp_path, suffix, content):
    path = tmp_path / f"other{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"other{suffix}: is not a table of mulap embed") as caught:
        read_embeddings(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_missing_table_is_refused_by_name(tmp_path, suffix):
    with pytest.raises(ValueError, match=f"gone{suffix}: does not exist"):
        read_embeddings(tmp_path / f"gone{suffix}")


def test_a_parquet_file_of_something_else_is_refused(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other.parquet: is not a table of mulap embed"):
        read_embeddings(tmp_path / "other.parquet")


def test_json_cut_short_is_refused_by_name(tmp_path):
    path = tmp_path / "table.jsonl"
    write(path, np.ones((3, 4), np.float32))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"table.jsonl: is not a table of mulap embed"):
        read_embeddings(path)


def test_npz_is_read_some_rows_at_a_time(tmp_path):
    write(tmp_path / "table.npz", np.ones((1500, 4), np.float32))
    _, batches = open_rows(tmp_path / "table.npz")
    assert [len(batch) for batch in batches] == [512, 512, 476]


def test_reading_a_table_needs_no_torch():
    heavy = "{'torch', 'transformers'}"
    code = f"import sys, mulap.vectors.output; sys.exit(bool({heavy} & {{*sys.modules}}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
