"""Run: pytest tests/test_audio.py. The files are made by tests/audio_samples.py."""

import threading
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soxr
from audio_samples import FORMATS, SECONDS, make_music, sample, whole, write_sample, write_sound
from closed_folders import closed_folder
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.audio import (
    SAMPLING_RATE,
    AudioError,
    Found,
    find_audio,
    load_audio,
    log_note,
    probe_audio,
    stream_audio,
)

# Formats that do not store the encoder's delay, or of which FFmpeg loses the first frame (wma).
SHIFTED = {"mp3_vbr_without_xing", "aac", "wma"}


def error_of(path, **options) -> str:
    with pytest.raises(AudioError) as caught:
        load_audio(path, **options)
    assert caught.value.path == Path(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_what_was_encoded_as_mono_16_khz(name):
    recipe = FORMATS[name]
    rate = recipe.get("rate", 44_100)
    mono = make_music(SECONDS, rate, recipe.get("channels", 2)).mean(axis=1)
    expected = soxr.resample(mono, rate, SAMPLING_RATE)
    waveform = whole(name)
    assert waveform.dtype == np.float32
    assert waveform.ndim == 1
    assert len(waveform) == pytest.approx(SECONDS * SAMPLING_RATE, abs=0.08 * SAMPLING_RATE)
    reach = 1_000
    middle = expected[16_000 - reach : 48_000 + reach]
    lag = int(np.correlate(waveform[16_000:48_000], middle, "valid").argmax()) - reach
    if name not in SHIFTED:
        assert lag == 0
    matching = middle[reach - lag : reach - lag + 32_000]
    assert np.corrcoef(waveform[16_000:48_000], matching)[0, 1] > 0.7


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(start=st.integers(0, round(9.2 * SAMPLING_RATE)), length=st.integers(1, 30_000))
def test_a_crop_equals_the_same_crop_of_the_whole_file(name, start, length):
    expected = whole(name)[start : start + length]
    where = {"start_seconds": start / SAMPLING_RATE, "duration_seconds": length / SAMPLING_RATE}
    if expected.size:
        crop = load_audio(sample(name), **where)
        assert crop.shape == expected.shape
        assert np.abs(crop - expected).max() < 1e-6
    else:
        assert "ends before" in error_of(sample(name), **where)


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100])
def test_crops_are_exact_at_any_requested_rate(rate):
    full = load_audio(sample("mp3_vbr"), sampling_rate=rate)
    assert len(full) == SECONDS * rate
    for start in (1, 12_345, 5 * rate + 17, len(full) - 2):
        crop = load_audio(sample("mp3_vbr"), start / rate, 0.5, sampling_rate=rate)
        np.testing.assert_allclose(crop, full[start : start + rate // 2], atol=1e-6)


@pytest.mark.parametrize("name", FORMATS)
def test_streamed_blocks_join_to_the_whole_file(name):
    blocks = list(stream_audio(sample(name), block_seconds=0.7))
    assert {len(block) for block in blocks[:-1]} == {round(0.7 * SAMPLING_RATE)}
    np.testing.assert_allclose(np.concatenate(blocks), whole(name), atol=1e-6)


@pytest.mark.parametrize("name", ["flac", "m4a"])
def test_streaming_takes_no_more_memory_for_a_longer_file(name, tmp_path):
    path = write_sample(name, tmp_path, seconds=30)

    def peak_bytes(num_blocks):
        tracemalloc.start()
        try:
            blocks = stream_audio(path, block_seconds=1)
            assert sum(1 for _ in zip(range(num_blocks), blocks, strict=False)) == num_blocks
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak_bytes(2)  # what is allocated once and for all
    assert peak_bytes(30) < 1.2 * peak_bytes(3)


def test_channels_are_averaged_and_equal_rates_leave_samples_alone(tmp_path):
    samples = make_music(0.5, 16_000, 6)
    path = write_sound(tmp_path / "six.wav", samples, 16_000, "WAVEX", "FLOAT")
    np.testing.assert_allclose(load_audio(path), samples.mean(axis=1), atol=1e-6)
    assert probe_audio(path).num_channels == 6


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 3e38, 1e13])  # 2 * 3e38 is infinite
def test_samples_that_are_not_finite_are_refused_where_they_lie(bad, tmp_path):
    samples = make_music(6, 44_100)
    samples[4 * 44_100 :] = bad
    path = write_sound(tmp_path / "bad.wav", samples, 44_100, "WAV", "FLOAT")
    kind = "samples of absurd size" if bad == 1e13 else "NaN or infinite samples"
    assert f"has {kind} near" in error_of(path)
    assert np.isfinite(load_audio(path, duration_seconds=3)).all()
    with pytest.raises(AudioError, match=kind):
        list(stream_audio(path, block_seconds=1))


