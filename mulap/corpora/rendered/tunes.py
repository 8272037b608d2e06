"""Dance tunes and airs in ABC notation, from the music21 corpus.

Ryan's Mammoth Collection (Boston 1883), O'Neill's Music of Ireland (1903) and Aird's Airs (Glasgow
1782 to 1801). Only a tune's notes are read: no grace notes, chord names or repeats. Scope: files to
melodies; `melodies` plays them.
"""

import re
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

from mulap.corpora.packages import fetch_pip
from mulap.corpora.rendered.melodies import METRES, Melody
from mulap.corpora.rendered.scores import NATURALS, Key
from mulap.files import AnyPath

LICENCE = "tune in the public domain; encoding distributed with music21 by its makers' permission"
_FOLDERS = {
    "ryansMammoth": "", "oneills1850": "Irish", "airdsAirs": "",
}  # fmt: skip
# Dance -> (its beats a minute, from and to; metre that it must have)
DANCES: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "jig": (90, 135, ("6/8",)),
    "reel": (150, 220, ("4/4", "2/4")),
    "hornpipe": (120, 190, ("4/4", "2/4")),
    "strathspey": (100, 150, ("4/4",)),
    "waltz": (90, 160, ("3/4",)),
    "march": (90, 125, ("4/4", "2/4", "6/8")),
    "air": (55, 95, ("4/4", "3/4", "2/4", "6/8")),
}
_MODES = {"": 0, "maj": 0, "ion": 0, "m": 3, "min": 3, "aeo": 3, "mix": 5, "dor": 10, "lyd": 7}
_SHARPS, _FLATS = "FCGDAEB", "BEADGCF"
_TOKEN = re.compile(
    r"(?P<skip>\"[^\"]*\"|\{[^}]*\}|![^!]*!|\+[^+]*\+|\[[A-Za-z]:[^\]]*\]|%.*)"
    r"|(?P<tuplet>\((?P<count>[2-9])(?::\d?)*)"
    r"|(?P<note>(?P<sign>\^\^|\^|__|_|=)?(?P<letter>[A-Ga-gzx])(?P<octave>[,']*)"
    r"(?P<times>\d*)(?P<over>/*)(?P<by>\d*))"
    r"|(?P<chord>\[(?=[A-Ga-g^_=]))|(?P<close>\](?P<all>\d*))"
    r"|(?P<broken>>+|<+)|(?P<tie>-)|(?P<bar>[|:]+\]?|\|)"
)
_TUPLETS = {2: Fraction(3, 2), 3: Fraction(2, 3), 4: Fraction(3, 4), 6: Fraction(2, 3)}
_SHORTEST_TUNE_NOTES = 16


@dataclass(frozen=True)
class Tune:
    """A tune as it stands in its file."""

    path: Path
    number: int  # its place in the file
    dance: str  # a key of `DANCES`
    title: str
    region: str  # an adjective, "" where not known

    @property
    def group(self) -> str:
        """Collections share tunes: the title without articles and the dance's name."""
        words = re.sub(r"[^a-z ]", "", self.title.lower().replace("-", " ")).split()
        dropped = {"the", "a", *DANCES, "or"}
        return "tune " + (" ".join(word for word in words if word not in dropped) or self.path.stem)


def find_tunes(packages: AnyPath) -> list[Tune]:
    """Fetch the collections and list the tunes whose dance we know."""
    corpus = fetch_pip("music21", "10.5.1", packages) / "music21" / "corpus"
    tunes = []
    for folder, region in _FOLDERS.items():
        for path in sorted((corpus / folder).glob("*.abc")):
            for number, (fields, _) in enumerate(_split_file(path)):
                title = fields.get("T", "")
                kind = re.sub(r"^(double|slide)\s*|\s*$", "", fields.get("R", "").lower())
                named = title.lower() + " " + kind
                dance = next((d for d in DANCES if re.search(rf"\b{d}\b", named)), "")
                if dance and "slip" not in named:
                    tunes.append(Tune(path, number, dance, title, region))
    return tunes


def read_tune(tune: Tune) -> Melody:
    """Read a tune's notes.

    Raises:
        ValueError: it is too short, has a metre or key that is not understood, or a metre that its
            dance does not have.
    """
    fields, body = _split_file(tune.path)[tune.number]
    metre = {"C": "4/4", "C|": "4/4"}.get(fields.get("M", ""), fields.get("M", ""))
    if metre not in METRES or metre not in DANCES[tune.dance][2]:
        raise ValueError(f"{tune.path.name}: a {tune.dance} in {metre or 'no metre'}")
    unit = (
        Fraction(fields["L"]) if re.fullmatch(r"\d+/\d+", fields.get("L", "")) else Fraction(1, 8)
    )
    tonic, sharps = _read_key(fields.get("K", ""), tune.path.name)
    notes = tuple(_Reader(unit * 4, sharps).read(body))
    if len(notes) < _SHORTEST_TUNE_NOTES:
        raise ValueError(f"{tune.path.name}: only {len(notes)} notes")
    key = tonic if tonic and notes[-1][2] % 12 == tonic.tonic else None
    return Melody(tune.path, notes, metre, key)


