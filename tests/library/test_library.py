"""A library in Python: words and files in, hits out; what is refused; what others do meanwhile."""

import os
import shutil

import numpy as np
import pytest
from library.asked import make_library, write_song
from library.listening import index, load
from tiny import write_joint_model, write_reference

import mulap
from mulap.audio import AudioError
from mulap.encoders.engine import load_engine
from mulap.library import library as library_module
from mulap.library.about import About
from mulap.library.index import index_music
from mulap.library.store import Store, points_of

QUERY = "a calm piano song"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_library(tmp_path_factory.mktemp("asked"))


@pytest.fixture(scope="module")
def library(folder):
    return mulap.Library(folder / "lib", device="cpu")


def song(folder, number):
    return str(folder / "music" / f"{number}.flac")


def test_words_find_the_tracks_of_the_highest_cosines_and_the_seconds_to_hear(library, folder):
    hits = library.search(QUERY, per_artist=None, merges=False)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
    engine = load_engine(folder / "model", "cpu")
    point = engine.embed_text([QUERY])[0]
    table = Store.open(folder / "lib").nearest(point, 6)
    assert [hit.file for hit in hits] == table.column("file").to_pylist()
    assert [hit.score for hit in hits] == pytest.approx(
        table.column("cosine").to_pylist(), abs=1e-5
    )
    windows = library.store.windows_of([table.column("key")[0].as_py()])
    best = int((points_of(windows) @ point).argmax())
    assert hits[0].start == windows.column("start")[best].as_py()
    assert {hit.match for hit in hits} <= {"strong", "fair", "weak"}
    assert all(0 <= hit.percentile <= 100 and len(hit.why) <= 3 for hit in hits)
    assert len(library) == hits.num_tracks == 6


def test_hits_become_a_table_and_lines_of_json(library):
    hits = library.search(QUERY, top=2)
    table = hits.to_pandas()
    assert list(table["title"]) == [hit.title for hit in hits]
    line = hits[0].to_json()
    assert line["artist"].startswith("Artist")
    assert line["space"] == library.info()["space"]
    assert "rerank" not in line
    assert repr(hits).count("\n") == 1
    assert list(library.search(QUERY, where=["title=nothing"]).to_pandas().columns) == list(table)


def test_music_like_a_track_is_not_the_track_nor_a_copy_of_it(library, folder, tmp_path):
    hits = library.similar(song(folder, 3), per_artist=None, merges=False)
    assert len(hits) == 5
    assert song(folder, 3) not in [hit.file for hit in hits]
    copy = tmp_path / "copy.flac"
    shutil.copy(song(folder, 3), copy)
    assert library.similar(copy, per_artist=None, merges=False).hits == hits.hits


def test_music_like_a_file_that_the_library_lacks_is_like_its_points(library, folder, tmp_path):
    other = write_song(tmp_path / "other.flac", 50)
    hits = library.similar(other, per_artist=None, merges=False)
    features = library.engine.backbone.embed(other).embeddings
    point = library.engine.project(features.mean(0, keepdims=True))[0]
    expected = library.store.nearest(point, 6).column("file").to_pylist()
    assert [hit.file for hit in hits] == expected
    part = library.similar(other, at=15.5, per_artist=None, merges=False)
    point = library.engine.project(features[5:8].mean(0, keepdims=True))[0]
    assert [hit.file for hit in part] == library.store.nearest(point, 6).column("file").to_pylist()


def test_the_seconds_of_a_track_that_is_in_the_library_are_its_window(library, folder):
    hits = library.similar(song(folder, 0), at=20, per_artist=None, merges=False)
    (key,) = (row["key"] for row in library.store.tracks().to_pylist() if row["title"] == "Song 0")
    window = points_of(library.store.windows_of([key]))[2]
    expected = library.store.nearest(window, 6).column("file").to_pylist()
    assert [hit.file for hit in hits] == [each for each in expected if each != song(folder, 0)]
    with pytest.raises(ValueError, match="has no second 99, it ends at 33"):
        library.similar(song(folder, 0), at=99)


