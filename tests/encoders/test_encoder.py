"""The door: `mulap.load`, and what every encoder does with files and arrays."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from tiny import tone

import mulap
from mulap.audio import AudioError
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.encoders.load import load_encoder
from mulap.model.config import MulapAudioConfig

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
GOLDEN = Path(__file__).parents[1] / "golden" / "musicnn.npz"


@pytest.fixture(scope="module")
def encoder():
    return Embedder(random_backbone(MulapAudioConfig(**SMALL)), "small")


@pytest.fixture(scope="module")
def tagger():
    return mulap.load("musicnn-mtt")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


@pytest.fixture
def paths(tmp_path):
    """Two files at 44.1 kHz: stereo of 16 bits, and mono."""
    stereo = np.stack([tone(0, 20.0), tone(1, 20.0)], 1)[: 7 * 44_100]
    sf.write(tmp_path / "a.wav", stereo, 44_100, subtype="PCM_16")
    sf.write(tmp_path / "b.wav", tone(2, 20.0)[: 4 * 44_100], 44_100)
    return [tmp_path / "a.wav", tmp_path / "b.wav"]


def test_importing_mulap_imports_no_torch_and_load_is_load_encoder():
    code = "import sys, mulap; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
    assert mulap.load is load_encoder
    assert "load" in dir(mulap)  # notebooks complete it
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        mulap.laod  # noqa: B018


def test_one_path_gives_one_embedding_and_several_a_list(encoder, paths):
    first = encoder.embed(paths[0])
    assert first.file == str(paths[0])
    assert first.embeddings.shape == (2, encoder.embedding_size)
    assert first.start_seconds.tolist() == [0.0, 3.0]
    for several in (paths, tuple(map(str, paths)), iter(paths)):
        embedded = encoder.embed(several)
        assert [clip.file for clip in embedded] == list(map(str, paths))
        np.testing.assert_array_equal(embedded[0].embeddings, first.embeddings)
    assert encoder.embed(str(paths[0]), level="track").embeddings.shape == (1, 62)


def test_an_encoder_without_tags_of_its_own_says_nothing_of_tags(encoder):
    assert repr(encoder).endswith(": 62 numbers per segment>")


def test_what_a_notebook_shows_of_a_result_is_a_line(tagger, paths):
    assert repr(tagger) == "<musicnn-mtt: 1,506 numbers per segment, 50 tags>"
    embedding, tags = tagger.embed(paths[0]), tagger.tag(paths[0])
    assert repr(embedding) == f"Embedding({str(paths[0])!r}, 2 x 1506)"
    best = next(iter(tags.top(1)))
    assert repr(tags).startswith(f"Tags({str(paths[0])!r}, {best} 0.")
    assert repr(tags).endswith(", ... 50 tags x 2 segments)")
    assert len(repr(tags)) < len(str(paths[0])) + 150


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("name", ["small", "mel"])
def test_an_array_at_any_rate_and_of_any_type_has_the_vectors_of_its_file(
    encoder, paths, dtype, name
):
    encoder = encoder if name == "small" else load_encoder(name)
    samples, rate = sf.read(paths[0], dtype=dtype)
    assert samples.ndim == 2
    expected = encoder.embed(paths[0])
    for one in (samples, torch.from_numpy(samples)):
        found = encoder.embed(one, sampling_rate=rate)
        assert found.file == ""
        np.testing.assert_allclose(found.embeddings, expected.embeddings, rtol=1e-3, atol=1e-3)
        np.testing.assert_array_equal(found.start_seconds, expected.start_seconds)
    listed = encoder.embed([samples, samples.T], sampling_rate=rate)
    assert len(listed) == 2
    for clip in listed:
        np.testing.assert_array_equal(clip.embeddings, found.embeddings)


def test_a_long_array_is_grouped_as_its_file_and_has_the_same_bits(encoder, tmp_path):
    samples = np.random.default_rng(0).normal(size=70 * 16_000).astype(np.float32) * 0.1
    sf.write(tmp_path / "long.wav", samples, 16_000, subtype="FLOAT")
    for each in (encoder, load_encoder("mel")):
        expected = each.embed(tmp_path / "long.wav").embeddings
        assert len(expected) == 23
        found = each.embed(samples, sampling_rate=16_000).embeddings
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(each.embed_waveform(samples), expected)


def test_a_batch_has_a_row_for_each_clip(encoder):
    batch = np.stack([tone(0, 7.0), tone(1, 7.0), tone(2, 7.0)])
    embedded = encoder.embed_waveform(batch)
    assert [len(vectors) for vectors in embedded] == [2, 2, 2]
    np.testing.assert_array_equal(embedded[1], encoder.embed_waveform(batch[1]))
    tracks = encoder.embed_waveform(torch.from_numpy(batch), "track", sampling_rate=8_000)
    assert [vectors.shape for vectors in tracks] == [(1, 62)] * 3
    assert not np.allclose(tracks[0], encoder.embed_waveform(batch[0], "track"))


@pytest.mark.parametrize(
    ("audio", "options", "message"),
    [
        (np.zeros(99), {}, "sampling rate of the array is missing. Give sampling_rate, in Hz"),
        (np.zeros(0), {"sampling_rate": 16_000}, "the audio is empty"),
        ([], {"sampling_rate": 16_000}, "there is no audio"),
        (np.zeros((0, 99)), {"sampling_rate": 16_000}, "there is no audio"),
        (np.zeros((0, 2, 99)), {"sampling_rate": 16_000}, "there is no audio"),
        (np.float32(1), {"sampling_rate": 16_000}, "which is no clip"),
        (np.zeros((9, 9)), {"sampling_rate": 16_000}, "which is no clip"),
        (np.zeros(99), {"sampling_rate": 10}, "sampling_rate=10: must be"),
        (np.array([0.0, np.nan]), {"sampling_rate": 16_000}, "NaN.*number 1 from 0"),
        ("a.wav", {"sampling_rate": 16_000}, "files have their own. Leave it out"),
        (["a.wav", np.zeros(99)], {"sampling_rate": 16_000}, "paths and arrays are in one list"),
        ([np.zeros(99), "a.wav"], {"sampling_rate": 16_000}, "paths and arrays are in one list"),
        (None, {"sampling_rate": 16_000}, "a NoneType is no audio"),
        (b"a.wav", {"sampling_rate": 16_000}, "a bytes is no audio"),
        (np.zeros(99), {"sampling_rate": 16_000, "level": "frame"}, "level is 'frame'"),
    ],
)
def test_what_cannot_be_embedded_is_refused_in_one_line(encoder, audio, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        encoder.embed(audio, **options)
    assert "\n" not in str(caught.value)


def test_a_rate_of_zero_is_not_taken_for_the_encoders_own(encoder):
    with pytest.raises(ValueError, match="sampling_rate=0: must be"):
        encoder.embed_waveform(np.zeros(99), sampling_rate=0)


def test_a_file_that_cannot_be_decoded_is_refused_by_name(encoder, paths, tmp_path):
    (tmp_path / "junk.wav").write_bytes(b"not audio")
    with pytest.raises(AudioError, match="junk.wav"):
        encoder.embed([paths[0], tmp_path / "junk.wav"])


def test_the_golden_waveform_gets_tensorflow_musicnns_taggram(tagger, golden):
    tagged = tagger.tag(golden["waveform"], sampling_rate=16_000)
    np.testing.assert_allclose(tagged.scores, golden["mtt/taggram"], atol=2e-4)
    scores = tagged.top()
    expected = golden["mtt/taggram"].mean(0)
    assert next(iter(scores)) == golden["mtt/labels"][expected.argmax()]
    assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert scores["guitar"] == pytest.approx(expected[0], abs=2e-4)
    assert list(tagged.top(3).items()) == list(scores.items())[:3]


def test_loud_music_gets_tensorflow_musicnns_taggram_and_no_nan(golden):
    loud = golden["waveform"] * np.float32(golden["loud_gain"])
    tagged = mulap.load("musicnn-msd").tag(loud, sampling_rate=16_000)
    np.testing.assert_allclose(tagged.scores, golden["msd/loud_taggram"], atol=2e-4)


def test_several_files_get_their_tags_with_times(tagger, paths):
    first, second = tagger.tag(paths)
    with pytest.raises(ValueError, match=r"top\(-1\): gives no tags"):
        first.top(-1)
    assert (first.file, second.file) == tuple(map(str, paths))
    assert first.tags == tagger.tags
    assert first.scores.shape == (2, 50)
    np.testing.assert_allclose(first.start_seconds, [0.0, 2.992])
    np.testing.assert_array_equal(first.scores, tagger.tag(paths[0]).scores)


@pytest.mark.parametrize("name", ["random", "mel"])
def test_an_encoder_without_tags_says_so(name, paths):
    with pytest.raises(ValueError, match=f"{name}: has no tags. Give musicnn-mtt, musicnn-msd"):
        load_encoder(name).tag(paths[0])


def test_results_become_data_frames(tagger, paths):
    pandas = pytest.importorskip("pandas")
    embedded, tagged = tagger.embed(paths), tagger.tag(paths)
    frame = pandas.concat([clip.to_pandas() for clip in embedded])
    assert frame.index.names == ["file", "start_seconds"]
    assert frame.shape == (3, 1506)
    np.testing.assert_array_equal(frame.loc[str(paths[0])].to_numpy(), embedded[0].embeddings)
    tags = pandas.concat([clip.to_pandas() for clip in tagged])
    assert list(tags.columns) == list(tagger.tags)
    assert tags.loc[(str(paths[1]), 0.0), "guitar"] == tagged[1].scores[0, 0]


def test_a_file_whose_name_is_not_utf_8_becomes_a_data_frame(encoder, paths, tmp_path):
    pytest.importorskip("pandas")
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff.wav")
    paths[1].rename(odd)
    frame = encoder.embed(odd).to_pandas()
    assert frame.index[0] == (f"{tmp_path}/\\xff.wav", 0.0)  # as tables name it


@pytest.mark.parametrize("name", ["random", "mel"])
def test_an_encoder_that_has_embedded_can_be_pickled(name, paths):
    used = load_encoder(name)
    expected = used.embed(paths[0]).embeddings
    copied = pickle.loads(pickle.dumps(used))
    np.testing.assert_array_equal(copied.embed(paths[0]).embeddings, expected)


@pytest.mark.parametrize(
    ("device", "message"), [("cdua", "--device cdua"), ("meta", "--device meta"), ("", "--device ")]
)
def test_a_device_that_torch_cannot_use_is_refused(device, message):
    with pytest.raises(ValueError, match=f"{message}: torch cannot use it here. Give auto or cpu"):
        mulap.load("random", device=device)


def test_a_folder_is_named_as_text_or_as_a_path(tmp_path, encoder, paths):
    encoder.backbone.save_pretrained(tmp_path / "model")
    for name in (tmp_path / "model", str(tmp_path / "model")):
        loaded = mulap.load(name)
        assert loaded.name == str(tmp_path / "model")
        np.testing.assert_array_equal(
            loaded.embed(paths[1]).embeddings, encoder.embed(paths[1]).embeddings
        )
