"""Manifests of every format, hostile rows, and splits that never move. Audio files are empty."""

import csv
import json
import math
import tempfile
import unicodedata
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data import cells
from mulap.data.manifest import MAX_CAPTION_WORDS, Manifest, read_manifest
from mulap.data.splits import SPLITS, split_of_group


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def write_csv(path: Path, rows: list[dict]) -> Path:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(*names: str, **more: str) -> list[dict]:
    return [{"file_name": name, "caption": f"a tune called {name}", **more} for name in names]


def reasons(manifest: Manifest) -> list[str]:
    return [reason.partition(":")[0] for _, reason in manifest.problems]


# --- formats ---


def as_csv(folder: Path, rows: list[dict]) -> None:
    write_csv(folder / "metadata.csv", rows)


def as_json_lines(folder: Path, rows: list[dict]) -> None:
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")


def as_parquet(folder: Path, rows: list[dict]) -> None:
    pq.write_table(pa.Table.from_pylist(rows), folder / "metadata.parquet")


@pytest.mark.parametrize("write", [as_csv, as_json_lines, as_parquet])
def test_an_audiofolder_reads_the_same_from_every_format(tmp_path: Path, write) -> None:
    touch(tmp_path, "a.wav", "deep/b.flac")
    rows = [
        {"file_name": "a.wav", "caption": "a  slow\nwaltz", "artist": "Ann", "year": "1999"},
        {"file_name": "deep/b.flac", "caption": "Fröhlicher Marsch", "artist": "", "year": "1"},
        {"file_name": "a.wav", "caption": "played on a piano", "artist": "Ann", "year": "1999"},
    ]
    write(tmp_path, rows)
    first, second = read_manifest(tmp_path).clips
    assert first.audio_path == tmp_path / "a.wav"
    assert first.captions == ("a slow waltz", "played on a piano")
    assert (first.track_id, first.group, first.split) == ("a.wav", "Ann", split_of_group("Ann"))
    assert second.captions == ("Fröhlicher Marsch",)
    assert (second.track_id, second.group) == ("deep/b.flac", "deep/b.flac")
    metadata = next(tmp_path.glob("metadata.*"))
    place = {".csv": "row 2", ".jsonl": "line 1", ".parquet": "row 1"}[metadata.suffix]
    assert first.source == f"{metadata.name} {place}"
    assert read_manifest(metadata).clips == [first, second]


