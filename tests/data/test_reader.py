"""One pass over files: which can be used, how long each is, and what is kept of it."""

import json

import numpy as np
import pytest
import soundfile as sf
from audio_samples import encode, make_music, sample
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import RATE, make_extractor
from toy_task import write_tone

from mulap.audio import load_audio, log_note
from mulap.data import reader
from mulap.data.reader import (
    Decoding,
    count_cache_bytes,
    count_segments,
    decode_file,
    decode_files,
    read_part,
    read_tracks,
)
from mulap.model.features import MulapFeatureExtractor


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """A whole file, one that is no audio, one cut short, one that is missing, one from a pipe."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "text.wav").write_bytes(b"no audio at all")
    cut = encode(folder / "cut.mp3", make_music(20), 44_100, "mp3", "libmp3lame", 128_000)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    return [
        sample("ogg_vorbis"),
        folder / "text.wav",
        cut,
        folder / "a",
        sample("flac_from_a_pipe"),
    ]


@pytest.mark.parametrize("num_processes", [0, 2])
def test_every_file_is_decoded_once_in_any_number_of_processes(paths, caplog, num_processes):
    log_note.cache_clear()
    found = list(decode_files(paths, Decoding(RATE), num_processes))
    assert len(found) == 5
    assert [found[index].reason for index in (0, 2, 4)] == ["", "", ""]
    assert found[1].reason == "is not audio that can be decoded. Convert it to wav."
    assert found[3].reason == "does not exist. Check the path."
    for index in (0, 2, 4):
        assert found[index].num_samples == len(load_audio(paths[index]))
        seconds = found[index].num_samples / RATE
        assert found[index].duration_seconds == pytest.approx(seconds, abs=1 / RATE)
    assert found[1].num_samples == found[3].num_samples == 0
    told = f"{paths[2]}: is cut short: holds 10.0 s of 20.0 s. Replace the file."
    assert [record.getMessage() for record in caplog.records] == [told]


@pytest.mark.parametrize("seconds", [None, 4.0])
def test_what_is_kept_is_what_would_be_decoded(paths, seconds):
    extractor = make_extractor()
    for path in (paths[0], paths[2]):
        samples = load_audio(path, 0.0, seconds)
        kept = decode_file(Decoding(RATE, seconds, "samples"), path)
        assert np.array_equal(kept.samples, samples)
        assert (kept.num_samples, kept.log_mels) == (len(samples), None)
        kept = decode_file(Decoding(RATE, seconds, "log-mels", extractor), path)
        assert np.array_equal(kept.log_mels, extractor.log_mel(extractor.segment(samples)))
        assert (kept.num_samples, kept.samples) == (len(samples), None)


def test_only_as_much_as_is_asked_for_is_decoded(tmp_path):
    samples = make_music(30, RATE, 1)
    samples[20 * RATE :] = np.nan
    sf.write(tmp_path / "a.wav", samples, RATE, "FLOAT")
    assert decode_file(Decoding(RATE, 10.0), tmp_path / "a.wav").num_samples == 10 * RATE
    assert "NaN" in decode_file(Decoding(RATE), tmp_path / "a.wav").reason


def test_files_that_cannot_be_used_have_no_length_and_no_log_mels(paths):
    tracks = read_tracks(make_extractor(), paths, keep=True)
    assert [index for index, _ in tracks.failures] == [1, 3]
    assert (tracks.num_samples > 0).tolist() == [True, False, True, False, True]
    lengths = [len(log_mels) for log_mels in tracks.log_mels]
    assert lengths == [count_segments(make_extractor(), n) if n else 0 for n in tracks.num_samples]
    starts = read_tracks(make_extractor(), paths, keep=True, seconds=3.0)
    assert [len(log_mels) for log_mels in starts.log_mels] == [1, 0, 1, 0, 1]


def test_a_part_is_read_without_a_word(paths, caplog):
    log_note.cache_clear()
    part = read_part(make_extractor(), paths[2], 2.0, 30.0)
    assert part.shape == (2, 96, 188)
    assert not caplog.records


@settings(derandomize=True, max_examples=30)
@given(num_samples=st.integers(1, 250_000), variant=st.sampled_from(["port", "original"]))
def test_segments_are_counted_as_they_are_cut(num_samples, variant):
    extractor = MulapFeatureExtractor(variant=variant)
    waveform = np.zeros(num_samples, np.float32)
    assert count_segments(extractor, num_samples) == len(extractor.segment(waveform))


def test_known_lengths_spare_the_decoding_until_the_file_changes(tmp_path, monkeypatch):
    paths = [tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "missing.wav"]
    for path in paths[:2]:
        write_tone(path, 0, True, True, 4.0)
    extractor = MulapFeatureExtractor()
    lengths = tmp_path / "lengths.json"
    read_tracks(extractor, paths, lengths=lengths)
    write_tone(paths[1], 0, True, True, 5.0)
    decoded = []
    monkeypatch.setattr(
        reader, "decode_file", lambda how, path: decoded.append(path) or decode_file(how, path)
    )
    tracks = read_tracks(extractor, paths, lengths=lengths)
    assert decoded == paths[1:]
    assert tracks.num_samples.tolist() == [4 * RATE, 5 * RATE, 0]
    assert tracks.duration_seconds.tolist() == [4.0, 5.0, 0.0]
    assert tracks.failures == [(2, "does not exist. Check the path.")]


@pytest.mark.parametrize("text", ["", "[]", '{"a.wav|1|2|16000": [3]}', '{"a.wav|1|2|16000": "x"}'])
def test_a_damaged_list_of_lengths_is_a_line_with_the_remedy(tmp_path, text):
    lengths = tmp_path / "lengths.json"
    lengths.write_text(text)
    with pytest.raises(ValueError, match="lengths.json: is damaged. Delete it;"):
        read_tracks(MulapFeatureExtractor(), [], lengths=lengths)


def test_lengths_known_before_an_interruption_are_not_lost(tmp_path, monkeypatch):
    paths = [tmp_path / f"{index}.wav" for index in range(5)]
    for path in paths:
        write_tone(path, 0, True, True, 0.5)
    extractor, lengths = MulapFeatureExtractor(), tmp_path / "lengths.json"
    monkeypatch.setattr(reader, "_SAVE_EVERY_TRACKS", 2)
    decoded, stop_at = [], paths[4]

    def watch(how, path):
        if path == stop_at:
            raise KeyboardInterrupt
        decoded.append(path)
        return decode_file(how, path)

    monkeypatch.setattr(reader, "decode_file", watch)
    for _ in range(2):  # the second time, what was known must not be forgotten
        with pytest.raises(KeyboardInterrupt):
            read_tracks(extractor, paths, lengths=lengths)
        assert decoded == paths[:4]
    stop_at = None
    read_tracks(extractor, paths, lengths=lengths)
    assert decoded == paths


def test_lengths_that_version_0_1_wrote_are_read(tmp_path, monkeypatch):
    path, lengths = tmp_path / "a.wav", tmp_path / "lengths.json"
    write_tone(path, 0, True, True, 4.0)
    read_tracks(MulapFeatureExtractor(), [path], lengths=lengths)
    known = {stamp: samples for stamp, (samples, _) in json.loads(lengths.read_text()).items()}
    assert list(known.values()) == [4 * RATE]
    lengths.write_text(json.dumps(known))
    monkeypatch.setattr(reader, "decode_file", lambda *args: pytest.fail("decoded"))
    tracks = read_tracks(MulapFeatureExtractor(), [path], lengths=lengths)
    assert tracks.num_samples.tolist() == [4 * RATE]
    assert tracks.duration_seconds.tolist() == [4.0]


def test_the_cache_is_as_large_as_the_headers_say(tmp_path):
    paths = [tmp_path / f"{seconds}.wav" for seconds in (0.5, 3.0, 10.0)]
    for path in paths:
        write_tone(path, 0, True, True, float(path.stem))
    for variant in ("port", "original"):
        extractor = MulapFeatureExtractor(variant=variant)
        expected = sum(each.nbytes for each in read_tracks(extractor, paths, keep=True).log_mels)
        assert count_cache_bytes(extractor, [*paths, tmp_path / "missing.wav"]) == expected
