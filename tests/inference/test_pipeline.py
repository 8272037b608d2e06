"""`map_files`: all cores, the same bits, in order, and no thread is left whatever happens."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from audio_samples import write_noises

from mulap.audio import AudioError
from mulap.inference.backbones import random_backbone
from mulap.inference.embed import embed_files
from mulap.inference.embedder import Embedder
from mulap.inference.mel import mel_encoder
from mulap.inference.pipeline import map_files
from mulap.inference.threads import one_torch_thread
from mulap.model.config import MulapAudioConfig

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
SECONDS = (95, 1, 7, 34, 3, 65)


@pytest.fixture(scope="module", params=["port", "original"])
def embedder(request):
    return Embedder(random_backbone(MulapAudioConfig(variant=request.param, **SMALL)))


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_noises(tmp_path_factory.mktemp("music"), SECONDS)


@pytest.fixture(params=[1, 3])
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)


def gather(_, rows):
    return np.concatenate([vectors for _, vectors in rows])


def gather_or_say_why(index, rows):
    try:
        return gather(index, rows)
    except AudioError as error:
        return error.reason


def our_threads():
    names = ("blocks", "files", "read_ahead")
    return [thread for thread in threading.enumerate() if thread.name.startswith(names)]


def one_by_one(embedder, path):
    """The vectors without any thread but this one."""
    return gather(0, embedder.stream_rows(embedder.stream_file(path)))


def test_files_have_the_bits_that_they_have_alone_for_any_number_of_threads(
    embedder, paths, num_threads
):
    for path, vectors in zip(paths, map_files(embedder, paths, gather), strict=True):
        np.testing.assert_array_equal(vectors, one_by_one(embedder, path))
        np.testing.assert_array_equal(vectors, embedder.embed_file(path).embeddings)
    assert our_threads() == []


def test_an_encoder_of_another_kind_gives_what_it_gives_file_by_file(paths, num_threads):
    encoder = mel_encoder()
    for path, vectors in zip(paths, map_files(encoder, paths, gather), strict=True):
        np.testing.assert_array_equal(
            vectors, gather(0, encoder.stream_rows(encoder.stream_file(path)))
        )
    assert our_threads() == []


@pytest.fixture
def plain():
    """As on another device: the backbone itself embeds."""
    embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))
    embedder.frozen = None
    return embedder


def test_a_backbone_that_is_not_frozen_gives_the_bits_that_a_file_has_alone(
    plain, paths, num_threads
):
    frozen = Embedder(plain.backbone)
    for path, vectors in zip(paths, map_files(plain, paths, gather), strict=True):
        with one_torch_thread():
            np.testing.assert_array_equal(vectors, one_by_one(plain, path))
        expected = frozen.embed_file(path).embeddings
        np.testing.assert_allclose(vectors, expected, rtol=1e-4, atol=1e-4)
    assert our_threads() == []


def test_a_gpu_is_fed_by_two_threads_and_all_others_read(plain, paths, num_threads, monkeypatch):
    names = {"files": set(), "blocks": set()}
    is_second_here = threading.Event()
    is_all_reading, read = threading.Barrier(num_threads), plain.stream_file

    def note():
        name = threading.current_thread().name
        names[name.partition("_")[0]].add(name)

    def watch(path):
        if path == paths[0]:
            note()
            is_all_reading.wait(timeout=20)
        return read(path)

    def embed(log_mel):
        note()
        if len(names["blocks"]) > 1:
            is_second_here.set()
        is_second_here.wait(timeout=20)
        time.sleep(0.01)  # a third one would come, too
        return log_mel[:, 0, : plain.embedding_size]

    monkeypatch.setattr(plain, "stream_file", watch)
    monkeypatch.setattr(plain, "_embed", embed)
    gpu = property(lambda backbone: torch.device("cuda"))
    monkeypatch.setattr(type(plain.backbone), "device", gpu)
    many = [paths[0]] * num_threads + paths[1:]
    assert sum(len(each) for each in map_files(plain, many, gather)) >= 31 * num_threads
    assert len(names["files"]) == num_threads
    assert len(names["blocks"]) == 2


@pytest.mark.parametrize("encoder", ["ours", "mel"])
def test_bad_files_between_good_ones_say_why_and_the_others_go_on(
    paths, encoder, tmp_path, num_threads
):
    encoder = (
        mel_encoder() if encoder == "mel" else Embedder(random_backbone(MulapAudioConfig(**SMALL)))
    )
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    nan = np.zeros(70 * 16_000, np.float32)
    nan[65 * 16_000] = np.nan  # in its third block
    sf.write(tmp_path / "nan.wav", nan, 16_000, subtype="FLOAT")
    mixed = [paths[2], tmp_path / "broken.wav", paths[3], tmp_path / "nan.wav", paths[4]]
    found = list(map_files(encoder, mixed, gather_or_say_why))
    assert [isinstance(each, str) for each in found] == [False, True, False, True, False]
    assert "not audio" in found[1]
    assert "NaN" in found[3]
    assert [len(found[index]) for index in (0, 2, 4)] == [2, 11, 1]


def test_the_reason_is_that_of_the_first_bad_block_whatever_is_read_ahead(tmp_path, num_threads):
    embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))
    samples = np.zeros(100 * 16_000, np.float32)
    samples[35 * 16_000 : 37 * 16_000 : 7] = 1e30  # gives no finite vector
    samples[95 * 16_000] = np.nan  # cannot be decoded
    sf.write(tmp_path / "bad.wav", samples, 16_000, subtype="FLOAT")
    (reason,) = map_files(embedder, [tmp_path / "bad.wav"], gather_or_say_why)
    assert "no finite embedding near 30 s" in reason


def test_segments_are_counted_as_they_are_read(embedder, paths, num_threads):
    lock, counted = threading.Lock(), []

    def count(num_segments):
        with lock:
            counted.append(num_segments)

    rows = list(map_files(embedder, paths, gather, "track", count))
    assert [len(each) for each in rows] == [1] * len(paths)
    assert sum(counted) == sum(len(one_by_one(embedder, path)) for path in paths)


def test_who_stops_early_leaves_no_thread_and_reads_no_more(embedder, paths, num_threads):
    results = map_files(embedder, paths * 20, gather)
    next(results)
    results.close()
    assert our_threads() == []
    assert torch.get_num_threads() == num_threads


def test_an_error_of_the_work_stops_all_files_at_once(embedder, paths, num_threads):
    begun = []

    def work(index, rows):
        begun.append(index)
        if index == 2:
            raise OSError("the disk is full")
        return gather(index, rows)

    with pytest.raises(OSError, match="the disk is full"):
        list(map_files(embedder, paths * 20, work))
    assert len(begun) < 20
    assert our_threads() == []


def test_after_an_error_no_file_begins_behind_one_that_was_cancelled(
    embedder, paths, num_threads, monkeypatch
):
    """It would wait for ever for the cancelled one's turn, where turns are taken."""
    begun, is_cancelling, cancel = [], threading.Event(), Future.cancel

    def cancel_slowly(future):
        is_cancelled = cancel(future)
        if is_cancelled and not is_cancelling.is_set():
            is_cancelling.set()
            time.sleep(0.3)  # the other files end meanwhile, and their threads look for more
        return is_cancelled

    def work(index, rows):
        begun.append(index)
        if index == 0:
            raise OSError("the disk is full")
        is_cancelling.wait()
        return gather(index, rows)

    monkeypatch.setattr(Future, "cancel", cancel_slowly)
    with pytest.raises(OSError, match="the disk is full"):
        list(map_files(embedder, [paths[1]] * 12, work))
    assert is_cancelling.is_set()
    assert sorted(begun) == list(range(len(begun)))


