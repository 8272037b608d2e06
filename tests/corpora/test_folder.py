"""Corpora from folders of tagged music; the music is noise written here, the tags are real."""

import csv
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from closed_folders import closed_folder

from mulap.corpora.described import cut
from mulap.corpora.described.tracks import DescribeOptions
from mulap.corpora.folder import make_corpus as make
from mulap.data.manifest import read_manifest


def write_track(path: Path, seconds: float = 4.0, level: float = 0.1, **tags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = level * np.random.default_rng(0).standard_normal(round(8_000 * seconds))
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(samples)
    return path


def options_of(**options) -> DescribeOptions:
    """Return options of `mulap corpus folder`."""
    whole = "" if "clip_seconds" in options else "link"
    return DescribeOptions(
        **{"max_clips": None, "captions": 2, "listens": False, "whole": whole} | options
    )


LINKED = options_of()


def make_corpus(source, output, options=LINKED, num_processes=1):
    return make(source, output, options, num_processes)


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def read_failures(folder: Path) -> dict[str, str]:
    lines = (folder / "failures.jsonl").read_text(encoding="utf-8").splitlines()
    return {Path(entry["file"]).name: entry["reason"] for entry in map(json.loads, lines)}


@pytest.fixture
def music(tmp_path) -> Path:
    folder = tmp_path / "music"
    write_track(folder / "one.flac", title="First Light", artist="Ann", album="A")
    write_track(folder / "cd2" / "two.flac", 13.0, title="Second Sight", artist="Bob", genre="Jazz")
    write_track(folder / "three_blind_mice.wav")
    write_track(folder / "track 04.wav")
    write_track(folder / "05.wav")
    write_track(folder / "short.flac", 1.0, title="A Jingle")
    (folder / "broken.ogg").write_bytes(b"not audio at all")
    (folder / "cover.txt").write_text("not music")
    return folder


def test_tracks_are_linked_and_read_by_our_manifest_and_nothing_is_lost(music, tmp_path):
    output = tmp_path / "corpus"
    report = make_corpus(music, output)
    assert (report.num_tracks, report.num_clips, report.num_poor_tracks) == (4, 4, 1)
    assert report.num_captions == len(read_rows(output))
    failures = read_failures(output)
    assert set(failures) == {"05.wav", "short.flac", "broken.ogg"}
    assert "no usable text" in failures["05.wav"]
    assert "shorter than 3 s" in failures["short.flac"]
    assert report.num_by_tag["title"] == 4
    assert report.num_by_tag["genre"] == 1
    manifest = read_manifest(output)
    assert manifest.problems == []
    assert {clip.group for clip in manifest.clips} == {"Ann", "Bob", "music"}
    assert all(clip.audio_path.exists() for clip in manifest.clips)
    assert (output / "audio" / "cd2" / "two.flac").is_symlink()


def test_copies_survive_the_loss_of_the_source(music, tmp_path):
    output = tmp_path / "corpus"
    make_corpus(music, output, options_of(whole="copy"))
    (music / "one.flac").unlink()
    assert not (output / "audio" / "one.flac").is_symlink()
    assert soundfile.info(output / "audio" / "one.flac").frames == 32_000


def test_running_twice_gives_the_same_table(music, tmp_path):
    output = tmp_path / "corpus"
    make_corpus(music, output)
    before = (output / "metadata.csv").read_bytes()
    make_corpus(music, output)
    assert (output / "metadata.csv").read_bytes() == before


def test_cut_tracks_become_clips_of_one_group_with_differing_captions(music, tmp_path):
    output = tmp_path / "corpus"
    options = options_of(clip_seconds=4.0, captions=1)
    report = make_corpus(music, output, options)
    rows = [row for row in read_rows(output) if row["source_file"] == "cd2/two.flac"]
    assert [row["start_seconds"] for row in rows] == ["0", "4", "8"]
    assert {row["group"] for row in rows} == {"Bob"}
    assert len({row["caption"] for row in rows}) > 1
    assert len({row["track_id"] for row in rows}) == 3
    for row in rows:
        info = soundfile.info(output / row["file_name"])
        assert (info.frames, info.samplerate) == (64_000, 16_000)
    assert report.num_clips == report.num_captions == 6


def test_clips_per_track_are_spread_over_the_track_and_silent_ones_listed(tmp_path):
    source, output = tmp_path / "music", tmp_path / "corpus"
    write_track(source / "long.flac", 40.0, title="Long One")
    write_track(source / "rest.flac", 8.0, 0.0, title="The Rest Is")
    options = options_of(clip_seconds=4.0, max_clips=3)
    report = make_corpus(source, output, options)
    starts = {row["start_seconds"] for row in read_rows(output)}
    assert starts == {"0", "16", "36"}
    assert report.num_tracks == 1
    assert [reason for _, reason in report.failures] == ["silent", "silent"]


def test_a_second_run_keeps_clips_and_removes_those_that_are_not_wanted_any_more(tmp_path):
    source, output = tmp_path / "music", tmp_path / "corpus"
    write_track(source / "long.flac", 40.0, title="Long One")
    make_corpus(source, output, options_of(clip_seconds=4.0, max_clips=3))
    first = output / "audio" / "long.flac-000.flac"
    made = first.stat().st_mtime_ns
    make_corpus(source, output, options_of(clip_seconds=4.0, max_clips=3))
    assert first.stat().st_mtime_ns == made
    make_corpus(source, output, options_of(clip_seconds=10.0, max_clips=2))
    names = sorted(path.name for path in (output / "audio").iterdir())
    assert names == ["long.flac-000.flac", "long.flac-003.flac"]
    assert soundfile.info(first).duration == 10.0


def test_files_that_differ_in_their_ending_only_do_not_overwrite_each_other(tmp_path):
    source, output = tmp_path / "music", tmp_path / "corpus"
    write_track(source / "song one.flac")
    write_track(source / "song one.wav")
    assert make_corpus(source, output, options_of(clip_seconds=4.0)).num_clips == 2
    assert make_corpus(source, tmp_path / "linked").num_clips == 2
    assert len(read_manifest(tmp_path / "linked").clips) == 2


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        ("artist", {"Ann"}),
        ("album", {"A", "B"}),
        ("folder", {"music"}),
        ("track", {"a.wav", "b.wav"}),
    ],
)
def test_the_group_is_what_was_asked_for(tmp_path, group_by, groups):
    source = tmp_path / "music"
    write_track(source / "a.wav", title="Song A", artist="Ann", album="A")
    write_track(source / "b.wav", title="Song B", artist="Ann", album="B")
    make_corpus(source, tmp_path / "out", options_of(group_by=group_by))
    assert {row["group"] for row in read_rows(tmp_path / "out")} == groups


