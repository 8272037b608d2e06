"""Run: pytest tests/test_decode.py. What becomes of odd, damaged and hostile files."""

import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import soxr
from audio_samples import (
    FORMATS,
    SECONDS,
    encode,
    make_music,
    sample,
    whole,
    write_sample,
    write_sound,
)
from torch.utils.data import DataLoader, Dataset

from mulap.audio import (
    SAMPLING_RATE,
    AudioError,
    load_audio,
    log_note,
    probe_audio,
    stream_audio,
)
from mulap.decode import open_reader
from mulap.ffmpeg import FFmpegReader
from mulap.sndfile import SoundFileReader


def error_of(path, **options) -> str:
    with pytest.raises(AudioError) as caught:
        load_audio(path, **options)
    assert caught.value.path == Path(path)
    assert str(caught.value) == f"{path}: {caught.value.reason}"
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_mp3_read_in_blocks_is_not_corrupted_by_the_seeks_of_soundfile():
    # soundfile seeks after every read; low bit rates reach back further than libsndfile then goes.
    at_once, rate = sf.read(sample("mp3_cbr_low"), dtype="float32")
    expected = soxr.resample(at_once, rate, SAMPLING_RATE)
    np.testing.assert_allclose(whole("mp3_cbr_low"), expected, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FORMATS if not name.startswith("wav_")])
