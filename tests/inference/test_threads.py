"""Threads that share the blocks of one file, each with torch on one thread."""

import threading
import time

import pytest
import torch

from mulap.inference.threads import block_mapper, one_torch_thread


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
