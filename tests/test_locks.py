"""A lock file: one holder at a time, gone afterwards."""

import os
import subprocess
import sys

import pytest

from mulap.locks import hold_lock, sweep_lock

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
