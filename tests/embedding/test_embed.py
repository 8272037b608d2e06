"""`embed_files`: one table of many files; none lost, none twice, the same vectors as alone."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from launched import is_running
from noted import note_calls
from tiny import tone

from mulap.embedding.embed import embed_files
from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.model.config import MulapAudioConfig
from mulap.terminal import shown
from mulap.vectors.formats import FORMATS
from mulap.vectors.journal import read_journal
from mulap.vectors.table import read_embeddings

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}
SECONDS = {"a.wav": 41, "b.wav": 1, "sub/c.flac": 7, "sub/d.wav": 33}
NUM_SEGMENTS = {"a.wav": 13, "b.wav": 1, "sub/c.flac": 2, "sub/d.wav": 11}


def make_embedder(seed=0, name="small"):
    return Embedder(random_backbone(MulapAudioConfig(**SMALL), seed), name)


@pytest.fixture(scope="module")
def embedder():
    return make_embedder()


@pytest.fixture
def music(tmp_path, monkeypatch):
    """A folder with four files, given by a relative path."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "music" / "sub").mkdir(parents=True)
    for seed, (name, seconds) in enumerate(SECONDS.items()):
        samples = np.random.default_rng(seed).normal(size=seconds * 16_000) * 0.1
        sf.write(tmp_path / "music" / name, samples, 16_000)
    return tmp_path / "music"


def rows_of(table, file):
    return table.embeddings[table.files == f"music/{file}"]


@pytest.fixture
def calls(embedder, monkeypatch, tmp_path_factory):
    """The lengths of the blocks that passed the backbone, in any order and process."""
    return note_calls(
        monkeypatch,
        Embedder,
        "embed_input",
        lambda _, log_mel: len(log_mel),
        tmp_path_factory.mktemp("calls"),
    )


def test_a_folder_becomes_a_table_with_a_row_a_segment(embedder, music):
    report = embed_files(["music"], embedder, "new/folder/out.parquet")
    table = read_embeddings("new/folder/out.parquet")
    assert (report.num_files, report.num_embedded, report.num_skipped) == (4, 4, 0)
    assert report.num_copies == 0
    assert report.num_rows == len(table.embeddings) == 27
    assert report.failures == []
    assert report.failures_path is None
    counts = {file: len(rows_of(table, file)) for file in SECONDS}
    assert counts == NUM_SEGMENTS
    assert table.segment_index[:13].tolist() == list(range(13))
    np.testing.assert_allclose(table.start_seconds[:13], np.arange(13) * 3.0)
    assert table.metadata == embedder.describe("segment")
    assert os.listdir("new/folder") == ["out.parquet"]


def test_a_file_is_noted_once_in_the_journal(embedder, music, monkeypatch):
    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("mulap.vectors.table.write_rows", stop)  # when all parts are there
    with pytest.raises(KeyboardInterrupt):
        embed_files(["music"], embedder, "out.parquet")
    noted = [line["file"] for line in read_journal(Path("out.parquet.parts/files.names"))]
    assert sorted(noted) == sorted(f"music/{file}" for file in SECONDS)


@pytest.mark.parametrize("suffix", ["parquet", "npz", "jsonl"])
def test_a_file_has_the_same_vectors_alone_and_with_others_to_the_bit(embedder, music, suffix):
    embed_files(["music"], embedder, f"all.{suffix}")
    together = read_embeddings(f"all.{suffix}")
    for file in SECONDS:
        embed_files([f"music/{file}"], embedder, f"alone.{suffix}", force=True)
        alone = read_embeddings(f"alone.{suffix}").embeddings
        np.testing.assert_array_equal(alone, rows_of(together, file))
        np.testing.assert_array_equal(alone, embedder.embed(f"music/{file}").embeddings)


def test_blocks_never_hold_segments_of_two_files(embedder, music, calls):
    embed_files(["music"], embedder, "out.npz")
    assert sorted(calls()) == [1, 1, 2, 3, 10, 10]


