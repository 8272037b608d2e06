"""Counts the processor cores this process may use, and says how it starts others."""

import os
import sys
from pathlib import Path
from typing import Literal

_CPU_LIMIT = "/sys/fs/cgroup/cpu.max"
_LEAST_URGENT = 19


def usable_cores() -> int:
    """Return how many cores this process may run on, at least 1.

    A scheduler, `taskset` or a container may allow fewer than the machine has; systems without such
    a limit (macOS, Windows) give the machine's number.
    """
    if hasattr(os, "sched_getaffinity"):
        return max(1, min(len(os.sched_getaffinity(0)), _container_share()))
    return os.cpu_count() or 1


def num_threads() -> int:
    """Return on how many threads to compute: a core each, or `OMP_NUM_THREADS`, if that is less."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(usable_cores(), int(asked))) if asked.isdecimal() else usable_cores()


def be_gentle() -> None:
    """Leave the machine to others: half of its cores, and those only while nobody else wants them.

    To be called before PyTorch is imported, which counts cores then.
    """
    half = (usable_cores() + 1) // 2
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:half])
    os.environ["OMP_NUM_THREADS"] = str(min(half, num_threads()))
    if hasattr(os, "nice"):
        os.nice(_LEAST_URGENT)


def _container_share() -> int:
    """Return how many cores' time a container may use, rounded up; many without a limit."""
    try:
        quota, period = Path(_CPU_LIMIT).read_text(encoding="ascii").split()
        return -(-int(quota) // int(period))
    except (OSError, ValueError):  # no container, an older kernel's, or "max"
        return sys.maxsize


def start_method() -> Literal["fork", "spawn"]:
    """Return how worker processes are started here, as `multiprocessing` names it.

    Forking is quick and shares memory, but only on Linux do the libraries that are loaded survive
    it: macOS' own abort in a forked process, and Windows has no fork. LanceDB, once imported, has
    threads whose locks nobody in a fork would release.
    """
    return "fork" if sys.platform == "linux" and "lancedb" not in sys.modules else "spawn"
