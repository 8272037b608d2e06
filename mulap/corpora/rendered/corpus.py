"""The demo corpus: clips of real music writing with true labels and noisy captions.

For trying the whole pipeline on any machine in minutes, from pip packages alone. Accompaniments in
human-made styles (MMA), folk and chorale melodies, exchanged instruments, and captions that are
noisy on purpose: some name one aspect only, some nothing, some belong to another clip.
docs/demo-corpus.md lists all sources and what the corpus cannot show.
"""

import time
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mulap.corpora.audiofolder import AUDIO_FOLDER, making_audiofolder, write_metadata
from mulap.corpora.rendered.plans import Plan, plan_demo
from mulap.corpora.rendered.render import render_demo_clip
from mulap.corpora.rendered.runs import check_packages, render_clips
from mulap.corpora.rendered.sound import find_demo_bank
from mulap.corpora.rendered.text import write_caption
from mulap.corpora.rendered.truth import Truth, family_of
from mulap.corpora.wording import draw
from mulap.files import AnyPath, FailureLog

_OWN_COLUMN = "caption_kind"
_LABELS = (
    "source", "style", "style_family", "texture", "tempo_bpm", "metre", "key", "instruments",
    "has_drums", "description", "region", "composer", "period",
)  # fmt: skip
# Captions; the others are full and true.
SINGLE_ASPECT_RATE = 0.30
VAGUE_RATE = 0.05
WRONG_CAPTION_RATE = 0.05


@dataclass(frozen=True)
class DemoReport:
    """What was made."""

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
    check_packages()
    find_demo_bank()
    log = FailureLog(output / "failures.jsonl")
    with making_audiofolder(output, _OWN_COLUMN) as audio:
        for old in audio.glob("demo-*.flac"):
            old.unlink()
        render = partial(_render, seconds=seconds, seed=seed, audio=audio)
        clips, _ = render_clips(render, plan_demo(seed), num_clips, processes, log)
        captions = write_captions([facts for _, facts in clips], seed)
        rows = [
            _row(plan, facts, kind, caption)
            for (plan, facts), (kind, caption) in zip(clips, captions, strict=True)
        ]
        write_metadata(output, rows, _OWN_COLUMN)
        log.write()
    return DemoReport(
        len(clips),
        log.failures,
        dict(Counter(plan.kind for plan, _ in clips)),
        dict(Counter(str(row[_OWN_COLUMN]) for row in rows)),
        time.monotonic() - began,
    )


def write_captions(facts: list[Truth], seed: int) -> list[tuple[str, str]]:
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


def _render(plan: Plan, seconds: float, seed: int, audio: Path) -> Truth:
    return render_demo_clip(plan, seconds, seed, audio / f"{plan.track_id}.flac")


def _row(plan: Plan, truth: Truth, kind: str, caption: str) -> dict[str, object]:
    return {
        "file_name": f"{AUDIO_FOLDER}/{plan.track_id}.flac",
        "caption": caption,
        "track_id": plan.track_id,
        "group": plan.group,
        _OWN_COLUMN: kind,
        **{name: getattr(truth, name) for name in _LABELS},
        "instruments": ";".join(truth.instruments),
        "has_drums": str(truth.has_drums).lower(),
        "lead_instrument": truth.lead,
        "instrument_family": family_of(truth.lead),
    }
