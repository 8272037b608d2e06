"""A lock file: one holder at a time, gone afterwards; and file systems without locks."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mulap.files import atomic_path
from mulap.locks import hold_lock, sweep_lock, try_lock, wait_for_lock

HOLD = """
import sys
from mulap.locks import hold_lock
with hold_lock(sys.argv[1], "taken"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_holder_at_a_time_and_nothing_is_left(tmp_path):
    lock = tmp_path / "lock"
    with hold_lock(lock, "taken"):
        with pytest.raises(ValueError, match="taken"), hold_lock(lock, "taken"):
            pass
        assert lock.exists()  # the one that was refused has not removed it
    assert not os.listdir(tmp_path)
    with hold_lock(lock, "taken"):
        pass


def test_a_block_that_fails_lets_go(tmp_path):
    with pytest.raises(KeyboardInterrupt), hold_lock(tmp_path / "lock", "taken"):
        raise KeyboardInterrupt
    assert not os.listdir(tmp_path)


def test_a_killed_holder_lets_go(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="taken"), hold_lock(lock, "taken"):
            pass
        holder.kill()
    with hold_lock(lock, "taken"):
        pass
    assert not os.listdir(tmp_path)


def test_only_a_lock_that_nobody_holds_is_swept_away(tmp_path):
    lock = tmp_path / "lock"
    sweep_lock(lock)
    assert not lock.exists()
    lock.touch()  # as a kill leaves it
    sweep_lock(lock)
    assert not lock.exists()
    with hold_lock(lock, "taken"):
        sweep_lock(lock)
        assert lock.exists()
        with pytest.raises(ValueError, match="taken"), hold_lock(lock, "taken"):
            pass


def test_one_that_waits_says_so_once_and_then_holds_it(tmp_path, caplog):
    lock, order = tmp_path / "lock", []

    def wait():
        with hold_lock(lock, "taken: waiting", is_waiting=True):
            order.append("second")

    with hold_lock(lock, "taken"):
        thread = threading.Thread(target=wait)
        thread.start()
        while "taken: waiting" not in caplog.text:
            time.sleep(0.01)
        time.sleep(0.5)  # several looks at the lock
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert caplog.messages == ["taken: waiting"]
    assert not os.listdir(tmp_path)


FORK = """
import os, sys, time
from mulap.locks import hold_lock
with hold_lock(sys.argv[1], "taken"):
    if os.fork() == 0:
        print("held", flush=True)
        time.sleep(60)
        os._exit(0)
    sys.stdin.read()
"""


def test_a_forked_process_does_not_keep_the_lock_of_a_killed_one(tmp_path):
    lock = tmp_path / "lock"
    holder = subprocess.Popen(
        [sys.executable, "-c", FORK, lock],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="taken"), hold_lock(lock, "taken"):
            pass
        holder.kill()
        holder.wait()
        with hold_lock(lock, "free"):
            os.killpg(holder.pid, signal.SIGKILL)  # the forked one was still there


@pytest.fixture(params=["ENOSYS", "EOPNOTSUPP", "ENOLCK"])
def no_locks(request, monkeypatch):
    """A file system without locks, as a Lustre that is mounted without `flock`."""

    def refuse(descriptor, operation):
        raise OSError(getattr(errno, request.param), "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)


def test_where_there_are_no_locks_work_goes_on_and_one_line_says_so(tmp_path, no_locks, caplog):
    for _ in range(2):
        with hold_lock(tmp_path / "lock", "taken"):
            pass
        sweep_lock(tmp_path / "lock")
    assert not os.listdir(tmp_path)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    assert try_lock(descriptor, tmp_path / "any") is None
    wait_for_lock(descriptor, tmp_path / "any", "waiting")
    os.close(descriptor)
    assert caplog.messages == [
        f"{tmp_path}: the file system has no locks. Run one process at a time there."
    ]


def test_without_locks_two_that_write_one_file_do_not_mix(tmp_path, no_locks):
    target = tmp_path / "report.md"
    with atomic_path(target) as first:
        first.write_text("first")
        with atomic_path(target) as second:
            second.write_text("second")
            assert first != second
    assert target.read_text() == "first"
    assert os.listdir(tmp_path) == ["report.md"]


def test_another_error_of_a_lock_is_raised(tmp_path, monkeypatch):
    def fail(descriptor, operation):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OSError, match="Input/output error"), hold_lock(tmp_path / "lock", "taken"):
        pass


def test_an_open_file_is_locked_once(tmp_path, caplog):
    path = tmp_path / "file"
    with open(path, "w") as first, open(path, "w") as second:
        assert try_lock(first.fileno(), path) is True
        assert try_lock(second.fileno(), path) is False
        thread = threading.Thread(target=wait_for_lock, args=(second.fileno(), path, "wait"))
        thread.start()
        while "wait" not in caplog.text:
            time.sleep(0.01)
        first.close()
        thread.join()
    assert caplog.messages == ["wait"]