def test_lists_of_captions_are_several_captions(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    as_json_lines(tmp_path, [{"file_name": "a.wav", "text": ["one tune", None, "", "two tunes"]}])
    manifest = read_manifest(tmp_path)
    assert manifest.clips[0].captions == ("one tune", "two tunes")
    assert reasons(manifest) == ["empty caption", "empty caption"]


@pytest.mark.parametrize(
    "cell", ['["calm piano", "slow sad tune"]', "['calm piano', 'slow sad tune']"]
)
@pytest.mark.parametrize("write", [as_csv, as_json_lines, as_parquet])
def test_a_list_written_as_text_is_several_captions(tmp_path: Path, cell: str, write) -> None:
    """Brackets and quotes were learnt."""
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    captions = {"a.wav": cell, "b.wav": "[intro] 1 and 2", "c.wav": "[1, 2]"}
    write(tmp_path, [{"file_name": name, "caption": text} for name, text in captions.items()])
    clips = read_manifest(tmp_path).clips
    assert [clip.captions for clip in clips] == [
        ("calm piano", "slow sad tune"),
        ("[intro] 1 and 2",),
        ("[1, 2]",),
    ]


def test_each_caption_keeps_its_source(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    rows = [
        {"file_name": "a.wav", "caption": '["one", "two"]', "caption_source": '["title", "heard"]'},
        {"file_name": "b.wav", "caption": "three", "caption_source": "heard+measured"},
        {"file_name": "c.wav", "caption": "four", "caption_source": ""},
    ]
    write_csv(tmp_path / "metadata.csv", rows)
    manifest = read_manifest(tmp_path)
    assert manifest.problems == []
    sources = [clip.caption_sources for clip in manifest.clips]
    assert sources == [("title", "heard"), ("heard+measured",), ()]


def test_a_caption_that_is_left_out_takes_its_source_with_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    captions, sources = '["one", "", "one", "two"]', '["title", "tags", "human", "heard"]'
    row = {"file_name": "a.wav", "caption": captions, "caption_source": sources}
    write_csv(tmp_path / "metadata.csv", [row])
    manifest = read_manifest(tmp_path)
    assert manifest.clips[0].captions == ("one", "two")
    assert manifest.clips[0].caption_sources == ("title", "heard")
    assert len(manifest.problems) == 2


@pytest.mark.parametrize("sources", ['["title"]', '["title", "heard", "tags"]', "title", "[1, 2]"])
def test_more_or_fewer_sources_than_captions_are_a_bad_row(tmp_path: Path, sources: str) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    rows = [
        {"file_name": "a.wav", "caption": '["one", "two"]', "caption_source": sources},
        {"file_name": "b.wav", "caption": "three", "caption_source": "title"},
    ]
    write_csv(tmp_path / "metadata.csv", rows)
    manifest = read_manifest(tmp_path)
    assert [clip.captions for clip in manifest.clips] == [("three",)]
    ((where, reason),) = manifest.problems
    assert where == "metadata.csv row 2"
    assert reason.startswith("caption_source does not fit: ")
    assert "for 2 captions. Give a list of words, one for each caption." in reason


def test_an_empty_list_is_an_empty_caption(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    as_csv(tmp_path, [{"file_name": "a.wav", "caption": "[]"}, *rows_of("b.wav")])
    assert reasons(read_manifest(tmp_path)) == ["empty caption"]


def test_names_are_found_as_the_disk_spells_them_and_one_file_is_one_clip(tmp_path: Path) -> None:
    on_disk = unicodedata.normalize("NFD", "é.wav")
    touch(tmp_path, f"train/{on_disk}")
    names = [f"train/{on_disk}", "train/é.wav", "train\\é.wav"]
    as_csv(tmp_path, [{"file_name": n, "caption": f"tune {i}"} for i, n in enumerate(names)])
    (clip,) = read_manifest(tmp_path).clips
    assert (clip.track_id, clip.split) == (f"train/{on_disk}", "train")
    assert clip.captions == ("tune 0", "tune 1", "tune 2")


def test_split_folders_and_their_spellings_name_the_split(tmp_path: Path) -> None:
    for folder in ("train", "validation", "test", "notes"):
        touch(tmp_path, f"{folder}/x.wav")
        write_csv(tmp_path / folder / "metadata.csv", rows_of("x.wav"))
    manifest = read_manifest(tmp_path)
    assert {clip.split: clip.track_id for clip in manifest.clips} == {
        "test": "test/x.wav",
        "train": "train/x.wav",
        "valid": "validation/x.wav",
    }
    assert [clip.source for clip in manifest.split("valid")] == ["validation/metadata.csv row 2"]
    with pytest.raises(ValueError, match="must be one of train, valid, test"):
        manifest.split("validation")


def test_one_metadata_file_above_split_folders_names_the_split_by_path(tmp_path: Path) -> None:
    names = ["train/a.wav", "validation/b.wav", "test/c.wav", "training/d.wav", "val/e.wav"]
    names += ["dev/f.wav", "testing/g.wav", "Test/h.wav", "tested/i.wav"]
    touch(tmp_path, *names)
    as_csv(tmp_path, rows_of(*names))
    splits = [clip.split for clip in read_manifest(tmp_path).clips]
    named = ["train", "valid", "test", "train", "valid", "valid", "test", "test"]
    assert splits == [*named, split_of_group("tested/i.wav")]


def test_a_split_column_wins_over_the_hash_and_empty_cells_are_hashed(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(40)]
    touch(tmp_path, *names)
    rows = rows_of(*names)
    for row in rows[:10]:
        row["split"] = "Validation "
    rows[-1]["split"] = "holdout"
    as_csv(tmp_path, rows)
    manifest = read_manifest(tmp_path)
    assert [clip.split for clip in manifest.clips[:10]] == ["valid"] * 10
    assert [clip.split for clip in manifest.clips[10:]] == [
        split_of_group(name) for name in names[10:-1]
    ]
    assert reasons(manifest) == ["unknown split"]


def test_the_authors_json_reads_with_ids_that_are_no_integers(tmp_path: Path) -> None:
    touch(tmp_path, "audio/one.mp3", "two.mp3", "three.mp3")
    train = [{"audio_id": "tr-1", "caption": "one tune", "audio_path": "one.mp3"}]
    test = {
        "xyz": {"caption": "two tunes", "audio_path": "two.mp3"},
        "7": {"audio_id": 7, "caption": "three tunes", "audio_path": "three.mp3"},
        "bad": "no object",
    }
    (tmp_path / "dataset_train.json").write_text(json.dumps(train))
    (tmp_path / "dataset_test.json").write_text(json.dumps(test))
    manifest = read_manifest(tmp_path)
    assert [(clip.track_id, clip.split) for clip in manifest.clips] == [
        ("xyz", "test"),
        ("7", "test"),
        ("tr-1", "train"),
    ]
    assert manifest.clips[2].audio_path == tmp_path / "audio" / "one.mp3"
    assert reasons(manifest) == ["not an object"]


def test_the_authors_npy_files_are_said_to_be_no_audio(tmp_path: Path) -> None:
    rows = [{"audio_id": 1, "caption": "a slow waltz", "audio_path": "audio/track_1.npy"}]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=r"item 1: not audio: .*track_1.npy.* Name the recording"):
        read_manifest(tmp_path / "rows.json")


# --- trouble that stops a run: one line with the file and the remedy ---


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("m.csv", b"file_name,captoin\na.wav,x\n", r"no column 'caption'.*'captoin'. Rename 'capt"),
        ("m.csv", b"File_Name,caption\na.wav,x\n", r"no column 'file_name'.*Rename 'File_Name'"),
        ("m.csv", b"a.wav,a slow waltz\nb.wav,x\n", r"it has 'a.wav', 'a slow waltz'"),
        (
            "m.csv",
            b"file_name caption\na.wav x\n",
            r"no column.*it has 'file_name caption'",
        ),
        ("m.csv", b"file_name,caption,caption\n", r"two columns 'caption'"),
        ("m.csv", b"", r"is empty"),
        ("m.csv", b'"file_name,caption\n', r"row 1.*cannot be read"),
        ("m.csv", b"file_name,caption\n", r"holds no rows"),
        ("m.csv", b"file_name,caption\na.wav,caf\xe9\n", r"line 2 is not UTF-8.*0xe9.*Save.*UTF-8"),
        ("m.csv", "file_name,caption\n".encode("utf-16")[:-1], r"line 1 is not UTF-16"),
        ("m.csv", "file_name,caption\n".encode("utf-16"), r"holds no rows"),
        ("m.jsonl", b'{"file_name": "a.wav", "captions": "x"}', r"Rename 'captions' to 'caption'"),
        ("m.jsonl", b"\n \n", r"holds no rows"),
        ("m.jsonl", b"nonsense\n{]", r"none of 2 rows.*line 1: not JSON"),
        ("m.json", b"{not json", r"not JSON"),
        ("m.json", b"[" * 100_000, r"not JSON"),
        ("m.json", b"3", r"Write a list of rows"),
        ("m.json", b"[]", r"holds no rows"),
        ("m.parquet", b"PAR1 no parquet", r"not a readable parquet file"),
        ("m.xlsx", b"PK", r"not a manifest. Use .*\.csv"),
        ("m.csv", b"file_name,caption\nx.wav,a tune\ny.wav,b\n", r"none of 2 rows.*no such file"),
    ],
)
def test_trouble_with_the_whole_file_is_one_clear_line(tmp_path, name, content, match) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=match) as caught:
        read_manifest(tmp_path / name)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_a_folder_without_a_manifest_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, "annotations.csv")
    with pytest.raises(ValueError, match=r"no metadata.csv.*it holds 'annotations.csv'"):
        read_manifest(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        read_manifest(tmp_path / "nowhere")


def test_two_formats_in_one_folder_are_not_chosen_between(tmp_path: Path) -> None:
    touch(tmp_path, "metadata.csv", "metadata.jsonl")
    with pytest.raises(ValueError, match=r"metadata.csv and metadata.jsonl. Keep one"):
        read_manifest(tmp_path)


def test_a_missing_group_column_names_the_nearest(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    as_csv(tmp_path, rows_of("a.wav", composer="Bach"))
    assert read_manifest(tmp_path, group_column="composer").clips[0].group == "Bach"
    with pytest.raises(ValueError, match=r"no column 'compser'.*'composer'"):
        read_manifest(tmp_path, group_column="compser")


# --- trouble in a row: left out, counted, listed ---


def test_bad_rows_are_left_out_and_listed_and_the_rest_is_used(tmp_path: Path) -> None:
    touch(tmp_path, "good.wav", "other.wav")
    (tmp_path / "folder.wav").mkdir()
    long_caption = "word " * 10_000
    lines = [
        "file_name,caption,track_id,split",
        "good.wav,a slow waltz,,train",
        "gone.wav,a slow waltz,,",
        "good.wav,,,",
        f"good.wav,{long_caption},,",
        "good.wav,a  slow waltz ,,",
        "good.wav,calm, with a comma,too,many",
        'good.wav,"a "broken" quote",,',
        "folder.wav,a slow waltz,,",
        ",a slow waltz,,",
        "https://example.org/a.mp3,a slow waltz,,",
        "good.wav,another one,,test",
        "other.wav,a tune,good.wav,",
        "other.npy,a tune,,",
        "nul\0.wav,a tune,,",
        f"{'x' * 5000}.wav,a tune,,",
        "good.wav,the last row,,",
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(lines) + "\n")
    manifest = read_manifest(tmp_path)
    assert [clip.captions for clip in manifest.clips] == [("a slow waltz", "the last row")]
    rows = {source.rpartition(" ")[2]: reason for source, reason in manifest.problems}
    kinds = {int(row): reason.partition(":")[0] for row, reason in rows.items()}
    assert kinds == {
        3: "no such file",
        4: "empty caption",
        5: "caption too long",
        6: "duplicate row",
        7: "too many cells",
        8: "unreadable row",
        9: "is a folder",
        10: "no file name",
        11: "not a file",
        12: "conflicting split",
        13: "duplicate track_id",
        14: "not audio",
        15: "no such file",
        16: "cannot be looked up",
    }
    assert "10,000 words" in rows["5"]
    assert f"{MAX_CAPTION_WORDS}" in rows["5"]
    assert "Shorten" in rows["5"]
    assert all("\n" not in reason for _, reason in manifest.problems)
    assert sum(reason.startswith("no such file:") for _, reason in manifest.problems) == 2


def test_captions_are_taken_up_to_their_longest_length(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    captions = ["x " * MAX_CAPTION_WORDS, "y " * MAX_CAPTION_WORDS + "y", "z" * 10_001]
    as_csv(tmp_path, [{"file_name": "a.wav", "caption": caption} for caption in captions])
    manifest = read_manifest(tmp_path)
    assert [len(caption.split()) for caption in manifest.clips[0].captions] == [MAX_CAPTION_WORDS]
    assert reasons(manifest) == ["caption too long"] * 2


def test_missing_values_of_parquet_and_json_are_no_text(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    row = {"file_name": "a.wav", "caption": "a tune", "artist": None, "split": None, "group": 1.5}
    as_parquet(tmp_path, [row, {**row, "caption": None}, {**row, "file_name": None}])
    manifest = read_manifest(tmp_path)
    assert manifest.clips[0].group == "1.5"
    assert reasons(manifest) == ["empty caption", "no file name"]
    (tmp_path / "metadata.parquet").unlink()
    as_json_lines(tmp_path, [row, {**row, "caption": math.nan}, {**row, "caption": {"en": "x"}}])
    assert reasons(read_manifest(tmp_path)) == ["empty caption", "not text"]


def test_paths_of_a_users_own_table_may_lie_anywhere(tmp_path: Path) -> None:
    touch(tmp_path, "elsewhere/a.wav", "data/b.wav")
    names = [str(tmp_path / "elsewhere" / "a.wav"), "../elsewhere/a.wav", "./x/../b.wav"]
    as_csv(
        tmp_path / "data", [{"file_name": n, "caption": f"tune {i}"} for i, n in enumerate(names)]
    )
    first, second = read_manifest(tmp_path / "data").clips
    assert first.captions == ("tune 0", "tune 1")
    assert first.track_id == "../elsewhere/a.wav"
    assert second.track_id == "b.wav"


def test_unchecked_files_may_be_missing(tmp_path: Path) -> None:
    as_csv(tmp_path, rows_of("a.wav", "b.wav"))
    assert len(read_manifest(tmp_path, check_files=False).clips) == 2


def test_every_file_is_looked_up_once_however_many_rows_name_it(tmp_path, monkeypatch) -> None:
    touch(tmp_path, "a.wav")
    rows = [
        {"file_name": name, "caption": f"tune {i}"} for i in range(50) for name in ("a.wav", "b")
    ]
    as_csv(tmp_path, rows)
    looked_up: Counter[str] = Counter()
    find_problem = cells._find_problem
    monkeypatch.setattr(
        cells, "_find_problem", lambda path: looked_up.update([path]) or find_problem(path)
    )
    manifest = read_manifest(tmp_path)
    assert (len(manifest.clips[0].captions), len(manifest.problems)) == (50, 50)
    assert looked_up == {str(tmp_path / "a.wav"): 1, str(tmp_path / "b"): 1}


TEXT = st.text(max_size=12) | st.sampled_from(['"', "a.wav", "file_name,caption", "\n", ",", "\0"])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(cells=st.lists(TEXT, max_size=12), suffix=st.sampled_from([".csv", ".jsonl", ".json"]))
def test_any_text_is_read_or_refused_in_one_line(cells, suffix) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"m{suffix}"
        text = "file_name,caption\n" * (suffix == ".csv") + "".join(cells)
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        problem, manifest = "", Manifest([])
        try:
            manifest = read_manifest(path, check_files=False)
        except ValueError as error:
            problem = str(error)
    assert bool(problem) != bool(manifest.clips)
    assert all(clip.captions and clip.split in SPLITS for clip in manifest.clips)
    assert all("\n" not in reason for reason in [problem, *(r for _, r in manifest.problems)])
