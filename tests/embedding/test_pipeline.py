"""`embed_missing`: all cores, the same bits, in order, and nobody is left whatever happens."""

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from audio_samples import write_noises

from mulap import pools
from mulap.embedding import pipeline
from mulap.embedding.embed import embed_files
from mulap.embedding.pipeline import FileToEmbed, embed_missing
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.encoders.mel import mel_encoder
from mulap.fast.threads import one_torch_thread
from mulap.model.config import MulapAudioConfig
from mulap.vectors.keys import audio_key, file_version

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
SECONDS = (95, 1, 7, 34, 3, 65, 4)


def make_embedder(variant="port"):
    return Embedder(random_backbone(MulapAudioConfig(variant=variant, **SMALL)))


@pytest.fixture(scope="module", params=["port", "original"])
def embedder(request):
    return make_embedder(request.param)


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    return write_noises(tmp_path_factory.mktemp("music"), SECONDS)


@pytest.fixture(params=[1, 2, 3])
def num_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    assert torch.get_num_threads() == request.param
    torch.set_num_threads(before)
    assert nobody_is_left()


def nobody_is_left():
    names = ("blocks", "read_ahead", "files")
    threads = [each for each in threading.enumerate() if each.name.startswith(names)]
    return not threads and not multiprocessing.active_children()


class Kept:
    """What was embedded, by key."""

    def __init__(self):
        self.vectors, self.indices = {}, []

    def has(self, key):
        return key in self.vectors

    def add(self, index, embedded, blocks):
        self.indices.append(index)
        self.vectors[embedded.key] = np.concatenate(list(blocks))


def embed_all(encoder, paths, level="segment", count=int):
    """Return what became of each file, and its vectors, None where it has none."""
    kept = Kept()
    files = [FileToEmbed(path) for path in paths]
    done = list(embed_missing(encoder, files, kept.has, kept.add, level, count))
    return done, [kept.vectors.get(each.key) for each in done]


def one_by_one(encoder, path):
    """The vectors without any thread but this one."""
    rows = encoder.stream_rows(encoder.stream_file(path))
    return np.concatenate([vectors for _, vectors in rows])


def test_files_have_the_bits_that_they_have_alone_on_any_number_of_cores(
    embedder, paths, num_threads
):
    done, vectors = embed_all(embedder, paths)
    for path, embedded, found in zip(paths, done, vectors, strict=True):
        assert embedded == (file_version(path), audio_key(path), "")
        np.testing.assert_array_equal(found, one_by_one(embedder, path))
        np.testing.assert_array_equal(found, embedder.embed(path).embeddings)


def test_processes_give_the_same_bits(paths, monkeypatch):
    monkeypatch.setattr(pipeline.threading, "active_count", lambda: 2)
    monkeypatch.setattr(pipeline, "_LEAST_FILES_TO_SPAWN", 1)
    monkeypatch.setattr(pipeline, "_LEAST_CORES", 2)
    embedder, before = make_embedder(), torch.get_num_threads()
    torch.set_num_threads(2)
    _, vectors = embed_all(embedder, paths)
    torch.set_num_threads(before)
    for path, found in zip(paths, vectors, strict=True):
        np.testing.assert_array_equal(found, one_by_one(embedder, path))


def test_as_many_whole_files_as_fill_all_cores_go_side_by_side():
    def counts(num_cores):
        return [pipeline._count_whole(num_files, num_cores) for num_files in range(9)]

    assert counts(1) == [0] * 9
    assert counts(2) == [0, 0, 2, 2, 4, 4, 6, 6, 8]
    assert counts(4) == [0, 0, 0, 3, 4, 4, 4, 7, 8]


@pytest.mark.parametrize(
    ("num_cores", "num_files", "usual", "num_threads", "expected"),
    [
        (2, 99, "fork", 1, []),
        (4, 0, "fork", 1, []),
        (4, 9, "fork", 1, [(4, "fork")]),
        (4, 9, "fork", 2, []),
        (4, 99, "fork", 2, [(4, "spawn")]),
        (4, 9, "spawn", 1, []),
        (4, 99, "spawn", 1, [(4, "spawn")]),
    ],
)
def test_processes_are_for_many_cores_and_are_forked_only_by_a_program_without_other_threads(
    monkeypatch, num_cores, num_files, usual, num_threads, expected
):
    opened = []

    def open_one(num_processes, *given, method):
        opened.append((num_processes, method))
        return pools.Processes(1)

    monkeypatch.setattr(pipeline, "start_method", lambda: usual)
    monkeypatch.setattr(pipeline.threading, "active_count", lambda: num_threads)
    monkeypatch.setattr(pipeline, "Processes", open_one)
    with pipeline._side_by_side(num_cores, num_files):
        assert opened == expected


