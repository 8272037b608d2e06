"""`MulapModel`: padding, what hiding a segment hides, gradients, saving."""

import pytest
import torch
from tiny import assert_same_tensors, make_batch, make_config, make_model
from torch import nn
from transformers import AutoConfig, AutoModel

from mulap.model import modeling
from mulap.model.audio_input import valid_mean
from mulap.model.config import MulapAudioConfig, MulapConfig
from mulap.model.modeling import MulapModel
from mulap.model.pretraining import MulapForPreTraining

LAYOUTS = pytest.mark.parametrize("layout", ["paper", "official"])


def base(**changes) -> MulapModel:
    return make_model(**changes).mulap


@LAYOUTS
@pytest.mark.parametrize("has_contrastive_head", [False, True])
@pytest.mark.parametrize("feature_norm", ["none", "batch"])
def test_a_padded_batch_gives_each_item_what_it_gets_alone_E16(
    layout, has_contrastive_head, feature_norm
):
    model = base(
        layout=layout, has_contrastive_head=has_contrastive_head, feature_norm=feature_norm
    )
    segments, tokens = (1, 5, 3), (9, 3, 6)
    batch = make_batch(segments, tokens)
    with torch.no_grad():
        together = model(**batch)
        for row, (num_segments, num_tokens) in enumerate(zip(segments, tokens, strict=True)):
            alone = model(
                input_features=batch["input_features"][row : row + 1, :num_segments],
                input_ids=batch["input_ids"][row : row + 1, :num_tokens],
            )
            for ours, theirs in (
                (together.audio_features[row, :num_segments], alone.audio_features[0]),
                (
                    together.audio_hidden_states[row, : 1 + num_segments],
                    alone.audio_hidden_states[0],
                ),
                (together.text_hidden_states[row, :num_tokens], alone.text_hidden_states[0]),
                (together.audio_embeds[row], alone.audio_embeds[0]),
                (together.text_embeds[row], alone.text_embeds[0]),
            ):
                torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    assert not together.audio_features[0, 1:].any()


@LAYOUTS
def test_what_stands_in_the_padding_does_not_matter_E16(layout):
    model = base(layout=layout)
    batch = make_batch((2, 4), (3, 7))
    with torch.no_grad():
        before = model(**batch)
        batch["input_features"][0, 2:] = 77.0
        batch["input_ids"][0, 3:] = 9
        after = model(**batch)
    torch.testing.assert_close(before.audio_hidden_states[0, :3], after.audio_hidden_states[0, :3])
    torch.testing.assert_close(before.text_hidden_states[0, :3], after.text_hidden_states[0, :3])


def test_padding_never_enters_batch_norm_and_all_segments_pass_at_once_E21():
    model = base().train()
    batch = make_batch((1, 4), (5, 5))
    counter = model.audio_backbone.front_end.spectrogram_bn
    counter.reset_running_stats()
    with torch.no_grad():
        model(**batch)
        mean = counter.running_mean.clone()
        # One update a step, however many segments: run once a segment index it would be four.
        assert counter.num_batches_tracked == 1
        counter.reset_running_stats()
        batch["input_features"][0, 1:] = 1000.0
        model(**batch)
    torch.testing.assert_close(counter.running_mean, mean)


def test_too_many_segments_is_one_clear_error():
    message = "a clip of 9 segments is longer than max_segments = 8: crop it or raise max_segments"
    with pytest.raises(ValueError, match=message):
        base()(**make_batch((9, 2), (4, 4)))


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_masked_segment_cannot_be_recovered_from_the_global_token_E2(share):
    """With the mean over all segments in front, masked = T * mean - the rest."""
    model = base(global_token="unmasked").eval()
    features = torch.randn(1, 4, model.config.audio_config.feature_size)
    is_masked = torch.tensor([[False, True, False, True]])
    text, mask = torch.randn(1, 5, 32), torch.ones(1, 5)
    before = model.fuse(features, text, torch.ones(1, 4), mask, is_masked)
    features[is_masked] = 1e3 * share + torch.randn(2, features.shape[-1])
    after = model.fuse(features, text, torch.ones(1, 4), mask, is_masked)
    torch.testing.assert_close(before, after)


