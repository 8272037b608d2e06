"""The authors' recipe, rebuilt: the same numbers as ours wherever only the arithmetic differs."""

import copy

import pytest
import torch
from torch import nn

from benchmarks.authors import AuthorsStep, PlainLogMel, embed_segments, pad_captions
from benchmarks.problems import collate, make_backbone, make_captions, make_clips, make_model
from mulap.encoders.embedder import Embedder
from mulap.fast.front_end import fuse_front_end
from mulap.model.features import MulapFeatureExtractor
from mulap.model.modeling import IGNORED_LABEL
from mulap.objectives.losses import LossOptions, compute_losses, weighted_sum
from mulap.training.pretrain.evaluate import split_batch


@pytest.fixture(scope="module")
def batch():
    """Four clips of two segments with captions of several lengths, as the collator makes them."""
    clips = make_clips(4, 2)
    log_mels = MulapFeatureExtractor().log_mel(clips.flatten(0, 1)).reshape(4, 2, 96, -1)
    return collate(list(log_mels), make_captions(4, is_toy=True), is_toy=True)


def make_double():
    model = make_model(is_toy=True).double()
    fuse_front_end(model, False)  # its own tests are elsewhere
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    return model.eval()


def to_double(batch):
    return {
        name: each.double() if each.is_floating_point() else each for name, each in batch.items()
    }


def both_losses(model, batch):
    """Ours, then the authors', whose model is another with the same weights."""
    inputs, targets = split_batch(batch)
    theirs = AuthorsStep(copy.deepcopy(model))
    ours = compute_losses(model(**inputs), targets, LossOptions())
    return ours, theirs.losses(batch["input_features"], batch), theirs.model


def test_the_authors_losses_are_ours_in_evaluation_mode(batch):
    model = make_double()
    ours, authors, _ = both_losses(model, to_double(batch))
    assert batch["is_masked_segment"].any()
    assert 0 < batch["atm_labels"].mean() < 1
    for name, loss in ours.items():
        assert loss > 0
        torch.testing.assert_close(authors[name].float(), loss.float(), rtol=1e-5, atol=0)


def test_the_authors_gradients_are_ours_where_batchnorm_sees_the_same(batch):
    one = to_double(batch)
    for name in ("input_features", "audio_attention_mask", "is_masked_segment"):
        one[name] = one[name][:, :1]  # one place a clip: all segments of the batch
    one["is_masked_segment"][::2] = True
    model = make_double()
    model.train()
    model.mulap.text_encoder.eval()  # its dropout is not ours to switch off
    ours, authors, copied = both_losses(model, one)
    weighted_sum(ours, LossOptions()).backward()
    weighted_sum(authors, LossOptions()).backward()
    mine, theirs = dict(model.named_parameters()), dict(copied.named_parameters())
    assert mine.keys() == theirs.keys()
    for name, parameter in mine.items():
        if parameter.grad is not None:
            expected = parameter.grad
            torch.testing.assert_close(
                theirs[name].grad,
                expected,
                rtol=1e-4,
                atol=1e-6 * float(expected.abs().max()) + 1e-12,
            )


def test_batchnorm_by_place_is_what_differs_in_training(batch):
    model = make_double().train()
    ours, authors, _ = both_losses(model, to_double(batch))
    assert abs(authors["mam"] - ours["mam"]) > 1e-3 * ours["mam"]


def test_the_authors_embeddings_are_ours():
    segments = make_clips(1, 3)[0]
    backbone = make_backbone()
    ours = Embedder(backbone).embed_waveform(segments.flatten().numpy())
    authors = embed_segments(backbone, PlainLogMel(), segments)
    torch.testing.assert_close(authors, torch.from_numpy(ours), rtol=1e-3, atol=1e-3)


def test_captions_are_padded_to_64_tokens_that_count_nowhere(batch):
    padded = pad_captions(batch)
    length = batch["input_ids"].shape[1]
    assert {each.shape[1] for each in padded.values()} == {64}
    assert padded["attention_mask"][:, length:].sum() == 0
    assert (padded["mlm_labels"][:, length:] == IGNORED_LABEL).all()
    assert (padded["input_ids"][:, :length] == batch["input_ids"]).all()
