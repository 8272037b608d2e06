"""`BlockPool`: order, bounds and ends of blocks that threads share."""

import threading
import time

import pytest
import torch

from mulap.inference.threads import BlockPool, one_torch_thread, open_pool


def num_pool_threads():
    return sum(thread.name.startswith("blocks") for thread in threading.enumerate())


def test_results_come_in_the_order_of_the_blocks():
    def late_if_even(number):
        time.sleep(0.005 * (number % 2 == 0))
        return number * number

    with BlockPool(3) as pool:
        assert list(pool.map_blocks(late_if_even, range(20))) == [n * n for n in range(20)]
    assert num_pool_threads() == 0


def test_no_more_blocks_are_read_than_can_soon_be_worked_on():
    num_read = 0

    def blocks():
        nonlocal num_read
        for number in range(1000):
            num_read += 1
            yield number

    with BlockPool(2) as pool:
        results = pool.map_blocks(lambda number: number, blocks())
        for number in range(10):
            assert next(results) == number
            assert num_read <= number + 4
        results.close()
    assert num_pool_threads() == 0


def test_several_readers_together_hold_no_more_than_the_pool_has_room_for():
    lock, held, most = threading.Lock(), 0, 0
    go_on = threading.Event()

    def blocks():
        nonlocal held, most
        for number in range(30):
            with lock:
                held += 1
                most = max(most, held)
            yield number

    def work(number):
        nonlocal held
        go_on.wait()
        with lock:
            held -= 1

    with BlockPool(2) as pool:
        readers = [
            threading.Thread(target=lambda: list(pool.map_blocks(work, blocks()))) for _ in range(5)
        ]
        for reader in readers:
            reader.start()
        go_on.set()
        for reader in readers:
            reader.join()
    assert most <= 2 * 2 + 5  # what there is room for, and one in each reader's hands


def test_an_error_of_the_input_comes_after_the_blocks_before_it():
    def blocks():
        yield 1
        yield 2
        raise ValueError("the third is damaged")

    with BlockPool(4) as pool:
        results = pool.map_blocks(lambda number: -number, blocks())
        assert [next(results), next(results)] == [-1, -2]
        with pytest.raises(ValueError, match="the third is damaged"):
            next(results)


def test_an_error_of_the_work_is_raised_in_its_place_and_leaves_no_thread():
    with BlockPool(2) as pool:
        results = pool.map_blocks(lambda number: 1 // (2 - number), range(100))
        assert [next(results), next(results)] == [0, 1]
        with pytest.raises(ZeroDivisionError):
            next(results)
        # What was dropped takes up no room.
        assert list(pool.map_blocks(abs, range(20))) == list(range(20))
    assert num_pool_threads() == 0


@pytest.fixture
def three_torch_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_torch_threads")
def test_a_pool_has_torchs_threads_and_each_of_them_keeps_torch_to_one():
    with open_pool() as pool:
        assert pool.num_threads == 3
        counts = list(pool.map_blocks(lambda _: torch.get_num_threads(), range(9)))
        assert counts == [1] * 9
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 3
    with one_torch_thread() as num_threads, open_pool() as pool:
        assert (num_threads, pool) == (3, None)
