"""SIGKILL, SIGTERM and SIGINT at any moment, once or several times: then the rerun is as one that
nobody disturbed, to the byte, and leaves no litter.

A round ends a command either by the clock or before it touches a file for the N-th time, which the
seed repeats exactly. Moments reach from the start to beyond the end.
"""

import random
import shutil
import signal
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest
from hostile.jobs import JOBS, Job
from hostile.kit import Child, Ended, Template, rounds, wait_for_orphans

pytestmark = pytest.mark.slow

SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Undisturbed(NamedTuple):
    """A run that nobody disturbed; `num_events` times it touched a file."""

    code: int
    out: str
    results: dict[str, str]
    seconds: float
    num_events: int


@cache
def _undisturbed(template: Template, job: Job, folder: Path) -> Undisturbed:
    job.prepare(folder)
    events = folder.parent / "events.txt"
    started = time.monotonic()
    ended = job.start(template, folder, count=str(events)).wait()
    seconds = time.monotonic() - started
    assert ended.code in (0, 3), ended.err
    return Undisturbed(ended.code, ended.out, job.results(folder), seconds, int(events.read_text()))


@pytest.fixture(scope="module", params=JOBS)
def job(request):
    return JOBS[request.param]


@pytest.fixture(scope="module")
def undisturbed(template, job, tmp_path_factory):
    return _undisturbed(template, job, tmp_path_factory.mktemp(job.name) / "run")


def _disturb(
    template: Template, job: Job, folder: Path, rng: random.Random, whole: Undisturbed
) -> tuple[Child, Ended, int]:
    """Run a command and end it somewhere; return the signal as well."""
    number = rng.choice(SIGNALS)
    if rng.random() < 0.5:
        event = rng.randint(1, whole.num_events)
        child = job.start(template, folder, event=event, signal=number)
        return child, child.wait(), number
    child = job.start(template, folder)
    time.sleep(rng.uniform(0.0, 1.1 * whole.seconds))
    child.kill(number)
    return child, child.wait(), number


def _check_end(ended: Ended, number: int, whole: Undisturbed) -> None:
    """It was not hit and ended well, or it ended as its signal says, without a traceback."""
    if ended.code == whole.code:
        return
    if number == signal.SIGINT:
        assert ended.code == 128 + number, ended
    else:
        assert ended.code in (-number, 128 + number), ended
    assert "Traceback" not in ended.err, ended.err


@rounds(2)
def test_a_command_that_was_ended_at_any_moment_goes_on_as_if_nothing_had_been(
    template, job, undisturbed, tmp_path, seed
):
    rng = random.Random(f"{job.name} {seed}")
    folder = job.prepare(tmp_path / "run")
    done: set[str] = set()
    for _ in range(rng.choice((1, 1, 2, 3))):
        child, ended, number = _disturb(template, job, folder, rng, undisturbed)
        _check_end(ended, number, undisturbed)
        wait_for_orphans(child)
        is_whole = ended.code == undisturbed.code
        assert is_whole or done <= job.done(folder), "what was done is lost"
        done = job.done(folder)
    ended = job.start(template, folder).wait()
    assert ended.code == undisturbed.code, ended.err
    assert "Traceback" not in ended.err
    results = job.results(folder)
    assert results.keys() == undisturbed.results.keys()
    differ = [name for name in results if results[name] != undisturbed.results[name]]
    assert not differ, {name: (results[name], undisturbed.results[name]) for name in differ}
    assert ended.out == undisturbed.out
    shutil.rmtree(tmp_path)


def test_a_run_that_goes_on_loads_no_pickle_that_could_do_anything(template, tmp_path):
    """What the optimiser's state is read by takes numbers and plain containers only."""
    job, pickles = JOBS["pretrain"], tmp_path / "pickles.txt"
    folder = job.prepare(tmp_path / "run")
    first = job.start(template, folder, "--set", "training.num_epochs=1").wait()
    assert first.code == 0, first.err
    for path in (folder / "run").glob("*.yaml"):  # as if it had been stopped after an epoch
        path.write_text(path.read_text().replace("num_epochs: 1", "num_epochs: 2"))
    ended = job.start(template, folder, pickles=str(pickles)).wait()
    assert ended.code == 0, ended.err
    assert "going on from checkpoint-2" in ended.err
    assert not pickles.exists(), pickles.read_text()
