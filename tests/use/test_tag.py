"""Many files get the tags that each has alone, in order, and what is left out says why."""

import shutil
from collections import Counter

import numpy as np
import pytest
import soundfile as sf
from tiny import tone

import mulap
from mulap.encoders.backbones import load_backbone
from mulap.encoders.embedder import Embedder
from mulap.encoders.joint import JointSpace
from mulap.encoders.neutral import Neutral
from mulap.model.musicnn import MusicnnForTagging
from mulap.use.tag import tag_files


@pytest.fixture(scope="module")
def tagger():
    return mulap.load("musicnn-mtt")


@pytest.fixture
def music(tmp_path):
    folder = tmp_path / "music"
    folder.mkdir()
    for name, seconds in {"a": 9.2, "b": 41.0, "d": 0.4}.items():
        sf.write(folder / f"{name}.wav", tone(ord(name), seconds), 16_000)
    shutil.copy(folder / "a.wav", folder / "c.wav")  # the same audio again
    (folder / "broken.wav").write_bytes(b"not audio")
    (folder / "notes.txt").touch()
    return folder


def test_each_file_has_the_tags_it_has_alone_and_failures_say_why(tagger, music):
    others = Counter()
    tagged = {each.file: each for each in tag_files(music, tagger, others)}
    names = ["a.wav", "b.wav", "broken.wav", "c.wav", "d.wav"]
    assert list(tagged) == [str(music / name) for name in names]
    broken = tagged.pop(str(music / "broken.wav"))
    assert broken.tags is None
    assert broken.reason
    for file, (_, tags, reason, matches) in tagged.items():
        assert (tags.file, reason, matches) == (file, "", None)
        alone = tagger.tag(file)
        np.testing.assert_allclose(tags.scores, alone.scores, atol=1e-6)
        np.testing.assert_array_equal(tags.start_seconds, alone.start_seconds)
        assert tags.top() == pytest.approx(alone.top(), abs=1e-6)
        assert list(tags.top().values()) == sorted(tags.top().values(), reverse=True)
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
    (tagged,) = tag_files(music / "a.wav", loaded)
    assert tagged.tags.top() == pytest.approx(tagger.tag(music / "a.wav").top(), abs=1e-6)
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
    (tagged,) = tag_files(tmp_path / "silence.wav", tagger)
    assert ((tagged.tags.scores >= 0) & (tagged.tags.scores <= 1)).all()


def test_a_tag_is_read_once_and_a_segment_heard_once_however_many_there_are(music, monkeypatch):
    encoder = mulap.load("mulap-small")
    vars(encoder)["neutral"] = Neutral(np.eye(9, 384, dtype=np.float32), np.eye(1, 384), np.inf)
    heard, read = [], []
    embed_input, embed_text = Embedder.embed_input, JointSpace.embed_text
    monkeypatch.setattr(
        Embedder,
        "embed_input",
        lambda self, some: heard.append(len(some)) or embed_input(self, some),
    )
    monkeypatch.setattr(
        JointSpace, "embed_text", lambda self, texts: read.extend(texts) or embed_text(self, texts)
    )
    words = [f"word {index}" for index in range(30)]
    tagged = list(tag_files([music / "a.wav", music / "d.wav"], encoder, tags=words))
    assert [each.tags.scores.shape for each in tagged] == [(3, 30), (1, 30)]
    assert sum(heard) == 4
    assert len(read) == len(set(read)) == 4 * 30
