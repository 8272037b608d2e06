"""Files in processes: the same rows in order, and no process is left whatever happens."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile as sf
import torch
from audio_samples import write_noises

from mulap.audio import AudioError
from mulap.inference import forks
from mulap.inference.backbones import random_backbone
from mulap.inference.embed import embed_files
from mulap.inference.embedder import Embedder
from mulap.inference.forks import count_processes
from mulap.inference.pipeline import map_files
from mulap.model.config import MulapAudioConfig

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="forks are for Linux")
SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
SECONDS = (65, 1, 7, 34, 3, 4)


@pytest.fixture(scope="module")
def embedder():
    return Embedder(random_backbone(MulapAudioConfig(**SMALL)))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_noises(tmp_path_factory.mktemp("music"), SECONDS)


@pytest.fixture(autouse=True)
def two_processes(monkeypatch):
    monkeypatch.setattr(forks, "LEAST_CORES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)
    assert multiprocessing.active_children() == []


def gather_with_place(index, rows):
    assert multiprocessing.active_children()
    starts, vectors = zip(*rows, strict=True)
    return index, np.concatenate(starts), np.concatenate(vectors)


@pytest.mark.parametrize("level", ["segment", "track"])
def test_rows_are_those_of_a_file_alone_to_the_bit_and_in_order(embedder, paths, level):
    many, counted = paths * 4, []  # more than are taken ahead
    found = list(map_files(embedder, many, gather_with_place, level, counted.append))
    assert [index for index, *_ in found] == list(range(len(many)))
    for path, (_, starts, vectors) in zip(many, found, strict=True):
        alone = embedder.embed_file(path, level)
        np.testing.assert_array_equal(vectors, alone.embeddings)
        np.testing.assert_array_equal(starts, alone.start_seconds)
    assert sum(counted) == sum(len(vectors) for *_, vectors in found)


def test_processes_are_for_many_cores_and_files(monkeypatch):
    assert [count_processes(num_files) for num_files in (0, 1, 2, 99)] == [1, 1, 2, 2]
    monkeypatch.setattr(forks, "LEAST_CORES", 4)
    assert count_processes(99) == 1
    monkeypatch.setattr(forks, "LEAST_CORES", 2)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert count_processes(99) == 1


def test_a_table_has_the_same_bytes_and_what_cannot_be_used_is_listed(
    embedder, paths, tmp_path, monkeypatch
):
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")
    sf.write(tmp_path / "nan.wav", np.full(16_000 * 4, np.nan), 16_000, subtype="FLOAT")
    mixed = [paths[0], tmp_path / "broken.wav", *paths[1:], tmp_path / "nan.wav"]
    reports = []
    for least, name in ((2, "processes"), (99, "threads")):
        monkeypatch.setattr(forks, "LEAST_CORES", least)
        reports.append(embed_files(mixed, embedder, tmp_path / f"{name}.parquet"))
    assert reports[0].failures == reports[1].failures
    assert len(reports[0].failures) == 2
    assert (tmp_path / "processes.parquet").read_bytes() == (
        tmp_path / "threads.parquet"
    ).read_bytes()


def test_results_that_nobody_wants_any_more_end_the_processes(embedder, paths):
    results = map_files(embedder, paths * 20, gather_with_place)
    assert next(results)[0] == 0
    results.close()
    assert multiprocessing.active_children() == []


def test_what_the_work_raises_is_raised_and_ends_the_processes(embedder, paths):
    def work(index, rows):
        if index == 3:
            raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        list(map_files(embedder, paths * 20, work))


def test_an_error_of_a_process_that_is_not_a_file_s_is_raised(paths):
    embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))

    def fail(path):
        raise MemoryError("too large")

    embedder.stream_file = fail
    with pytest.raises(MemoryError, match="too large"):
        list(map_files(embedder, paths, gather_with_place))


def test_a_process_that_dies_is_one_line(embedder, paths):
    def work(index, rows):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    with pytest.raises(ValueError, match="a process died while embedding, .*--skip-existing"):
        list(map_files(embedder, paths * 40, work))


def test_an_error_in_reading_rows_reaches_the_work_as_an_audio_error(embedder, paths, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"RIFF of nothing")

    def work(_, rows):
        try:
            return len(list(rows))
        except AudioError as error:
            return error.path

    found = list(map_files(embedder, [tmp_path / "broken.wav", paths[1]], work))
    assert found == [tmp_path / "broken.wav", 1]


ENDLESS = """
import multiprocessing, sys, torch
from pathlib import Path
from mulap.cli.group import main
from mulap.inference import forks
from mulap.inference.backbones import random_backbone
from mulap.inference.embedder import Embedder
from mulap.inference.pipeline import map_files
from mulap.model.config import MulapAudioConfig
forks.LEAST_CORES = 2
torch.set_num_threads(2)
sizes = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
embedder = Embedder(random_backbone(MulapAudioConfig(**sizes)))


def work(index, rows):
    if index == 0:
        print(*(child.pid for child in multiprocessing.active_children()), flush=True)


try:
    for _ in map_files(embedder, [Path(sys.argv[1])] * 1_000_000, work):
        pass
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_processes_end_with_the_one_that_was_ended(paths, number):
    command = [sys.executable, "-c", ENDLESS, paths[1]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, start_new_session=True, **pipes) as parent:
        assert parent.stdout is not None
        children = [int(pid) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        if number == signal.SIGINT:  # as a terminal sends it, to all
            os.killpg(parent.pid, number)
        else:
            parent.send_signal(number)
        out, err = parent.communicate(timeout=120)
    until = time.monotonic() + 60
    while any(os.path.exists(f"/proc/{pid}") for pid in children):
        assert time.monotonic() < until, "a process outlived its parent"
        time.sleep(0.05)
    if number == signal.SIGINT:
        assert out == "interrupted\n"
        assert parent.returncode == 0
    assert "Traceback" not in err, err
