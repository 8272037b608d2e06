"""`mulap index` and `mulap info`: what they print, exit codes, and what they refuse."""

import json
import re
import sys

import pytest
from command_line import call, check_one_line
from library.listening import settle, write_sound
from tiny import write_joint_model, write_reference

from mulap.library.about import default_library


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = write_joint_model(tmp_path_factory.mktemp("model"))
    write_reference(folder)
    return folder


@pytest.fixture
def music(tmp_path):
    for seed in range(3):
        write_sound(tmp_path / "music" / f"{seed}.flac", seed, seconds=4, title=f"Song {seed}")
    return tmp_path / "music"


@pytest.fixture(autouse=True)
def library(tmp_path, monkeypatch):
    monkeypatch.setenv("MULAP_LIBRARY", str(tmp_path / "lib"))
    return tmp_path / "lib"


def test_index_says_what_changed_and_how_many_tracks_can_be_searched(music, model, library):
    done = call("index", music, "--model", model)
    assert done.exit_code == 0
    assert re.fullmatch(r"3 files: 3 new\nDone in 0:\d\d. 3 tracks can be searched.\n", done.stderr)
    assert done.stdout == ""
    done = call("index")
    assert re.fullmatch(r"Nothing to do \(\d+\.\d s\).\n", done.stderr)
    (music / "0.flac").rename(music / "moved.flac")
    (music / "1.flac").unlink()
    (music / "notes.txt").touch()
    done = call("index", music)
    assert done.stderr.startswith("2 files: 1 moved, 1 gone\nDone in ")
    assert call("index", "--quiet").stderr == ""


def test_files_that_cannot_be_used_are_listed_and_not_tried_again(music, model):
    (music / "broken.mp3").write_text("no audio at all")
    settle(music / "broken.mp3")
    done = call("index", music, "--model", model)
    assert done.exit_code == 3
    assert f"left out: {music / 'broken.mp3'}: " in done.stderr
    assert "3 tracks can be searched. 1 left out: mulap index --failures\n" in done.stderr
    done = call("index", music)
    assert done.exit_code == 0
    assert "4 files: 1 unreadable\nNothing to do" in done.stderr
    done = call("index", "--failures")
    assert done.stdout.startswith(f"{music / 'broken.mp3'}: ")
    assert done.stderr == "1 file left out; tried again once the file or mulap changes\n"
    check_one_line(call("index", music, "--failures"), 2, "does nothing with --failures")


@pytest.mark.slow
def test_on_many_cores_processes_are_spawned_since_lancedb_has_threads(
    music, model, library, monkeypatch
):
    from mulap.embedding import pipeline

    methods = []
    pool = pipeline.Processes
    monkeypatch.setattr(pipeline, "_LEAST_CORES", 1)
    monkeypatch.setattr(pipeline, "_LEAST_FILES_TO_SPAWN", 0)
    monkeypatch.setattr(
        pipeline, "Processes", lambda *a, method: methods.append(method) or pool(*a, method=method)
    )
    monkeypatch.setattr(pipeline, "_count_whole", lambda num_files, _: num_files)
    assert "3 tracks can be searched" in call("index", music, "--model", model).stderr
    assert methods == ["spawn"]


def test_a_lost_disk_is_one_line(music, model):
    call("index", music, "--model", model)
    music.rename(music.with_name("away"))
    line = f"{music}: 3 of 3 indexed files are gone. Is the disk there? Nothing was removed"
    check_one_line(call("index"), 1, line, "(--prune removes them)")
    assert call("index", "--prune").stderr.startswith("0 files: 3 gone\nDone in")


def test_info_describes_a_library_as_text_and_as_json(music, model, library):
    call("index", music, "--model", model)
    about = json.loads(call("info", library, "--json").stdout)
    assert {name: about[name] for name in ("tracks", "files", "windows", "failures")} == {
        "tracks": 3,
        "files": 3,
        "windows": 3,
        "failures": 0,
    }
    assert re.fullmatch(rf"{model.name}@[0-9a-f]{{8}}", about["space"])
    assert about["bytes"] > 3 * 2 * 2 * about["size"]
    assert (about["unindexed"], about["filling"], about["music"]) == (3, None, [str(music)])
    assert about["last_run"]["num_embedded"] == 3
    text = call("info").stdout
    assert re.search(r"^tracks +3$", text, re.MULTILINE)
    assert re.search(r"^disk +\d+ kB$", text, re.MULTILINE)
    assert re.search(r"^last run +20\d\d-\d\d-\d\d .* 3 tracks embedded$", text, re.MULTILINE)


def test_an_upgrade_is_one_command_and_without_it_another_model_is_refused(music, model, tmp_path):
    call("index", music, "--model", model)
    other = write_joint_model(tmp_path / "other", seed=1)
    check_one_line(call("index", "--model", other), 1, "a library has one model", "--upgrade")
    done = call("index", "--model", other, "--upgrade")
    assert "3 tracks can be searched" in done.stderr
    assert json.loads(call("info", "--json").stdout)["space"].startswith("other@")


def test_what_is_no_library_and_what_has_no_joint_space_is_refused(music, tmp_path):
    check_one_line(call("info", tmp_path), 1, "is not a library. Make one: mulap index MUSIC")
    check_one_line(call("index"), 1, "no music was named yet. Run mulap index MUSIC.")
    check_one_line(call("index", tmp_path / "nowhere"), 1, "nowhere: does not exist")
    check_one_line(call("index", music, "--model", "musicnn-mtt"), 1, "musicnn-mtt: has no space")
    assert not (tmp_path / "lib").exists()


def test_without_lancedb_one_line_names_the_extra(music, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("mulap.library.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lancedb", None)
    check_one_line(call("index", music), 1, "lancedb is missing", "pip install 'mulap[search]'")


def test_the_default_library_is_in_the_user_s_data_folder(monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert str(default_library()) == "/data/mulap/library"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", "/home/someone")
    assert str(default_library()) == "/home/someone/.local/share/mulap/library"
