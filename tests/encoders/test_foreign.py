"""Other people's models as encoders: modules made up here, and tiny untrained transformers."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from huggingface_hub import constants
from tiny import tone
from transformers import (
    ASTConfig,
    ASTFeatureExtractor,
    ASTModel,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForCTC,
    Wav2Vec2Model,
    WhisperFeatureExtractor,
)
from transformers.models.qwen2_audio import Qwen2AudioEncoder, Qwen2AudioEncoderConfig

from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.encoders.load import encoder_sha256, load_encoder
from mulap.model.config import MulapAudioConfig

HEAR_MODULE = """
import torch

class Model(torch.nn.Module):
    sample_rate = 22050
    scene_embedding_size = 2
    timestamp_embedding_size = 2

    def __init__(self, scale):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(float(scale)))

def load_model(model_file_path=""):
    return Model(open(model_file_path).read() if model_file_path else 1.0)

def get_scene_embeddings(audio, model):
    length = torch.full((len(audio),), float(audio.shape[1]))
    return torch.stack([model.scale * audio.abs().mean(1), length], 1)

def get_timestamp_embeddings(audio, model):
    raise NotImplementedError
"""


def vectors_of(encoder, path):
    return np.concatenate([rows for _, rows in encoder.stream_rows(encoder.stream_file(path))])


@pytest.fixture
def music(tmp_path):
    sf.write(tmp_path / "a.wav", tone(0, 34.0), 16_000)
    return tmp_path / "a.wav"


@pytest.fixture
def write_module(tmp_path, monkeypatch):
    """Write a HEAR module, changed as asked for, and return its name."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(**changes):
        text = HEAR_MODULE
        for old, new in changes.items():
            assert old in text
            text = text.replace(old, new)
        names.append(f"hear_module_{len(list(tmp_path.glob('*.py')))}")
        (tmp_path / f"{names[-1]}.py").write_text(text)
        return names[-1]

    yield write
    for name in names:
        sys.modules.pop(name, None)


def test_a_hear_module_hears_our_segments_at_its_rate(write_module, music):
    encoder = load_encoder(f"hear:{write_module()}")
    vectors = vectors_of(encoder, music)
    assert vectors.shape == (11, 2)
    assert vectors.dtype == np.float32
    assert (vectors[:, 1] == 3 * 22_050).all()
    expected = [np.abs(tone(0, 34.0)[i * 48_000 : (i + 1) * 48_000]).mean() for i in range(11)]
    np.testing.assert_allclose(vectors[:, 0], expected, rtol=0.02)  # resampled


def test_the_weights_of_a_hear_module_are_part_of_its_hash(write_module, tmp_path, music):
    module = write_module()
    for scale in (2, 3):
        (tmp_path / f"{scale}.txt").write_text(str(scale))
    first, second = (load_encoder(f"hear:{module}:{tmp_path / f'{n}.txt'}") for n in (2, 3))
    assert encoder_sha256(first) != encoder_sha256(second)
    np.testing.assert_allclose(
        vectors_of(first, music)[:, 0] * 3, vectors_of(second, music)[:, 0] * 2, rtol=1e-5
    )
    (tmp_path / "copy.txt").write_text("2")
    copy = load_encoder(f"hear:{module}:{tmp_path / 'copy.txt'}")
    assert encoder_sha256(copy) == encoder_sha256(first)
    json.dumps(copy.describe())


@pytest.fixture
def hash_package(tmp_path, monkeypatch):
    """Write a package that re-exports a HEAR module; return its encoder's hash."""

    def write(folder, text, extra_name="extra"):
        package = tmp_path / folder / "hear_package"
        (package / "deep").mkdir(parents=True)
        (package / "__init__.py").write_text("from hear_package.deep.net import *\n")
        (package / "deep" / "net.py").write_text(text)
        (package / f"{extra_name}.py").write_text("")
        (package / "notes.txt").write_text(folder)
        with monkeypatch.context() as patch:
            patch.syspath_prepend(tmp_path / folder)
            try:
                return encoder_sha256(load_encoder("hear:hear_package"))
            finally:
                for name in [each for each in sys.modules if each.startswith("hear_package")]:
                    del sys.modules[name]

    return write


