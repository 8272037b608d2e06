"""Tracks cut, heard and written down: what is kept, what a second run does, what is left out."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tiny import RATE, tone

from mulap.audio import load_audio
from mulap.corpora.described import cut
from mulap.corpora.described.cut import JOURNAL_FOLDER, hear_tracks
from mulap.corpora.described.tracks import DescribeOptions, Heard, Track

OPTIONS = DescribeOptions(clip_seconds=4.0, max_clips=3)


def write(path: Path, samples: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples, RATE)
    return path


@pytest.fixture
def tracks(tmp_path) -> list[Track]:
    long = write(tmp_path / "music" / "long.flac", tone(0, 21.0))
    short = write(tmp_path / "music" / "short.wav", tone(1, 3.5))
    return [Track(long, "a/long", "a", source="set"), Track(short, "short", "b")]


def no_listening(*_: object) -> None:
    raise AssertionError("there was nothing left to do")


def names(heard: Heard) -> list[str]:
    return [clip.file_name for each in heard.tracks for clip in each.clips]


def assert_same(one: Heard, other: Heard) -> None:
    assert names(one) == names(other)
    assert (one.failures, one.num_silent) == (other.failures, other.num_silent)
    for ours, theirs in zip(one.tracks, other.tracks, strict=True):
        assert ours.track == theirs.track
        np.testing.assert_allclose(ours.vector, theirs.vector, rtol=0, atol=1e-2)
        for mine, his in zip(ours.clips, theirs.clips, strict=True):
            np.testing.assert_allclose(mine.odds, his.odds, rtol=0, atol=0.011)
            assert mine.measured.mode == his.measured.mode
            assert mine.measured.loudness_db == pytest.approx(his.measured.loudness_db)
            assert (mine.start_seconds, mine.duration_seconds) == (
                his.start_seconds,
                his.duration_seconds,
            )


def test_clips_are_spread_over_the_track_and_hold_its_samples(tracks, tmp_path):
    heard = hear_tracks(tracks, tmp_path / "out", OPTIONS)
    assert names(heard) == [
        "audio/a/long-000.flac",
        "audio/a/long-002.flac",
        "audio/a/long-004.flac",
        "audio/short-000.flac",
    ]
    clip = heard.tracks[0].clips[1]
    assert (clip.start_seconds, clip.duration_seconds) == (8.0, 4.0)
    samples, rate = sf.read(tmp_path / "out" / clip.file_name, dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(samples, tone(0, 21.0)[8 * RATE : 12 * RATE], atol=2e-4)
    assert heard.tracks[1].clips[0].duration_seconds == pytest.approx(3.5)
    assert heard.audio_seconds == pytest.approx(15.5)
    assert clip.odds.shape == (100,)
    assert heard.tracks[0].vector.shape == (1506,)
    assert (heard.failures, heard.num_silent) == ([], 0)


def test_a_second_run_does_nothing_again_and_gives_the_same(tracks, tmp_path, monkeypatch):
    first = hear_tracks(tracks, tmp_path / "out", OPTIONS)
    monkeypatch.setattr(cut, "measure", no_listening)
    assert_same(hear_tracks(tracks, tmp_path / "out", OPTIONS), first)


@pytest.mark.parametrize("lost", ["journal", "clip", "damaged journal", "changed file"])
def test_only_what_is_missing_is_done_again(tracks, tmp_path, monkeypatch, lost):
    output = tmp_path / "out"
    first = hear_tracks(tracks, output, OPTIONS)
    (journal,) = set((output / JOURNAL_FOLDER).iterdir()) - {
        cut._journal_path(tracks[0], output, OPTIONS)
    }
    if lost == "journal":
        journal.unlink()
    elif lost == "damaged journal":
        journal.write_bytes(journal.read_bytes()[:-100])
    elif lost == "clip":
        (output / "audio" / "short-000.flac").unlink()
    else:
        write(tracks[1].path, tone(1, 3.5)[:-1])
    measured = []
    real = cut.measure
    monkeypatch.setattr(cut, "measure", lambda *args: measured.append(1) or real(*args))
    second = hear_tracks(tracks, output, OPTIONS)
    assert len(measured) == 1
    assert names(second) == names(first)
    assert len(list((output / JOURNAL_FOLDER).iterdir())) == 2


def test_two_processes_give_the_same_as_one(tracks, tmp_path):
    one = hear_tracks(tracks, tmp_path / "one", OPTIONS, 1)
    assert_same(hear_tracks(tracks, tmp_path / "two", OPTIONS, 2), one)


def test_what_cannot_be_used_is_listed_or_counted_also_the_second_time(tmp_path):
    music = tmp_path / "music"
    half = np.concatenate([tone(0, 4.0), np.zeros(4 * RATE, np.float32)])
    tracks = [
        Track(write(music / "half.flac", half), "half", "g"),
        Track(write(music / "brief.wav", tone(0, 1.0)), "brief", "g"),
        Track(music / "gone.wav", "gone", "g"),
    ]
    (music / "broken.ogg").write_bytes(b"no audio")
    tracks.append(Track(music / "broken.ogg", "broken", "g"))
    for _ in range(2):
        heard = hear_tracks(tracks, tmp_path / "out", OPTIONS)
        assert names(heard) == ["audio/half-000.flac"]
        assert heard.num_silent == 1
        reasons = {Path(file).name: reason for file, reason in heard.failures}
        assert reasons.keys() == {"brief.wav", "gone.wav", "broken.ogg"}
        assert reasons["brief.wav"] == "shorter than 3 s. Leave it out."
        assert "No such file" in reasons["gone.wav"]


def test_clips_that_no_track_claims_any_more_are_removed(tracks, tmp_path):
    output = tmp_path / "out"
    hear_tracks(tracks, output, OPTIONS)
    hear_tracks(tracks, output, replace(OPTIONS, max_clips=2))
    clips = sorted(path.name for path in (output / "audio").rglob("*.flac"))
    assert clips == ["long-000.flac", "long-004.flac", "short-000.flac"]
    hear_tracks(tracks[:1], output, replace(OPTIONS, max_clips=2))
    assert not (output / "audio" / "short-000.flac").exists()
    assert len(list((output / JOURNAL_FOLDER).iterdir())) == 1


def test_the_files_own_tags_fill_what_is_not_given(tmp_path):
    path = tmp_path / "a.flac"
    with sf.SoundFile(path, "w", RATE, 1) as file:
        file.title, file.artist = "Own", "Ann"
        file.write(tone(0, 4.0))
    heard = hear_tracks([Track(path, "a", "g", tags={"title": "Given"})], tmp_path / "out")
    tags = heard.tracks[0].track.tags
    assert (tags["title"], tags["artist"]) == ("Given", "Ann")


@pytest.mark.parametrize("track_id", ["", "/etc/x", "../x", "a/../../x"])
def test_an_id_that_leads_out_of_the_folder_is_refused(tmp_path, track_id):
    with pytest.raises(ValueError, match="is no relative path"):
        hear_tracks([Track(tmp_path / "a.wav", track_id, "g")], tmp_path / "out")


def test_one_id_for_two_tracks_is_refused(tmp_path):
    tracks = [Track(tmp_path / name, "same", "g") for name in ("a.wav", "b.wav")]
    with pytest.raises(ValueError, match=r"b.wav: has the track_id of .*a.wav. Give each its own"):
        hear_tracks(tracks, tmp_path / "out")


def test_clips_of_an_opus_file_are_those_of_its_parts(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 48_000 * 20).astype(np.float32)
    sf.write(tmp_path / "a.opus", noise, 48_000, format="OGG", subtype="OPUS")
    options = DescribeOptions(clip_seconds=5.0, max_clips=2)
    heard = hear_tracks([Track(tmp_path / "a.opus", "a", "g")], tmp_path / "out", options)
    assert [clip.start_seconds for clip in heard.tracks[0].clips] == [0.0, 15.0]
    for clip in heard.tracks[0].clips:
        written, _ = sf.read(tmp_path / "out" / clip.file_name)
        part = load_audio(tmp_path / "a.opus", clip.start_seconds, 5.0)
        assert len(written) == len(part)
        np.testing.assert_allclose(written, part, atol=2 / 32_768)


def test_an_opus_file_that_is_cut_short_gives_the_clips_that_it_holds(tmp_path):
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 48_000 * 20).astype(np.float32)
    sf.write(tmp_path / "a.opus", noise, 48_000, format="OGG", subtype="OPUS")
    whole = (tmp_path / "a.opus").read_bytes()
    (tmp_path / "a.opus").write_bytes(whole[: len(whole) * 6 // 10])
    options = DescribeOptions(clip_seconds=5.0, max_clips=None)
    heard = hear_tracks([Track(tmp_path / "a.opus", "a", "g")], tmp_path / "out", options)
    starts = [clip.start_seconds for clip in heard.tracks[0].clips]
    assert starts[:2] == [0.0, 5.0]
    assert len(starts) + len(heard.failures) <= 4
