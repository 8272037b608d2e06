"""No composer and no piece of music is trained on and tested; vectors are drawn here."""

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.corpora.described.tracks import HeardTrack, Track
from mulap.corpora.free_music.split import assign_groups, find_near_duplicates
from mulap.data.splits import SPLITS, find_leaking_groups


def track(number: int, group: str, split: str, vector: np.ndarray) -> HeardTrack:
    made = Track(Path(f"{number}.ogg"), f"t{number}", group, split, source=split)
    return HeardTrack(made, (), vector)


def draw(number: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, number]).standard_normal(64).astype(np.float32)


def test_equal_vectors_are_found_and_unlike_ones_are_not():
    vectors = np.array([draw(0), draw(1), draw(2), draw(1), draw(4)])
    ((first, second, cosine),) = find_near_duplicates(vectors)
    assert (first, second) == (1, 3)
    assert abs(cosine - 1) < 1e-5
    assert find_near_duplicates(vectors[:1]) == []


def test_a_version_of_a_held_out_track_is_left_out_of_training():
    tracks = [track(n, f"g{n}", "train", draw(n)) for n in range(6)]
    tracks += [track(6, "g6", "test", draw(3)), track(7, "g7", "test", draw(7))]
    used, left_out = assign_groups(tracks)
    assert [each.track.track_id for each in used] == ["t0", "t1", "t2", "t4", "t5", "t6", "t7"]
    ((name, reason),) = left_out
    assert name == "t3"
    assert reason == "is a version of t6, which is held out for test"


def test_a_composer_of_a_held_out_track_is_left_out_of_training():
    splits = ["train", "train", "valid", "test", "test"]
    groups = ["Ann", "Bob", "ann ", "Cy", "BOB"]
    tracks = [track(n, groups[n], splits[n], draw(n)) for n in range(5)]
    used, left_out = assign_groups(tracks)
    assert [each.track.track_id for each in used] == ["t2", "t3", "t4"]
    assert dict(left_out)["t0"] == "has the composer of t2, which is held out for valid"
    assert dict(left_out)["t1"] == "has the composer of t4, which is held out for test"


def test_versions_within_one_split_become_one_group():
    tracks = [track(n, f"g{n}", "train", draw(n)) for n in range(5)]
    tracks.append(track(5, "g5", "train", draw(2)))
    used, left_out = assign_groups(tracks)
    assert left_out == []
    groups = [each.track.group for each in used]
    assert groups == ["g0", "g1", "g2", "g3", "g4", "g2"]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(SPLITS), st.integers(0, 9)),
        min_size=1,
        max_size=25,
    )
)
def test_no_group_and_no_piece_is_in_two_splits(drawn):
    tracks = [
        track(number, f"g{group}", split, draw(vector, seed=1))
        for number, (group, split, vector) in enumerate(drawn)
    ]
    used, left_out = assign_groups(tracks)
    assert len(used) + len(left_out) == len(tracks)
    assert not find_leaking_groups((each.track.group, each.track.split) for each in used)
    splits_of: dict[bytes, set[str]] = {}
    for each in used:
        splits_of.setdefault(each.vector.tobytes(), set()).add(each.track.split)
    # Where all vectors are one, nothing is told apart: they are centred to zero.
    if len({each.vector.tobytes() for each in tracks}) > 1:
        assert all(len(splits) == 1 for splits in splits_of.values())