def test_all_code_of_a_package_is_part_of_a_hear_modules_hash(hash_package):
    first = hash_package("first", HEAR_MODULE)
    assert hash_package("copy", HEAR_MODULE) == first
    assert hash_package("changed", HEAR_MODULE.replace("abs()", "square()")) != first
    assert hash_package("renamed", HEAR_MODULE, "another") != first


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"get_scene_embeddings": "get_scenes"}, "has no function get_scene_embeddings"),
        ({"22050": "11025"}, "sample_rate is 11025 .it must be one of 16000"),
        ({"scene_embedding_size = 2": "scene_embedding_size = 2.0"}, "size is 2.0. It must be an"),
        ({"return Model(": "return (lambda _: 5)("}, "load_model gives a int"),
        ({"import torch": "import torch, no_such_thing"}, "cannot be imported, .*no_such_thing"),
    ],
)
def test_a_module_that_does_not_keep_to_the_interface_is_refused(write_module, changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_encoder(f"hear:{write_module(**changes)}")
    assert "\n" not in str(caught.value)


def test_embeddings_of_another_shape_are_refused(write_module, music):
    encoder = load_encoder(
        f"hear:{write_module(**{'scene_embedding_size = 2': 'scene_embedding_size = 3'})}"
    )
    with pytest.raises(ValueError, match=r"embeddings of shape \(10, 2\) for 10 of 3"):
        vectors_of(encoder, music)


def test_missing_modules_and_weights_are_one_line(write_module, tmp_path):
    with pytest.raises(ValueError, match="hear:no_such_module: cannot be imported"):
        load_encoder("hear:no_such_module")
    for name in ("hear:", "hear:./module.py", "hear:folder/module.py"):
        with pytest.raises(ValueError, match="names no module"):
            load_encoder(name)
    with pytest.raises(ValueError, match="its weights cannot be read"):
        load_encoder(f"hear:{write_module()}:{tmp_path / 'none.pt'}")


def test_our_own_hear_interface_can_be_taken_for_a_module_of_others(tmp_path, music):
    config = MulapAudioConfig(num_timbral_filters=5, num_temporal_filters=3, num_midend_filters=4)
    random_backbone(config).save_pretrained(tmp_path / "model")
    encoder = load_encoder(f"hear:mulap.hear:{tmp_path / 'model'}")
    expected = Embedder(random_backbone(config)).embed(music).embeddings
    np.testing.assert_allclose(vectors_of(encoder, music), expected, rtol=1e-4, atol=1e-4)


def save(folder, model, extractor):
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def make_wav2vec2(folder, kind=Wav2Vec2Model):
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(8, 8),
        conv_kernel=(10, 8),
        conv_stride=(10, 8),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        vocab_size=8,
    )
    return save(folder, kind(config), Wav2Vec2FeatureExtractor())


def make_ast(folder):
    torch.manual_seed(0)
    config = ASTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_length=320, num_mel_bins=32,
    )  # fmt: skip
    return save(folder, ASTModel(config), ASTFeatureExtractor(num_mel_bins=32, max_length=320))


def make_clap(folder, truncation="fusion"):
    torch.manual_seed(0)
    audio = {
        "spec_size": 64, "num_mel_bins": 16, "patch_size": 4, "patch_stride": [4, 4],
        "window_size": 2, "depths": [1, 1], "num_attention_heads": [1, 2], "hidden_size": 16,
        "patch_embeds_hidden_size": 8, "enable_fusion": truncation == "fusion", "num_classes": 4,
        "fusion_num_hidden_layers": 1, "aff_block_r": 1, "projection_dim": 12,
    }  # fmt: skip
    text = {
        "vocab_size": 30, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1,
        "intermediate_size": 8, "projection_dim": 12, "max_position_embeddings": 16,
    }  # fmt: skip
    config = ClapConfig(text_config=text, audio_config=audio, projection_dim=12)
    extractor = ClapFeatureExtractor(
        feature_size=16, sampling_rate=16_000, hop_length=640, fft_window_size=1024,
        frequency_max=8_000, truncation=truncation,
    )  # fmt: skip
    return save(folder, ClapModel(config), extractor)


