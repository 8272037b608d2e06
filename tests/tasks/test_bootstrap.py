"""Bootstrap draws: a function of seed and position, over whole groups, as wide as the truth."""

import math

import numpy as np
import pytest

from mulap.tasks.bootstrap import bootstrap_counts, bootstrap_interval


def test_a_draw_depends_on_its_seed_and_position_only():
    counts = bootstrap_counts(np.arange(50), 20, seed=4)
    assert counts.shape == (20, 50)
    assert (counts.sum(1) == 50).all()
    assert np.array_equal(counts[:5], bootstrap_counts(np.arange(50), 5, seed=4))
    assert len({row.tobytes() for row in counts}) == 20
    assert not np.array_equal(counts, bootstrap_counts(np.arange(50), 20, seed=5))


def test_whole_groups_are_drawn_and_single_items_where_each_is_its_own():
    groups = np.array(["b", "a", "b", "c", "a", "b"])
    counts = bootstrap_counts(groups, 200)
    for name in "abc":
        assert (counts[:, groups == name] == counts[:, groups == name][:, :1]).all()
    assert (counts[:, [0, 1, 3]].sum(1) == 3).all()  # as many groups as there are
    assert counts[:, 0].mean() == pytest.approx(1, abs=0.2)
    singles = bootstrap_counts(np.arange(30), 10)
    assert np.array_equal(singles, bootstrap_counts(10 * np.arange(30), 10))


def test_an_interval_of_single_items_is_two_standard_errors_to_either_side():
    values = np.random.default_rng(0).random(200)
    low, high = bootstrap_interval(values, np.arange(200), num_draws=2000)
    assert low < values.mean() < high
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(200), rel=0.1)
    assert bootstrap_interval(values, np.arange(200), num_draws=2000) == (low, high)
    assert bootstrap_interval(np.full(5, 0.5), np.arange(5)) == (0.5, 0.5)


def test_one_group_has_no_interval():
    assert bootstrap_interval(np.array([0.0, 1.0, 1.0]), np.zeros(3)) is None


@pytest.mark.parametrize("correlation", [0.5, 0.9])
def test_the_interval_holds_the_truth_19_times_in_20_although_clips_of_a_track_are_alike(
    correlation,
):
    num_tracks, clips_per_track, num_trials = 40, 8, 200
    rng = np.random.default_rng(0)
    tracks = np.repeat(np.arange(num_tracks), clips_per_track)
    held = {"tracks": 0, "clips": 0}
    for _ in range(num_trials):
        shared = rng.normal(size=num_tracks)[tracks] * math.sqrt(correlation)
        values = shared + rng.normal(size=len(tracks)) * math.sqrt(1 - correlation)
        for name, groups in (("tracks", tracks), ("clips", np.arange(len(tracks)))):
            low, high = bootstrap_interval(values, groups, num_draws=200)
            held[name] += low < 0 < high  # the truth is 0
    assert held["tracks"] / num_trials > 0.88
    assert held["clips"] / num_trials < 0.75  # what drawing clips one by one claims to be 95%
