"""Encoders by name, on the base install too, and the hash that tells them apart."""

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from tiny import tone

from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.encoders.load import encoder_sha256, load_encoder
from mulap.encoders.segments import SegmentEncoder
from mulap.model.config import MulapAudioConfig

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}


def vectors_of(encoder, path):
    return np.concatenate([rows for _, rows in encoder.stream_rows(encoder.stream_file(path))])


@pytest.fixture
def music(tmp_path):
    sf.write(tmp_path / "a.wav", tone(0, 34.0), 16_000)
    return tmp_path / "a.wav"


@pytest.mark.parametrize("name", ["random", "mel", "musicnn-mtt"])
def test_every_encoder_gives_a_row_of_its_size_for_each_segment(name, music):
    encoder = load_encoder(name)
    assert encoder.name == name
    assert vectors_of(encoder, music).shape == (11, encoder.embedding_size)
    track = list(encoder.stream_rows(encoder.stream_file(music), level="track"))
    assert [rows.shape for _, rows in track] == [(1, encoder.embedding_size)]
    json.dumps(encoder.describe())


def test_a_checkpoint_folder_is_ours_by_its_model_type(tmp_path, music):
    backbone = random_backbone(MulapAudioConfig(**SMALL), seed=3)
    backbone.save_pretrained(tmp_path / "model")
    encoder = load_encoder(str(tmp_path / "model"))
    np.testing.assert_array_equal(
        vectors_of(encoder, music), Embedder(backbone).embed(music).embeddings
    )


def test_an_unknown_name_is_refused_with_those_that_there_are(tmp_path):
    with pytest.raises(ValueError, match="^musicnn: no encoder .*musicnn-mtt, hear:MODULE"):
        load_encoder("musicnn")
    with pytest.raises(ValueError, match="there is no config.json"):
        load_encoder(str(tmp_path))


def test_the_hash_is_of_the_making_and_not_of_the_name():
    backbone = random_backbone(MulapAudioConfig(**SMALL))
    first = encoder_sha256(Embedder(backbone, "one name"))
    assert len(first) == 64
    assert encoder_sha256(Embedder(backbone, "another name")) == first
    other = random_backbone(MulapAudioConfig(**SMALL), seed=1)
    assert encoder_sha256(Embedder(other, "one name")) != first


def test_the_hash_tells_cuts_apart(monkeypatch):
    mel = load_encoder("mel")
    assert isinstance(mel, SegmentEncoder)
    before = encoder_sha256(mel)
    monkeypatch.setattr(mel.feature_extractor, "segment_seconds", 2.0)
    assert encoder_sha256(mel) != before


def test_seeds_give_other_untrained_weights():
    assert encoder_sha256(load_encoder("random", seed=1)) != encoder_sha256(load_encoder("random"))


# What comes with an extra or with the development tools only. (Not pandas: pyarrow looks for it.)
EXTRAS = "scipy sklearn matplotlib accelerate numba tensorboard ray librosa datasets joblib"


TAG = "tag --model musicnn-mtt"


@pytest.mark.parametrize("command", ["embed", "embed --model mel", "embed --model random", TAG])
def test_embedding_and_tagging_need_no_extra(command, music, tmp_path):
    without = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys({EXTRAS.split()}))
        from mulap.cli import main
        main({command.split()} + [{str(music)!r}])
    """
    done = subprocess.run(
        [sys.executable, "-c", without], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 11, done.stdout


def test_an_encoder_of_others_needs_no_extra_either(tmp_path, music):
    without = f"""if True:
        import sys
        sys.modules.update(dict.fromkeys({EXTRAS.split()}))
        from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2Model
        sizes = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
        convolutions = dict(conv_dim=(8,), conv_stride=(320,), conv_kernel=(400,))
        config = Wav2Vec2Config(**sizes, **convolutions, intermediate_size=16, vocab_size=8)
        Wav2Vec2Model(config).save_pretrained("w2v")
        Wav2Vec2FeatureExtractor().save_pretrained("w2v")
        from mulap.cli import main
        main(["embed", "--model", "w2v", {str(music)!r}, "-o", "rows.npz"])
    """
    done = subprocess.run(
        [sys.executable, "-c", without], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "rows.npz").exists()
