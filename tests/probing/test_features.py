"""The cache of vectors: each content embedded once, and nothing lost or mixed up by a kill."""

import errno
import json
import os
import shutil
import signal
import time
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from launched import is_running
from tiny import tone

from mulap.inference.backbones import hash_weights, random_backbone
from mulap.inference.embedder import Embedder
from mulap.inference.encoders import encoder_sha256, load_encoder
from mulap.model.config import MulapAudioConfig
from mulap.probing import features
from mulap.probing.features import FileHashes, VectorStore, cache_features
from mulap.tasks.task import Example, Fold, Task, TaskData
from mulap.terminal import shown

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
SECONDS = {"a.wav": 34, "b.wav": 1, "c.wav": 7, "d.wav": 31, "e.wav": 4}
COUNTS = [11, 1, 2, 10, 1]


def make_encoder(seed=0, name="small"):
    return Embedder(random_backbone(MulapAudioConfig(**SMALL), seed), name)


def make_data(root: Path, names) -> TaskData:
    task = Task(name="folder", title="Folder", kind="class", labels=("x",))
    examples = [Example(str(index), name, "x") for index, name in enumerate(names)]
    nobody = np.zeros(0, np.int64)
    targets = np.zeros(len(examples), np.int64)
    return TaskData(task, "", root, examples, targets, [Fold("", nobody, nobody, nobody)])


def write_music(root: Path, age_seconds=60) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        write_tone(root / name, seed, seconds, age_seconds)
    return root


def write_tone(path, seed, seconds, age_seconds=60):
    sf.write(path, tone(seed, seconds), 16_000)
    when = time.time() - age_seconds
    os.utime(path, (when, when))


@pytest.fixture(scope="module")
def encoder():
    return make_encoder()


@pytest.fixture
def music(tmp_path):
    return write_music(tmp_path / "music")


@pytest.fixture
def data(music):
    return make_data(music, SECONDS)


@pytest.fixture
def calls(monkeypatch):
    """The names of the files that were decoded."""
    seen, stream_file = [], Embedder.stream_file

    def watch(self, path):
        seen.append(Path(path).name)
        return stream_file(self, path)

    monkeypatch.setattr(Embedder, "stream_file", watch)
    return seen


def rows_of(found, index):
    start = found.starts[index]
    return np.asarray(found.vectors[start : start + found.counts[index]])


def check_rows(found, data, encoder):
    for index in range(len(data)):
        expected = encoder.embed_file(data.audio_path(index)).embeddings
        np.testing.assert_array_equal(rows_of(found, index), expected)


def folder_of(cache, encoder):
    return cache / encoder_sha256(encoder)


def test_every_track_has_the_embedders_vectors_to_the_bit(data, encoder, tmp_path):
    found = cache_features(data, encoder, tmp_path / "cache")
    assert found.counts.tolist() == COUNTS
    assert found.failures == []
    assert isinstance(found.vectors, np.memmap)
    assert found.vectors.dtype == np.float32
    assert found.vectors.shape == (25, encoder.embedding_size)
    assert found.starts.dtype == found.counts.dtype == np.int64
    check_rows(found, data, encoder)
    with pytest.raises(ValueError, match="read-only"):
        found.vectors[0] = 0


def test_a_second_run_decodes_and_writes_nothing(data, encoder, tmp_path, calls):
    first = cache_features(data, encoder, tmp_path / "cache")
    assert calls == list(SECONDS)
    calls.clear()
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in (tmp_path / "cache").rglob("*")
        if path.is_file()
    }
    second = cache_features(data, encoder, tmp_path / "cache")
    assert calls == []
    np.testing.assert_array_equal(second.vectors, first.vectors)
    for path, (mtime_ns, content) in before.items():
        assert (path.stat().st_mtime_ns, path.read_bytes()) == (mtime_ns, content)


def test_a_vector_does_not_depend_on_what_else_is_in_the_run(data, music, encoder, tmp_path):
    together = cache_features(data, encoder, tmp_path / "together")
    other_way = make_data(music, list(SECONDS)[::-1])
    reversed_found = cache_features(other_way, encoder, tmp_path / "reversed")
    for index in range(5):
        alone = cache_features(make_data(music, [list(SECONDS)[index]]), encoder, tmp_path / "one")
        np.testing.assert_array_equal(rows_of(alone, 0), rows_of(together, index))
        np.testing.assert_array_equal(rows_of(reversed_found, 4 - index), rows_of(together, index))


def test_batch_norm_statistics_do_not_change_by_a_bit(data, tmp_path):
    backbone = random_backbone(MulapAudioConfig(**SMALL)).train()  # as a careless caller leaves it
    before = hash_weights(backbone)
    cache_features(data, Embedder(backbone), tmp_path / "cache")
    assert hash_weights(backbone) == before


