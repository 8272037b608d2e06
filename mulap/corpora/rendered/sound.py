"""Sound for the demo corpus: parts of notes to a mix in which every named instrument is audible.

Each part is rendered alone with a General MIDI sound bank (tinysoundfont, the bank that comes
inside pretty_midi), so its level in the mix is measured and set, not hoped for. Sounds are made at
twice the wanted rate and brought down with soxr: the synthesizer does not filter before it
resamples. What the notes are is `scores`' business.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from mulap.corpora.rendered.scores import Note, Part, package_folder
from mulap.corpora.rendered.styles import PROGRAM_NAMES

SOUND_BANK = "TimGM6mb.sf2"
# Levels in decibels below the loudest group of parts; softer instruments are not mentioned.
_LEAD_ABOVE_REST_DB = (0.0, 4.0)
_SOFTEST_CHORDS_DB = -8.0
_SOFTEST_DRUMS_DB = -10.0
SOFTEST_NAMED_DB = -18.0
_SILENT_RMS = 1e-5
_PEAK_DB = (-12.0, -1.0)


@dataclass(frozen=True)
class Mix:
    """A rendered clip."""

    samples: np.ndarray  # float32 (num_samples, 2); peak under 1 once the level is set
    # instrument name ("drums" for drums) -> level under the loudest group, only those that play and
    # are heard, loudest first
    levels_db: dict[str, float]
    lead: str  # the name of the lead, else of the loudest instrument that is no bass and no drum


def find_demo_bank() -> Path:
    """Return the path of the sound bank inside pretty_midi; ValueError if it is not there."""
    bank = package_folder("pretty_midi") / SOUND_BANK
    if not bank.exists():
        raise ValueError(
            f"the sound bank {SOUND_BANK} is missing in the package pretty_midi. Run pip install "
            "--no-deps -r requirements-demo.txt"
        )
    return bank


def make_synth(sampling_rate: int, bank: Path | None = None) -> tuple[Any, int]:
    """Open a sound bank, the demo's if none is given; ValueError if something is not installed."""
    package_folder("tinysoundfont")  # one clear line instead of ImportError
    import tinysoundfont  # noqa: PLC0415  (only the demo needs it, and it is no dependency of ours)

    synth = tinysoundfont.Synth(samplerate=sampling_rate, gain=-12)
    return synth, synth.sfload(str(bank or find_demo_bank()), max_voices=96)


