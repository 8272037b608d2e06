"""The losses: against formulas written out, finite whatever the batch, honest gradients."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import has_no_gradient, make_batch, make_model
from torch.nn.functional import cross_entropy

from mulap.model.pretraining import MulapForPreTrainingOutput
from mulap.objectives.losses import (
    LossOptions,
    Targets,
    atm_loss,
    compute_losses,
    contrastive_loss,
    feature_spread,
    mam_loss,
    mlm_loss,
    weighted_sum,
)

few = settings(max_examples=30, derandomize=True, deadline=None)


def make_outputs(num_words=3, num_clips=4, num_segments=3, seed=0) -> MulapForPreTrainingOutput:
    torch.manual_seed(seed)
    features = torch.randn(num_clips, num_segments, 5)
    return MulapForPreTrainingOutput(
        audio_features=features.requires_grad_(),
        mlm_logits=torch.randn(num_words, 7, requires_grad=True),
        mlm_targets=torch.arange(num_words) % 7,
        mlm_clip_index=torch.arange(num_words) % num_clips,
        mam_predictions=torch.randn(num_clips, num_segments, 5, requires_grad=True),
        atm_logits=torch.randn(num_clips, requires_grad=True),
        logits_per_audio=torch.randn(num_clips, num_clips, requires_grad=True),
    )


def make_targets(labels=(1.0, 0.0, 1.0, 0.0), masked=True, num_segments=3) -> Targets:
    num = len(labels)
    is_masked = torch.zeros(num, num_segments, dtype=torch.bool)
    is_masked[:, 0] = masked
    return Targets(
        torch.tensor(labels),
        torch.ones(num, num_segments, dtype=torch.long),
        is_masked,
        torch.arange(num),
        torch.arange(num),
    )


ALL = LossOptions(contrastive=1.0)


def test_the_mlm_loss_is_the_mean_cross_entropy_of_the_words_that_count():
    logits, targets = torch.randn(4, 7), torch.tensor([0, 1, 2, 3])
    counted = torch.tensor([True, False, True, False])
    expected = cross_entropy(logits[[0, 2]], targets[[0, 2]])
    torch.testing.assert_close(mlm_loss(logits, targets, counted), expected)


def test_the_mam_target_is_the_original_and_not_the_zeros_of_the_mask_E1():
    features = torch.full((1, 2, 4), 3.0)
    is_masked = torch.tensor([[True, False]])
    assert mam_loss(torch.full((1, 2, 4), 3.0), features, is_masked) == 0.0
    assert mam_loss(torch.zeros(1, 2, 4), features, is_masked) == 9.0
    # What the authors' code regresses to is an option with its own name.
    assert mam_loss(torch.zeros(1, 2, 4), features, is_masked, target="zeros") == 0.0
    assert mam_loss(features, features, is_masked, target="zeros") == 9.0


def test_the_mam_target_of_a_whole_model_is_what_it_gives_without_masking_E1():
    model = make_model()
    batch = make_batch((3, 3))
    is_masked = torch.tensor([[True, False, False], [False, False, True]])
    out = model(**batch, is_masked_segment=is_masked)
    targets = make_targets((1.0, 1.0))
    targets.is_masked_segment = is_masked
    with torch.no_grad():
        original = model(**batch).audio_features
    expected = (out.mam_predictions[is_masked] - original[is_masked]).square().mean()
    losses = compute_losses(out, targets, LossOptions(mlm=0.0))
    torch.testing.assert_close(losses["mam"], expected)
    assert original[is_masked].abs().max() > 0.1


@pytest.mark.parametrize("target", ["original", "normalized", "zeros"])
def test_the_mam_target_carries_no_gradient_so_that_features_need_not_collapse_E1(target):
    features = torch.randn(2, 3, 5, requires_grad=True)
    predictions = torch.randn(2, 3, 5, requires_grad=True)
    is_masked = torch.ones(2, 3, dtype=torch.bool)
    mam_loss(predictions, features, is_masked, target=target).backward()
    assert features.grad is None
    assert predictions.grad.all()


def test_the_mam_target_can_be_normalised():
    features = 5 + 3 * torch.randn(1, 1, 50)
    goal = (features - features.mean()) / features.std(unbiased=False)
    masked = torch.ones(1, 1, dtype=torch.bool)
    assert mam_loss(goal, features, masked, target="normalized") < 1e-6


def test_the_mam_loss_is_a_mean_over_numbers_or_equation_3s_sum_a_segment_E7():
    predictions, features = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    masked = torch.tensor([[True, False, True], [False, True, False]])
    squares = (predictions - features).square()[masked]
    torch.testing.assert_close(mam_loss(predictions, features, masked), squares.mean())
    torch.testing.assert_close(
        mam_loss(predictions, features, masked, reduction="sum"), squares.sum(-1).mean()
    )


def test_only_hidden_segments_count_in_the_mam_loss():
    predictions, features = torch.randn(2, 3, 5), torch.randn(2, 3, 5)
    masked = torch.tensor([[True, False, False], [False, True, False]])
    before = mam_loss(predictions, features, masked)
    predictions[~masked] += 100.0
    assert mam_loss(predictions, features, masked) == before


def test_a_match_is_label_one_E4():
    assert atm_loss(torch.tensor([10.0, -10.0]), torch.tensor([1.0, 0.0])) < 1e-3
    assert atm_loss(torch.tensor([10.0, -10.0]), torch.tensor([0.0, 1.0])) > 9
    assert atm_loss(torch.zeros(3), torch.ones(3)).item() == pytest.approx(math.log(2))


@few
@given(st.integers(1, 8), st.integers(0, 1000))
def test_without_duplicates_the_contrastive_loss_is_clips(num, seed):
    logits = 3 * torch.randn(num, num, generator=torch.Generator().manual_seed(seed))
    expected = 0.5 * (
        cross_entropy(logits, torch.arange(num)) + cross_entropy(logits.T, torch.arange(num))
    )
    ours = contrastive_loss(logits, torch.eye(num, dtype=torch.bool))
    torch.testing.assert_close(ours, expected)


def test_equal_captions_are_all_right_answers_of_the_contrastive_loss():
    same = torch.tensor([[1, 1, 0], [1, 1, 0], [0, 0, 1]], dtype=torch.bool)
    right = torch.where(same, 30.0, 0.0)
    assert contrastive_loss(right, same).item() == pytest.approx(0.0, abs=1e-5)
    # Which of the two equal captions is scored higher makes no side the better one.
    torch.manual_seed(0)
    logits = torch.randn(3, 3)
    swapped = logits[[1, 0, 2]][:, [1, 0, 2]]
    torch.testing.assert_close(contrastive_loss(logits, same), contrastive_loss(swapped, same))


def test_a_right_answer_does_not_compete_with_another_right_one():
    logits = torch.tensor([[2.0, 5.0, 1.0]])
    same = torch.tensor([[True, True, False]])
    alone = [cross_entropy(torch.tensor([[right, 1.0]]), torch.tensor([0])) for right in (2.0, 5.0)]
    # In each column all clips are right answers.
    assert contrastive_loss(logits, same).item() == pytest.approx(0.5 * (sum(alone) / 2).item())


def test_with_nothing_wrong_the_contrastive_loss_is_zero_and_has_a_gradient_of_zero():
    logits = torch.randn(2, 2).requires_grad_()
    loss = contrastive_loss(logits, torch.ones(2, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert not logits.grad.any()


def test_captions_of_no_clip_are_wrong_answers_only():
    logits = torch.randn(2, 4)
    same = torch.eye(2, 4, dtype=torch.bool)
    to_text = cross_entropy(logits, torch.arange(2))
    to_audio = cross_entropy(logits.T[:2], torch.arange(2))
    torch.testing.assert_close(contrastive_loss(logits, same), 0.5 * (to_text + to_audio))


def test_swapped_pairs_count_by_default_and_not_where_that_is_asked_E6():
    outputs, targets = make_outputs(num_words=4), make_targets()
    words = cross_entropy(outputs.mlm_logits, outputs.mlm_targets, reduction="none")
    squares = (outputs.mam_predictions - outputs.audio_features)[:, 0].square().mean(-1)
    expected = {
        "keep": (words.mean(), squares.mean()),
        "drop_mlm": (words[[0, 2]].mean(), squares.mean()),
        "drop_both": (words[[0, 2]].mean(), squares[[0, 2]].mean()),
    }
    for mismatch, (mlm, mam) in expected.items():
        losses = compute_losses(outputs, targets, LossOptions(mismatch=mismatch))
        torch.testing.assert_close(losses["mlm"], mlm)
        torch.testing.assert_close(losses["mam"], mam)
    assert LossOptions().mismatch == "keep"


@pytest.mark.parametrize("mismatch", ["keep", "drop_mlm", "drop_both"])
@pytest.mark.parametrize("num_words", [0, 3])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("labels", [(0.0,) * 4, (1.0,) * 4, (1.0, 0.0, 1.0, 0.0)])
def test_every_loss_is_finite_and_part_of_the_graph_whatever_the_batch_E6(
    mismatch, num_words, masked, labels
):
    outputs, targets = make_outputs(num_words), make_targets(labels, masked)
    options = LossOptions(contrastive=1.0, mismatch=mismatch)
    losses = compute_losses(outputs, targets, options)
    assert set(losses) == {"mlm", "mam", "atm", "contrastive"}
    total = weighted_sum(losses, options)
    assert total.isfinite()
    total.backward()
    # Also what has nothing to learn gets a gradient, of zeros: DDP waits for every one.
    for tensor in (outputs.mlm_logits, outputs.mam_predictions, outputs.atm_logits):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


@pytest.mark.parametrize("mismatch", ["drop_mlm", "drop_both"])
def test_a_batch_whose_pairs_are_all_mismatched_teaches_words_nothing_E6(mismatch):
    losses = compute_losses(
        make_outputs(), make_targets((0.0,) * 4), LossOptions(mismatch=mismatch)
    )
    assert losses["mlm"] == 0.0
    assert (losses["mam"] == 0.0) == (mismatch == "drop_both")


@pytest.mark.parametrize("num_segments", [1, 2])
def test_a_whole_model_has_a_finite_loss_with_nothing_hidden_and_short_clips(num_segments):
    model = make_model(has_contrastive_head=True).train()
    batch = make_batch((num_segments, num_segments), (3, 2))
    labels = torch.full((2, 3), -100)
    out = model(**batch, mlm_labels=labels)
    targets = make_targets((1.0, 0.0), masked=False, num_segments=num_segments)
    weighted_sum(compute_losses(out, targets, ALL), ALL).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("has_contrastive_head", [False, True])
@pytest.mark.parametrize("layout", ["paper", "official"])
@pytest.mark.parametrize("atm_head", ["product", "pooler"])
def test_every_parameter_gets_a_gradient_in_one_step_E16(layout, has_contrastive_head, atm_head):
    model = make_model(layout=layout, has_contrastive_head=has_contrastive_head, atm_head=atm_head)
    model.train()
    batch = make_batch((4, 4, 4), (6, 6, 6))
    labels = torch.full((3, 6), -100)
    labels[:, 2:4] = batch["input_ids"][:, 2:4]
    targets = make_targets((1.0, 0.0, 1.0), num_segments=4)
    out = model(
        **batch,
        mlm_labels=labels,
        is_masked_segment=targets.is_masked_segment,
        caption_index=torch.tensor([0, 0, 2]),
    )
    options = ALL if has_contrastive_head else LossOptions()
    weighted_sum(compute_losses(out, targets, options), options).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        # Softmax does not see what adds one number to all of a row's scores.
        if not name.endswith("key.bias") and not has_no_gradient(name):
            assert parameter.grad.any(), name


def test_an_objective_without_weight_is_not_computed():
    losses = compute_losses(make_outputs(), make_targets(), LossOptions(mam=0.0, atm=0.0))
    assert set(losses) == {"mlm"}


def test_the_total_is_the_weighted_sum():
    options = LossOptions(mlm=0.5, mam=2.0, atm=3.0)
    losses = {"mlm": torch.tensor(1.0), "mam": torch.tensor(10.0), "atm": torch.tensor(100.0)}
    assert weighted_sum(losses, options) == 320.5
    assert LossOptions().weights() == {"mlm": 0.1, "mam": 4.0, "atm": 2.0}


def test_a_contrastive_weight_without_its_head_is_one_clear_error():
    outputs = make_outputs()
    outputs.logits_per_audio = None
    with pytest.raises(ValueError, match="no contrastive head: set model.has_contrastive_head"):
        compute_losses(outputs, make_targets(), ALL)


def test_the_mlm_loss_without_labels_is_one_clear_error():
    outputs = make_outputs()
    outputs.mlm_targets = None
    with pytest.raises(ValueError, match="needs labels: give the model mlm_labels"):
        compute_losses(outputs, make_targets(), LossOptions())


def test_the_spread_of_features_is_zero_exactly_where_all_segments_are_alike():
    torch.manual_seed(0)
    vector = torch.randn(1, 50)
    assert feature_spread(vector.repeat(8, 1)) < 1e-6
    assert feature_spread(torch.zeros(8, 50)) == 0.0
    assert float(feature_spread(torch.randn(2000, 50))) == pytest.approx(1.0, abs=0.01)
    small = float(feature_spread(vector + 0.01 * torch.randn(8, 50)))
    assert 0.001 < small < 0.02
    # Its unit is the features' own size.
    scaled = float(feature_spread(1000 * (vector + 0.01 * torch.randn(8, 50))))
    assert scaled == pytest.approx(small, rel=0.3)


@pytest.mark.parametrize("mismatch", ["keep", "drop_mlm", "drop_both"])
def test_with_more_pairs_than_clips_the_first_ones_say_what_is_dropped(mismatch):
    outputs, targets = make_outputs(num_words=4), make_targets()
    options = LossOptions(mismatch=mismatch, atm=0.0)
    expected = compute_losses(outputs, targets, options)
    targets.atm_labels = torch.cat([targets.atm_labels, 1 - targets.atm_labels])
    losses = compute_losses(outputs, targets, options)
    torch.testing.assert_close(losses, expected)
    outputs.atm_logits = torch.zeros(8)
    assert compute_losses(outputs, targets, LossOptions())["atm"].isfinite()


@pytest.mark.parametrize("counted", [(3, 1), (2, 0), (0, 0)])
def test_losses_by_the_mean_count_have_the_mean_over_the_words_of_all(counted):
    logits, targets = torch.randn(8, 7), torch.arange(8) % 7
    is_counted = torch.zeros(8, dtype=torch.bool)
    is_counted[: counted[0]] = is_counted[4 : 4 + counted[1]] = True
    mean_count = torch.tensor(sum(counted) / 2)
    shared = [
        mlm_loss(logits[part], targets[part], is_counted[part], lambda count: mean_count)
        for part in (slice(4), slice(4, 8))
    ]
    torch.testing.assert_close(sum(shared) / 2, mlm_loss(logits, targets, is_counted))
