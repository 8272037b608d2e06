"""`run_tasks`: all results, from as many processes; an end that is an end."""

import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
import torch

from mulap import pools
from mulap.pools import Processes, map_in_order, read_ahead, run_tasks


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
    assert list(run_tasks(double, range(20), num_processes)) == list(range(0, 40, 2))
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
    with pytest.raises(
        ValueError, match="a worker process died.* Run the same command again"
    ) as caught:
        list(run_tasks(die, range(4), 2))
    assert "\n" not in str(caught.value)


def add_given(given, task):
    return given + task


def fail_in_second(given, task):
    if given + task == 12:
        raise KeyError("no such thing")
    return task


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_get_what_they_are_given_once_however_they_are_started(monkeypatch, method):
    monkeypatch.setattr(pools, "start_method", lambda: method)
    with Processes(2, 10) as pool:
        assert list(pool.map(add_given, range(9))) == list(range(10, 19))
        again = pool.map(add_given, pool.map(add_given, range(30)), num_ahead=3)
        assert list(again) == list(range(20, 50))
        with pytest.raises(KeyError, match="no such thing"):
            list(pool.map(fail_in_second, range(9)))
    assert multiprocessing.active_children() == []


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_function_with_arguments_of_its_own_is_handed_over_however_they_start(
    method, monkeypatch
):
    monkeypatch.setattr(pools, "start_method", lambda: method)
    with_two = partial(scale, factor=2)
    assert list(run_tasks(with_two, range(5), 2)) == [0, 2, 4, 6, 8]
    with pytest.raises(OSError, match="No space left on device"):
        list(run_tasks(fail_at_three, range(1_000), 2))


def test_results_that_nobody_reads_end_the_processes():
    results = run_tasks(double, range(1_000_000), 2)
    assert next(results) == 0
    results.close()
    assert multiprocessing.active_children() == []


def test_tasks_are_drawn_a_bounded_number_ahead():
    drawn = []

    def tasks():
        for index in range(50):
            drawn.append(index)
            yield index

    with ThreadPoolExecutor(2) as executor:
        for index, result in enumerate(map_in_order(executor, double, tasks(), 3)):
            assert result == 2 * index
            assert len(drawn) <= index + 5
    assert len(drawn) == 50


def test_an_error_of_the_tasks_is_raised_after_the_results_before_it():
    def tasks():
        yield from range(5)
        raise ValueError("the sixth")

    found = []
    with ThreadPoolExecutor(2) as executor, pytest.raises(ValueError, match="the sixth"):
        found.extend(map_in_order(executor, double, tasks(), 3))
    assert found == [0, 2, 4, 6, 8]


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
    with pytest.raises(ValueError, match="a worker process died"):
        list(run_tasks(_die_or_tidy_up, [tmp_path / "die", tmp_path / "other"], 2))
    wait_for(lambda: (tmp_path / "other").exists())


def test_reading_ahead_keeps_the_order_in_another_thread():
    threads = set()

    def numbers():
        for number in range(50):
            threads.add(threading.get_ident())
            yield number

    assert list(read_ahead(numbers())) == list(range(50))
    assert threads.isdisjoint({threading.get_ident()})


def test_reading_ahead_is_bounded():
    made = []

    def numbers():
        for number in range(100):
            made.append(number)
            yield number

    reader = read_ahead(numbers(), num_ahead=3)
    assert next(reader) == 0
    time.sleep(0.1)
    assert len(made) <= 4
    reader.close()
    assert len(made) <= 5


def test_an_error_of_the_thread_reaches_the_reader_after_what_came_before():
    def numbers():
        yield 1
        raise OSError("disk gone")

    reader = read_ahead(numbers())
    assert next(reader) == 1
    with pytest.raises(OSError, match="disk gone"):
        next(reader)