def test_the_global_token_is_the_mean_of_what_is_unmasked_and_there_E2():
    model = base()
    seen = []
    model.audio_embeddings.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = torch.randn(1, 4, model.config.audio_config.feature_size)
    is_segment = torch.tensor([[1, 1, 1, 0]])
    is_masked = torch.tensor([[False, True, False, False]])
    model.fuse(features, torch.randn(1, 5, 32), is_segment, torch.ones(1, 5), is_masked)
    torch.testing.assert_close(seen[0][0, 0], features[0, [0, 2]].mean(0))
    assert not seen[0][0, 2].any()  # the masked one is zeros
    torch.testing.assert_close(seen[0][0, [1, 3]], features[0, [0, 2]])


@pytest.mark.parametrize("global_token", ["all", "all_detached"])
def test_the_authors_global_token_is_an_option_and_sees_the_masked_segment(global_token):
    model = base(global_token=global_token)
    seen = []
    model.audio_embeddings.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = torch.randn(1, 3, model.config.audio_config.feature_size, requires_grad=True)
    is_masked = torch.tensor([[False, True, False]])
    model.fuse(features, torch.randn(1, 5, 32), torch.ones(1, 3), torch.ones(1, 5), is_masked)
    token = seen[0][:, 0]
    torch.testing.assert_close(token[0], features[0].mean(0))
    # Detached, no gradient reaches the backbone through it.
    (gradient,) = torch.autograd.grad(seen[0][:, 0].sum(), features, allow_unused=True)
    reaches = gradient is not None and bool(gradient.any())
    assert reaches == (global_token == "all")


def test_the_default_global_token_carries_a_gradient_E2():
    model = base()
    seen = []
    model.audio_embeddings.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features = torch.randn(1, 3, model.config.audio_config.feature_size, requires_grad=True)
    model.fuse(features, torch.randn(1, 5, 32), torch.ones(1, 3), torch.ones(1, 5))
    (gradient,) = torch.autograd.grad(seen[0][:, 0].sum(), features)
    assert gradient.abs().min() > 0


def test_masking_leaves_the_features_that_are_given_back_alone_E1():
    model = base()
    batch = make_batch((3, 3), (4, 4))
    is_masked = torch.tensor([[True, False, False], [False, True, True]])
    with torch.no_grad():
        plain, masked = model(**batch), model(**batch, is_masked_segment=is_masked)
    torch.testing.assert_close(plain.audio_features, masked.audio_features)
    assert (masked.audio_features[is_masked] != 0).any()
    assert not torch.equal(plain.audio_hidden_states, masked.audio_hidden_states)


def test_a_clip_whose_segments_are_all_masked_is_finite():
    model = base()
    out = model(**make_batch((2, 2)), is_masked_segment=torch.ones(2, 2, dtype=torch.bool))
    assert out.audio_hidden_states.isfinite().all()
    assert out.text_hidden_states.isfinite().all()


def test_token_types_are_added_E13():
    model = base()
    batch = make_batch()
    with torch.no_grad():
        before = model.encode_text(batch["input_ids"], batch["attention_mask"])
        model.text_encoder.embeddings.token_type_embeddings.weight[0] += torch.randn(32)
        after = model.encode_text(batch["input_ids"], batch["attention_mask"])
    assert (before - after).abs().max() > 1e-2


def test_the_first_position_is_trained_too_E13():
    model = base()
    model.encode_text(make_batch()["input_ids"]).square().sum().backward()
    positions = model.text_encoder.embeddings.position_embeddings
    assert positions.padding_idx is None
    assert positions.weight.grad[0].any()