def test_a_reader_gives_the_same_samples_wherever_it_starts(name):
    with open_reader(sample(name)) as reader:
        full = np.concatenate(list(reader.blocks(0)))
    near_the_end = (len(full) - 2_000, len(full) - 100, len(full) - 1)
    for start in (1, 1_105, *range(len(full) // 5, len(full), len(full) // 9), *near_the_end):
        with open_reader(sample(name)) as reader:
            first = next(block for block in reader.blocks(start) if len(block))
        assert np.abs(first - full[start:][: len(first)]).max() < 1e-6, f"from sample {start} on"


def test_speech_like_opus_is_decoded_from_its_beginning(tmp_path):
    # Its decoder still remembers the beginning after 10 s: no start later on is exact.
    music = make_music(20, 48_000, 1, noise=0)
    path = encode(tmp_path / "song.opus", music, 48_000, "ogg", "libopus", 14_000)
    full = load_audio(path)
    for start in range(7, 19):
        crop = load_audio(path, start, 1.0)
        assert np.abs(crop - full[start * 16_000 :][:16_000]).max() < 1e-6


def test_damage_in_the_middle_costs_only_what_is_damaged(tmp_path):
    content = bytearray(sample("m4a").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = b"\xff" * 2_000
    (tmp_path / "song.m4a").write_bytes(content)
    waveform = load_audio(tmp_path / "song.m4a")
    assert 0 <= len(whole("m4a")) - len(waveform) < 0.3 * SAMPLING_RATE
    np.testing.assert_array_equal(waveform[:48_000], whole("m4a")[:48_000])
    assert np.corrcoef(waveform[-32_000:], whole("m4a")[-32_000:])[0, 1] > 0.95


@pytest.mark.parametrize(("name", "most_seconds"), [("flac", 1.5), ("mp3_cbr", 3.5)])
def test_only_the_part_that_is_needed_is_decoded(name, most_seconds, monkeypatch):
    decoded = []
    original = SoundFileReader.blocks

    def counted(reader, start):
        reader._sound.read = lambda *args, **options: (
            decoded.append(block := sf.SoundFile.read(reader._sound, *args, **options)) or block
        )
        return original(reader, start)

    monkeypatch.setattr(SoundFileReader, "blocks", counted)
    load_audio(sample(name), start_seconds=5, duration_seconds=0.5)
    assert 0.5 < sum(map(len, decoded)) / 44_100 < most_seconds


@pytest.mark.parametrize("ending", [".mp3", ".wav", ".raw", ".gsm", ".txt", ""])
@pytest.mark.parametrize("name", ["flac", "m4a", "ogg_vorbis"])
def test_a_lying_ending_is_not_believed(name, ending, tmp_path):
    path = tmp_path / f"song{ending}"
    path.write_bytes(sample(name).read_bytes())
    np.testing.assert_array_equal(load_audio(path), whole(name))


def test_variable_mp3_without_xing_header_is_read_to_its_end(tmp_path):
    # A quiet start makes libsndfile expect too few frames: it would stop early.
    music = make_music(20, 44_100)
    music[: 5 * 44_100] = 0
    options = {"write_xing": "0"}
    path = encode(tmp_path / "song.mp3", music, 44_100, "mp3", "libmp3lame", 0, options)
    assert abs(sf.info(path).duration - 20) > 1
    with open_reader(path) as reader:
        assert isinstance(reader, FFmpegReader)
    assert len(load_audio(path)) / SAMPLING_RATE == pytest.approx(20, abs=0.1)
    assert probe_audio(path).duration_seconds == pytest.approx(20, abs=0.1)


def test_two_mp3_files_glued_together_are_both_read(tmp_path):
    path = tmp_path / "glued.mp3"
    path.write_bytes(2 * sample("mp3_vbr").read_bytes())
    assert len(load_audio(path)) / SAMPLING_RATE == pytest.approx(2 * SECONDS, abs=0.1)


@pytest.mark.parametrize(
    "kinds",
    [
        [("VORBIS", 44_100, 2), ("VORBIS", 22_050, 1), ("VORBIS", 44_100, 2)],
        [("OPUS", 48_000, 1), ("OPUS", 16_000, 2)],
        [("OPUS", 48_000, 2), ("VORBIS", 44_100, 2)],
    ],
)
def test_of_joined_ogg_files_all_are_heard_whatever_their_rates_and_channels(kinds, tmp_path):
    paths = [
        write_sound(
            tmp_path / f"{index}.ogg", make_music(3 + index, *kind), kind[0], "OGG", subtype
        )
        for index, (subtype, *kind) in enumerate(kinds)
    ]
    path = tmp_path / "radio.ogg"
    path.write_bytes(b"".join(each.read_bytes() for each in paths))
    full = load_audio(path)
    expected = np.concatenate([load_audio(each) for each in paths])
    assert len(full) == len(expected)
    assert probe_audio(path).duration_seconds == pytest.approx(len(full) / SAMPLING_RATE)
    assert probe_audio(path).sampling_rate_hz == kinds[0][1]
    # At the seams the resampler hears both; a rate below the first one's is resampled twice.
    assert np.corrcoef(full, expected)[0, 1] > 0.99
    np.testing.assert_allclose(full[:40_000], expected[:40_000], atol=1e-6)
    np.testing.assert_allclose(np.concatenate(list(stream_audio(path))), full, atol=1e-6)
    for start in (0.5, 2.9, 3.0, 3.1, 5.0, 6.9):
        crop = load_audio(path, start, 0.9)
        expected = full[round(start * SAMPLING_RATE) :][: len(crop)]
        np.testing.assert_allclose(crop, expected, atol=1e-6)
    assert "ends before 99 s" in error_of(path, start_seconds=99)


def test_of_joined_ogg_files_those_that_can_be_decoded_are_heard_and_it_is_told(tmp_path, caplog):
    log_note.cache_clear()
    good = write_sound(tmp_path / "good.ogg", make_music(2, 44_100), 44_100, "OGG", "VORBIS")
    content = bytearray(good.read_bytes())
    content[28:34] = b"nobody"
    path = tmp_path / "radio.ogg"
    path.write_bytes(good.read_bytes() + content + good.read_bytes())
    once = load_audio(good)
    np.testing.assert_allclose(load_audio(path)[:-50], np.tile(once, 2)[:-50], atol=0.05)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: is damaged: not all files joined in it can be decoded. Replace the file."
    ]


def test_an_mp3_behind_a_large_tag_is_still_read_by_libsndfile(tmp_path):
    path = tmp_path / "tagged.mp3"
    size = 200_000
    seven_bits = bytes(size >> 7 * k & 0x7F for k in (3, 2, 1, 0))
    path.write_bytes(b"ID3\4\0\0" + seven_bits + bytes(size) + sample("mp3_vbr").read_bytes())
    with open_reader(path) as reader:
        assert isinstance(reader, SoundFileReader)
    np.testing.assert_array_equal(load_audio(path), whole("mp3_vbr"))


def test_a_playlist_cannot_make_ffmpeg_open_other_files(tmp_path):
    (tmp_path / "secret.aac").write_bytes(sample("aac").read_bytes())
    playlist = tmp_path / "song.m3u8"
    entry = f"#EXTINF:10,\n{tmp_path / 'secret.aac'}\n"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n{entry}#EXT-X-ENDLIST\n")
    assert "can be decoded" in error_of(playlist)


@pytest.mark.parametrize("name", ["wav", "flac", "ogg_vorbis", "opus", "mp3_vbr", "aac", "webm"])
def test_of_a_truncated_file_what_is_there_is_used(name, tmp_path):
    path = tmp_path / "cut"
    content = sample(name).read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    rest = load_audio(path)
    assert 0.4 < len(rest) / len(whole(name)) < 0.8
    safe = len(rest) - SAMPLING_RATE // 5
    np.testing.assert_allclose(rest[:safe], whole(name)[:safe], atol=1e-5)
    crop = load_audio(path, start_seconds=2.5, duration_seconds=0.5)
    np.testing.assert_allclose(crop, rest[40_000:48_000], atol=1e-6)
    assert "ends before 8.5 s" in error_of(path, start_seconds=8.5)


def test_a_cut_flac_is_read_to_its_last_whole_frame_wherever_it_begins(tmp_path):
    # libsndfile's error hides how much of the last block had been read.
    content = sample("flac").read_bytes()
    path = tmp_path / "cut.flac"
    path.write_bytes(content[: len(content) * 2 // 5])
    lengths = {}
    for start in (0, 1_000, 50_000, 90_001):
        with open_reader(path) as reader:
            lengths[start] = start + sum(map(len, reader.blocks(start)))
    assert set(lengths.values()) == {lengths[0]}
    assert lengths[0] % 4_096 == 0  # FLAC's frame
    assert lengths[0] % 16_384 != 0  # our block


def test_a_truncated_m4a_without_its_index_is_refused(tmp_path):
    path = tmp_path / "cut.m4a"
    path.write_bytes(sample("m4a").read_bytes()[:40_000])
    assert "is not audio that can be decoded. Convert it to wav." in error_of(path)


def test_files_that_are_not_audio_are_refused_in_one_line(tmp_path):
    empty, text, noise = tmp_path / "empty.wav", tmp_path / "text.mp3", tmp_path / "noise.ogg"
    empty.touch()
    text.write_text("la la la\n" * 1_000)
    noise.write_bytes(np.random.default_rng(0).bytes(3_000))
    assert error_of(empty) == "is empty, 0 bytes. Replace the file."
    assert "can be decoded. Convert it to wav." in error_of(text)
    assert "decoded" in error_of(noise)
    assert error_of(tmp_path / "missing.wav") == "does not exist. Check the path."
    assert error_of(tmp_path).startswith("is a folder")
    for path in (empty, text, tmp_path / "missing.wav", tmp_path):
        with pytest.raises(AudioError):
            probe_audio(path)
        with pytest.raises(AudioError):
            list(stream_audio(path))


def test_a_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    assert error_of(tmp_path / "pipe.wav").startswith("is not a regular file")


@pytest.mark.parametrize("name", ["wav", "aiff", "ogg_vorbis"])
def test_a_file_of_no_samples_is_refused(name, tmp_path):
    path = write_sample(name, tmp_path, seconds=0)
    assert "decoded" in error_of(path)
    assert "decoded" in error_of(path, start_seconds=1)


def test_a_rate_that_only_a_damaged_header_claims_is_refused(tmp_path):
    path = write_sound(tmp_path / "slow.wav", np.zeros((100, 1)), 3, "WAV", "PCM_16")
    assert "claims a sampling rate of 3 Hz" in error_of(path)


def test_an_audio_error_survives_the_way_between_processes():
    error = pickle.loads(pickle.dumps(AudioError("a b.wav", "is empty (replace it)")))
    assert (str(error), error.path, error.reason) == (
        "a b.wav: is empty (replace it)",
        Path("a b.wav"),
        "is empty (replace it)",
    )


def test_damaged_bytes_either_decode_or_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    originals = [write_sample(name, tmp_path, seconds=0.3).read_bytes() for name in FORMATS]
    path = tmp_path / "damaged"
    num_decoded = 0
    began = time.process_time()
    for trial in range(300):
        content = bytearray(originals[trial % len(originals)])
        if trial % 4 == 0:
            del content[rng.integers(len(content)) :]
        elif trial % 4 == 1:
            del content[slice(*sorted(rng.integers(len(content), size=2)))]
        else:  # anywhere, or in the header
            reach = len(content) if trial % 4 == 2 else min(200, len(content))
            for position in rng.integers(reach, size=12):
                content[position] = rng.integers(256)
        path.write_bytes(content)
        try:
            waveform = load_audio(path, start_seconds=0.1 * (trial % 2))
            probe_audio(path)
        except AudioError:
            continue
        num_decoded += 1
        assert waveform.dtype == np.float32
        assert waveform.size
        assert np.isfinite(waveform).all()
    assert 50 < num_decoded < 290
    assert time.process_time() - began < 60


class _Missing(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        return load_audio(f"no: such: file-{index}.wav")


def test_an_error_of_a_data_loader_s_worker_is_still_one_line():
    loader = DataLoader(_Missing(), num_workers=1, multiprocessing_context="fork")
    with pytest.raises(AudioError) as caught:
        next(iter(loader))
    assert str(caught.value) == "no: such: file-0.wav: does not exist. Check the path."
