"""The store: the same bytes in any order and after any number of kills; one run at a time."""

import errno
import os
import random
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow.dataset as ds
import pytest

from mulap.inference import parts, shards
from mulap.inference.store import EmbeddingStore, failures_path
from mulap.inference.tables import read_embeddings

MAKING = {"model": "m", "level": "segment"}
FILES = [f"music/{folder}/{name}.wav" for folder in ("a", "a b", "a-b") for name in range(8)]
SIZE = 6


def rows_of(file):
    seed = sum(file.encode())
    rng = np.random.default_rng(seed)
    for length in (2, seed % 3 + 1):
        yield np.arange(length) * 3.0, rng.normal(size=(length, SIZE)).astype(np.float32)


def open_store(output, making=MAKING, **options):
    return EmbeddingStore(output, SIZE, making, **options)


def fill(output, files=FILES, making=MAKING, version="1-1", **options):
    with open_store(output, making, **options) as store:
        for file in files:
            if not store.has(file, version):
                store.add(file, version, rows_of(file))
        return store.finish()


def content(output):
    """All bytes of an output, a file or a folder."""
    if os.path.isfile(output):
        return open(output, "rb").read()
    return {name: open(os.path.join(output, name), "rb").read() for name in os.listdir(output)}


def remove(output):
    shutil.rmtree(output) if output[-1] == "/" else os.remove(output)


@pytest.fixture(autouse=True)
def small_shards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shards, "SHARD_BYTES", 4 * SIZE * 20)
    monkeypatch.setattr(parts, "PART_BYTES", 4 * SIZE * 50)


OUTPUTS = ["out.parquet", "out.npz", "out.jsonl", "out/"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_bytes_do_not_depend_on_the_order_in_which_files_end(output):
    fill(output)
    expected = content(output)
    shuffled = random.Random(0).sample(FILES, len(FILES))
    with open_store(output, force=True) as store:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda file: store.add(file, "1-1", rows_of(file)), shuffled))
        store.finish()
    assert content(output) == expected
    assert os.listdir() == [output.rstrip("/")]


def test_files_are_in_the_order_of_their_paths():
    fill("out.parquet", reversed(FILES))
    files = list(dict.fromkeys(read_embeddings("out.parquet").files))
    assert files == sorted(FILES, key=lambda file: file.split("/"))


STOPPED_RUNS = """
import os, random, signal, sys
sys.path.insert(0, {tests!r})
from test_store import FILES, SIZE, fill, parts, shards

shards.SHARD_BYTES, parts.PART_BYTES = 4 * SIZE * 20, 4 * SIZE * 50
output, rng = sys.argv[1], random.Random(int(sys.argv[2]))

def run(num_steps):
    def step():
        nonlocal num_steps
        num_steps -= 1
        if num_steps < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(module, name):
        plain = getattr(module, name)
        setattr(module, name, lambda *args, **kwargs: (step(), plain(*args, **kwargs))[1])

    # Any write, and any step that moves or removes something: a kill may come before it.
    watch(parts, "_write_whole")
    for name in ("replace", "rename", "unlink", "rmdir"):
        watch(os, name)
    fill(output, rng.sample(FILES, len(FILES)), skip_existing=True)
    os._exit(0)

num_kills = 0
while True:
    # A run alone has some 120 steps, the last 30 of them when all files are done.
    num_steps = int(2 ** rng.uniform(0, 6)) if num_kills < 40 else 1000
    if (child := os.fork()) == 0:
        run(num_steps)
    status = os.waitpid(child, 0)[1]
    if not os.WIFSIGNALED(status):
        sys.exit(0 if num_kills and os.waitstatus_to_exitcode(status) == 0 else 1)
    num_kills += 1
"""


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("output", ["out.parquet", "out/"])
def test_a_run_that_is_killed_again_and_again_ends_like_one_that_was_not(output, seed):
    fill(output)
    expected = content(output)
    remove(output)
    code = STOPPED_RUNS.format(tests=os.path.dirname(__file__))
    subprocess.run([sys.executable, "-c", code, output, str(seed)], check=True)
    assert content(output) == expected
    assert os.listdir() == [output.rstrip("/")]


def test_a_second_run_at_one_output_is_refused():
    with open_store("out.parquet") as store:
        store.add(FILES[0], "1-1", rows_of(FILES[0]))
        with pytest.raises(ValueError, match=r"out.parquet: another run is writing it"):
            open_store("out.parquet", force=True)
        store.finish()
    assert len(read_embeddings("out.parquet").embeddings)
    assert os.listdir() == ["out.parquet"]


def test_a_refused_run_leaves_nothing_behind():
    fill("out.parquet", FILES[:1])
    with pytest.raises(ValueError, match="exists"):
        open_store("out.parquet")
    with pytest.raises(ValueError, match="another model"):
        open_store("out.parquet", {"model": "n", "level": "track"}, skip_existing=True)
    assert os.listdir() == ["out.parquet"]


@pytest.mark.parametrize("output", ["out.parquet", "out/"])
def test_a_stopped_run_that_was_to_replace_another_model_s_rows_goes_on(output):
    other = {"model": "n", "level": "track"}
    fill(output, FILES[:5])
    before = content(output.rstrip("/"))
    with open_store(output, other, force=True) as store:
        store.add(FILES[7], "1-1", rows_of(FILES[7]))
    assert content(output.rstrip("/")) == before
    assert fill(output, FILES[6:8], other, skip_existing=True) > 0
    table = ds.dataset(output.rstrip("/")).to_table()
    assert set(table["file"].to_pylist()) == set(FILES[6:8])
    assert os.listdir() == [output.rstrip("/")]