def test_wrong_use_is_told_in_one_line(tmp_path):
    write_track(tmp_path / "music" / "a.wav")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="Choose a folder outside it"):
        make_corpus(tmp_path / "music", tmp_path / "music" / "corpus")
    with pytest.raises(ValueError, match="Choose another OUTPUT"):
        make_corpus(tmp_path / "corpus" / "audio" / "music", tmp_path / "corpus")
    with pytest.raises(ValueError, match="empty: no audio files found"):
        make_corpus(tmp_path / "empty", tmp_path / "out")


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("whole", ["link", "copy"])
def test_music_that_lies_where_the_corpus_would_is_not_touched(music, tmp_path, whole):
    """It was unlinked and then linked to itself: all tracks were gone, with exit code 0."""
    music.rename(tmp_path / "audio")
    (tmp_path / "metadata.csv").write_text("file_name,caption\naudio/one.flac,mine\n")
    before = everything_in(tmp_path)
    with pytest.raises(ValueError, match="Choose another OUTPUT"):
        make_corpus(tmp_path / "audio", tmp_path, options_of(whole=whole))
    assert everything_in(tmp_path) == before


@pytest.mark.parametrize("clip_seconds", [None, 4.0])
def test_several_processes_make_the_same_corpus(music, tmp_path, clip_seconds):
    options = options_of(clip_seconds=clip_seconds) if clip_seconds else LINKED
    reports = {}
    for num_processes in (1, 2):
        output = tmp_path / str(num_processes)
        reports[num_processes] = make_corpus(
            music, str(output), options, num_processes=num_processes
        )
    assert everything_in(tmp_path / "1") == {
        path.replace(f"{tmp_path}/2", f"{tmp_path}/1"): content
        for path, content in everything_in(tmp_path / "2").items()
    }
    assert reports[1] == reports[2]


