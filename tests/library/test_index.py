"""Indexing: what is told apart, what is embedded again, kills, upgrades, lost disks."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import lancedb
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule
from library.listening import (
    TinyListener,
    contents,
    index,
    load,
    settle,
    write_sound,
)

from mulap.library import embed as embed_module
from mulap.library import index as index_module
from mulap.library.about import read_about, read_announced
from mulap.library.index import index_music
from mulap.library.store import Store, points_of


@pytest.fixture
def music(tmp_path):
    """Six songs in two folders, and no library yet."""
    for seed in range(6):
        write_sound(
            tmp_path / "music" / f"cd{seed % 2}" / f"{seed}.flac", seed, title=f"Song {seed}"
        )
    return tmp_path / "music"


@pytest.fixture
def library(tmp_path):
    return tmp_path / "library"


def never(model):
    raise AssertionError("the model was loaded")


def titles(library):
    return sorted(Store.open(library).tracks().column("title").to_pylist())


def test_a_new_library_has_a_row_a_track_with_its_tags(music, library):
    report = index(music, library)
    assert report.counts == {"new": 6, "changed": 0, "moved": 0, "gone": 0, "unreadable": 0}
    assert (report.num_tracks, report.num_embedded, report.failures) == (6, 6, [])
    assert titles(library) == [f"Song {seed}" for seed in range(6)]
    (row,) = [row for row in Store.open(library).tracks().to_pylist() if row["title"] == "Song 3"]
    assert row["files"] == [row["file"]] == [str(music / "cd1" / "3.flac")]
    assert row["seconds"] == pytest.approx(0.5)


def test_points_are_of_the_mean_of_segments_and_windows_of_three(music, library):
    path = write_sound(music / "long.flac", 50, seconds=12.5)
    index(music, library)
    features = TinyListener().backbone.embed(path).embeddings  # 4 segments; the rest is dropped
    (key,) = (
        row["key"] for row in Store.open(library).tracks().to_pylist() if row["file"] == str(path)
    )

    def unit(mean):
        return mean / np.linalg.norm(mean)

    points = points_of(Store.open(library).points([key]))
    assert points[0] == pytest.approx(unit(features.mean(0)), abs=1e-3)
    windows = Store.open(library).windows_of([key])
    assert windows.column("start").to_pylist() == [0, 9]
    assert windows.column("end").to_pylist() == [9, 12]
    assert points_of(windows)[0] == pytest.approx(unit(features[:3].mean(0)), abs=1e-3)
    assert points_of(windows)[1] == pytest.approx(unit(features[3]), abs=1e-3)


def test_nothing_to_do_loads_no_model_and_changes_no_file(music, library):
    index(music, library)
    before = {path: path.stat().st_mtime_ns for path in library.rglob("*") if path.is_file()}
    report = index_music([], library, never)
    assert (report.is_changed, report.num_tracks) == (False, 6)
    assert {p: p.stat().st_mtime_ns for p in library.rglob("*") if p.is_file()} == before


def test_a_run_that_finds_nothing_needs_no_torch(music, library):
    index(music, library)
    code = f"""if True:
        import sys
        from mulap.library.index import index_music
        assert not index_music([], {str(library)!r}, None).is_changed
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_new_changed_moved_and_gone_files_are_told_apart_and_each_audio_embedded_once(
    music, library
):
    index(music, library)
    write_sound(music / "new.flac", 10)
    write_sound(music / "cd0" / "0.flac", 11, title="Another recording")  # changed
    write_sound(music / "cd0" / "2.flac", 2, title="Another title")  # changed, same audio
    (music / "cd2").mkdir()
    (music / "cd1" / "1.flac").rename(music / "cd2" / "one.flac")  # moved
    (music / "cd1" / "3.flac").unlink()  # gone
    shutil.copy2(music / "cd0" / "4.flac", music / "copy.flac")  # new, but known audio
    report = index(music, library)
    assert report.counts == {"new": 2, "changed": 2, "moved": 1, "gone": 1, "unreadable": 0}
    assert report.num_embedded == 2
    assert titles(library) == sorted(
        ["new", "Another recording", "Song 1", "Another title", "Song 4", "Song 5"]
    )
    rows = {row["title"]: row["files"] for row in Store.open(library).tracks().to_pylist()}
    assert rows["Song 1"] == [str(music / "cd2" / "one.flac")]
    assert rows["Song 4"] == [str(music / "cd0" / "4.flac"), str(music / "copy.flac")]