def test_samples_beyond_full_scale_and_silence_are_kept(tmp_path):
    loud = write_sound(tmp_path / "loud", 50 * make_music(1, 16_000), 16_000, "WAV", "FLOAT")
    assert np.abs(load_audio(loud)).max() > 3
    silent = write_sound(tmp_path / "silent", np.zeros((44_100, 2)), 44_100, "FLAC", "PCM_16")
    np.testing.assert_array_equal(load_audio(silent), np.zeros(16_000, np.float32))


@pytest.mark.parametrize(("noise", "is_told"), [(0.0, True), (0.005, True), (0.2, False)])
def test_channels_that_cancel_are_told_and_averaged_all_the_same(tmp_path, caplog, noise, is_told):
    log_note.cache_clear()
    music = make_music(2, 44_100, 1)
    samples = np.concatenate([music, noise * np.roll(music, 999) - music], axis=1)
    path = write_sound(tmp_path / "wide.wav", samples, 44_100, "WAV", "FLOAT")
    told = f"{path}: its channels cancel, so their mean is nearly silent. Invert one channel."
    waveform = load_audio(path)
    expected = soxr.resample(samples.mean(axis=1), 44_100, SAMPLING_RATE)
    np.testing.assert_allclose(waveform, expected, atol=1e-6)
    assert [record.getMessage() for record in caplog.records] == is_told * [told]
    np.testing.assert_array_equal(np.concatenate(list(stream_audio(path))), waveform)
    assert len(caplog.records) == is_told  # once a file
    for where in ((0.0, None), (0.5, 0.5)):
        found = Found()
        load_audio(path, *where, found=found)
        assert found.notes == is_told * [told.partition(": ")[2]]


def test_what_was_decoded_is_counted(tmp_path):
    path = write_sample("wav", tmp_path, seconds=1.00001)  # 44,100 samples
    whole_file, part, blocks = Found(), Found(), Found()
    load_audio(path, found=whole_file)
    load_audio(path, 0.5, 0.3, found=part)
    list(stream_audio(path, block_seconds=0.3, duration_seconds=0.8, found=blocks))
    assert (whole_file.num_samples, whole_file.duration_seconds) == (16_000, 1.0)
    assert (part.num_samples, part.duration_seconds) == (4_800, 0.3)
    assert (blocks.num_samples, blocks.duration_seconds) == (12_800, 0.8)


def test_a_part_is_streamed_in_blocks_without_decoding_more():
    blocks = list(stream_audio(sample("flac"), 16_000, 0.4, 2.5, 1.0))
    assert [len(block) for block in blocks] == [6_400, 6_400, 3_200]
    np.testing.assert_allclose(np.concatenate(blocks), whole("flac")[40_000:56_000], atol=1e-6)


def test_usual_files_are_told_nothing_about(caplog):
    log_note.cache_clear()
    for name in ("wav", "wav_6_channels", "flac", "ogg_vorbis", "mp3_cbr", "mp3_vbr", "m4a"):
        load_audio(sample(name))
    assert not caplog.records


def test_silence_is_no_cancelling(tmp_path, caplog):
    load_audio(write_sound(tmp_path / "silent", np.zeros((9_000, 2)), 44_100, "FLAC", "PCM_16"))
    assert not caplog.records


def test_a_file_shorter_than_asked_gives_what_it_has(tmp_path):
    path = write_sample("wav", tmp_path, seconds=1)
    assert len(load_audio(path, duration_seconds=20)) == SAMPLING_RATE
    assert len(load_audio(path, 0.75, 20)) == SAMPLING_RATE // 4
    assert "ends before 1 s. Ask for an earlier start." in error_of(path, start_seconds=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start_seconds": -1}, "start_seconds=-1: must be zero"),
        ({"start_seconds": np.nan}, "start_seconds=nan"),
        ({"duration_seconds": 0}, "duration_seconds=0: must be one sample"),
        ({"duration_seconds": np.inf}, "duration_seconds=inf"),
        ({"sampling_rate": 16}, "sampling_rate=16: must be 1000 to"),
    ],
)
def test_impossible_requests_are_value_errors(options, message):
    with pytest.raises(ValueError, match=message):
        load_audio(sample("wav"), **options)


