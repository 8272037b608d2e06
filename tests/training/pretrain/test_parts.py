"""Parts of the model: what is frozen stays as it is, in training mode too."""

import pytest
import torch
from tiny import make_batch, make_model

from mulap.training.pretrain.parts import freeze, hold_frozen, is_in


@pytest.mark.parametrize("part", ["backbone", "front_end", "text"])
def test_a_frozen_part_gets_no_gradient_and_its_buffers_stay(part):
    model = make_model(
        has_contrastive_head=True,
        text_pooling="mean",
        num_upper_text_layers=1,
        audio={"num_towers": 2},
    )
    freeze(model, [part])
    model.train()
    hold_frozen(model, [part])
    buffers = {n: b.clone() for n, b in model.named_buffers() if is_in(part, n)}
    outputs = model(**make_batch((3, 4), (5, 6)))
    losses = outputs.logits_per_audio.sum() + outputs.atm_logits.sum() + outputs.mlm_logits.sum()
    (losses + outputs.mam_predictions.sum()).backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert not [name for name in trained if is_in(part, name)]
    assert trained == {name for name, _ in model.named_parameters() if not is_in(part, name)}
    assert all(torch.equal(dict(model.named_buffers())[n], b) for n, b in buffers.items())


def test_what_is_not_frozen_keeps_its_training_mode():
    model = make_model().train()
    hold_frozen(model, ["front_end"])
    backbone = model.mulap.audio_backbone
    assert not backbone.front_end.spectrogram_bn.training
    assert backbone.mid_end.blocks[0].bn.training
    assert model.mulap.text_encoder.training


def test_every_parameter_is_in_one_part_or_in_the_co_attention():
    model = make_model(has_contrastive_head=True, text_pooling="mean", num_upper_text_layers=1)
    for name, _ in model.named_parameters():
        parts = [part for part in ("backbone", "text", "heads") if is_in(part, name)]
        is_between = name.startswith(("mulap.coattention.", "mulap.audio_embeddings."))
        assert len(parts) == (0 if is_between else 1), name