def test_a_long_file_holds_no_more_blocks_than_a_short_one(embedder, tmp_path, num_threads):
    sf.write(tmp_path / "long.wav", np.zeros(900 * 16_000, np.int16), 16_000)
    num_read = num_done = most_ahead = 0
    stream_file, embed = embedder.stream_file, embedder._embed

    def read(path):
        nonlocal num_read, most_ahead
        for log_mels in stream_file(path):
            num_read += 1
            most_ahead = max(most_ahead, num_read - num_done)
            yield log_mels

    def count(log_mel):
        nonlocal num_done
        vectors = embed(log_mel)
        num_done += 1
        return vectors

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedder, "stream_file", read)
        patch.setattr(embedder, "_embed", count)
        (vectors,) = map_files(embedder, [tmp_path / "long.wav"], gather)
    assert len(vectors) >= 299
    assert most_ahead <= 2 * num_threads + 2


def test_lines_are_printed_in_the_order_of_files(paths, num_threads, capsys, tmp_path):
    embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))
    (paths[0].parent / "3x.wav").write_bytes(b"not audio")
    report = embed_files([paths[0].parent], embedder, "-")
    (paths[0].parent / "3x.wav").unlink()
    assert [os.path.basename(file) for file, _ in report.failures] == ["3x.wav"]
    lines = capsys.readouterr().out.splitlines()
    files = [line.partition(".wav")[0][-1] for line in lines]
    assert files == sorted(files)
    assert set(files) == set("012345")


STOPPED = """
import os, sys, time
sys.path[:0] = {tests!r}
import torch
from pathlib import Path
from test_pipeline import SMALL, Embedder, MulapAudioConfig, embed_files, random_backbone
torch.set_num_threads(3)
embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))
embed = embedder._embed
def told(log_mel):
    os.write(1, b"at work\\n")
    time.sleep(0.1)
    return embed(log_mel)
embedder._embed = told
embed_files(["music"], embedder, "out.parquet")
"""


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_that_then_goes_on_to_the_same_table(
    paths, sent, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    for index in range(24):  # copies: of links only one would be taken
        shutil.copy(paths[2], tmp_path / "music" / f"{index:02}.wav")
    here = Path(__file__).parent
    code = STOPPED.format(tests=[str(here), str(here.parent)])
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    for _ in range(8):
        assert run.stdout.readline() == b"at work\n"
    run.send_signal(sent)
    run.communicate(timeout=300)  # it ends by itself, and soon
    assert run.returncode != 0
    embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))
    embed_files(["music"], embedder, "out.parquet", skip_existing=True)
    embed_files(["music"], embedder, "straight.parquet")
    assert open("out.parquet", "rb").read() == open("straight.parquet", "rb").read()
