"""Notes of lone instruments: single notes, melodies, chords, arpeggios, scales, riffs, drum hits.

An encoder that has only heard songs hears single notes badly, so these are of all instruments, in
all their range, soft and loud, long and short. Scope: notes and what is true of them.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from mulap.corpora.rendered.scores import (
    SCALES,
    Key,
    Note,
    Part,
    choose_chords,
    choose_key,
    chord_pitch_classes,
    num_bars_for,
    write_melody,
)
from mulap.corpora.rendered.styles import STYLES
from mulap.corpora.rendered.truth import HIGH_PITCH, LOW_PITCH, VOICES, Drum, Truth, Voice
from mulap.corpora.wording import draw, draw_weighted

_LONGEST_GAP_SECONDS = 0.15  # between single notes
_LONGEST_REST_SECONDS = 1.2
# What a lone voice plays, by its role.
_MANNERS = {
    "M": ("melody", "melody", "melody", "arpeggios", "scales", "riff"),
    "P": ("melody", "chords", "chords", "arpeggios", "arpeggios", "scales", "riff", "accompanied"),
    "B": ("riff", "riff", "melody", "arpeggios", "scales"),
}
_COMMON = {"keyboard": 4, "guitar": 2, "strings": 2, "drums": 0.4, "voice": 0.7}
_SCALES = (*SCALES.values(), (0, 2, 4, 7, 9), range(12))  # of what is played as a scale


@dataclass(frozen=True)
class _Passage:
    """What a lone voice plays."""

    voice: Voice
    key: Key
    chords: list[str]  # one a bar
    bar: float  # in seconds
    beats: int  # in a bar


def single_notes(voice: Voice, rng: np.random.Generator, seconds: float) -> tuple[Part, Truth]:
    """Play one note after the other without a tune, each until it has rung or a bit less."""
    low, high = _span(voice, rng)
    is_one = rng.random() < 0.15  # the same note again and again
    shortest = min(0.35, voice.ring_seconds / 2)
    length = float(np.exp(rng.uniform(np.log(shortest), np.log(voice.ring_seconds))))
    velocity = int(rng.integers(35, 120))
    pitch, at, notes = int(rng.integers(low, high + 1)), 0.0, []
    while at < seconds:
        duration = float(np.clip(length * rng.uniform(0.7, 1.4), shortest, voice.ring_seconds))
        hard = int(np.clip(velocity + rng.integers(-12, 13), 25, 127))
        notes.append(Note(at, duration, pitch, hard))
        at += duration + float(rng.uniform(0, _LONGEST_GAP_SECONDS))
        pitch = pitch if is_one else int(rng.integers(low, high + 1))
    return _finish(voice, notes, "single notes", 0, "", "")


def passage(voice: Voice, rng: np.random.Generator, seconds: float) -> tuple[Part, Truth]:
    """Let an instrument play alone: a melody, chords, arpeggios, scales or a riff."""
    style = draw(rng, STYLES)
    bpm = int(np.exp(rng.uniform(np.log(50), np.log(185))))
    key = choose_key(rng, style)
    bar_seconds = 4 * 60 / bpm if style.beats_per_bar != 3 else 3 * 60 / bpm
    beats = 3 if style.beats_per_bar == 3 else 4
    chords = choose_chords(rng, style, key, num_bars_for(seconds, bar_seconds))
    manner = draw(rng, _MANNERS[voice.roles])
    notes = _WRITERS[manner](_Passage(voice, key, chords, bar_seconds, beats), rng)
    manner = "melody" if manner == "accompanied" else manner
    is_tonal = manner != "scales"
    return _finish(
        voice, notes, manner, bpm, f"{beats}/4", str(key) if is_tonal else ""
    )  # fmt: skip


def drum_hits(drum: Drum, rng: np.random.Generator, seconds: float) -> tuple[Part, Truth]:
    """Hit one drum of the kit at an even pulse or in a short rhythm that comes back."""
    bpm = int(np.exp(rng.uniform(np.log(70), np.log(160))))
    beat = 60 / bpm
    step = beat / 4 if drum.pulse >= 2 else beat / 2
    pattern = rng.random(8) < min(0.8, drum.pulse / 4 + 0.2)
    pattern[0] = True
    if drum.pulse < 1:
        pattern, step = np.array([True]), beat * 4
    elif rng.random() < 0.4:  # an even pulse
        pattern, step = np.array([True]), beat / drum.pulse
    loud, notes = int(rng.integers(60, 115)), []
    for number in range(int(seconds / step) + 1):
        if pattern[number % len(pattern)]:
            accent = 10 if number % len(pattern) == 0 else int(rng.integers(-15, 1))
            notes.append(Note(number * step, 0.2, drum.key, int(np.clip(loud + accent, 20, 127))))
    truth = Truth(
        "drum hits", "", (), "drums", "drums", bpm, "4/4", "", (), True,
        voice=draw(rng, drum.words), manner="hits",
    )  # fmt: skip
    return Part("drums", 0, notes), truth


def _span(voice: Voice, rng: np.random.Generator) -> tuple[int, int]:
    """Draw a part of the voice's range, sometimes all of it."""
    if rng.random() < 0.4:
        return voice.lowest, voice.highest
    low = int(rng.integers(voice.lowest, max(voice.lowest + 1, voice.highest - 7)))
    return low, min(voice.highest, low + int(rng.integers(5, 17)))


