"""The whole corpus, from clients that stand in for the registries' and tiny music."""

import csv
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from command_line import call, check_one_line
from package_clients import Clients

from mulap.corpora.free_music import corpus
from mulap.corpora.free_music.corpus import FreeMusicOptions, make_free_music
from mulap.corpora.rendered.music import RenderReport
from mulap.data.manifest import read_manifest
from mulap.data.splits import find_leaking_groups
from mulap.files import read_failures

# Of the real table: one of each split, one that the clients do not have, and one of npm.
NAMES = ("amoebax-data", "zaz-data", "freecol", "0ad-data", "weshop-music-package-jazzhop")
RECORDED = FreeMusicOptions(packages=NAMES, only="recorded", max_clips=1)


def write_tune(path: Path, pitch: float, seconds: float = 20.0, **tags: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(16_000 * seconds)) / 16_000
    noise = np.random.default_rng(round(pitch)).standard_normal(len(time))
    with soundfile.SoundFile(path, "w", 16_000, 1) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(0.2 * np.sin(2 * np.pi * pitch * time) + pitch / 20_000 * noise)


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Clients:
    clients = Clients(tmp_path / "clients", monkeypatch)
    games = {name: clients.debian(name) / "usr/share/games/game/music" for name in NAMES[:3]}
    write_tune(games["amoebax-data"] / "calm_forest.ogg", 220.0)
    write_tune(games["amoebax-data"] / "battle.ogg", 880.0)
    # The piece of a held-out package, in another file, is left out of training.
    write_tune(games["amoebax-data"] / "borrowed.ogg", 440.0)
    write_tune(games["zaz-data"] / "mus1.ogg", 3000.0)
    write_tune(games["freecol"] / "seas.ogg", 440.0, title="Fearless Sailors")
    write_tune(tmp_path / "npm/tracks/rain.ogg", 330.0, seconds=62.0)
    catalog = {"tracks": [{"packagePath": "tracks/rain.ogg", "title": "Rain on Glass"}]}
    (tmp_path / "npm/catalog.json").write_text(json.dumps(catalog))
    clients.npm("weshop-music-package-jazzhop", tmp_path / "npm")
    return clients


