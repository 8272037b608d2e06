"""Shards: what stands in them, to the sample."""

import io
import json
import tarfile

import numpy as np
import pyarrow as pa
import pytest
import soundfile as sf
from audio_samples import encode, make_music
from tiny import RATE, make_clips, make_extractor, tone

from mulap.audio import load_audio
from mulap.data.clips import Clip
from mulap.data.prepared.shards import make_recipe, write_shard


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    return make_clips(tmp_path_factory.mktemp("clips"), 4)


def one_clip(path, samples, rate=RATE, subtype="FLOAT") -> Clip:
    sf.write(path, samples, rate, subtype=subtype)
    return Clip(path, ("a song",), "track", "track", "train", "row 2")


def read_row(path, row=0) -> dict:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_stream(source).read_all().slice(row, 1).to_pylist()[0]


def stored_samples(path) -> np.ndarray:
    row = read_row(path)
    return np.asarray(row["pcm"]) * row["pcm_step"]


@pytest.mark.parametrize("peak", [0.0, 1e-30, 0.01, 0.9, 1.0, 3.7])
def test_samples_as_int16_are_off_by_half_a_step_at_most_and_never_clipped(tmp_path, peak):
    chord = tone(1, 1.0)
    clip = one_clip(tmp_path / "a.wav", chord * (peak / np.abs(chord).max()))
    write_shard(tmp_path / "a.arrow", [clip], 0, make_recipe("pcm"))
    step = 2 * peak / 32_767  # at most, where a power of two is just too small
    exact = load_audio(clip.audio_path)
    difference = np.abs(stored_samples(tmp_path / "a.arrow") - exact).max()
    assert difference <= step * 0.503  # a half, and float32's rounding


@pytest.mark.parametrize("peak", [-1.0, -0.5, 0.99])
def test_sixteen_bit_files_at_this_rate_survive_int16_to_the_bit(tmp_path, peak):
    samples = np.clip(tone(1, 1.0), -0.49, 0.49)
    samples[7] = peak  # -32,768 is what clipped music holds: no sample of int16 is below
    clip = one_clip(tmp_path / "a.wav", samples, subtype="PCM_16")
    write_shard(tmp_path / "a.arrow", [clip], 0, make_recipe("pcm"))
    assert np.array_equal(stored_samples(tmp_path / "a.arrow"), load_audio(clip.audio_path))


def test_the_duration_is_what_was_decoded_whatever_the_header_claims(tmp_path):
    path = encode(tmp_path / "a.mp3", make_music(9), 44_100, "mp3", "libmp3lame", 128_000)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    clip = Clip(path, ("a song",), "a", "a", "train", "row 2")
    write_shard(tmp_path / "a.arrow", [clip], 0, make_recipe("pcm"))
    row = read_row(tmp_path / "a.arrow")
    assert row["duration_seconds"] == pytest.approx(4.5, abs=0.1)
    assert len(row["pcm"]) == pytest.approx(row["duration_seconds"] * RATE, abs=1)


def test_whole_tracks_are_decoded_in_blocks_to_the_same_log_mels(tmp_path):
    # Longer than a block of 30 s, and at a rate that has to be resampled.
    clip = one_clip(tmp_path / "a.wav", tone(1, 44.0), rate=22_050)
    report = write_shard(tmp_path / "a.arrow", [clip], 0, make_recipe("log-mel", np.inf))
    extractor = make_extractor()
    waveform = load_audio(clip.audio_path)
    assert report.audio_seconds == len(waveform) / RATE
    expected = extractor.log_mel(extractor.segment(waveform))
    assert len(expected) == 10
    assert np.array_equal(np.float32(read_row(tmp_path / "a.arrow")["log_mel"]), expected)


def test_one_maximum_over_the_track_is_taken_over_the_track(tmp_path):
    samples = np.concatenate([tone(1, 33.0) * 0.001, tone(2, 3.0)])
    clip = one_clip(tmp_path / "a.wav", samples)
    recipe = make_recipe("log-mel", np.inf, db_reference="batch")
    write_shard(tmp_path / "a.arrow", [clip], 0, recipe)
    extractor = type(make_extractor())(db_reference="batch")
    expected = extractor.log_mel(extractor.segment(load_audio(clip.audio_path)))
    assert np.array_equal(np.float32(read_row(tmp_path / "a.arrow")["log_mel"]), expected)


def test_tars_are_laid_out_as_webdataset_reads_them(clips, tmp_path):
    write_shard(tmp_path / "0.tar", clips, 16, make_recipe("tars"))
    with tarfile.open(tmp_path / "0.tar") as tar:
        members = tar.getmembers()
        names = [member.name for member in members]
        contents = [tar.extractfile(member).read() for member in members]
    assert names == [f"{16 + n:09}.{end}" for n in range(4) for end in ("flac", "json")]
    assert names == sorted(names)
    assert all(name.count(".") == 1 for name in names)
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    for clip, flac, text in zip(clips, contents[::2], contents[1::2], strict=True):
        said = json.loads(text)
        assert said["text"] == list(clip.captions)
        assert (said["track_id"], said["split"]) == (clip.track_id, clip.split)
        samples, rate = sf.read(io.BytesIO(flac), dtype="float32")
        assert rate == RATE
        assert np.array_equal(samples, load_audio(clip.audio_path))


def test_a_shard_that_cannot_be_finished_is_not_there(clips, tmp_path, monkeypatch):
    def fail(*arguments, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sf, "write", fail)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path / "0.tar", clips, 0, make_recipe("tars"))
    assert not list(tmp_path.iterdir())


def test_names_that_are_not_utf_8_are_stored_escaped(clips, tmp_path):
    clip = Clip(clips[0].audio_path, ("a song",), "caf\udce9", "caf\udce9", "train", "row 2")
    write_shard(tmp_path / "a.arrow", [clip], 0, make_recipe("pcm", 1.0))
    assert read_row(tmp_path / "a.arrow")["track_id"] == "caf\\udce9"