def test_the_tags_of_a_track_are_those_of_its_first_file(music, library):
    write_sound(music / "z.flac", 0, title="A copy with another title")
    index(music, library)
    assert "Song 0" in titles(library)
    (music / "cd0" / "0.flac").unlink()
    index(music, library)
    assert "A copy with another title" in titles(library)
    write_sound(music / "a.flac", 0, title="First")
    index(music, library)
    assert "First" in titles(library)
    assert len(titles(library)) == 6


def test_a_copy_of_the_same_time_gives_its_name_once_it_is_the_first(music, library):
    song = write_sound(music / "a song.flac", 60)
    shutil.copy2(song, music / "another name.flac")
    index(music, library)
    assert "a song" in titles(library)
    song.unlink()
    index(music, library)
    assert "another name" in titles(library)


def comments(library):
    return sorted(row.get("text_comment") or "" for row in Store.open(library).tracks().to_pylist())


def test_own_tags_follow_the_files_and_nothing_is_embedded_for_them(music, library):
    write_sound(music / "cd0" / "0.flac", 0, comment="calm")
    write_sound(music / "z.flac", 0)  # a copy that says nothing
    index(music, library)
    assert comments(library) == [*[""] * 5, "calm"]
    write_sound(music / "cd1" / "1.flac", 1, comment="loud")
    (music / "cd0" / "0.flac").unlink()
    assert index(music, library).num_embedded == 0
    assert comments(library) == [*[""] * 5, "loud"]


def drop_columns(library, *names):
    """Make a library as earlier versions did, which had no such columns."""
    name = Store.open(library)._tracks.name
    lancedb.connect(library / "lance").open_table(name).drop_columns(list(names))


def test_a_library_of_before_gets_its_files_tags_in_one_run_and_embeds_nothing(music, library):
    write_sound(music / "cd0" / "0.flac", 0, comment="calm")
    index(music, library)
    fresh = contents(library)
    drop_columns(library, "tags_version", "text_comment")
    store = Store.open(library)
    assert store.own_tags() is None
    assert len(store.nearest(np.ones(store.space.size), 3)) == 3  # it answers as it is
    report = index_music([], library, never)
    assert (report.is_changed, report.num_embedded) == (True, 0)
    assert contents(library) == fresh
    assert not index_music([], library, never).is_changed


def test_the_tags_of_files_that_are_not_looked_at_stay_as_they_are(music, library, tmp_path):
    write_sound(tmp_path / "other" / "x.flac", 50, title="X")
    index(music, library)
    index(tmp_path / "other", library)
    drop_columns(library, "tags_version")
    shutil.rmtree(music)
    index(tmp_path / "other", library)
    assert titles(library) == [*(f"Song {seed}" for seed in range(6)), "X"]


def test_failures_are_remembered_until_the_file_changes(music, library):
    broken = settle_text(music / "broken.mp3", "no audio at all")
    report = index(music, library)
    assert [file for file, _ in report.failures] == [str(broken)]
    report = index_music([], library, never)
    assert (report.failures, report.num_left_out) == ([], 1)
    assert report.counts["unreadable"] == 1
    write_sound(broken, 20)
    report = index(music, library)
    assert (report.counts["changed"], report.num_left_out, report.num_tracks) == (1, 0, 7)


def settle_text(path, text):
    path.write_text(text)
    return settle(path)


def test_a_failure_is_tried_again_by_another_version_of_what_decodes(music, library, monkeypatch):
    broken = settle_text(music / "broken.mp3", "no audio at all")
    index(music, library)
    for module in ("scan", "index"):
        monkeypatch.setattr(f"mulap.library.{module}.decoder_version", lambda: "av 99")
    assert [file for file, _ in index_music([], library, load).failures] == [str(broken)]
    report = index_music([], library, never)
    assert (report.failures, report.num_left_out, report.is_changed) == ([], 1, False)


def test_a_file_that_could_not_be_opened_is_tried_again_each_time(music, library):
    path = music / "pipe.mp3"
    os.mkfifo(path)
    settle(path)
    for _ in range(2):
        report = index(music, library)
        assert [file for file, _ in report.failures] == [str(path)]
    path.unlink()
    assert index(music, library).num_left_out == 0


def test_a_file_that_was_written_just_now_is_hashed_again_and_not_embedded(music, library):
    path = write_sound(music / "young.wav", 30)
    os.utime(path)
    assert index(music, library).num_embedded == 7
    report = index(music, library)
    assert (report.counts["new"], report.counts["changed"], report.num_embedded) == (0, 0, 0)
    status = path.stat()
    write_sound(path, 31)  # of one size and time, as two writes within a tick
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert index(music, library).num_embedded == 1


