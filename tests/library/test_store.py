"""The tables of a library: cosines, typed filters, kills between two commits, errors."""

import os
import shutil
from datetime import timedelta

import lancedb
import numpy as np
import pyarrow as pa
import pytest
from lancedb.expr import col, lit

from mulap.library import store as store_module
from mulap.library.about import About, Space
from mulap.library.store import Store, points_of, track_schema, window_schema, with_points
from mulap.library.tags import TAGS_VERSION, own_columns

SIZE = 8
SPACE = Space("tiny@0123abcd", "tiny", SIZE)


def unit(seed, count=1):
    points = np.random.default_rng(seed).normal(size=(count, SIZE)).astype(np.float32)
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def rows(keys, num_windows=2, space=SPACE, **changes):
    """Tracks of some names, and their windows, as tables."""
    keys = list(keys)
    columns = {
        "key": keys,
        "files": [[f"/music/{key}.mp3"] for key in keys],
        "file": [f"/music/{key}.mp3" for key in keys],
        "version": ["1-1"] * len(keys),
        "title": [f"Title {key}" for key in keys],
        "artist": ["Artist"] * len(keys),
        "album": [""] * len(keys),
        "genre": ["jazz"] * len(keys),
        "year": [0] * len(keys),
        "seconds": [9.0 * num_windows] * len(keys),
        "num_windows": [num_windows] * len(keys),
        "added": [1] * len(keys),
        "tags_version": [TAGS_VERSION] * len(keys),
    }
    own = own_columns(changes)
    points = np.concatenate([unit(sum(key.encode())) for key in keys])
    schema = pa.schema([*track_schema(space.size), *own])
    tracks = with_points(schema, columns | changes, points)
    of_windows = {
        "key": [key for key in keys for _ in range(num_windows)],
        "start": [9.0 * place for _ in keys for place in range(num_windows)],
        "end": [9.0 * (place + 1) for _ in keys for place in range(num_windows)],
    }
    windows = with_points(window_schema(space.size), of_windows, unit(7, len(keys) * num_windows))
    return tracks, windows


@pytest.fixture
def store(tmp_path):
    About(SPACE).write(tmp_path)
    return Store.write(tmp_path, SPACE)


def keys_of(store):
    return sorted(store.tracks().column("key").to_pylist())


def test_the_nearest_tracks_come_with_their_cosines_nearest_first(store):
    names = [f"t{number}" for number in range(200)]
    store.add(*rows(names))
    point = unit(5)[0] * 3  # of any length
    found = store.nearest(point, 5)
    points = np.concatenate([unit(sum(name.encode())) for name in names]).astype(np.float16)
    points = points.astype(np.float32)
    cosines = points @ point / np.linalg.norm(points, axis=1) / np.linalg.norm(point)
    assert found.column("cosine").to_numpy() == pytest.approx(np.sort(cosines)[::-1][:5], abs=1e-6)
    assert points_of(found).shape == (5, SIZE)


def test_the_plan_of_a_search_names_the_cosine_and_uses_an_index_that_is_there(store, monkeypatch):
    monkeypatch.setattr(store_module, "LEAST_ROWS_OF_INDEX", 500)
    store.add(*rows([f"t{number}" for number in range(600)], 1))
    assert "KNNVectorDistance: metric=cosine" in store.explain(unit(1)[0])
    assert store.unindexed() == 600
    store.optimize()
    plan = store.explain(unit(1)[0])
    assert "ANN" in plan
    assert "metric=cosine" in plan.lower()
    assert "ANN" not in store.explain(unit(1)[0], is_exact=True)
    assert store.unindexed() == 0
    store.add(*rows(["new"], 1))
    assert store.unindexed() == 1
    near, exact = (store.nearest(unit(1)[0], 10, is_exact=each) for each in (False, True))
    assert near.column("cosine").to_numpy()[0] == exact.column("cosine").to_numpy()[0]
    found = store.nearest(unit(sum(b"new"))[0], 1)  # the tail without an index is searched, too
    assert found.column("cosine")[0].as_py() == pytest.approx(1, abs=1e-3)