def test_only_what_is_missing_is_embedded(data, music, encoder, tmp_path, calls):
    cache_features(make_data(music, ["b.wav", "d.wav"]), encoder, tmp_path / "cache")
    calls.clear()
    found = cache_features(data, encoder, tmp_path / "cache")
    assert calls == ["a.wav", "c.wav", "e.wav"]
    check_rows(found, data, encoder)


def test_the_same_content_under_two_names_is_embedded_once(music, encoder, tmp_path, calls):
    shutil.copy(music / "c.wav", music / "copy.wav")
    data = make_data(music, ["c.wav", "a.wav", "copy.wav", "c.wav"])
    found = cache_features(data, encoder, tmp_path / "cache")
    assert calls == ["c.wav", "a.wav"]
    assert found.starts.tolist() == [0, 2, 0, 0]
    assert found.counts.tolist() == [2, 11, 2, 2]


@pytest.mark.parametrize("age_seconds", [0, 60])
def test_a_changed_file_of_the_same_name_and_size_is_embedded_anew(
    music, encoder, tmp_path, age_seconds
):
    data = make_data(music, ["c.wav", "e.wav"])
    write_tone(music / "c.wav", 7, 7, age_seconds)
    before = rows_of(cache_features(data, encoder, tmp_path / "cache"), 0)
    write_tone(music / "c.wav", 8, 7, age_seconds - 1)
    found = cache_features(data, encoder, tmp_path / "cache")
    assert not np.array_equal(rows_of(found, 0), before)
    check_rows(found, data, encoder)


def test_a_file_that_is_just_written_is_hashed_again_even_if_its_time_is_the_same(tmp_path):
    hashes, file = FileHashes(tmp_path / "files.jsonl"), tmp_path / "a"
    file.write_bytes(b"one")
    status = file.stat()
    first = hashes.sha256(file)
    file.write_bytes(b"two")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert FileHashes(tmp_path / "files.jsonl").sha256(file) != first


def test_a_link_that_points_elsewhere_since_it_was_hashed_is_not_current(tmp_path):
    hashes, link = FileHashes(tmp_path / "files.jsonl"), tmp_path / "link"
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    link.symlink_to(tmp_path / "one")
    hashes.sha256(link)
    assert hashes.is_current(link)
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert not hashes.is_current(link)


def test_unchanged_files_are_not_read_again(data, encoder, tmp_path, monkeypatch):
    cache_features(data, encoder, tmp_path / "cache")
    monkeypatch.setattr(features, "sha256_of", lambda path: pytest.fail(f"{path} was read"))
    cache_features(data, encoder, tmp_path / "cache")
    cache_features(data, make_encoder(seed=1), tmp_path / "cache")  # the memo is every encoder's


def test_encoders_do_not_share_vectors_but_names_do(data, encoder, tmp_path, calls):
    first = cache_features(data, encoder, tmp_path / "cache")
    calls.clear()
    cache_features(data, make_encoder(name="another name"), tmp_path / "cache")
    assert calls == []
    other = cache_features(data, make_encoder(seed=1), tmp_path / "cache")
    assert len(calls) == 5
    assert not np.array_equal(other.vectors, first.vectors)
    described = json.loads((folder_of(tmp_path / "cache", encoder) / "encoder.json").read_text())
    assert described == encoder.describe()


def test_any_encoder_can_be_cached(data, tmp_path):
    found = cache_features(data, load_encoder("mel"), tmp_path / "cache")
    assert found.vectors.shape == (25, 464)


def test_files_that_fail_are_listed_and_tried_again(music, encoder, tmp_path, calls):
    (music / "broken.wav").write_bytes(b"not audio")
    data = make_data(music, ["a.wav", "broken.wav", "gone.wav", "c.wav"])
    for _ in range(2):
        calls.clear()
        found = cache_features(data, encoder, tmp_path / "cache")
        assert found.counts.tolist() == [11, 0, 0, 2]
        (broken, reason), (gone, why) = found.failures
        assert broken.endswith("broken.wav")
        assert "is not audio" in reason
        assert gone.endswith("gone.wav")
        assert "cannot be read: No such file" in why
        assert "broken.wav" in calls
    assert calls == ["broken.wav"]
    write_tone(music / "broken.wav", 5, 4)
    found = cache_features(data, encoder, tmp_path / "cache")
    assert found.counts.tolist() == [11, 1, 0, 2]


def test_vectors_that_are_not_finite_are_not_cached(music, encoder, tmp_path):
    sf.write(music / "loud.wav", tone(0, 4) * np.float32(1e30), 16_000, subtype="FLOAT")
    found = cache_features(make_data(music, ["loud.wav", "c.wav"]), encoder, tmp_path / "cache")
    assert found.counts.tolist() == [0, 2]
    assert "no finite embedding" in found.failures[0][1]


