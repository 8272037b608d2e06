"""What tests of supervised training share: one thread, and one run that nothing interrupts."""

import pytest
import torch


@pytest.fixture(scope="session")
def straight(tmp_path_factory):
    """A run of two epochs of two steps on tags, and its report; to be read, not to be changed."""
    from toy_task import make_data, run

    output = tmp_path_factory.mktemp("straight") / "run"
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return run(make_data("tags"), output), output
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def one_thread():
    """As in the subprocesses, so that sums are added up in one order."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
