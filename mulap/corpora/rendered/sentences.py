"""True captions for rendered clips, in the words that people type into a search box.

Six a clip: a word or two, two short phrases, two sentences, and a list of tags. All of them say
only what `Truth` knows; moods are convention (minor and slow is sad). Scope: whole captions;
`speaker` has the words.
"""

from collections.abc import Callable

import numpy as np

from mulap.corpora.rendered.effects import LOUD_DB
from mulap.corpora.rendered.speaker import Speaker, a, is_plural
from mulap.corpora.rendered.truth import Truth, family_of
from mulap.corpora.rendered.vocabulary import EFFECT_TAGS, FAMILY_WORDS, NOUN_STYLES, PERIODS
from mulap.corpora.wording import capitalise, draw

NUM_SENTENCES = 6
_TRIES = 60


def write_sentences(truth: Truth, seed: int, index: int) -> list[str]:
    """Return six different captions of a clip, drawn by the seed and the clip's number."""
    rng = np.random.default_rng([seed, 13, index])
    writer = Writer(truth, rng)
    plan: list[Callable[[], str]] = [writer.word, writer.phrase, writer.phrase]
    plan += [writer.sentence, writer.sentence, writer.tags]
    sentences: list[str] = []
    for number in range(_TRIES):
        if number >= len(plan) and len(sentences) == NUM_SENTENCES:
            break
        make = plan[number] if number < len(plan) else writer.any
        text = " ".join(make().split()).replace(" ,", ",").replace(" .", ".").strip(" ,")
        if text and text.lower().rstrip(".") not in {s.lower().rstrip(".") for s in sentences}:
            sentences.append(text)
    return sentences[:NUM_SENTENCES]