def test_wav2vec2_is_the_mean_of_its_last_hidden_state(tmp_path, music):
    folder = make_wav2vec2(tmp_path / "model")
    encoder = load_encoder(str(folder))
    vectors = vectors_of(encoder, music)
    assert vectors.shape == (11, 16)
    assert encoder.describe()["vector"] == "mean of last hidden"  # as tables of version 0.1 have it
    segment = tone(0, 34.0)[48_000:96_000]
    inputs = Wav2Vec2FeatureExtractor()(segment, sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        hidden = Wav2Vec2Model.from_pretrained(folder).eval()(**inputs).last_hidden_state
    np.testing.assert_allclose(vectors[1], hidden[0].mean(0), rtol=1e-2, atol=2e-3)  # PCM 16


def test_a_checkpoint_with_a_head_on_top_is_read_without_it(tmp_path, music):
    encoder = load_encoder(f"hf:{make_wav2vec2(tmp_path / 'model', Wav2Vec2ForCTC)}")
    assert vectors_of(encoder, music).shape == (11, 16)


def make_qwen2_audio(folder):
    torch.manual_seed(0)
    config = Qwen2AudioEncoderConfig(
        d_model=16, encoder_layers=1, encoder_attention_heads=2, encoder_ffn_dim=16,
        num_mel_bins=8,
    )  # fmt: skip
    model = Qwen2AudioEncoder(config)
    return save(folder, model, WhisperFeatureExtractor(feature_size=8))


def test_padding_frames_are_not_averaged_with_those_of_audio(tmp_path):
    folder = make_qwen2_audio(tmp_path / "model")
    encoder = load_encoder(f"hf:{folder}")
    segments = np.stack([tone(seed, 3.0) for seed in range(2)])
    inputs = WhisperFeatureExtractor(feature_size=8)(
        list(segments), sampling_rate=16_000, return_tensors="pt"
    )
    assert inputs["input_features"].shape == (2, 8, 3_000)  # 30 s
    with torch.no_grad():
        hidden = Qwen2AudioEncoder.from_pretrained(folder).eval()(**inputs).last_hidden_state
    assert hidden.shape == (2, 750, 16)
    expected = hidden[:, :75].mean(1).numpy()  # 3 s of 30
    np.testing.assert_allclose(encoder.embed_segments(segments), expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected - hidden.mean(1).numpy()).max() > 0.1
    assert encoder.describe()["vector"] == "mean of last hidden, without padding"


def test_ast_is_pooled_as_it_pools_itself(tmp_path):
    folder = make_ast(tmp_path / "model")
    encoder = load_encoder(f"hf:{folder}")
    segments = np.stack([tone(seed, 3.0) for seed in range(2)])
    extractor = ASTFeatureExtractor(num_mel_bins=32, max_length=320)
    inputs = extractor(list(segments), sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        output = ASTModel.from_pretrained(folder).eval()(**inputs)
    expected = output.last_hidden_state[:, :2].mean(1)  # the two tokens that stand for all
    np.testing.assert_allclose(encoder.embed_segments(segments), expected, rtol=1e-4, atol=1e-5)
    assert encoder.describe()["vector"] == "pooler_output"


@pytest.mark.parametrize("make", [make_wav2vec2, make_ast, make_clap, make_qwen2_audio])
def test_a_segments_vector_does_not_depend_on_its_neighbours(make, tmp_path):
    encoder = load_encoder(f"hf:{make(tmp_path / 'model')}")
    segments = np.stack([tone(seed, 3.0) for seed in range(4)])
    together = encoder.embed_segments(segments)
    assert together.shape == (4, encoder.embedding_size)
    assert together.std(0).max() > 1e-4
    for index in range(4):
        alone = encoder.embed_segments(segments[index : index + 1])[0]
        np.testing.assert_allclose(together[index], alone, rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(encoder.embed_segments(segments), together)


@pytest.mark.parametrize("truncation", ["fusion", "rand_trunc"])
def test_clap_gives_its_audio_features(truncation, tmp_path):
    folder = make_clap(tmp_path / "model", truncation)
    encoder = load_encoder(str(folder))
    assert encoder.embedding_size == 12
    vectors = encoder.embed_segments(tone(0, 3.0)[None])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-4)
    assert encoder.describe()["vector"] == "get_audio_features"


def test_the_hash_is_of_weights_and_settings_and_not_of_the_folder(tmp_path):
    folder = make_wav2vec2(tmp_path / "first")
    first = encoder_sha256(load_encoder(f"hf:{folder}"))
    shutil.copytree(folder, tmp_path / "copy")
    assert encoder_sha256(load_encoder(str(tmp_path / "copy"))) == first
    settings = tmp_path / "copy" / "preprocessor_config.json"
    settings.write_text(
        settings.read_text().replace('"do_normalize": true', '"do_normalize": false')
    )
    assert encoder_sha256(load_encoder(str(tmp_path / "copy"))) != first


def test_a_pickled_checkpoint_is_not_read(tmp_path):
    folder = make_wav2vec2(tmp_path / "model")
    model = Wav2Vec2Model.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(
        ValueError, match="is no Hugging Face audio model that can be read"
    ) as caught:
        load_encoder(str(folder))
    assert "\n" not in str(caught.value)


def test_code_in_a_model_folder_is_not_run(tmp_path):
    folder = make_wav2vec2(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "evil", "auto_map": {"AutoConfig": "evil.C", "AutoModel": "evil.M"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(ValueError, match="mulap never runs code from the Hub") as caught:
        load_encoder(str(folder))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_weights_that_are_not_all_there_are_refused(tmp_path):
    folder = make_wav2vec2(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | {"num_hidden_layers": 2}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="its weights lack encoder.layers.1"):
        load_encoder(str(folder))


# A program of its own, as the Hub's library reads its settings once.
_ASK_HUB = """
import mulap, sys
try:
    mulap.load(sys.argv[1])
except ValueError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("offline", "why"),
    [
        ("1", "HF_HUB_OFFLINE is set"),
        # The Hub's library tries six times.
        pytest.param("0", "the Hub cannot be reached", marks=pytest.mark.slow),
    ],
)
def test_a_model_that_was_not_downloaded_is_one_line_that_says_why(tmp_path, offline, why):
    env = os.environ | {
        "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": offline, "HF_ENDPOINT": "http://127.0.0.1:1",
    }  # fmt: skip
    ended = subprocess.run(
        [sys.executable, "-c", _ASK_HUB, "hf:some/model"],
        env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert ended.stdout == (
        f"hf:some/model: not downloaded yet, and {why}. Run `hf download some/model` where there "
        "is a network, or name the folder of a copy.\n"
    )
    assert "Retrying" not in ended.stderr


def test_a_model_that_was_downloaded_in_part_is_one_line_that_says_so(tmp_path, monkeypatch):
    snapshot = tmp_path / "models--some--model" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text('{"model_type": "wav2vec2"}')
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match="^hf:some/model: not downloaded yet, and HF_HUB_OFFLINE"):
        load_encoder("hf:some/model")


def test_what_is_no_name_of_the_hub_is_one_line():
    for name in ("hf:no/such/model", "hf:"):
        with pytest.raises(ValueError, match=f"^{name}: no such folder, .* hf:OWNER/MODEL or a"):
            load_encoder(name)


def test_the_home_folder_may_be_written_as_a_tilde(tmp_path, monkeypatch, write_module):
    monkeypatch.setenv("HOME", str(tmp_path))
    make_wav2vec2(tmp_path / "model")
    assert load_encoder("~/model").embedding_size == 16
    assert load_encoder(Path("~/model")).embedding_size == 16
    assert load_encoder("hf:~/model").embedding_size == 16
    (tmp_path / "weights.txt").write_text("2")
    load_encoder(f"hear:{write_module()}:~/weights.txt")


@pytest.mark.usefixtures("bars_of_transformers")
def test_no_bar_is_shown_while_a_model_of_others_is_loaded(tmp_path, capsys):
    folder = make_wav2vec2(tmp_path / "model")
    capsys.readouterr()
    load_encoder(f"hf:{folder}")
    assert capsys.readouterr().err == ""
