"""Corpora from folders of tagged music; the music is noise written here, the tags are real."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.data.corpora import (
    CorpusOptions,
    caption_from_tags,
    describe_tags,
    is_poor,
    make_corpus,
)
from mulap.data.manifest import read_manifest

TAGS = {
    "title": "Northerners",
    "artist": "Stephen Rozanc",
    "album": "Battle OST",
    "genre": "Romantic Classical",
    "date": "2010-05-01",
    "comment": "Music for the cold north and its warriors",
}


def write_track(path: Path, seconds: float = 4.0, level: float = 0.1, **tags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = level * np.random.default_rng(0).standard_normal(round(8_000 * seconds))
    with soundfile.SoundFile(path, "w", 8_000, 1) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(samples)
    return path


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
    seen = []
    report = make_corpus(music, output, on_track=lambda done, of: seen.append((done, of)))
    assert (report.num_tracks, report.num_clips, report.num_poor_tracks) == (4, 4, 1)
    assert report.num_captions == len(read_rows(output))
    assert seen[-1] == (7, 7)
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
    make_corpus(music, output, CorpusOptions(copy=True))
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
    options = CorpusOptions(clip_seconds=4.0, captions_per_clip=1)
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
    options = CorpusOptions(clip_seconds=4.0, max_clips_per_track=3)
    report = make_corpus(source, output, options)
    starts = {row["start_seconds"] for row in read_rows(output)}
    assert starts == {"0", "16", "36"}
    assert report.num_tracks == 1
    assert [reason for _, reason in report.failures] == ["silent", "silent"]


def test_files_that_differ_in_their_ending_only_do_not_overwrite_each_other(tmp_path):
    source, output = tmp_path / "music", tmp_path / "corpus"
    write_track(source / "song one.flac")
    write_track(source / "song one.wav")
    assert make_corpus(source, output, CorpusOptions(clip_seconds=4.0)).num_clips == 2
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
    make_corpus(source, tmp_path / "out", CorpusOptions(group_by=group_by))
    assert {row["group"] for row in read_rows(tmp_path / "out")} == groups


def test_wrong_use_is_told_in_one_line(tmp_path):
    write_track(tmp_path / "music" / "a.wav")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="choose a folder outside it"):
        make_corpus(tmp_path / "music", tmp_path / "music" / "corpus")
    with pytest.raises(ValueError, match="no audio files found"):
        make_corpus(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(ValueError, match="group_by 'mood': must be one of artist"):
        CorpusOptions(group_by="mood")
    with pytest.raises(ValueError, match="clip_seconds 2: must be at least 3"):
        CorpusOptions(clip_seconds=2)
    with pytest.raises(ValueError, match="at least 1"):
        CorpusOptions(captions_per_clip=0)


def test_captions_use_the_tags_in_many_wordings():
    captions = caption_from_tags(TAGS, "x.ogg", num_captions=30)
    assert len(captions) == len(set(captions)) > 10
    assert "Northerners by Stephen Rozanc" in captions
    assert "a romantic classical piece called Northerners" in captions
    assert "Music for the cold north and its warriors" in captions
    assert any("2010" in caption for caption in captions)


def test_captions_of_differing_files_and_seeds_differ():
    drawn = {tuple(caption_from_tags(TAGS, f"{i}.ogg", i, 2)) for i in range(20)}
    assert len(drawn) > 10


@pytest.mark.parametrize(
    ("tags", "file_name", "said"),
    [
        ({}, "03 - three_blind_mice.mp3", {"title": "three blind mice"}),
        ({}, "battleTheme.ogg", {"title": "battle Theme"}),
        ({}, "01.mp3", {}),
        ({"title": "Untitled", "artist": "Unknown Artist"}, "--.mp3", {}),
        (
            {"title": "T\n  1", "genre": "(32)Classical"},
            "a",
            {"title": "T 1", "genre": "classical"},
        ),
        ({"title": "T", "comment": "Visit http://x.y for the rest"}, "a", {"title": "T"}),
        ({"title": "T", "comment": "Copyright by all of us"}, "a", {"title": "T"}),
        ({"title": "T", "date": "recorded 1967?"}, "a", {"title": "T", "year": "1967"}),
        ({"title": "T", "description": "a b c"}, "a", {"title": "T", "comment": "a b c"}),
    ],
)
def test_tags_are_cleaned_and_the_file_name_is_the_last_resort(tags, file_name, said):
    assert describe_tags(tags, file_name) == said


@pytest.mark.parametrize(
    ("said", "has_title_tag", "expected"),
    [
        ({"title": "Track 01"}, True, True),
        ({"title": "silence"}, False, True),
        ({"title": "silence"}, True, False),
        ({"title": "three blind mice"}, False, False),
        ({"title": "Track 01", "genre": "jazz"}, True, False),
        ({}, False, True),
    ],
)
def test_poor_text_is_told_from_a_real_title(said, has_title_tag, expected):
    assert is_poor(said, has_title_tag) == expected


@settings(derandomize=True, max_examples=100, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([*TAGS, "license", "encoder"]), st.text(max_size=30), max_size=6
    ),
    st.text(max_size=20),
    st.integers(0, 1000),
)
def test_any_tags_give_few_clean_captions_and_the_same_every_time(tags, file_name, seed):
    captions = caption_from_tags(tags, file_name, seed, 3)
    assert captions == caption_from_tags(tags, file_name, seed, 3)
    assert len(captions) == len(set(captions)) <= 3
    assert all(caption == " ".join(caption.split()) and caption for caption in captions)
    assert bool(captions) == bool(describe_tags(tags, file_name).keys() - {"year"})