class Writer(Speaker):
    """Captions for one clip."""

    def any(self) -> str:
        """A caption of any length."""
        makers = (self.word, self.phrase, self.phrase, self.sentence, self.tags)
        return draw(self.rng, makers)()

    def word(self) -> str:
        """One or two words."""
        truth, lead = self.truth, self.lead() if self.truth.lead else ""
        if truth.manner == "hits":
            return self.pick(truth.voice, truth.voice, "percussion")
        if self.is_drums:
            return self.pick("drums", "percussion", "drum beat", f"{self.genre()} drums")
        family = self.pick(*FAMILY_WORDS.get(family_of(truth.lead), ()))
        if truth.style_family == "solo":
            return self.pick(lead, lead, lead, family, f"solo {lead}" if self.is_solo else "")
        eight = self.pick("8-bit", "chiptune", "8-bit music") if self.is_8_bit else ""
        player = truth.ensemble or lead
        return self.pick(self.genre(), self.genre(), self.genre(), player, eight, self.history())

    def phrase(self) -> str:
        """A few words, as typed into a search box."""
        kinds = {"single notes": self._note_phrase, "drum hits": self._hit_phrase}
        if make := kinds.get(self.truth.source):
            return make()
        if self.is_drums:
            return self._drum_phrase()
        if self.truth.style_family == "solo":
            return self._solo_phrase()
        genre, lead, group = self.genre(), self.lead(), self.group()
        piece = a(genre) if genre.split()[-1] in NOUN_STYLES else genre
        has_lead = not self.truth.ensemble  # of equals, none plays the piece alone
        return self.vary(
            "phrase",
            f"{self.adjective()} {genre}",
            f"{self.adjective()} {genre}",
            f"{genre} with {lead}" if has_lead else "",
            f"{self.adjective()} {genre} with {lead}" if has_lead else "",
            f"{lead} playing {a(self.noun())}" if has_lead else "",
            f"{group}, {genre}" if not has_lead and group not in genre else "",
            self.listing(3) if len(self.truth.instruments) > 1 else "",
            f"{lead} and {self.name(self.others[0])}" if self.others and has_lead else "",
            f"{self.adjective()} {group}" if group not in ("", "band") else "",
            f"{group} playing {piece}" if group and group != genre else "",
            f"{genre} {self.drums()}" if self.truth.has_drums else f"{genre}, {self.drums()}",
            f"{self.adjective()} instrumental {genre}" if self.has_no_voice else "",
            f"{genre} {self.mode()}" if self.truth.key else "",
            f"{genre} {self.metre()}" if self.metre() else "",
            f"{genre} {self.effect()}" if self.effect() else "",
            self.history(),
            self.history(),
            self.pick("8-bit game music", "retro video game music") if self.is_8_bit else "",
        )

    def sentence(self) -> str:
        """A whole sentence, capitalised and closed most of the time."""
        kinds = {"single notes": self._note_sentence, "drum hits": self._hit_sentence}
        if make := kinds.get(self.truth.source):
            text = make()
        elif self.is_drums:
            text = self._drum_sentence()
        elif self.truth.style_family == "solo":
            text = self._solo_sentence()
        else:
            text = self._music_sentence()
        text = text + self._addition(text)
        if self.rng.random() < 0.25:
            return text
        return capitalise(text) + "."

    def _addition(self, text: str) -> str:
        """One more fact at the end of a sentence."""
        level = self.level()
        level = f"{level} recording" if level in ("quiet", "loud") else level
        found = self.pick(
            self.maybe(0.6, self.effect()), self.maybe(0.3, level), self.maybe(0.2, self.metre())
        )
        return f", {found}" if found and found not in text and self.rng.random() < 0.5 else ""

    def _music_sentence(self) -> str:
        noun = self.noun()
        subject = a(f"{self.adjective()} {noun}")
        history, group = self.history(), self.group()
        backing = f"over {self.backing()}" if len(self.truth.instruments) > 1 else ""
        plain = a(noun)
        return self.vary(
            "music_sentence",
            f"{subject} with {self.listing()}",
            f"{subject} played by {self.listing()}",
            f"{subject} {self.mode()}, with {self.listing(3)}" if self.truth.key else "",
            f"{self.lead_does('plays')} {subject} {backing}" if not self.truth.ensemble else "",
            f"{a(self.truth.ensemble)} plays {subject}"
            if self.truth.ensemble and self.truth.ensemble not in subject
            else "",
            f"{subject} led by {a(self.lead())}, {self.drums()}"
            if self.others and not self.truth.ensemble
            else "",
            f"{subject} featuring {self.lead()}, {self.mode()}" if self.truth.key else "",
            f"{plain} at about {10 * round(self.truth.tempo_bpm / 10)} beats per minute"
            if self.speed() and self.truth.source != "score"
            else "",
            f"{history}, played by {a(group)}"
            if history and group and not self.is_solo and group not in history
            else "",
            f"{history}, played on {self.listing(3)}" if history and self.is_solo else "",
            f"{plain} that sounds {self.mood()}" if self.mood() else "",
            f"{plain} for {self.lead()} alone" if self.is_solo else "",
        )

    def tags(self) -> str:
        """A list of tags."""
        truth = self.truth
        names = [] if truth.manner == "hits" else [self.name(n) for n in truth.instruments[:4]]
        found = [self.genre() if truth.manner != "hits" else truth.voice, *names]
        extra = [self.tempo(), self.mood(), self.energy(), *self._tags_of_sound()]
        extra = [tag for tag in dict.fromkeys(extra) if tag]
        self.rng.shuffle(extra)
        found += extra[: int(self.rng.integers(1, 4))]
        return ", ".join(dict.fromkeys(tag for tag in found if tag))

    def _tags_of_sound(self) -> list[str]:
        truth = self.truth
        mode = truth.key.rpartition(" ")[2]
        return [
            f"{mode} key" if mode else "",
            "instrumental" if self.has_no_voice and truth.style_words else "",
            "solo" if self.is_solo else "",
            "no drums" if not truth.has_drums and self.others else "",
            "acoustic" if truth.is_acoustic and not truth.has_drums and not self.is_8_bit else "",
            "electronic" if truth.is_electronic else "",
            self.pick("8-bit", "chiptune", "retro game music") if self.is_8_bit else "",
            truth.ensemble,
            PERIODS.get(truth.period, ""),
            *(EFFECT_TAGS.get(name, "") for name in truth.effects),
            "quiet" if self.is_quiet else "loud" if truth.loudness_db >= LOUD_DB else "",
        ]

    def _note_phrase(self) -> str:
        voice, register = self.lead(), self.truth.register
        onsets = self.truth.onsets_per_second
        length = "long" if onsets < 0.7 else "short" if onsets > 1.8 else ""
        family = self.pick(*FAMILY_WORDS.get(family_of(self.truth.lead), ()))
        return self.vary(
            "note_phrase",
            f"single notes on {a(voice)}",
            f"single {voice} notes",
            f"{register} {voice} notes",
            f"{length} {voice} notes",
            f"isolated {voice} notes",
            f"the sound of {a(voice)}",
            f"solo {voice}" if self.is_solo else "",
            f"{family}, single notes" if family else "",
            f"{voice} {self.effect()}" if self.effect() else "",
        )

    def _note_sentence(self) -> str:
        voice, onsets = a(self.lead()), self.truth.onsets_per_second
        plays = self.lead_does("plays")
        length = "long" if onsets < 0.7 else "short" if onsets > 1.8 else "single"
        register = self.truth.register
        return self.vary(
            "note_sentence",
            f"single notes played on {voice}, one after the other",
            f"{plays} {length} notes without a tune",
            f"{plays} {register} {length} notes",
            f"only {voice}, playing one note at a time",
            f"separate notes on {voice}, with nothing else",
            f"we hear {voice} alone, note by note",
        )

    def _solo_phrase(self) -> str:
        lead, manner, key = self.lead(), self.truth.manner, self.mode()
        is_bass = self.truth.lead.endswith("bass")
        what = "bass line" if is_bass and manner == "riff" else f"{lead} {manner}"
        return self.vary(
            "solo_phrase",
            f"solo {lead}" if self.is_solo else "",
            f"{self.adjective()} solo {lead}" if self.is_solo else "",
            f"{self.adjective()} {lead}",
            f"{self.adjective()} {lead} music" if not is_plural(lead) else "",
            f"{self.adjective()} {what}",
            what,
            f"{lead} alone {key}" if key else "",
            f"unaccompanied {lead}" if self.is_solo else "",
            f"{self.truth.register} {lead}" if self.truth.register else "",
            f"{lead} {self.effect()}" if self.effect() else "",
        )

    def _solo_sentence(self) -> str:
        truth = self.truth
        doing = {
            "melody": ("plays a melody", "plays a simple tune"),
            "arpeggios": ("plays arpeggios", "plays broken chords"),
            "chords": ("plays chords", "strums chords" if "guitar" in truth.lead else ""),
            "scales": ("plays scales", "runs up and down a scale"),
            "riff": ("repeats a short figure", "plays a riff over and over"),
        }[truth.manner]
        clause = self.lead_does(self.pick(*doing))
        adjective, lead, mood = self.adjective(), self.lead(), self.mood()
        return self.vary(
            "solo sentence",
            clause,
            f"{clause} {self.mode()}" if truth.key else "",
            f"{clause}, with no other instruments",
            f"{a(f'{adjective} solo passage')} on {a(lead)}" if self.is_solo else "",
            f"{a(f'{adjective} piece')} for {lead} alone",
            f"{clause}; it sounds {mood}" if mood else "",
        )

    def _drum_phrase(self) -> str:
        adjective = self.pick(self.energy(), self.tempo())
        kit = self.pick(self.truth.kit, self.truth.kit, "drums")
        genre = self.genre()
        return self.vary(
            "drum_phrase",
            f"{adjective} drums",
            f"{adjective} {genre} drums",
            f"{genre} drum beat",
            f"{adjective} drum groove",
            f"drums only, {genre}",
            f"{kit} playing {a(f'{genre} beat')}",
            f"{kit} {self.effect()}" if self.effect() else "",
        )

    def _drum_sentence(self) -> str:
        genre, adjective = self.genre(), self.pick(self.energy(), self.tempo())
        beat = a(f"{adjective} {genre} {self.pick('beat', 'groove', 'rhythm')}")
        return self.vary(
            "drum_sentence",
            f"drums alone play {beat}",
            f"{beat} on {self.kit()}",
            f"only percussion: {beat}",
            f"{beat} at about {10 * round(self.truth.tempo_bpm / 10)} beats per minute",
            f"drum track of {a(self.noun())}, with no other instruments",
        )

    def _hit_phrase(self) -> str:
        drum = self.truth.voice
        return self.vary(
            "hit_phrase",
            f"single {drum} hits", f"{drum} pattern", f"{drum} alone", f"{drum} sample",
            f"the sound of {a(drum)}",
            f"percussion: {drum}", f"{drum} {self.effect()}" if self.effect() else "",
        )  # fmt: skip

    def _hit_sentence(self) -> str:
        drum = self.truth.voice
        one = a(drum)
        return self.vary(
            "hit_sentence",
            f"{one} repeated in a simple rhythm",
            f"only {one}, again and again",
            f"percussion without pitch: {one} alone",
            f"we hear {one} and no other instrument",
        )