def test_files_on_few_cores_are_read_side_by_side(paths, monkeypatch):
    """Short files, of one block each, keep all cores busy."""
    both, before, read = threading.Barrier(2), torch.get_num_threads(), pipeline.look

    def wait_for_the_other(file):
        both.wait(timeout=60)  # raises if no second thread comes
        return read(file)

    monkeypatch.setattr(pipeline, "look", wait_for_the_other)
    torch.set_num_threads(2)
    done, _ = embed_all(make_embedder(), [paths[1], paths[4]])
    torch.set_num_threads(before)
    assert not any(each.reason for each in done)


def test_an_encoder_of_another_kind_gives_what_it_gives_file_by_file(paths, num_threads):
    encoder = mel_encoder()
    for path, found in zip(paths, embed_all(encoder, paths)[1], strict=True):
        np.testing.assert_array_equal(found, one_by_one(encoder, path))


@pytest.fixture
def plain():
    """As on another device: the backbone itself embeds."""
    embedder = make_embedder()
    embedder.frozen = None
    return embedder


def test_a_backbone_that_is_not_frozen_gives_the_bits_that_a_file_has_alone(
    plain, paths, num_threads
):
    frozen = Embedder(plain.backbone)
    for path, found in zip(paths, embed_all(plain, paths)[1], strict=True):
        with one_torch_thread():
            np.testing.assert_array_equal(found, one_by_one(plain, path))
        expected = frozen.embed(path).embeddings
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["ours", "plain", "mel"])
def test_bad_files_between_good_ones_say_why_and_the_others_are_embedded(
    paths, kind, plain, tmp_path, num_threads
):
    encoder = {"ours": make_embedder, "plain": lambda: plain, "mel": mel_encoder}[kind]()
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    nan = np.zeros(70 * 16_000, np.float32)
    nan[65 * 16_000] = np.nan  # in its third block
    sf.write(tmp_path / "nan.wav", nan, 16_000, subtype="FLOAT")
    names = ["broken.wav", "gone.wav", "nan.wav"]
    broken, gone, nan = (tmp_path / name for name in names)
    mixed = [paths[2], broken, gone, paths[3], nan, paths[4], broken]
    done, vectors = embed_all(encoder, mixed)
    assert [bool(each.reason) for each in done] == [False, True, True, False, True, False, True]
    assert "not audio" in done[1].reason
    assert done[6].reason == done[1].reason  # the same content, which is tried once
    assert done[2] == (
        "",
        "",
        "cannot be read: No such file or directory. Check that the path exists.",
    )
    assert "NaN" in done[4].reason
    assert [len(vectors[index]) for index in (0, 3, 5)] == [2, 11, 1]
    assert [vectors[index] for index in (1, 2, 4, 6)] == [None] * 4


def test_the_reason_is_that_of_the_first_bad_block_whatever_is_read_ahead(tmp_path, num_threads):
    samples = np.zeros(100 * 16_000, np.float32)
    samples[35 * 16_000 : 37 * 16_000 : 7] = 1e30
    samples[95 * 16_000] = np.nan  # cannot be decoded
    sf.write(tmp_path / "bad.wav", samples, 16_000, subtype="FLOAT")
    ((_, _, reason),), _ = embed_all(make_embedder(), [tmp_path / "bad.wav"])
    assert "absurd size near 3" in reason


@pytest.mark.parametrize("kind", ["ours", "plain", "mel"])
def test_the_same_audio_is_embedded_once_whatever_it_is_called(
    paths, kind, plain, tmp_path, num_threads
):
    encoder = {"ours": make_embedder, "plain": lambda: plain, "mel": mel_encoder}[kind]()
    shutil.copy(paths[2], tmp_path / "copy.wav")
    kept = Kept()
    kept.vectors[audio_key(paths[1])] = np.zeros((1, 1), np.float32)  # by an earlier run
    files = [paths[2], paths[1], paths[4], tmp_path / "copy.wav", paths[6], paths[2], paths[3]]
    done = list(embed_missing(encoder, [FileToEmbed(each) for each in files], kept.has, kept.add))
    assert kept.indices == [0, 2, 4, 6]
    assert [each.key for each in done] == [audio_key(each) for each in files]
    assert not any(each.reason for each in done)


