"""Code in processes of its own, which are killed in the middle of it."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from hostile.kit import PATIENCE_SECONDS, Child, Ended

ROOT = Path(__file__).resolve().parents[1]


class Launched:
    """A script under `torchrun`, in two processes; `run` is the folder that it trains in."""

    def __init__(self, script: str, folder: Path, *arguments: object) -> None:
        self.stderr = folder / "stderr.txt"
        (folder / "run.py").write_text(script)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", folder / "run.py", *arguments]
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        with open(self.stderr, "a") as stderr:
            self._process = subprocess.Popen(
                list(map(str, command)),
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
                stderr=stderr,
            )
        self.pid = self._process.pid

    def wait(self) -> Ended:
        code = self._process.wait(PATIENCE_SECONDS)
        return Ended(code, "", self.stderr.read_text()[-3000:], 0)


def run_code(code: str, *arguments: str) -> None:
    """Run a script with these as `sys.argv[1:]`; a child of the template is asked to call this."""
    sys.argv[1:] = arguments
    exec(compile(code, "script", "exec"), {"__name__": "__main__"})


def descendants(process_id: int) -> list[int]:
    """Return a process and all below it. (The launcher's workers have sessions of their own.)"""
    found = [process_id]
    for task in Path(f"/proc/{process_id}/task").glob("*/children"):
        for child in task.read_text().split():
            found += descendants(int(child))
    return found


def is_running(process_id: int) -> bool:
    """Whether it has not ended; one that nobody has waited for yet is still listed."""
    try:
        stat = Path(f"/proc/{process_id}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def kill_in_training(process: Launched | Child, run: Path) -> None:
    """Wait for a first whole checkpoint and a little longer, then kill -9 all processes."""
    while not list(run.glob("checkpoint-*/complete")):
        assert is_running(process.pid), f"ended before its first checkpoint: {process.wait().err}"
        time.sleep(0.01)
    # At any moment: of a step, or of the writing of a checkpoint.
    time.sleep(random.Random(time.time_ns()).uniform(0.0, 0.4))
    for process_id in descendants(process.pid):
        with suppress(ProcessLookupError):  # it went with another one
            os.kill(process_id, signal.SIGKILL)
    assert process.wait().code == -signal.SIGKILL, "ended before it was killed"