def test_playlists_are_examples_and_exclusions(library, folder, tmp_path):
    (tmp_path / "played.m3u8").write_text(f"{song(folder, 0)}\n{song(folder, 1)}\n")
    hits = library.search(QUERY, excluded=[tmp_path / "played.m3u8"], per_artist=None, merges=False)
    assert sorted(hit.file for hit in hits) == [song(folder, number) for number in (2, 3, 4, 5)]
    both = library.search(like=[tmp_path / "played.m3u8"], per_artist=None, merges=False)
    each = library.search(like=[song(folder, 0), song(folder, 1)], per_artist=None, merges=False)
    assert both.hits == each.hits
    (tmp_path / "empty.m3u8").touch()
    with pytest.raises(ValueError, match="names no file"):
        library.search(like=[tmp_path / "empty.m3u8"])


def test_unwanted_words_and_negations_are_one_and_an_unwanted_track_stays_away(library, folder):
    said = library.search(f"{QUERY}, no drums", per_artist=None)
    assert said.notes[0] == f"Read as: {QUERY}; not: drums"
    assert said.hits == library.search(QUERY, unwanted=["drums"], per_artist=None).hits
    hits = library.search(QUERY, unlike=[song(folder, 2)], per_artist=None, merges=False)
    assert song(folder, 2) not in [hit.file for hit in hits]


def test_words_that_the_text_model_does_not_know_are_warned_of(library):
    (note,) = library.search("🎹 пианино").notes
    assert "hardly knows such words" in note


def test_few_tracks_of_an_artist_unless_the_artist_is_asked_for(library):
    assert len(library.search(QUERY, merges=False)) == 4  # two of two artists
    where = {"where": ["artist=Artist 1"], "merges": False}
    assert len(library.search(QUERY, **where)) == 3
    assert len(library.search(QUERY, **where, per_artist=1)) == 1


def test_short_tracks_are_left_out_unless_most_are_short(folder, tmp_path):
    shutil.copytree(folder / "lib", tmp_path / "lib")
    shutil.copytree(folder / "music", tmp_path / "music")
    write_song(tmp_path / "music" / "jingle.flac", 77, 4.0, title="Jingle")

    def update(library):
        index_music([tmp_path / "music"], library, lambda name: load_engine(name, "cpu"))
        return mulap.Library(library, device="cpu")

    library = update(tmp_path / "lib")
    hits = library.search(QUERY, per_artist=None, merges=False)
    assert (hits.num_left_out, "Jingle" in [hit.title for hit in hits]) == (1, False)
    for options in ({"any_length": True}, {"where": ["seconds<1:00"]}):
        hits = library.search(QUERY, per_artist=None, merges=False, **options)
        assert (hits.num_left_out, "Jingle" in [hit.title for hit in hits]) == (0, True)
    for seed in range(10):
        write_song(tmp_path / "music" / f"clip {seed}.flac", 80 + seed, 3.2)
    library = update(tmp_path / "lib")
    hits = library.search(QUERY, 20, per_artist=None, merges=False)
    assert (hits.num_left_out, "Jingle" in [hit.title for hit in hits]) == (0, True)


def test_a_path_begins_and_ends_with_its_ends_and_takes_no_track_twice(library, folder):
    hits = library.path(song(folder, 0), song(folder, 5), 5, per_artist=None, merges=False)
    files = [hit.file for hit in hits]
    assert (files[0], files[-1], len(set(files))) == (song(folder, 0), song(folder, 5), 5)
    assert len(library.path(song(folder, 0), song(folder, 1), 5)) == 2  # a track an artist
    with pytest.raises(ValueError, match="a path of 2 tracks: is too short"):
        library.path(song(folder, 0), song(folder, 1), 2)


def test_reranking_orders_the_hits_by_the_co_attention(library, folder):
    hits = library.search(QUERY, per_artist=None, merges=False, rerank=True)
    features = [library.engine.backbone.embed(hit.file).embeddings for hit in hits]
    expected = [float(library.engine.match(each, [QUERY])[0]) for each in features]
    assert [hit.rerank for hit in hits] == pytest.approx(expected, abs=1e-6)
    assert expected == sorted(expected, reverse=True)
    assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6]
    with pytest.raises(ValueError, match="--rerank: needs words"):
        library.search(like=[song(folder, 0)], rerank=True)


