"""Rows of metadata files: where they stand, and that a broken one takes no others with it."""

import csv
import io
import json
from pathlib import Path

import pytest
from closed_folders import closed_folder

from mulap.data.manifest import Manifest, read_manifest
from mulap.data.row_files import find_column, read_table


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).touch()


def reasons(manifest: Manifest) -> list[str]:
    return [reason.partition(":")[0] for _, reason in manifest.problems]


def test_rows_are_numbered_as_a_spreadsheet_does(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    text = 'file_name,caption\na.wav,"two\nlines"\n\n,\nb.wav,one line\ngone.wav,no file\n'
    (tmp_path / "metadata.csv").write_text(text)
    manifest = read_manifest(tmp_path)
    assert [clip.source for clip in manifest.clips] == ["metadata.csv row 2", "metadata.csv row 5"]
    assert manifest.problems[0][0] == "metadata.csv row 6"


def test_a_quote_never_closed_is_listed_with_its_lines(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    text = 'file_name,caption\na.wav,a tune\nb.wav,"never closed\na.wav,swallowed\n'
    (tmp_path / "metadata.csv").write_text(text)
    manifest = read_manifest(tmp_path)
    assert len(manifest.clips) == 1
    assert "lines 3 to 4" in manifest.problems[0][1]


def test_a_field_over_the_csv_limit_does_not_lose_the_rows_after_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    text = f"file_name,caption\na.wav,{'x ' * 100_000}\nb.wav,a tune\n"
    (tmp_path / "metadata.csv").write_text(text)
    manifest = read_manifest(tmp_path)
    assert [clip.track_id for clip in manifest.clips] == ["b.wav"]
    assert reasons(manifest) == ["unreadable row"]


def test_windows_files_with_a_byte_order_mark_read_alike(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav")
    content = "file_name,caption\r\na.wav,café music\r\n".encode("utf-8-sig")
    (tmp_path / "metadata.csv").write_bytes(content)
    assert read_manifest(tmp_path).clips[0].captions == ("café music",)


def test_line_separators_inside_a_json_caption_end_no_row(tmp_path: Path) -> None:
    touch(tmp_path, "a.wav", "b.wav")
    rows = [{"file_name": f"{name}.wav", "caption": "two\u2028lines\x85here"} for name in "ab"]
    text = "\r\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    (tmp_path / "metadata.jsonl").write_text(text, encoding="utf-8")
    clips = read_manifest(tmp_path).clips
    assert [clip.captions for clip in clips] == [("two lines here",)] * 2
    assert clips[1].source == "metadata.jsonl line 2"


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_the_delimiter_and_the_encoding_are_recognised(tmp_path, delimiter, encoding, end) -> None:
    """A European Excel's semicolons, and tabs, gave "rename 'file_name;caption' to 'file_name'"."""
    touch(tmp_path, "a.wav", "b.wav")
    rows = [["file_name", "caption"], ["a.wav", "café, loud; slow"], ["b.wav", '"two\tlines|"']]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=end).writerows(rows)
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    (tmp_path / "metadata.csv").write_bytes((mark + text.getvalue()).encode(encoding))
    clips = read_manifest(tmp_path).clips
    assert [clip.captions for clip in clips] == [("café, loud; slow",), ('"two lines|"',)]
    assert [clip.source for clip in clips] == ["metadata.csv row 2", "metadata.csv row 3"]


def test_the_separator_line_of_excel_is_no_header_and_counts_as_a_row(tmp_path) -> None:
    touch(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text('sep=;\n"file_name";caption\na.wav;one, two\n')
    (clip,) = read_manifest(tmp_path / "m.csv").clips
    assert (clip.captions, clip.source) == (("one, two",), "m.csv row 3")


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("file_name,tags;all", ["file_name", "tags;all"]),
        ('"file, name";caption', ["file, name", "caption"]),
        (",file_name,caption", ["", "file_name", "caption"]),
        ("\tfile_name\tcaption", ["", "file_name", "caption"]),
        ("file_name", ["file_name"]),
        ("\n\nfile_name,b", ["file_name", "b"]),
    ],
)
def test_what_follows_the_first_cell_of_the_header_is_the_delimiter(tmp_path, header, columns):
    (tmp_path / "m.csv").write_text(header + "\n")
    assert read_table(str(tmp_path / "m.csv"))[0] == columns


def test_too_many_cells_are_said_by_the_mark_that_parts_them(tmp_path) -> None:
    (tmp_path / "m.tsv").write_text("file_name\tcaption\na.wav\tone\ttwo\n")
    ((place, reason),) = read_table(tmp_path / "m.tsv")[1]
    assert place == "row 2"
    assert reason == "too many cells: 3 cells for 2 columns. Put text with tabs in quotes."


def test_the_nearest_column_is_named_with_the_remedy() -> None:
    columns = ["File_Name", "mood"]
    assert find_column("t.csv", columns, "text", "mood") == "mood"
    with pytest.raises(ValueError, match=r"^t.csv: no column 'file_name' or 'path'; it has"):
        find_column("t.csv", columns, "file_name", "path")
    with pytest.raises(ValueError, match=". Rename 'File_Name' to 'file_name'.$"):
        find_column("t.csv", columns, "file_name", "path")
    with pytest.raises(ValueError, match="no column 'modo'; .*. Did you mean 'mood'[?]$"):
        find_column("t.csv", columns, "modo", is_choice=True)
    with pytest.raises(ValueError, match="it has none. Rename or add one to 'x'.$"):
        find_column("t.csv", [], "x")


def test_a_split_folder_that_cannot_be_listed_is_a_problem_and_the_others_are_read(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        touch(tmp_path / name, "a.wav")
        (tmp_path / name / "metadata.csv").write_text("file_name,caption\na.wav,a tune\n")
    for rights in (0o000, 0o444):
        with closed_folder(tmp_path / "test", rights):
            manifest = read_manifest(tmp_path)
        assert [clip.split for clip in manifest.clips] == ["train"]
        assert manifest.problems == [
            (str(tmp_path / "test"), "cannot be listed: Permission denied. Check its permissions.")
        ]
    with (
        closed_folder(tmp_path, 0o311),
        pytest.raises(ValueError, match="cannot be listed: Permission"),
    ):
        read_manifest(tmp_path)