def test_a_key_that_is_known_is_not_computed_again(paths, monkeypatch):
    monkeypatch.setattr(pipeline, "audio_key", lambda path: pytest.fail(f"{path} was read"))
    kept = Kept()
    files = [
        FileToEmbed(path, key, file_version(path))
        for path, key in [(paths[1], "k"), (paths[4], "l")]
    ]
    assert [each.key for each in embed_missing(mel_encoder(), files, kept.has, kept.add)] == [
        "k",
        "l",
    ]
    assert kept.vectors.keys() == {"k", "l"}


def test_a_known_key_counts_for_its_own_version_of_the_file_alone(paths, tmp_path):
    shutil.copy(paths[1], tmp_path / "a.wav")
    known = FileToEmbed(tmp_path / "a.wav", "k", file_version(tmp_path / "a.wav"))
    shutil.copy(paths[4], tmp_path / "a.wav")  # while the files before it were embedded
    kept = Kept()
    (done,) = embed_missing(mel_encoder(), [known], kept.has, kept.add)
    assert done == (file_version(tmp_path / "a.wav"), audio_key(paths[4]), "")
    assert kept.vectors.keys() == {audio_key(paths[4])}


@pytest.mark.parametrize("num_others", [0, 5])  # by threads, and in processes
@pytest.mark.parametrize("kind", ["ours", "mel"])
def test_a_copy_of_a_file_that_changed_meanwhile_is_embedded(
    paths, tmp_path, kind, num_others, num_threads, monkeypatch
):
    encoder = {"ours": make_embedder, "mel": mel_encoder}[kind]()
    changing, copy = tmp_path / "changing.wav", tmp_path / "copy.wav"
    shutil.copy(paths[6], changing)
    shutil.copy(paths[6], copy)
    (expected,) = embed_all(encoder, [copy])[1]
    read = type(encoder).stream_file

    def write_meanwhile(self, path):
        yield from read(self, path)
        if path == changing:
            os.utime(path, (1e9, 1e9))

    monkeypatch.setattr(type(encoder), "stream_file", write_meanwhile)
    done, vectors = embed_all(encoder, [changing, copy, *paths[:num_others]])
    assert done[0].reason.startswith("changed while it was read")
    assert not any(each.reason for each in done[1:])
    np.testing.assert_array_equal(vectors[1], expected)


@pytest.mark.parametrize("num_files", [1, 6])  # by threads, and in processes
def test_a_file_that_is_written_while_it_is_read_is_left_out(
    paths, tmp_path, num_files, num_threads
):
    embedder, changing = make_embedder(), tmp_path / "changing.wav"
    shutil.copy(paths[6], changing)
    read = embedder.stream_file

    def write_meanwhile(path):
        yield from read(path)
        if path == changing:
            shutil.copy(paths[3], path)

    embedder.stream_file = write_meanwhile
    done, vectors = embed_all(embedder, [changing, *paths[: num_files - 1]])
    assert done[0].reason == "changed while it was read. Run the same command again."
    assert vectors[0] is None
    assert not any(each.reason for each in done[1:])


@pytest.mark.parametrize("kind", ["ours", "plain", "mel"])
def test_segments_are_counted(kind, plain, paths, num_threads):
    encoder = {"ours": make_embedder, "plain": lambda: plain, "mel": mel_encoder}[kind]()
    counted = []
    _, vectors = embed_all(encoder, paths, "track", counted.append)
    assert [len(each) for each in vectors] == [1] * len(paths)
    assert sum(counted) == sum(len(one_by_one(encoder, path)) for path in paths)


def test_who_stops_early_leaves_nobody_at_work(embedder, paths, num_threads):
    kept = Kept()
    results = embed_missing(
        embedder, [FileToEmbed(each) for each in paths * 20], kept.has, kept.add
    )
    next(results)
    results.close()
    assert nobody_is_left()
    assert torch.get_num_threads() == num_threads


def test_an_error_of_who_takes_the_vectors_stops_all_at_once(embedder, paths, num_threads):
    begun = []

    def add(index, embedded, blocks):
        begun.append(index)
        if index == 2:
            raise OSError("the disk is full")

    files = [FileToEmbed(each) for each in paths * 20]
    with pytest.raises(OSError, match="the disk is full"):
        list(embed_missing(embedder, files, lambda key: False, add))
    assert begun == [0, 1, 2]