@LAYOUTS
def test_no_two_layers_start_identical_and_all_are_initialised_E14(layout):
    """The authors' layers are deep copies, and their initialisation is never applied."""
    torch.manual_seed(0)
    config = make_config(layout=layout, num_coattention_layers=2, initializer_range=0.02)
    model = MulapForPreTraining(config)
    matrices = {
        name: weight
        for name, weight in model.named_parameters()
        if weight.ndim >= 2 and "audio_backbone" not in name
    }
    names = list(matrices)
    for index, name in enumerate(names):
        for other in names[index + 1 :]:
            assert not torch.equal(matrices[name], matrices[other]), (name, other)
    for name, weight in matrices.items():
        assert 0.01 < weight.std() < 0.03, name  # PyTorch's own would be up to 0.12 wide
    for module in (*model.mulap.coattention.modules(), *model.atm_head.modules()):
        if isinstance(module, nn.Linear):
            assert not module.bias.any()


def test_segments_have_positions():
    model = base()
    features = torch.randn(1, 4, model.config.audio_config.feature_size)
    swapped = features[:, [1, 0, 2, 3]]
    text, masks = torch.randn(1, 5, 32), (torch.ones(1, 4), torch.ones(1, 5))
    assert not torch.allclose(
        model.fuse(features, text, *masks)[0][:, 0], model.fuse(swapped, text, *masks)[0][:, 0]
    )


def test_caption_index_pairs_each_clip_with_that_caption():
    model = base()
    batch = make_batch((3, 3), (4, 7))
    with torch.no_grad():
        both = model(**batch, caption_index=torch.tensor([1, 1]))
        second = model(
            **{
                **batch,
                "input_ids": batch["input_ids"][[1, 1]],
                "attention_mask": batch["attention_mask"][[1, 1]],
            }
        )
    torch.testing.assert_close(both.audio_hidden_states, second.audio_hidden_states)
    torch.testing.assert_close(both.text_hidden_states, second.text_hidden_states)
    assert both.text_embeds.shape[0] == 2


def test_with_a_contrastive_head_both_embeddings_have_length_one_and_clips_temperature():
    model = base(has_contrastive_head=True)
    fresh = MulapModel(make_config(has_contrastive_head=True))
    assert fresh.logit_scale.exp().item() == pytest.approx(1 / 0.07, rel=1e-3)
    batch = make_batch((2, 3), (5, 4))
    out = model(**batch)
    torch.testing.assert_close(out.audio_embeds.norm(dim=-1), torch.ones(2))
    torch.testing.assert_close(out.text_embeds.norm(dim=-1), torch.ones(2))
    expected = model.logit_scale.exp() * out.audio_embeds @ out.text_embeds.T
    torch.testing.assert_close(out.logits_per_audio, expected)
    torch.testing.assert_close(out.logits_per_text, expected.T)
    audio = model.get_audio_features(batch["input_features"], batch["audio_attention_mask"])
    text = model.get_text_features(batch["input_ids"], batch["attention_mask"])
    torch.testing.assert_close(audio, out.audio_embeds)
    torch.testing.assert_close(text, out.text_embeds)


def test_without_a_contrastive_head_audio_is_pooled_by_its_mean():
    model = base()
    batch = make_batch((1, 3), (5, 4))
    out = model(**batch)
    assert out.logits_per_audio is None
    torch.testing.assert_close(out.audio_embeds[0], out.audio_features[0, 0])
    torch.testing.assert_close(out.audio_embeds[1], out.audio_features[1].mean(0))
    torch.testing.assert_close(
        out.text_embeds, model.encode_text(batch["input_ids"], batch["attention_mask"])[:, 0]
    )


def test_text_may_be_pooled_over_the_words_of_the_whole_text_model():
    model = base(has_contrastive_head=True, text_pooling="mean", num_upper_text_layers=2)
    batch = make_batch((2, 3), (5, 9))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    with torch.no_grad():
        both = model(**batch).text_embeds
        short = model.get_text_features(ids[:1, :5])
        states = model.encode_text(ids[:1, :5])
        for layer in model.upper_text:
            states = layer(states, states, mask[:1, :5])
        expected = model.text_projection(states.mean(1))
    torch.testing.assert_close(short, nn.functional.normalize(expected))
    torch.testing.assert_close(both[:1], short, atol=1e-5, rtol=0)
    torch.testing.assert_close(both, model.get_text_features(ids, mask))


