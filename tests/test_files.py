"""Run: pytest tests/test_files.py."""

import errno
import hashlib
import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from mulap import files
from mulap.files import (
    FailureLog,
    atomic_path,
    leftover_path,
    read_failures,
    remove_leftover,
    sha256_of,
)


def test_a_file_appears_whole_and_its_folder_is_made(tmp_path):
    target = tmp_path / "new" / "table.parquet"
    with atomic_path(target) as temporary:
        assert temporary.parent == target.parent
        assert temporary.suffix == ".parquet"
        temporary.write_text("all of it")
        assert not target.exists()
    assert target.read_text() == "all of it"
    assert os.listdir(target.parent) == ["table.parquet"]


def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path):
    target = tmp_path / "report.md"
    target.write_text("old")

    def write_half():
        with atomic_path(target) as temporary:
            temporary.write_text("ha")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        write_half()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["report.md"]


def test_a_written_file_has_the_rights_that_any_new_file_gets(tmp_path):
    (tmp_path / "plain").touch()
    with atomic_path(tmp_path / "written"):
        pass
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "written")}
    assert len(modes) == 1


def test_a_symbolic_link_stays_one_and_what_it_points_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    target, link = tmp_path / "disk" / "table.csv", tmp_path / "table.csv"
    target.write_text("old")
    link.symlink_to(target)
    with atomic_path(link) as temporary:
        temporary.write_text("new")
    assert link.is_symlink()
    assert target.read_text() == "new"
    assert os.listdir(target.parent) == ["table.csv"]


def test_the_umask_of_the_process_is_never_changed(tmp_path, monkeypatch):
    """It was set to 0 for a moment, in which other threads' files became writable for everybody."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was changed"))
    with atomic_path(tmp_path / "a"), atomic_path(tmp_path / "a"):
        pass


def test_sha256_is_that_of_the_bytes(tmp_path):
    (tmp_path / "weights").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "weights") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_failures_are_counted_and_written_with_their_reasons(tmp_path):
    log = FailureLog(tmp_path / "out" / "failures.jsonl")
    assert len(log) == 0
    log.add(tmp_path / "ä.mp3", "is empty")
    log.add("b.wav", 'says "no"\nloudly')
    log.write()
    assert len(log) == 2
    lines = log.path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"file": str(tmp_path / "ä.mp3"), "reason": "is empty"},
        {"file": "b.wav", "reason": 'says "no"\nloudly'},
    ]
    assert "ä" in lines[0]


def test_a_name_that_is_not_utf_8_is_written_and_read_back(tmp_path):
    name = os.fsdecode(b"gr\xfc\xdfe.mp3")  # Latin-1, as old disks have it
    log = FailureLog(tmp_path / "failures.jsonl")
    log.add(name, "is empty")
    log.write()
    assert json.loads(log.path.read_text(encoding="utf-8"))["file"] == name


def test_a_list_of_failures_reads_back_whatever_the_names_are(tmp_path):
    """A line separator in a name ended the second `mulap prepare` with "Unterminated string"."""
    log = FailureLog(tmp_path / "failures.jsonl")
    assert read_failures(log.path) == []
    log.add("one\u2028two\x85three.wav", "is\u2029empty\x0b")
    log.add(os.fsdecode(b"gr\xfc\xdfe\n.mp3"), 'says "no"')
    log.write()
    assert read_failures(str(log.path)) == log.failures


def test_a_run_without_failures_removes_the_list_of_an_earlier_run(tmp_path):
    log = FailureLog(tmp_path / "failures.jsonl")
    log.path.write_text("old")
    log.write()
    assert not log.path.exists()
    log.write()


def test_what_a_kill_left_is_taken_over_by_the_next_writer(tmp_path):
    target = tmp_path / "table.parquet"
    leftover_path(target).write_text("a long text that a killed run left half written")
    with atomic_path(target) as temporary:
        assert temporary == leftover_path(target)
        assert temporary.read_bytes() == b""
        temporary.write_text("all")
    assert target.read_text() == "all"
    assert os.listdir(tmp_path) == ["table.parquet"]


def test_two_that_write_one_file_at_once_do_not_mix(tmp_path):
    target = tmp_path / "report.md"
    with atomic_path(target) as first:
        first.write_text("first")
        with atomic_path(target) as second:
            second.write_text("second")
            assert first != second
        assert target.read_text() == "second"
    assert target.read_text() == "first"
    assert os.listdir(tmp_path) == ["report.md"]


def test_one_that_is_ended_right_after_its_move_leaves_the_next_writers_file(tmp_path, monkeypatch):
    target = tmp_path / "report.md"

    def move_then_end(source, moved_to):
        os.rename(source, moved_to)
        leftover_path(target).write_text("of another writer")
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "replace", move_then_end)
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as temporary:
        temporary.write_text("first")
    assert leftover_path(target).read_text() == "of another writer"
    assert target.read_text() == "first"


def test_sweeping_leaves_what_is_being_written(tmp_path):
    target = tmp_path / "report.md"
    with atomic_path(target) as temporary:
        remove_leftover(temporary)
        temporary.write_text("first")
    assert target.read_text() == "first"
    leftover_path(target).touch()
    remove_leftover(leftover_path(target))
    remove_leftover(leftover_path(target))  # gone already
    assert os.listdir(tmp_path) == ["report.md"]


def test_sweeping_leaves_what_another_user_left(tmp_path, monkeypatch):
    def refuse(path, *flags):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    (tmp_path / ".report.partial.md").touch()
    monkeypatch.setattr(files.os, "open", refuse)
    remove_leftover(tmp_path / ".report.partial.md")
    assert os.listdir(tmp_path) == [".report.partial.md"]


def test_many_that_write_one_file_at_once_leave_one_whole_and_no_litter(tmp_path):
    target = tmp_path / "report.md"

    def write(number: int) -> None:
        for _ in range(20):
            with atomic_path(target) as temporary:
                temporary.write_text(str(number) * 1_000)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    text = target.read_text()
    assert text == text[0] * 1_000
    assert os.listdir(tmp_path) == ["report.md"]


def test_a_name_as_long_as_may_be_is_written(tmp_path):
    target = tmp_path / ("ä" * 125 + ".json")
    with atomic_path(target) as temporary:
        temporary.write_text("{}")
    assert os.listdir(tmp_path) == [target.name]


def test_an_error_of_the_disk_names_the_file_also_where_the_writer_did_not(tmp_path):
    target = tmp_path / "table.parquet"
    with pytest.raises(OSError, match="No space left") as raised, atomic_path(target):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert raised.value.filename == str(target)
    assert os.listdir(tmp_path) == []


def test_a_list_of_failures_that_a_kill_left_half_written_goes_with_the_list(tmp_path):
    log = FailureLog(tmp_path / "failures.jsonl")
    leftover_path(log.path).touch()
    log.write()
    assert os.listdir(tmp_path) == []
