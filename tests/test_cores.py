"""The number of usable cores and the way to start processes, on any system."""

import os
import subprocess
import sys

import pytest

from mulap import cores
from mulap.cores import num_threads, start_method, usable_cores


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_process_counts_the_cores_that_it_is_allowed():
    core = min(os.sched_getaffinity(0))
    allowed = f"import os; os.sched_setaffinity(0, {{{core}}})"
    count = "from mulap.cores import usable_cores; print(usable_cores())"
    done = subprocess.run(
        [sys.executable, "-c", f"{allowed}\n{count}"], capture_output=True, text=True, check=True
    )
    assert done.stdout == "1\n"


def test_a_container_s_share_of_time_counts_in_whole_cores(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(cores, "_CPU_LIMIT", tmp_path / "cpu.max")
    for text, expected in [
        ("max 100000", 8),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("2000000 100000", 8),
    ]:
        (tmp_path / "cpu.max").write_text(text)
        assert usable_cores() == num_threads() == expected
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert num_threads() == 3
    (tmp_path / "cpu.max").write_text("200000 100000")
    assert num_threads() == 2


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_gentle_process_takes_half_of_the_cores_and_waits_for_others():
    program = """if True:
        import os
        from mulap.cores import be_gentle, usable_cores
        before = usable_cores()
        be_gentle()
        print(before, usable_cores(), os.environ["OMP_NUM_THREADS"], os.nice(0))
    """
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    before, after, num_threads, nice = map(int, done.stdout.split())
    assert after == (before + 1) // 2
    assert num_threads <= after
    assert nice == 19


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
    monkeypatch.delitem(sys.modules, "lancedb", raising=False)
    assert start_method() == method


_BESIDE_LANCEDB = """
import os, sys
from mulap.pools import run_tasks
if __name__ == "__main__":
    import lancedb
    lancedb.connect(sys.argv[1]).create_table("t", [{"x": 1}])  # its threads run
    os.register_at_fork(before=lambda: print("forked"))
    print(sum(run_tasks(abs, [-1, -2, -3], 2)))
"""


def test_no_process_is_forked_where_lancedb_has_threads(tmp_path):
    (tmp_path / "program.py").write_text(_BESIDE_LANCEDB)
    asked = [sys.executable, tmp_path / "program.py", tmp_path / "tables"]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=120, check=True)
    assert (done.stdout, done.stderr) == ("6\n", "")