def test_the_audio_projection_may_have_a_hidden_layer_and_the_text_none():
    model = base(
        has_contrastive_head=True,
        text_pooling="mean",
        has_text_projection=False,
        projection_dim=32,
        projection_hidden_size=7,
        projection_dropout=0.5,
    )
    batch = make_batch((2, 3), (5, 9))
    with torch.no_grad():
        out = model(**batch)
        pooled = valid_mean(out.audio_features, batch["audio_attention_mask"])
        first, last = model.audio_projection[1], model.audio_projection[4]
        expected = last(nn.functional.gelu(first(pooled)))
        states = model.encode_text(batch["input_ids"], batch["attention_mask"])
        words = valid_mean(states, batch["attention_mask"])
    assert first.out_features == 7
    assert model.text_projection is None
    torch.testing.assert_close(out.audio_embeds, nn.functional.normalize(expected))
    torch.testing.assert_close(out.text_embeds, nn.functional.normalize(words))
    kinds = [type(layer) for layer in model.audio_projection]
    assert kinds == [nn.Dropout, nn.Linear, nn.GELU, nn.Dropout, nn.Linear]


def test_a_space_without_a_text_projection_is_as_wide_as_the_text():
    with pytest.raises(ValueError, match=r"projection_dim is 16, the text 32 wide. Set"):
        base(has_contrastive_head=True, has_text_projection=False)


def test_features_of_the_backbone_may_be_given_in_place_of_log_mels():
    model = make_model(has_contrastive_head=True, feature_norm="batch")
    batch = make_batch((2, 4), (5, 4))
    is_segment = batch["audio_attention_mask"].bool()
    with torch.no_grad():
        expected = model(**batch)
        rows = model.mulap.audio_backbone(batch["input_features"][is_segment])
        features = torch.zeros(2, 4, rows.shape[1])
        features[is_segment] = rows
        found = model(**(batch | {"input_features": features}))
        scores = model.pairs(
            [features[0, :2], features[1]], batch["input_ids"], batch["attention_mask"]
        )
    for name in ("backbone_features", "audio_embeds", "atm_logits", "mam_predictions"):
        torch.testing.assert_close(found[name], expected[name])
    torch.testing.assert_close(scores["atm"].diagonal(), expected.atm_logits)


def test_the_mean_of_nothing_is_zero():
    values = torch.ones(2, 3, 4)
    mean = valid_mean(values, torch.tensor([[0, 0, 0], [1, 0, 1]]))
    assert mean.tolist() == [[0.0] * 4, [1.0] * 4]


@LAYOUTS
def test_a_model_survives_saving_and_loading(tmp_path, layout, move_tensors):
    model = base(
        layout=layout, has_contrastive_head=True, text_pooling="mean", num_upper_text_layers=1
    )
    model.save_pretrained(tmp_path)
    batch = make_batch()
    for loaded in (MulapModel.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        assert type(loaded) is MulapModel
        assert not loaded.training
        assert_same_tensors(model, loaded)
        torch.testing.assert_close(model(**batch), move_tensors(loaded)(**batch))
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, MulapConfig)
    assert isinstance(config.audio_config, MulapAudioConfig)
    assert config.audio_config.num_mel_bins == model.config.audio_config.num_mel_bins
    assert config.text_config.hidden_size == 32
    assert config.layout == layout


def test_the_paper_s_config_is_the_default_E11():
    config = MulapConfig()
    assert config.layout == "paper"
    assert config.num_coattention_layers == 2
    assert config.text_config.num_hidden_layers == 4
    assert config.audio_config.variant == "port"
    assert config.audio_config.feature_size == 1506
    assert config.global_token == "unmasked"
    assert config.atm_head == "product"
    assert not config.has_contrastive_head


def test_an_unknown_layout_is_refused():
    with pytest.raises(Exception, match="layout"):
        make_config(layout="papre")


