"""A full disk and a read-only folder: one line that says what and where, and nothing lost.

The disk is a small tmpfs, filled but for a random rest. Where none may be mounted, a limit on the
size of a file stands in: the error has another number then, all else is the same.
"""

import json
import random
import re

import pytest
from hostile.disks import Disk, small_disk
from hostile.jobs import JOBS
from hostile.kit import check_failed_in_a_line, rounds, wait_for_orphans

pytestmark = pytest.mark.slow

# What a line tells to do.
REMEDIES = re.compile("free|room|space|writ|another|rights", re.IGNORECASE)


@pytest.fixture(scope="module", params=JOBS)
def job(request):
    return JOBS[request.param]


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        yield disk


@pytest.fixture(scope="module")
def undisturbed(template, job, tmp_path_factory):
    """What the job leaves, and the sizes of its files."""
    folder = job.prepare(tmp_path_factory.mktemp(job.name) / "run")
    ended = job.start(template, folder).wait()
    assert ended.code in (0, 3), ended.err
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return ended, job.results(folder), sizes


@rounds(1)
def test_a_full_disk_is_a_line_and_with_room_again_the_result_is_the_same(
    template, job, undisturbed, disk: Disk | None, tmp_path, seed
):
    whole, results, sizes = undisturbed
    rng = random.Random(f"{job.name} {seed}")
    folder = job.prepare((disk.path if disk else tmp_path) / "work")
    limits = {}
    if disk:
        disk.leave(rng.choice((0, rng.randrange(sum(sizes)), rng.randrange(2**16))))
    else:
        limits = {"max_file_bytes": rng.randrange(max(sizes))}
    child = job.start(template, folder, **limits)
    ended = child.wait()
    wait_for_orphans(child)
    if ended.code != whole.code:
        line = check_failed_in_a_line(ended)
        # "Free some space": torch's own words for a write that failed say nothing of the disk.
        assert re.search("No space left|File too large|do not fit|free some space", line, re.I), (
            line
        )
        assert REMEDIES.search(line), line
        assert any(word in line for word in ("out", "run", "cache")), f"where? {line}"
        # Two processes that find the disk full at once may disturb each other's tidying up.
        litter = [*folder.rglob(".*.partial*"), *folder.rglob(".*.new")]
        assert not litter or job.name == "prepare", litter
    if disk:
        disk.free()
    ended = job.start(template, folder).wait()
    assert ended.code == whole.code, ended.err
    assert job.results(folder) == results


def test_a_read_only_folder_is_a_line(template, job, disk: Disk | None, tmp_path):
    if disk:
        folder = job.prepare(disk.path / "closed")
        disk.set_writable(False)
        argv = job.argv
    else:  # what lies below a plain file can never be written, by root neither
        folder = job.prepare(tmp_path / "closed")
        (folder / "file").touch()
        closed = {"out.parquet", "out", "cache", "run"}
        argv = [f"file/{each}" if each in closed else each for each in job.argv]
    try:
        ended = template.mulap(*argv, cwd=folder).wait()
    finally:
        if disk:
            disk.set_writable(True)
    line = check_failed_in_a_line(ended)
    assert re.search("Read-only file system|Not a directory|File exists", line), line
    assert REMEDIES.search(line), line
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        {"in"} | ({"file"} if not disk else set())
    )


def test_an_earlier_output_outlives_a_full_disk(template, disk: Disk | None, tmp_path):
    job = JOBS["embed"]
    folder = job.prepare((disk.path if disk else tmp_path) / "earlier")
    argv = [each for each in job.argv if each != "--skip-existing"]
    assert template.mulap(*argv, cwd=folder).wait().code == 3
    before = (folder / "out.parquet").read_bytes()
    if disk:
        disk.leave(2**14)
    limits = {} if disk else {"max_file_bytes": 2**10}
    ended = template.mulap(*argv, "--force", cwd=folder, **limits).wait()
    check_failed_in_a_line(ended, "out.parquet")
    assert (folder / "out.parquet").read_bytes() == before


def test_a_library_on_a_read_only_disk_answers_and_is_not_written(
    template, disk: Disk | None, tmp_path
):
    if not disk:
        pytest.skip("no disk can be mounted here")
    job = JOBS["index"]
    folder = job.prepare(disk.path / "library")
    assert job.start(template, folder).wait().code == 0
    disk.set_writable(False)
    try:
        ended = template.mulap("info", "out", "--json", cwd=folder).wait()
        assert json.loads(ended.out)["tracks"] == 8
        check_failed_in_a_line(job.start(template, folder).wait(), "out", "Read-only file system")
        assert job.results(folder)
    finally:
        disk.set_writable(True)
