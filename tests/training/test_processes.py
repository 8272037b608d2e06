"""Processes: each leaves the group before its interpreter goes."""

import atexit

import pytest
from torch import distributed

from mulap.training import processes


@pytest.fixture
def group():
    """A group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def test_a_process_leaves_its_group_at_exit_once_however_often_it_asked(group, monkeypatch):
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", lambda f: f in registered and registered.remove(f))
    processes.leave_group_at_exit()
    processes.leave_group_at_exit()
    (leave,) = registered
    leave()
    assert not distributed.is_initialized()
    leave()  # without a group there is nothing to do
