"""The tables behind the demo corpus: styles, instruments and regions, with the words people use.

They are the .csv files beside this module. A style names a groove file of the MMA library and what
a listener would call it; the grooves themselves and their one-line descriptions are read from the
installed library when a corpus is made, so nothing of MMA is copied here. Instruments are General
MIDI programs. Scope: no files, notes or sentences.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Style:
    """One groove file of the MMA library."""

    file: str  # its path in the library, without ending
    words: tuple[str, ...]  # what people call the style; the first one is the label
    family: str  # the broad class, the label for probes
    slowest_bpm: int  # the tempo is drawn between this and `fastest_bpm`, felt beats a minute
    fastest_bpm: int
    metre: str  # as heard, for instance "3/4"
    beats_per_bar: int  # MMA's own beats in a bar
    mma_beats_per_beat: int  # MMA's beats in one felt beat (3 where MMA counts eighths in 6/8)


@dataclass(frozen=True)
class Instrument:
    """One instrument that the demo puts into a clip on its own account."""

    name: str  # the label
    program: int  # General MIDI program, from 0
    family: str  # a class much like NSynth's
    lowest: int  # MIDI pitches between this and `highest` sound like the instrument
    highest: int
    roles: str  # letters out of L (lead), C (chords) and D (drone)


def read_table(table: str) -> list[list[Any]]:
    """Return the rows of a table beside this module, whole numbers as such."""
    with open(Path(__file__).with_name(f"{table}.csv"), newline="", encoding="utf-8") as file:
        _, *rows = csv.reader(file)
    return [[int(cell) if cell.isdigit() else cell for cell in row] for row in rows]


STYLES = tuple(
    Style(file, tuple(words.split("; ")), *others) for file, words, *others in read_table("styles")
)
INSTRUMENTS = {row[0]: Instrument(*row) for row in read_table("instruments")}
# For parts that keep the program MMA gives them. Programs that have no name here are heard, but
# neither labelled nor mentioned.
PROGRAM_NAMES: dict[int, str] = {
    program: name
    for first, last, name in read_table("programs")
    for program in range(first, last + 1)
}
_OTHER_FAMILIES = {
    "clavinet": "keyboard", "glockenspiel": "mallet", "tubular bells": "mallet",
    "dulcimer": "plucked", "viola": "strings", "timpani": "drums", "tuba": "brass",
    "piccolo": "flute", "ocarina": "flute", "whistle": "flute", "english horn": "reed",
    "shamisen": "plucked", "kalimba": "plucked",
    "double bass": "bass", "electric bass": "bass", "synth bass": "bass", "drums": "drums",
}  # fmt: skip
FAMILY_OF = {name: instrument.family for name, instrument in INSTRUMENTS.items()} | _OTHER_FAMILIES
# Start of a file's name in the Essen collection -> (place, adjective, how often it is drawn)
REGIONS: dict[str, tuple[str, str, int]] = {
    start: (place, adjective, weight) for start, place, adjective, weight in read_table("regions")
}