def test_a_filter_is_a_typed_expression_and_applies_before_the_search(store):
    store.add(*rows(["a", "b", "c"], artist=["it's", "it's", "x' OR 1=1 --"]))
    found = store.nearest(unit(3)[0], 3, col("artist") == lit("it's"))
    assert sorted(found.column("key").to_pylist()) == ["a", "b"]
    evil = store.tracks(col("artist") == lit("x' OR 1=1 --"), ["key"])
    assert evil.column("key").to_pylist() == ["c"]


def test_a_filter_that_makes_no_sense_is_an_error_in_a_line(store):
    store.add(*rows(["a"]))
    with pytest.raises(ValueError, match="No field named nope"):
        store.tracks(col("nope") == lit("x"))
    with pytest.raises(ValueError, match="a value of another kind") as caught:
        store.tracks(col("year") == lit("abc"))
    assert ".rs" not in str(caught.value)


def test_windows_come_in_order_of_track_and_start(store):
    store.add(*rows(["b", "a", "c"], 3))
    found = store.windows_of(["b", "a", "nobody"])
    assert found.column("key").to_pylist() == ["a"] * 3 + ["b"] * 3
    assert found.column("start").to_pylist() == [0, 9, 18] * 2
    assert len(store.windows_of([])) == 0
    assert len(store.points(["a", "c"])) == 2


def test_an_update_replaces_rows_and_keeps_windows_and_a_deletion_removes_both(store):
    store.add(*rows(["a", "b"]))
    store.update(rows(["a", "unknown"], title=["Other", "Other"])[0])
    titles = {row["key"]: row["title"] for row in store.tracks().to_pylist()}
    assert titles == {"a": "Other", "b": "Title b"}
    store.delete(["a"])
    assert keys_of(store) == ["b"]
    assert set(store.windows_of(["a", "b"]).column("key").to_pylist()) == {"b"}
    assert store.num_windows() == 2


def test_a_kill_between_windows_and_tracks_leaves_nothing_once_it_is_opened_for_writing(store):
    store.add(*rows(["a", "b"]))
    store._windows.add(rows(["killed"])[1])
    assert keys_of(store) == ["a", "b"]
    again = Store.write(store.folder, SPACE)
    assert again.num_windows() == 4
    again._tracks.delete(col("key") == lit("a"))  # killed while it deleted
    again = Store.write(store.folder, SPACE)
    assert (keys_of(again), again.num_windows()) == (["b"], 2)


def test_a_track_that_is_there_twice_or_lacks_windows_is_removed_to_be_embedded_again(store):
    store.add(*rows(["a", "b", "c"]))
    store._tracks.add(rows(["b"])[0])  # as two writers would
    store._windows.delete((col("key") == lit("c")) & (col("start") == lit(9.0)))
    again = Store.write(store.folder, SPACE)
    assert (keys_of(again), again.num_windows()) == (["a"], 2)


@pytest.mark.filterwarnings("ignore:optimize")
def test_a_reader_sees_what_another_process_writes_also_after_a_compaction(store, monkeypatch):
    monkeypatch.setattr(store_module, "_LOOK_AGAIN", timedelta(0))
    store.add(*rows(["a"]))
    reader = Store.open(store.folder)
    assert len(reader) == 1
    store.add(*rows(["b"]))
    for table in (store._tracks, store._windows):
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    assert len(reader) == 2


@pytest.mark.filterwarnings("ignore:optimize")
def test_a_reader_whose_version_was_cleaned_up_looks_again(store, monkeypatch):
    monkeypatch.setattr(store_module, "_LOOK_AGAIN", timedelta(hours=1))
    store.add(*rows(["a"]))
    reader = Store.open(store.folder)
    assert len(reader) == 1
    store.add(*rows(["b"]))
    for table in (store._tracks, store._windows):
        table.optimize(cleanup_older_than=timedelta(0), delete_unverified=True)
    assert len(reader.nearest(unit(1)[0], 5)) == 2


