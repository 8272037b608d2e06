"""Classical scores in several parts, from the music21 corpus: read, cut, and given instruments.

The scores are MusicXML files inside the PyPI package music21, which is only unpacked, never
imported. works.csv names the files with composer, period and form; a score whose own rights notice
reserves rights is left out. Scope: notes, their players, and what is true of both.
"""

import re
import zipfile
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mulap.corpora.packages import fetch_pip
from mulap.corpora.rendered.scores import NATURALS, Note, Part
from mulap.corpora.rendered.sound import put_in_range
from mulap.corpora.rendered.styles import read_table
from mulap.corpora.rendered.truth import VOICE_OF, Truth
from mulap.corpora.wording import draw
from mulap.files import AnyPath

LICENCE = "music in the public domain; encoding distributed with music21 by its makers' permission"
_RESERVED = re.compile(r"©|\(c\)|copyright|reserved|edizioni", re.I)
_FREE = re.compile(r"public domain|creative commons|CC[0-]|freely", re.I)
_LARGEST_BYTES = 20_000_000  # of one score's XML
_MOST_PARTS = 8
_OWN_RATE = 0.5
# Ensemble -> (words, which "quartet" or the like may follow; programs from high to low)
_ENSEMBLES: dict[str, tuple[str, tuple[int, ...]]] = {
    "strings": ("string", (40, 40, 41, 42)),
    "string orchestra": ("string orchestra", (48,)),
    "brass": ("brass", (56, 56, 60, 57, 58)),
    "woodwinds": ("woodwind", (73, 68, 71, 70)),
    "saxophones": ("saxophone", (64, 65, 66, 67)),
    "recorders": ("recorder", (74,)),
    "choir": ("choir", (52,)),
    "church organ": ("", (19,)),
    "piano": ("", (0,)),
    "harpsichord": ("", (6,)),
    "guitars": ("guitar", (24,)),
    "accordion": ("", (21,)),
    "vibraphone": ("", (11,)),
    "clarinet and piano": ("duo", (71, 0)),
    "synthesizer": ("", (81,)),
}
_SIZES = {2: "duo", 3: "trio", 4: "quartet"}
_SIZED = {"strings", "brass", "woodwinds", "saxophones", "recorders", "guitars"}
_SOLOISTS = ["piano", "piano", "harpsichord", "church organ", "accordion", "vibraphone"]
_OTHER_PLAYERS = [*_ENSEMBLES, "piano", "piano", "string orchestra", "guitars"]


@dataclass(frozen=True)
class Work:
    """One file with a score, of which a clip is a part."""

    path: Path
    group: str  # the work, of which other files may have other movements
    composer: str
    period: str
    forms: tuple[str, ...]
    own: str  # key of `_ENSEMBLES`: what it was written for


@dataclass(frozen=True)
class Score:
    """The notes of a work, with times in quarters."""

    parts: tuple[tuple[tuple[float, float, int], ...], ...]  # (start, duration, pitch) of each part
    metre: str  # the first
    tempo: float  # quarters a minute at the beginning, 0 if not given
    title: str


def find_works(packages: AnyPath) -> list[Work]:
    """Fetch the scores and list them; ValueError where the package cannot be had."""
    corpus = fetch_pip("music21", "10.5.1", packages) / "music21" / "corpus"
    works = []
    for files, pattern, composer, period, forms, own in read_table("works"):
        for path in sorted(corpus.glob(files)):
            found = re.search(pattern, path.relative_to(corpus).as_posix())
            if found and path.suffix in (".mxl", ".xml"):
                name = f"bwv{int(found[1])}" if composer.endswith("Sebastian Bach") else found[1]
                group = f"work {path.relative_to(corpus).parts[0]} {name}"
                works.append(Work(path, group, composer, period, tuple(forms.split("; ")), own))
    return works


def read_score(path: Path) -> Score:
    """Read a MusicXML file. Repeats are not played; grace notes and percussion are left out.

    Raises:
        ValueError: it is damaged or no partwise score, its rights are reserved, or it has no
            notes, or more than eight parts.
    """
    try:
        root = ElementTree.fromstring(_read_xml(path))
    except (ElementTree.ParseError, zipfile.BadZipFile, OSError, StopIteration) as error:
        raise ValueError(f"{path.name}: cannot be read ({error})") from error
    rights = " ".join(element.text or "" for element in root.iter("rights"))
    if _RESERVED.search(rights) and not _FREE.search(rights):
        raise ValueError(f"{path.name}: its rights are reserved ({rights.strip()[:60]})")
    if root.tag != "score-partwise":
        raise ValueError(f"{path.name}: is {root.tag}, not score-partwise")
    parts = tuple(tuple(_read_part(part)) for part in root.findall("part"))
    parts = tuple(part for part in parts if part)
    if not 1 <= len(parts) <= _MOST_PARTS:
        raise ValueError(f"{path.name}: {len(parts)} parts with notes")
    beats, unit = root.findtext(".//time/beats"), root.findtext(".//time/beat-type")
    sounds = [float(s.get("tempo", 0)) for s in root.iter("sound") if s.get("tempo")]
    title = root.findtext("work/work-title") or root.findtext("movement-title") or ""
    metre = f"{beats}/{unit}" if beats and unit else ""
    return Score(parts, metre, sounds[0] if sounds else 0.0, " ".join(title.split()))


def _read_xml(path: Path) -> bytes:
    if path.suffix != ".mxl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        name = next(
            info
            for info in archive.infolist()
            if info.filename.endswith((".xml", ".musicxml")) and "META-INF" not in info.filename
        )
        if name.file_size > _LARGEST_BYTES:
            raise ValueError(f"{path.name}: {name.file_size:,} bytes are too much for a score")
        return archive.read(name)


