"""Evaluation: equal to the whole array's values, the same each time, and without a trace."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CAPTIONS, make_collator, make_item, make_items, make_model
from torch.nn.functional import cross_entropy

from mulap.data.captions import caption_key
from mulap.objectives.losses import LossOptions
from mulap.objectives.masking import keyed_generator
from mulap.training.pretrain.evaluate import (
    EVALUATION_SEED,
    choose_pool,
    evaluate,
    split_batch,
)
from mulap.training.pretrain.retrieval import (
    chance_of_ranks,
    pair_accuracy,
    retrieval_ranks,
    right_pairs,
    summarize_ranks,
)

few = settings(max_examples=60, derandomize=True, deadline=None)


class Items(torch.utils.data.Dataset):
    """Held-out clips that need no files."""

    def __init__(self, num_items: int, captions=CAPTIONS, clips_per_group: int = 1) -> None:
        groups = [f"track {index // clips_per_group}" for index in range(num_items)]
        self.items = make_items(num_items, captions)
        self.clips = [
            SimpleNamespace(group=group, captions=(item.caption,))
            for group, item in zip(groups, self.items, strict=True)
        ]
        self.items = [
            type(item)(item.key, item.input_features[: 1 + index % 4], item.caption)
            for index, item in enumerate(self.items)
        ]

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


class Elsewhere(Items):
    """Clips that only a worker may decode."""

    def __getitem__(self, index):
        assert torch.utils.data.get_worker_info() is not None, "decoded in the main process"
        return super().__getitem__(index)


class Watched(Items):
    """Clips that write down which of them were asked for, in order."""

    def __getitem__(self, index):
        self.read = [*getattr(self, "read", ()), index]
        return super().__getitem__(index)


class TooLong(Items):
    """Clips of more segments than the model has positions."""

    def __getitem__(self, index):
        return make_item(index, num_segments=9)


def run(model, num_items=7, batch_size=3, **changes):
    collator = make_collator(mam_min_masked=1, mlm_probability=0.3)
    options = changes.pop("options", LossOptions())
    return evaluate(
        model, Items(num_items), collator, options, batch_size, changes.pop("retrieval_pool", 0)
    )


def equal(keys) -> np.ndarray:
    """Clips of one caption each: which of these captions are right for which clips."""
    return right_pairs([{key} for key in keys], keys)


def slow_rank(scores, keys, column):
    """The place of the best right track, ties half above, by counting one by one."""
    right = [row for row in range(len(keys)) if keys[row] == keys[column]]
    best = max(scores[row][column] for row in right)
    rank = 1.0
    for row in range(len(keys)):
        if row not in right:
            rank += 1.0 if scores[row][column] > best else 0.0
            rank += 0.5 if scores[row][column] == best else 0.0
    return rank


@few
@given(st.data(), st.integers(1, 7))
def test_ranks_are_their_slow_definition(data, num):
    entries = st.lists(st.integers(-2, 2), min_size=num, max_size=num)
    scores = data.draw(st.lists(entries, min_size=num, max_size=num))
    keys = data.draw(st.lists(st.sampled_from("abcd"), min_size=num, max_size=num))
    ranks = retrieval_ranks(torch.tensor(scores, dtype=torch.float32), equal(keys))
    assert ranks.tolist() == [slow_rank(scores, keys, column) for column in range(num)]


def test_the_captions_own_track_first_is_rank_one_and_last_is_the_pool():
    keys = [str(index) for index in range(5)]
    assert retrieval_ranks(torch.eye(5), equal(keys)).tolist() == [1.0] * 5
    assert retrieval_ranks(-torch.eye(5), equal(keys)).tolist() == [5.0] * 5


def test_captions_are_columns_text_to_audio():
    scores = torch.tensor([[1.0, 5.0], [0.0, 4.0]])  # clip 0 is scored highest for both captions
    assert retrieval_ranks(scores, equal("ab")).tolist() == [1.0, 2.0]


def test_a_head_that_cannot_tell_lands_in_the_middle():
    ranks = retrieval_ranks(torch.zeros(9, 9), equal(range(9)))
    assert ranks.tolist() == [5.0] * 9


def test_a_model_that_diverged_does_not_rank_first():
    ranks = retrieval_ranks(torch.full((9, 9), math.nan), equal(range(9)))
    assert ranks.tolist() == [5.0] * 9


def test_tracks_of_equal_captions_are_all_right_answers():
    scores = torch.tensor([[0.0, 9.0, 1.0], [9.0, 0.0, 2.0], [5.0, 5.0, 0.0]])
    assert retrieval_ranks(scores, equal("aab")).tolist() == [1.0, 1.0, 3.0]


def test_a_clip_is_right_for_any_of_its_own_captions():
    # Clip 0 asks for "x", clip 1 for "y" and clip 2 for "z"; "x" is a caption of clip 1 too.
    is_right = right_pairs([{"x"}, {"x", "y"}, {"z"}], "xyz")
    assert is_right.tolist() == [
        [True, False, False],
        [True, True, False],
        [False, False, True],
    ]
    scores = torch.tensor([[1.0, 5.0, 0.0], [2.0, 4.0, 0.0], [0.0, 0.0, 3.0]])
    assert retrieval_ranks(scores, is_right).tolist() == [1.0, 2.0, 1.0]
    assert pair_accuracy(scores, is_right).tolist() == [0.75, 1.0, 1.0]
    assert chance_of_ranks(is_right)["R@1"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)


def test_the_captions_that_were_not_drawn_are_the_clip_s_own_too():
    dataset = Items(3, ["a calm song", "loud drums", "happy guitar song"])
    dataset.clips[1].captions = ("loud drums", "A calm song!")
    metrics = evaluate(make_model(), dataset, make_collator(), LossOptions()).metrics
    assert metrics["retrieval/chance/R@1"] == pytest.approx((2 / 3 + 1 / 3 + 1 / 3) / 3)


def test_ranks_are_summed_up_as_recall_and_median():
    summary = summarize_ranks(np.array([1.0, 1.5, 5.0, 10.0, 11.0, 50.0]), 60)
    assert summary == {
        "R@1": pytest.approx(1 / 6),
        "R@5": pytest.approx(3 / 6),
        "R@10": pytest.approx(4 / 6),
        "median_rank": 7.5,
        "pool": 60.0,
    }


def test_pair_accuracy_weighs_matches_as_much_as_all_mismatches():
    keys = equal("abb")
    scores = torch.tensor([[1.0, -1.0, 1.0], [1.0, -1.0, 1.0], [-1.0, 1.0, 1.0]])
    assert pair_accuracy(scores, keys).tolist() == [0.75, 0.25, 1.0]
    # Saying yes, or no, to everything is chance.
    for constant in (-1.0, 1.0):
        assert pair_accuracy(torch.full((3, 3), constant), keys).tolist() == [0.5] * 3
    assert pair_accuracy(torch.ones(2, 2), equal("aa")).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "counts", [[1] * 60, [10] * 6, [20, 10, *[1] * 30], [60], [2, 1], [30, 30]]
)
def test_chance_is_what_random_scores_give_also_where_captions_are_equal(counts):
    keys = equal([str(index) for index, count in enumerate(counts) for _ in range(count)])
    generator = torch.Generator().manual_seed(0)
    size = len(keys), len(keys)
    draws = [retrieval_ranks(torch.rand(size, generator=generator), keys) for _ in range(100)]
    ranks = np.concatenate(draws)
    expected = summarize_ranks(ranks, len(ranks))
    chance = chance_of_ranks(keys)
    assert chance.keys() == expected.keys() - {"pool"}
    for name in ("R@1", "R@5", "R@10"):
        assert chance[name] == pytest.approx(expected[name], abs=0.02), name
    assert chance["median_rank"] == pytest.approx(expected["median_rank"], abs=1)


def test_chance_without_equal_captions_is_the_share_of_the_pool():
    chance = chance_of_ranks(equal(range(200)))
    assert chance == {
        "R@1": pytest.approx(1 / 200),
        "R@5": pytest.approx(5 / 200),
        "R@10": pytest.approx(10 / 200),
        "median_rank": 100.5,
    }


def test_the_pool_has_one_clip_per_group_and_not_the_first_clips_of_the_manifest():
    dataset = Items(40, clips_per_group=8)
    order = list(np.random.default_rng(0).permutation(40))
    pool = choose_pool(dataset, order, 200)
    assert sorted(index // 8 for index in pool) == [0, 1, 2, 3, 4]
    assert pool == [next(i for i in order if i // 8 == j // 8) for j in pool]
    assert choose_pool(dataset, order, 3) == pool[:3]
    assert choose_pool(dataset, order, 0) == []


def test_the_pool_may_have_several_clips_of_a_group_and_says_whose_they_are():
    dataset = Items(40, clips_per_group=8)
    order = list(np.random.default_rng(0).permutation(40))
    pool = choose_pool(dataset, order, 200, per_group=3)
    assert sorted(index // 8 for index in pool) == sorted([0, 1, 2, 3, 4] * 3)
    assert pool == sorted(pool, key=order.index)
    found = evaluate(make_model(), dataset, make_collator(), LossOptions(), 8, 200, per_group=3)
    assert len(found.groups) == len(found.ranks["atm"]) == 15
    assert np.bincount(found.groups).tolist() == [3] * 5


def test_every_caption_can_be_asked_for_with_each_clip_once_in_the_pool(monkeypatch):
    dataset = Items(6, clips_per_group=2)
    captions = [
        (f"first {k}", f"second {k}", "shared") if k % 2 else (f"one {k}",) for k in range(6)
    ]
    for clip, own in zip(dataset.clips, captions, strict=True):
        clip.captions = own
    asked, model = [], make_model()
    scores = torch.rand(6, 12, generator=torch.Generator().manual_seed(0))

    def pairs(clips, input_ids, attention_mask, **options):
        asked.extend([len(clips), len(input_ids)])
        return {"contrastive": scores}

    monkeypatch.setattr(model, "pairs", pairs)
    how = make_collator(), LossOptions(), 8, 200
    found = evaluate(model, dataset, *how, per_group=6, asks_all=True)
    assert asked == [6, 12]
    order = keyed_generator(EVALUATION_SEED, 0, 0, "order").permutation(6).tolist()
    of_clip = [place for place, index in enumerate(order) for _ in captions[index]]
    texts = [text for index in order for text in captions[index]]
    ranks = []
    for column, (place, text) in enumerate(zip(of_clip, texts, strict=True)):
        right = [k for k in range(6) if text in captions[order[k]]]
        assert place in right
        others = [scores[k, column] for k in range(6) if k not in right]
        ranks.append(1 + sum(value > scores[right, column].max() for value in others))
    np.testing.assert_array_equal(found.ranks["contrastive"], ranks)
    assert found.metrics["retrieval/contrastive/R@1"] == pytest.approx(np.mean(np.equal(ranks, 1)))
    assert found.metrics["retrieval/contrastive/pool"] == 6
    assert found.metrics["retrieval/contrastive/to_text/pool"] == 12
    assert len(found.ranks["contrastive/to_text"]) == len(found.groups) == 6
    np.testing.assert_array_equal(found.caption_groups, found.groups[of_clip])
    assert found.groups_of("contrastive") is found.caption_groups
    assert found.groups_of("contrastive/to_text") is found.groups


def test_captions_are_found_by_their_tracks_too(monkeypatch):
    dataset = Items(6, captions=[f"caption {index}" for index in range(6)])
    scores = torch.rand(6, 6, generator=torch.Generator().manual_seed(0))
    model = make_model()
    monkeypatch.setattr(model, "pairs", lambda *a, **k: {"atm": scores})
    found = evaluate(model, dataset, make_collator(), LossOptions(), 8, 200)
    own = scores.diagonal()
    tracks = 1 + (scores > own).sum(0).numpy()  # a column is a caption
    captions = 1 + (scores > own[:, None]).sum(1).numpy()
    np.testing.assert_array_equal(found.ranks["atm"], tracks)
    np.testing.assert_array_equal(found.ranks["atm/to_text"], captions)
    assert found.metrics["retrieval/atm/R@1"] == pytest.approx((tracks == 1).mean())
    assert found.metrics["retrieval/atm/to_text/R@5"] == pytest.approx((captions <= 5).mean())


def test_a_batch_of_validation_is_not_the_cuts_of_one_track():
    dataset = Watched(64, clips_per_group=8)
    metrics = evaluate(make_model(), dataset, make_collator(), LossOptions(), 8, 200).metrics
    assert metrics["retrieval/atm/pool"] == 8
    batches = np.reshape(dataset.read[:64], (8, 8))
    assert sorted(batches.flatten()) == list(range(64))
    assert min(len(set(batch // 8)) for batch in batches) > 3
    again = Watched(64, clips_per_group=8)
    evaluate(make_model(seed=1), again, make_collator(), LossOptions(), 8, 200)
    assert again.read == dataset.read  # the same order for every model


@pytest.mark.parametrize("batch_size", [3, 4, 7, 50])
@pytest.mark.parametrize("mismatch", ["keep", "drop_mlm", "drop_both"])
def test_each_figure_is_the_whole_array_s_also_where_the_last_batch_is_smaller_E34(
    batch_size, mismatch
):
    model = make_model()
    options = LossOptions(mismatch=mismatch)
    evaluation = run(model, num_items=7, batch_size=batch_size, options=options)
    collator = make_collator(mam_min_masked=1, mlm_probability=0.3)
    dataset = Watched(7)
    evaluate(model, dataset, collator, options, batch_size, 0)
    items = [dataset.items[index] for index in dataset.read]
    words, squares, matches, labels = [], [], [], []
    for begin in range(0, 7, batch_size):
        inputs, targets = split_batch(collator(items[begin : begin + batch_size]))
        with torch.no_grad():
            out = model(**inputs)
        match = targets.atm_labels.bool()
        word_counts = match[out.mlm_clip_index] | (mismatch == "keep")
        errors = cross_entropy(out.mlm_logits, out.mlm_targets, reduction="none")
        words.append(errors[word_counts])
        counts = targets.is_masked_segment & (match[:, None] | (mismatch != "drop_both"))
        squares.append((out.mam_predictions - out.audio_features)[counts].square().mean(-1))
        matches.append(out.atm_logits)
        labels.append(targets.atm_labels)
    words, squares, logits, labels = map(torch.cat, (words, squares, matches, labels))
    expected = {
        "loss/mlm": words.mean(),
        "loss/mam": squares.mean(),
        "loss/atm": torch.nn.functional.binary_cross_entropy_with_logits(logits, labels),
        "atm/accuracy": ((logits > 0) == labels.bool()).float().mean(),
    }
    for name, value in expected.items():
        assert evaluation.metrics[name] == pytest.approx(float(value), rel=1e-5), name
    total = sum(w * evaluation.metrics[f"loss/{n}"] for n, w in options.weights().items())
    assert evaluation.metrics["loss"] == pytest.approx(total, rel=1e-5)


def test_masks_swaps_and_figures_of_two_evaluations_are_the_same_E3():
    model = make_model()
    torch.manual_seed(1)
    first = run(model, retrieval_pool=5)
    torch.manual_seed(2)
    second = run(model, retrieval_pool=5)
    assert first.metrics == second.metrics


def test_validation_has_a_masked_audio_loss_as_training_has_E3():
    metrics = run(make_model()).metrics
    assert metrics["loss/mam"] > 0
    assert {"loss", "loss/mlm", "loss/mam", "loss/atm", "atm/accuracy"} <= metrics.keys()


@pytest.mark.parametrize("was_training", [False, True])
def test_an_evaluation_leaves_the_run_as_it_was_iv(was_training):
    model = make_model(has_contrastive_head=True).train(was_training)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    run(model, options=LossOptions(contrastive=1.0), retrieval_pool=5)
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])  # noqa: NPY002
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(module.training == was_training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_failed_evaluation_leaves_the_model_training():
    model = make_model().train()
    with pytest.raises(ValueError, match="max_segments"):
        evaluate(model, TooLong(2), make_collator(), LossOptions())
    assert model.training


def score(model, items, captions_at_once=32):
    """The scores of a pool, as `evaluate` takes them."""
    captions = [item.caption for item in items]
    tokens = make_collator().tokenize(captions, padding=True, return_tensors="pt")
    clips = [torch.from_numpy(item.input_features) for item in items]
    return model.pairs(clips, tokens.input_ids, tokens.attention_mask, captions_at_once)


@pytest.mark.parametrize("has_contrastive_head", [False, True])
def test_retrieval_says_by_which_head_and_scores_as_the_head_does(has_contrastive_head):
    model = make_model(has_contrastive_head=has_contrastive_head)
    evaluation = run(model, num_items=6, retrieval_pool=5)
    heads = {"atm", "contrastive"} if has_contrastive_head else {"atm"}
    assert evaluation.ranks.keys() == {f"{h}{way}" for h in heads for way in ("", "/to_text")}
    for head in heads:
        assert evaluation.metrics[f"retrieval/{head}/pool"] == 5
        expected = summarize_ranks(evaluation.ranks[head], len(evaluation.groups))
        assert evaluation.metrics[f"retrieval/{head}/R@1"] == expected["R@1"]
    assert len(evaluation.pair_accuracy) == 5
    scores = score(model, Items(5).items, captions_at_once=2)
    assert scores.keys() == heads
    collator = make_collator(mlm_probability=0.0, mam_probability=0.0, atm_probability=0.0)
    inputs, _ = split_batch(collator(Items(5).items))
    with torch.no_grad():
        out = model(**inputs)
    torch.testing.assert_close(scores["atm"].diagonal(), out.atm_logits, atol=1e-5, rtol=0)
    if has_contrastive_head:
        scaled = scores["contrastive"] * model.mulap.logit_scale.exp().detach()
        torch.testing.assert_close(scaled, out.logits_per_audio, atol=1e-4, rtol=0)


def test_retrieval_is_left_out_where_it_is_not_wanted_or_there_is_one_clip():
    assert not any("retrieval" in name for name in run(make_model(), retrieval_pool=0).metrics)
    assert not any("retrieval" in name for name in run(make_model(), 1, retrieval_pool=9).metrics)


def test_tracks_with_equal_captions_share_a_rank():
    model = make_model()
    captions = ["a calm song", "A calm song!", "loud drums"]
    evaluation = evaluate(model, Items(3, captions), make_collator(), LossOptions())
    scores = score(model, Items(3, captions).items)["atm"]
    keys = [caption_key(caption) for caption in captions]
    assert keys[0] == keys[1]
    expected = retrieval_ranks(scores, equal(keys))
    assert sorted(evaluation.ranks["atm"]) == sorted(expected)  # the pool has another order
    assert evaluation.metrics["retrieval/chance/R@1"] == pytest.approx((2 / 3 + 2 / 3 + 1 / 3) / 3)


def test_workers_decode_all_clips_and_change_no_figure():
    model, collator = make_model(), make_collator(mam_min_masked=1, mlm_probability=0.3)
    state = torch.get_rng_state()
    ours, theirs = (
        evaluate(model, dataset, collator, LossOptions(), 3, 5, num_workers)
        for dataset, num_workers in ((Items(7), 0), (Elsewhere(7), 2))
    )
    assert torch.equal(torch.get_rng_state(), state)
    assert "retrieval/atm/R@1" in ours.metrics
    assert ours.metrics == theirs.metrics
    np.testing.assert_array_equal(ours.pair_accuracy, theirs.pair_accuracy)
    np.testing.assert_array_equal(ours.ranks["atm"], theirs.ranks["atm"])
