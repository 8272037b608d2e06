"""Threads that share the blocks of one file, each with torch on one thread."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from mulap.fast.threads import block_mapper, one_torch_thread


@pytest.fixture(autouse=True)
def three_torch_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    assert torch.get_num_threads() == 3
    torch.set_num_threads(before)
    assert not any(thread.name.startswith("blocks") for thread in threading.enumerate())


def test_there_are_as_many_as_torch_has_and_each_of_them_keeps_torch_to_one():
    names = set()

    def work(number):
        names.add(threading.current_thread().name)
        time.sleep(0.005 * (number % 2 == 0))
        return number, torch.get_num_threads()

    with block_mapper() as map_blocks:
        assert list(map_blocks(work, range(30))) == [(number, 1) for number in range(30)]
        assert torch.get_num_threads() == 1
    assert len(names) == 3


def test_one_thread_is_the_caller_s():
    with one_torch_thread() as num_threads, block_mapper() as map_blocks:
        assert (num_threads, map_blocks) == (3, map)
    with block_mapper(2) as map_blocks:
        assert map_blocks is not map


@pytest.mark.parametrize("first_to_leave", [0, 1])
def test_overlapping_blocks_leave_the_number_of_threads_from_before_them(first_to_leave):
    entered, leave = [threading.Event() for _ in "ab"], [threading.Event() for _ in "ab"]
    numbers = []

    def hold(index):
        with one_torch_thread() as num_threads:
            numbers.append((num_threads, torch.get_num_threads()))
            entered[index].set()
            leave[index].wait()
        numbers.append(torch.get_num_threads())

    threads = [threading.Thread(target=hold, args=(index,)) for index in range(2)]
    for thread, event in zip(threads, entered, strict=True):
        thread.start()
        event.wait()
    for index in (first_to_leave, 1 - first_to_leave):
        leave[index].set()
        threads[index].join()
    assert numbers == [(3, 1), (3, 1), 3, 3]
    with ThreadPoolExecutor(1) as fresh:  # begins with what the last setting left
        assert fresh.submit(torch.get_num_threads).result() == 3


def test_many_overlapping_blocks_do_not_leave_torch_on_one_thread():
    def work(_):
        for _ in range(50):
            with one_torch_thread() as num_threads, one_torch_thread() as inner:
                torch.ones(3).sum()  # asks torch for the number of threads
                assert (num_threads, inner, torch.get_num_threads()) == (3, 1, 1)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(16)))
    with ThreadPoolExecutor(1) as fresh:
        assert fresh.submit(torch.get_num_threads).result() == 3