def test_a_track_level_table_has_one_row_a_file(embedder, music):
    report = embed_files(["music"], embedder, "out.parquet", level="track")
    table = read_embeddings("out.parquet")
    assert report.num_rows == 4
    for file in SECONDS:
        expected = embedder.embed(f"music/{file}", level="track").embeddings
        np.testing.assert_array_equal(rows_of(table, file), expected)


def test_standard_output_gets_json_lines_and_nothing_else(embedder, music, capsys):
    report = embed_files(["music"], embedder, "-")
    printed = capsys.readouterr()
    rows = [json.loads(line) for line in printed.out.splitlines()]
    assert report.num_rows == len(rows) == 27
    assert printed.err == ""
    vectors = np.array([row["embedding"] for row in rows[:13]], np.float32)
    np.testing.assert_array_equal(vectors, embedder.embed("music/a.wav").embeddings)
    assert sorted(os.listdir()) == ["music"]


@pytest.mark.parametrize("output", ["out.parquet", "out/"])
def test_a_file_that_is_named_another_way_later_keeps_its_rows_and_its_name(
    embedder, music, output
):
    embed_files("music/b.wav", embedder, output)
    for again in (music / "b.wav", "./music/b.wav", Path("music", "..", "music", "b.wav")):
        report = embed_files(again, embedder, output, skip_existing=True)
        assert (report.num_files, report.num_embedded, report.num_skipped) == (1, 0, 1)
        assert read_embeddings(output).files.tolist() == ["music/b.wav"]
    sf.write(music / "b.wav", tone(9, 7.0), 16_000)  # another version of it replaces the first
    report = embed_files(music / "b.wav", embedder, output, skip_existing=True)
    assert (report.num_embedded, report.num_rows) == (1, 2)
    assert read_embeddings(output).files.tolist() == ["music/b.wav"] * 2


def test_files_that_fail_are_listed_and_the_others_go_on(embedder, music):
    (music / "broken.wav").write_bytes(b"not audio")
    (music / "empty.mp3").write_bytes(b"")
    loud = np.ones(160_000, np.float32)
    loud[70_000:] = 1e30  # fails in its second block at the earliest
    sf.write(music / "a_loud.wav", loud, 16_000, subtype="FLOAT")
    report = embed_files(["music"], embedder, "out.parquet")
    assert (report.num_files, report.num_embedded, len(report.failures)) == (7, 4, 3)
    assert str(report.failures_path) == "out.parquet.failures.jsonl"
    listed = [json.loads(line) for line in report.failures_path.read_text().splitlines()]
    names = [row["file"] for row in listed]
    assert names == ["music/a_loud.wav", "music/broken.wav", "music/empty.mp3"]
    assert "empty, 0 bytes" in listed[2]["reason"]
    table = read_embeddings("out.parquet")
    assert set(table.files) == {f"music/{file}" for file in SECONDS}

    for name in ("broken.wav", "empty.mp3", "a_loud.wav"):
        shutil.copy(music / "b.wav", music / name)
    report = embed_files(["music"], embedder, "out.parquet", skip_existing=True)
    assert (report.num_embedded, report.num_skipped, report.num_copies) == (0, 7, 3)
    assert len(read_embeddings("out.parquet").embeddings) == 30
    assert not os.path.exists("out.parquet.failures.jsonl")


