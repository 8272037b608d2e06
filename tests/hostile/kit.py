"""What the hostile tests share: rounds with seeds, commands that can be killed, folders compared.

    make hostile              50 rounds of everything
    make hostile SEED=17      the one round of that seed
    make test                 a few rounds

A round is a pure function of its seed, but for the moment of a kill by the clock. The seed is in
the test's name, so a failure says how to run it alone.
"""

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

NUM_ROUNDS = int(os.environ.get("MULAP_HOSTILE_ROUNDS", "0"))
"""Of a campaign; 0 for the few of `make test`."""

IS_CAMPAIGN = NUM_ROUNDS > 10
MIB = 2**20
# What is waited for at most; far beyond what anything here takes, also on a busy machine.
PATIENCE_SECONDS = 300.0


def rounds(num_rounds: int) -> pytest.MarkDecorator:
    """Run a test with `seed` for each round: 0, 1, ..., or `MULAP_HOSTILE_SEED` alone.

    Args:
        num_rounds: in `make test`.
    """
    alone = os.environ.get("MULAP_HOSTILE_SEED")
    seeds = [int(alone)] if alone else range(NUM_ROUNDS or num_rounds)
    return pytest.mark.parametrize("seed", seeds, ids="seed{}".format)


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Attributes:
        code: exit status, or minus the number of the signal.
        out: its standard output.
        err: its standard error.
        peak_bytes: most memory that it held at once.
    """

    code: int
    out: str
    err: str
    peak_bytes: int


class Child:
    """A running child of the template, in a session of its own."""

    def __init__(self, template: "Template", pid: int, out: Path, err: Path) -> None:
        self.template, self.pid, self.out, self.err = template, pid, out, err

    def kill(self, number: int) -> None:
        """Send a signal; to one that has ended it does nothing."""
        os.kill(self.pid, number)

    def wait(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Wait for its end; one that does not end is killed, and that is a failure."""
        reply = self.template.ask({"wait": self.pid, "seconds": seconds})
        if reply["code"] is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.template.ask({"wait": self.pid, "seconds": 60})
            pytest.fail(f"hangs: still running after {seconds:.0f} s\n{self.err.read_text()}")
        texts = (path.read_text(errors="replace") for path in (self.out, self.err))
        return Ended(reply["code"], *texts, reply["peak_bytes"])


class Template:
    """The process that forks children, see `hostile.template`."""

    def __init__(self) -> None:
        root = Path(__file__).parents[2]
        paths = os.pathsep.join([str(root), str(root / "tests")])
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
        environment |= {"HF_HUB_OFFLINE": "1", "COLUMNS": "500"}
        self._folder = tempfile.TemporaryDirectory(prefix="mulap-hostile-")
        self._num_children = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "hostile.template"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._read() == {"ready": True}

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return self._read()

    def start(self, function: str, *arguments: Any, cwd: Path) -> Child:
        """Fork a child that calls `module:function` in a folder."""
        self._num_children += 1
        stem = Path(self._folder.name) / str(self._num_children)
        out, err = stem.with_suffix(".out"), stem.with_suffix(".err")
        for path in (out, err):
            path.touch()  # a child that is killed at once makes none
        request = {"start": function, "arguments": arguments, "cwd": os.path.realpath(cwd)}
        reply = self.ask(request | {"out": str(out), "err": str(err)})
        return Child(self, reply["pid"], out, err)

    def mulap(self, *argv: object, cwd: Path, **hostility: Any) -> Child:
        """Start a `mulap` command; see `hostile.workers.run_cli`."""
        return self.start("hostile.workers:run_cli", list(map(str, argv)), hostility, cwd=cwd)

    def close(self) -> None:
        """End it, and all that it started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._folder.cleanup()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the template has died"
        return json.loads(line)


def check_failed_in_a_line(ended: Ended, *parts: str) -> str:
    """Assert exit code 1 and one line that says why; return it."""
    assert ended.code == 1, ended
    lines = [line for line in ended.err.splitlines() if line]
    assert "Traceback" not in ended.err, ended.err
    assert lines, ended
    assert lines[-1].startswith("Error: "), ended.err
    assert sum(line.startswith("Error: ") for line in lines) == 1, ended.err
    for part in parts:
        assert part in lines[-1], f"{part!r} is not in: {lines[-1]}"
    return lines[-1]


def contents(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file below a folder, by relative path; of links where to."""
    found = {}
    for root, folders, names in os.walk(folder):
        for name in [*names, *(each for each in folders if (Path(root) / each).is_symlink())]:
            path = Path(root) / name
            key = path.relative_to(folder).as_posix()
            is_link = path.is_symlink()
            found[key] = (
                os.readlink(path) if is_link else hashlib.sha256(path.read_bytes()).hexdigest()
            )
    return found


def session_members(session: int) -> list[str]:
    """Return the commands of the processes that belong to a session, zombies left out."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # it ended
            continue
        name, _, rest = text.rpartition(")")
        state, _, _, member_of = rest.split()[:4]
        if int(member_of) == session and state != "Z":
            found.append(name)
    return found


def wait_for_orphans(child: Child, seconds: float = 60.0) -> None:
    """Assert that what a killed process had started ends too."""
    until = time.monotonic() + seconds
    while left := session_members(child.pid):
        if time.monotonic() > until:
            os.killpg(child.pid, signal.SIGKILL)
            pytest.fail(f"outlived the command that was killed: {left}")
        time.sleep(0.02)