def render_part(
    synth: Any, bank_id: int, part: Part, start: float, seconds: float, kit: int = 0
) -> np.ndarray:
    """Render what a part plays from `start` on: float32 (num_samples, 2) at the synthesizer's rate.

    Notes that began before `start` are left out, so that a clip starts cleanly. Drums are played on
    the bank's drum kit number `kit`.
    """
    is_drums = part.role == "drums"
    channel, rate = (9 if is_drums else 0), synth.samplerate
    synth.program_select(
        channel, bank_id, 128 if is_drums else 0, kit if is_drums else part.program, is_drums
    )
    num_samples = round(seconds * rate)
    blocks, done = [], 0
    for sample, is_on, pitch, velocity in _events(part.notes, start, rate):
        if sample >= num_samples:
            break
        if sample > done:
            blocks.append(synth.generate(sample - done))
            done = sample
        if is_on:
            synth.noteon(channel, pitch, velocity)
        else:
            synth.noteoff(channel, pitch)
    blocks.append(synth.generate(num_samples - done))
    synth.sounds_off(channel)
    synth.generate(rate // 10)  # let the last voices die before the next part
    sound = np.concatenate([np.frombuffer(block, dtype=np.float32) for block in blocks])
    return sound.reshape(-1, 2)


def _events(notes: Iterable[Note], start: float, rate: int) -> list[tuple[int, bool, int, int]]:
    """Return (sample, is_on, pitch, velocity) in order; an end comes before a start."""
    events = []
    for note in notes:
        begin = round((note.start_seconds - start) * rate)
        if begin >= 0 and 0 <= note.pitch <= 127:
            end = begin + max(1, round(note.duration_seconds * rate))
            events += [(begin, True, note.pitch, note.velocity), (end, False, note.pitch, 0)]
    return sorted(events)


def mix_parts(
    parts: list[Part], start: float, seconds: float, sampling_rate: int, rng: np.random.Generator
) -> Mix:
    """Render and mix parts so that the lead stands out and named instruments can be heard.

    The clip begins at `start` in the parts. The generator draws the lead's level and the loudness.

    Raises:
        ValueError: if nothing sounds, or the lead does not.
    """
    synth, bank_id = make_synth(2 * sampling_rate)
    sounds = ((part, render_part(synth, bank_id, part, start, seconds)) for part in parts)
    mix = mix_sounds(sounds, rng)
    samples = soxr.resample(mix.samples, 2 * sampling_rate, sampling_rate)
    samples *= 10 ** (rng.uniform(*_PEAK_DB) / 20) / np.abs(samples).max()
    return replace(mix, samples=samples.astype(np.float32))


def mix_sounds(
    sounds: Iterable[tuple[Part, np.ndarray]],
    rng: np.random.Generator,
    names: Mapping[int, str] = PROGRAM_NAMES,
) -> Mix:
    """Mix parts with what they sound like, as `mix_parts`, at the level and rate they come in."""
    stems: dict[tuple[str, str], np.ndarray] = {}  # (role, instrument) -> sound
    for part, sound in sounds:
        name = "drums" if part.role == "drums" else names.get(part.program, "")
        if _rms(sound) > _SILENT_RMS:
            stems[part.role, name] = stems.get((part.role, name), 0) + sound
        elif part.role == "lead":
            raise ValueError(f"the lead ({name}) cannot be heard")
    if not stems:
        raise ValueError("nothing sounds")
    gains = _balance(stems, float(rng.uniform(*_LEAD_ABOVE_REST_DB)))
    whole = sum(sound * np.float32(gains[key]) for key, sound in stems.items())
    levels = _levels({key: gains[key] * _rms(sound) for key, sound in stems.items()})
    leads = [name for (role, name) in stems if role == "lead"]
    melodic = [name for name in levels if name != "drums" and not name.endswith("bass")]
    lead = (leads or melodic or list(levels) or [""])[0]
    return Mix(np.asarray(whole), levels, lead)


def _rms(sound: np.ndarray) -> float:
    return float(np.linalg.norm(sound)) / float(np.sqrt(sound.size))


def _balance(
    stems: dict[tuple[str, str], np.ndarray], lead_db: float
) -> dict[tuple[str, str], float]:
    """Return gains that lift chords and drums that would drown, and set the lead above the rest."""
    levels = {key: _rms(sound) for key, sound in stems.items()}
    rest = {key: level for key, level in levels.items() if key[0] != "lead"}
    gains = dict.fromkeys(stems, 1.0)
    for key, level in rest.items():
        softest_db = {"chords": _SOFTEST_CHORDS_DB, "drums": _SOFTEST_DRUMS_DB}.get(key[0], -99.0)
        gains[key] = max(1.0, 10 ** (softest_db / 20) * max(rest.values()) / level)
    # Parts do not sound in phase: their powers add up.
    rest_level = np.sqrt(sum((gains[key] * level) ** 2 for key, level in rest.items()))
    for key, level in levels.items():
        if key[0] == "lead" and rest:
            gains[key] = float(10 ** (lead_db / 20) * rest_level / level)
    return gains


def _levels(stem_levels: dict[tuple[str, str], float]) -> dict[str, float]:
    powers: dict[str, float] = {}
    for (_, name), level in stem_levels.items():
        powers[name] = powers.get(name, 0.0) + level**2
    loudest = max(powers.values())
    levels = {name: 10 * float(np.log10(power / loudest)) for name, power in powers.items()}
    heard = {n: db for n, db in levels.items() if n and db >= SOFTEST_NAMED_DB}
    return dict(sorted(heard.items(), key=lambda item: -item[1]))


def put_in_range(part: Part, lowest: int, highest: int) -> Part:
    """Move a part by octaves so that its middle lies in the range, and bring single notes in."""
    if not part.notes:
        return part
    middle = float(np.median([note.pitch for note in part.notes]))
    octaves = 12 * round(((lowest + highest) / 2 - middle) / 12)
    notes = []
    for note in part.notes:
        pitch = note.pitch + octaves
        while pitch < lowest:
            pitch += 12
        while pitch > highest:
            pitch -= 12
        notes.append(replace(note, pitch=pitch))
    return Part(part.role, part.program, notes)