def test_a_disk_that_is_not_there_removes_nothing_without_prune(music, library):
    index(music, library)
    before = contents(library)
    away = music.with_name("away")
    music.rename(away)
    line = (
        r"music: 6 of 6 indexed files are gone. Is the disk there\? Nothing was removed \(--prune"
    )
    with pytest.raises(ValueError, match=line):
        index_music([], library, never)
    music.mkdir()  # the empty folder that a disk is mounted on
    with pytest.raises(ValueError, match=line):
        index_music([music], library, never)
    assert contents(library) == before
    music.rmdir()
    away.rename(music)
    assert not index_music([], library, never).is_changed
    shutil.rmtree(music)
    report = index_music([], library, never, prune=True)
    assert (report.counts["gone"], report.num_tracks) == (6, 0)
    with pytest.raises(ValueError, match="no music was named"):
        index_music([], library, never)


def test_most_files_of_a_folder_may_move_within_it(tmp_path, library):
    for seed in range(12):
        write_sound(tmp_path / "music" / f"{seed}.flac", seed)
    index(tmp_path / "music", library)
    (tmp_path / "music" / "sorted").mkdir()
    for path in (tmp_path / "music").glob("*.flac"):
        path.rename(path.parent / "sorted" / path.name)
    report = index(tmp_path / "music", library)
    assert (report.counts["moved"], report.counts["gone"], report.num_embedded) == (12, 0, 0)
    for seed in range(11):
        (tmp_path / "music" / "sorted" / f"{seed}.flac").unlink()
    with pytest.raises(ValueError, match="11 of 12 indexed files are gone"):
        index(tmp_path / "music", library)


def test_another_folder_s_tracks_stay_where_one_is_indexed_alone(music, library, tmp_path):
    other = write_sound(tmp_path / "other" / "x.flac", 40).parent
    index(music, library)
    index(other, library)
    assert read_about(library).roots == (str(music), str(other))
    (music / "cd0" / "0.flac").unlink()
    assert index(other, library).counts["gone"] == 0
    assert index_music([], library, never).counts["gone"] == 1
    assert len(Store.open(library)) == 6


def test_a_folder_that_cannot_be_listed_keeps_its_tracks(music, library, monkeypatch):
    index(music, library)
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("cd1"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    report = index(music, library)
    assert [file for file, _ in report.failures] == [str(music / "cd1")]
    assert (report.counts["gone"], report.num_tracks) == (0, 6)


def test_another_model_is_never_mixed_in(music, library):
    index(music, library)
    write_sound(music / "new.flac", 10)
    before = contents(library)
    with pytest.raises(ValueError, match=r"made by tiny@00000000.*--upgrade"):
        index(music, library, model="tiny-3")
    with pytest.raises(ValueError, match=r"tiny is other@00000007 now. Run mulap index --upgrade"):
        index_music([], library, lambda _: TinyListener("other", 7))
    assert contents(library) == before


def test_an_upgrade_fills_a_second_space_while_the_first_answers_and_then_switches(
    music, library, monkeypatch
):
    index(music, library)
    before = contents(library)
    add = Store.add

    def stop(store, tracks, windows):
        add(store, tracks.slice(0, 3), windows.slice(0, 3))
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "add", stop)
    with pytest.raises(KeyboardInterrupt):
        index(music, library, model="tiny-3", upgrade=True)
    monkeypatch.setattr(Store, "add", add)
    assert contents(library) == before
    filling = read_about(library).filling
    assert filling.name == "tiny-3@00000003"
    assert len(Store(library, filling)) == 3
    report = index(music, library, model="tiny-3", upgrade=True)
    assert (report.num_embedded, report.num_tracks) == (3, 6)
    index(music, library.with_name("fresh"), model="tiny-3")
    assert contents(library) == contents(library.with_name("fresh"))
    assert {path.name for path in (library / "lance").glob("*.lance")} == {
        "tracks_00000003.lance",
        "windows_00000003.lance",
    }
    assert not index(music, library, model="tiny-3", upgrade=True).is_changed


def test_two_indexers_at_once_and_a_folder_of_something_else_are_refused(music, library, tmp_path):
    index(music, library)

    def load_while_another_runs(model):
        with pytest.raises(ValueError, match="another mulap index is writing"):
            index_music([], library, never)
        return load(model)

    write_sound(music / "new.flac", 10)
    assert index_music([], library, load_while_another_runs).num_embedded == 1
    with pytest.raises(ValueError, match="is not a library, and holds other files"):
        index(music, music)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no audio files found"):
        index(tmp_path / "empty", tmp_path / "new")
    assert not (tmp_path / "new").exists()


