"""Picking: filters, artists, albums, copies, what is not allowed, and the windows to listen to."""

import numpy as np
import pytest
from library.test_store import SIZE, SPACE, rows, unit

from mulap.library import search as search_module
from mulap.library.about import About
from mulap.library.search import (
    Picks,
    Rules,
    best_windows,
    between,
    clean_title,
    find,
    is_duplicate,
)
from mulap.library.store import Store, points_of
from mulap.library.where import parse_where

FREE = {"per_artist": None, "merges": False}


@pytest.fixture
def store(tmp_path):
    About(SPACE).write(tmp_path)
    return Store.write(tmp_path, SPACE)


def pick(store, count=5, where=None, allows=None, seed=5, **rules):
    picks = Picks(Rules(**rules))
    find(store, unit(seed)[0], picks, count, where, allows)
    return [row["key"] for row in picks.rows]


def names(number):
    return [f"t{index}" for index in range(number)]


def test_the_nearest_come_first_and_no_more_than_there_are(store):
    store.add(*rows(names(30), 1))
    nearest = store.nearest(unit(5)[0], 30).column("key").to_pylist()
    assert pick(store, 5, **FREE) == nearest[:5]
    assert pick(store, 100, **FREE) == nearest
    where = parse_where(["title=Title t3|Title t4"]).expression
    assert sorted(pick(store, 5, where, **FREE)) == ["t3", "t4"]


def test_more_of_the_nearest_are_asked_for_until_enough_may_be_picked(store, monkeypatch):
    monkeypatch.setattr(search_module, "_CANDIDATES", 4)
    monkeypatch.setattr(search_module, "_CANDIDATES_OF_A_HIT", 1)
    store.add(*rows(names(40), 1))
    nearest = store.nearest(unit(5)[0], 40)
    keys = np.array(nearest.column("key").to_pylist())
    most = np.sort(points_of(nearest) @ unit(5)[0])[10] + 1e-6

    def allows(points):
        return points @ unit(5)[0] <= most

    expected = keys[allows(points_of(nearest))]
    assert len(expected) < 20  # more than four had to be asked for
    assert pick(store, 3, allows=allows, **FREE) == expected[:3].tolist()


def test_an_artist_and_an_album_come_up_as_often_as_allowed(store):
    artists = ["a", "A", "b", "", "", ""] * 5
    albums = [f"album {index % 3}" for index in range(30)]
    store.add(*rows(names(30), 1, artist=artists, album=albums))
    by_key = {row["key"]: row for row in store.tracks().to_pylist()}

    def artists_of(keys):
        return sorted(by_key[key]["artist"].lower() for key in keys)

    # Nobody is one artist: tracks without one are not limited.
    assert (
        artists_of(pick(store, 30, per_artist=2, merges=False)) == [""] * 15 + ["a"] * 2 + ["b"] * 2
    )
    assert len(pick(store, 30, **FREE)) == 30
    found = pick(store, 30, per_artist=None, merges=False, is_one_an_album=True)
    albums_of = [(by_key[key]["artist"].lower(), by_key[key]["album"]) for key in found]
    assert len(albums_of) == len(set(albums_of)) == 6


def test_excluded_files_do_not_come_up_under_any_of_their_names(store):
    files = [[f"/music/t{index}.mp3", f"/copies/t{index}.mp3"] for index in range(5)]
    store.add(*rows(names(5), 1, files=files))
    found = pick(store, 5, excluded=frozenset({"/copies/t2.mp3", "/music/t4.mp3"}), **FREE)
    assert sorted(found) == ["t0", "t1", "t3"]


def test_a_seed_varies_the_list_and_the_same_seed_repeats_it(store):
    store.add(*rows(names(100), 1))
    plain, first, second = (pick(store, 5, vary=seed, **FREE) for seed in (None, 1, 2))
    assert pick(store, 5, vary=1, **FREE) == first
    assert len({tuple(plain), tuple(first), tuple(second)}) == 3
    nearest = store.nearest(unit(5)[0], 40).column("key").to_pylist()
    assert set(first) | set(second) <= set(nearest)


def row(title="", artist="", seconds=100.0, point=(1, 0)):
    point = np.array(point, np.float32)
    point /= np.linalg.norm(point)
    return {"key": title, "title": title, "artist": artist, "seconds": seconds, "point": point}


def test_copies_and_versions_are_duplicates_and_other_songs_are_not():
    near, far = (1, 0.2), (0.4, 1)
    assert is_duplicate(row(), row(seconds=101, point=near))  # another encoding
    assert not is_duplicate(row(), row(seconds=110, point=near))
    assert not is_duplicate(row(), row(point=(1, 0.5)))
    song, live = row("Ambre", "Nils", 100), row("Ambre (Live)", "nils", 180, (1, 0.5))
    assert is_duplicate(song, live)
    assert not is_duplicate(song, live | {"artist": "Other"})
    assert not is_duplicate(song, live | {"title": "Azure (Live)"})
    assert not is_duplicate(song, row("Ambre", "Nils", 180, far))
    assert not is_duplicate(row("Track 1"), row("Track 1", "", 180, (1, 0.5)))  # artist unknown


@pytest.mark.parametrize(
    ("title", "cleaned"),
    [
        ("Ambre", "ambre"),
        ("Ambre (Live at Home) [2011 Remaster]", "ambre"),
        ("Ambre - Remastered 2011", "ambre"),
        ("Ambre – Radio Edit", "ambre"),
        ("Avril 14th", "avril 14th"),
        ("Part 1 - The Sea", "part 1 the sea"),
        ("(Live)", "(live)"),
        ("Ａｍｂｒｅ", "ambre"),
        ("日本 (Demo)", "日本"),
    ],
)
def test_titles_lose_what_tells_versions_apart(title, cleaned):
    assert clean_title(title) == cleaned


def test_where_to_listen_is_the_nearest_window_and_the_whole_of_a_track_without_any(store):
    tracks, windows = rows(["a", "b"], 4)
    store.add(tracks, windows)
    found = store.nearest(unit(5)[0], 2).to_pylist()
    best = best_windows(store, [*found, found[0] | {"key": "gone"}], unit(3)[0])
    for track, window in zip(found, best, strict=False):
        of_track = store.windows_of([track["key"]])
        cosines = (
            np.array([each["point"] for each in of_track.to_pylist()], np.float32) @ unit(3)[0]
        )
        assert window.start == 9 * cosines.argmax()
        assert window.end == window.start + 9
    assert (best[2].start, best[2].end) == (0, found[0]["seconds"])


def test_points_on_the_way_have_equal_steps_and_unit_length():
    first, last = unit(1)[0], unit(2)[0]
    way = between(first, last, 5)
    assert way[[0, -1]] == pytest.approx(np.stack([first, last]), abs=1e-6)
    assert np.linalg.norm(way, axis=1) == pytest.approx(np.ones(5), abs=1e-6)
    steps = (way[1:] * way[:-1]).sum(1)
    assert steps == pytest.approx(np.full(4, steps[0]), abs=1e-6)
    assert between(first, first, 3) == pytest.approx(np.stack([first] * 3))
    assert between(first, last, 3).shape == (3, SIZE)
