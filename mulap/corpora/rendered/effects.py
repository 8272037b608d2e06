"""Effects that vary how rendered music sounds, so that a network cannot learn a sound bank.

Equaliser, low-pass, saturation, compression, reverb, echo, noise and level, on mono float32 samples
at 16 kHz, all drawn from one generator. What can be heard gets a name that a caption may use.
Scope: samples; instruments and notes are settled before.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import signal

from mulap.corpora.wording import draw_weighted

SAMPLING_RATE = 16_000
# Effect -> how often. Those of `_NAMED` below are drawn one at most, others together.
_EQUALISER_RATE = 0.5
_COMPRESSOR_RATE = 0.35
_SATURATION_RATE = 0.15
_REVERB_RATE = 0.6
_CHARACTER_RATES = {
    "": 0.82, "lo-fi": 0.06, "telephone": 0.015, "noise": 0.045, "crackle": 0.02, "echo": 0.04,
}  # fmt: skip
_LONG_REVERB_SECONDS = 1.6
_LONG_REVERB_DB = -7.0  # of the reverb under the music
LOUDEST_DB, SOFTEST_DB = -11.0, -40.0
LOUD_DB, SOFT_DB = -14.5, -33.0
"""RMS levels, in dB below full scale, from which on a caption may call a clip loud or quiet."""
_HIGHEST_PEAK = 0.97


@dataclass(frozen=True)
class Effects:
    """What was done to a clip."""

    names: tuple[str, ...]  # audible ones: "reverb", "long reverb", "dry", "lo-fi", "echo" ...
    loudness_db: float  # RMS below full scale


def apply_effects(
    samples: np.ndarray, rng: np.random.Generator, has_character: bool = True
) -> tuple[np.ndarray, Effects]:
    """Apply random effects and a random level.

    Args:
        samples: float32 (num_samples,), any level, not silent.
        rng: the only source of what is drawn.
        has_character: allow noise, echo and narrow bandwidths.

    Returns:
        Samples of the same length with a peak of at most 0.97, and what was done.
    """
    length = len(samples)
    sound = _filter(_NO_DC, samples)  # samples of some instruments have an offset
    sound = (sound / np.abs(sound).max()).astype(np.float32)
    names = []
    if rng.random() < _EQUALISER_RATE:
        sound = _equalise(sound, rng)
    if rng.random() < _COMPRESSOR_RATE:
        sound = _compress(sound, float(rng.uniform(-30, -16)), float(rng.uniform(2, 5)))
    if rng.random() < _SATURATION_RATE:
        drive = float(rng.uniform(1, 2.5))
        sound = np.tanh(drive * sound) / np.float32(np.tanh(drive))
    character = draw_weighted(rng, _CHARACTER_RATES)
    if character and has_character:
        sound = _CHARACTERS[character](sound, rng)
        names.append(character)
    if rng.random() < _REVERB_RATE:
        seconds = float(np.exp(rng.uniform(np.log(0.2), np.log(3.2))))
        level_db = float(rng.uniform(-20, -3))
        sound = _reverberate(sound, seconds, level_db, rng)
        if seconds > _LONG_REVERB_SECONDS and level_db > _LONG_REVERB_DB:
            names.append("long reverb")
        elif seconds > 0.7 and level_db > -12:
            names.append("reverb")
    elif not names:
        names.append("dry")
    sound, loudness_db = _set_level(sound[:length], float(rng.uniform(SOFTEST_DB, LOUDEST_DB)))
    return sound.astype(np.float32), Effects(tuple(names), round(loudness_db, 1))


def _set_level(sound: np.ndarray, target_db: float) -> tuple[np.ndarray, float]:
    """Bring the RMS to a level, or as near as the peaks allow."""
    rms, peak = float(np.sqrt(np.mean(np.square(sound)))), float(np.abs(sound).max())
    gain = min(10 ** (target_db / 20) / rms, _HIGHEST_PEAK / peak)
    return sound * np.float32(gain), 20 * float(np.log10(gain * rms))


def _filter(sections: np.ndarray, sound: np.ndarray) -> np.ndarray:
    return np.asarray(signal.sosfilt(sections, sound))


def _butter(order: int, cutoff: float | tuple[float, float]) -> np.ndarray:
    """Return a low-pass filter, or a band-pass for two frequencies in Hz."""
    kind = "band" if isinstance(cutoff, tuple) else "low"
    return np.asarray(signal.butter(order, cutoff, kind, fs=SAMPLING_RATE, output="sos"))


_NO_DC = np.asarray(signal.butter(1, 20, "high", fs=SAMPLING_RATE, output="sos"))


def _shelf(frequency: float, gain_db: float, is_high: bool) -> np.ndarray:
    """Return a second-order section of a shelving filter (R. Bristow-Johnson's cookbook, S = 1)."""
    a, w = 10 ** (gain_db / 40), 2 * np.pi * frequency / SAMPLING_RATE
    cos, beta, sign = np.cos(w), np.sqrt(2 * a) * np.sin(w), 1 if is_high else -1
    b0 = a * (a + 1 + sign * (a - 1) * cos + beta)
    b1 = -sign * 2 * a * (a - 1 + sign * (a + 1) * cos)
    b2 = a * (a + 1 + sign * (a - 1) * cos - beta)
    a0 = a + 1 - sign * (a - 1) * cos + beta
    a1 = sign * 2 * (a - 1 - sign * (a + 1) * cos)
    a2 = a + 1 - sign * (a - 1) * cos - beta
    return np.array([b0, b1, b2, a0, a1, a2]) / a0


def _bell(frequency: float, gain_db: float, q: float) -> np.ndarray:
    """Return a second-order section of a peaking filter, from the same cookbook."""
    a, w = 10 ** (gain_db / 40), 2 * np.pi * frequency / SAMPLING_RATE
    alpha = np.sin(w) / (2 * q)
    section = [1 + alpha * a, -2 * np.cos(w), 1 - alpha * a]
    section += [1 + alpha / a, -2 * np.cos(w), 1 - alpha / a]
    return np.array(section) / (1 + alpha / a)


def _equalise(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sections = [
        _shelf(float(rng.uniform(80, 400)), float(rng.uniform(-6, 6)), is_high=False),
        _shelf(float(rng.uniform(2_000, 5_000)), float(rng.uniform(-8, 6)), is_high=True),
        _bell(
            float(np.exp(rng.uniform(np.log(300), np.log(4_000)))),
            float(rng.uniform(-6, 6)),
            float(rng.uniform(0.5, 2)),
        ),
    ]
    return _filter(np.stack(sections), sound)


def _compress(sound: np.ndarray, threshold_db: float, ratio: float) -> np.ndarray:
    """Turn down what is above a threshold, by its level over about 50 ms."""
    hop = SAMPLING_RATE // 200
    frames = np.pad(sound, (0, -len(sound) % hop)).reshape(-1, hop)
    power = np.mean(np.square(frames), axis=1)
    level = np.asarray(signal.lfilter([0.1], [1, -0.9], power))
    over_db = np.maximum(10 * np.log10(level + 1e-9) - threshold_db, 0)
    gain = 10 ** (-over_db * (1 - 1 / ratio) / 20)
    times = np.arange(len(sound)) / hop
    curve = np.interp(times, np.arange(len(gain)) + 0.5, gain)
    return sound * curve.astype(np.float32)


def _reverberate(
    sound: np.ndarray, seconds: float, level_db: float, rng: np.random.Generator
) -> np.ndarray:
    """Add reverb: noise that decays by 60 dB in `seconds`, darker than the music."""
    times = np.arange(round(min(seconds, 2.5) * SAMPLING_RATE)) / SAMPLING_RATE
    tail = rng.standard_normal(len(times)).astype(np.float32) * np.exp(-6.9 * times / seconds)
    cutoff = float(rng.uniform(1_500, 6_000))
    tail = _filter(_butter(1, cutoff), tail)
    delay = np.zeros(round(float(rng.uniform(0, 0.04)) * SAMPLING_RATE), dtype=np.float32)
    response = np.concatenate([delay, tail.astype(np.float32)])
    wet = signal.oaconvolve(sound, response)[: len(sound)]
    gain = 10 ** (level_db / 20) * _rms(sound) / _rms(wet)
    return sound + wet.astype(np.float32) * np.float32(gain)


def _rms(sound: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(sound)))) + 1e-9


