"""The console synthesizer plays the notes it is given."""

import numpy as np
import pytest

from mulap.corpora.rendered.pulses import render_pulses
from mulap.corpora.rendered.scores import Note, Part

RATE = 16_000


@pytest.mark.parametrize(("role", "pitch"), [("lead", 69), ("chords", 60), ("bass", 45)])
@pytest.mark.parametrize("seed", range(4))
def test_a_note_has_its_pitch_and_its_place(role, pitch, seed):
    part = Part(role, 80, [Note(0.5, 1.0, pitch, 100)])
    sound = render_pulses(part, 0.0, 2.0, RATE, np.random.default_rng(seed))
    assert sound.shape == (2 * RATE,)
    assert np.abs(sound[: RATE // 2]).max() == 0
    assert np.abs(sound[int(1.55 * RATE) :]).max() == 0
    spectrum = np.abs(np.fft.rfft(sound[RATE // 2 : 3 * RATE // 2]))
    wanted = 440 * 2 ** ((pitch - 69) / 12)
    assert abs(np.argmax(spectrum[: int(1.5 * wanted)]) - wanted) <= 3


def test_drums_have_their_own_sounds_and_notes_before_the_start_are_left_out():
    part = Part("drums", 0, [Note(0.0, 0.1, 36, 100), Note(1.0, 0.1, 42, 100)])
    sound = render_pulses(part, 0.0, 2.0, RATE, np.random.default_rng(0))
    centroids = []
    for begin in (0, RATE):
        power = np.abs(np.fft.rfft(sound[begin : begin + RATE // 5])) ** 2
        centroids.append(float(np.sum(power * np.arange(len(power))) / power.sum() * 5))
    assert centroids[0] < 500 < 2_000 < centroids[1]
    late = render_pulses(part, 0.5, 1.0, RATE, np.random.default_rng(0))
    assert np.abs(late[: RATE // 2]).max() == 0
    assert np.abs(late[RATE // 2 :]).max() > 0.1
