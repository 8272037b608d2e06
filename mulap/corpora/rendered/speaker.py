"""Words for single facts of a rendered clip: tempo, mood, instruments, genre, effects.

Each method returns "" where nothing is known. `sentences` puts them together. Scope: words; every
draw comes from one generator.
"""

import numpy as np

from mulap.corpora.rendered.banks import PULSES
from mulap.corpora.rendered.effects import LOUD_DB, SOFT_DB
from mulap.corpora.rendered.truth import Truth, family_of
from mulap.corpora.rendered.vocabulary import (
    COMPOSERS,
    EFFECT_PHRASES,
    GENRE_WORDS,
    HAS_NO_ARTICLE,
    METRES,
    MOODS,
    NOUN_STYLES,
    PERIODS,
    SINGULAR_WITHOUT_ARTICLE,
    TEMPO_WORDS,
)
from mulap.corpora.rendered.words import find_mentions, instrument_words, tempo_band
from mulap.corpora.wording import draw, join_words, with_article

_DRY_RATE = 0.1
_TRIO = 3
_GROUP_INSTRUMENTS = {"choir", "strings", "pizzicato strings", "brass section"}
_TENSE_FAMILIES = {"rock", "electronic", "classical", "solo", "folk melody", "study"}


def a(phrase: str) -> str:
    """Put "a" or "an" before a phrase, if it takes one."""
    phrase = " ".join(phrase.split())
    has_none = phrase in HAS_NO_ARTICLE or phrase.split()[-1] in ("music", "chiptune")
    return phrase if has_none else with_article(phrase)


def is_plural(phrase: str) -> bool:
    """Say whether a verb after the phrase takes no s."""
    return phrase in HAS_NO_ARTICLE and phrase not in SINGULAR_WITHOUT_ARTICLE


def _true_styles(truth: Truth) -> list[str]:
    """Return the words for the style that name no player who is not there."""
    kept = []
    for word in truth.style_words:
        named = find_mentions(word).instruments
        is_false = not named <= set(truth.instruments)
        is_false |= "keyboard" in word and family_of(truth.lead) != "keyboard"
        is_false |= "jazz trio" in word and len(truth.instruments) != _TRIO
        if word == truth.ensemble or not is_false:
            kept.append(word)
    return kept or list(GENRE_WORDS.get(truth.style_family, ()))