def test_a_task_without_any_usable_file_is_refused(tmp_path, encoder):
    (tmp_path / "music").mkdir()
    data = make_data(tmp_path / "music", ["gone.wav"])
    with pytest.raises(ValueError, match="gone.wav: cannot be read.* no other track of folder"):
        cache_features(data, encoder, tmp_path / "cache")


def test_a_file_that_changes_while_it_is_read_is_left_out(music, encoder, tmp_path, monkeypatch):
    stream_file = Embedder.stream_file

    def write_meanwhile(self, path):
        yield from stream_file(self, path)
        write_tone(path, 9, 7, age_seconds=30)

    monkeypatch.setattr(Embedder, "stream_file", write_meanwhile)
    data = make_data(music, ["c.wav", "a.wav"])
    with pytest.raises(ValueError, match="c.wav: changed while it was read"):
        cache_features(data, encoder, tmp_path / "cache")


def test_a_second_writer_is_refused_in_one_line_and_readers_are_not(music, encoder, tmp_path):
    cache = tmp_path / "cache"
    part = make_data(music, ["a.wav"])
    cache_features(part, encoder, cache)
    with VectorStore(folder_of(cache, encoder), encoder.embedding_size).writer():
        found = cache_features(part, encoder, cache)  # nothing to write
        assert found.counts.tolist() == [11]
        with pytest.raises(ValueError, match="another run is writing to it") as caught:
            cache_features(make_data(music, SECONDS), encoder, cache)
    assert "\n" not in str(caught.value)


def damage_cases():
    yield "index torn in a line", "index.jsonl", lambda content: content[:-20], 4
    yield "index without its last newline", "index.jsonl", lambda content: content[:-1], 4
    yield "index gone", "index.jsonl", None, 0
    yield "data torn in a row", "vectors.f32", lambda content: content[:-3], 4
    yield "data torn in an early file", "vectors.f32", lambda content: content[: 12 * 62 * 4], 2
    yield "data gone", "vectors.f32", None, 0
    yield "data that the index does not know", "vectors.f32", lambda content: content + b"x" * 99, 5
    yield "index that is no JSON", "index.jsonl", lambda content: b"\0" * len(content), 0
    yield "both empty", "index.jsonl", lambda content: b"", 0


@pytest.mark.parametrize(
    ("name", "damage", "num_kept"), [case[1:] for case in damage_cases()],
    ids=[case[0] for case in damage_cases()],
)  # fmt: skip
def test_a_damaged_cache_is_cut_back_and_filled_up(
    data, encoder, tmp_path, calls, name, damage, num_kept
):
    expected = np.array(cache_features(data, encoder, tmp_path / "cache").vectors)
    folder = folder_of(tmp_path / "cache", encoder)
    if damage is None:
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(damage((folder / name).read_bytes()))
    calls.clear()
    found = cache_features(data, encoder, tmp_path / "cache")
    assert calls == list(SECONDS)[num_kept:]
    np.testing.assert_array_equal(found.vectors, expected)
    assert found.counts.tolist() == COUNTS


