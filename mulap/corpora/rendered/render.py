"""Play one plan: notes, voices, kit, tuning, bank, effects; a FLAC file and what is true of it."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr

from mulap.corpora.audiofolder import write_clip
from mulap.corpora.rendered.banks import RENDER_RATE, open_bank
from mulap.corpora.rendered.effects import SAMPLING_RATE, apply_effects
from mulap.corpora.rendered.plans import Plan
from mulap.corpora.rendered.play import play
from mulap.corpora.rendered.pulses import render_pulses
from mulap.corpora.rendered.scores import Groove, Part
from mulap.corpora.rendered.sound import Mix, mix_parts, mix_sounds, put_in_range, render_part
from mulap.corpora.rendered.styles import PROGRAM_NAMES
from mulap.corpora.rendered.truth import KITS, VOICE_OF, VOICES, Truth
from mulap.corpora.rendered.words import judge_description
from mulap.corpora.wording import draw

_NAMES = PROGRAM_NAMES | {voice.program: voice.name for voice in VOICES}
_WORDS_FOR_CHORALE = ("chorale", "chorale melody", "Bach chorale tune")
# Clips of the demo.
_SAMPLING_RATES = (16_000, 16_000, 22_050)
_STEREO_RATE = 0.4
_LONGEST_LEAD_IN_SECONDS = 0.3
_SOFTEST_DEMO_RMS = 10 ** (-50 / 20)
# Others.
_OTHER_KIT_RATE = 0.5
_OTHER_VOICE_RATE = 0.6
_MOST_DETUNE = 0.35  # semitones
_SOFTEST_RMS = 1e-4  # of a part or a mix before its level is set
_LONGEST_SILENCE_SECONDS = 2.0


def render_demo_clip(plan: Plan, seconds: float, seed: int, path: Path) -> Truth:
    """Render a clip of the demo corpus to a FLAC file; return what is true of it.

    Instruments are those heard. ValueError if the material cannot be played.
    """
    rng = np.random.default_rng([seed, 1, plan.index])
    start = -float(rng.uniform(0, _LONGEST_LEAD_IN_SECONDS))
    parts, truth = play(plan, rng, seconds)
    sampling_rate = draw(rng, _SAMPLING_RATES)
    mix = mix_parts(parts, start, seconds, sampling_rate, rng)
    samples = mix.samples if rng.random() < _STEREO_RATE else mix.samples.mean(axis=1)
    if np.sqrt(np.mean(np.square(samples))) < _SOFTEST_DEMO_RMS:
        raise ValueError("too soft to be heard")
    write_clip(path, samples, sampling_rate)
    return _hear_mix(truth, mix, plan.material)


def render_plan(plan: Plan, bank: Path | None, seconds: float, seed: int, path: Path) -> Truth:
    """Render a clip to a FLAC file, 16 kHz mono; return what is true of it.

    Without a bank, `pulses` plays. ValueError if the material cannot be played, or the clip would
    have a long silence.
    """
    rng = np.random.default_rng([seed, 12, plan.index])
    parts, truth = play(plan, rng, seconds)
    if plan.kind == "chorale":
        truth = replace(truth, style_words=_WORDS_FOR_CHORALE, style_family="classical")
    parts = [_change_voice(part, truth, rng) for part in parts]
    start = -float(rng.uniform(0, 0.2))
    kit = 0
    if bank is None:
        sounds = ((p, render_pulses(p, start, seconds, RENDER_RATE, rng)) for p in parts)
        mix = mix_sounds(sounds, rng, dict.fromkeys(_NAMES, "synthesizer"))
    else:
        synth, bank_id = open_bank(bank)
        kit = _choose_kit(synth, bank_id, rng) if plan.kind != "drum hits" else 0
        mix = mix_sounds(_play_parts(parts, synth, bank_id, start, seconds, kit, rng), rng, _NAMES)
    samples = soxr.resample(mix.samples, RENDER_RATE, SAMPLING_RATE)
    if np.sqrt(np.mean(np.square(samples))) < _SOFTEST_RMS:
        raise ValueError("too soft to be heard")
    if (silence := _longest_silence(samples)) > _LONGEST_SILENCE_SECONDS:
        raise ValueError(f"{silence:.1f} s of silence")
    samples, effects = apply_effects(samples, rng)
    write_clip(path, samples)
    heard = _hear_mix(truth, mix, plan.material)
    return replace(
        heard,
        voice=truth.voice if plan.kind == "drum hits" else _voice_of(heard.lead, parts),
        kit=KITS[kit] if heard.has_drums else "",
        sound_bank=plan.bank,
        effects=effects.names,
        loudness_db=effects.loudness_db,
        onsets_per_second=_count_onsets(parts, seconds),
    )


def _hear_mix(truth: Truth, mix: Mix, material: object) -> Truth:
    """Return what is true of a mix: the instruments heard, and what may be said of a groove."""
    others = [name for name in mix.levels_db if name != mix.lead]
    truth = replace(
        truth,
        instruments=(mix.lead, *others) if mix.lead else (),
        has_drums="drums" in mix.levels_db,
        texture="solo" if not others and truth.texture != "drums" else truth.texture,
    )
    if isinstance(material, Groove) and truth.texture != "drums":
        description = judge_description(material.description, truth)
        return replace(truth, description=description)
    return truth


def _count_onsets(parts: list[Part], seconds: float) -> float:
    """Return how often a second something begins; what begins within 30 ms counts once."""
    starts = sorted(n.start_seconds for p in parts for n in p.notes if n.start_seconds < seconds)
    count, last = 0, -1.0
    for start in starts:
        if start - last > 0.03:
            count, last = count + 1, start
    return round(count / seconds, 2)


def _voice_of(lead: str, parts: list[Part]) -> str:
    """Return precise words for the lead, if one program alone plays what has its name."""
    programs = {p.program for p in parts if p.role != "drums" and _NAMES.get(p.program) == lead}
    voice = VOICE_OF.get(programs.pop()) if len(programs) == 1 else None
    return voice.words[0] if voice else ""


def _play_parts(
    parts: list[Part],
    synth: Any,
    bank_id: int,
    start: float,
    seconds: float,
    kit: int,
    rng: np.random.Generator,
) -> Iterator[tuple[Part, np.ndarray]]:
    """Render each part that has notes: float32 (num_samples,) at `RENDER_RATE`."""
    place = float(rng.uniform(0.25, 0.75))  # of the listener, between left and right
    synth.program_select(0, bank_id, 0, 0)
    synth.set_tuning(0, float(rng.uniform(-_MOST_DETUNE, _MOST_DETUNE)))
    for part in parts:
        if part.notes:
            sound = render_part(synth, bank_id, part, start, seconds, kit)
            yield part, sound[:, 0] * np.float32(1 - place) + sound[:, 1] * np.float32(place)


def _longest_silence(samples: np.ndarray) -> float:
    """Return the longest time, in seconds, in which nothing is within 50 dB of the clip's level."""
    hop = SAMPLING_RATE // 10
    levels = np.sqrt(np.mean(np.square(samples[: len(samples) // hop * hop].reshape(-1, hop)), 1))
    loud = np.flatnonzero(levels > 10 ** (-50 / 20) * np.sqrt(np.mean(np.square(levels))))
    edges = np.concatenate([[-1], loud, [len(levels)]])
    return float(np.diff(edges).max() - 1) / 10


def _change_voice(part: Part, truth: Truth, rng: np.random.Generator) -> Part:
    """Sometimes play a lead on another instrument of its name: an alto for a tenor saxophone."""
    if part.role != "lead" or truth.manner or rng.random() > _OTHER_VOICE_RATE:
        return part
    name = _NAMES.get(part.program, "")
    others = [voice for voice in VOICES if voice.name == name and voice.ring_seconds > 1]
    if not others:
        return part
    voice = draw(rng, others)
    return put_in_range(Part("lead", voice.program, part.notes), voice.lowest, voice.highest)


def _choose_kit(synth: Any, bank_id: int, rng: np.random.Generator) -> int:
    kits = [kit for kit in KITS if synth.sfpreset_name(bank_id, 128, kit)]
    return draw(rng, kits) if rng.random() < _OTHER_KIT_RATE else 0
