"""What is hidden and swapped: rates, limits, and nothing that depends on neighbours."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.objectives.masking import (
    WordMasking,
    keyed_generator,
    mask_segments,
    mask_words,
    swap_captions,
)

few = settings(max_examples=40, derandomize=True, deadline=None)
ORDINARY = np.arange(10, 1000)
MASK = 3
RECIPE = WordMasking(MASK, ORDINARY)


def generators(num: int, seed: int = 0, epoch: int = 0):
    return [keyed_generator(seed, epoch, index, "atm") for index in range(num)]


def is_within(count: int, num: int, share: float) -> bool:
    """Whether a binomial count is within 4.5 standard deviations of its mean."""
    return abs(count - num * share) < 4.5 * np.sqrt(num * share * (1 - share))


@few
@given(st.integers(0, 2**32), st.integers(0, 1000), st.integers(0, 10**6))
def test_a_key_always_gives_the_same_draws_and_another_gives_others(seed, epoch, index):
    def draws(*key):
        return keyed_generator(*key).integers(2**62, size=4).tolist()

    assert draws(seed, epoch, index, "mlm") == draws(seed, epoch, index, "mlm")
    others = [
        draws(seed + 1, epoch, index, "mlm"),
        draws(seed, epoch + 1, index, "mlm"),
        draws(seed, epoch, index + 1, "mlm"),
        draws(seed, epoch, index, "mam"),
        draws(epoch, seed, index, "mam"),
    ]
    assert draws(seed, epoch, index, "mlm") not in others


def test_keyed_draws_leave_numpy_s_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    keyed_generator(0, 0, 0, "mlm").random(100)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_of_the_words_15_percent_are_chosen_and_of_these_80_10_10_hidden_replaced_kept():
    num = 100_000
    ids = keyed_generator(1, 0, 0, "mlm").choice(ORDINARY, num)
    hidden, labels = mask_words(ids, np.zeros(num, bool), RECIPE, keyed_generator(0, 0, 0, "mlm"))
    is_chosen = labels != -100
    assert np.array_equal(labels[is_chosen], ids[is_chosen])
    assert np.array_equal(hidden[~is_chosen], ids[~is_chosen])
    num_chosen = is_chosen.sum()
    assert is_within(num_chosen, num, 0.15)
    is_mask, is_kept = hidden == MASK, is_chosen & (hidden == ids)
    assert is_within(is_mask.sum(), num_chosen, 0.8)
    # One replacement in 990 is by the word itself.
    assert is_within(is_kept.sum(), num_chosen, 0.1 + 0.1 / len(ORDINARY))
    assert is_within((is_chosen & ~is_mask & ~is_kept).sum(), num_chosen, 0.1)
    replaced = hidden[is_chosen & ~is_mask & ~is_kept]
    assert len(set(replaced)) > 500  # any word, not a favourite


@few
@given(st.integers(0, 2**32), st.lists(st.booleans(), min_size=1, max_size=30))
def test_special_tokens_are_never_hidden_nor_labelled_nor_put_in_E8(seed, is_special):
    is_special = np.array(is_special)
    ids = np.where(is_special, 1, 20 + np.arange(len(is_special)))
    recipe = WordMasking(MASK, ORDINARY, probability=1.0)
    hidden, labels = mask_words(ids, is_special, recipe, keyed_generator(seed, 0, 0, "mlm"))
    assert (hidden[is_special] == 1).all()
    assert (labels[is_special] == -100).all()
    assert (labels[~is_special] == ids[~is_special]).all()
    assert np.isin(hidden[~is_special], [MASK, *ORDINARY]).all()


def test_no_word_may_be_chosen_and_every_word_may():
    ids = np.arange(20, 25)
    nothing = np.zeros(5, bool)
    never = WordMasking(MASK, ORDINARY, probability=0.0)
    hidden, labels = mask_words(ids, nothing, never, keyed_generator(0, 0, 0, "mlm"))
    assert hidden.tolist() == ids.tolist()
    assert (labels == -100).all()
    always = WordMasking(MASK, ORDINARY, probability=1.0, mask_share=1.0, random_share=0.0)
    hidden, labels = mask_words(ids, nothing, always, keyed_generator(0, 0, 0, "mlm"))
    assert (hidden == MASK).all()
    assert labels.tolist() == ids.tolist()


@few
@given(st.integers(1, 20), st.floats(0, 1), st.integers(0, 25), st.integers(0, 10**6))
def test_a_segment_always_stays_and_as_many_are_hidden_as_asked(num, probability, least, index):
    generator = keyed_generator(0, 0, index, "mam")
    is_masked = mask_segments(num, probability, least, generator)
    assert is_masked.shape == (num,)
    assert is_masked.sum() <= num - 1
    assert is_masked.sum() >= min(least, num - 1)


def test_a_clip_of_one_segment_is_never_masked():
    for index in range(100):
        assert not mask_segments(1, 1.0, 1, keyed_generator(0, 0, index, "mam")).any()


def test_segments_are_hidden_at_the_rate_given_and_anywhere():
    is_masked = np.stack(
        [mask_segments(6, 0.15, 0, keyed_generator(0, 0, i, "mam")) for i in range(5000)]
    )
    assert is_within(is_masked.sum(), is_masked.size, 0.15)
    for position in range(6):
        assert is_within(is_masked[:, position].sum(), 5000, 0.15)
    # As in ViLBERT, more than a third of all clips have none hidden.
    assert is_within((~is_masked.any(axis=1)).sum(), 5000, 0.85**6)


def test_at_least_one_segment_is_hidden_where_that_is_asked():
    is_masked = np.stack(
        [mask_segments(6, 0.15, 1, keyed_generator(0, 0, i, "mam")) for i in range(2000)]
    )
    assert is_masked.any(axis=1).all()
    for position in range(6):
        assert is_masked[:, position].any()


def test_a_label_of_one_is_a_match_E4():
    index, labels = swap_captions(["a", "b", "c", "d"] * 4, generators(16), probability=0.5)
    assert ((index == np.arange(16)) == (labels == 1)).all()
    assert set(labels.tolist()) == {0.0, 1.0}
    assert labels.dtype == np.float32


@few
@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=12), st.integers(0, 1000))
def test_a_swapped_caption_is_another_one_of_the_batch_and_never_an_equal_one_E4(keys, seed):
    index, labels = swap_captions(keys, generators(len(keys), seed), probability=1.0)
    for own, (other, label) in enumerate(zip(index, labels, strict=True)):
        assert (keys[own] != keys[other]) == (label == 0.0)
        assert label == 0.0 or other == own
    if len(set(keys)) > 1:
        assert not labels.any()


@pytest.mark.parametrize("keys", [["a"], ["a"] * 5])
def test_a_batch_of_one_or_of_equal_captions_swaps_nothing_and_ends_E4(keys):
    index, labels = swap_captions(keys, generators(len(keys)), probability=1.0)
    assert index.tolist() == list(range(len(keys)))
    assert labels.all()


def test_half_the_captions_are_swapped_by_any_of_the_others():
    keys = [str(index) for index in range(4000)]
    index, labels = swap_captions(keys, generators(4000))
    assert is_within((labels == 0).sum(), 4000, 0.5)
    swapped = index[labels == 0]
    assert len(np.unique(swapped)) > 1000
    assert swapped.min() < 100
    assert swapped.max() > 3900


@pytest.mark.parametrize(("probability", "num_swapped"), [(0.0, 0), (1.0, 6)])
def test_swaps_can_be_switched_off_and_forced(probability, num_swapped):
    _, labels = swap_captions(list("abcdef"), generators(6), probability)
    assert (labels == 0).sum() == num_swapped
