"""One clip of the demo corpus: from the choice of its material to a FLAC file and its true facts.

Which groove or tune, which instruments, tempo and key: all drawn from the seed and the clip's
number alone, so neither the number of processes nor a failed clip changes any other clip.
Scope: audio and facts; `text` writes the captions.
"""

import itertools
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from mulap.corpora.rendered import melodies, scores
from mulap.corpora.rendered.sound import Mix, mix_parts, put_in_range
from mulap.corpora.rendered.styles import INSTRUMENTS, REGIONS, STYLES, Instrument
from mulap.corpora.rendered.words import ClipFacts, judge_description
from mulap.corpora.wording import draw, draw_weighted, reshuffled

# Clips by source.
SOURCE_RATES = {"accompaniment": 0.62, "folk melody": 0.28, "chorale": 0.05, "drum pattern": 0.05}
# Accompaniments.
AS_WRITTEN_RATE = 0.35  # keep the instruments that the groove's author chose
LEAD_RATE = 0.5  # put a melody on top
NO_DRUMS_RATE = 0.25  # leave the drums out
# Folk melodies whose key is known; the others are played solo.
SOLO_RATE = 0.35
DRONE_RATE = 0.2
_TEXTURE_RATES = {"solo": SOLO_RATE, "drone": DRONE_RATE, "melody": 1 - SOLO_RATE - DRONE_RATE}
_DRUM_FAMILIES = {"rock", "pop", "soul and funk", "latin", "electronic"}
_SAMPLING_RATES = (16_000, 16_000, 22_050)
_STEREO_RATE = 0.4
_LONGEST_LEAD_IN_SECONDS = 0.3
_SOFTEST_RMS = 10 ** (-50 / 20)
_WORDS_FOR_FOLK = ("folk song", "folk tune", "traditional melody", "folk melody")
_WORDS_FOR_CHORALE = ("chorale", "chorale melody", "church tune")


@dataclass(frozen=True)
class ClipPlan:
    """What one clip will be made of, before anything is drawn for it."""

    index: int  # its number; all its random draws depend on this and the seed
    source: str  # a key of `SOURCE_RATES`
    material: scores.Groove | Path  # the groove, or the path of the melody

    @property
    def group(self) -> str:
        """What never may be in two splits: the groove or the tune."""
        if isinstance(self.material, scores.Groove):
            return f"groove {self.material.full_name}"
        return f"melody {melodies.tune_name(self.material)}"


def plan_clips(seed: int) -> Iterator[ClipPlan]:
    """Choose source and material of one clip after the other, without end.

    Styles come in turn, and regions by their weight; a groove or tune comes back only when all of
    its style or region have been used.
    """
    rng = np.random.default_rng([seed, 0])
    grooves = {style: reshuffled(rng, scores.read_grooves(style)) for style in STYLES}
    tunes = {
        start: filter(melodies.is_playable, reshuffled(rng, paths))
        for start, paths in melodies.list_melodies().items()
    }
    drum_styles = reshuffled(rng, [s for s in STYLES if s.family in _DRUM_FAMILIES])
    styles = reshuffled(rng, STYLES)
    weights = {start: weight for start, (_, _, weight) in REGIONS.items()}
    for index in itertools.count():
        source = draw_weighted(rng, SOURCE_RATES)
        if source in ("accompaniment", "drum pattern"):
            style = next(styles if source == "accompaniment" else drum_styles)
            yield ClipPlan(index, source, next(grooves[style]))
        else:
            region = draw_weighted(rng, weights)
            yield ClipPlan(index, source, next(tunes["chor" if source == "chorale" else region]))


def render_clip(plan: ClipPlan, seconds: float, seed: int, path: Path) -> ClipFacts:
    """Render one clip to a FLAC file; return what is true of it, measured on the mix if it can be.

    Instruments are those heard. ValueError if the material cannot be played.
    """
    rng = np.random.default_rng([seed, 1, plan.index])
    start = -float(rng.uniform(0, _LONGEST_LEAD_IN_SECONDS))
    make = play_accompaniment if isinstance(plan.material, scores.Groove) else _melody
    parts, facts = make(plan, rng, seconds)
    sampling_rate = draw(rng, _SAMPLING_RATES)
    mix = mix_parts(parts, start, seconds, sampling_rate, rng)
    samples = mix.samples if rng.random() < _STEREO_RATE else mix.samples.mean(axis=1)
    if np.sqrt(np.mean(np.square(samples))) < _SOFTEST_RMS:
        raise ValueError("too soft to be heard")
    soundfile.write(path, samples, sampling_rate, subtype="PCM_16")
    return facts_of_mix(facts, mix, plan.material)


def facts_of_mix(facts: ClipFacts, mix: Mix, material: object) -> ClipFacts:
    """Return the facts with the instruments that can be heard, and what may be said of a groove."""
    others = [name for name in mix.levels_db if name != mix.lead]
    facts = replace(
        facts,
        instruments=(mix.lead, *others) if mix.lead else (),
        has_drums="drums" in mix.levels_db,
        texture="solo" if not others and facts.texture != "drums" else facts.texture,
    )
    if isinstance(material, scores.Groove) and facts.texture != "drums":
        description = judge_description(material.description, facts)
        return replace(facts, description=description)
    return facts


