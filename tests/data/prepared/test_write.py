"""`prepare`: the same bytes whoever does it and however often it is killed."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import write_corpus

from mulap.data.manifest import read_manifest
from mulap.data.prepared import write as prepare_module
from mulap.data.prepared.shards import make_recipe
from mulap.data.prepared.write import clips_per_shard, prepare

RECIPES = {
    "log-mel": make_recipe("log-mel", 6.0),
    "pcm": make_recipe("pcm"),
    "tars": make_recipe("tars", 3.0),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Thirteen clips, one of them damaged, and a row without a file."""
    folder = write_corpus(tmp_path_factory.mktemp("corpus"), 9, 4)
    (folder / "clip-05.wav").write_bytes(b"RIFF of nothing")
    with open(folder / "metadata.csv", "a", encoding="utf-8") as out:
        out.write("gone.wav,a lost song,train\n")
    return folder


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(prepare_module, "_MIN_SHARD_CLIPS", 2)


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module", params=RECIPES)
def whole(request, corpus, tmp_path_factory):
    """A recipe, and what one process makes by it without an interruption."""
    folder = tmp_path_factory.mktemp("whole") / "prepared"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare_module, "_MIN_SHARD_CLIPS", 2)
        report = prepare(corpus, folder, RECIPES[request.param])
    return RECIPES[request.param], folder, report


def test_the_report_counts_what_was_made_and_what_was_not(whole):
    recipe, folder, report = whole
    assert (report.num_clips, report.num_shards) == (12, 7)
    assert report.num_bytes == sum(
        path.stat().st_size for path in [*folder.glob("data-*"), *folder.glob("*.tar")]
    )
    # Clips last 3.5 or 6.5 s, every third of them the shorter.
    expected = {None: 5 * 3.5 + 7 * 6.5, 6.0: 5 * 3.5 + 7 * 6.0, 3.0: 12 * 3.0}[recipe.seconds]
    assert report.audio_seconds == pytest.approx(expected)
    listed = [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]
    assert [(row["file"], row["reason"]) for row in listed] == report.failures
    (lost, why_lost), (damaged, why_damaged) = report.failures
    assert lost == "metadata.csv row 15"
    assert why_lost.startswith("no such file")
    assert damaged.endswith("clip-05.wav")
    assert "is not audio" in why_damaged
    assert not list(folder.glob(".*"))


def test_the_number_of_processes_changes_no_byte(whole, corpus, tmp_path):
    recipe, folder, _ = whole
    prepare(str(corpus), str(tmp_path / "two"), recipe, num_processes=2)
    assert contents(tmp_path / "two") == contents(folder)


def test_failures_are_listed_again_whatever_is_in_their_names(tmp_path):
    folder = write_corpus(tmp_path / "corpus", 2, 0)
    with open(folder / "metadata.csv", "a", encoding="utf-8") as rows:
        rows.write("one\u2028two.wav,a song that is not there,train\n")
    (folder / "one\u2028two.wav").write_bytes(b"no audio")
    first = prepare(str(folder), str(tmp_path / "out"), make_recipe("log-mel", 3.0))
    assert [Path(file).name for file, _ in first.failures] == ["one\u2028two.wav"]
    again = prepare(folder, tmp_path / "out", make_recipe("log-mel", 3.0))
    assert again.failures == first.failures


def test_a_second_call_finds_nothing_to_do_and_says_the_same(whole, corpus, tmp_path):
    recipe, folder, report = whole
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    second = prepare(corpus, again, recipe)
    assert second.num_clips == report.num_clips
    assert second.failures == report.failures
    assert second.new_audio_seconds == 0
    assert contents(again) == contents(folder)


def _in_a_process(*arguments) -> None:
    os.setpgid(0, 0)
    torch.set_num_threads(1)  # those of the process that this is a fork of are not here
    prepare(*arguments)


def kill_when(folder: Path, num_done: int, *arguments) -> None:
    """Start preparing, and SIGKILL the process that leads it once some shards are there."""
    process = multiprocessing.get_context("fork").Process(target=_in_a_process, args=arguments)
    process.start()
    while process.is_alive() and len(list(folder.glob(".unfinished/0*.json"))) < num_done:
        time.sleep(0.002)
    os.kill(process.pid, signal.SIGKILL)
    process.join()


@pytest.mark.parametrize("num_processes", [1, 2])
def test_killed_again_and_again_it_ends_with_the_same_bytes(whole, corpus, tmp_path, num_processes):
    recipe, folder, report = whole
    output = tmp_path / "killed"
    for num_done in (0, 1, 3, 6):
        kill_when(output, num_done, corpus, output, recipe, num_processes)
        assert not (output / "prepared.json").exists() or contents(output) == contents(folder)
    ended = prepare(corpus, output, recipe, num_processes)
    assert contents(output) == contents(folder)
    assert ended.failures == report.failures
    assert ended.new_audio_seconds < report.new_audio_seconds


def test_a_kill_between_the_last_file_and_the_tidying_up_is_tidied_up(whole, corpus, tmp_path):
    recipe, folder, _ = whole
    output = tmp_path / "late"
    shutil.copytree(folder, output)
    (output / ".unfinished").mkdir()
    (output / ".unfinished" / "plan.json").write_text("{}")
    prepare(corpus, output, recipe)
    assert contents(output) == contents(folder)


def test_processes_of_a_killed_run_do_not_disturb_the_next(corpus, tmp_path):
    output = tmp_path / "killed"
    kill_when(output, 1, corpus, output, RECIPES["pcm"], 2)
    # They may still be tidying up while the next call writes the same shards.
    prepare(corpus, output, RECIPES["pcm"])
    assert (output / "prepared.json").is_file()


