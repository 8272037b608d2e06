"""Rows of metadata files: where they stand, and that a broken one takes no others with it."""

import json
from pathlib import Path

from mulap.data.manifest import Manifest, read_manifest


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