class Speaker:
    """Words for what is known of one clip; every draw comes from the generator it is given."""

    def __init__(self, truth: Truth, rng: np.random.Generator) -> None:
        self.truth, self.rng = truth, rng
        self.is_8_bit = truth.sound_bank == PULSES
        self._drawn: set[tuple[str, int]] = set()
        self.styles = _true_styles(truth)
        self.others = [name for name in truth.instruments[1:] if name != "drums"]

    def pick(self, *choices: str) -> str:
        """Draw one of the wordings that are not empty; "" if there is none."""
        known = [choice for choice in choices if choice]
        return draw(self.rng, known) if known else ""

    def vary(self, kind: str, *choices: str) -> str:
        """Draw a wording as `pick` does, but of those of its kind that were not drawn before."""
        fresh = [i for i, text in enumerate(choices) if text and (kind, i) not in self._drawn]
        if not fresh:
            return self.pick(*choices)
        number = draw(self.rng, fresh)
        self._drawn.add((kind, number))
        return choices[number]

    def maybe(self, rate: float, text: str) -> str:
        """Return the text or, at the other times, nothing."""
        return text if self.rng.random() < rate else ""

    def speed(self) -> str:
        """ "slow", "medium" or "fast" where tempo and density agree, else ""."""
        bpm, onsets = self.truth.tempo_bpm, self.truth.onsets_per_second
        if self.truth.source == "single notes" or self.truth.manner == "hits" or not bpm:
            return ""
        if self.truth.source == "score":  # the beat of old scores says little
            return "slow" if onsets < 1.8 else "fast" if onsets > 6.5 else ""
        band = tempo_band(bpm)
        if band <= 1:
            return "slow" if onsets < 6 else ""
        if band == 2:
            return "medium"
        return "fast" if onsets > 2.5 else ""

    def tempo(self) -> str:
        """A word for the tempo."""
        return self.pick(*TEMPO_WORDS.get(self.speed(), ("",)))

    def mood(self) -> str:
        """A word for the mood that mode and tempo suggest by convention."""
        speed, mode = self.speed(), self.truth.key.rpartition(" ")[2]
        is_loud = "distorted guitar" in self.truth.instruments or self.truth.onsets_per_second > 5
        is_tense = (mode, speed) == ("minor", "fast")
        if is_tense and self.truth.style_family not in _TENSE_FAMILIES:
            return ""  # a fast dance in minor is not dark for that
        if self.truth.manner == "scales" or (speed == "slow" and is_loud):
            return ""
        return self.pick(*MOODS.get((mode, speed), ("",)))

    def energy(self) -> str:
        """A word for how much goes on."""
        onsets, speed = self.truth.onsets_per_second, self.speed()
        if self.truth.has_drums and speed == "fast" and onsets > 5 and not self.is_quiet:
            return self.pick("energetic", "energetic", "driving", "high-energy")
        if not self.truth.has_drums and speed == "slow" and onsets < 2.5:
            return self.pick("calm", "quiet" if self.is_quiet else "", "sparse")
        return ""

    @property
    def is_quiet(self) -> bool:
        """Whether the clip's level is low."""
        return self.truth.loudness_db <= SOFT_DB

    def adjective(self) -> str:
        """One or two words before the noun: tempo, mood or energy."""
        one = self.pick(self.tempo(), self.tempo(), self.mood(), self.mood(), self.energy())
        two = self.maybe(0.15, self.mood())
        return one if not two or two == one or self.rng.random() < 0.5 else f"{two}, {one}"

    def level(self) -> str:
        """Words for a very low or high level."""
        if self.is_quiet:
            return self.pick("quiet", "very soft", "at low volume")
        return self.pick("loud", "very loud") if self.truth.loudness_db >= LOUD_DB else ""

    def effect(self) -> str:
        """A phrase for an effect that can be heard, such as "with long reverb"."""
        if self.truth.effects == ("dry",) and self.rng.random() > _DRY_RATE:
            return ""  # most music is, and nobody says so
        return self.pick(*(self.pick(*EFFECT_PHRASES[name]) for name in self.truth.effects))

    def drums(self) -> str:
        """A phrase that says whether there are drums."""
        if not self.truth.has_drums:
            return self.pick("without drums", "no drums", "no percussion") if self.others else ""
        return f"with {self.kit()}"

    def kit(self) -> str:
        """Words for the drums."""
        if self.is_8_bit:
            return self.pick("noise drums", "8-bit drums", "drums")
        return self.pick(self.truth.kit, "drums", "drums", "a drum kit", "percussion")

    def mode(self) -> str:
        """A phrase for the key."""
        key = self.truth.key
        mode = key.rpartition(" ")[2]
        return self.pick(f"in a {mode} key", f"in a {mode} key", f"in {key}") if key else ""

    def metre(self) -> str:
        """A phrase for a metre other than four beats."""
        return self.pick(*METRES.get(self.truth.metre, ("",)))

    def name(self, instrument: str) -> str:
        """Words for an instrument; precise ones for the lead where they are known."""
        if self.is_8_bit and instrument == "synthesizer":
            return self.pick("8-bit synth", "chiptune synth", "square-wave synth")
        if instrument == "drums":
            return self.pick("drums", "drums", self.truth.kit)
        if self.truth.source == "score":  # nobody calls the violin of a quartet a fiddle
            is_lead = instrument == self.truth.lead and self.truth.voice
            return self.pick(self.truth.voice if is_lead else "", instrument)
        if instrument == self.truth.lead and self.truth.voice and self.rng.random() < 0.5:
            return self.truth.voice
        return self.pick(instrument, instrument, *instrument_words(instrument))

    def lead(self) -> str:
        """Words for the lead instrument."""
        return self.name(self.truth.lead)

    def lead_does(self, verb: str) -> str:
        """The lead as a subject: "a flute plays", "strings play"."""
        words = self.lead()
        first, _, rest = verb.partition(" ")
        does = first.removesuffix("s") if is_plural(words) else first
        return f"{a(words)} {does} {rest}".strip()

    @property
    def is_drums(self) -> bool:
        """Whether nothing but drums can be heard."""
        return self.truth.texture == "drums" or set(self.truth.instruments) == {"drums"}

    @property
    def is_solo(self) -> bool:
        """Whether one player can be heard, and no section or choir."""
        truth = self.truth
        is_group = truth.lead in _GROUP_INSTRUMENTS or truth.ensemble
        return truth.texture == "solo" and bool(truth.lead) and not is_group

    def listing(self, most: int = 4) -> str:
        """The instruments as a list: "piano, double bass and drums"."""
        names = self.truth.instruments[:most]
        return join_words(list(dict.fromkeys(self.name(name) for name in names)))

    def backing(self) -> str:
        """One to three of the instruments other than the lead."""
        names = list(self.truth.instruments[1:])
        self.rng.shuffle(names)
        return join_words([self.name(name) for name in names[: int(self.rng.integers(1, 4))]])

    def genre(self) -> str:
        """Words for the style, sometimes for its family, with the region."""
        truth = self.truth
        style = self.pick(*self.styles)
        if truth.region_adjective and self.rng.random() < 0.6:
            bare = style.removeprefix("folk ") if truth.style_family == "folk dance" else style
            style = f"{truth.region_adjective} {bare}"
        if self.rng.random() < 0.2:
            style = self.pick(*GENRE_WORDS.get(truth.style_family, ()), style)
        if self.is_8_bit and self.rng.random() < 0.6:
            style = self.pick(f"8-bit {style}", f"chiptune {style}", "8-bit music", "chiptune")
        return style

    def noun(self) -> str:
        """A noun phrase for the music, without an article: "bossa nova tune"."""
        genre = self.genre()
        if not genre:
            return "piece"
        if genre.split()[-1] in NOUN_STYLES:
            return genre
        return f"{genre} " + self.pick("tune", "piece", "track", "instrumental")

    def group(self) -> str:
        """Words for who plays, as a whole: "string quartet", "jazz trio", "solo flute"."""
        truth = self.truth
        if truth.ensemble:
            return truth.ensemble
        if self.is_solo:
            return f"solo {self.lead()}"
        has_rhythm = truth.has_drums and any(n.endswith("bass") for n in truth.instruments)
        if truth.style_family == "jazz" and has_rhythm:
            return {3: "jazz trio", 4: "jazz quartet"}.get(len(truth.instruments), "jazz combo")
        if len(truth.instruments) == 2 and not truth.has_drums:
            return self.pick("duo", "duet")
        return "band" if has_rhythm else ""

    def history(self) -> str:
        """Words for composer, period and form, such as "Baroque chorale"."""
        truth = self.truth
        form, period = self.pick(*self.styles), PERIODS.get(truth.period, "")
        composer = COMPOSERS.get(truth.composer, truth.composer)
        if not period and not composer:
            return ""
        is_said = period in form or (composer and composer in form)
        return self.pick(
            f"{period} music" if period else "",
            (form if is_said else f"{period} {form}") if period else "",
            f"{form} by {composer}" if composer and composer not in form else "",
            f"music by {composer}" if composer else "",
        )

    @property
    def has_no_voice(self) -> bool:
        """Whether nobody sings, not even a sampled choir."""
        return "choir" not in self.truth.instruments and self.truth.style_family != "folk melody"
