"""Many files get the tags that each has alone, in order, and what is left out says why."""

import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile as sf
from tiny import tone

import mulap
from mulap.encoders.backbones import load_backbone
from mulap.model.musicnn import MusicnnForTagging
from mulap.use.tag import tag_files


@pytest.fixture(scope="module")
def tagger():
    return mulap.load("musicnn-mtt")


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    for name, seconds in {"a": 7.0, "b": 41.0, "d": 0.4}.items():
        sf.write(folder / f"{name}.wav", tone(ord(name), seconds), 16_000)
    shutil.copy(folder / "a.wav", folder / "c.wav")  # the same audio again
    (folder / "broken.wav").write_bytes(b"not audio")
    (folder / "notes.txt").touch()
    return folder


def test_each_file_has_the_tags_it_has_alone_and_failures_say_why(tagger, music):
    others = Counter()
    tagged = {file: (scores, reason) for file, scores, reason in tag_files(music, tagger, others)}
    names = ["a.wav", "b.wav", "broken.wav", "c.wav", "d.wav"]
    assert list(tagged) == [str(music / name) for name in names]
    scores, reason = tagged.pop(str(music / "broken.wav"))
    assert scores == {}
    assert reason
    for file, (scores, reason) in tagged.items():
        assert reason == ""
        assert scores == pytest.approx(tagger.tag(file).top(), abs=1e-6)
        assert list(scores.values()) == sorted(scores.values(), reverse=True)
    assert others == {".txt": 1}


def test_where_there_is_nothing_to_tag_one_line_says_so(tagger, tmp_path):
    with pytest.raises(ValueError, match="no audio files found"):
        list(tag_files([tmp_path], tagger))


def test_an_encoder_without_tags_is_refused_before_any_work(music):
    with pytest.raises(ValueError, match="random: has no tags"):
        list(tag_files(str(music / "a.wav"), mulap.load("random")))


def test_a_tagger_s_folder_is_whole_or_refused(tagger, music, tmp_path):
    model = MusicnnForTagging.from_pretrained("musicnn-mtt")
    model.save_pretrained(tmp_path / "tagger")
    loaded = mulap.load(tmp_path / "tagger")
    assert loaded.tags == tagger.tags
    ((_, scores, _),) = tag_files(music / "a.wav", loaded)
    assert scores == pytest.approx(tagger.tag(music / "a.wav").top(), abs=1e-6)
    weights = {name: value for name, value in model.state_dict().items() if "hidden." not in name}
    model.save_pretrained(tmp_path / "tagger", state_dict=weights)
    load_backbone(tmp_path / "tagger")
    with pytest.raises(ValueError, match=r"lacks hidden.weight than config.json asks for"):
        mulap.load(tmp_path / "tagger")


def test_a_checkpoint_without_a_head_has_no_tags_instead_of_made_up_ones(tmp_path):
    load_backbone("musicnn-mtt").save_pretrained(tmp_path / "backbone")
    assert mulap.load(tmp_path / "backbone").tags == ()


def test_silence_has_finite_scores(tagger, tmp_path):
    sf.write(tmp_path / "silence.wav", np.zeros(800), 8_000)
    ((_, scores, _),) = tag_files(tmp_path / "silence.wav", tagger)
    assert all(0 <= score <= 1 for score in scores.values())
