"""The number of usable cores and the way to start processes, on any system."""

import os
import subprocess
import sys

import pytest

from mulap.cores import start_method, usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_process_counts_the_cores_that_it_is_allowed():
    core = min(os.sched_getaffinity(0))
    allowed = f"import os; os.sched_setaffinity(0, {{{core}}})"
    count = "from mulap.cores import usable_cores; print(usable_cores())"
    done = subprocess.run(
        [sys.executable, "-c", f"{allowed}\n{count}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_where_cores_cannot_be_limited_all_of_them_count(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # as on macOS and Windows
    assert usable_cores() == os.cpu_count()
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


@pytest.mark.parametrize(
    ("system", "method"), [("linux", "fork"), ("darwin", "spawn"), ("win32", "spawn")]
)
def test_processes_are_forked_on_linux_only(monkeypatch, system, method):
    monkeypatch.setattr(sys, "platform", system)
    assert start_method() == method