def test_an_error_that_is_not_a_file_s_is_raised(paths, num_threads):
    embedder = make_embedder()

    def fail(path):
        raise MemoryError("too large")

    embedder.stream_file = fail
    with pytest.raises(MemoryError, match="too large"):
        embed_all(embedder, paths)


def test_a_process_that_dies_is_one_line(embedder, paths, monkeypatch):
    monkeypatch.setattr(pipeline.threading, "active_count", lambda: 2)
    monkeypatch.setattr(pipeline, "_LEAST_CORES", 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)

    def add(index, embedded, blocks):
        for child in multiprocessing.active_children():
            os.kill(child.pid, signal.SIGKILL)

    files = [
        FileToEmbed(each, f"{number}", file_version(each)) for number, each in enumerate(paths * 40)
    ]
    with pytest.raises(ValueError, match="a worker process died.*Run the same command") as caught:
        list(embed_missing(embedder, files, lambda key: False, add))
    torch.set_num_threads(before)
    assert "\n" not in str(caught.value)


def test_a_long_file_holds_no_more_blocks_than_a_short_one(embedder, tmp_path, num_threads):
    sf.write(tmp_path / "long.wav", np.zeros(900 * 16_000, np.int16), 16_000)
    num_read = num_done = most_ahead = 0
    stream_file, embed = embedder.stream_file, embedder.embed_input

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
        patch.setattr(embedder, "embed_input", count)
        _, (vectors,) = embed_all(embedder, [tmp_path / "long.wav"])
    assert len(vectors) >= 299
    assert most_ahead <= 2 * num_threads + 2


def test_lines_are_printed_in_the_order_of_files(paths, num_threads, capsys, tmp_path):
    (paths[0].parent / "3x.wav").write_bytes(b"not audio")
    report = embed_files([paths[0].parent], make_embedder(), "-")
    (paths[0].parent / "3x.wav").unlink()
    assert [os.path.basename(file) for file, _ in report.failures] == ["3x.wav"]
    lines = capsys.readouterr().out.splitlines()
    files = [line.partition(".wav")[0][-1] for line in lines]
    assert files == sorted(files)
    assert set(files) == set("0123456")


STOPPED = """
import os, sys, time
sys.path[:0] = {tests!r}
import torch
from test_pipeline import embed_files, make_embedder
torch.set_num_threads(4)
embedder = make_embedder()
embed = embedder.embed_input
frozen = embedder.frozen
class Slow:
    def __call__(self, log_mel):
        os.write(1, b"at work\\n")
        time.sleep(0.1)
        return frozen(log_mel)
embedder.frozen = Slow()
try:
    embed_files(["music"], embedder, "out.parquet")
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(1)
"""


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as status:
            return status.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def children_of(pid):
    listed = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False)
    return [int(each) for each in listed.stdout.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_a_run_with_its_processes_and_the_next_one_resumes(
    paths, sent, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music").mkdir()
    for index in range(24):
        samples = np.random.default_rng(index).normal(size=7 * 16_000) * 0.1
        sf.write(tmp_path / "music" / f"{index:02}.wav", samples, 16_000)
    here = Path(__file__).parent
    code = STOPPED.format(tests=[str(here), str(here.parent)])
    run = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    )  # fmt: skip
    for _ in range(8):
        assert run.stdout.readline() == b"at work\n"
    children = children_of(run.pid)
    assert len(children) == 4
    if sent == signal.SIGINT:  # as a terminal sends it, to all
        os.killpg(run.pid, sent)
    else:
        run.send_signal(sent)
    out, err = run.communicate(timeout=300)  # it ends by itself, and soon
    assert run.returncode != 0
    assert b"Traceback" not in err, err
    if sent == signal.SIGINT:
        assert out.endswith(b"interrupted\n")
    until = time.monotonic() + 60
    while any(map(is_alive, children)):
        assert time.monotonic() < until, "a process outlived its parent"
        time.sleep(0.05)
    report = embed_files(["music"], make_embedder(), "out.parquet", skip_existing=True)
    assert report.num_skipped >= 1
    embed_files(["music"], make_embedder(), "straight.parquet")
    assert open("out.parquet", "rb").read() == open("straight.parquet", "rb").read()
