"""Notes of lone instruments stay in range, leave no long silence, and are what is said of them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.corpora.rendered.passages import choose_voice, drum_hits, passage, single_notes
from mulap.corpora.rendered.styles import PROGRAM_NAMES
from mulap.corpora.rendered.truth import DRUMS, VOICES, family_of

SECONDS = 10.0


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.sampled_from(VOICES), st.integers(0, 2**32), st.sampled_from([single_notes, passage]))
def test_a_voice_plays_in_its_range_to_the_end_and_without_long_rests(voice, seed, play):
    part, truth = play(voice, np.random.default_rng(seed), SECONDS)
    assert (part, truth) == play(voice, np.random.default_rng(seed), SECONDS)
    assert part.program == voice.program
    assert truth.instruments == (voice.name,)
    assert truth.texture == "solo"
    for note in part.notes:
        assert voice.lowest <= note.pitch <= voice.highest
        assert 0 < note.duration_seconds <= voice.ring_seconds + 1e-9
        assert 1 <= note.velocity <= 127
    starts = sorted({note.start_seconds for note in part.notes})
    assert starts[0] < 1e-9
    assert starts[-1] > SECONDS - 6
    longest = max(1.2, 1.5 * voice.ring_seconds)
    assert max((b - a for a, b in pairwise(starts)), default=0) <= longest + 1e-6


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.sampled_from(VOICES), st.integers(0, 2**32))
def test_single_notes_come_one_after_the_other(voice, seed):
    part, truth = single_notes(voice, np.random.default_rng(seed), SECONDS)
    for before, after in pairwise(part.notes):
        assert after.start_seconds >= before.start_seconds + before.duration_seconds - 1e-9
    assert (truth.manner, truth.tempo_bpm, truth.key) == ("single notes", 0, "")
    middle = np.median([note.pitch for note in part.notes])
    assert truth.register == ("low" if middle <= 48 else "high" if middle >= 77 else "")


@pytest.mark.parametrize("drum", DRUMS, ids=lambda drum: str(drum.key))
def test_one_drum_alone_is_hit_again_and_again(drum):
    part, truth = drum_hits(drum, np.random.default_rng(drum.key), SECONDS)
    assert {note.pitch for note in part.notes} == {drum.key}
    assert part.role == "drums"
    assert truth.voice in drum.words
    assert truth.has_drums
    starts = [note.start_seconds for note in part.notes]
    assert starts[0] == 0
    assert starts[-1] > SECONDS - 5


def test_every_family_of_instruments_is_drawn_and_common_ones_more_often_where_asked():
    rng = np.random.default_rng(0)
    families = {family_of(choose_voice(rng).name) for _ in range(300)}
    assert families == {voice.family for voice in VOICES}
    plain = sum(choose_voice(rng).family == "keyboard" for _ in range(500))
    common = sum(choose_voice(rng, favours_common=True).family == "keyboard" for _ in range(500))
    assert common > 1.5 * plain


def test_voices_have_the_labels_of_their_programs_and_a_family():
    for voice in VOICES:
        assert PROGRAM_NAMES.get(voice.program, "english horn") == voice.name
        assert voice.family
        assert voice.lowest < voice.highest