def _read_part(part: ElementTree.Element) -> list[tuple[float, float, int]]:
    divisions, shift, now = 1.0, 0, 0.0
    notes: list[tuple[float, float, int]] = []
    tied: dict[int, int] = {}  # pitch -> the number of its note that is still held
    for measure in part.findall("measure"):
        start = last = longest = now
        for element in measure:
            duration = float(element.findtext("duration") or 0) / divisions
            if element.tag == "attributes":
                divisions = float(element.findtext("divisions") or divisions)
                if element.find("transpose") is not None:
                    shift = int(float(element.findtext("transpose/chromatic") or 0))
                    shift += 12 * int(element.findtext("transpose/octave-change") or 0)
            elif element.tag in ("backup", "forward"):
                now += duration if element.tag == "forward" else -duration
            elif element.tag == "note" and element.find("grace") is None:
                begin = last if element.find("chord") is not None else now
                if element.find("pitch") is not None:
                    _add_note(notes, tied, element, begin, duration, shift)
                if element.find("chord") is None:
                    last, now = now, now + duration
            longest = max(longest, now)
        now = max(longest, start)
    return sorted(notes)


def _add_note(
    notes: list[tuple[float, float, int]],
    tied: dict[int, int],
    element: ElementTree.Element,
    begin: float,
    duration: float,
    shift: int,
) -> None:
    octave = int(element.findtext("pitch/octave") or 4)
    alter = round(float(element.findtext("pitch/alter") or 0))
    pitch = 12 * (octave + 1) + NATURALS[element.findtext("pitch/step") or "C"] + alter + shift
    ties = {tie.get("type") for tie in element.findall("tie")}
    if "stop" in ties and pitch in tied:
        place = tied.pop(pitch)
        first, length, _ = notes[place]
        if abs(first + length - begin) < 1e-3:
            notes[place] = (first, length + duration, pitch)
        else:
            place = len(notes)
            notes.append((begin, duration, pitch))
    else:
        place = len(notes)
        notes.append((begin, duration, pitch))
    if "start" in ties:
        tied[pitch] = place


def play_work(
    work: Work, rng: np.random.Generator, seconds: float, has_players: bool = True
) -> tuple[list[Part], Truth]:
    """Cut a random part out of a work and give it players, its own or others.

    Without players, which a synthesizer replaces, nothing is said of an ensemble.
    """
    score = read_score(work.path)
    tempo = (score.tempo or float(rng.uniform(70, 130))) * float(rng.uniform(0.85, 1.18))
    tempo = float(np.clip(tempo, 40, 200))
    quarter = 60 / tempo
    end = max(start + duration for part in score.parts for start, duration, _ in part)
    room = max(0.0, end - seconds / quarter)
    begin = float(np.floor(rng.uniform(0, room)) if room > 1 else 0.0)
    transpose = int(rng.integers(-3, 4))
    others = _OTHER_PLAYERS if len(score.parts) > 1 else _SOLOISTS
    name = work.own if rng.random() < _OWN_RATE else draw(rng, others)
    if name == "clarinet and piano" and name != work.own:
        name = "church organ"
    words, programs = _ENSEMBLES[name]
    ordered = sorted(score.parts, key=lambda part: -float(np.mean([pitch for *_, pitch in part])))
    parts = []
    for number, part in enumerate(ordered):
        place = number * len(programs) // len(ordered) if len(ordered) > 1 else 0
        program = programs[min(place, len(programs) - 1)]
        notes = _cut(part, begin, end, quarter, transpose, rng)
        if notes:
            voice = VOICE_OF[program]
            moved = put_in_range(Part("chords", program, notes), voice.lowest, voice.highest)
            parts.append(moved)
    if name in _SIZED:  # of one part of a piece for several, nothing is said
        words = f"{words} {_SIZES.get(len(parts), 'ensemble')}" if len(parts) > 1 else ""
    is_own = name == work.own and has_players
    forms = tuple(f for f in work.forms if is_own or "string" not in f) or ("classical music",)
    beat = 1.5 if score.metre in ("6/8", "9/8", "12/8") else 1.0
    truth = Truth(
        "score", forms[0], forms, "classical", "ensemble", round(tempo / beat),
        score.metre if score.metre in ("4/4", "3/4", "2/4", "6/8") else "", "", (), False,
        composer=work.composer, period=work.period, title=score.title,
        ensemble=words if has_players else "",
        licence=LICENCE, attribution=f"{work.composer or 'anonymous'}; music21 corpus",
        manner="own" if is_own else "exchanged",
    )  # fmt: skip
    return parts, truth


def _cut(
    part: tuple[tuple[float, float, int], ...],
    begin: float,
    end: float,
    quarter: float,
    transpose: int,
    rng: np.random.Generator,
) -> list[Note]:
    """Return the notes from a quarter on; a short work is played again from its beginning."""
    notes = []
    held, base = float(rng.uniform(0.85, 0.98)), int(rng.integers(70, 100))
    for again in range(4):
        offset = again * float(np.ceil(end)) - begin
        for start, duration, pitch in part:
            at = (start + offset) * quarter
            if at >= 0:
                accent = 8 if float(start).is_integer() else 0
                hard = int(np.clip(base + accent + rng.integers(-6, 7), 30, 120))
                notes.append(Note(at, held * duration * quarter, pitch + transpose, hard))
    return sorted(notes, key=lambda note: note.start_seconds)
