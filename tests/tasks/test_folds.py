"""Dealing: whole groups, every track tested once, the same for the same seed, labels in train."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.tasks.folds import VALID_SHARE, assign_folds, hold_out


def one_label(classes: np.ndarray, num_labels: int | None = None) -> np.ndarray:
    """(n, C) as classes have it."""
    return np.eye(num_labels or classes.max() + 1, dtype=bool)[classes]


def check(folds, groups) -> None:
    everything = np.arange(len(groups))
    np.testing.assert_array_equal(np.sort(np.concatenate([f.test for f in folds])), everything)
    for fold in folds:
        parts = (fold.train, fold.valid, fold.test)
        np.testing.assert_array_equal(np.sort(np.concatenate(parts)), everything)
        assert all(len(part) for part in parts)
        of_parts = [set(groups[part].tolist()) for part in parts]
        assert sum(map(len, of_parts)) == len(set().union(*of_parts)), "a group is torn"


@settings(derandomize=True, max_examples=150, deadline=None)
@given(data=st.data())
def test_no_group_is_torn_and_every_track_is_tested_once(data):
    num_tracks = data.draw(st.integers(4, 40), "tracks")
    groups = np.array(data.draw(st.lists(st.integers(0, 12), min_size=num_tracks,
                                         max_size=num_tracks), "groups"))  # fmt: skip
    groups[:4] = [0, 1, 2, 3]
    num_labels = data.draw(st.integers(0, 5), "labels")
    seed = data.draw(st.integers(0, 2**31), "seed")
    labels = np.random.default_rng(seed).random((num_tracks, num_labels)) < 0.4
    num_folds = data.draw(st.integers(3, 8), "folds")
    folds = assign_folds(groups, labels, num_folds, seed)
    assert len(folds) == min(num_folds, len(set(groups.tolist())))
    check(folds, groups)


def test_the_same_seed_deals_the_same_and_another_deals_anew():
    groups, labels = np.arange(40) // 2, one_label(np.arange(40) % 3)
    first, again, other = (assign_folds(groups, labels, 4, seed) for seed in (3, 3, 4))
    for fold, same in zip(first, again, strict=True):
        for part in ("train", "valid", "test"):
            np.testing.assert_array_equal(getattr(fold, part), getattr(same, part))
    assert any(not np.array_equal(a.test, b.test) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("group_size", [1, 4])
def test_classes_are_spread_evenly(group_size):
    classes = np.repeat(np.arange(4), 80)
    folds = assign_folds(np.arange(320) // group_size, one_label(classes), 5, seed=0)
    for fold in folds:
        np.testing.assert_allclose(np.bincount(classes[fold.test]), 16, atol=group_size)
        assert 0.1 <= len(fold.valid) / 256 <= 0.2
        assert (np.bincount(classes[fold.valid], minlength=4) >= 4).all()


def test_valid_leaves_the_only_group_of_a_class_in_train():
    groups = np.array([0, 0, 1, 2, 3, 4, 5, 6, 7, 8])
    classes = np.array([1, 1, 0, 0, 0, 0, 0, 0, 0, 0])
    for seed in range(20):
        train, valid = hold_out(np.arange(10), groups, one_label(classes), seed)
        assert {0, 1} <= set(train.tolist())
        assert len(valid) == 1


def test_a_large_group_is_not_held_out_while_small_ones_can_be():
    groups = np.repeat([0, 1, 2], [90, 5, 5])
    for seed in range(10):
        train, valid = hold_out(np.arange(100), groups, np.zeros((100, 0), bool), seed)
        assert len(valid) == 5
        assert len(train) == 95


def test_tracks_alone_give_about_the_share():
    labels = one_label(np.arange(400) % 2)
    train, valid = hold_out(np.arange(400), np.arange(400), labels, seed=1)
    assert len(valid) == pytest.approx(400 * VALID_SHARE, abs=2)
    assert len(train) + len(valid) == 400


def test_rare_tags_come_to_every_part_that_they_can_reach():
    tags = np.zeros((60, 3), bool)
    tags[:, 0] = True
    tags[:30, 1] = True
    tags[:10, 2] = True  # the rarest, five folds of two
    folds = assign_folds(np.arange(60), tags, 5, seed=0)
    assert [int(tags[fold.test, 2].sum()) for fold in folds] == [2] * 5


@pytest.mark.parametrize(
    ("num_groups", "num_folds", "message"),
    [(2, 5, "only 2 groups"), (9, 1, "1 folds"), (3, 2, "of one group")],
)
def test_too_few_groups_or_folds_are_refused(num_groups, num_folds, message):
    groups = np.arange(18) % num_groups
    with pytest.raises(ValueError, match=message):
        assign_folds(groups, np.zeros((18, 0), bool), num_folds, seed=0)
