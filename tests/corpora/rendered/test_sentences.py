"""Captions of rendered music: six, different, natural, and true."""

import re

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.corpora.rendered.banks import HELD_OUT_BANK, PULSES
from mulap.corpora.rendered.effects import LOUD_DB, SOFT_DB
from mulap.corpora.rendered.passages import drum_hits, passage, single_notes
from mulap.corpora.rendered.sentences import NUM_SENTENCES, write_sentences
from mulap.corpora.rendered.speaker import a, is_plural
from mulap.corpora.rendered.styles import INSTRUMENTS, REGIONS, STYLES
from mulap.corpora.rendered.truth import DRUMS, VOICES, Truth
from mulap.corpora.rendered.vocabulary import EFFECT_PHRASES, MOODS, TEMPO_WORDS
from mulap.corpora.rendered.words import find_mentions

DRUM_SOUNDS = re.compile(r"\b(drums?|beat|percussion|groove)\b")


@st.composite
def pieces(draw) -> Truth:
    """Music of several instruments, in a style."""
    style = draw(st.sampled_from(STYLES))
    names = draw(
        st.lists(st.sampled_from(sorted(INSTRUMENTS)), min_size=1, max_size=4, unique=True)
    )
    has_drums = draw(st.booleans())
    instruments = (*names, "drums") if has_drums else tuple(names)
    region, adjective, _ = draw(st.sampled_from(sorted(REGIONS.values())))
    is_folk = draw(st.booleans()) and not has_drums
    return Truth(
        "folk melody" if is_folk else "accompaniment",
        "folk song" if is_folk else style.words[0],
        ("folk song", "folk tune") if is_folk else style.words,
        "folk melody" if is_folk else style.family,
        "solo" if len(instruments) == 1 else draw(st.sampled_from(["melody", "backing"])),
        draw(st.integers(45, 240)), style.metre,
        draw(st.sampled_from(["", "C major", "F# minor"])), instruments, has_drums,
        region=region if is_folk else "", region_adjective=adjective if is_folk else "",
        sound_bank=draw(st.sampled_from([HELD_OUT_BANK, "FluidR3 Mono"])),
        effects=draw(st.sampled_from([(), ("dry",), *((name,) for name in EFFECT_PHRASES)])),
        loudness_db=draw(st.floats(-40, -11)), onsets_per_second=draw(st.floats(0.3, 12)),
    )  # fmt: skip


