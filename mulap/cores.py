"""Counts the processor cores this process may use, and says how it starts others."""

import os
import sys
from typing import Literal


def usable_cores() -> int:
    """Return how many cores this process may run on, at least 1.

    A scheduler or `taskset` may allow fewer than the machine has; systems without such a limit
    (macOS, Windows) give the machine's number.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_method() -> Literal["fork", "spawn"]:
    """Return how worker processes are started here, as `multiprocessing` names it.

    Forking is quick and shares memory, but only on Linux do the libraries that are loaded survive
    it: macOS' own abort in a forked process, and Windows has no fork. LanceDB, once imported, has
    threads whose locks nobody in a fork would release.
    """
    return "fork" if sys.platform == "linux" and "lancedb" not in sys.modules else "spawn"
