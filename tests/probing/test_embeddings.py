"""The cache of vectors: each content embedded once, and nothing lost or mixed up by a kill."""

import errno
import json
import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from launched import is_running
from noted import note_calls
from tiny import tone

from mulap.embedding.cache import LOCK_FILE
from mulap.encoders.backbones import hash_weights, random_backbone
from mulap.encoders.embedder import Embedder
from mulap.encoders.load import encoder_sha256, load_encoder
from mulap.locks import hold_lock
from mulap.model.config import MulapAudioConfig
from mulap.probing.embeddings import cache_features
from mulap.tasks.task import Example, Fold, Task, TaskData
from mulap.terminal import shown
from mulap.vectors import journal as journals
from mulap.vectors import store as stores
from mulap.vectors.store import VectorStore

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
def calls(monkeypatch, tmp_path_factory):
    """The names of the files that were decoded, in any order and process."""
    folder = tmp_path_factory.mktemp("calls")
    return note_calls(monkeypatch, Embedder, "stream_file", lambda _, path: path.name, folder)


def rows_of(found, index):
    return found.vectors[found.starts[index] + np.arange(found.counts[index])]


def all_rows(found):
    return found.vectors[np.arange(len(found.vectors))]


def check_rows(found, data, encoder):
    for index in range(len(data)):
        expected = encoder.embed(data.audio_path(index)).embeddings
        np.testing.assert_array_equal(rows_of(found, index), expected)


def folder_of(cache, encoder):
    return cache / encoder_sha256(encoder)


def open_store(cache, encoder):
    return VectorStore(folder_of(cache, encoder), encoder.embedding_size, encoder.describe())


def test_every_track_has_the_embedders_vectors_to_the_bit(data, encoder, tmp_path):
    found = cache_features(data, encoder, tmp_path / "cache")
    assert found.counts.tolist() == COUNTS
    assert found.failures == []
    assert found.vectors.shape == (25, encoder.embedding_size)
    assert found.starts.dtype == found.counts.dtype == np.int64
    check_rows(found, data, encoder)


def test_a_second_run_decodes_and_writes_nothing(data, encoder, tmp_path, calls):
    first = cache_features(data, encoder, tmp_path / "cache")
    assert sorted(calls()) == sorted(list(SECONDS))
    calls.clear()
    before = {
        path: (path.stat().st_mtime_ns, path.read_bytes())
        for path in (tmp_path / "cache").rglob("*")
        if path.is_file()
    }
    second = cache_features(data, encoder, tmp_path / "cache")
    assert sorted(calls()) == sorted([])
    np.testing.assert_array_equal(all_rows(second), all_rows(first))
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
    assert sorted(calls()) == sorted(["a.wav", "c.wav", "e.wav"])
    check_rows(found, data, encoder)


def test_the_same_content_under_two_names_is_embedded_once(music, encoder, tmp_path, calls):
    shutil.copy(music / "c.wav", music / "copy.wav")
    data = make_data(music, ["c.wav", "a.wav", "copy.wav", "c.wav"])
    found = cache_features(data, encoder, tmp_path / "cache")
    assert sorted(calls()) == sorted(["c.wav", "a.wav"])
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


def test_unchanged_files_are_not_read_again(data, encoder, tmp_path, monkeypatch):
    cache_features(data, encoder, tmp_path / "cache")
    monkeypatch.setattr("mulap.embedding.pipeline.audio_key", lambda path: 1 / 0)
    cache_features(data, encoder, tmp_path / "cache")
    cache_features(data, make_encoder(seed=1), tmp_path / "cache")  # the memo is every encoder's


def test_encoders_do_not_share_vectors_but_names_do(data, encoder, tmp_path, calls):
    first = cache_features(data, encoder, tmp_path / "cache")
    calls.clear()
    cache_features(data, make_encoder(name="another name"), tmp_path / "cache")
    assert sorted(calls()) == sorted([])
    other = cache_features(data, make_encoder(seed=1), tmp_path / "cache")
    assert len(calls()) == 5
    assert not np.array_equal(all_rows(other), all_rows(first))
    described = json.loads((folder_of(tmp_path / "cache", encoder) / "making.json").read_text())
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
        assert "broken.wav" in calls()
    assert sorted(calls()) == sorted(["broken.wav"])
    write_tone(music / "broken.wav", 5, 4)
    found = cache_features(data, encoder, tmp_path / "cache")
    assert found.counts.tolist() == [11, 1, 0, 2]


def test_a_file_of_absurd_size_is_not_cached(music, encoder, tmp_path):
    sf.write(music / "loud.wav", tone(0, 4) * np.float32(1e30), 16_000, subtype="FLOAT")
    found = cache_features(make_data(music, ["loud.wav", "c.wav"]), encoder, tmp_path / "cache")
    assert found.counts.tolist() == [0, 2]
    assert "absurd size near 0.0 s" in found.failures[0][1]


def test_a_task_without_any_usable_file_is_refused(tmp_path, encoder):
    (tmp_path / "music").mkdir()
    data = make_data(tmp_path / "music", ["gone.wav"])
    with pytest.raises(
        ValueError, match="no track of folder can be used.*gone.wav: cannot be read"
    ):
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


