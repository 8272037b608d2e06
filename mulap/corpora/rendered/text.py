"""Sentences for the demo corpus: what is known about a clip, said as differing people would.

A caption is put together from a core ("a slow bossa nova with flute on top") and loose additions,
each in many wordings; or it names one aspect only, or next to nothing. What it says is true of the
clip: a wrong caption is another clip's, and that exchange is made by the caller.
"""

import re

import numpy as np

from mulap.corpora.rendered.truth import Truth
from mulap.corpora.rendered.words import (
    METRE_WORDS,
    MOODS,
    PLURAL_WORDS,
    STYLES_THAT_ARE_NOUNS,
    TEMPO_BANDS,
    VAGUE_CAPTIONS,
    find_mentions,
    instrument_words,
    tempo_band,
)
from mulap.corpora.wording import capitalise, draw, draw_weighted, join_words, with_article

LONGEST_CAPTION_WORDS = 20
_SHORTEST_CAPTION_WORDS = 3


class Writer:
    """Words for the facts of one clip; every draw comes from the generator it is given."""

    def __init__(self, facts: Truth, rng: np.random.Generator) -> None:
        self.facts = facts
        self.rng = rng

    def pick(self, *choices: str) -> str:
        """Draw one of the wordings."""
        return draw(self.rng, choices)

    def instrument(self, name: str, article: bool = False) -> str:
        """Name an instrument, with "a" or "an" where one says so."""
        word = self.pick(*instrument_words(name))
        return with_article(word) if article and word not in PLURAL_WORDS else word

    def tempo(self) -> str:
        """A word for the tempo, such as "lively"."""
        return self.pick(*TEMPO_BANDS[tempo_band(self.facts.tempo_bpm)][1])

    def bpm(self) -> str:
        """The tempo as a number, sometimes rounded to ten."""
        exact, rounded = self.facts.tempo_bpm, 10 * round(self.facts.tempo_bpm / 10)
        unit = self.pick("bpm", "bpm", "beats a minute", "beats per minute")
        return self.pick(f"{exact} {unit}", f"about {rounded} {unit}", f"around {rounded} {unit}")

    def style(self) -> str:
        """A noun phrase for the style without an article, such as "bossa nova tune"."""
        word = self.pick(*self.facts.style_words)
        if self.facts.region:
            place = (f"{self.facts.region_adjective} {word}", f"{word} from {self.facts.region}")
            word = self.pick(*place)
        if self.facts.source == "drum pattern":
            return f"{word} " + self.pick("drum pattern", "drum beat", "drum groove")
        if self.facts.region or self.facts.composer:
            return word
        if set(word.split()) & STYLES_THAT_ARE_NOUNS and self.rng.random() < 0.7:
            return word
        return f"{word} " + self.pick("tune", "piece", "number", "track", "groove")

    def mood(self) -> str:
        """A word for the mood that mode and tempo suggest, "" where they suggest none."""
        band, mode = tempo_band(self.facts.tempo_bpm), self.facts.key.rpartition(" ")[2]
        speed = "slow" if band <= 1 else "fast" if band >= 3 else ""
        return self.pick(*MOODS.get((mode, speed), ("",)))

    def metre(self) -> str:
        """Words for the metre, such as "in three"."""
        return self.pick(*METRE_WORDS[self.facts.metre])

    def backing(self) -> list[str]:
        """One to three of the instruments that accompany."""
        others = list(self.facts.instruments[1:])
        self.rng.shuffle(others)
        return others[: int(self.rng.integers(1, 4))]

    def listing(self, names: list[str]) -> str:
        """Join instruments: "piano, double bass and drums"."""
        return join_words([self.instrument(name) for name in names])


def _core(w: Writer) -> str:
    """The main clause: tempo or mood, style, and who plays."""
    front = w.pick(w.tempo(), w.tempo(), w.mood(), "").strip()
    subject = with_article(f"{front} {w.style()}".strip())
    lead, texture = w.facts.lead, w.facts.texture
    if texture == "drums" or not lead:
        return subject
    if texture == "solo":
        return w.pick(
            f"{subject} on solo {w.instrument(lead)}",
            f"{subject} for {w.instrument(lead)} alone",
            f"{subject} played by {w.instrument(lead, article=True)} with nothing else",
            f"unaccompanied {w.instrument(lead)} playing {subject}",
            f"{subject}, {w.instrument(lead)} only",
        )
    backing = w.listing(w.backing()) if len(w.facts.instruments) > 1 else ""
    if texture in ("melody", "drone"):
        named = w.instrument(lead, article=True)
        cores = [
            f"{subject} with {named} on top",
            f"{subject} featuring {w.instrument(lead)}",
            f"{subject} led by {named}",
            f"{w.instrument(lead)} plays {subject}",
            f"{subject}, {w.instrument(lead)} lead",
        ]
        if backing:
            under = "drone" if texture == "drone" else "backing"
            cores += [
                f"{w.instrument(lead)} over {backing}, {subject}",
                f"{subject} with {w.instrument(lead)} and {backing}",
                f"{named} takes the tune over {backing} in {subject}",
                f"{subject} where {w.instrument(lead)} plays the melody, {backing} the {under}",
            ]
        return w.pick(*cores)
    both = w.listing([lead, *w.backing()][:3])
    return w.pick(
        f"{subject} with {both}",
        f"{subject} played on {both}",
        f"{both} playing {subject}",
        f"{subject}, mostly {w.instrument(lead)}",
        f"{subject} carried by {w.instrument(lead)}",
        f"{w.instrument(lead)} backing for {subject}",
    )


