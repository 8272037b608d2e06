"""The machine: what it is, and what it can do at most.

The matrix limit is the rate of a large fp32 product by torch, the fastest thing this machine does.
A network that reaches 85 % of it wastes little; one that needs fewer operations can seem to pass
it. No name of the host is told, nor any path.
"""

import importlib.metadata
import os
import platform
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import ENVIRONMENT
from benchmarks.measure import THREAD_VARIABLES, Conditions, Contestant, race
from benchmarks.sizes import Sizes
from benchmarks.tables import Table
from mulap.cores import usable_cores

NUM_PRODUCTS = 5
PACKAGES = ("torch", "transformers", "numpy", "numba", "soundfile", "soxr", "av", "librosa")


def describe(conditions: Conditions) -> list[tuple[str, str]]:
    """Return what the machine is, as (property, value)."""
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    told = set(ENVIRONMENT) - set(THREAD_VARIABLES)  # every contestant is told those
    variables = sorted(name for name in told if name.startswith(("OMP_", "MKL_", "MALLOC_")))
    settings = [f"{name}={ENVIRONMENT[name]}" for name in variables]
    return [
        ("processor", cpu_name()),
        ("cores", f"{usable_cores()} of {os.cpu_count()}"),
        ("memory", f"{memory_gib():.0f} GiB"),
        ("system", f"{platform.system()} {platform.machine()}, {platform.libc_ver()[0] or 'libc'}"),
        ("Python", platform.python_version()),
        ("packages", versions),
        ("threads", f"{conditions.threads} for every contestant"),
        ("torch's instructions", torch.backends.cpu.get_cpu_capability()),
        ("environment", ", ".join(settings) or "nothing set"),
    ]


def cpu_name() -> str:
    """Return the processor's model."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    lines = (line.partition(":") for line in text.splitlines())
    values = {name.strip(): value.strip() for name, _, value in lines}
    return values.get("model name") or platform.machine()


def memory_gib() -> float:
    """Return the machine's memory."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30


def multiply(size: int, threads: int) -> Callable[[], None]:
    """Make `NUM_PRODUCTS` products of two square fp32 matrices on so many threads."""
    left, right = torch.randn(size, size), torch.randn(size, size)
    product = torch.empty(size, size)

    def run() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        for _ in range(NUM_PRODUCTS):
            torch.mm(left, right, out=product)
        torch.set_num_threads(before)

    run()
    return run


def count_gflop(size: int) -> float:
    """Return the GFLOP of `multiply`."""
    return 2e-9 * NUM_PRODUCTS * size**3


def copy_memory(num_bytes: int) -> Callable[[], None]:
    """Make a copy within memory that is in use already."""
    source = np.ones(num_bytes, np.uint8)
    target = np.ones(num_bytes, np.uint8)
    return lambda: np.copyto(target, source)


def touch_memory(num_bytes: int) -> Callable[[], None]:
    """Make what writes once to memory that the system has not given out before."""

    def run() -> None:
        np.empty(num_bytes, np.uint8).fill(1)

    return run


def measure_machine(conditions: Conditions, sizes: Sizes) -> Table:
    """Describe the machine and measure its limits."""
    matrix_size, num_bytes = sizes.matrix_size, sizes.num_bytes
    gigabytes = num_bytes / 1e9
    counts = sorted({1, conditions.threads})
    contestants = [
        Contestant(
            f"fp32 matrix product, {count} thread{'s' * (count > 1)}, GFLOP/s",
            "benchmarks.machine:multiply",
            {"size": matrix_size, "threads": count},
            count_gflop(matrix_size),
        )
        for count in counts
    ]
    bytes_argument = {"num_bytes": num_bytes}
    contestants += [
        Contestant(
            "memory copied, GB/s", "benchmarks.machine:copy_memory", bytes_argument, gigabytes
        ),
        Contestant(
            "fresh memory written, GB/s",
            "benchmarks.machine:touch_memory",
            bytes_argument,
            gigabytes,
        ),
    ]
    outcomes = race(contestants, conditions)
    rows = [list(row) for row in describe(conditions)]
    rows += [[name, outcome.rate().format()] for name, outcome in outcomes.items()]
    title = "The machine"
    return Table("machine", title, ["", ""], rows, outcomes=list(outcomes.values()))