def test_a_torn_line_of_the_memo_costs_a_hash_and_no_more(data, encoder, tmp_path):
    cache_features(data, encoder, tmp_path / "cache")
    memo = tmp_path / "cache" / "files.jsonl"
    whole = memo.read_bytes()
    for cut in (1, 30, len(whole) // 2, len(whole) - 1):
        memo.write_bytes(whole[:cut])
        assert cache_features(data, encoder, tmp_path / "cache").counts.tolist() == COUNTS


def made_up(index):
    """The vectors of a file that is not there, float32 (1 to 4, 3)."""
    return np.full((1 + index % 4, 3), index, np.float32)


def fill_up(folder, num_files):
    store = VectorStore(folder, 3)
    with store.writer() as writer:
        for index in range(num_files):
            if f"{index:064}" not in store.rows:
                writer.add(f"{index:064}", made_up(index))
                writer.commit()


def check_made_up(folder, num_files=None):
    store = VectorStore(folder, 3)
    vectors = store.vectors()
    for sha256, (start, count) in store.rows.items():
        np.testing.assert_array_equal(vectors[start : start + count], made_up(int(sha256)))
    if num_files is not None:
        assert len(store.rows) == num_files


def test_a_cache_cut_anywhere_gives_no_wrong_vector_and_can_be_filled_up(tmp_path):
    fill_up(tmp_path / "whole", 6)
    data = (tmp_path / "whole" / "vectors.f32").read_bytes()
    index = (tmp_path / "whole" / "index.jsonl").read_bytes()
    cuts = np.random.default_rng(0)
    for turn in range(100):
        folder = tmp_path / f"cut-{turn}"
        folder.mkdir()
        (folder / "vectors.f32").write_bytes(data[: cuts.integers(len(data) + 1)])
        (folder / "index.jsonl").write_bytes(index[: cuts.integers(len(index) + 1)])
        check_made_up(folder)
        fill_up(folder, 6)
        check_made_up(folder, 6)
        assert len((folder / "vectors.f32").read_bytes()) == len(data)


def test_a_writer_killed_at_random_moments_leaves_no_wrong_vector(tmp_path):
    folder, rng, num_before = tmp_path / "cache", np.random.default_rng(1), 0
    for _ in range(15):
        child = os.fork()  # it only writes files: no thread of torch's is needed in it
        if child == 0:
            try:
                fill_up(folder, 100_000)
            finally:
                os._exit(1)
        time.sleep(rng.uniform(0.005, 0.05))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        check_made_up(folder)
        num_files = len(VectorStore(folder, 3).rows)
        assert num_files >= num_before
        num_before = num_files
    assert 0 < num_before < 100_000
    fill_up(folder, num_before + 3)
    check_made_up(folder, num_before + 3)


class FullDisk:
    """A file that takes so many bytes and then says that the disk is full."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        taken = content[: self.room]
        self.room -= len(taken)
        if len(content) and not len(taken):
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.file.write(taken)

    def __getattr__(self, name):
        return getattr(self.file, name)


@pytest.mark.parametrize("full", ["data", "index"])
def test_a_full_disk_is_one_line_and_leaves_a_usable_cache(
    data, encoder, tmp_path, monkeypatch, full
):
    monkeypatch.setattr(features, "_SECONDS_BETWEEN_SYNCS", 0.0)
    init = features.VectorWriter.__init__
    room = {"data": 12 * 62 * 4 + 100, "index": 150}[full]

    def limited(self, store, data, index):
        init(self, store, data, index)
        setattr(self, f"_{full}", FullDisk(getattr(self, f"_{full}"), room))

    with monkeypatch.context() as patch:
        patch.setattr(features.VectorWriter, "__init__", limited)
        with pytest.raises(ValueError, match="cache cannot be written, No space left") as caught:
            cache_features(data, encoder, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    store = VectorStore(folder_of(tmp_path / "cache", encoder), encoder.embedding_size)
    assert 1 <= len(store.rows) < 5
    check_rows(cache_features(data, encoder, tmp_path / "cache"), data, encoder)


def test_an_interrupted_run_keeps_what_is_done(data, encoder, tmp_path, monkeypatch, calls):
    add, added = features.VectorWriter.add, []

    def interrupted(self, sha256, vectors):
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(sha256)
        add(self, sha256, vectors)

    with monkeypatch.context() as patch:
        patch.setattr(features.VectorWriter, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache_features(data, encoder, tmp_path / "cache")
    calls.clear()
    check_rows(cache_features(data, encoder, tmp_path / "cache"), data, encoder)
    assert sorted(calls[:2]) == ["d.wav", "e.wav"]


KILLED = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from test_features import SECONDS, make_data, make_encoder
from mulap.probing import features
features._SECONDS_BETWEEN_SYNCS = 0.0
features.cache_features(make_data(Path({music!r}), SECONDS), make_encoder(), Path({cache!r}))
"""


@pytest.mark.slow
def test_runs_that_are_killed_add_up_to_the_same_vectors(template, data, encoder, tmp_path):
    cache, here = tmp_path / "cache", str(Path(__file__).resolve().parent)
    script = KILLED.format(here=here, music=str(data.root), cache=str(cache))
    folder = folder_of(cache, encoder)
    sizes = []
    for num_bytes in (1, 3_000):  # of vectors, after which it is killed
        process = template.start("launched:run_code", script, cwd=tmp_path)
        while is_running(process.pid):
            there = folder / "vectors.f32"
            if there.exists() and there.stat().st_size >= num_bytes:
                process.kill(signal.SIGKILL)
                break
        ended = process.wait()
        assert ended.code in (0, -signal.SIGKILL), ended.err
        sizes.append(len(VectorStore(folder, encoder.embedding_size).rows))
    assert sizes == sorted(sizes)
    check_rows(cache_features(data, encoder, cache), data, encoder)


def test_a_bar_is_shown_where_progress_is(data, encoder, tmp_path, notebook):
    cache_features(data, encoder, tmp_path / "quiet")
    assert notebook.getvalue() == ""
    with redirect_stderr(notebook), shown():
        cache_features(data, encoder, tmp_path / "shown")
    assert "hashing" in notebook.getvalue()
    assert "25 segments" in notebook.getvalue()