def rows_of(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metadata.csv", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_packages_become_a_corpus_whose_splits_are_apart(clients, tmp_path):
    output = tmp_path / "out"
    report = make_free_music(output, RECORDED)
    assert report.num_clips == {"train": 2, "valid": 1, "test": 1}
    rows = rows_of(output)
    assert {(row["source"], row["split"], row["licence"]) for row in rows} == {
        ("amoebax-data", "train", "Free-Art-License-1.2"),
        ("zaz-data", "valid", "CC-BY-SA-3.0"),
        ("freecol", "test", "CC-BY-4.0"),
    }
    assert all(row["attribution"] and row["group"] for row in rows)
    for row in rows:
        assert len(json.loads(row["caption"])) == len(json.loads(row["caption_source"])) > 0
    manifest = read_manifest(output)
    assert manifest.problems == []
    assert not find_leaking_groups((clip.group, clip.split) for clip in manifest.clips)


def test_a_missing_package_is_listed_and_does_not_end_the_run(clients, tmp_path):
    report = make_free_music(tmp_path / "out", RECORDED)
    ((name, reason),) = report.failures
    assert name == "0ad-data"
    assert "Unable to locate package" in reason
    assert read_failures(tmp_path / "out" / "failures.jsonl") == report.failures


def test_what_is_too_close_to_a_held_out_track_is_listed(clients, tmp_path):
    report = make_free_music(tmp_path / "out", RECORDED)
    ((name, reason),) = report.left_out
    assert name.endswith("borrowed")
    assert "held out for test" in reason
    assert read_failures(tmp_path / "out" / "left-out.jsonl") == report.left_out


def test_machine_made_music_is_apart_and_labelled_with_its_style(clients, tmp_path):
    make_free_music(tmp_path / "out", RECORDED)
    (row,) = rows_of(tmp_path / "out" / "machine-made")
    assert (row["style"], row["title"]) == ("jazzhop", "Rain on Glass")
    clip = tmp_path / "out" / "machine-made" / row["file_name"]
    assert soundfile.info(clip).duration == 60.0
    assert not any("weshop" in row["source"] for row in rows_of(tmp_path / "out"))


def test_a_second_run_fetches_and_hears_nothing_again(clients, tmp_path, monkeypatch):
    output = tmp_path / "out"
    make_free_music(output, RECORDED)
    table = (output / "metadata.csv").read_bytes()
    written = {path: path.stat().st_mtime_ns for path in output.rglob("*.flac")}
    before = clients.calls()
    make_free_music(output, RECORDED)
    # What was missing is tried again, as the network may be back.
    assert clients.calls()[len(before) :] == ["apt-get download 0ad-data"]
    assert (output / "metadata.csv").read_bytes() == table
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.flac")} == written


KILLED = """
import sys
from mulap.corpora.free_music.corpus import FreeMusicOptions, make_free_music
options = FreeMusicOptions(packages=tuple(sys.argv[2:]), only="recorded", max_clips=1)
make_free_music(sys.argv[1], options)
"""


def test_a_killed_run_is_unfinished_and_a_second_one_resumes(clients, tmp_path):
    output = tmp_path / "out"
    make_free_music(output, replace(RECORDED, packages=("zaz-data",)))
    clients.kill_next()
    command = [sys.executable, "-c", KILLED, output, "zaz-data", "freecol", "amoebax-data"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises(ValueError, match="unfinished"):
        read_manifest(output)
    before = clients.calls()
    report = make_free_music(output, replace(RECORDED, packages=("zaz-data", "freecol")))
    assert report.failures == []
    assert report.num_clips == {"valid": 1, "test": 1}
    assert clients.calls()[len(before) :] == ["apt-get download freecol"]
    assert len(read_manifest(output).clips) == 2


def test_a_package_that_cannot_be_fetched_again_keeps_its_clips(clients, tmp_path):
    output, options = tmp_path / "out", replace(RECORDED, packages=("zaz-data", "freecol"))
    make_free_music(output, options)
    clips = {path: path.stat().st_mtime_ns for path in output.rglob("*.flac")}
    shutil.move(output / ".sources" / "music" / "zaz-data", tmp_path / "kept")
    shutil.move(clients.folder / "debian" / "zaz-data", tmp_path / "gone")
    report = make_free_music(output, options)
    assert [name for name, _ in report.failures] == ["zaz-data"]
    assert report.num_clips == {"test": 1}
    shutil.move(tmp_path / "kept", output / ".sources" / "music" / "zaz-data")
    assert make_free_music(output, options).num_clips == {"valid": 1, "test": 1}
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*.flac")} == clips


def test_without_any_network_one_line_says_why(clients, tmp_path):
    options = FreeMusicOptions(packages=("0ad-data",), only="recorded")
    with pytest.raises(ValueError, match=r"no music could be had; 0ad-data: .*Unable to locate"):
        make_free_music(tmp_path / "out", options)


def test_too_small_a_disk_is_refused_before_anything_is_fetched(clients, tmp_path, monkeypatch):
    usage = corpus.shutil.disk_usage(tmp_path)._replace(free=10_000_000)
    monkeypatch.setattr(corpus.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(ValueError, match=r"needs [\d,]+ MB, but only 10 are free"):
        make_free_music(tmp_path / "out", RECORDED)
    assert clients.calls() == []


def test_rendered_clips_join_the_table_with_the_columns_of_both(clients, tmp_path, monkeypatch):
    def render(output, hours, seed, processes, packages) -> RenderReport:
        write_tune(output / "audio" / "rendered-000000.flac", 500.0, 18.0)
        row = {"file_name": "audio/rendered-000000.flac", "caption": '["a waltz"]'}
        row |= {"caption_source": '["truth"]', "split": "train", "group": "w", "key": "C major"}
        missing = {"music21": "is not installed"}
        replaced = [("rendered-000001 (notes)", "too soft to be heard")]
        return RenderReport([row], 0, replaced, missing)

    monkeypatch.setattr(corpus, "render_music", render)
    output = tmp_path / "out"
    report = make_free_music(output, replace(RECORDED, only="", hours=0.01))
    assert report.num_clips == {"train": 3, "valid": 1, "test": 1}
    assert report.missing == {"music21": "is not installed"}
    assert report.left_out[-1] == ("rendered-000001 (notes)", "too soft to be heard")
    assert [name for name, _ in report.failures] == ["0ad-data"]
    *recorded, rendered = rows_of(output)
    assert (rendered["file_name"], rendered["key"]) == (
        "rendered/audio/rendered-000000.flac",
        "C major",
    )
    assert rendered["track"] == recorded[0]["key"] == ""
    assert len(read_manifest(output).clips) == 5


def test_the_command_prints_the_folder_and_what_was_made(clients, tmp_path):
    output = tmp_path / "out"
    names = "amoebax-data,zaz-data"
    command = ("corpus", "free-music", output, "--only", "recorded", "--max-clips", 1)
    result = call(*command, "--packages", names, "--processes", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{output}\n"
    assert "2 packages, 4 recorded tracks; clips: " in result.stderr
    result = call(*command, "--packages", f"{names},0ad-data", "--processes", 1)
    assert result.exit_code == 3
    assert str(output / "failures.jsonl") in result.stderr.splitlines()[-1]


def test_a_package_that_is_not_in_the_table_is_refused(tmp_path):
    result = call("corpus", "free-music", tmp_path / "out", "--packages", "uqm-music")
    check_one_line(result, 1, "uqm-music", "Choose from")
