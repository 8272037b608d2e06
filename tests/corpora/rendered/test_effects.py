"""Effects: deterministic, within bounds, and doing what their names say."""

import numpy as np
import pytest

from mulap.corpora.rendered import effects
from mulap.corpora.rendered.effects import (
    LOUDEST_DB,
    SAMPLING_RATE,
    SOFTEST_DB,
    apply_effects,
)

TIMES = np.arange(4 * SAMPLING_RATE) / SAMPLING_RATE


def make_tone(frequency: float, until: float = 4.0) -> np.ndarray:
    tone = 0.1 * np.sin(2 * np.pi * frequency * TIMES) * (until > TIMES)
    return tone.astype(np.float32)


def energy_between(samples: np.ndarray, low: float, high: float) -> float:
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / SAMPLING_RATE)
    return float(power[(frequencies >= low) & (frequencies < high)].sum())


@pytest.mark.parametrize("seed", range(40))
def test_levels_stay_within_bounds_and_are_reported_truly(seed):
    noise = np.random.default_rng(1).standard_normal(len(TIMES)).astype(np.float32)
    samples, done = apply_effects(noise, np.random.default_rng(seed))
    assert (samples.shape, samples.dtype) == (noise.shape, np.float32)
    assert np.abs(samples).max() <= 0.9701
    rms_db = 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))
    assert done.loudness_db == pytest.approx(rms_db, abs=0.06)
    assert SOFTEST_DB - 0.1 <= rms_db <= LOUDEST_DB + 0.1


def test_one_seed_gives_the_same_samples_and_seeds_differ():
    tone = make_tone(440)
    first, done = apply_effects(tone, np.random.default_rng(3))
    again, done_again = apply_effects(tone, np.random.default_rng(3))
    np.testing.assert_array_equal(first, again)
    assert done == done_again
    other, _ = apply_effects(tone, np.random.default_rng(4))
    assert not np.array_equal(first, other)


def test_an_offset_of_the_samples_is_taken_off():
    noise = np.random.default_rng(1).standard_normal(len(TIMES)).astype(np.float32)
    for seed in range(8):
        samples, _ = apply_effects(noise + 0.5, np.random.default_rng(seed), has_character=False)
        assert abs(samples.mean()) < 0.01 * samples.std()


def test_what_has_no_character_is_asked_for_gets_none():
    for seed in range(60):
        _, done = apply_effects(make_tone(440), np.random.default_rng(seed), has_character=False)
        assert set(done.names) <= {"dry", "reverb", "long reverb"}


def test_all_effects_come_and_dry_is_said_of_nothing_with_an_effect():
    seen: set[str] = set()
    for seed in range(400):
        _, done = apply_effects(make_tone(440)[:8000], np.random.default_rng(seed))
        assert done.names == ("dry",) or "dry" not in done.names
        seen |= set(done.names)
    assert seen == {
        "dry", "reverb", "long reverb", "lo-fi", "telephone", "noise", "crackle", "echo",
    }  # fmt: skip


def test_a_telephone_has_neither_deep_nor_high_sounds():
    noise = np.random.default_rng(1).standard_normal(len(TIMES)).astype(np.float32)
    thin = effects._telephone(noise, np.random.default_rng(0))
    middle = energy_between(thin, 400, 3_000)
    assert energy_between(thin, 0, 150) < 0.01 * middle
    assert energy_between(thin, 6_000, 8_000) < 0.1 * middle


def test_reverb_and_echo_sound_on_after_the_music():
    tone = make_tone(440, until=1.0)
    later = slice(int(1.1 * SAMPLING_RATE), int(1.4 * SAMPLING_RATE))
    reverb = effects._reverberate(tone, 2.0, -6.0, np.random.default_rng(0))
    echo = effects._echo(tone, np.random.default_rng(0))
    for sound in (reverb, echo):
        assert np.abs(sound[later]).max() > 0.005
        np.testing.assert_array_equal(tone[later], 0)


def test_low_fi_is_muffled():
    noise = np.random.default_rng(1).standard_normal(len(TIMES)).astype(np.float32)
    worn = effects._low_fi(noise, np.random.default_rng(0))
    before = energy_between(noise, 5_000, 8_000) / energy_between(noise, 0, 2_000)
    after = energy_between(worn, 5_000, 8_000) / energy_between(worn, 0, 2_000)
    assert after < 0.1 * before


def test_the_compressor_brings_loud_and_soft_nearer():
    tone = make_tone(440) * np.where(TIMES < 2, 10, 1).astype(np.float32)
    pressed = effects._compress(tone, -30.0, 4.0)
    half = len(TIMES) // 2

    def ratio(sound: np.ndarray) -> float:
        return float(np.abs(sound[1000:half]).max() / np.abs(sound[half + 4000 :]).max())

    assert ratio(tone) == pytest.approx(10, rel=0.01)
    assert ratio(pressed) < 6


@pytest.mark.parametrize(("gain_db", "is_high"), [(6.0, True), (-6.0, True), (6.0, False)])
def test_a_shelf_raises_or_lowers_its_side_of_the_spectrum_only(gain_db, is_high):
    section = effects._shelf(1_000, gain_db, is_high)
    gains = {}
    for frequency in (50, 7_500):
        z = np.exp(-2j * np.pi * frequency / SAMPLING_RATE)
        response = np.polyval(section[2::-1], z) / np.polyval(section[:2:-1], z)
        gains[frequency] = 20 * np.log10(abs(response))
    inside, outside = (7_500, 50) if is_high else (50, 7_500)
    assert gains[inside] == pytest.approx(gain_db, abs=0.3)
    assert gains[outside] == pytest.approx(0, abs=0.3)
