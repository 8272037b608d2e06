"""Fetching a task of this file's own from a plain web server in a thread."""

import functools
import hashlib
import io
import itertools
import json
import os
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mulap import downloads
from mulap.tasks.fetch import fetch_task
from mulap.tasks.registry import find_task, task_names
from mulap.tasks.task import Remote, Task
from mulap.terminal import shown

AUDIO = {f"clips/{index}.mp3": bytes([index]) * 2_000 for index in range(6)}
MORE = {"clips/more/7.mp3": b"7" * 500}


class Handler(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.asked.append(self.path.removeprefix("/"))
        super().do_GET()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder that a server shows: a zip in three parts, a tar and two lists; its address."""
    monkeypatch.setattr(downloads, "PAUSES_SECONDS", ())
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    with zipfile.ZipFile(folder / "whole.zip", "w") as archive:
        for name, content in AUDIO.items():
            archive.writestr(name, content)
    content = (folder / "whole.zip").read_bytes()
    (folder / "whole.zip").unlink()
    for number in range(3):
        (folder / f"a.zip.00{number + 1}").write_bytes(content[number * 5_000 :][:5_000])
    (folder / "a.zip.003").write_bytes(content[10_000:])
    with tarfile.open(folder / "more.tar.gz", "w:gz") as archive:
        for name, content in MORE.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    (folder / "labels.csv").write_text("file_name,label\nclips/0.mp3,rock\n")
    (folder / "clean.txt").write_text("clips/0.mp3\n")
    handler = type("AskedHandler", (Handler,), {"asked": []})
    server = ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(handler, directory=str(folder))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    folder.joinpath("address").write_text(f"http://127.0.0.1:{server.server_address[1]}")
    yield folder, handler.asked
    server.shutdown()
    server.server_close()
    thread.join()


def make_task(folder, **changes):
    """The task whose files are served from a folder."""
    address = (folder / "address").read_text()

    def remote(name, path="", unpack_to=None):
        checksum = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        num_bytes = (folder / name).stat().st_size
        return Remote(f"{address}/{name}", path or name, f"sha256:{checksum}", num_bytes, unpack_to)

    parts = [remote(f"a.zip.00{n}", unpack_to="audio") for n in (1, 2, 3)]
    everybody = (remote("labels.csv", "lists/labels.csv"), *parts)
    remotes = {
        "": (*everybody, remote("more.tar.gz", unpack_to="audio")),
        "clean": (remote("clean.txt"),),
    }
    values = {
        "splits": {"clean": (1, 1, 1), "full": (2, 1, 1)},
        "remotes": remotes,
        "by_hand": "Ask the authors for scores.csv.",
    }
    return Task("tiny", "Tiny", "tags", ("a", "b"), **(values | changes))


def unpacked(folder):
    audio = folder / "audio"
    found = sorted(audio.rglob("*.mp3"))
    return {path.relative_to(audio).as_posix(): path.read_bytes() for path in found}


def test_all_of_a_task_is_fetched_and_unpacked(served, tmp_path):
    folder, out = served[0], tmp_path / "out"
    report = fetch_task(make_task(folder), out)
    parts = ("a.zip.001", "a.zip.002", "a.zip.003")
    assert report.fetched == ["lists/labels.csv", *parts, "more.tar.gz", "clean.txt"]
    assert report.already_there == []
    assert report.unpacked == ["a.zip.001", "more.tar.gz"]
    assert report.num_unpacked_files == 7
    assert unpacked(out) == AUDIO | MORE
    assert (out / "lists" / "labels.csv").read_bytes() == (folder / "labels.csv").read_bytes()
    assert report.by_hand == "Ask the authors for scores.csv."
    assert report.summary.startswith(
        "tiny: 6 files fetched, 0 already present, 2 archives unpacked"
    )
    assert json.loads(json.dumps(report.as_dict()))["folder"] == str(out)


def test_another_split_fetches_what_all_need_and_its_own(served, tmp_path):
    report = fetch_task(make_task(served[0]), tmp_path / "out", "full")
    assert report.split_name == "full"
    assert "clean.txt" not in report.fetched
    assert "more.tar.gz" in report.fetched


def test_what_is_there_is_neither_fetched_nor_unpacked_again(served, tmp_path):
    (folder, asked), out = served, tmp_path / "out"
    first = fetch_task(make_task(folder), str(out))
    asked.clear()
    report = fetch_task(make_task(folder), str(out))
    assert asked == []
    assert report.fetched == report.unpacked == []
    assert sorted(report.already_there) == sorted(first.fetched)


def test_archives_may_be_deleted_once_they_are_unpacked(served, tmp_path):
    (folder, asked), out = served, tmp_path / "out"
    fetch_task(make_task(folder), out)
    for name in ("a.zip.001", "a.zip.002", "a.zip.003", "more.tar.gz"):
        (out / name).unlink()
    asked.clear()
    fetch_task(make_task(folder), out)
    assert asked == []


def test_an_archive_of_which_a_file_is_gone_is_unpacked_again(served, tmp_path):
    (folder, asked), out = served, tmp_path / "out"
    fetch_task(make_task(folder), out)
    (out / "audio" / "clips" / "3.mp3").unlink()
    asked.clear()
    report = fetch_task(make_task(folder), out)
    assert asked == []
    assert report.unpacked == ["a.zip.001"]
    assert unpacked(out) == AUDIO | MORE


@pytest.mark.parametrize("note", ["", "{", "[]", '{"archive": []}', "null"])
def test_a_note_that_says_nothing_is_not_trusted(served, tmp_path, note):
    folder, out = served[0], tmp_path / "out"
    fetch_task(make_task(folder), out)
    marker = out / ".mulap" / "unpacked" / "more.tar.gz.json"
    assert marker.is_file()
    marker.write_text(note)
    assert fetch_task(make_task(folder), out).unpacked == ["more.tar.gz"]


def test_an_archive_that_changed_at_its_source_is_fetched_and_unpacked_again(served, tmp_path):
    folder, out = served[0], tmp_path / "out"
    fetch_task(make_task(folder), out)
    with tarfile.open(folder / "more.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("clips/more/7.mp3")
        member.size = 3
        archive.addfile(member, io.BytesIO(b"new"))
    report = fetch_task(make_task(folder), out)  # another checksum
    assert report.fetched == report.unpacked == ["more.tar.gz"]
    assert unpacked(out)["clips/more/7.mp3"] == b"new"


def test_archives_unpacked_into_the_tasks_own_folder_leave_its_notes_alone(served, tmp_path):
    (folder, asked), out = served, tmp_path / "out"
    address = (folder / "address").read_text()
    remotes = {"": (Remote(f"{address}/more.tar.gz", "more.tar.gz", unpack_to="."),)}
    fetch_task(make_task(folder, remotes=remotes), out)
    assert (out / "clips" / "more" / "7.mp3").is_file()
    asked.clear()
    fetch_task(make_task(folder, remotes=remotes), out)
    assert asked == []


def test_a_file_that_cannot_be_had_stops_the_run_and_the_next_goes_on(served, tmp_path):
    (folder, asked), out = served, tmp_path / "out"
    task = make_task(folder)
    (folder / "a.zip.002").rename(folder / "hidden")
    with pytest.raises(ValueError, match=r"a\.zip\.002: the server answers 404") as raised:
        fetch_task(task, out)
    assert "\n" not in str(raised.value)
    assert unpacked(out) == {}
    (folder / "hidden").rename(folder / "a.zip.002")
    asked.clear()
    report = fetch_task(task, out)
    assert report.already_there == ["lists/labels.csv", "a.zip.001"]
    assert asked == ["a.zip.002", "a.zip.003", "more.tar.gz", "clean.txt"]
    assert unpacked(out) == AUDIO | MORE


def test_an_archive_that_is_none_is_a_line_and_no_note_is_written(served, tmp_path):
    folder, out = served[0], tmp_path / "out"
    (folder / "more.tar.gz").write_bytes(b"<html>moved</html>")
    with pytest.raises(ValueError, match=r"more\.tar\.gz: is damaged \(neither a zip nor a tar"):
        fetch_task(make_task(folder), out)
    assert [path.name for path in (out / ".mulap" / "unpacked").iterdir()] == ["a.zip.001.json"]


def test_a_task_with_nothing_to_fetch_says_so(tmp_path):
    task = Task("asked", "Asked", "tags", ("a",), splits={"only": (1, 1, 1)}, by_hand="Ask them.")
    report = fetch_task(task, tmp_path / "out")
    assert report.summary == (
        "asked: mulap may download none of its files; follow the instructions below"
    )
    assert (report.by_hand, report.fetched, report.split_name) == ("Ask them.", [], "only")


def test_an_unknown_split_is_refused(tmp_path):
    task = Task("asked", "Asked", "tags", ("a",), splits={"only": (1, 1, 1)})
    with pytest.raises(ValueError, match=r"there is no split 'all'. Give only"):
        fetch_task(task, tmp_path, "all")


def test_a_line_is_said_for_each_archive_or_file(served, tmp_path, capsys):
    with shown():
        fetch_task(make_task(served[0]), tmp_path / "out")
    assert capsys.readouterr().err.splitlines() == [
        "tiny: 1 of 4 done, lists/labels.csv",
        "tiny: 2 of 4 done, a.zip.001",
        "tiny: 3 of 4 done, more.tar.gz",
        "tiny: 4 of 4 done, clean.txt",
    ]


def test_every_file_of_every_task_comes_by_https_or_has_a_checksum():
    for name in task_names():
        for remote in itertools.chain(*find_task(name).remotes.values()):
            assert remote.url.startswith("https://") or remote.checksum, remote.url


KILLED = """
import os, pathlib, signal, sys
from mulap import archives
from mulap.tasks.fetch import fetch_task
from mulap.tasks.registry import find_task, task_names
from mulap.tasks.task import Remote, Task
rename = os.replace
def replace(source, target):
    rename(source, target)
    if ".mulap" in str(source):  # one of several that are put in place
        os.kill(os.getpid(), signal.SIGKILL)
archives.os.replace = replace
remotes = {"": (Remote(sys.argv[1] + "/flat.zip", "flat.zip", unpack_to="audio"),)}
task = Task("tiny", "Tiny", "tags", ("a",), splits={"all": (1, 1, 1)}, remotes=remotes)
fetch_task(task, pathlib.Path(sys.argv[2]))
"""


def test_a_kill_while_files_are_put_in_place_is_mended_by_the_next_run(served, tmp_path):
    folder, out = served[0], tmp_path / "out"
    with zipfile.ZipFile(folder / "flat.zip", "w") as archive:
        for name in ("a.mp3", "b.mp3", "c.mp3"):
            archive.writestr(name, name.encode())
    address = (folder / "address").read_text()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, address, str(out)],
        check=False,
        capture_output=True,
        env={**os.environ, "no_proxy": "*"},
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = [".mulap/unpacking/new/b.mp3", ".mulap/unpacking/new/c.mp3"]
    assert sorted(unpacked(out)) == [*left, "a.mp3"]
    assert not list((out / ".mulap").rglob("*.json"))
    remotes = {"": (Remote(f"{address}/flat.zip", "flat.zip", unpack_to="audio"),)}
    report = fetch_task(make_task(folder, remotes=remotes), out)
    assert report.unpacked == ["flat.zip"]
    assert sorted(unpacked(out)) == ["a.mp3", "b.mp3", "c.mp3"]
