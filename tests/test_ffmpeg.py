"""What FFmpeg reads: joined files of changing rates, damaged packets, lengths without a header."""

import numpy as np
import pytest
import soxr
from audio_samples import encode, make_music, sample, whole

from mulap.audio import SAMPLING_RATE, load_audio, log_note, probe_audio
from mulap.decode import open_reader
from mulap.ffmpeg import FFmpegReader, change_rate


def test_blocks_are_resampled_as_one_signal():
    music = make_music(1, 22_050)
    blocks = np.split(music, [100, 3_000, 3_001])
    changed = np.concatenate(list(change_rate(blocks, 22_050, 44_100)))
    np.testing.assert_allclose(changed, soxr.resample(music, 22_050, 44_100), atol=1e-6)
    assert list(change_rate([], 22_050, 44_100)) == []


@pytest.mark.parametrize("channels", [1, 2])
def test_an_mp3_of_another_rate_joined_to_the_first_is_heard_at_the_first_one_s(tmp_path, channels):
    first = encode(tmp_path / "a.mp3", make_music(3), 44_100, "mp3", "libmp3lame", 128_000)
    other = make_music(2, 22_050, channels)
    second = encode(tmp_path / "b.mp3", other, 22_050, "mp3", "libmp3lame", 64_000)
    path = tmp_path / "joined.mp3"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    with open_reader(path) as reader:
        assert isinstance(reader, FFmpegReader)
    waveform = load_audio(path)
    assert len(waveform) / SAMPLING_RATE == pytest.approx(5, abs=0.2)
    heard, expected = waveform[round(3.6 * SAMPLING_RATE) :][:SAMPLING_RATE], load_audio(second)
    lag = int(np.correlate(expected, heard, "valid").argmax())
    assert np.corrcoef(heard, expected[lag : lag + SAMPLING_RATE])[0, 1] > 0.95
    for start in (2.0, 3.3, 4.5):
        crop = load_audio(path, start, 0.4)
        expected = waveform[round(start * SAMPLING_RATE) :][: len(crop)]
        np.testing.assert_allclose(crop, expected, atol=1e-6)


@pytest.mark.parametrize(("num_files", "seconds", "num_segments"), [(2, (6, 0.9), 2), (3, (4,), 4)])
def test_mp3_files_joined_with_cat_are_heard_to_their_end(
    tmp_path, caplog, num_files, seconds, num_segments
):
    contents = [
        encode(tmp_path / "a.mp3", make_music(each), 44_100, "mp3", "libmp3lame").read_bytes()
        for each in (seconds * num_files)[:num_files]
    ]
    path = tmp_path / "joined.mp3"
    path.write_bytes(b"".join(contents))
    assert len(load_audio(path)) // (3 * SAMPLING_RATE) == num_segments
    assert probe_audio(path).duration_seconds == pytest.approx(
        sum((seconds * 3)[:num_files]), abs=0.2
    )
    assert not caplog.records  # the tags between them are no damage


def test_damaged_packets_are_told(tmp_path, caplog):
    log_note.cache_clear()
    content = bytearray(sample("m4a").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 2_000] = b"\xff" * 2_000
    path = tmp_path / "song.m4a"
    path.write_bytes(content)
    load_audio(path)
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: is damaged: parts of it cannot be decoded. Replace the file."
    ]


def test_a_length_that_so_few_bytes_cannot_hold_is_counted(tmp_path):
    path = encode(
        tmp_path / "a.avi", make_music(9), 44_100, "avi", "libmp3lame", 128_000, None, None, True
    )
    with open_reader(path) as reader:
        assert reader.duration_seconds() == pytest.approx(9, abs=0.1)
        assert sum(map(len, reader.blocks(0))) / 44_100 == pytest.approx(9, abs=0.1)


def test_intact_files_are_not_called_damaged(caplog):
    log_note.cache_clear()
    for name in ("m4a", "aac", "wma", "webm", "mp3_vbr_without_xing"):
        load_audio(sample(name))
        whole(name)
    assert not caplog.records