def test_nothing_is_written_where_no_file_could_be_used(embedder, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    report = embed_files([tmp_path], embedder, tmp_path / "out.parquet")
    assert (report.num_rows, len(report.failures)) == (0, 1)
    assert sorted(os.listdir(tmp_path)) == ["broken.wav", "out.parquet.failures.jsonl"]


@pytest.mark.parametrize("suffix", ["parquet", "npz", "jsonl"])
def test_existing_rows_are_kept_and_only_what_changed_is_computed(embedder, music, calls, suffix):
    output = f"out.{suffix}"
    embed_files(["music/sub", "music/a.wav"], embedder, output)
    before = read_embeddings(output)
    calls.clear()
    shutil.copy(music / "b.wav", music / "sub" / "d.wav")  # another size
    os.utime(music / "sub" / "c.flac", ns=(1, 1))  # another time
    report = embed_files(["music"], embedder, output, skip_existing=True)
    after = read_embeddings(output)
    assert sum(calls()) == 1  # b.wav: d.wav is a copy of it, and c.flac holds the same audio
    assert (report.num_embedded, report.num_skipped, report.num_rows) == (1, 3, 17)
    np.testing.assert_array_equal(rows_of(after, "a.wav"), rows_of(before, "a.wav"))
    np.testing.assert_array_equal(rows_of(after, "sub/d.wav"), rows_of(after, "b.wav"))
    assert len(rows_of(after, "sub/c.flac")) == 2
    calls.clear()
    assert embed_files(["music"], embedder, output, skip_existing=True).num_skipped == 4
    assert calls() == []


@pytest.mark.parametrize("output", ["out.parquet", "out/"])
def test_a_changed_file_that_cannot_be_decoded_leaves_no_old_rows(embedder, music, output):
    embed_files(["music"], embedder, output)
    (music / "b.wav").write_bytes(b"not audio")
    report = embed_files(["music"], embedder, output, skip_existing=True)
    assert (report.num_embedded, report.num_skipped, report.num_rows) == (0, 3, 26)
    assert [file for file, _ in report.failures] == ["music/b.wav"]
    (table,) = (
        [output]
        if output[-1] != "/"
        else [os.path.join(output, each) for each in os.listdir(output)]
    )
    assert set(read_embeddings(table).files) == {f"music/{file}" for file in SECONDS} - {
        "music/b.wav"
    }


def test_rows_of_files_that_were_not_asked_for_are_kept(embedder, music):
    embed_files(["music/a.wav"], embedder, "out.parquet")
    report = embed_files(["music/b.wav"], embedder, "out.parquet", skip_existing=True)
    assert (report.num_files, report.num_rows) == (1, 14)
    assert set(read_embeddings("out.parquet").files) == {"music/a.wav", "music/b.wav"}


def test_rows_of_another_model_or_level_are_refused(embedder, music):
    embed_files(["music/b.wav"], embedder, "out.parquet")
    for other, level in [(make_embedder(seed=1), "segment"), (embedder, "track")]:
        with pytest.raises(ValueError, match=r"out.parquet: holds segment embeddings.*--force"):
            embed_files(["music"], other, "out.parquet", level, skip_existing=True)
    # The same weights under another name are the same model.
    report = embed_files(
        ["music/b.wav"], make_embedder(name="renamed"), "out.parquet", skip_existing=True
    )
    assert report.num_skipped == 1


def test_an_existing_output_is_refused_unless_it_may_be_replaced(embedder, music):
    embed_files(["music/b.wav"], embedder, "out.parquet")
    with pytest.raises(ValueError, match=r"out.parquet: exists. --skip-existing.*--force"):
        embed_files(["music"], embedder, "out.parquet")
    assert len(read_embeddings("out.parquet").embeddings) == 1
    embed_files(["music/sub"], embedder, "out.parquet", force=True)
    assert len(read_embeddings("out.parquet").embeddings) == 13


def test_wrong_requests_stop_before_any_work(embedder, music, calls):
    requests = [
        (["music"], "out.csv", {}, "out.csv: .csv is no format"),
        (["music"], "outx", {}, "outx: has no ending.* or outx/ for a folder of shards"),
        (["music"], "music", {}, "music: has no ending"),
        (["gone.wav"], "out.npz", {}, "gone.wav"),
        ([music.parent / "music" / "sub" / "none"], "out.npz", {}, "none"),
        (["music"], "out.npz", {"level": "frame"}, "level is 'frame'"),
        (["music"], "out.npz", {"skip_existing": True, "force": True}, "Give one"),
    ]
    for paths, output, options, message in requests:
        with pytest.raises(ValueError, match=message):
            embed_files(paths, embedder, output, **options)
    (music / "nothing").mkdir()
    with pytest.raises(ValueError, match="music/nothing: no audio files found"):
        embed_files(["music/nothing"], embedder, "out.npz")
    assert calls() == []
    assert os.listdir() == ["music"]


def test_a_file_name_that_is_not_utf8_gets_its_rows(embedder, music):
    strange = os.path.join(os.fsencode("music"), b"caf\xe9.wav")
    shutil.copy(music / "b.wav", strange)
    for suffix in ("parquet", "npz", "jsonl"):
        report = embed_files(["music"], embedder, f"out.{suffix}")
        assert (report.num_embedded, report.num_rows) == (4, 28)  # it is a copy
        assert "music/caf\\xe9.wav" in read_embeddings(f"out.{suffix}").files


def test_the_global_random_state_is_neither_used_nor_changed(embedder, music):
    before = torch.get_rng_state()
    embed_files(["music/b.wav"], embedder, "a.npz")
    torch.manual_seed(5)
    embed_files(["music/b.wav"], embedder, "b.npz")
    torch.set_rng_state(before)
    assert open("a.npz", "rb").read() == open("b.npz", "rb").read()


def test_progress_is_shown_where_it_is_asked_for(embedder, music, capsys, monkeypatch):
    embed_files(["music"], embedder, "a.npz")
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr("mulap.terminal.FIRST_LINE_SECONDS", 0.0)
    monkeypatch.setattr("mulap.terminal.LINE_SECONDS", 0.0)
    with shown():
        embed_files(["music"], embedder, "b.npz")
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines()[-1].startswith("embedding: 4 of 4 files")
    assert printed.err.endswith("27 segments\n")


SLOW_RUN = """
import sys, time
sys.path.insert(0, {tests!r})
from test_embed import embed_files, make_embedder
embedder = make_embedder()
plain = embedder.embed_input
def slow(log_mel):
    time.sleep(0.3)
    return plain(log_mel)
embedder.embed_input = slow
embed_files(["music"], embedder, "out.parquet")
"""


@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_and_ends_like_one_that_was_not(
    template, embedder, music, calls
):
    code = SLOW_RUN.format(tests=os.path.dirname(__file__))
    run = template.start("launched:run_code", code, cwd=music.parent)
    while not any(path.stat().st_size for path in music.parent.glob("*.parts/files.names")):
        assert is_running(run.pid), run.wait().err
        time.sleep(0.01)
    run.kill(signal.SIGKILL)
    assert run.wait().code == -signal.SIGKILL
    assert not os.path.exists("out.parquet")
    with pytest.raises(ValueError, match="a stopped run left rows for it. --skip-existing"):
        embed_files(["music"], embedder, "out.parquet")
    report = embed_files(["music"], embedder, "out.parquet", skip_existing=True)
    assert report.num_skipped >= 1
    assert report.num_skipped + report.num_embedded == 4
    assert sum(calls()) < 27
    assert not list(music.parent.glob("*.parts"))
    embed_files(["music"], embedder, "straight.parquet")
    assert open("out.parquet", "rb").read() == open("straight.parquet", "rb").read()


def test_a_stopped_run_is_finished_by_its_own_model_and_replaced_by_another(
    embedder, music, monkeypatch
):
    other = make_embedder(seed=1)

    def stop(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mulap.vectors.table.write_rows", stop)  # when all parts are there
        with pytest.raises(KeyboardInterrupt):
            embed_files(["music"], other, "out.parquet")
        with pytest.raises(KeyboardInterrupt):
            embed_files(["music/sub"], other, "resumed.parquet")
    report = embed_files(["music"], other, "resumed.parquet", skip_existing=True)
    assert (report.num_embedded, report.num_skipped) == (2, 2)
    embed_files(["music"], other, "straight.parquet")  # in the same order, too
    assert open("resumed.parquet", "rb").read() == open("straight.parquet", "rb").read()

    with pytest.raises(ValueError, match="a stopped run by another model left rows .* --force"):
        embed_files(["music"], embedder, "out.parquet", skip_existing=True)
    report = embed_files(["music"], embedder, "out.parquet", force=True)
    assert report.num_embedded == 4
    expected = embedder.embed("music/a.wav").embeddings
    np.testing.assert_array_equal(rows_of(read_embeddings("out.parquet"), "a.wav"), expected)


def test_the_old_output_stays_until_the_new_one_is_whole(embedder, music, monkeypatch):
    embed_files(["music/b.wav"], embedder, "out.parquet")
    before = open("out.parquet", "rb").read()

    def stop(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("mulap.vectors.table.write_rows", stop)
    with pytest.raises(KeyboardInterrupt):
        embed_files(["music"], make_embedder(seed=1), "out.parquet", force=True)
    assert open("out.parquet", "rb").read() == before


MEASURED_RUN = """
import ctypes, sys
ctypes.CDLL(None).mallopt(-8, 1)  # M_ARENA_MAX: fewer heaps, less noise
sys.path.insert(0, {tests!r})
from test_embed import embed_files, make_embedder
embedder = make_embedder()
embedder.embed_input = lambda log_mel: log_mel[:, 0, : embedder.embedding_size]
embed_files([sys.argv[1]], embedder, sys.argv[2])
"""


def peak_bytes(template, folder, minutes, suffix):
    """Embed so many minutes of silence in a process of its own; return its peak of memory."""
    path, output = folder / f"{minutes}.wav", folder / f"{minutes}{suffix}"
    with sf.SoundFile(path, "w", 16_000, 1, "PCM_16") as out:
        for _ in range(minutes):
            out.write(np.zeros(60 * 16_000, np.int16))
    code = MEASURED_RUN.format(tests=os.path.dirname(__file__))
    ended = template.start("launched:run_code", code, str(path), str(output), cwd=folder).wait()
    assert ended.code == 0, ended.err
    assert len(read_embeddings(output).embeddings) == minutes * 20
    return ended.peak_bytes


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length_of_a_file(template, tmp_path):
    short = peak_bytes(template, tmp_path, 10, ".parquet")
    for suffix in FORMATS:
        # The longer one's samples are 307 MB more, its log-mels 115 MB.
        assert peak_bytes(template, tmp_path, 90, suffix) < short + 70e6, suffix


def test_a_table_that_claims_to_be_ours_with_vectors_of_another_length_is_refused(embedder, music):
    embed_files(["music"], embedder, "out.jsonl")
    rows = [json.loads(line) for line in open("out.jsonl", encoding="utf-8")]
    with open("out.jsonl", "w", encoding="utf-8") as out:
        for row in rows:
            out.write(json.dumps(row | {"embedding": row["embedding"][:5]}) + "\n")
    with pytest.raises(ValueError, match="out.jsonl: holds segment embeddings by another model"):
        embed_files(["music"], embedder, "out.jsonl", skip_existing=True)


def test_standard_output_has_the_rows_of_copies_too(embedder, music, capsys):
    shutil.copy(music / "b.wav", music / "copy.wav")
    report = embed_files(["music"], embedder, "-")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    vectors = {row["file"]: row["embedding"] for row in rows}
    assert (report.num_embedded, report.num_rows, len(rows)) == (5, 28, 28)
    assert vectors["music/copy.wav"] == vectors["music/b.wav"]


@pytest.mark.parametrize("output", ["out.parquet", "out/"])
def test_a_file_named_relatively_and_absolutely_has_its_rows_once(embedder, music, output):
    embed_files(["music/a.wav"], embedder, output)
    embed_files([music], embedder, output, skip_existing=True)
    report = embed_files(["music"], embedder, output, skip_existing=True)
    table = read_embeddings(output)
    assert (report.num_skipped, len(table.embeddings)) == (4, 27)
    others = {str(music / file) for file in ("b.wav", "sub/c.flac", "sub/d.wav")}
    assert set(table.files) == {"music/a.wav"} | others
