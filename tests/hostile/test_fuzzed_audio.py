"""Damaged audio of every format: samples that are finite, or one line; no crash, hang or bloat.

Each round damages one file of every format. What lies before the damage is as in the whole file,
wherever a part begins. Behind it a decoder may count otherwise after a jump than after reading on:
there only finite samples are asked for, as `mulap.audio` says.
"""

import json
import os
import random
from pathlib import Path

import pytest
from audio_samples import FORMATS, SECONDS, sample
from hostile.damage import damage
from hostile.kit import MIB, Ended, Template, rounds

pytestmark = pytest.mark.slow

MAX_DECODER_BYTES = 512 * MIB
TOLERANCE = 1e-5
# A file's bytes are spread over its time no more unevenly than this.
_UNEVENNESS = 0.2
# These leave all that is there in its place.
_HARMLESS = frozenset({"cut", "cut_within_the_head", "append_junk", "empty"})


def _damage_all(folder: Path, seed: int) -> dict[str, tuple[str, float]]:
    """Write the files of a round: name -> what was done to it, and up to where it is exact."""
    done = {}
    for kind in FORMATS:
        rng, original = random.Random(f"{kind} {seed}"), sample(kind).read_bytes()
        what, content = damage(original, rng)
        name = f"{kind}.{rng.choice(('wav', 'mp3', 'ogg', 'flac', 'm4a', 'bin'))}"
        (folder / name).write_bytes(content)
        same = len(os.path.commonprefix([original, content]))
        share = 1.0 if what in _HARMLESS else same / len(original) - _UNEVENNESS
        done[name] = (what, share * SECONDS)
    return done


def _decode(template: Template, names: list[str], folder: Path) -> tuple[Ended, list[dict]]:
    child = template.start("hostile.workers:decode_files", names, MAX_DECODER_BYTES, cwd=folder)
    ended = child.wait()
    return ended, [json.loads(line) for line in ended.out.splitlines()]


@rounds(1)
def test_damaged_audio_decodes_to_finite_samples_or_is_refused_in_a_line(template, tmp_path, seed):
    done = _damage_all(tmp_path, seed)
    ended, lines = _decode(template, list(done), tmp_path)
    last = lines[-1].get("begin")
    assert ended.code == 0, f"{last} ({done.get(last)}): ended with {ended.code}\n{ended.err}"
    told = {line["name"]: line for line in lines if "name" in line}
    assert told.keys() == done.keys()
    faults = [f"{done[name]}: {line}" for name, line in told.items() if _fault(line, *done[name])]
    assert not faults, "\n".join(faults)


def _fault(line: dict, what: str, exact_seconds: float) -> str:
    """Say what is wrong with how a file was decoded, nothing if nothing is."""
    for error in (line.get("error"), line.get("probe")):
        if error is not None and ("\n" in error or not error.startswith(line["name"])):
            return error
    if "error" in line:
        return ""
    if not (line["is_finite"] and line["num_samples"]) or line["streamed"] != 0.0:
        return "the whole"
    for start_seconds, difference in line["parts"]:
        if difference == "not finite":
            return "a part is not finite"
        is_exact = isinstance(difference, float) and difference < TOLERANCE
        if not is_exact and start_seconds + 1.0 < exact_seconds:
            return f"the part at {start_seconds} s"
    return ""


def test_what_is_not_damaged_has_no_fault(template, tmp_path):
    """The check itself: whole files decode, are exact everywhere, and a fault would be seen."""
    names = []
    for kind in FORMATS:
        names.append(f"{kind}.bin")
        (tmp_path / names[-1]).write_bytes(sample(kind).read_bytes())
    ended, lines = _decode(template, names, tmp_path)
    told = [line for line in lines if "name" in line]
    assert ended.code == 0
    assert [line["name"] for line in told if "error" in line] == []
    assert [_fault(line, "", 2 * SECONDS) for line in told] == [""] * len(FORMATS)
    assert _fault(told[0] | {"is_finite": False}, "", 0.0) == "the whole"
    parts = [[0.45, 0.01]]
    assert _fault(told[0] | {"parts": parts}, "", 9.0) == "the part at 0.45 s"
