"""The output: the same bytes in any order and after any number of kills; one run at a time."""

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from zipfile import ZipFile

import numpy as np
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from mulap.vectors import journal as journals  # noqa: F401 (for the runs that are killed)
from mulap.vectors import store as stores
from mulap.vectors import table
from mulap.vectors.output import EmbeddingOutput, failures_path
from mulap.vectors.table import Making, list_files, read_embeddings

MAKING = {"model": "m", "level": "segment"}
FILES = [f"music/{folder}/{name}.wav" for folder in ("a", "a b", "a-b") for name in range(8)]
SIZE = 6


def rows_of(file):
    seed = sum(file.encode())
    rng = np.random.default_rng(seed)
    for length in (2, seed % 3 + 1):
        yield rng.normal(size=(length, SIZE)).astype(np.float32)


def key_of(file, version="1-1"):
    return hashlib.sha256(f"{file} {version}".encode()).hexdigest()


def open_output(output, making=MAKING, **options):
    return EmbeddingOutput(output, Making(SIZE, 3.0, making), **options)


def add(run, file, version="1-1"):
    run.add(file, version, key_of(file, version), rows_of(file))


def fill(output, files=FILES, making=MAKING, version="1-1", **options):
    with open_output(output, making, **options) as run:
        for file in files:
            if not run.has(file, version):
                add(run, file, version)
        return run.finish()


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
    monkeypatch.setattr(table, "SHARD_BYTES", 4 * SIZE * 20)
    monkeypatch.setattr(stores, "PART_BYTES", 4 * SIZE * 20)


OUTPUTS = ["out.parquet", "out.npz", "out.jsonl", "out/"]


@pytest.mark.parametrize("output", OUTPUTS)
def test_bytes_do_not_depend_on_the_order_in_which_files_end(output):
    fill(output)
    expected = content(output)
    shuffled = random.Random(0).sample(FILES, len(FILES))
    with open_output(output, force=True) as run:
        for file in shuffled:
            add(run, file)
        run.finish()
    assert content(output) == expected
    assert os.listdir() == [output.rstrip("/")]


def test_files_are_in_the_order_of_their_paths():
    fill("out.parquet", reversed(FILES))
    files = list(dict.fromkeys(read_embeddings("out.parquet").files))
    assert files == sorted(FILES, key=lambda file: file.split("/"))


