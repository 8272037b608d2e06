"""Recordings of a set become clips: resumable, each with its row, and none lost in silence."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile as sf
from public_set_samples import write_audio, write_mtg_jamendo
from tiny import RATE, tone

from mulap.corpora.described.tracks import DescribeOptions, Track
from mulap.corpora.public_sets.corpus import SetTrack, find_file, make_set_corpus
from mulap.corpora.public_sets.mtg_jamendo import read
from mulap.data.manifest import read_manifest

OPTIONS = DescribeOptions(clip_seconds=6.0, max_clips=2)


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def clips_of(folder: Path) -> dict[str, int]:
    return {
        path.relative_to(folder / "audio").as_posix(): path.stat().st_mtime_ns
        for path in (folder / "audio").rglob("*.*")
    }


def human(path: Path, name: str, excerpt: tuple[float, float] | None = None) -> SetTrack:
    texts, facts = (("human", name),), {"toy_id": name}
    return SetTrack(Track(path, name, name, "test", "toy", "", "", {}, texts, facts, excerpt))


@pytest.fixture
def jamendo(tmp_path) -> tuple[Path, list[SetTrack]]:
    audio, metadata = write_mtg_jamendo(tmp_path)
    return audio, read(audio, metadata)[0]


def test_a_set_is_cut_and_read_by_our_manifest(jamendo, tmp_path):
    output = tmp_path / "out"
    report = make_set_corpus(*jamendo, [], output, OPTIONS)
    assert (report.num_rows, report.num_missing, report.num_tracks) == (5, 0, 5)
    assert report.num_by_split == {"train": 4, "valid": 2, "test": 4}
    assert report.audio_seconds == 60.0
    manifest = read_manifest(output)
    assert manifest.problems == []
    assert [(clip.split, clip.group) for clip in manifest.clips][::2] == [
        ("train", "artist_000001"),
        ("train", "artist_000001"),
        ("valid", "artist_000002"),
        ("test", "artist_000003"),
        ("test", "artist_000003"),
    ]
    for clip in manifest.clips:
        assert sf.info(clip.audio_path).samplerate == 16_000
        assert sf.info(clip.audio_path).duration == 6.0
        assert 1 <= len(clip.captions) <= 6
        assert len(clip.caption_sources) == len(clip.captions)
    counted = [source for clip in manifest.clips for source in clip.caption_sources]
    assert report.num_by_source == {source: counted.count(source) for source in set(counted)}


def test_a_second_run_makes_what_is_missing_and_the_same_table(jamendo, tmp_path):
    output = tmp_path / "out"
    make_set_corpus(*jamendo, [], output, OPTIONS)
    table, clips = (output / "metadata.csv").read_bytes(), clips_of(output)
    (output / "audio" / "03" / "203-000.flac").unlink()
    make_set_corpus(*jamendo, [], output, OPTIONS)
    assert (output / "metadata.csv").read_bytes() == table
    again = clips_of(output)
    assert again.keys() == clips.keys()
    assert {name for name in clips if again[name] != clips[name]} == {
        "03/203-000.flac",
        "03/203-001.flac",
    }
    make_set_corpus(*jamendo, [], tmp_path / "two", OPTIONS, num_processes=2)
    assert (tmp_path / "two" / "metadata.csv").read_bytes() == table


def test_a_file_that_changed_is_cut_again(tmp_path):
    path = tmp_path / "music" / "one.wav"
    write_audio(path, 0, 4.0)
    output = tmp_path / "out"
    make_set_corpus(path.parent, [human(path, "one")], [], output, OPTIONS)
    write_audio(path, 1, 5.0)
    make_set_corpus(path.parent, [human(path, "one")], [], output, OPTIONS)
    assert sf.info(output / "audio" / "one-000.flac").duration == 5.0


def test_clips_that_nothing_names_any_more_are_removed_unless_audio_is_missing(jamendo, tmp_path):
    audio, tracks = jamendo
    output = tmp_path / "out"
    make_set_corpus(audio, tracks, [], output, OPTIONS)
    whole = replace(OPTIONS, clip_seconds=float("inf"))
    for each in tracks[:2]:
        each.track.path.rename(each.track.path.with_suffix(".away"))
    make_set_corpus(audio, tracks, [], output, whole)
    assert "01/1-001.flac" in clips_of(output)
    assert {row["track"] for row in read_rows(output)} == {"03/203", "04/304", "05/305"}
    for each in tracks[:2]:
        each.track.path.with_suffix(".away").rename(each.track.path)
    make_set_corpus(audio, tracks, [], output, whole)
    assert clips_of(output).keys() == {f"{each.track.track_id}-000.flac" for each in tracks}


def test_what_is_missing_silent_brief_or_no_audio_is_counted_and_listed(tmp_path):
    folder = tmp_path / "music"
    write_audio(folder / "good.wav", 0, 4.0)
    write_audio(folder / "brief.wav", 0, 1.0)
    sf.write(folder / "silent.wav", 0 * tone(0, 4.0), RATE)
    (folder / "text.wav").write_text("no audio")
    names = ("good", "brief", "silent", "text", "gone")
    tracks = [human(folder / f"{name}.wav", name) for name in names]
    report = make_set_corpus(folder, tracks, [("table row 3", "why")], tmp_path / "out", OPTIONS)
    assert (report.num_rows, report.num_missing, report.num_tracks) == (5, 1, 1)
    listed = [json.loads(line) for line in open(tmp_path / "out" / "failures.jsonl")]
    assert [Path(each["file"]).name for each in listed] == [
        "table row 3",
        "gone.wav",
        "brief.wav",
        "silent.wav at 0 s",
        "text.wav",
    ]
    assert listed[1]["reason"] == "is missing. Download it."


def test_a_clip_of_which_nothing_is_said_is_left_out_and_counted(jamendo, tmp_path):
    audio, tracks = jamendo
    track = replace(tracks[1].track, tags={"title": ""}, texts=())
    mute = replace(tracks[1], words={}, track=track)
    report = make_set_corpus(audio, [tracks[0], mute], [], tmp_path / "out", OPTIONS)
    assert report.num_undescribed == 2
    assert {row["track"] for row in read_rows(tmp_path / "out")} == {"01/1"}


def test_an_excerpt_is_cut_from_a_longer_file_alone(tmp_path):
    folder = tmp_path / "music"
    write_audio(folder / "video.wav", 0, 24.0)
    write_audio(folder / "clip.wav", 0, 11.0)
    excerpt = (10.0, 20.0)
    tracks = [human(folder / f"{name}.wav", name, excerpt) for name in ("video", "clip")]
    make_set_corpus(folder, tracks, [], tmp_path / "out", DescribeOptions(float("inf"), None))
    rows = read_rows(tmp_path / "out")
    assert [row["file_name"] for row in rows] == ["audio/video-000.flac", "audio/clip-000.flac"]
    assert rows[0]["start_seconds"] == "10"
    samples, _ = sf.read(tmp_path / "out" / rows[0]["file_name"])
    whole, _ = sf.read(folder / "video.wav")
    assert abs(samples - whole[10 * RATE : 20 * RATE]).max() < 1e-3


def test_no_audio_at_all_is_one_line_and_leaves_an_earlier_corpus_alone(jamendo, tmp_path):
    audio, tracks = jamendo
    output = tmp_path / "out"
    make_set_corpus(audio, tracks, [], output, OPTIONS)
    before = clips_of(output)
    elsewhere = [
        replace(each, track=replace(each.track, path=tmp_path / "no" / each.track.path.name))
        for each in tracks
    ]
    with pytest.raises(ValueError, match=r"no: holds none of 5 recordings, .*Give --audio"):
        make_set_corpus(tmp_path / "no", elsewhere, [], output, OPTIONS)
    assert clips_of(output) == before
    with pytest.raises(ValueError, match="list no recording"):
        make_set_corpus(audio, [], [], output, OPTIONS)


def test_a_corpus_of_another_set_is_not_written_over(jamendo, tmp_path):
    output = tmp_path / "out"
    make_set_corpus(*jamendo, [], output, OPTIONS)
    path = tmp_path / "music" / "one.wav"
    write_audio(path, 0, 4.0)
    with pytest.raises(ValueError, match="did not make"):
        make_set_corpus(path.parent, [human(path, "one")], [], output, OPTIONS)


def test_the_first_name_and_folder_that_are_there_are_taken(tmp_path):
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "b.mp3").touch()
    assert find_file(tmp_path, ["a.mp3", "b.mp3"]) == tmp_path / "audio" / "b.mp3"
    (tmp_path / "b.mp3").touch()
    assert find_file(tmp_path, ["a.mp3", "b.mp3"]) == tmp_path / "b.mp3"
    assert find_file(tmp_path, ["c.mp3", "d.mp3"], ["more"]) == tmp_path / "c.mp3"
