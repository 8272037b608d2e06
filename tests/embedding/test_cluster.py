"""The Ray engine: the same bytes as the local one, also where workers die; nothing left behind.

One cluster for all, since it takes seconds to start, and so does every worker.
"""

import functools
import os
import shutil
import socket
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import ray
import soundfile as sf
import torch
from command_line import call, check_one_line

from mulap.embedding import cluster
from mulap.embedding.cluster import Cluster, RayEngine
from mulap.embedding.embed import embed_files
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.encoders.load import load_encoder, making_of
from mulap.model.config import MulapAudioConfig
from mulap.vectors import table
from mulap.vectors.keys import audio_key
from mulap.vectors.rows import FileRows
from mulap.vectors.store import Entry
from mulap.vectors.table import Making, Shard, StoredFile, read_embeddings

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
RATE = 16_000
# An encoder that ends its process at audio of 0.5, but only once: then the marker is there.
DEADLY_ENCODER = """
import os, pathlib, signal
import torch

class Model(torch.nn.Module):
    sample_rate = 16000
    scene_embedding_size = 3
    timestamp_embedding_size = 3

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.arange(3.0))

def load_model(model_file_path=""):
    return Model()

def get_scene_embeddings(audio, model):
    marker = pathlib.Path(__file__).with_name("killed-once")
    if float(audio[0, 0]) == 0.5 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return audio.abs().mean(1, keepdim=True) * model.scale

def get_timestamp_embeddings(audio, model):
    raise NotImplementedError
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Music, an encoder and the deadly one."""
    folder = tmp_path_factory.mktemp("cluster")
    (folder / "music").mkdir()
    for index in range(10):
        samples = np.random.default_rng(index).normal(size=(1 + 4 * index) * RATE) * 0.1
        sf.write(folder / "music" / f"{index}.wav", samples, RATE)
    random_backbone(MulapAudioConfig(**SMALL), 0).save_pretrained(folder / "encoder")
    (folder / "modules").mkdir()
    (folder / "modules" / "deadly_encoder.py").write_text(DEADLY_ENCODER)
    return folder


