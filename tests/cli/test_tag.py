"""`mulap tag`: what it prints of a tagger's tags and of any words, as text, JSON and CSV."""

import csv
import json
import os
import re
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
from command_line import call, check_one_line
from tiny import tone, write_joint_model, write_reference

from mulap.cli import tag as module
from mulap.encoders.encoder import Tags
from mulap.encoders.engine import load_engine
from mulap.encoders.load import load_encoder
from mulap.encoders.zero_shot import says
from mulap.use.tag import TaggedFile


@pytest.fixture
def song(tmp_path):
    sf.write(tmp_path / "song.wav", tone(0, 9.2), 16_000)
    return tmp_path / "song.wav"


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_reference(write_joint_model(tmp_path_factory.mktemp("small")))


def expected_word(percentile):
    return "strong" if percentile >= 99 else "fair" if percentile >= 95 else "weak"


def test_tags_of_many_files_come_in_order_and_with_failures(song, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    (tmp_path / "notes.txt").touch()
    done = call("tag", tmp_path, "--model", "musicnn-mtt", "--json", "--device", "cpu")
    assert done.exit_code == 3
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["file"] == str(song)
    assert len(answer["tags"]) == 50
    assert "space" not in answer  # a tagger has none
    left_out, aside, count = done.stderr.splitlines()
    assert left_out.startswith(f"left out: {tmp_path / 'broken.wav'}: ")
    assert aside == "left aside: 1 file with other endings (1 .txt)"
    assert count.startswith("1 input ")


def test_any_words_are_scored_for_any_file(small, song, tmp_path):
    odd = [os.fsdecode(b"\xff odd.wav"), 'a "b",c.wav', "new\nline.wav", "-.wav"]
    for index, name in enumerate(odd):
        sf.write(tmp_path / "next.wav", tone(index, 0.5), 16_000)
        (tmp_path / "next.wav").rename(tmp_path / name)  # soundfile encodes no such names
    sf.write(tmp_path / "silence.wav", np.zeros(40_000), 8_000)
    sf.write(tmp_path / "blip.wav", np.ones(1) * 0.1, 16_000)
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    done = call("tag", tmp_path, "--model", small, "--tags", "piano, loud  drums,piano", "--json")
    assert done.exit_code == 3
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(odd) + 3
    for answer in answers:
        assert set(answer["tags"]) == {"piano", "loud drums"}
        scores = [each["percentile"] for each in answer["tags"].values()]
        assert scores == sorted(scores, reverse=True)
        for each in answer["tags"].values():
            assert each["match"] == expected_word(each["percentile"])
            assert each["says"] == says(each["z"])
    tags = load_encoder(small).tag(song, tags=["piano", "loud drums"])
    scores = tags.top()
    found = next(each for each in answers if each["file"] == str(song))
    deviations = [found["tags"][tag]["z"] for tag in tags.tags]
    assert deviations == pytest.approx(tags.deviations, abs=2e-3)
    got = {tag: each["percentile"] for tag, each in found["tags"].items()}
    assert got == pytest.approx(scores, abs=0.3)


def test_words_are_printed_best_first_with_what_they_say(small, song, tmp_path):
    asked = tmp_path / "tags.txt"
    asked.write_text("piano\nloud drums, sad\n\n", encoding="utf-8")
    done = call("tag", song, "--model", small, "--tags", f"@{asked}")
    name, *rows = done.stdout.splitlines()
    assert name == str(song)
    assert done.stderr.endswith("strong: fits better than 99 of 100 neutral sentences; fair: 95\n")
    is_plain = not re.search(" (strong|fair) ", done.stdout)
    assert (rows[0] == "  nothing stands out") == is_plain
    rows = rows[is_plain:]
    matches = [re.fullmatch(r"  (.{10})  (strong|fair  |weak  )  ([ \d]{3}\.\d)", r) for r in rows]
    assert {match[1].strip() for match in matches if match} == {"piano", "loud drums", "sad"}
    assert len(call("tag", song, "--model", small).stdout.splitlines()) in (11, 12)
    one = call("tag", song, "--model", small, "--tags", "piano,sad,drums", "--top", 1)
    assert len(one.stdout.splitlines()) in (2, 3)


def test_a_word_that_the_text_model_does_not_know_is_told_and_scored(small, song):
    done = call("tag", song, "--model", small, "--tags", "piano,zither", "--json", "-q")
    answer = json.loads(done.stdout)
    assert set(answer["tags"]) == {"piano", "zither"}
    assert answer["space"] == load_engine(small, "cpu").space
    assert done.stderr.startswith("--tags 'zither': the text model hardly knows such words")
    check_one_line(call("tag", song, "--model", small, "--tags", "a,,b"), 1, "a tag is empty")


def test_segments_say_when_as_json_and_csv(small, song):
    asked = ("tag", song, "--model", small, "--tags", 'piano,"sad"')
    answer = json.loads(call(*asked, "--segments", "--json").stdout)
    tags = load_encoder(small).tag(song, tags=["piano", '"sad"'])
    assert answer["start_seconds"] == pytest.approx(tags.start_seconds, abs=1e-3)
    for name, column in zip(tags.tags, tags.scores.T, strict=True):
        assert answer["segments"][name] == pytest.approx(column, abs=0.3)
    rows = list(csv.DictReader(call(*asked, "--segments", "--csv").stdout.splitlines()))
    assert len(rows) == 2 * (1 + 3)
    for name, of_file in answer["tags"].items():
        whole, *parts = [row for row in rows if row["tag"] == name]
        assert (whole["file"], whole["start_seconds"]) == (str(song), "")
        assert [whole[key] for key in of_file] == [*map(str, of_file.values())]
        assert [float(each["percentile"]) for each in parts] == answer["segments"][name]
    plain = list(csv.DictReader(call(*asked, "--csv", "--top", 1).stdout.splitlines()))
    assert [[*row] for row in plain] == [["file", "tag", "match", "percentile", "z", "says"]]
    assert "segments" not in json.loads(call(*asked, "--json").stdout)


def test_a_tagger_s_segments_and_csv_are_its_scores(song):
    asked = ("tag", song, "--model", "musicnn-mtt", "--segments")
    answer = json.loads(call(*asked, "--json").stdout)
    tags = load_encoder("musicnn-mtt").tag(song)
    assert answer["tags"] == pytest.approx(tags.top(), abs=1e-3)
    assert answer["segments"]["piano"] == pytest.approx(tags.to_pandas()["piano"], abs=1e-3)
    rows = list(csv.DictReader(call(*asked, "--csv", "--top", 2).stdout.splitlines()))
    assert {row["tag"] for row in rows} == set(tags.top(2))
    assert {*rows[0]} == {"file", "tag", "start_seconds", "score"}
    _, row = call(*asked, "--top", 1).stdout.splitlines()
    assert re.fullmatch(r"  0\.\d{3}  \S+  most at 0:0[036]", row)


def test_bars_are_drawn_on_a_terminal_only(monkeypatch):
    shown = module._Shown(is_percentile=True, count=None, has_segments=True)
    scores, starts = np.array([0, 13, 40, 99, 100, 70.0]), np.arange(6) * 3.0
    assert shown._when(scores, starts) == "most at 0:12"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    assert shown._when(scores, starts) == "0:00 ▁▂▄██▆ 0:15  most at 0:12"
    hour = shown._when(np.linspace(0, 100, 1200), np.arange(1200) * 3.0)
    assert re.fullmatch(r"0:00 [▁▂▃▄▅▆▇█]{60} 59:57  most at 59:57", hour)


def test_what_is_no_music_gets_one_line_on_that(monkeypatch):
    tags = Tags("a.wav", ("jazz", "piano"), np.zeros((1, 2)), np.zeros(1), np.zeros(2))
    shown = module._Shown(is_percentile=True, count=None, has_segments=False)
    assert shown.as_text(TaggedFile("a.wav", tags, "")) == (
        "a.wav\n  nothing stands out: it sounds like silence, noise, one tone or speech"
    )
    weak = replace(tags, whole=np.array([40.0, 94.9]))
    _, line, *rows = shown.as_text(TaggedFile("a.wav", weak, "")).splitlines()
    assert (line, len(rows)) == ("  nothing stands out", 2)


def test_rerank_sorts_by_the_co_attention(small, song):
    tags = ["piano", "loud drums", "sad"]
    done = call("tag", song, "--model", small, "--tags", ",".join(tags), "--rerank", "--json")
    found = json.loads(done.stdout)["tags"]
    engine = load_engine(small, "cpu")
    expected = engine.match(engine.backbone.embed(song).embeddings, tags)
    assert [found[tag]["rerank"] for tag in tags] == pytest.approx(expected, abs=2e-3)
    order = [each["rerank"] for each in found.values()]
    assert order == sorted(order, reverse=True)
    done = call("tag", song, "--model", small, "--tags", "piano", "--rerank", "--csv")
    header, row = csv.reader(done.stdout.splitlines())
    assert header == ["file", "tag", "match", "percentile", "z", "says", "rerank"]
    assert len(row) == len(header)