def test_with_more_pairs_than_clips_each_clip_is_paired_in_turn():
    model = base()
    batch = make_batch((1, 3), (4, 7))
    is_masked = torch.tensor([[False, False, False], [True, False, False]])
    draws = [torch.tensor([1, 0]), torch.tensor([0, 0])]
    with torch.no_grad():
        all_pairs = model(**batch, caption_index=torch.cat(draws), is_masked_segment=is_masked)
        for draw, index in enumerate(draws):
            pairs = model(**batch, caption_index=index, is_masked_segment=is_masked)
            rows = slice(2 * draw, 2 * draw + 2)
            for name in ("audio_hidden_states", "text_hidden_states"):
                torch.testing.assert_close(all_pairs[name][rows], pairs[name])
    assert all_pairs.audio_features.shape[0] == 2


@pytest.mark.parametrize("is_training", [False, True])
def test_features_may_pass_a_batch_norm_that_padding_never_enters(is_training):
    model = base(feature_norm="batch").train(is_training)
    batch = make_batch((1, 4, 3), (5, 5, 5))
    with torch.no_grad():
        before = model(**batch).audio_features
        batch["input_features"][0, 1:] = 1000.0
        after = model(**batch).audio_features
    torch.testing.assert_close(before, after)
    if is_training:
        mean = before[batch["audio_attention_mask"].bool()].mean(0)
        torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    assert not before[0, 1:].any()
    single = model(**make_batch((1,), (5,)))
    assert single.audio_hidden_states.isfinite().all()


def test_similarities_keep_single_precision_under_autocast():
    """In bf16 a similarity of 14 has steps of 0.06, which is all that tells two captions apart."""
    model, batch = make_model(has_contrastive_head=True).eval(), make_batch()
    inputs = {name: batch[name] for name in ("input_ids", "input_features")}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        outputs = model(**inputs)
    assert outputs.logits_per_audio.dtype == torch.float32
    embeds = outputs.audio_embeds.float(), outputs.text_embeds.float()
    expected = model.mulap.logit_scale.exp() * embeds[0] @ embeds[1].T
    torch.testing.assert_close(outputs.logits_per_audio, expected)


@pytest.mark.parametrize("is_frozen", [True, False])
def test_captions_of_like_length_pass_together_and_give_the_same_states(is_frozen, monkeypatch):
    model = make_model().mulap
    batch = make_batch(num_tokens=tuple([3, 11, 5, 4, 12, 3, 7] * 20))
    ids, mask = batch["input_ids"], batch["attention_mask"]
    monkeypatch.setattr(modeling, "CAPTIONS_AT_ONCE", 1000)
    plain = model.encode_text(ids, mask).detach()
    monkeypatch.setattr(modeling, "CAPTIONS_AT_ONCE", 16)
    shapes = []
    encode = model.text_encoder.forward
    monkeypatch.setattr(
        model.text_encoder, "forward", lambda *a, **k: shapes.append(k) or encode(*a, **k)
    )
    if is_frozen:
        for parameter in model.text_encoder.parameters():
            parameter.requires_grad_(False)
    states = model.encode_text(ids, mask)
    lengths = [k["input_ids"].shape[1] for k in shapes]
    assert lengths == (sorted(lengths) if is_frozen else [12])
    assert len(lengths) == (9 if is_frozen else 1)
    is_word = mask.bool()
    torch.testing.assert_close(states[is_word], plain[is_word], atol=1e-5, rtol=1e-4)
    assert states.requires_grad != is_frozen


def test_without_the_co_attention_the_embeddings_are_the_same_and_nothing_else_is_given():
    model = make_model(has_contrastive_head=True, text_pooling="mean", num_upper_text_layers=1)
    batch = make_batch(num_segments=(3, 2, 1), num_tokens=(6, 5, 4))
    whole, alone = model(**batch), model(**batch, fuses=False)
    torch.testing.assert_close(alone.logits_per_audio, whole.logits_per_audio)
    assert alone.audio_hidden_states is None
    assert alone.atm_logits is None
    states = model.mulap.encode_text(batch["input_ids"], batch["attention_mask"])
    summary = model.mulap.summarize_text(states, batch["attention_mask"])
    other = batch | {"input_ids": torch.full_like(batch["input_ids"], 8)}  # not looked at
    known = model(**other, text_summary=summary, fuses=False)
    torch.testing.assert_close(known.logits_per_audio, whole.logits_per_audio)
