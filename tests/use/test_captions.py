"""Captions: the nearest sentence, others that say something else, and how well it fits."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from tiny import CAPTIONS, RATE, tone, write_joint_model, write_reference

import mulap
from mulap.encoders.engine import load_engine
from mulap.terminal import shown
from mulap.use import captions
from mulap.use.captions import SENTENCES, Caption, Captioner, caption_files, read_sentences


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return load_engine(write_joint_model(tmp_path_factory.mktemp("captions")), "cpu")


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    for seed in range(3):
        sf.write(folder / f"{seed}.wav", tone(seed, 4.0 + 9 * seed), RATE)
    (folder / "copy.wav").write_bytes((folder / "1.wav").read_bytes())
    (folder / "empty.wav").touch()
    (folder / "notes.txt").touch()
    return folder


def test_each_file_gets_the_sentence_whose_point_is_nearest(engine, songs):
    others = Counter()
    found = {c.file.rpartition("/")[2]: c for c in caption_files(
        songs, Captioner(engine, sentences=[*CAPTIONS, CAPTIONS[0]]), others
    )}  # fmt: skip
    encoder = mulap.load(engine.name, space="joint")
    texts = encoder.embed_text(CAPTIONS)
    for seed in range(3):
        point = encoder.embed_waveform(tone(seed, 4.0 + 9 * seed), "track")[0]
        caption = found[f"{seed}.wav"]
        assert caption.caption == CAPTIONS[int((texts @ point).argmax())]
        best = texts[[CAPTIONS.index(caption.caption)]]
        assert caption.percentile == pytest.approx(
            engine.neutral.percentile(point[None], best)[0, 0], abs=0.2
        )
    assert found["copy.wav"].caption == found["1.wav"].caption
    assert found["empty.wav"].reason
    assert found["empty.wav"].caption == ""
    assert others == {".txt": 1}


def test_others_say_something_else(engine, monkeypatch):
    features = engine.backbone.embed_waveform(tone(0, 6.0))
    points = engine.embed_text(CAPTIONS)
    cosines = points @ points.T
    monkeypatch.setattr(captions, "_SAME", float(np.median(cosines)))
    found = Captioner(engine, sentences=CAPTIONS).caption(features)
    chosen = [CAPTIONS.index(text) for text in (found.caption, *found.others)]
    some = cosines[np.ix_(chosen, chosen)]
    assert some[~np.eye(len(chosen), dtype=bool)].max(initial=-1) < np.median(cosines)
    order = (engine.project(features.mean(0, keepdims=True)) @ points.T)[0][chosen]
    assert list(order) == sorted(order, reverse=True)


def test_points_of_sentences_are_computed_once_per_model(engine, monkeypatch, capsys, tmp_path):
    features = engine.backbone.embed_waveform(tone(0, 6.0))
    sentences = [f"{text} once" for text in CAPTIONS]
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with shown():
        first = Captioner(engine, sentences=sentences).caption(features)
    assert "embedding 8 sentences, once for this model" in capsys.readouterr().err
    with shown():
        assert Captioner(engine, sentences=sentences).caption(features) == first
    assert "once for this model" not in capsys.readouterr().err


def test_written_sentences_are_ranked_by_the_co_attention(engine):
    features = engine.backbone.embed_waveform(tone(0, 40.0))  # more than one window
    found = Captioner(engine, "written").caption(features)
    assert found.method == "written"
    assert found.caption[0].isupper()
    assert found.caption.endswith(".")
    assert found == Captioner(engine, "written").caption(features)


def test_json_has_plain_values(engine, songs):
    (found,) = caption_files(songs / "1.wav", Captioner(engine, sentences=CAPTIONS))
    values = json.loads(json.dumps(found.to_dict()))
    assert list(values) == [
        *("file", "caption", "method", "match", "percentile", "agreement", "others")
    ]
    assert values["match"] in ("strong", "fair", "weak")
    assert Caption("x", percentile=99.0).match == "strong"
    assert Caption("x", percentile=96.0).match == "fair"
    assert Caption("x", percentile=94.9).match == "weak"


def test_the_best_of_many_sentences_is_as_sure_as_the_ten_nearest_agree():
    for agreement, word in ((75.0, "strong"), (74.9, "fair"), (50.0, "fair"), (49.9, "weak")):
        assert Caption("x", percentile=100.0, agreement=agreement).match == word
    silence = Caption("x", percentile=0.0, agreement=99.0)
    assert (silence.match, silence.stands_out) == ("weak", False)


def test_agreement_is_a_rank_among_average_tracks(engine, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    write_reference(Path(engine.name))
    sentences = [f"{text} number {number}" for text in CAPTIONS for number in range(15)]
    captioner = Captioner(engine, sentences=sentences)
    features = engine.backbone.embed_waveform(tone(0, 6.0))
    found = captioner.caption(features)
    texts = engine.embed_text(sentences)

    def agreement(point):
        nearest = texts[np.argsort(-(texts @ point))[:10]]
        return (nearest @ nearest.T).mean()

    average = np.array([agreement(each) for each in engine.reference.draw(1_000)])
    own = agreement(engine.project(features.mean(0, keepdims=True))[0])
    assert found.agreement == pytest.approx(100 * (average < own).mean(), abs=0.5)
    assert Captioner(engine, sentences=sentences[:99]).caption(features).agreement is None


def test_the_sentences_that_come_with_mulap_are_sentences_and_each_once():
    sentences = read_sentences(SENTENCES)
    assert len(sentences) == len({each.casefold() for each in sentences}) == 2_000
    assert all(each.endswith(".") and each[0] == each[0].upper() for each in sentences)
    assert SENTENCES.stat().st_size < 200_000


def test_files_of_sentences_that_cannot_be_used_are_refused(tmp_path, engine):
    (tmp_path / "empty.txt").write_text(" \n\n")
    (tmp_path / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    with pytest.raises(ValueError, match="holds no sentence"):
        read_sentences(tmp_path / "empty.txt")
    with pytest.raises(ValueError, match="not UTF-8"):
        read_sentences(tmp_path / "latin.txt")
    with pytest.raises(ValueError, match="no sentence to choose from"):
        Captioner(engine, sentences=[])
    (tmp_path / "two.txt").write_text("\ufeffA  calm song.\n\nLoud drums.", encoding="utf-8")
    assert read_sentences(tmp_path / "two.txt") == ["A calm song.", "Loud drums."]