def _echo(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Repeat the music three times, each softer."""
    step = round(float(rng.uniform(0.18, 0.45)) * SAMPLING_RATE)
    decay = float(rng.uniform(0.45, 0.65))
    out = sound.copy()
    for number in (1, 2, 3):
        out[number * step :] += np.float32(decay**number) * sound[: -number * step]
    return out


def _low_fi(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Make it muffled, saturated, wavering and a little noisy, like a worn tape."""
    seconds = np.arange(len(sound)) / SAMPLING_RATE
    speed, depth = float(rng.uniform(0.4, 1.5)), float(rng.uniform(0.3e-3, 1.2e-3))
    waver = depth * np.sin(2 * np.pi * speed * seconds) / speed
    sound = np.interp(seconds + waver, seconds, sound)
    cutoff = float(rng.uniform(1_800, 3_500))
    sound = _filter(_butter(3, cutoff), sound)
    sound = np.tanh(2.5 * sound / np.abs(sound).max())
    return _hiss(sound.astype(np.float32), rng, (-32, -26))


def _hiss(
    sound: np.ndarray, rng: np.random.Generator, under_db: tuple[float, float] = (-26, -16)
) -> np.ndarray:
    noise = rng.standard_normal(len(sound)).astype(np.float32)
    noise = np.asarray(signal.lfilter([1, 0.5], [1], noise), dtype=np.float32)
    gain = 10 ** (float(rng.uniform(*under_db)) / 20) * _rms(sound) / _rms(noise)
    return sound + noise * np.float32(gain)


def _crackle(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Add the clicks and the hiss of an old record, and take off deep and high sounds."""
    band = _butter(2, (150, 4_000))
    sound = _filter(band, sound).astype(np.float32)
    clicks = np.zeros_like(sound)
    num_clicks = rng.poisson(float(rng.uniform(10, 30)) * len(sound) / SAMPLING_RATE)
    places = rng.integers(len(sound), size=num_clicks)
    clicks[places] = rng.exponential(1.0, num_clicks) * rng.choice([-1, 1], num_clicks)
    clicks = _filter(_butter(1, 5_000), clicks)
    clicks *= np.abs(sound).max() * float(rng.uniform(0.15, 0.4))
    return _hiss(sound + clicks.astype(np.float32), rng, (-34, -26))


def _telephone(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    band = _butter(4, (350, 3_200))
    sound = _filter(band, sound)
    return np.tanh(float(rng.uniform(2, 4)) * sound / np.abs(sound).max()).astype(np.float32)


_CHARACTERS: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "lo-fi": _low_fi, "telephone": _telephone, "noise": _hiss, "crackle": _crackle, "echo": _echo,
}  # fmt: skip