def test_a_second_writer_waits_for_the_first_and_readers_do_not(music, encoder, tmp_path, caplog):
    cache, part = tmp_path / "cache", make_data(music, ["a.wav"])
    cache_features(part, encoder, cache)
    with ThreadPoolExecutor(1) as thread, ExitStack() as held:
        held.enter_context(hold_lock(folder_of(cache, encoder) / LOCK_FILE, "held"))
        assert cache_features(part, encoder, cache).counts.tolist() == [11]  # nothing to write
        assert not caplog.messages
        second = thread.submit(cache_features, make_data(music, SECONDS), encoder, cache)
        while "another run is writing to it; waiting for it to end" not in caplog.text:
            time.sleep(0.01)
        with pytest.raises(TimeoutError):
            second.result(timeout=0.5)
        held.close()
        assert second.result().counts.tolist() == COUNTS
    assert len(caplog.messages) == 1


DAMAGES = {
    "journal torn in a line": (".journal", lambda content: content[:-60], 4),
    "journal gone": (".journal", None, 0),
    "journal of zeros": (".journal", lambda content: b"\0" * len(content), 0),
    "journal empty": (".journal", lambda content: b"", 0),
    "rows torn in a row": (".f32", lambda content: content[:-3], 4),
    "rows torn in an early file": (".f32", lambda content: content[: 12 * 62 * 4], 2),
    "rows gone": (".f32", None, 0),
    "more rows than the journal says": (".f32", lambda content: content + b"x" * 99, 5),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_cache_is_filled_up_and_nothing_of_it_is_cut(
    data, encoder, tmp_path, calls, name
):
    suffix, damage, num_kept = DAMAGES[name]
    cache_features(data, encoder, tmp_path / "cache")
    (path,) = folder_of(tmp_path / "cache", encoder).glob(f"*{suffix}")
    damaged = damage(path.read_bytes()) if damage else None
    path.unlink() if damage is None else path.write_bytes(damaged)
    calls.clear()
    found = cache_features(data, encoder, tmp_path / "cache")
    assert len(calls()) == 5 - num_kept
    check_rows(found, data, encoder)
    assert found.counts.tolist() == COUNTS
    assert damage is None or path.read_bytes() == damaged


def test_vectors_of_version_0_1_are_left_and_the_user_is_told(data, encoder, tmp_path, capsys):
    folder = folder_of(tmp_path, encoder)
    folder.mkdir()
    (folder / "vectors.f32").write_bytes(bytes(4 << 20))
    (folder / "index.jsonl").write_text("{}")
    with shown():
        check_rows(cache_features(data, encoder, tmp_path), data, encoder)
    assert "embeddings by mulap 0.1 are not used any more" in capsys.readouterr().err
    assert (folder / "vectors.f32").stat().st_size == 4 << 20


@pytest.mark.parametrize("full", [".f32", ".journal"])
def test_a_full_disk_is_one_line_and_leaves_a_usable_cache(
    data, encoder, tmp_path, monkeypatch, full
):
    room, plain = {".f32": 12 * 62 * 4 + 100, ".journal": 250}[full], journals.write_whole

    def write_some(out, content):
        nonlocal room
        if out.name.endswith(full):
            plain(out, content[:room])
            room -= len(content)
            if room < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
        else:
            plain(out, content)

    with monkeypatch.context() as patch:
        patch.setattr(journals, "write_whole", write_some)
        patch.setattr(stores, "write_whole", write_some)
        with pytest.raises(ValueError, match="cache cannot be written, No space left") as caught:
            cache_features(data, encoder, tmp_path / "cache")
    assert "\n" not in str(caught.value)
    store = open_store(tmp_path / "cache", encoder)
    assert 1 <= len(store.entries) < 5
    check_rows(cache_features(data, encoder, tmp_path / "cache"), data, encoder)


def test_an_interrupted_run_keeps_what_is_done(data, encoder, tmp_path, monkeypatch, calls):
    add, added = stores.VectorWriter.add, []

    def interrupted(self, key, blocks):
        if len(added) == 3:
            raise KeyboardInterrupt
        added.append(key)
        return add(self, key, blocks)

    with monkeypatch.context() as patch:
        patch.setattr(stores.VectorWriter, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            cache_features(data, encoder, tmp_path / "cache")
    calls.clear()
    found = cache_features(data, encoder, tmp_path / "cache")
    assert sorted(calls()) == ["d.wav", "e.wav"]
    check_rows(found, data, encoder)


KILLED = """
import sys
sys.path.insert(0, {here!r})
from pathlib import Path
from test_embeddings import SECONDS, make_data, make_encoder
from mulap.probing.embeddings import cache_features
cache_features(make_data(Path({music!r}), SECONDS), make_encoder(), Path({cache!r}))
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
            if sum(each.stat().st_size for each in folder.glob("*.f32")) >= num_bytes:
                process.kill(signal.SIGKILL)
                break
        ended = process.wait()
        assert ended.code in (0, -signal.SIGKILL), ended.err
        sizes.append(len(open_store(cache, encoder).entries))
    assert sizes == sorted(sizes)
    check_rows(cache_features(data, encoder, cache), data, encoder)


def test_progress_is_shown_where_it_is_asked_for(data, encoder, tmp_path, capsys, monkeypatch):
    cache_features(data, encoder, tmp_path / "quiet")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("mulap.terminal.FIRST_LINE_SECONDS", 0.0)
    with shown():
        cache_features(data, encoder, tmp_path / "shown")
    assert "embedding: 1 of 5 tracks" in capsys.readouterr().err
