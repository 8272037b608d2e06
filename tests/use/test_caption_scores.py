"""Scores of captions are sacrebleu's and rouge-score's; a floor stands beside them."""

import json
import os

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer
from tiny import CAPTIONS, write_corpus

from mulap.data.clips import Clip
from mulap.use.caption_scores import (
    evaluate_captions,
    others_captions,
    read_captions,
    references_of,
    score_captions,
)

REFERENCES = [
    ["A calm piano song with strings.", "slow piano music"],
    ["Fast rock with loud guitar and drums"],
    ["an electronic dance track", "a dance track with a beat", "techno"],
    ["jazz with drums and a piano solo"],
]
GIVEN = ["a calm piano song", "fast rock with guitar", "an Electronic dance track", "a sad choir"]


def test_bleu_is_sacrebleus_over_all_clips_whatever_the_number_of_references():
    found = score_captions(GIVEN, REFERENCES, np.arange(4))
    columns = [[own[k] if k < len(own) else None for own in REFERENCES] for k in range(3)]
    expected = sacrebleu.corpus_bleu(GIVEN, columns, lowercase=True)
    assert found["bleu"] == pytest.approx(expected.score)
    assert 10 < found["bleu"] < 90
    low, high = found["bleu/95%"]
    assert low < found["bleu"] < high


def test_rouge_is_the_mean_over_clips_of_the_nearest_reference():
    found = score_captions(GIVEN, REFERENCES, np.arange(4))
    scorer = RougeScorer(["rougeL"])
    expected = [
        max(scorer.score(each, caption)["rougeL"].fmeasure for each in own)
        for caption, own in zip(GIVEN, REFERENCES, strict=True)
    ]
    assert found["rouge_l"] == pytest.approx(100 * np.mean(expected))
    assert found["different"] == 4
    assert found["words"] == pytest.approx(15 / 4)


def test_captions_that_are_references_get_all_and_one_group_has_no_interval():
    found = score_captions([own[0] for own in REFERENCES], REFERENCES, np.zeros(4, int))
    assert found["bleu"] == pytest.approx(100)
    assert found["rouge_l"] == pytest.approx(100)
    assert found["bleu/95%"] is found["rouge_l/95%"] is None


def test_the_floor_gives_each_clip_the_caption_of_another_group():
    groups = np.array([0, 1, 0, 1, 2, 2])
    captions = [f"{group} {index}" for index, group in enumerate(groups)]
    others = others_captions(captions, groups)
    assert sorted(others) == sorted(captions)
    assert all(other[0] != str(group) for other, group in zip(others, groups, strict=True))


def write_captions(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_file_of_captions_is_scored_on_a_corpus(tmp_path, monkeypatch):
    corpus = write_corpus(tmp_path / "corpus", num_train=2, num_valid=5, seconds=3.2)
    monkeypatch.chdir(tmp_path)
    rows = [
        {"file": "corpus/clip-02.wav", "caption": CAPTIONS[2]},  # as `mulap caption corpus` says
        {"file": os.fspath(corpus / "clip-03.wav"), "caption": CAPTIONS[3]},
        {"file": "elsewhere/clip-04.wav", "caption": CAPTIONS[4]},
        {"file": "corpus/clip-00.wav", "caption": "of another split"},
    ]
    figures, missing = evaluate_captions(
        write_captions(tmp_path / "captions.jsonl", rows), corpus, "valid"
    )
    assert figures["num_clips"] == figures["num_references"] == figures["groups"] == 3
    assert figures["captions"]["bleu"] == pytest.approx(100)
    assert figures["others"]["bleu"] < 50
    assert missing == [os.fspath(corpus / f"clip-{index:02}.wav") for index in (5, 6)]


def test_captions_by_people_are_the_references_where_there_are_some(tmp_path):
    clip = Clip(tmp_path, ("a tune", "Rock.", "rock, loud"), "t", "g", "test", "row 1")
    assert references_of(clip) == ["a tune", "Rock.", "rock, loud"]
    sources = ("tags", "human", "aspects")
    people = Clip(*(getattr(clip, name) for name in (
        "audio_path", "captions", "track_id", "group", "split", "source"
    )), caption_sources=sources)  # fmt: skip
    assert references_of(people) == ["Rock."]


def test_files_that_cannot_be_used_are_refused(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", num_train=2, num_valid=2, seconds=3.2)
    path = tmp_path / "captions.jsonl"
    path.write_text('{"file": "a.wav", "caption": "x"}\n{"file": "b.wav"}\n')
    with pytest.raises(ValueError, match=r"line 2 .* mulap caption --json"):
        read_captions(path)
    write_captions(path, [{"file": "a.wav", "caption": "x"}])
    with pytest.raises(ValueError, match="names no file of the valid split"):
        evaluate_captions(path, corpus, "valid")