@pytest.fixture(scope="module")
def engine(folder):
    """An engine of two workers, over a cluster that it has started, which claims to have a GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CUDA_VISIBLE_DEVICES", "0")  # Ray takes no more than there seem to be
        patch.setattr(ray, "init", functools.partial(ray.init, num_gpus=1))
        patch.setenv("PYTHONPATH", str(folder / "modules"))  # the workers' too
        patch.syspath_prepend(folder / "modules")
        assert not ray.is_initialized()
        with RayEngine(Cluster(num_actors=2)) as engine:
            yield engine
        assert not ray.is_initialized()


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    """An empty working folder, to which all paths are relative."""
    monkeypatch.chdir(tmp_path)
    os.symlink(folder / "music", "music")
    os.symlink(folder / "encoder", "encoder")


def same_bytes(one, other):
    return open(one, "rb").read() == open(other, "rb").read()


@pytest.mark.slow
def test_the_command_says_little_and_its_shards_have_the_same_bytes(here, engine, monkeypatch):
    monkeypatch.setattr(table, "SHARD_BYTES", 4 * 62 * 20)
    common = ["embed", "music", "--model", "encoder", "-o"]
    result = call(*common, "ray/", "--engine", "ray", "--num-actors", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    assert result.stderr == "10 files: 10 embedded, 0 already present; 61 rows of 62 numbers\n"
    assert call(*common, "local/").exit_code == 0
    assert len(os.listdir("local")) > 2
    assert sorted(os.listdir("ray")) == sorted(os.listdir("local"))
    assert all(same_bytes(f"ray/{name}", f"local/{name}") for name in os.listdir("local"))
    assert sorted(os.listdir()) == ["encoder", "local", "music", "ray"]


@pytest.mark.slow
def test_a_run_one_of_whose_workers_is_killed_half_way_has_all_rows(here, folder, engine):
    os.remove("music")
    os.mkdir("music")
    for index in range(12):
        samples = np.full(7 * RATE, 0.5 if index == 5 else 0.01 * (index + 1), np.float32)
        sf.write(f"music/{index:02}.wav", samples, RATE, subtype="FLOAT")
    open("music/broken.wav", "wb").close()
    encoder = load_encoder("hear:deadly_encoder")
    report = embed_files(["music"], encoder, "ray.parquet", engine=engine)
    assert (folder / "modules" / "killed-once").exists()
    assert (report.num_embedded, report.num_rows) == (12, 24)
    assert report.failures == [("music/broken.wav", "is empty, 0 bytes. Replace the file.")]
    assert sorted(os.listdir()) == ["encoder", "music", "ray.parquet", report.failures_path.name]
    embed_files(["music"], encoder, "local.parquet")  # the marker is there
    assert same_bytes("ray.parquet", "local.parquet")


@pytest.mark.slow
def test_a_changed_file_that_cannot_be_decoded_leaves_no_old_rows(here, folder, engine):
    os.remove("music")
    shutil.copytree(folder / "music", "music")
    encoder = load_encoder("encoder")
    embed_files(["music"], encoder, "out.parquet", "track")
    Path("music/3.wav").write_bytes(b"not audio")
    report = embed_files(["music"], encoder, "out.parquet", "track", True, engine=engine)
    assert (report.num_skipped, report.num_rows, len(report.failures)) == (9, 9, 1)
    assert "music/3.wav" not in read_embeddings("out.parquet").files


@pytest.mark.slow
def test_a_run_that_was_stopped_goes_on_with_another_engine(here, engine, monkeypatch):
    encoder, plain = load_encoder("encoder"), engine._run

    def stop_half_way(jobs, work):
        for index, outcome in enumerate(plain(jobs, work)):
            if index == 5:
                raise KeyboardInterrupt
            yield outcome

    with monkeypatch.context() as patch:
        patch.setattr(engine, "_run", stop_half_way)
        with pytest.raises(KeyboardInterrupt):
            embed_files(["music"], encoder, "out.parquet", "track", engine=engine)
    assert sorted(os.listdir()) == ["encoder", "music", "out.parquet.parts"]
    report = embed_files(["music"], encoder, "out.parquet", "track", skip_existing=True)
    assert report.num_skipped >= 5
    embed_files(["music"], encoder, "local.parquet", "track")
    assert same_bytes("out.parquet", "local.parquet")
    assert sorted(os.listdir()) == ["encoder", "local.parquet", "music", "out.parquet"]


@pytest.mark.slow
def test_actors_that_ask_for_gpus_embed_the_same_bytes(here, engine):
    asking = Cluster(num_actors=4, gpus_per_actor=0.5, device="cuda")
    object.__setattr__(asking, "device", "cpu")  # there is no GPU
    with RayEngine(asking) as gpus:
        report = embed_files(["music"], load_encoder("encoder"), "ray.parquet", engine=gpus)
    assert (report.num_embedded, report.failures) == (10, [])
    embed_files(["music"], load_encoder("encoder"), "local.parquet")
    assert same_bytes("ray.parquet", "local.parquet")


@pytest.mark.slow
def test_more_gpus_than_a_machine_has_are_refused_before_anything_is_written(here, engine):
    arguments = ["embed", "music", "--model", "encoder", "-o", "out.npz", "--engine", "ray"]
    result = call(*arguments, "--device", "cuda", "--gpus-per-actor", 2)
    check_one_line(result, 1, "--gpus-per-actor 2: no machine", "more GPUs than 1", "Ask for fewer")
    assert sorted(os.listdir()) == ["encoder", "music"]


def test_a_cluster_that_is_not_there_is_one_line(here, monkeypatch):
    def find_none(address, **options):  # what is told of `auto`; another test's may be there
        raise ConnectionError("Could not find any running Ray instance.\nStart one.")

    monkeypatch.setattr(ray, "init", find_none)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    arguments = ["embed", "music", "--model", "encoder", "-o", "out.npz", "--engine", "ray"]
    result = call(*arguments, "--ray-address", "auto")
    check_one_line(result, 1, "--ray-address auto", "ray status")


def make_worker(name="encoder", seed=0, device="cpu", keys=()):
    """Return a worker, in this process."""
    backbone = random_backbone(MulapAudioConfig(**SMALL), seed)
    making = making_of(Embedder(backbone, name))
    work = cluster._Work(name, device, "segment", "parts", making, frozenset(keys))
    return cluster._EmbedFiles(work)


def ask_worker(*args, **kwargs):
    """Have a worker, in this process, embed a file; return what it says of it."""
    return ask(make_worker(*args, **kwargs))


def ask(worker):
    row = {"path": os.fsencode("music/1.wav"), "file": "music/1.wav", "index": 0}
    (outcome,) = worker(pa.Table.from_pylist([row])).to_pylist()
    return outcome


def test_a_file_that_ended_its_process_too_often_is_left_out(here):
    os.mkdir("parts")
    for pid in range(cluster.DEATHS_OF_A_FILE):
        assert ask_worker()["num_rows"] == 1
        (Path("parts") / f"other-machine-{pid}.now").write_text("music/1.wav")
    assert "ended its process 3 times" in ask_worker()["reason"]


def test_audio_whose_vectors_are_there_is_not_embedded_again(here, monkeypatch):
    os.mkdir("parts")
    monkeypatch.setattr(cluster, "vectors_of_file", lambda *args: 1 / 0)
    outcome = ask_worker(keys=[audio_key("music/1.wav")])
    assert outcome["key"] == audio_key("music/1.wav")
    assert outcome["part"] is outcome["reason"] is outcome["stop"] is None


def test_a_worker_that_starts_as_another_ends_its_block_goes_on(here):
    os.mkdir("parts")
    os.symlink("gone", "parts/other-machine-1.now")  # listed, and not there when it is read
    assert ask_worker()["num_rows"] == 1


def test_a_worker_that_cannot_work_says_why_in_one_line(here):
    assert "parts: is not there. All machines must share it." in ask_worker()["stop"]
    os.mkdir("parts")
    assert "encoder: is another model than the driver has" in ask_worker(seed=1)["stop"]
    assert "nothing: no encoder or folder has this name" in ask_worker("nothing")["stop"]
    for pid in range(10):
        (Path("parts") / f"{socket.gethostname()}-{2**30 + pid}.now").touch()
    assert "processes end while they load the encoder" in ask_worker()["stop"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_worker_without_the_gpu_that_it_is_to_use_says_so_in_one_line(here):
    os.mkdir("parts")
    assert ask_worker(device="cuda")["stop"].startswith("--device cuda: torch cannot use it here")


def test_an_error_of_torch_is_one_line_too(here, monkeypatch):
    def fail(self, log_mel):
        raise RuntimeError("CUDA error: an illegal memory access\nCompile with TORCH_USE_CUDA_DSA")

    os.mkdir("parts")
    monkeypatch.setattr(Embedder, "embed_input", fail)
    stop = ask_worker()["stop"]
    assert stop.startswith("CUDA error: an illegal memory access Compile with")
    assert socket.gethostname() in stop


def test_a_worker_with_a_gpu_decodes_in_another_thread(here, monkeypatch):
    threads, decode = [], Embedder.stream_file

    def watch(self, path):
        for each in decode(self, path):
            threads.append(threading.current_thread().name)
            yield each

    os.mkdir("parts")
    monkeypatch.setattr(Embedder, "stream_file", watch)
    worker = make_worker()
    on_cpu = ask(worker)
    worker.work = replace(worker.work, device="cuda")  # as if its encoder were there
    on_gpu = ask(worker)
    assert threads == ["MainThread", "read_ahead_0"]
    assert on_gpu["checksum"] == on_cpu["checksum"]


@pytest.mark.slow
def test_a_shard_that_a_task_cannot_write_is_one_line(here, engine):
    making = Making(62, 3.0, {"model": "m", "level": "segment"})
    file = StoredFile("music/1.wav", FileRows("1-1", "k", 1), Entry("k", "gone", 0, 1, 0))
    shard = Shard(Path("out/part-00000.parquet"), Path("parts"), making, [file])
    os.makedirs("out")
    with pytest.raises(ValueError, match="gone.f32") as caught:
        list(engine.write_shards([shard]))
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("output", ["out.parquet", "out/"])
def test_workers_are_told_the_path_that_the_user_gave_links_and_all(here, monkeypatch, output):
    os.mkdir("disk-of-this-machine")
    os.symlink("disk-of-this-machine", "shared")
    told, worker = [], make_worker()

    def run(jobs, work):
        told.append(work.parts)
        worker.work = work
        for index, job in enumerate(jobs):
            row = {"path": os.fsencode(job.path), "file": job.file, "index": index}
            worker.parts, worker.now = Path(work.parts), Path(work.parts) / "x.now"
            yield from worker(pa.Table.from_pylist([row])).to_pylist()
        worker.writer.close()

    def write(shard):
        told.extend([shard.path, shard.parts])
        return table.write_shard(shard)

    engine = RayEngine(Cluster())
    monkeypatch.setattr(engine, "_run", run)
    monkeypatch.setattr(cluster, "count_actors", lambda gpus_per_actor: 1)
    monkeypatch.setattr(ray, "remote", lambda function: SimpleNamespace(remote=write))
    monkeypatch.setattr(ray, "get", lambda result: result)
    embed_files(["music"], load_encoder("encoder"), f"shared/{output}", engine=engine)
    assert len(told) == (3 if output == "out/" else 1)
    for path in told:
        assert Path(path).is_relative_to(Path.cwd() / "shared")


def test_what_a_worker_cannot_do_stops_the_run_and_is_told_once(here, monkeypatch):
    engine = RayEngine(Cluster())
    told = dict.fromkeys(cluster._OUTCOME.names) | {
        "index": 0,
        "stop": "[Errno 28] No space left on device",
    }
    monkeypatch.setattr(engine, "_run", lambda jobs, work: iter([told]))
    with pytest.raises(ValueError, match=r"No space left on device.*--skip-existing"):
        embed_files(["music"], load_encoder("encoder"), "out.parquet", engine=engine)


def test_wrong_requests_are_one_line(here):
    arguments = ["embed", "music", "--model", "encoder", "-o", "out.parquet"]
    ray = [*arguments, "--engine", "ray"]
    check_one_line(call(*arguments, "--num-actors", 2), 2, "--engine ray")
    check_one_line(call(*arguments[:4], "--engine", "ray"), 1, "--output")
    check_one_line(call(*ray, "--num-actors", 0), 1, "--num-actors 0", "1 or more")
    check_one_line(call(*ray, "--gpus-per-actor", -1), 1, "--gpus-per-actor -1", "0 or more")
    check_one_line(call(*ray, "--gpus-per-actor", 1.5), 1, "--gpus-per-actor 1.5", "whole number")
    explicit = [*ray, "--device", "cpu", "--gpus-per-actor", 0.5]
    check_one_line(call(*explicit), 1, "--device cpu", "Give both")
    check_one_line(call(*ray, "--device", "cuda"), 1, "--device cuda", "Give both")
    for device in ("cuda:1", "mps", "nonsense"):
        result = call(*ray, "--device", device, "--gpus-per-actor", 1)
        check_one_line(result, 1, f"--device {device}", "cuda without a number")
    assert sorted(os.listdir()) == ["encoder", "music"]


def test_without_ray_the_extra_is_named(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "mulap.embedding.cluster", raising=False)
    result = call("embed", "music", "--model", "encoder", "-o", "out.npz", "--engine", "ray")
    check_one_line(result, 1, "ray is missing", "pip install 'ray[data]'")
    assert not os.path.exists("out.npz.parts")
