"""Negatives of a whole step: the loss and gradients of one batch, and nothing else changed."""

import pytest
import torch
from tiny import make_collator, make_items, make_model

from mulap.objectives.losses import LossOptions, compute_losses
from mulap.training.pretrain.evaluate import split_batch
from mulap.training.pretrain.negatives import embed_ahead, join_batches, scale_gradient
from mulap.training.processes import ALONE

OPTIONS = LossOptions(mlm=0.0, mam=0.0, atm=0.0, contrastive=1.0)


def make(items):
    collator = make_collator(mlm_probability=0.5, mam_probability=0.0, keeps_captions=True)
    return collator(items)


def contrastive(outputs, targets):
    return compute_losses(outputs, targets, OPTIONS)["contrastive"]


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def test_micro_batches_add_up_to_the_loss_and_gradient_of_one_batch():
    model = make_model(has_contrastive_head=True, text_pooling="mean", num_upper_text_layers=1)
    items = make_items(9)  # one caption is there twice
    inputs, targets = split_batch(make(items))
    whole = contrastive(model(**inputs), targets)
    whole.backward()
    expected = gradients(model)
    model.zero_grad()

    batches = [make(items[first : first + 3]) for first in (0, 3, 6)]
    ahead = embed_ahead(model.mulap, batches, ALONE)
    for place, batch in enumerate(batches):
        inputs, targets = split_batch(batch)
        scale = model.mulap.logit_scale
        assert scale is not None
        joined = join_batches(model(**inputs), targets, scale, ALONE, ahead, place)
        logits = joined[0].logits_per_audio
        assert logits is not None
        assert logits.shape == (9, 9)
        loss = scale_gradient(contrastive(*joined), len(batches)) / len(batches)
        assert 3 * loss.item() == pytest.approx(whole.item(), rel=1e-5)
        loss.backward()
    found = gradients(model)
    assert found.keys() == expected.keys()
    assert expected["mulap.logit_scale"].abs() > 1e-4
    for name, gradient in expected.items():
        tolerance = 1e-4 * gradient.abs().max().item() + 1e-6
        torch.testing.assert_close(found[name], gradient, atol=tolerance, rtol=1e-3, msg=name)


def test_embedding_ahead_leaves_the_model_as_it_was_and_keeps_no_gradients():
    model = make_model(has_contrastive_head=True, feature_norm="batch").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ahead = embed_ahead(model.mulap, [make(make_items(4))], ALONE)
    assert not ahead[0].audio.requires_grad
    assert not ahead[0].text.requires_grad
    after = model.state_dict()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    model.mulap.get_audio_features(torch.randn(2, 3, 12, 20), torch.ones(2, 3))
    name = "mulap.feature_norm.norm.running_mean"
    assert not torch.equal(before[name], model.state_dict()[name])


def test_captions_are_embedded_ahead_without_masks():
    model = make_model(has_contrastive_head=True)
    batch = make(make_items(4))
    assert not torch.equal(batch["input_ids"], batch["whole_input_ids"])
    with torch.no_grad():
        expected = model.mulap.get_text_features(batch["whole_input_ids"], batch["attention_mask"])
    torch.testing.assert_close(embed_ahead(model.mulap, [batch], ALONE)[0].text, expected)