class Killed(BaseException):
    """In the place of a kill."""


class Fuse:
    """Ends the process, as it were, before or after the N-th write of a run."""

    def __init__(self) -> None:
        self.left = -1

    def __call__(self, write):
        """Wrap what writes."""

        def wrapped(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise Killed
            done = write(*args, **kwargs)
            self.left -= 1
            if self.left == 0:
                raise Killed
            return done

        return wrapped


class FusedTable:
    """A table of LanceDB whose writes pass a fuse."""

    def __init__(self, table, fuse) -> None:
        self._table = table
        for name in ("add", "add_columns", "delete", "optimize", "merge_insert"):
            setattr(self, name, fuse(getattr(table, name)))

    def __getattr__(self, name):
        return getattr(self._table, name)


class AnyHistory(RuleBasedStateMachine):
    """Files come, change, move and go, and runs are killed: the end is as a fresh build."""

    names = st.sampled_from([f"cd{cd}/{name}.flac" for cd in range(2) for name in "abc"])
    sounds = st.sampled_from(range(6))
    songs = st.sampled_from(["", "One", "Two"])

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="mulap-history-"))
        self.music, self.library = self.folder / "music", self.folder / "library"
        write_sound(self.music / "always.flac", 99)
        self.fuse, self.patch = Fuse(), pytest.MonkeyPatch()
        table = Store._table
        self.patch.setattr(Store, "_table", lambda *a: FusedTable(table(*a), self.fuse))
        self.patch.setattr(index_module.About, "write", self.fuse(index_module.About.write))
        self.patch.setattr(embed_module, "_WINDOWS_OF_COMMIT", 2)
        self.patch.setattr(index_module, "_TRACKS_AT_ONCE", 1)

    def path(self, name):
        return self.music / name

    @rule(name=names, sound=sounds, title=songs, comment=songs)
    def write(self, name, sound, title, comment):
        """Add a file, change its audio, or its tags alone."""
        write_sound(self.path(name), sound, title=title, comment=comment)

    @rule(name=names)
    def damage(self, name):
        self.path(name).parent.mkdir(parents=True, exist_ok=True)
        settle_text(self.path(name), "no audio at all")

    @rule(name=names, other=names, is_copy=st.booleans())
    def move(self, name, other, is_copy):
        if self.path(name).exists() and name != other:
            self.path(other).parent.mkdir(parents=True, exist_ok=True)
            (shutil.copy2 if is_copy else shutil.move)(self.path(name), self.path(other))

    @rule(name=names)
    def delete(self, name):
        self.path(name).unlink(missing_ok=True)

    @rule(
        name=names,
        sound=sounds,
        kill_at=st.sampled_from(range(1, 15)),
        model=st.sampled_from(["tiny", "tiny", "tiny-3"]),
    )
    def change_and_kill(self, name, sound, kill_at, model):
        """Kill a run that has something to do, for otherwise most would have nothing."""
        write_sound(self.path(name), sound)
        self.fuse.left = kill_at
        try:
            index(self.music, self.library, model=model, prune=True, upgrade=True)
        except Killed:
            pass
        self.fuse.left = -1

    @rule(model=st.sampled_from(["tiny", "tiny-3"]))
    def finish(self, model):
        index(self.music, self.library, model=model, prune=True, upgrade=True)
        fresh = self.folder / "fresh"
        shutil.rmtree(fresh, ignore_errors=True)  # of a failure before
        index(self.music, fresh, model=model)
        assert contents(self.library) == contents(fresh)
        assert not index_music([], self.library, never).is_changed

    def teardown(self):
        self.finish("tiny")
        self.patch.undo()
        shutil.rmtree(self.folder)


AnyHistory.TestCase.settings = settings(
    max_examples=15,
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    phases=[Phase.generate],  # shrinking takes many minutes
)
TestAnyHistory = pytest.mark.slow(AnyHistory.TestCase)


def test_an_index_that_runs_says_how_many_tracks_there_will_be(tmp_path, monkeypatch):
    music, library = tmp_path / "music", tmp_path / "lib"
    write_sound(music / "0.wav", 0)
    index(music, library)
    for seed in (1, 2):
        write_sound(music / f"{seed}.wav", seed)
    seen = []
    features = TinyListener.project

    def project(self, vectors):
        seen.append(read_announced(library))
        return features(self, vectors)

    monkeypatch.setattr(TinyListener, "project", project)
    index(music, library)
    assert set(seen) == {3}
    assert read_announced(library) is None