STOPPED_RUNS = """
import os, random, signal, sys
sys.path.insert(0, {tests!r})
from test_output import FILES, SIZE, fill, journals, stores, table

table.SHARD_BYTES, stores.PART_BYTES = 4 * SIZE * 20, 4 * SIZE * 20
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
    watch(journals, "write_whole")
    watch(stores, "write_whole")
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
    with open_output("out.parquet") as run:
        add(run, FILES[0])
        with pytest.raises(ValueError, match=r"out.parquet: another run is writing it"):
            open_output("out.parquet", force=True)
        run.finish()
    assert len(read_embeddings("out.parquet").embeddings)
    assert os.listdir() == ["out.parquet"]


def test_a_refused_run_leaves_nothing_behind():
    fill("out.parquet", FILES[:1])
    with pytest.raises(ValueError, match="exists"):
        open_output("out.parquet")
    with pytest.raises(ValueError, match="another model"):
        open_output("out.parquet", {"model": "n", "level": "track"}, skip_existing=True)
    assert os.listdir() == ["out.parquet"]


@pytest.mark.parametrize("output", ["out.parquet", "out/"])
def test_a_stopped_run_that_was_to_replace_another_model_s_rows_goes_on(output):
    other = {"model": "n", "level": "track"}
    fill(output, FILES[:5])
    before = content(output.rstrip("/"))
    with open_output(output, other, force=True) as run:
        add(run, FILES[7])
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
    with open_output(output, skip_existing=True) as run:
        run.forget(bad)
        run.forget("never/there.wav")
        assert run.finish() == num_rows - sum(map(len, rows_of(bad)))
    if output == "out/":  # its shard is a row or so shorter, and the others are as they were
        table = ds.dataset("out").to_table()
        assert set(table["file"].to_pylist()) == {*FILES} - {bad}
    else:
        assert content(output) == expected
    with open_output(output, skip_existing=True) as run:
        assert sum(run.has(file, "1-1") for file in FILES) == num_files


@pytest.mark.parametrize("output", OUTPUTS)
def test_an_output_none_of_whose_files_can_be_used_any_more_goes(output):
    fill(output, FILES[:1])
    with open_output(output, skip_existing=True) as run:
        run.forget(FILES[0])
        assert run.finish() == 0
    assert not any(os.path.isfile(output) or os.listdir(output) for output in os.listdir())
    assert fill(output, FILES[:2], skip_existing=True) > 0


@pytest.mark.parametrize("output", OUTPUTS)
def test_rows_that_a_stopped_run_left_of_a_file_that_can_no_longer_be_used_go(output):
    fill(output, FILES[:2])
    with open_output(output, skip_existing=True) as run:
        add(run, FILES[0], "2-2")  # and is killed
    with open_output(output, skip_existing=True) as run:
        run.forget(FILES[0])  # its third version
        run.finish()
    with open_output(output, skip_existing=True) as run:
        assert not any(run.has(FILES[0], version) for version in ("1-1", "2-2"))
        assert run.has(FILES[1], "1-1")


def test_a_folder_that_holds_something_else_is_refused():
    os.mkdir("music")
    open("music/song.mp3", "w").close()
    with pytest.raises(ValueError, match=r"music: holds song.mp3\. Name a new folder"):
        open_output("music/")
    with pytest.raises(ValueError, match="music: has no ending"):
        open_output("music")
    open("file", "w").close()
    with pytest.raises(ValueError, match="file: is a file"):
        open_output("file/")
    assert sorted(os.listdir()) == ["file", "music"]


def test_failures_are_listed_beside_the_output():
    assert str(failures_path("out/")) == "out.failures.jsonl"
    assert str(failures_path("a/out.npz")) == "a/out.npz.failures.jsonl"


def test_parts_go_as_their_rows_come_into_shards(monkeypatch):
    with open_output("out/") as run:
        for file in FILES:
            add(run, file)
        left = []

        def watch(some):
            for shard in table.write_here(some):
                yield shard
                left.append(len(list(run.parts.glob("*.f32"))))

        num_parts = len(list(run.parts.glob("*.f32")))
        run.finish(watch)
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

    with monkeypatch.context() as patch, open_output(output) as run:
        add(run, FILES[0])
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match=r"No space left on device: .*parts"):
            run.finish()
    assert fill(output, FILES[:1], skip_existing=True) > 0
    assert os.listdir() == [output.rstrip("/")]


def test_a_folder_without_a_name_of_its_own_is_refused():
    for output in ("./", "..", "/"):
        with pytest.raises(ValueError, match=r"has no name .*Name the folder"):
            open_output(output)
    assert os.listdir() == []


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_file_that_moved_or_got_new_tags_takes_its_vectors_along(output):
    fill(output, FILES[:4])
    with open_output(output, skip_existing=True) as run:
        assert not run.has("elsewhere/0.wav", "7-7")
        assert run.has_key(key_of(FILES[0]))
        run.name("elsewhere/0.wav", "7-7", key_of(FILES[0]))
        run.name(FILES[1], "8-8", key_of(FILES[1]))  # new tags: another size and time
        add(run, FILES[5])
        assert run.has_key(key_of(FILES[5]))
        run.name("copy.wav", "9-9", key_of(FILES[5]))  # of what this run added
        num_rows = run.finish()
    found = rows_by_file(output)
    assert sum(map(len, found.values())) == num_rows
    assert found.keys() == {*FILES[:4], FILES[5], "elsewhere/0.wav", "copy.wav"}
    for file, source in {
        "elsewhere/0.wav": FILES[0],
        FILES[1]: FILES[1],
        "copy.wav": FILES[5],
    }.items():
        np.testing.assert_array_equal(found[file], np.concatenate(list(rows_of(source))))
    with open_output(output, skip_existing=True) as run:
        assert run.has("elsewhere/0.wav", "7-7")
        assert run.has(FILES[1], "8-8")


def test_files_that_swap_their_names_swap_their_vectors():
    fill("out.parquet", FILES[:2])
    with open_output("out.parquet", skip_existing=True) as run:
        run.name(FILES[0], "2-2", key_of(FILES[1]))
        run.name(FILES[1], "2-2", key_of(FILES[0]))
        run.finish()
    found = rows_by_file("out.parquet")
    for file, source in zip(FILES[:2], FILES[1::-1], strict=True):
        np.testing.assert_array_equal(found[file], np.concatenate(list(rows_of(source))))


def rows_by_file(output):
    found = read_embeddings(output)
    return {file: found.embeddings[found.files == file] for file in dict.fromkeys(found.files)}


def test_a_folder_of_shards_is_read_as_one_table():
    fill("out/")
    fill("one.parquet")
    np.testing.assert_array_equal(
        read_embeddings("out").embeddings, read_embeddings("one.parquet").embeddings
    )
    os.mkdir("empty")
    with pytest.raises(ValueError, match="empty: holds no part"):
        read_embeddings("empty")


def test_a_name_without_vectors_counts_for_nothing():
    with open_output("out.parquet") as run:
        add(run, FILES[0])
        add(run, FILES[1])
    for part in os.listdir("out.parquet.parts"):
        if part.endswith(".f32"):  # as a power cut may leave it
            os.truncate(
                f"out.parquet.parts/{part}", 4 * SIZE * len(np.concatenate(list(rows_of(FILES[0]))))
            )
    with open_output("out.parquet", skip_existing=True) as run:
        assert run.has(FILES[0], "1-1")
        assert not run.has(FILES[1], "1-1")


def test_rows_that_a_run_of_version_0_1_left_unfinished_are_refused_in_one_line():
    os.mkdir("out.parquet.parts")
    open("out.parquet.parts/host-1-abc.arrow", "wb").close()
    with pytest.raises(ValueError, match=r"mulap 0\.1 left rows .* --force"):
        fill("out.parquet", skip_existing=True)
    assert fill("out.parquet", FILES[:1], force=True) > 0


@pytest.mark.parametrize("suffix", [".parquet", ".npz", ".jsonl"])
def test_a_table_of_version_0_1_is_read_and_added_to(suffix):
    output = f"out{suffix}"
    fill(output, FILES[:3])
    drop_keys(output)
    assert len(read_embeddings(output).embeddings)
    assert all(not about.key for about in list_files(output)[1].values())
    fill(output, FILES[2:5], skip_existing=True)
    assert rows_by_file(output).keys() == set(FILES[:5])
    keys = {file: about.key for file, about in list_files(output)[1].items()}
    assert keys == dict.fromkeys(FILES[:3], "") | {file: key_of(file) for file in FILES[3:5]}


def test_shards_of_version_0_1_get_the_columns_of_those_that_are_added():
    fill("out/", FILES[:12])
    shards = sorted(os.listdir("out"))
    assert len(shards) > 1
    for name in shards:
        drop_keys(f"out/{name}")
    fill("out/", FILES, version="1-1", skip_existing=True)
    columns = {tuple(pq.read_schema(f"out/{name}").names) for name in os.listdir("out")}
    assert len(columns) == 1
    assert "audio_key" in columns.pop()
    assert set(read_embeddings("out/").files) == set(FILES)


def drop_keys(output):
    """Make a table as version 0.1 wrote it: without the column of keys."""
    if output.endswith(".parquet"):
        pq.write_table(pq.read_table(output).drop_columns("audio_key"), output)
    elif output.endswith(".npz"):
        os.rename(output, "keyed.npz")
        with ZipFile("keyed.npz") as whole, ZipFile(output, "w") as old:
            for name in whole.namelist():
                if name != "audio_key.npy":
                    old.writestr(name, whole.read(name))
        os.remove("keyed.npz")
    else:
        rows = [json.loads(line) for line in open(output)]
        with open(output, "w") as out:
            out.writelines(
                json.dumps({k: v for k, v in row.items() if k != "audio_key"}) + "\n"
                for row in rows
            )