def play_accompaniment(
    plan: ClipPlan, rng: np.random.Generator, seconds: float
) -> tuple[list[scores.Part], ClipFacts]:
    """Let MMA play a groove over chords, with instruments and perhaps a melody of our choice."""
    assert isinstance(plan.material, scores.Groove)
    style = plan.material.style
    bpm = int(rng.integers(style.slowest_bpm, style.fastest_bpm + 1))
    mma_bpm = bpm * style.mma_beats_per_beat
    bar_seconds = style.beats_per_bar * 60 / mma_bpm
    key = scores.choose_key(rng, style)
    chords = scores.choose_chords(rng, style, key, scores.num_bars_for(seconds, bar_seconds))
    with tempfile.TemporaryDirectory(prefix="mulap-demo-") as folder:
        midi = scores.run_mma(
            plan.material, chords, mma_bpm, int(rng.integers(1, 1_000_000)), Path(folder)
        )
        parts = scores.read_accompaniment(midi)
    facts = ClipFacts(
        plan.source, style.words[0], style.words, style.family, "backing", bpm, style.metre,
        str(key), (), False,
    )  # fmt: skip
    if plan.source == "drum pattern":
        return [p for p in parts if p.role == "drums"], replace(facts, texture="drums", key="")
    if rng.random() < NO_DRUMS_RATE and any(part.role == "chords" for part in parts):
        parts = [part for part in parts if part.role != "drums"]
    used: set[str] = set()
    if rng.random() > AS_WRITTEN_RATE:
        parts, used = _exchange_instruments(parts, rng)
    if rng.random() < LEAD_RATE:
        lead = _choose_instrument(rng, "L", used)
        parts.append(scores.write_melody(rng, style, key, chords, bar_seconds, lead))
        facts = replace(facts, texture="melody")
    return parts, facts


def _exchange_instruments(
    parts: list[scores.Part], rng: np.random.Generator
) -> tuple[list[scores.Part], set[str]]:
    """Give the two chord instruments that play most to others, and leave out the rest of them."""
    weights: Counter[int] = Counter()
    for part in parts:
        if part.role == "chords":
            sounding = sum(note.duration_seconds * note.velocity for note in part.notes)
            weights[part.program] += round(sounding)
    new: dict[int, Instrument] = {}
    for program, _ in weights.most_common(2):
        new[program] = _choose_instrument(
            rng, "C", {instrument.name for instrument in new.values()}
        )
    kept = [part for part in parts if part.role != "chords"]
    for part in parts:
        if part.role == "chords" and part.program in new:
            to = new[part.program]
            moved = put_in_range(part, to.lowest, to.highest)
            kept.append(scores.Part("chords", to.program, moved.notes))
    return kept, {instrument.name for instrument in new.values()}


def _choose_instrument(rng: np.random.Generator, role: str, used: set[str]) -> Instrument:
    free = [i for i in INSTRUMENTS.values() if role in i.roles and i.name not in used]
    return draw(rng, free)


def _melody(
    plan: ClipPlan, rng: np.random.Generator, seconds: float
) -> tuple[list[scores.Part], ClipFacts]:
    assert isinstance(plan.material, Path)
    melody = melodies.read_melody(plan.material)
    bpm = round(float(np.exp(rng.uniform(np.log(58), np.log(190)))))
    parts, facts = play_tune(melody, bpm, plan.source, rng, seconds)
    if plan.source == "chorale":
        return parts, replace(
            facts, style="chorale", style_words=_WORDS_FOR_CHORALE, style_family="chorale",
            composer="Johann Sebastian Bach", period="Baroque",
        )  # fmt: skip
    place, adjective, _ = REGIONS[melodies.name_start(plan.material)]
    return parts, replace(facts, region=place, region_adjective=adjective)


def play_tune(
    melody: melodies.Melody, bpm: int, source: str, rng: np.random.Generator, seconds: float
) -> tuple[list[scores.Part], ClipFacts]:
    """Play a melody in any key: solo or, if its key is known, over a drone or chords."""
    quarter_seconds = 60 / bpm / melodies.beat_quarters(melody.metre)
    transpose = int(rng.integers(-5, 7))
    lead = _choose_instrument(rng, "L", set())
    parts = [melodies.play_melody(melody, quarter_seconds, transpose, lead, seconds)]
    texture, key = "solo", ""
    if melody.key:
        key = str(scores.Key((melody.key.tonic + transpose) % 12, melody.key.mode))
        texture = draw_weighted(rng, _TEXTURE_RATES)
    if texture != "solo":
        other = _choose_instrument(rng, "D" if texture == "drone" else "C", {lead.name})
        parts.append(
            melodies.harmonise(
                melody, quarter_seconds, transpose, other, seconds, is_drone=texture == "drone"
            )
        )
    facts = ClipFacts(
        source, "folk song", _WORDS_FOR_FOLK, "folk melody", texture, bpm, melody.metre,
        key, (), False,
    )  # fmt: skip
    return parts, facts
