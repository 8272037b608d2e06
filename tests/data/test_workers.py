"""`run_tasks`: all results, from as many processes; an end that is an end."""

import os
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from mulap.data import workers
from mulap.data.workers import run_tasks


def double(number):
    return 2 * number


def scale(number, factor):
    return factor * number


def tell(_):
    return os.getpid(), torch.get_num_threads()


def fail_at_three(number):
    if number == 3:
        raise OSError(28, "No space left on device")
    time.sleep(0.01)
    return number


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def sleep_long(folder):
    (folder / f"{os.getpid()}.partial").touch()
    try:
        for _ in range(6_000):
            time.sleep(0.01)
    finally:
        (folder / f"{os.getpid()}.partial").unlink()


@pytest.mark.parametrize("num_processes", [1, 2, 5])
def test_every_task_is_done_once(num_processes):
    assert sorted(run_tasks(double, range(20), num_processes)) == list(range(0, 40, 2))
    assert list(run_tasks(double, [], num_processes)) == []


def test_processes_work_on_one_thread_and_one_process_is_this_one():
    told = list(run_tasks(tell, range(8), 2))
    assert os.getpid() not in {pid for pid, _ in told}
    assert {threads for _, threads in told} == {1}
    assert list(run_tasks(tell, [0], 1))[0][0] == os.getpid()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_an_error_of_a_task_is_raised_and_ends_the_others(num_processes):
    with pytest.raises(OSError, match="No space left on device"):
        list(run_tasks(fail_at_three, range(1_000), num_processes))


def test_a_process_that_dies_is_told_in_one_line():
    with pytest.raises(ValueError, match="a process died .* again, with fewer") as caught:
        list(run_tasks(die, range(4), 2))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_are_started_as_the_system_bears_it(method, monkeypatch):
    monkeypatch.setattr(workers, "start_method", lambda: method)
    with_two = partial(scale, factor=2)
    assert sorted(run_tasks(with_two, range(5), 2)) == [0, 2, 4, 6, 8]
    with pytest.raises(OSError, match="No space left on device"):
        list(run_tasks(fail_at_three, range(1_000), 2))


def test_no_process_is_refused():
    with pytest.raises(ValueError, match="0 processes"):
        list(run_tasks(double, [1], 0))


def lead(folder):
    list(run_tasks(sleep_long, [folder] * 5, 2))


def wait_for(condition):
    until = time.monotonic() + 300
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    assert condition()


def test_processes_whose_parent_was_killed_tidy_up_and_end(tmp_path):
    parent = os.fork()
    if not parent:
        try:
            lead(tmp_path)
        finally:
            os._exit(0)
    wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    pids = [int(path.stem) for path in tmp_path.iterdir()]
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    wait_for(lambda: not list(tmp_path.iterdir()))
    wait_for(lambda: not any(is_alive(pid) for pid in pids))


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as status:
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def _die_or_tidy_up(path: Path) -> None:
    begun = path.with_name("begun")
    if path.name == "die":
        while not begun.exists():
            time.sleep(0.01)
        os._exit(9)
    try:
        begun.touch()
        time.sleep(60)
    finally:
        path.write_text("tidied up")


def test_processes_that_the_pool_ends_since_one_died_tidy_up(tmp_path):
    with pytest.raises(ValueError, match="a process died"):
        list(run_tasks(_die_or_tidy_up, [tmp_path / "die", tmp_path / "other"], 2))
    wait_for(lambda: (tmp_path / "other").exists())