def _finish(
    voice: Voice, notes: list[Note], manner: str, bpm: int, metre: str, key: str
) -> tuple[Part, Truth]:
    notes = _fill_gaps(notes, voice.ring_seconds)
    middle = float(np.median([note.pitch for note in notes]))
    register = "low" if middle <= LOW_PITCH else "high" if middle >= HIGH_PITCH else ""
    source = "single notes" if manner == "single notes" else "solo passage"
    truth = Truth(
        source, "", (), "solo", "solo", bpm, metre, key, (voice.name,), False,
        voice=voice.words[0], manner=manner, register=register,
    )  # fmt: skip
    return Part("lead", voice.program, notes), truth


def _fill_gaps(notes: list[Note], ring_seconds: float) -> list[Note]:
    """Play a note again where it would have died away long before the next one."""
    longest = max(_LONGEST_REST_SECONDS, 1.5 * ring_seconds)
    filled = []
    starts = sorted({note.start_seconds for note in notes})
    after = dict(itertools.pairwise(starts))
    for note in notes:
        times = math.ceil((after.get(note.start_seconds, 0) - note.start_seconds) / longest)
        step = (after.get(note.start_seconds, 0) - note.start_seconds) / max(times, 1)
        filled += [
            replace(note, start_seconds=note.start_seconds + number * step)
            for number in range(max(times, 1))
        ]
    return sorted(filled, key=lambda note: note.start_seconds)


def _melody(of: _Passage, rng: np.random.Generator) -> list[Note]:
    style = next(s for s in STYLES if s.beats_per_bar == of.beats)
    notes = write_melody(rng, style, of.key, of.chords, of.bar, of.voice).notes
    ring = of.voice.ring_seconds
    return [replace(n, duration_seconds=min(n.duration_seconds, ring)) for n in notes]


def _accompanied(of: _Passage, rng: np.random.Generator) -> list[Note]:
    """Play a melody with the right hand, and chords or broken chords with the left."""
    low, high = of.voice.lowest, of.voice.highest
    third = low + (high - low) // 3
    upper = replace(of, voice=replace(of.voice, lowest=third, roles="P"))
    lower = replace(of, voice=replace(of.voice, highest=third + 7, roles="P"))
    left = _chords if rng.random() < 0.5 else _arpeggios
    soft = [replace(n, velocity=int(0.72 * n.velocity)) for n in left(lower, rng)]
    return sorted([*soft, *_melody(upper, rng)], key=lambda n: n.start_seconds)


def _close_voicing(voice: Voice, chord: str, bottom: int) -> list[int]:
    """Return a chord's pitches upwards from about `bottom`, within the voice's range."""
    pitches = [bottom + (pitch - bottom) % 12 for pitch in chord_pitch_classes(chord)]
    return sorted(p for p in pitches if voice.lowest <= p <= voice.highest) or [bottom]


def _bottom(voice: Voice, rng: np.random.Generator) -> int:
    lowest = max(voice.lowest, 36 if voice.highest > 60 else voice.lowest)
    return int(rng.integers(lowest, max(lowest + 1, min(voice.highest - 12, 72))))