def test_a_file_that_is_gone_is_still_found_and_reranking_says_so(folder, tmp_path):
    shutil.copytree(folder / "music", tmp_path / "music")
    index_music(
        [tmp_path / "music"],
        tmp_path / "lib",
        lambda name: load_engine(name, "cpu"),
        folder / "model",
    )
    library = mulap.Library(tmp_path / "lib", device="cpu")
    os.remove(song(tmp_path, 4))
    found = library.search(QUERY, per_artist=None, merges=False)
    assert song(tmp_path, 4) in [hit.file for hit in found]
    assert len(library.similar(song(tmp_path, 4), per_artist=None, merges=False)) == 5  # by its row
    hits = library.search(QUERY, per_artist=None, merges=False, rerank=True)
    assert (hits[-1].file, hits[-1].rerank) == (song(tmp_path, 4), None)
    assert hits.notes[0].startswith("not listened to again: ")
    with pytest.raises(AudioError, match="cannot be read"):
        library.similar(tmp_path / "nothing.flac")


def test_an_empty_library_and_another_model_are_refused(folder, tmp_path, monkeypatch):
    about = library_module.Store.open(folder / "lib").space
    (tmp_path / "lib").mkdir()
    About(about).write(tmp_path / "lib")
    Store.write(tmp_path / "lib", about)
    with pytest.raises(ValueError, match=r"has no tracks yet\. Run mulap index MUSIC"):
        mulap.Library(tmp_path / "lib").search(QUERY)
    write_reference(write_joint_model(tmp_path / "model", seed=1))
    shutil.copytree(folder / "lib", tmp_path / "other")
    text = (tmp_path / "other" / "library.json").read_text()
    text = text.replace(str(folder / "model"), str(tmp_path / "model"))
    (tmp_path / "other" / "library.json").write_text(text)
    with pytest.raises(ValueError, match=r"was made by .*Run mulap index --upgrade"):
        mulap.Library(tmp_path / "other").search(QUERY)
    with pytest.raises(ValueError, match="is not a library"):
        mulap.Library(tmp_path / "nothing")


def test_another_process_may_add_and_compact_meanwhile(tmp_path, monkeypatch):
    monkeypatch.setattr("mulap.library.store._LOOK_AGAIN", None)
    for seed in range(3):
        write_song(tmp_path / "music" / f"{seed}.flac", seed, 4.0)
    index(tmp_path / "music", tmp_path / "lib")
    library = mulap.Library(tmp_path / "lib")
    point = np.ones(8, np.float32)
    assert len(library.store.nearest(point, 10)) == 3
    write_song(tmp_path / "music" / "new.flac", 9, 4.0)
    index_music([tmp_path / "music"], tmp_path / "lib", load)
    writer = Store.write(tmp_path / "lib", library.store.space)
    writer.optimize()
    assert len(library.store.nearest(point, 10)) in (3, 4)
    assert len(mulap.Library(tmp_path / "lib").store.nearest(point, 10)) == 4


def test_a_read_only_library_can_be_asked(folder, tmp_path, library):
    shutil.copytree(folder / "lib", tmp_path / "lib")
    for parent, _, names in os.walk(tmp_path / "lib"):
        os.chmod(parent, 0o555)
        for name in names:
            os.chmod(os.path.join(parent, name), 0o444)
    try:
        found = mulap.Library(tmp_path / "lib", device="cpu").search(QUERY)
        assert [hit.title for hit in found] == [hit.title for hit in library.search(QUERY)]
    finally:
        for parent, _, _ in os.walk(tmp_path / "lib"):
            os.chmod(parent, 0o755)


def test_moods_are_ranks_of_the_difference_of_two_words(library):
    rows = library.moods([("fast", "slow")])
    assert [row["file"] for row in rows] == sorted(row["file"] for row in rows)
    table = library.store.tracks(columns=["file", "point"])
    scores = library.engine.encoder.zero_shot(["fast", "slow"]).score(points_of(table))
    order = np.argsort(scores[:, 0] - scores[:, 1])
    expected = [table.column("file")[int(index)].as_py() for index in order]
    by_rank = sorted(rows, key=lambda row: row["fast"])
    assert [row["file"] for row in by_rank] == expected
    assert [row["fast"] for row in by_rank] == [0, 20, 40, 60, 80, 100]


def test_one_condition_and_one_file_need_no_list(library, folder):
    alone = library.search(QUERY, where="title~3", like=song(folder, 0), per_artist=None)
    assert alone.hits == library.search(QUERY, where=["title~3"], like=[song(folder, 0)]).hits
