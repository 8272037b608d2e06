"""Percentiles among neutral sentences: bounds, order, what they ignore, and what is no music."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import tone, write_joint_model

import mulap
from mulap.encoders import neutral as module
from mulap.encoders.neutral import (
    Neutral,
    embed_sounds,
    load_neutral,
    neutral_sentences,
    neutral_sounds,
    word,
)
from mulap.files import user_cache
from mulap.terminal import shown

SIZE = 12


def draw_points(seed, count):
    points = np.random.default_rng(seed).standard_normal((count, SIZE)).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def make_neutral(seed=0, least=2.0):
    return Neutral(draw_points([seed, 1], 200), draw_points([seed, 2], 3), np.full(3, least))


seeds = st.integers(0, 1000)


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(1, 9), st.integers(1, 9))
def test_a_percentile_is_the_share_of_neutral_sentences_that_fit_less(seed, num_tracks, num_texts):
    neutral = make_neutral(seed)
    tracks, queries = draw_points([seed, 3], num_tracks), draw_points([seed, 4], num_texts)
    found = neutral.percentile(tracks, queries)
    assert found.shape == (num_tracks, num_texts)
    assert found.dtype == np.float32
    for track, row in zip(tracks, found, strict=True):
        for query, each in zip(queries, row, strict=True):
            share = 100 * np.mean(neutral.sentences @ track < query @ track)
            assert each == pytest.approx(share, abs=0.51)  # one of 200 may be a tie
    assert found.min() >= 0
    assert found.max() <= 100


@settings(max_examples=25, deadline=None)
@given(seeds)
def test_what_fits_better_has_no_lower_percentile(seed):
    track, queries = draw_points([seed, 3], 1), draw_points([seed, 4], 40)
    order = np.argsort(queries @ track[0])
    found = make_neutral(seed).percentile(track, queries)[0, order]
    assert (np.diff(found) >= -0.51).all()
    assert found[-1] - found[0] > 10


@settings(max_examples=25, deadline=None)
@given(seeds, st.sampled_from([0.25, 0.5, 4.0]))
def test_lengths_of_points_order_and_other_tracks_or_queries_change_nothing(seed, length):
    neutral = make_neutral(seed)
    tracks, queries = draw_points([seed, 3], 5), draw_points([seed, 4], 7)
    found = neutral.percentile(tracks, queries)
    np.testing.assert_allclose(neutral.percentile(length * tracks, queries), found, atol=0.51)
    np.testing.assert_allclose(neutral.percentile(tracks, length * queries), found, atol=0.51)
    turned = neutral.percentile(tracks[::-1], queries[::-1])[::-1, ::-1]
    np.testing.assert_allclose(turned, found, atol=0.51)
    alone = neutral.percentile(tracks[2:3], queries[4:5])
    np.testing.assert_allclose(alone, found[2:3, 4:5], atol=0.51)


def test_a_track_that_everything_fits_has_no_high_percentiles_for_that():
    rng, axis = np.random.default_rng(0), np.eye(SIZE, dtype=np.float32)[0]
    sentences = axis + 0.3 * rng.standard_normal((500, SIZE))
    lengths = np.linalg.norm(sentences, axis=1, keepdims=True)
    neutral = replace(make_neutral(), sentences=(sentences / lengths).astype(np.float32))
    queries = axis + 0.3 * rng.standard_normal((200, SIZE))
    assert (queries @ axis).min() > 0
    found = neutral.percentile(axis[None], queries)
    assert 40 < found.mean() < 60


def test_what_sounds_like_no_music_has_no_percentiles():
    neutral = make_neutral(least=0.9)
    tracks = np.concatenate([neutral.sounds[:1] * 3, draw_points(5, 4)])
    assert neutral.is_music(tracks).tolist() == [False, True, True, True, True]
    found = neutral.percentile(tracks, draw_points(6, 3))
    assert (found[0] == 0).all()
    assert (found[1:] > 0).any(1).all()


def test_many_tracks_are_taken_some_at_a_time(monkeypatch):
    tracks, queries = draw_points(1, 23), draw_points(2, 4)
    found = make_neutral().percentile(tracks, queries)
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 5)
    np.testing.assert_allclose(make_neutral().percentile(tracks, queries), found, atol=0.51)
    assert make_neutral().percentile(tracks[:0], queries).shape == (0, 4)


def test_words_of_percentiles():
    assert [word(each) for each in (100, 99, 98.9, 95, 94.9, 0)] == [
        *("strong", "strong", "fair", "fair", "weak", "weak")
    ]


def test_neutral_sentences_are_varied_and_always_the_same():
    sentences = neutral_sentences()
    assert sentences == neutral_sentences()
    assert 900 <= len(sentences) <= 1000
    assert len(set(sentences)) == len(sentences)
    assert {"jazz", "a person speaking"} <= set(sentences)
    assert sum(" with " in each for each in sentences) > 100


def test_neutral_sounds_are_finite_and_always_the_same():
    for (least, samples), (_, again) in zip(neutral_sounds(), neutral_sounds(), strict=True):
        assert 0 < least < 1
        assert np.abs(samples).max() <= 1
        assert len(samples) >= 48_000
        np.testing.assert_array_equal(samples, again)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    return mulap.load(write_joint_model(tmp_path_factory.mktemp("model")))


def test_neutral_points_are_computed_once_for_a_model(encoder, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with shown():
        first = load_neutral(encoder)
        assert "once for this model" in capsys.readouterr().err
        again = load_neutral(mulap.load(encoder.name))
        assert capsys.readouterr().err == ""
        (cached,) = (tmp_path / "mulap" / "neutral").iterdir()
        cached.write_bytes(b"\0" * 9)  # damaged
        repaired = load_neutral(encoder)
        assert "cannot be read" in capsys.readouterr().err
    for name, value in vars(first).items():
        np.testing.assert_array_equal(getattr(again, name), value)
        np.testing.assert_allclose(getattr(repaired, name), value, atol=1e-5)
    assert first.sentences.shape == (len(neutral_sentences()), encoder.joint.size)
    # Untrained weights cannot tell music from what is none, and say that all is.
    assert first.is_music(encoder.in_joint_space().embed_waveform(tone(0, 3.1))).all()


def test_a_cache_that_cannot_be_written_is_said_and_harmless(
    encoder, capsys, monkeypatch, tmp_path
):
    (tmp_path / "mulap").write_text("a file, no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with shown():
        assert len(load_neutral(encoder).sentences) == len(neutral_sentences())
    assert "cannot be written" in capsys.readouterr().err


def test_the_cache_is_where_the_user_wants_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache() == tmp_path / "mulap"
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert user_cache() == tmp_path / "home" / ".cache" / "mulap"


@pytest.mark.slow
def test_mulap_small_takes_silence_noise_and_a_sine_for_no_music():
    encoder = mulap.load("mulap-small")
    sounds, least = embed_sounds(encoder)
    neutral = Neutral(draw_points(0, 3), sounds, least)
    rng, times = np.random.default_rng(7), np.arange(5 * 16_000) / 16_000
    others = {
        "silence": 0 * times,
        "noise": 0.2 * rng.standard_normal(len(times)),
        "a quiet sine": 0.05 * np.sin(2 * np.pi * 440 * times),
        "a low sine": 0.6 * np.sin(2 * np.pi * 70 * times),
    }
    joint = encoder.in_joint_space()
    for name, samples in others.items():
        point = joint.embed_waveform(samples.astype(np.float32), "track", 16_000)
        assert not neutral.is_music(point)[0], name
    chord = sum(np.sin(2 * np.pi * pitch * times) for pitch in (110, 165, 220, 277)) / 5
    beats = chord * np.exp(-3 * (times % 0.5)) + 0.05 * others["noise"] * (times % 0.25 < 0.05)
    assert neutral.is_music(joint.embed_waveform(beats.astype(np.float32), "track", 16_000))[0]
