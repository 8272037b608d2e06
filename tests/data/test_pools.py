"""Processes of a pool do not outlive the one that started it."""

import os
import subprocess
import sys
import time
from pathlib import Path

SCRIPT = """
import multiprocessing, os, time
from concurrent.futures import ProcessPoolExecutor
from mulap.data.pools import end_with_parent

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, context, end_with_parent) as pool:
        print(pool.submit(os.getpid).result(), flush=True)
        time.sleep(600)
"""


def test_a_process_of_a_pool_ends_when_its_parent_is_killed(tmp_path):
    (tmp_path / "lead.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    command = [sys.executable, str(tmp_path / "lead.py")]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=environment, text=True, **streams) as lead:
        member = Path("/proc") / lead.stdout.readline().strip()
        assert member.exists()
        lead.kill()
    until = time.monotonic() + 60
    while member.exists():
        assert time.monotonic() < until, "it waits for work for ever"
        time.sleep(0.05)