def test_a_reader_of_a_space_that_was_replaced_says_so(store):
    store.add(*rows(["a"]))
    reader = Store.open(store.folder)
    other = Space("tiny@ffff0000", "tiny", SIZE)
    About(other).write(store.folder)
    Store.write(store.folder, other).drop_others([other])
    with pytest.raises(ValueError, match="tiny@ffff0000 now. Open it again"):
        reader.nearest(unit(1)[0], 5)


def test_two_spaces_live_side_by_side(store):
    other = Store.write(store.folder, Space("tiny@ffff0000", "tiny", SIZE))
    store.add(*rows(["a"]))
    other.add(*rows(["b"]))
    assert (keys_of(Store.open(store.folder)), keys_of(other)) == (["a"], ["b"])
    other.drop_others([SPACE])
    assert keys_of(store) == ["a"]


def test_a_point_of_another_size_or_without_direction_is_refused(store):
    for point in (np.ones(SIZE + 1, np.float32), np.zeros(SIZE, np.float32), unit(1)):
        with pytest.raises(ValueError, match="8 finite numbers"):
            store.nearest(point, 1)


def test_damaged_and_missing_tables_are_one_line_without_a_path_of_rust_s(store):
    store.add(*rows(["a"]))
    for path in (store.folder / "lance" / "tracks_0123abcd.lance" / "data").iterdir():
        os.truncate(path, 100)
    with pytest.raises(ValueError, match="run mulap index again") as caught:
        Store.open(store.folder).nearest(unit(1)[0], 1)
    assert ".rs" not in str(caught.value)
    shutil.rmtree(store.folder / "lance")
    with pytest.raises(ValueError, match="no tables for its model. Run mulap index again"):
        Store.open(store.folder)


def test_lancedb_s_error_of_a_full_disk_becomes_the_system_s():
    error = RuntimeError("lance error: LanceError(IO): No space left (os error 28), /x/y.rs:258:9")
    ours = store_module._in_our_words(error, "lib")
    assert (type(ours), ours.errno, ours.filename) == (OSError, 28, "lib")
    ours = ValueError("/home/lance/conflict: was not found")
    assert store_module._in_our_words(ours, "lib") is ours
    conflict = store_module._in_our_words(RuntimeError("lance error: Commit conflict"), "lib")
    assert "another program changed it" in str(conflict)


def test_many_small_commits_are_merged(store):
    for number in range(12):
        store.add(*rows([f"t{number}"]))
    store.optimize()
    assert len(store) == 12
    fragments = lancedb.connect(store.folder / "lance").open_table("tracks_0123abcd").stats()
    assert fragments["fragment_stats"]["num_fragments"] == 1


def test_points_are_float16_of_a_fixed_size(store):
    store.add(*rows(["a"]))
    assert store.points(["a"]).schema.field("point").type == pa.list_(pa.float16(), SIZE)


def test_tags_get_columns_when_they_come_up_and_rows_of_before_are_null_in_them(store):
    store.add(*rows(["a"]))
    assert store.own_tags() == {}
    store.add(*rows(["b"], text_mood=["calm"]))
    store.add(*rows(["c"], text_bpm=["128"], number_bpm=[128.0]))
    assert store.own_tags() == {"bpm": True, "mood": False}
    found = store.tracks(columns=["key", "text_mood", "number_bpm"]).sort_by("key").to_pylist()
    assert [(each["text_mood"], each["number_bpm"]) for each in found] == [
        (None, None),
        ("calm", None),
        (None, 128.0),
    ]
    assert "text_mood" not in store.nearest(unit(1)[0], 3).column_names


def test_more_tags_than_there_is_room_for_are_left_out_and_named(store, monkeypatch):
    monkeypatch.setattr(store_module, "MOST_TAG_COLUMNS", 2)
    store.add(*rows(["a"], text_x=["1"], text_y=["1"], text_z=["1"]))
    assert store.own_tags() == {"x": False, "y": False}
    assert store.left_out_tags == {"text_z"}
