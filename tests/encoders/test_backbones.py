"""Loading the audio backbone alone, out of every kind of folder that holds one."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.models.bert.configuration_bert import BertConfig
from transformers.models.bert.modeling_bert import BertModel

from mulap.encoders.backbones import (
    hash_weights,
    join_backbones,
    load_backbone,
    load_whole,
    random_backbone,
)
from mulap.encoders.load import load_encoder
from mulap.model.config import MulapAudioConfig, MulapConfig
from mulap.model.modeling import MulapModel
from mulap.model.musicnn import MusicnnForTagging
from mulap.model.pretraining import MulapForPreTraining

AUDIO = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}


def mulap_config():
    text = BertConfig(
        vocab_size=50,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
    )
    return MulapConfig(
        text_config=text,
        audio_config=MulapAudioConfig(**AUDIO),
        audio_hidden_size=8,
        audio_num_attention_heads=2,
        audio_intermediate_size=8,
    )


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """Folders by kind, and the backbone that is in each."""
    folder, made = tmp_path_factory.mktemp("checkpoints"), {}
    backbone = random_backbone(MulapAudioConfig(**AUDIO), seed=3)
    pretraining = MulapForPreTraining(mulap_config())
    pretraining.mulap.audio_backbone.load_state_dict(backbone.state_dict())
    model = MulapModel(mulap_config())
    model.audio_backbone.load_state_dict(backbone.state_dict())
    tagger = MusicnnForTagging(MulapAudioConfig(**AUDIO))
    tagger.backbone.load_state_dict(backbone.state_dict())
    kinds = {"pretraining": pretraining, "model": model, "tagger": tagger, "backbone": backbone}
    for kind, saved in kinds.items():
        saved.save_pretrained(folder / kind)
        made[kind] = folder / kind
    pretraining.save_pretrained(folder / "sharded", max_shard_size="8KB")
    assert len(list((folder / "sharded").glob("*.safetensors"))) > 1
    return {**made, "sharded": folder / "sharded"}, backbone


@pytest.mark.parametrize("kind", ["pretraining", "model", "tagger", "backbone", "sharded"])
def test_the_backbone_is_found_in_every_kind_of_folder(checkpoints, kind):
    folders, backbone = checkpoints
    loaded = load_backbone(folders[kind])
    assert not loaded.training
    assert hash_weights(loaded) == hash_weights(backbone)


def test_no_text_branch_is_built(checkpoints, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a BERT was built")

    monkeypatch.setattr(BertModel, "__init__", refuse)
    load_backbone(checkpoints[0]["pretraining"])


def test_the_bundled_names_give_their_weights():
    loaded = load_backbone("musicnn-mtt")
    expected = MusicnnForTagging.from_pretrained("musicnn-mtt").backbone
    assert hash_weights(loaded) == hash_weights(expected)
    assert hash_weights(loaded) != hash_weights(load_backbone("musicnn-msd"))


def test_backbones_side_by_side_give_the_vectors_of_each(tmp_path):
    names = ["musicnn-msd", "musicnn-mtt"]
    joined = join_backbones(names)
    joined.save_pretrained(tmp_path)
    log_mels = torch.randn(2, 96, 188)
    with torch.no_grad():
        each = [load_backbone(name)(log_mels) for name in names]
        found, again = joined(log_mels), load_backbone(tmp_path)(log_mels)
    assert found.shape == (2, 3012) == (2, joined.config.feature_size)
    torch.testing.assert_close(found, torch.cat(each, 1), rtol=0, atol=0)
    torch.testing.assert_close(again, found, rtol=0, atol=0)
    assert join_backbones([tmp_path, "musicnn-mtt"]).config.num_towers == 3


def test_backbones_of_different_kinds_are_not_joined():
    with pytest.raises(ValueError, match=r"random: its variant is port, and that of musicnn-mtt"):
        join_backbones(["musicnn-mtt", "random"])


def test_random_weights_follow_the_seed_and_leave_the_global_state_alone():
    before = torch.get_rng_state()
    first, again, other = (load_backbone("random", seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert hash_weights(first) == hash_weights(again) != hash_weights(other)
    assert first.config.variant == "port"


def test_the_hash_sees_one_changed_weight():
    backbone = random_backbone(MulapAudioConfig(**AUDIO))
    before = hash_weights(backbone)
    with torch.no_grad():
        backbone.mid_end.blocks[0].conv.weight[0, 0, 0] += 1e-3
    assert hash_weights(backbone) != before


def test_a_name_that_is_nothing_is_refused_and_the_known_ones_named():
    with pytest.raises(ValueError, match="musicnn-mt: .*musicnn-msd, musicnn-mtt, random"):
        load_backbone("musicnn-mt")


def copy_of(source, target):
    target.mkdir()
    (target / "config.json").write_text((source / "config.json").read_text())
    weights = load_file(source / "model.safetensors")
    save_file(weights, target / "model.safetensors")
    return weights


def test_damaged_folders_are_refused_in_one_clear_line(checkpoints, tmp_path):
    source = checkpoints[0]["backbone"]
    weights = copy_of(source, tmp_path / "bad")
    path, config = tmp_path / "bad" / "model.safetensors", tmp_path / "bad" / "config.json"

    lacking = dict(weights)
    del lacking["mid_end.blocks.0.conv.weight"]
    save_file(lacking, path)
    with pytest.raises(ValueError, match="bad: lacks mid_end.blocks.0.conv.weight"):
        load_backbone(path.parent)
    save_file({**weights, "mid_end.blocks.0.conv.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="another shape of mid_end.blocks.0.conv.weight"):
        load_backbone(path.parent)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="no audio backbone"):
        load_backbone(path.parent)
    path.write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="cannot be read"):
        load_backbone(path.parent)
    path.unlink()
    (tmp_path / "bad" / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(ValueError, match="no model.safetensors"):
        load_backbone(path.parent)
    config.write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="type 'bert' has no musicnn"):
        load_backbone(path.parent)
    config.write_text("{")
    with pytest.raises(ValueError, match="config.json: is not JSON"):
        load_backbone(path.parent)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"num_timbral_filters": 10**9}, "num_timbral_filters is 1000000000, not within"),
        ({"hop_length": 0}, "hop_length is 0, not within"),
        ({"num_midend_filters": "x"}, "config.json: cannot be used: .*num_midend_filters"),
        ({"dtype": []}, "config.json: cannot be used"),
        ({"segment_seconds": [3.0]}, "config.json: cannot be used: .*segment_seconds"),
    ],
)
def test_an_absurd_config_is_refused_before_it_takes_memory(checkpoints, tmp_path, values, match):
    copy_of(checkpoints[0]["backbone"], tmp_path / "bad")
    path = tmp_path / "bad" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(ValueError, match=match) as raised:
        load_backbone(path.parent)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("content", ["[" * 100_000, "[1]", "7"])
def test_a_config_that_is_no_object_is_refused(checkpoints, tmp_path, content):
    copy_of(checkpoints[0]["backbone"], tmp_path / "bad")
    (tmp_path / "bad" / "config.json").write_text(content)
    with pytest.raises(ValueError, match="config.json: "):
        load_encoder(str(tmp_path / "bad"))


def test_a_model_that_lacks_weights_is_refused_instead_of_filled_at_random(checkpoints, tmp_path):
    weights = copy_of(checkpoints[0]["tagger"], tmp_path / "bad")
    assert load_whole(MusicnnForTagging, tmp_path / "bad").config.num_timbral_filters == 5
    del weights["backbone.mid_end.blocks.0.conv.weight"]
    save_file(weights, tmp_path / "bad" / "model.safetensors")
    with pytest.raises(ValueError, match="weights do not fit .*blocks.0.conv.weight"):
        load_whole(MusicnnForTagging, tmp_path / "bad")
    (tmp_path / "bad" / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match="bad: cannot be loaded: "):
        load_whole(MusicnnForTagging, tmp_path / "bad")


@pytest.mark.usefixtures("bars_of_transformers")
def test_no_bar_is_shown_while_a_model_is_loaded(checkpoints, capsys):
    folder = checkpoints[0]["pretraining"]
    load_backbone(folder)
    assert capsys.readouterr().err == ""
    MulapForPreTraining.from_pretrained(folder)
    assert "Loading weights" in capsys.readouterr().err, "transformers shows none any more"