def test_a_folder_that_cannot_be_listed_is_a_failure_and_other_files_are_counted(music, tmp_path):
    (music / "closed").mkdir()
    with closed_folder(music / "closed"):
        report = make_corpus(music, tmp_path / "corpus")
    assert report.failures[0][0] == str(music / "closed")
    assert read_failures(tmp_path / "corpus")["closed"].startswith("cannot be listed: Permission")
    assert report.num_tracks == 4
    assert report.left_aside == {".txt": 1}


def test_a_corpus_without_any_track_can_be_made_again(tmp_path):
    write_track(tmp_path / "music" / "05.wav")
    assert make_corpus(tmp_path / "music", tmp_path / "corpus").num_tracks == 0
    write_track(tmp_path / "music" / "good song.wav")
    assert make_corpus(tmp_path / "music", tmp_path / "corpus").num_tracks == 1


@pytest.mark.parametrize("has_table", [False, True])
def test_what_others_have_put_into_the_output_is_not_replaced(music, tmp_path, has_table):
    output = tmp_path / "mine"
    write_track(output / "audio" / "one.flac", title="A Recording Of My Own")
    if has_table:
        (output / "metadata.csv").write_text("file_name,caption\naudio/one.flac,mine\n")
    before = everything_in(output)
    with pytest.raises(ValueError, match="Choose another folder"):
        make_corpus(music, output)
    assert everything_in(output) == before


def test_a_track_that_a_link_leads_to_is_not_replaced_by_itself(music, tmp_path):
    output = tmp_path / "corpus"
    make_corpus(music, output, options_of(whole="copy"))
    (music / "again").symlink_to(output / "audio", target_is_directory=True)
    shutil.rmtree(music / "cd2")
    shutil.move(output / "audio" / "one.flac", tmp_path / "one.flac")  # an earlier copy is missing
    (output / "audio" / "again").symlink_to(output / "audio", target_is_directory=True)
    before = everything_in(output / "audio")
    with pytest.raises(ValueError, match="is the track itself"):
        make_corpus(music, output)
    assert everything_in(output / "audio").items() >= before.items()


def test_a_corpus_that_was_interrupted_says_so_and_is_finished_by_the_next_call(
    music, tmp_path, monkeypatch
):
    output, place, placed = tmp_path / "corpus", cut._place_track, []

    def place_until_killed(*job):
        placed.append(job)
        if len(placed) == 3:
            raise KeyboardInterrupt
        return place(*job)

    monkeypatch.setattr(cut, "_place_track", place_until_killed)
    with pytest.raises(KeyboardInterrupt):
        make_corpus(music, output, options_of(whole="copy"))
    with pytest.raises(ValueError, match="is unfinished. Run the command that makes it again"):
        read_manifest(output)
    make_corpus(music, output, options_of(whole="copy"))
    make_corpus(music, tmp_path / "whole", options_of(whole="copy"))
    names = [
        {str(path.relative_to(folder)) for path in folder.rglob("*")}
        for folder in (output, tmp_path / "whole")
    ]
    assert names[0] == names[1]
    assert read_rows(output) == read_rows(tmp_path / "whole")


def test_a_track_whose_name_is_not_utf8_is_listed_and_the_others_are_used(music, tmp_path):
    os.rename(music / "one.flac", os.fsencode(music) + b"/Caf\xe9 song.flac")
    report = make_corpus(music, tmp_path / "corpus")
    assert report.num_tracks == 3
    assert any("not UTF-8. Rename it." in reason for _, reason in report.failures)
    assert len(read_manifest(tmp_path / "corpus").clips) == 3