def test_another_recipe_or_other_data_do_not_go_on_with_it(corpus, tmp_path):
    output = tmp_path / "unfinished"
    kill_when(output, 1, corpus, output, RECIPES["log-mel"], 1)
    shutil.rmtree(output / ".lock", ignore_errors=True)
    with pytest.raises(
        ValueError, match="an interrupted run left shards .* --force to start again"
    ):
        prepare(corpus, output, make_recipe("log-mel", 3.0))
    assert prepare(corpus, output, make_recipe("log-mel", 3.0), force=True).num_clips == 12
    with pytest.raises(ValueError, match="was prepared from other data or with other options"):
        prepare(corpus, output, RECIPES["pcm"])
    changed = tmp_path / "changed"
    shutil.copytree(corpus, changed)
    os.utime(changed / "clip-00.wav", (0, 0))
    with pytest.raises(ValueError, match="was prepared from other data"):
        prepare(changed, output, make_recipe("log-mel", 3.0))


def test_force_leaves_nothing_of_what_was_there_but_other_peoples_files(corpus, tmp_path):
    output = tmp_path / "prepared"
    prepare(corpus, output, RECIPES["tars"])
    for name in ("notes.txt", "2019-backup.tar"):
        (output / name).write_text("mine")
    prepare(corpus, output, RECIPES["pcm"], force=True)
    names = set(contents(output))
    assert "notes.txt" in names
    assert [name for name in names if name.endswith(".tar")] == ["2019-backup.tar"]


def test_tars_are_not_replaced_by_what_is_made_of_them(corpus, tmp_path):
    output = tmp_path / "tars"
    prepare(corpus, output, RECIPES["tars"])
    before = contents(output)
    for data in (output, output / "00000.tar"):
        with pytest.raises(ValueError, match="tars: contains DATA. Name a new folder"):
            prepare(data, output, RECIPES["pcm"], force=True)
    assert {name: contents(output)[name] for name in before} == before


def test_a_shard_that_has_gone_since_it_was_done_is_written_again(whole, corpus, tmp_path):
    recipe, folder, _ = whole
    output = tmp_path / "gone"
    kill_when(output, 3, corpus, output, recipe)
    for path in [*output.glob("data-*"), *output.glob("*.tar")][:2]:
        path.unlink()
    prepare(corpus, output, recipe)
    assert contents(output) == contents(folder)


def test_a_folder_that_holds_something_else_is_left_alone(corpus, tmp_path):
    (tmp_path / "song.mp3").write_bytes(b"music")
    for force in (False, True):
        with pytest.raises(ValueError, match="holds other files. Name a new folder"):
            prepare(corpus, tmp_path, RECIPES["pcm"], force=force)
    with pytest.raises(ValueError, match="is a file"):
        prepare(corpus, tmp_path / "song.mp3", RECIPES["pcm"])
    assert contents(tmp_path) == {"song.mp3": b"music"}


def test_what_is_prepared_is_not_prepared_again(corpus, tmp_path):
    prepare(corpus, tmp_path / "once", RECIPES["pcm"])
    with pytest.raises(ValueError, match="is already prepared. Name the corpus"):
        prepare(tmp_path / "once", tmp_path / "twice", RECIPES["pcm"])


def test_data_of_which_nothing_can_be_decoded_end_in_one_line(corpus, tmp_path):
    data = write_corpus(tmp_path / "bad", 2, 1)
    for path in data.glob("*.wav"):
        path.write_bytes(b"no music")
    with pytest.raises(ValueError, match="no clip could be decoded. See .*failures.jsonl"):
        prepare(data, tmp_path / "out", RECIPES["pcm"])
    assert len((tmp_path / "out" / "failures.jsonl").read_text().splitlines()) == 3
    assert not (tmp_path / "out" / "prepared.json").exists()


@pytest.mark.parametrize("store", ["pcm", "tars"])
def test_a_shard_all_of_whose_clips_fail_is_empty_and_harmless(store, tmp_path):
    data = write_corpus(tmp_path / "data", 5, 1)
    for index in (2, 3):
        (data / f"clip-{index:02}.wav").write_bytes(b"no music")
    report = prepare(data, tmp_path / "out", RECIPES[store])
    assert (report.num_clips, report.num_shards) == (4, 3)
    clips = read_manifest(tmp_path / "out").clips
    assert [clip.track_id for clip in clips] == [f"clip-{i:02}.wav" for i in (0, 1, 4, 5)]


def test_tars_are_read_back_as_the_same_manifest_xl(corpus, tmp_path):
    prepare(corpus, tmp_path / "tars", RECIPES["tars"])
    before, after = read_manifest(corpus), read_manifest(tmp_path / "tars")

    def rows(manifest):
        return [(c.track_id, c.captions, c.group, c.split) for c in manifest.clips]

    assert rows(after) == [row for row in rows(before) if row[0] != "clip-05.wav"]
    assert after.problems == []


def test_tars_of_an_interrupted_run_are_not_taken_for_the_whole_corpus(corpus, tmp_path):
    output = tmp_path / "tars"
    prepare(corpus, output, make_recipe("tars"))
    (output / "prepared.json").unlink()
    (output / ".unfinished").mkdir()
    with pytest.raises(ValueError, match="is unfinished. Run the command that makes it again"):
        read_manifest(output)


def test_shards_hold_half_a_gigabyte_at_most_and_a_small_corpus_makes_many():
    recipe = make_recipe("log-mel")
    assert clips_per_shard(10, recipe) == 2
    assert clips_per_shard(1_280, recipe) == 20
    per_shard = clips_per_shard(10_000_000, recipe)
    segment_bytes = 96 * 188 * 4
    assert 2**28 < per_shard * 6 * segment_bytes <= 2**29
    assert clips_per_shard(10_000_000, make_recipe("pcm", np.inf)) == 69
