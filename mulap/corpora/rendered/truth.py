"""What is true of a rendered clip, and the voices, drums and kits it can be played on.

Voices are General MIDI programs with the precise words people use, pitch range, and how long one
note of theirs rings; they are the .csv files beside this module. Scope: tables and facts.
"""

from dataclasses import dataclass
from typing import Any

from mulap.corpora.rendered.styles import FAMILY_OF, read_table

KITS = {
    0: "", 8: "room drum kit", 16: "power drum kit", 24: "electronic drum kit",
    25: "808 drum machine", 32: "jazz drum kit", 40: "brushed drums",
}  # fmt: skip
"""Drum kits of General MIDI banks with the words for each; not every bank has all of them."""

_ELECTRONIC = {"synthesizer", "synth bass"}
_ELECTRIC = {"electric piano", "clavinet", "electric guitar", "distorted guitar", "electric bass"}
_ELECTRIC |= {"organ"}
LOW_PITCH, HIGH_PITCH = 48, 77
"""Median MIDI pitches up to which notes are called low, and from which on high."""


@dataclass(frozen=True)
class Voice:
    """One General MIDI program."""

    program: int
    name: str  # the label, as in `styles.PROGRAM_NAMES`
    words: tuple[str, ...]  # what this program, more precisely, is called
    lowest: int  # MIDI pitch
    highest: int
    ring_seconds: float  # how long a note is worth listening to
    roles: str  # P: plays chords; M: one note after the other; B: bass

    @property
    def family(self) -> str:
        """Its class, much like NSynth's."""
        return family_of(self.name)


@dataclass(frozen=True)
class Drum:
    """One key of a drum kit."""

    key: int
    name: str
    words: tuple[str, ...]
    pulse: float  # how often it is usually hit in a beat


@dataclass(frozen=True)
class Truth:
    """What is known to be true of a clip; empty where it is not known or does not apply.

    Attributes:
        source: what it is made of: "accompaniment", "folk melody", "chorale" or another key of
            `plans.KIND_RATES`.
        style, style_words, style_family: label, what people call it, broad class.
        texture: "melody" (over an accompaniment), "backing", "drone", "ensemble", "solo" or
            "drums".
        tempo_bpm: felt beats a minute.
        metre: for instance "3/4".
        key: for instance "D minor".
        instruments: those that can be heard, the lead first.
        has_drums: a drum kit plays.
        description: words about the groove by its author, judged to be true of the clip.
        region, region_adjective, composer, period: where known.
        voice: precise words for the lead, such as "alto saxophone".
        manner: what a lone instrument plays: "single notes", "melody", "arpeggios", "chords",
            "scales", "riff", "pattern" or "hits".
        register: "low" or "high" for a lone instrument's notes.
        kit: words for the drum kit where it is a special one.
        ensemble: for instance "string quartet".
        title: of a work or tune.
        sound_bank: a key of `banks.BANKS`.
        effects: names, see `effects.Effects`.
        loudness_db: RMS below full scale.
        onsets_per_second: how often some note or drum begins.
        licence, attribution: of the music; the bank has its own.
    """

    source: str
    style: str
    style_words: tuple[str, ...]
    style_family: str
    texture: str
    tempo_bpm: int
    metre: str
    key: str
    instruments: tuple[str, ...]
    has_drums: bool
    description: str = ""
    region: str = ""
    region_adjective: str = ""
    composer: str = ""
    period: str = ""
    voice: str = ""
    manner: str = ""
    register: str = ""
    kit: str = ""
    ensemble: str = ""
    title: str = ""
    sound_bank: str = ""
    effects: tuple[str, ...] = ()
    loudness_db: float = 0.0
    onsets_per_second: float = 0.0
    licence: str = ""
    attribution: str = ""

    @property
    def lead(self) -> str:
        """The instrument that the clip is about."""
        return self.instruments[0] if self.instruments else ""

    @property
    def is_electronic(self) -> bool:
        """Whether all pitched instruments are synthesizers."""
        return bool(set(self.instruments) - {"drums"}) and all(
            name in _ELECTRONIC for name in self.instruments if name != "drums"
        )

    @property
    def is_acoustic(self) -> bool:
        """Whether no instrument needs electricity, and the drums are no machine."""
        electric = _ELECTRIC | _ELECTRONIC
        return bool(self.instruments) and not electric & set(self.instruments) and not self.kit


def family_of(name: str) -> str:
    """Return an instrument's class, "" if it has none."""
    return FAMILY_OF.get(name, "")


def _split(words: Any) -> tuple[str, ...]:
    return tuple(str(words).split("; "))


VOICES = tuple(
    Voice(program, name, _split(words), lowest, highest, float(ring), roles)
    for program, name, words, lowest, highest, ring, roles in read_table("voices")
)
DRUMS = tuple(
    Drum(key, name, _split(words), float(pulse)) for key, name, words, pulse in read_table("drums")
)
VOICE_OF = {voice.program: voice for voice in VOICES}