@lru_cache(maxsize=4096)
def _split_file(path: Path) -> list[tuple[dict[str, str], str]]:
    """Return the tunes of a file: its first fields, and the lines with notes."""
    tunes = []
    text = path.read_text(encoding="utf-8", errors="replace")
    for block in re.split(r"^(?=X:)", text, flags=re.M)[1:]:
        fields: dict[str, str] = {}
        lines = []
        for line in block.splitlines():
            field = re.match(r"([A-Za-z]):\s*(.*?)\s*(%.*)?$", line)
            if not field:
                lines.append(line.rstrip().removesuffix("\\"))
            elif not (field[1] == "K" and lines):
                fields.setdefault(field[1], field[2].strip('" '))
        tunes.append((fields, "\n".join(lines)))
    return tunes


def _read_key(text: str, name: str) -> tuple[Key | None, dict[str, int]]:
    """Return the key, where it is major or minor, and what the signature does to each letter."""
    found = re.match(r"([A-G])([#b]?)\s*([A-Za-z]*)", text)
    mode = found[3].lower()[:3] if found else "?"
    if not found or mode not in _MODES:
        raise ValueError(f"{name}: key {text!r}")
    tonic = (NATURALS[found[1]] + {"#": 1, "b": -1, "": 0}[found[2]]) % 12
    major = (tonic + {0: 0, 3: 3, 5: 5, 10: 10, 7: 7}[_MODES[mode]]) % 12
    fifths = (major * 7) % 12
    letters, sign = (_SHARPS[:fifths], 1) if fifths <= 6 else (_FLATS[: 12 - fifths], -1)
    signs = dict.fromkeys(letters, sign)
    names = {0: "major", 3: "minor"}
    named = names.get(_MODES[mode])
    return (Key(tonic, named) if named else None), signs


class _Reader:
    """The notes of a tune's body, read token by token; of a chord only the highest note."""

    def __init__(self, unit: Fraction, signature: dict[str, int]) -> None:
        self._unit, self._signature = unit, signature
        self._rows: list[list[Fraction]] = []  # start, duration, pitch (-1: a rest)
        self._now, self._factor = Fraction(0), Fraction(1)  # of the next note, after a broken one
        self._in_bar: dict[str, int] = {}  # accidentals
        self._tuplet, self._tuplet_left = Fraction(1), 0
        self._is_tied, self._chord = False, -1  # the number of an open chord's first note

    def read(self, body: str) -> list[tuple[float, float, int]]:
        """Return (start, duration, pitch) in quarters."""
        for found in _TOKEN.finditer(body):
            if found["note"]:
                self._add_note(found)
            elif found["broken"] and self._rows:
                self._break_rhythm(found["broken"])
            elif found["tuplet"]:
                self._tuplet_left = int(found["count"])
                self._tuplet = _TUPLETS.get(self._tuplet_left, Fraction(1))
            elif found["bar"]:
                self._in_bar = {}
            elif found["tie"]:
                self._is_tied = bool(self._rows)
            elif found["chord"]:
                self._chord = len(self._rows)
            elif found["close"]:
                self._close_chord(int(found["all"] or 1))
        return [(float(s), float(d), int(p)) for s, d, p in self._rows if p >= 0 and d > 0]

    def _add_note(self, found: re.Match[str]) -> None:
        duration = _duration(found) * self._unit * self._factor
        self._factor = Fraction(1)
        if self._tuplet_left:
            duration, self._tuplet_left = duration * self._tuplet, self._tuplet_left - 1
        pitch = self._pitch(found)
        if self._is_tied and self._chord < 0 and self._rows[-1][2] == pitch:
            self._rows[-1][1] += duration
        else:
            self._rows.append([self._now, duration, Fraction(pitch)])
        self._is_tied = False
        self._now += duration if self._chord < 0 else 0

    def _break_rhythm(self, signs: str) -> None:
        """Lengthen the last note by what the next one loses, or the other way round."""
        share = Fraction(1, 2 ** len(signs))
        last, self._factor = (2 - share, share) if signs[0] == ">" else (share, 2 - share)
        old = self._rows[-1][1]
        self._rows[-1][1] = old * last
        self._now += self._rows[-1][1] - old

    def _close_chord(self, times: int) -> None:
        if 0 <= self._chord < len(self._rows):
            self._rows[self._chord :] = [max(self._rows[self._chord :], key=lambda row: row[2])]
            self._rows[-1][1] *= times
            self._now = self._rows[-1][0] + self._rows[-1][1]
        self._chord = -1

    def _pitch(self, found: re.Match[str]) -> int:
        letter = found["letter"]
        if letter in "zx":
            return -1
        octave = 5 + letter.islower() + found["octave"].count("'") - found["octave"].count(",")
        if found["sign"]:
            self._in_bar[letter] = {"^": 1, "^^": 2, "_": -1, "__": -2, "=": 0}[found["sign"]]
        sign = self._in_bar.get(letter, self._signature.get(letter.upper(), 0))
        return 12 * octave + NATURALS[letter.upper()] + sign


def _duration(found: re.Match[str]) -> Fraction:
    times, over, by = int(found["times"] or 1), found["over"], int(found["by"] or 0)
    return Fraction(times, by or 2 ** len(over)) if over else Fraction(times)