@pytest.mark.parametrize("name", FORMATS)
def test_probing_tells_duration_rate_and_channels_without_decoding(name):
    info = probe_audio(sample(name))
    recipe = FORMATS[name]
    assert info.duration_seconds == pytest.approx(len(whole(name)) / SAMPLING_RATE, abs=0.05)
    assert info.sampling_rate_hz == recipe.get("rate", 44_100)
    assert info.num_channels == recipe.get("channels", 2)


@pytest.mark.parametrize(
    "name",
    ["wav", "flac", "ogg_vorbis", "opus", "mp3_vbr_without_xing", "mp3_cbr_low", "m4a", "wma"],
)
def test_tags_are_read_under_the_same_names_from_every_format(name, tmp_path):
    given_tags = {
        "title": "Größe",
        "artist": "Ann",
        "album": "Works",
        "genre": "Folk",
        "comment": "slow",
        "date": "1999",
    }
    tags = probe_audio(write_sample(name, tmp_path, seconds=0.5, **given_tags)).tags
    assert {key: tags.get(key) for key in given_tags} == given_tags
    assert all(key == key.lower() and value for key, value in tags.items())


def test_threads_may_read_at_the_same_time():
    results = {}

    def read(name):
        results[name] = load_audio(sample(name))

    threads = [threading.Thread(target=read, args=(name,)) for name in ("mp3_vbr", "m4a", "flac")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, waveform in results.items():
        np.testing.assert_array_equal(waveform, whole(name))
    assert len(results) == 3


def test_tags_that_libsndfile_does_not_know_are_read_from_ogg_too(tmp_path):
    path = write_sample("opus_speech", tmp_path, seconds=0.5, composer="Hildegard")
    assert probe_audio(path).tags["composer"] == "Hildegard"


def test_folders_are_searched_by_ending_and_files_taken_as_they_are(tmp_path):
    for name in ("b.MP3", "a.flac", "notes.txt", "sub/deep/c.ogg", ".hidden.wav", ".git/d.wav"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    expected = [tmp_path / name for name in ("a.flac", "b.MP3", "sub/deep/c.ogg")]
    assert find_audio([tmp_path]) == expected
    assert find_audio([str(tmp_path), tmp_path / "sub", tmp_path / "a.flac"]) == expected
    assert find_audio([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]
    assert find_audio([]) == []
    with pytest.raises(AudioError, match=r"nowhere: does not exist. Check the path."):
        find_audio([tmp_path, tmp_path / "nowhere"])


def test_sound_in_a_folder_is_found_whatever_holds_it_and_the_rest_is_counted(tmp_path):
    found = (
        "clip.mkv film.MOV ring.m4r take.bwf master.dsf album.dff set.rf64 call.3gp old.ra".split()
    )
    aside = "cover.jpg back.JPG notes.txt app.ts README".split()
    for name in [*found, *aside]:
        (tmp_path / name).touch()
    others = Counter()
    assert {path.name for path in find_audio([tmp_path], others=others)} == set(found)
    assert others == {".jpg": 2, ".txt": 1, ".ts": 1, "no ending": 1}


@pytest.mark.parametrize("rights", [0o000, 0o311])
def test_a_folder_that_cannot_be_listed_costs_itself_only(tmp_path, rights):
    for name in ("album/a.wav", "lost+found/x.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    with closed_folder(tmp_path / "lost+found", rights):
        failures = []
        assert find_audio([tmp_path], failures) == [tmp_path / "album" / "a.wav"]
        locked = str(tmp_path / "lost+found")
        assert failures == [(locked, "cannot be listed: Permission denied. Check its permissions.")]
        with pytest.raises(AudioError, match="lost.found: cannot be listed: Permission denied"):
            find_audio([tmp_path])


def test_files_in_a_folder_that_may_only_be_listed_are_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "x.wav").touch()
    with closed_folder(tmp_path / "sub", 0o444):
        assert find_audio([tmp_path]) == [tmp_path / "sub" / "x.wav"]


def test_links_are_followed_but_neither_in_circles_nor_twice(tmp_path):
    music = tmp_path / "music"
    (music / "disc").mkdir(parents=True)
    (music / "disc" / "a.wav").touch()
    (music / "disc" / "up").symlink_to(music)
    (music / "copy.wav").symlink_to(music / "disc" / "a.wav")
    (music / "dead.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.wav").touch()
    (music / "linked").symlink_to(tmp_path / "other")
    assert find_audio([music]) == [music / "copy.wav", music / "linked" / "b.wav"]
