"""What every test runs under: no hub, no cache of the machine's, few threads, no progress bars."""

import atexit
import io
import math
import os
import shutil
import signal
import sys
import tempfile

# Before transformers is imported, which reads these once.
_CACHE = tempfile.mkdtemp(prefix="mulap-tests-")
atexit.register(shutil.rmtree, _CACHE, ignore_errors=True)
os.environ.update(
    HF_HOME=_CACHE,
    XDG_CACHE_HOME=_CACHE,
    HF_HUB_OFFLINE="1",
    HF_HUB_DISABLE_PROGRESS_BARS="1",
    TOKENIZERS_PARALLELISM="false",
    WANDB_MODE="disabled",
)
if "MULAP_GPU" not in os.environ:  # `make gpu` says it
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
for _name in ("HF_HUB_CACHE", "HF_MODULES_CACHE", "HF_TOKEN", "TRANSFORMERS_CACHE"):
    os.environ.pop(_name, None)
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # the others have the other cores
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as `mulap.cli` does

# Tests that a shell starts in its background would ignore control-C, and so would what they start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest  # noqa: E402
from hostile.kit import Template  # noqa: E402


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """Let each test begin with the same random state, whatever ran before it, and where."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def quiet_machine():
    """Keep torch to two threads, and transformers and slow calls from showing progress."""
    import torch
    from transformers.utils import logging

    from mulap import terminal

    terminal.FIRST_LINE_SECONDS = math.inf

    torch.set_num_threads(min(2, torch.get_num_threads()))
    logging.disable_progress_bar()
    return _CACHE


@pytest.fixture(params=[8, 16])
def move_tensors(request):
    """A function that moves a module's tensors to addresses 8 or 16 bytes past a multiple of 64.

    torch allocates at multiples of 64; a checkpoint's memory map puts tensors elsewhere. Matrix
    products choose their kernels by that on some processors, and then differ in the last bits.
    """
    import torch

    def move(module):
        for tensor in [*module.parameters(), *module.buffers()]:
            size = tensor.element_size()
            memory = torch.empty(tensor.numel() + 128 // size, dtype=tensor.dtype)
            first = (request.param - memory.data_ptr()) % 64 // size
            moved = memory[first : first + tensor.numel()].view(tensor.shape)
            tensor.data = moved.copy_(tensor.data)
            assert tensor.data_ptr() % 64 == request.param
        return module

    return move


@pytest.fixture
def bars_of_transformers(monkeypatch):
    """Let transformers show bars, as it does unless it is told not to."""
    from transformers.utils import logging

    module = sys.modules["huggingface_hub.utils.tqdm"]  # the package has a class of that name
    monkeypatch.setattr(module, "HF_HUB_DISABLE_PROGRESS_BARS", None)
    logging.enable_progress_bar()
    yield
    logging.disable_progress_bar()


@pytest.fixture
def notebook():
    """A stream as a notebook's standard error is, for `redirect_stderr`: no terminal."""
    return type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()


@pytest.fixture(scope="session")
def template():
    """A process that has imported everything and forks what tests start and kill."""
    process = Template()
    yield process
    process.close()