def _additions(w: Writer) -> list[str]:
    """Everything else that is known, each in one wording, in any order."""
    facts = w.facts
    found = [w.pick(f"at {w.bpm()}", w.bpm(), f"{w.bpm()} or so")]
    if facts.key:
        found.append(w.pick(f"in {facts.key}", f"in the key of {facts.key}", f"{facts.key}"))
    if facts.texture != "drums":
        found.append(w.metre())
        found.append(
            w.pick("with drums", "drums keep time", "drum kit behind it", "with percussion")
            if facts.has_drums
            else w.pick("no drums", "without drums", "without percussion")
        )
    if w.mood():
        found.append(w.pick(f"sounds {w.mood()}", f"{w.mood()} mood", f"{w.mood()} in feeling"))
    if facts.description:
        found += [facts.description] * 2
    if facts.composer:
        found.append(w.pick(f"from the chorales of {facts.composer}", f"{facts.composer}"))
        found.append(w.pick(facts.period, f"{facts.period} period", f"{facts.period} church music"))
    w.rng.shuffle(found)
    return found


def _write_full(w: Writer) -> str:
    text = _core(w)
    for addition in _additions(w)[: int(w.rng.integers(0, 4))]:
        names_drums_twice = "drums" in (find_mentions(text).instruments) and re.search(
            r"drum|percussion", addition
        )
        longer = f"{text}{w.pick(',', ',', ' -', '.')} {addition}"
        if not names_drums_twice and len(longer.split()) <= LONGEST_CAPTION_WORDS:
            text = longer
    if text.startswith(("a ", "an ")) and w.rng.random() < 0.3:
        text = w.pick("this is", "here is", "we hear", "you hear", "listen to") + f" {text}"
    return text


def _write_single_aspect(w: Writer) -> str:
    facts, style = w.facts, w.style()
    aspects = {
        "style": (
            f"this is {with_article(style)}",
            f"{with_article(style)}",
            f"typical {style}",
            f"sounds like {style} to me",
            f"for those who like {w.pick(*facts.style_words)}",
            f"style: {w.pick(*facts.style_words)}",
        ),
        "tempo": (
            f"{with_article(w.tempo())} piece",
            f"tempo is {w.bpm()}",
            f"the tempo is {w.tempo()}",
            f"{w.tempo()}, {w.bpm()}",
            f"something {w.tempo()}",
        ),
    }
    if facts.lead:
        lead = w.instrument(facts.lead)
        aspects["instrument"] = (
            f"music with {lead}",
            f"you can hear {w.instrument(facts.lead, article=True)}",
            f"{lead} and nothing else" if len(facts.instruments) == 1 else f"{lead} and others",
            f"played by {w.listing(list(facts.instruments[:2]))}",
            f"mostly {lead} here",
            f"instruments: {w.listing(list(facts.instruments[:4]))}",
        )
    if facts.key:
        aspects["key"] = (f"music in {facts.key}", f"the key is {facts.key}", f"key: {facts.key}")
    if w.mood():
        aspects["mood"] = (
            f"it sounds {w.mood()}",
            f"{with_article(w.mood())} piece of music",
            f"{w.mood()} and {w.tempo()}",
            f"when you feel {w.mood()}",
        )
    if facts.texture != "drums" and facts.metre != "4/4":
        aspects["metre"] = (f"a tune {w.metre()}", f"music {w.metre()}")
    if facts.composer:
        aspects["composer"] = (f"music by {facts.composer}", f"{facts.period} church music")
    if facts.description:
        aspects["description"] = (facts.description,)
    # Style and instrument are what people mostly name.
    weights = {"style": 4, "instrument": 4, "description": 3, "composer": 3, "tempo": 2, "mood": 2}
    name = draw_weighted(w.rng, {name: weights.get(name, 1) for name in aspects})
    return w.pick(*aspects[name])


def write_caption(facts: Truth, kind: str, rng: np.random.Generator) -> str:
    """Write one true caption; the kind is "full", "single aspect" or "vague".

    It is a sentence or a phrase of 3 to 20 words, capitalised and closed with a full stop or not.
    """
    w = Writer(facts, rng)
    write = {"full": _write_full, "single aspect": _write_single_aspect}.get(kind)
    text = write(w) if write else w.pick(*VAGUE_CAPTIONS)
    if len(text.split()) < _SHORTEST_CAPTION_WORDS:
        text = w.pick(f"{text}, and that is it", f"this one: {text}", f"in short: {text}")
    if rng.random() < 0.6:
        text = capitalise(text) + "."
        text = re.sub(r"\. ([a-z])", lambda match: ". " + match[1].upper(), text)
    return text
