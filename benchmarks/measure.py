"""Contestants, timed in turn and again: medians, their spread, ratios within a round.

    round 0   A B C        every contestant is a process of its own, made before the first round,
    round 1   B C A        and has run a little to warm up
    round 2   C A B

Figures are medians over the rounds, with the least and the greatest in brackets: there are too few
rounds for more. Which contestants there are, and what they do, this file does not know.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from benchmarks import ENVIRONMENT
from benchmarks.worker import make_run, time_run

ROOT = Path(__file__).resolve().parent.parent
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "TF_NUM_INTRAOP_THREADS",
)


@dataclass(frozen=True)
class Contestant:
    """One way to do something.

    Attributes:
        name: as its row is called.
        target: `MODULE:FUNCTION` that makes what is timed, see `benchmarks.worker`.
        arguments: of that function; JSON.
        amount: how much of the table's unit of work one run does.
        python: another interpreter, of another environment.
        remedy: what to do where that interpreter is missing.
    """

    name: str
    target: str
    arguments: dict[str, Any] = field(default_factory=dict)
    amount: float = 1.0
    python: Path | None = None
    remedy: str = ""


@dataclass(frozen=True)
class Conditions:
    """How everything is run.

    Attributes:
        rounds: of every table that does not ask for fewer.
        threads: that a contestant may use.
        in_process: run contestants in this process, which is quick and measures nothing well.
    """

    rounds: int = 5
    threads: int = 2
    in_process: bool = False


@dataclass(frozen=True)
class Spread:
    """A median, and the least and greatest of all rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Summarise values, at least one."""
        ordered = sorted(values)
        return cls(statistics.median(ordered), ordered[0], ordered[-1])

    def scaled(self, factor: float) -> Spread:
        """Return all three times a positive factor."""
        return Spread(self.median * factor, self.low * factor, self.high * factor)

    def format(self, unit: str = "") -> str:
        """Write as `12.3 (11.9 to 13.0)`, three digits each."""
        if self.low == self.high:
            return digits(self.median) + unit
        return f"{digits(self.median)}{unit} ({digits(self.low)} to {digits(self.high)})"


def digits(number: float) -> str:
    """Write a number with three digits, more if it is whole thousands."""
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:#.3g}".rstrip(".")  # of 99.97: 100


@dataclass
class Outcome:
    """What came of a contestant.

    Attributes:
        contestant: whose.
        seconds: of each round.
        peak_mib: the most memory its process held.
        results: what each run returned.
        missing: why there is nothing; empty otherwise.
    """

    contestant: Contestant
    seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    results: list[Any] = field(default_factory=list)
    missing: str = ""

    @property
    def rates(self) -> list[float]:
        """Work a second, of each round."""
        return [self.contestant.amount / seconds for seconds in self.seconds]

    def rate(self) -> Spread:
        """Work a second."""
        return Spread.of(self.rates)

    def milliseconds(self, per: float = 1.0) -> Spread:
        """Milliseconds of a run, or of the `per`-th part of it."""
        return Spread.of(1e3 * seconds / per for seconds in self.seconds)

    def times(self, other: Outcome) -> Spread:
        """How many times the other's rate this one has, round by round."""
        pairs = zip(self.rates, other.rates, strict=True)
        return Spread.of(mine / theirs for mine, theirs in pairs)


class Failed(RuntimeError):
    """A contestant ended before it answered."""


class _Worker:
    """A contestant in a process of its own."""

    def __init__(self, contestant: Contestant, threads: int, stack: ExitStack) -> None:
        self.name = contestant.name
        self.errors: IO[str] = stack.enter_context(tempfile.TemporaryFile("w+", encoding="utf-8"))
        environment = ENVIRONMENT | dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
        self.process = subprocess.Popen(
            [
                os.fspath(contestant.python or sys.executable),
                "-m",
                "benchmarks.worker",
                contestant.target,
                json.dumps(contestant.arguments),
            ],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
        )
        stack.callback(self._end)

    def wait(self) -> None:
        """Wait until it is made and has warmed up."""
        self._answer()

    def __call__(self) -> dict[str, Any]:
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            last = self.errors.read().strip().splitlines()[-1:]
            raise Failed(f"{self.name}: {''.join(last) or 'it ended without a word'}")
        return json.loads(line)

    def _end(self) -> None:
        assert self.process.stdin is not None
        try:
            self.process.stdin.close()
        except BrokenPipeError:  # it has ended already
            pass
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def race(
    contestants: Sequence[Contestant], conditions: Conditions, rounds: int | None = None
) -> dict[str, Outcome]:
    """Time contestants in turn.

    Args:
        contestants: with different names.
        conditions: how they are run.
        rounds: instead of the conditions', where those are more.

    Returns:
        What came of each, by name. One that cannot be run says why.

    Raises:
        Failed: one of them ended early.
    """
    rounds = min(rounds or conditions.rounds, conditions.rounds)
    outcomes = {each.name: Outcome(each) for each in contestants}
    with ExitStack() as stack:
        runs: dict[str, Callable[[], dict[str, Any]]] = {}
        for each in contestants:
            if each.python is not None and conditions.in_process:
                outcomes[each.name].missing = "it needs a process of its own"
            elif each.python is not None and not each.python.exists():
                outcomes[each.name].missing = each.remedy
            elif conditions.in_process:
                made = make_run(each.target, each.arguments)
                runs[each.name] = lambda made=made: time_run(made)
            else:
                runs[each.name] = _Worker(each, conditions.threads, stack)
        for run in runs.values():  # all begin at once; nothing is timed yet
            if isinstance(run, _Worker):
                run.wait()
        names = list(runs)
        for index in range(rounds):
            shift = index % max(1, len(names))
            for name in names[shift:] + names[:shift]:
                answer = runs[name]()
                outcomes[name].seconds.append(answer["seconds"])
                outcomes[name].results.append(answer["result"])
                outcomes[name].peak_mib = answer["peak_mib"]
    return outcomes