@st.composite
def lone_instruments(draw) -> Truth:
    """A voice or a drum alone."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    voice = draw(st.sampled_from(VOICES))
    play = draw(st.sampled_from([single_notes, passage, None]))
    if play is None:
        _, truth = drum_hits(draw(st.sampled_from(DRUMS)), rng, 6.0)
        return Truth(**{**truth.__dict__, "instruments": ("drums",), "loudness_db": -20.0})
    _, truth = play(voice, rng, 6.0)
    return Truth(
        **{**truth.__dict__, "loudness_db": -20.0, "onsets_per_second": draw(st.floats(0.3, 9))}
    )


def check_form(captions: list[str]) -> None:
    assert len(captions) == NUM_SENTENCES
    assert len({caption.lower().rstrip(".") for caption in captions}) == NUM_SENTENCES
    for caption in captions:
        assert 1 <= len(caption.split()) <= 32, caption
        assert caption == caption.strip(" ,"), caption
        assert not re.search(r"  | ,|,,|\.\.|\ba a\b|\ba an\b|\ba [aeio]\w", caption), caption
        assert not re.search(r"\ban? (strings|drums|music|bagpipes)\b", caption), caption
        assert not re.search(r"\b(?!cha)(\w+) \1\b", caption), caption


@settings(derandomize=True, max_examples=400, deadline=None)
@given(pieces(), st.integers(0, 1000))
def test_captions_of_pieces_tell_only_what_is_true(truth, index):
    captions = write_sentences(truth, 0, index)
    assert captions == write_sentences(truth, 0, index)
    check_form(captions)
    known = set(truth.instruments)
    mode = truth.key.rpartition(" ")[2]
    for caption in captions:
        bare = caption.replace("without drums", "").replace("no drums", "").lower()
        bare = re.sub("(no|without) percussion|guitar music|kazoo", "", bare)
        assert find_mentions(bare).instruments <= known | {"any guitar", "any bass"}, caption
        assert truth.has_drums or not DRUM_SOUNDS.search(
            re.sub("(steel drums?|mallet percussion)", "", bare)
        ), caption
        for other in {"major", "minor"} - {mode}:
            assert not re.search(rf"\b{other} key|in \S+ {other}", bare), caption
        for number in re.findall(r"about (\d+) beats", caption):
            assert abs(int(number) - truth.tempo_bpm) <= 5
        if re.search(r"\bvery soft|quiet recording|low volume", bare):
            assert truth.loudness_db <= SOFT_DB
        if re.search(r"\bvery loud|loud recording", bare):
            assert truth.loudness_db >= LOUD_DB
        check_tempo_and_mood(caption, truth, mode)
        check_effects(caption, truth)


def check_tempo_and_mood(caption: str, truth: Truth, mode: str) -> None:
    text = re.sub("|".join(map(re.escape, truth.style_words)), "", caption.lower())
    words = set(re.findall(r"[\w-]+", text))
    if words & {"slow", "slow-paced", "unhurried"}:
        assert truth.tempo_bpm < 92, caption
    if words & {*TEMPO_WORDS["fast"]}:
        assert truth.tempo_bpm >= 126, caption
    for (wanted, speed), moods in MOODS.items():
        if words & set(moods) - {"calm", "bright", "dark"}:
            fits = [key for key, others in MOODS.items() if words & set(others) and key[0] == mode]
            assert fits, (caption, wanted, speed)


def check_effects(caption: str, truth: Truth) -> None:
    for name, phrases in EFFECT_PHRASES.items():
        if name not in truth.effects:
            for phrase in phrases:
                assert not re.search(rf"{re.escape(phrase)}\b(?! reverb)", caption) or any(
                    phrase in other for own in truth.effects for other in EFFECT_PHRASES[own]
                ), caption


@settings(derandomize=True, max_examples=300, deadline=None)
@given(lone_instruments(), st.integers(0, 1000))
def test_captions_of_lone_instruments_name_no_other(truth, index):
    captions = write_sentences(truth, 0, index)
    check_form(captions)
    text = " ".join(captions).lower()
    named = {truth.lead, truth.voice, *truth.voice.split()}
    if truth.source == "drum hits":
        assert truth.voice in text
        assert not re.search(r"\b(piano|guitar|violin|flute|trumpet)\b", text)
        return
    assert not re.search(r"\bdrums?\b", text) or {"drums", "drum"} & named
    others = {v.name for v in VOICES if not set(v.name.split()) & set(" ".join(named).split())}
    others -= {"strings", "organ", "piano", "synthesizer", "brass section", "english horn"}
    for other in others - {"whistle", "choir"}:
        assert not re.search(rf"\b{other}\b", text), (other, text)


def test_captions_are_words_people_type_and_come_in_all_lengths():
    piano = Truth(
        "solo passage", "", (), "solo", "solo", 70, "4/4", "A minor", ("piano",), False,
        voice="grand piano", manner="melody", loudness_db=-20, onsets_per_second=1.5,
    )  # fmt: skip
    quartet = Truth(
        "score", "string quartet", ("string quartet",), "classical", "ensemble", 100, "4/4", "",
        ("violin", "viola", "cello"), False, voice="violin", manner="own", loudness_db=-20,
        composer="Joseph Haydn", period="Classical", ensemble="string quartet",
        onsets_per_second=4,
    )  # fmt: skip
    bossa = Truth(
        "accompaniment", "bossa nova", ("bossa nova", "bossa"), "latin", "melody", 130, "4/4",
        "D minor", ("flute", "classical guitar", "double bass", "drums"), True, voice="flute",
        loudness_db=-20, onsets_per_second=6,
    )  # fmt: skip
    for truth, wanted in (
        (piano, {"piano", "slow solo piano", "solo piano"}),
        (quartet, {"string quartet", "classical string quartet", "classical music"}),
        (bossa, {"bossa nova", "fast bossa nova", "bossa nova with flute"}),
    ):
        found = [c for i in range(150) for c in write_sentences(truth, 0, i)]
        assert wanted <= {caption.lower() for caption in found}, truth.source
        lengths = [len(caption.split()) for caption in found]
        assert min(lengths) <= 2
        assert max(lengths) >= 9
        assert len(set(found)) > 60


def test_music_of_the_console_synthesizer_is_called_so():
    truth = Truth(
        "dance tune", "reel", ("reel",), "folk dance", "solo", 180, "4/4", "D major",
        ("synthesizer",), False, sound_bank=PULSES, loudness_db=-20, onsets_per_second=6,
    )  # fmt: skip
    text = " ".join(c for i in range(20) for c in write_sentences(truth, 0, i))
    assert "8-bit game music" in text
    assert "chiptune" in text


def test_articles_and_plurals():
    assert a("electric piano") == "an electric piano"
    assert a("8-bit reel") == "an 8-bit reel"
    assert [a(w) for w in ("orchestral strings", "folk music")] == [
        "orchestral strings",
        "folk music",
    ]
    assert is_plural("bagpipes")
    assert not is_plural("brass")
    assert not is_plural("flute")
