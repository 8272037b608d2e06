"""A synthesizer like those of 8-bit game consoles: pulse waves, a triangle and noise for drums.

It plays any part of notes, as a sound bank would, and is counted as one. Scope: one part of notes
to samples.
"""

import numpy as np

from mulap.corpora.rendered.scores import Note, Part
from mulap.corpora.wording import draw

_DUTIES = (0.125, 0.25, 0.5)
_RELEASE_SECONDS = 0.02
_VIBRATO_HERTZ = 5.5
_DEEP_DRUMS, _HIGH_DRUMS = (35, 36, 41, 43, 45), (42, 44, 46, 51, 59, 70, 69)


def render_pulses(
    part: Part, start: float, seconds: float, rate: int, rng: np.random.Generator
) -> np.ndarray:
    """Render what a part plays from `start` on: float32 (num_samples,).

    Notes that began before `start` are left out.
    """
    sound = np.zeros(round(seconds * rate), dtype=np.float32)
    duty = draw(rng, _DUTIES)
    vibrato = draw(rng, (0.0, 0.0, 0.006))  # of the frequency
    for note in part.notes:
        begin = round((note.start_seconds - start) * rate)
        if begin < 0 or begin >= len(sound):
            continue
        if part.role == "drums":
            wave = _hit(note, rate, rng)
        else:
            wave = _tone(note, rate, None if part.role == "bass" else duty, vibrato)
        wave = wave[: len(sound) - begin]
        sound[begin : begin + len(wave)] += (note.velocity / 127 * wave).astype(np.float32)
    return sound


def _tone(note: Note, rate: int, duty: float | None, vibrato: float) -> np.ndarray:
    """Return a pulse wave with its duty cycle, or a triangle wave if that is None."""
    times = np.arange(round((note.duration_seconds + _RELEASE_SECONDS) * rate)) / rate
    angular = 2 * np.pi * _VIBRATO_HERTZ
    frequency = 440 * 2 ** ((note.pitch - 69) / 12)
    phase = frequency * (times + vibrato * np.sin(angular * times) / angular) % 1
    if duty is None:
        return (1 - 4 * np.abs(phase - 0.5)) * _envelope(note, times)
    return (np.where(phase < duty, 1, -1) - (2 * duty - 1)) * _envelope(note, times)


def _envelope(note: Note, times: np.ndarray) -> np.ndarray:
    fade = np.clip((note.duration_seconds + _RELEASE_SECONDS - times) / _RELEASE_SECONDS, 0, 1)
    return np.minimum(times / 0.003, 1) * fade * (0.55 + 0.45 * np.exp(-times / 0.15))


def _hit(note: Note, rate: int, rng: np.random.Generator) -> np.ndarray:
    is_deep, is_high = note.pitch in _DEEP_DRUMS, note.pitch in _HIGH_DRUMS
    times = np.arange(round((0.06 if is_high else 0.18) * rate)) / rate
    if is_deep:  # a triangle that falls
        phase = np.cumsum(160 * np.exp(-times / 0.05) + 45) / rate % 1
        return (1 - 4 * np.abs(phase - 0.5)) * np.exp(-times / 0.07)
    noise = np.sign(rng.standard_normal(len(times)))
    if is_high:
        noise = np.diff(noise, prepend=0) / 2
    return 0.7 * noise * np.exp(-times / (0.015 if is_high else 0.06))
