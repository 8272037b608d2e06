"""What each rendered clip is made of: kind, material, group, split and sound bank.

A plan of `plan_music` depends on the seed and its number only, whatever is installed: where a
package is missing, the clips that need it are left out and the others stay the same. Scope: choice;
nothing is played.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TypeVar

import numpy as np

from mulap.corpora.rendered import melodies, scores, tunes, works
from mulap.corpora.rendered.banks import HELD_OUT_BANK, PULSES, TRAINING_BANKS
from mulap.corpora.rendered.passages import choose_voice
from mulap.corpora.rendered.styles import REGIONS, STYLES
from mulap.corpora.rendered.truth import DRUMS, Drum, Voice
from mulap.corpora.rendered.tunes import Tune
from mulap.corpora.rendered.works import Work
from mulap.corpora.wording import draw, draw_weighted, reshuffled
from mulap.files import AnyPath

_T = TypeVar("_T")

KIND_RATES = {
    "accompaniment": 0.38, "folk melody": 0.08, "dance tune": 0.07, "chorale": 0.02, "score": 0.11,
    "solo passage": 0.13, "single notes": 0.11, "drum pattern": 0.06, "drum hits": 0.04,
}  # fmt: skip
DEMO_RATES = {"accompaniment": 0.62, "folk melody": 0.28, "chorale": 0.05, "drum pattern": 0.05}
_DEMO_DRUM_FAMILIES = {"rock", "pop", "soul and funk", "latin", "electronic"}
HELD_OUT_STYLES = frozenset(
    "beguine charleston calypso twist quickstep".split()
    + ["gypsy jazz", "western swing", "trip hop", "rock waltz", "show tune", "disco", "big band"]
)
"""Styles that only the test split has."""

_REGION_WEIGHTS = {start: weight for start, (_, _, weight) in REGIONS.items()}
_TEST_RATE, _VALID_RATE = 0.09, 0.05
_HELD_OUT_BANK_RATE = 0.6  # of the test clips
_FORM_WEIGHTS = {"string quartet": 2.5, "medieval song": 0.5, "polonaise": 2.0, "ragtime": 3.0}
_PULSES_RATE = 0.08
_KINDS_FOR_PULSES = {"accompaniment", "folk melody", "dance tune", "chorale", "score"}
_DRUM_FAMILIES = {
    "rock", "pop", "soul and funk", "latin", "electronic", "jazz", "caribbean", "march", "country",
}  # fmt: skip


Material = scores.Groove | Path | Tune | Work | Voice | Drum
"""A `Path` is that of a melody."""


@dataclass(frozen=True)
class Plan:
    """One clip before anything is drawn for it but its material."""

    index: int  # its number; all its random draws depend on this and the seed
    kind: str  # a key of `KIND_RATES`
    material: Material
    group: str  # what no two splits share
    track_id: str  # its name, also of the file
    split: str = ""  # those of `plan_demo` have none, and no bank but the demo's
    bank: str = ""


def plan_demo(seed: int) -> Iterator[Plan]:
    """Plan clips of the demo corpus, without end.

    Styles come in turn, and regions by their weight; a groove or tune comes back only when all of
    its style or region have been used.
    """
    rng = np.random.default_rng([seed, 0])
    grooves = {style: reshuffled(rng, scores.read_grooves(style)) for style in STYLES}
    tunes_of = _melodies_by_start(rng)
    drum_styles = reshuffled(rng, [s for s in STYLES if s.family in _DEMO_DRUM_FAMILIES])
    styles = reshuffled(rng, STYLES)
    for index in count():
        kind = draw_weighted(rng, DEMO_RATES)
        if kind in ("accompaniment", "drum pattern"):
            groove = next(grooves[next(styles if kind == "accompaniment" else drum_styles)])
            material, group = groove, f"groove {groove.full_name}"
        else:
            region = draw_weighted(rng, _REGION_WEIGHTS)
            material = next(tunes_of["chor" if kind == "chorale" else region])
            group = f"melody {melodies.tune_name(material)}"
        yield Plan(index, kind, material, group, f"demo-{index:05d}")


def plan_music(seed: int, packages: AnyPath) -> tuple[Iterator[Plan], dict[str, str]]:
    """Plan clips without end, those that can be played here; and say what is left out and why."""
    materials: dict[str, Callable[[], Material]] = {}
    left_out = {}
    for kind in KIND_RATES:
        rng = np.random.default_rng([seed, 10, sorted(KIND_RATES).index(kind)])
        try:
            materials[kind] = _MATERIALS[kind](rng, packages)
        except ValueError as error:
            left_out[kind] = str(error)
    return _plan(seed, materials), left_out


def _plan(seed: int, materials: dict[str, Callable[[], Material]]) -> Iterator[Plan]:
    for index in count():
        rng = np.random.default_rng([seed, 11, index])
        kind = draw_weighted(rng, KIND_RATES)
        if kind not in materials:
            continue
        material = materials[kind]()
        bank = draw(rng, TRAINING_BANKS)
        if isinstance(material, Voice | Drum):  # what repeats is an instrument of a bank
            bank = HELD_OUT_BANK if rng.random() < _TEST_RATE else bank
            what = material.program if isinstance(material, Voice) else f"drum {material.key}"
            group = f"notes {bank} {what}"
            split = "test" if bank == HELD_OUT_BANK else _split_of(group, has_test=False)
        else:
            group = _group_of(material)
            style = material.style.words[0] if isinstance(material, scores.Groove) else ""
            split = "test" if style in HELD_OUT_STYLES else _split_of(group)
            if split == "test" and rng.random() < _HELD_OUT_BANK_RATE:
                bank = HELD_OUT_BANK
            elif kind in _KINDS_FOR_PULSES and rng.random() < _PULSES_RATE:
                bank = PULSES
        name = f"rendered-{index:06d}"
        yield Plan(index, kind, material, group, name, split, bank)


def playable(read: Callable[[_T], object], items: Iterable[_T]) -> Iterator[_T]:
    """Yield the items that a function reads; each is read once."""
    reads: dict[_T, bool] = {}
    for item in items:
        if item not in reads:
            try:
                read(item)
            except ValueError:
                reads[item] = False
            else:
                reads[item] = True
        if reads[item]:
            yield item


def _split_of(group: str, has_test: bool = True) -> str:
    """Assign a group by its name alone, so that every seed and size agrees."""
    place = int.from_bytes(hashlib.sha256(group.encode()).digest()[:4], "big") / 2**32
    if place < _VALID_RATE:
        return "valid"
    return "test" if has_test and place < _VALID_RATE + _TEST_RATE else "train"


def _group_of(material: scores.Groove | Path | Tune | Work) -> str:
    if isinstance(material, scores.Groove):
        return f"groove {material.full_name}"
    if isinstance(material, Path):
        name = melodies.tune_name(material)
        number = name.removeprefix("chor-bwv")
        return f"work bach bwv{int(number)}" if number.isdigit() else f"melody {name}"
    return material.group


def _grooves(
    rng: np.random.Generator, packages: AnyPath, families: set[str] | None = None
) -> Callable[[], scores.Groove]:
    styles = [s for s in STYLES if families is None or s.family in families]
    turns = reshuffled(rng, styles)
    grooves = {style: reshuffled(rng, scores.read_grooves(style)) for style in styles}
    return lambda: next(grooves[next(turns)])


def _melodies_by_start(rng: np.random.Generator) -> dict[str, Iterator[Path]]:
    return {
        start: playable(melodies.read_melody, reshuffled(rng, paths))
        for start, paths in melodies.list_melodies().items()
    }


def _folk(rng: np.random.Generator, packages: AnyPath) -> Callable[[], Path]:
    turns = _melodies_by_start(rng)
    return lambda: next(turns[draw_weighted(rng, _REGION_WEIGHTS)])


def _chorales(rng: np.random.Generator, packages: AnyPath) -> Callable[[], Path]:
    paths = _melodies_by_start(rng)["chor"]
    return lambda: next(paths)


def _tunes(rng: np.random.Generator, packages: AnyPath) -> Callable[[], Tune]:
    found = playable(tunes.read_tune, reshuffled(rng, tunes.find_tunes(packages)))
    return lambda: next(found)


def _works(rng: np.random.Generator, packages: AnyPath) -> Callable[[], Work]:
    """Draw the form first, so that few quartets are heard as often as many chorales."""
    by_form: dict[str, list[Work]] = {}
    for work in works.find_works(packages):
        by_form.setdefault(work.forms[0], []).append(work)

    def read(work: Work) -> works.Score:
        return works.read_score(work.path)

    weights = {f: min(len(some), 40) * _FORM_WEIGHTS.get(f, 1) for f, some in by_form.items()}
    turns = {f: playable(read, reshuffled(rng, some)) for f, some in by_form.items()}
    return lambda: next(turns[draw_weighted(rng, weights)])


_MATERIALS: dict[str, Callable[[np.random.Generator, AnyPath], Callable[[], Material]]] = {
    "accompaniment": _grooves,
    "drum pattern": lambda rng, packages: _grooves(rng, packages, _DRUM_FAMILIES),
    "folk melody": _folk,
    "chorale": _chorales,
    "dance tune": _tunes,
    "score": _works,
    "solo passage": lambda rng, packages: lambda: choose_voice(rng, favours_common=True),
    "single notes": lambda rng, packages: lambda: choose_voice(rng),
    "drum hits": lambda rng, packages: lambda: draw(rng, DRUMS),
}  # fmt: skip
