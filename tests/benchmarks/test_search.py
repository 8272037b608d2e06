"""The library that the benchmark of searches draws, and what it counts."""

import re

import numpy as np
import pytest

from benchmarks import search
from mulap.encoders.zero_shot import Reference
from mulap.library import store as store_module
from mulap.library.about import Space
from mulap.library.store import Store, points_of


@pytest.fixture
def reference():
    rng = np.random.default_rng(0)
    return Reference.of(rng.normal(0.2, 1, (200, 16)) * np.linspace(1, 3, 16))


@pytest.mark.parametrize("least", [10_000, 500])
def test_drawn_tracks_can_be_searched_with_and_without_an_index(
    tmp_path, reference, monkeypatch, least
):
    monkeypatch.setattr(store_module, "LEAST_ROWS_OF_INDEX", least)
    monkeypatch.setattr(search, "_ROWS_AT_ONCE", 400)
    seconds = search.build(tmp_path, Space("tiny@0123abcd", "tiny", 16), 1_000, reference)
    assert len(seconds) == 2  # of writing, of the index
    assert min(seconds) > 0
    store = Store.open(tmp_path)
    assert (len(store), store.num_windows()) == (1_000, 1_000)
    assert ("ANN" in store.explain(np.ones(16))) == (least == 500)
    points = points_of(store.tracks(columns=["point"]))
    assert np.linalg.norm(points, axis=1) == pytest.approx(np.ones(1_000), abs=1e-3)
    assert search.recall(store, points[:5]) > (0.5 if least == 500 else 0.999)


def test_times_are_medians_of_calls_after_a_first_one():
    calls = []
    found = search.milliseconds(calls.append, [1, 2, 3])
    assert calls == [1, 1, 2, 3]
    assert re.fullmatch(r"\d+ \(\d+; \d+\)", found)  # median, 95th percentile, CPU time