def test_a_folder_of_shards_is_one_table_of_bounded_files():
    num_rows = fill("out/")
    names = sorted(os.listdir("out"))
    assert len(names) > 2
    assert names == [f"part-{index:05}.parquet" for index in range(len(names))]
    counts = [len(read_embeddings(f"out/{name}").embeddings) for name in names]
    assert all(20 <= count < 26 for count in counts[:-1])  # a file has at most five rows
    assert sum(counts) == num_rows
    fill("one.parquet")
    assert ds.dataset("out").to_table().equals(ds.dataset("one.parquet").to_table())


def test_more_files_make_more_shards_and_touch_no_other():
    fill("out/", FILES[:12])
    before = content("out")
    fill("out/", FILES[6:], skip_existing=True)
    after = content("out")
    assert before.items() <= after.items()
    files = ds.dataset("out").to_table()["file"].to_pylist()
    assert list(dict.fromkeys(files)) == FILES


def test_a_changed_file_leaves_its_old_shard():
    fill("out/")
    before = content("out")
    fill("out/", FILES[:1], version="2-2", skip_existing=True)
    after = content("out")
    changed = [name for name in before if before[name] != after[name]]
    assert changed == ["part-00000.parquet"]
    table = ds.dataset("out").to_table().to_pylist()
    versions = {row["file"]: row["file_version"] for row in table}
    assert versions == dict.fromkeys(FILES, "1-1") | {FILES[0]: "2-2"}
    assert len(table) == len({(row["file"], row["segment_index"]) for row in table})


def test_a_shard_that_lost_all_its_files_gives_its_name_to_another():
    fill("out/")
    first = set(read_embeddings("out/part-00000.parquet").files)
    fill("out/", sorted(first), version="2-2", skip_existing=True)
    again = read_embeddings("out/part-00000.parquet").files
    assert set(again) == first
    assert len(os.listdir("out")) == len(set(os.listdir("out")))


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_file_that_can_no_longer_be_used_leaves_the_output_though_nothing_is_added(output):
    bad = FILES[3]
    fill(output, [file for file in FILES if file != bad])
    expected, num_files = content(output), len(FILES) - 1
    remove(output)
    num_rows = fill(output)
    with open_store(output, skip_existing=True) as store:
        store.forget(bad)
        store.forget("never/there.wav")
        assert store.finish() == num_rows - sum(len(starts) for starts, _ in rows_of(bad))
    if output == "out/":  # its shard is a row or so shorter, and the others are as they were
        table = ds.dataset("out").to_table()
        assert set(table["file"].to_pylist()) == {*FILES} - {bad}
    else:
        assert content(output) == expected
    with open_store(output, skip_existing=True) as store:
        assert sum(store.has(file, "1-1") for file in FILES) == num_files


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_none_of_whose_files_can_be_used_any_more_goes(output):
    fill(output, FILES[:1])
    with open_store(output, skip_existing=True) as store:
        store.forget(FILES[0])
        assert store.finish() == 0
    assert not any(os.path.isfile(output) or os.listdir(output) for output in os.listdir())
    assert fill(output, FILES[:2], skip_existing=True) > 0


@pytest.mark.parametrize("output", OUTPUTS)
def test_rows_that_a_stopped_run_left_of_a_file_that_can_no_longer_be_used_go(output):
    fill(output, FILES[:2])
    with open_store(output, skip_existing=True) as store:
        store.add(FILES[0], "2-2", rows_of(FILES[0]))  # and is killed
    with open_store(output, skip_existing=True) as store:
        store.forget(FILES[0])  # its third version
        store.finish()
    with open_store(output, skip_existing=True) as store:
        assert not any(store.has(FILES[0], version) for version in ("1-1", "2-2"))
        assert store.has(FILES[1], "1-1")


def test_a_folder_that_holds_something_else_is_refused():
    os.mkdir("music")
    open("music/song.mp3", "w").close()
    with pytest.raises(ValueError, match=r"music: holds song.mp3 \(name a new folder"):
        open_store("music/")
    with pytest.raises(ValueError, match="is no format"):
        open_store("music")
    open("file", "w").close()
    with pytest.raises(ValueError, match="file: is a file"):
        open_store("file/")
    assert sorted(os.listdir()) == ["file", "music"]


def test_failures_are_listed_beside_the_output():
    assert str(failures_path("out/")) == "out.failures.jsonl"
    assert str(failures_path("a/out.npz")) == "a/out.npz.failures.jsonl"


def test_parts_go_as_their_rows_come_into_shards(monkeypatch):
    with open_store("out/") as store:
        for file in FILES:
            store.add(file, "1-1", rows_of(file))
        left = []

        def watch(some):
            for shard in shards.write_here(some):
                yield shard
                left.append(len(list(store.parts.glob("*.arrow"))))

        num_parts = len(list(store.parts.glob("*.arrow")))
        store.finish(watch)
    assert num_parts > 3
    assert left == sorted(left, reverse=True)
    assert left[0] < num_parts
    assert left[-1] == 0


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_disk_that_is_full_in_the_end_is_told_as_such_and_lets_go_of_the_output(
    output, monkeypatch
):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch, open_store(output) as store:
        store.add(FILES[0], "1-1", rows_of(FILES[0]))
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*parts"):
            store.finish()
    assert fill(output, FILES[:1], skip_existing=True) > 0
    assert os.listdir() == [output.rstrip("/")]


def test_a_folder_without_a_name_of_its_own_is_refused():
    for output in ("./", "..", "/"):
        with pytest.raises(ValueError, match=r"has no name .*name the folder in full"):
            open_store(output)
    assert os.listdir() == []
