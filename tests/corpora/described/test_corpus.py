"""A folder of music becomes an audiofolder whose captions name their sources."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile as sf
from tiny import RATE, tone

from mulap.corpora.described.corpus import caption_rows, describe_folder
from mulap.corpora.described.cut import hear_tracks
from mulap.corpora.described.tracks import DescribeOptions, Track
from mulap.data.manifest import read_manifest

OPTIONS = DescribeOptions(clip_seconds=4.0, max_clips=2)


def write_track(path: Path, index: int, seconds: float = 9.0, **tags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sf.SoundFile(path, "w", RATE, 1) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(tone(index, seconds))
    return path


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def music(tmp_path) -> Path:
    folder = tmp_path / "music"
    write_track(folder / "one.flac", 0, title="First Light", artist="Ann", genre="Folk")
    write_track(folder / "night songs" / "02.wav", 1)
    write_track(folder / "brief.wav", 2, 1.0)
    (folder / "cover.txt").write_text("not music")
    return folder


def test_a_folder_is_described_and_read_by_our_manifest(music, tmp_path):
    output = tmp_path / "out"
    report = describe_folder(music, output, OPTIONS)
    assert (report.num_tracks, report.num_clips) == (2, 4)
    assert report.audio_seconds == pytest.approx(16.0)
    assert [Path(file).name for file, _ in report.failures] == ["brief.wav"]
    assert report.left_aside == {".txt": 1}
    manifest = read_manifest(output)
    assert manifest.problems == []
    assert len(manifest.clips) == 4
    assert {clip.group for clip in manifest.clips} == {"Ann", "night songs"}
    for clip in manifest.clips:
        assert 1 <= len(clip.captions) <= 6
        assert len(clip.caption_sources) == len(clip.captions)
    counted = [source for clip in manifest.clips for source in clip.caption_sources]
    assert report.num_by_source == {source: counted.count(source) for source in set(counted)}
    ours = [row for row in read_rows(output) if row["track"] == "one.flac"]
    assert any("First Light" in row["caption"] for row in ours)
    night = [row for row in read_rows(output) if row["track"] == "night songs/02.wav"]
    assert any("night songs" in json.loads(row["caption"]) for row in night)
    assert night[0]["track_id"] == "night songs/02.wav-000"


def test_running_twice_gives_the_same_table_and_processes_change_nothing(music, tmp_path):
    describe_folder(music, tmp_path / "out", OPTIONS)
    first = (tmp_path / "out" / "metadata.csv").read_bytes()
    describe_folder(music, tmp_path / "out", OPTIONS)
    assert (tmp_path / "out" / "metadata.csv").read_bytes() == first
    describe_folder(music, tmp_path / "two", OPTIONS, num_processes=2)
    assert (tmp_path / "two" / "metadata.csv").read_bytes() == first


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("track", {"one.flac", "night songs/02.wav"}),
        ("album", {"music", "night songs"}),
        ("folder", {"music", "night songs"}),
    ],
)
def test_groups_are_what_was_asked_for_and_else_the_folder(music, tmp_path, group_by, groups):
    describe_folder(music, tmp_path / "out", replace(OPTIONS, group_by=group_by))
    assert {row["group"] for row in read_rows(tmp_path / "out")} == groups


def test_tracks_of_a_caller_keep_what_is_known_about_them(music, tmp_path):
    known = {"split": "test", "source": "pkg", "licence": "CC0", "attribution": "Ann"}
    facts = {"composer": "Ann", "style": "folk"}
    first = Track(music / "one.flac", "pkg/one", "tune", **known, facts=facts)
    second = Track(music / "night songs" / "02.wav", "pkg/two", "other")
    heard = hear_tracks([first, second], tmp_path / "out", OPTIONS)
    rows = caption_rows(heard.tracks, OPTIONS)
    assert len(rows) == 4
    for name, value in {**known, **facts, "group": "tune", "track": "pkg/one"}.items():
        assert rows[0][name] == value
    assert (rows[2]["split"], rows[2]["composer"]) == ("", "")


def test_tracks_may_be_left_out_between_the_steps(music, tmp_path):
    tracks = [Track(music / "one.flac", "one", "g"), Track(music / "brief.wav", "brief", "g")]
    heard = hear_tracks(tracks, tmp_path / "out", OPTIONS)
    assert len(caption_rows(heard.tracks, OPTIONS)) == 2
    assert caption_rows([], OPTIONS) == []


def test_folders_that_are_not_apart_are_refused(music, tmp_path):
    with pytest.raises(ValueError, match="lies inside"):
        describe_folder(music, music / "out", OPTIONS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no audio files found"):
        describe_folder(tmp_path / "empty", tmp_path / "out", OPTIONS)
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "metadata.csv").write_text("file_name,caption\n")
    with pytest.raises(ValueError, match="holds files that this command did not make"):
        describe_folder(music, tmp_path / "theirs", OPTIONS)