def _chords(of: _Passage, rng: np.random.Generator) -> list[Note]:
    per_bar = draw(rng, (1, 1, 2, of.beats))
    step = of.bar / per_bar
    length = min(step * float(rng.uniform(0.5, 0.98)), of.voice.ring_seconds)
    bottom, velocity = _bottom(of.voice, rng), int(rng.integers(55, 110))
    return [
        Note(number * of.bar + part * of.bar / per_bar, length, pitch, velocity)
        for number, chord in enumerate(of.chords)
        for part in range(per_bar)
        for pitch in _close_voicing(of.voice, chord, bottom)
    ]


def _arpeggios(of: _Passage, rng: np.random.Generator) -> list[Note]:
    per_bar = of.beats * draw(rng, (1, 2, 2, 4))
    while of.bar / per_bar < 0.09:
        per_bar //= 2
    step, bottom = of.bar / per_bar, _bottom(of.voice, rng)
    held = step * draw(rng, (0.9, 2.5)) if of.voice.roles == "P" else 0.9 * step
    length = min(held, of.voice.ring_seconds)
    velocity, notes = int(rng.integers(60, 110)), []
    for number, chord in enumerate(of.chords):
        tones = _close_voicing(of.voice, chord, bottom)
        tones += [tones[0] + 12] if tones[0] + 12 <= of.voice.highest else []
        row = tones + tones[-2:0:-1]
        notes += [
            Note(number * of.bar + i * step, length, row[i % len(row)], velocity)
            for i in range(per_bar)
        ]
    return notes


def _scales(of: _Passage, rng: np.random.Generator) -> list[Note]:
    steps = draw(rng, _SCALES)
    low, high = _span(of.voice, rng)
    row = [p for p in range(low, high + 1) if (p - of.key.tonic) % 12 in steps] or [low]
    row += row[-2:0:-1]
    step = max(0.1, of.bar / of.beats / draw(rng, (1, 2, 2, 4)))
    length, velocity = min(0.95 * step, of.voice.ring_seconds), int(rng.integers(60, 110))
    total = int(len(of.chords) * of.bar / step)
    return [Note(i * step, length, row[i % len(row)], velocity) for i in range(total)]


def _riff(of: _Passage, rng: np.random.Generator) -> list[Note]:
    """Repeat a figure of one or two bars, moved to the root of each chord."""
    bars, step = int(rng.integers(1, 3)), of.bar / of.beats / 2
    slots = [i for i in range(bars * of.beats * 2) if i == 0 or rng.random() < 0.6]
    degrees = [0, *rng.choice([0, 0, 3, 5, 7, 7, 10, 12], len(slots) - 1)]
    room = max(1, of.voice.highest - 12 - of.voice.lowest)
    base, velocity = of.voice.lowest + int(rng.integers(room)), int(rng.integers(70, 115))
    ends = [*slots[1:], bars * of.beats * 2]
    notes = []
    for number in range(0, len(of.chords), bars):
        root = base + (chord_pitch_classes(of.chords[number])[0] - base) % 12
        root -= 12 if root + 12 > of.voice.highest else 0
        for slot, end, degree in zip(slots, ends, degrees, strict=True):
            length = min((end - slot) * step * 0.9, of.voice.ring_seconds)
            pitch = int(root + degree)
            pitch += 12 if pitch < of.voice.lowest else 0
            notes.append(Note(number * of.bar + slot * step, length, pitch, velocity))
    return notes


_WRITERS: dict[str, Callable[..., list[Note]]] = {
    "melody": _melody, "accompanied": _accompanied, "chords": _chords, "arpeggios": _arpeggios,
    "scales": _scales, "riff": _riff,
}  # fmt: skip


def choose_voice(rng: np.random.Generator, favours_common: bool = False) -> Voice:
    """Draw a voice: first the family, so that rare families are heard as often as others.

    With `favours_common`, pianos, guitars and solo strings come more often.
    """
    families = sorted({voice.family for voice in VOICES})
    family = draw_weighted(rng, {f: _COMMON.get(f, 1) if favours_common else 1 for f in families})
    voices = [voice for voice in VOICES if voice.family == family]
    return draw_weighted(rng, {v: 2 if v.program == 0 and favours_common else 1 for v in voices})
