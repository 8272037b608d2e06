"""Loudness, tempo and key of sounds made here, whose tempo and key are known."""

import numpy as np
import pytest

from mulap.corpora.described.measure import (
    MODE_CONFIDENCE,
    TEMPO_CONFIDENCE,
    TONES,
    chroma,
    estimate_key,
    estimate_tempo,
    loudness,
    measure,
)
from mulap.model.features import MulapFeatureExtractor

RATE, SECONDS = 16_000, 18.0
EXTRACTOR = MulapFeatureExtractor("original")
FRAMES_PER_SECOND = RATE / EXTRACTOR.hop_length
TRIADS = {"major": (0, 4, 7), "minor": (0, 3, 7)}
# Degrees and kinds of the chords of a cadence.
CADENCES = {
    "major": ((0, "major"), (5, "major"), (7, "major"), (0, "major")),
    "minor": ((0, "minor"), (5, "minor"), (7, "major"), (0, "minor")),
}


def log_mels(samples: np.ndarray) -> np.ndarray:
    return EXTRACTOR.log_mel(EXTRACTOR.segment(samples))


def clicks(bpm: float, seconds: float = SECONDS) -> np.ndarray:
    """A short burst of noise on each beat, the first of four louder."""
    rng, samples = np.random.default_rng(0), np.zeros(round(RATE * seconds), np.float32)
    burst = rng.standard_normal(800) * np.exp(-np.arange(800) / 150)
    for beat in range(int(seconds * bpm / 60)):
        start = round(beat * 60 / bpm * RATE)
        part = samples[start : start + 800]
        part += (0.3 if beat % 4 else 0.5) * burst[: len(part)]
    return samples


def cadence(tonic: int, mode: str, chord_seconds: float = 1.1) -> np.ndarray:
    """Chords with a bass and four harmonics a tone, repeated; the tonic in semitones above C."""
    time = np.arange(round(RATE * chord_seconds)) / RATE
    chords = []
    for degree, kind in CADENCES[mode]:
        notes = [48 + tonic + degree, *(60 + tonic + degree + step for step in TRIADS[kind])]
        hz = [440 * 2 ** ((note - 69) / 12) for note in notes]
        tones = [np.sin(2 * np.pi * f * k * time) / k for f in hz for k in range(1, 5)]
        chords.append(np.sum(tones, axis=0) * np.exp(-time))
    return np.tile(0.05 * np.concatenate(chords), 4).astype(np.float32)


@pytest.mark.parametrize("bpm", [75, 90, 100, 120, 132, 150, 175])
def test_the_tempo_of_clicks_is_found_within_three_per_cent(bpm):
    tempo, confidence = estimate_tempo(log_mels(clicks(bpm)), FRAMES_PER_SECOND)
    assert tempo == pytest.approx(bpm, rel=0.03)
    assert confidence > TEMPO_CONFIDENCE


def test_noise_and_silence_have_no_tempo():
    noise = 0.1 * np.random.default_rng(0).standard_normal(round(RATE * SECONDS))
    assert estimate_tempo(log_mels(noise.astype(np.float32)), FRAMES_PER_SECOND)[1] < 0.3
    assert estimate_tempo(np.zeros((6, 96, 187), np.float32), FRAMES_PER_SECOND) == (0.0, 0.0)


@pytest.mark.parametrize("mode", ["major", "minor"])
@pytest.mark.parametrize("tonic", range(12))
def test_the_key_of_a_cadence_is_found(tonic, mode):
    found = estimate_key(cadence(tonic, mode))
    assert found[:2] == (TONES[tonic], mode)
    assert found[2] > MODE_CONFIDENCE


def test_a_tone_between_two_bins_counts_for_itself_alone():
    time = np.arange(RATE) / RATE
    for note in range(48, 84):
        tones = chroma(np.sin(2 * np.pi * 440 * 2 ** ((note - 69) / 12) * time).astype(np.float32))
        assert int(np.argmax(tones)) == note % 12
        assert tones.max() > 0.9


def test_silence_and_a_very_short_clip_have_no_mode():
    assert estimate_key(np.zeros(RATE * 3, np.float32)) == ("", "", 0.0)
    assert estimate_key(np.zeros(10, np.float32)) == ("", "", 0.0)


def test_loudness_is_rms_below_full_scale():
    wave = np.sin(np.arange(RATE * 3) * 0.3).astype(np.float32)
    assert loudness(wave) == pytest.approx(-3.01, abs=0.01)
    assert loudness(0.1 * wave) == pytest.approx(-23.01, abs=0.01)
    assert loudness(np.zeros(100, np.float32)) == -100.0
    assert loudness(np.zeros(0, np.float32)) == -100.0


def test_a_clip_is_measured_and_what_is_unsure_is_left_out():
    rising = clicks(150) * np.linspace(0.01, 1.0, round(RATE * SECONDS), dtype=np.float32)
    measured = measure(rising, log_mels(rising), FRAMES_PER_SECOND)
    assert measured.change_db > 12
    assert measured.tempo_bpm == pytest.approx(150, rel=0.03)
    assert measured.mode == ""  # clicks have no key
    drone = 0.1 * np.sin(np.arange(round(RATE * SECONDS)) * 0.2).astype(np.float32)
    measured = measure(drone, log_mels(drone), FRAMES_PER_SECOND)
    assert measured.tempo_bpm is None
    assert measured.change_db == pytest.approx(0, abs=0.1)
