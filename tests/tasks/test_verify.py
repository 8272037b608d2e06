"""Verifying tasks of this file's own: short tones, and files that are missing or spoilt."""

import json

import numpy as np
import pytest
import soundfile as sf
from closed_folders import closed_folder
from tiny import RATE, tone

from mulap.audio import load_audio
from mulap.data import reader
from mulap.data.reader import Decoded
from mulap.tasks.task import Example, Fold, Task, build_task_data
from mulap.tasks.verify import verify_task

SPLIT_OF = ("train", "train", "train", "valid", "test", "test")
SECONDS = (1.0, 2.0, 0.5, 1.5, 1.0, 0.25)


def make_data(folder, kind="class", published=(3, 1, 2), groups="abcdef", names=None, folds=None):
    """Six tracks: class or tags rock and pop by turns, or two numbers."""
    names = names or [f"audio/{index}.wav" for index in range(6)]
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        sf.write(folder / name, tone(index, SECONDS[index]), RATE)
    targets = {
        "class": ["rock", "pop"] * 3,
        "tags": [("rock", "pop"), ("pop",)] * 3,
        "numbers": [(float(index), -1.0) for index in range(6)],
    }[kind]
    examples = [
        Example(str(index), names[index], targets[index], SPLIT_OF[index], groups[index].strip())
        for index in range(6)
    ]
    task = Task("tiny", "Tiny", kind, ("rock", "pop"), splits={"only": published})
    return build_task_data(task, "only", folder, examples, [("row 7", "no label")], folds)


def test_a_whole_task_is_whole(tmp_path):
    report = verify_task(make_data(tmp_path), num_processes=1)
    assert report.is_whole
    assert (report.missing, report.undecodable, report.leaking_groups) == ([], [], {})
    assert report.duration_seconds == pytest.approx(6.25)
    counts = {name: (s.num_tracks, s.num_published) for name, s in report.splits.items()}
    assert counts == {"train": (3, 3), "valid": (1, 1), "test": (2, 2)}
    durations = [split.duration_seconds for split in report.splits.values()]
    assert durations == pytest.approx([3.5, 1.5, 1.25])
    assert report.problems == [("row 7", "no label")]


@pytest.mark.parametrize(
    ("kind", "train", "test"),
    [
        ("class", {"rock": 2, "pop": 1}, {"rock": 1, "pop": 1}),
        ("tags", {"rock": 2, "pop": 3}, {"rock": 1, "pop": 2}),
        ("numbers", {"rock": 1.0, "pop": -1.0}, {"rock": 4.5, "pop": -1.0}),
    ],
)
def test_labels_are_summed_by_split(tmp_path, kind, train, test):
    report = verify_task(make_data(tmp_path, kind), decode=False)
    assert report.splits["train"].labels == train
    assert report.splits["test"].labels == test


@pytest.mark.parametrize("decode", [False, True])
def test_a_closed_folder_costs_its_own_files_only(tmp_path, decode):
    data = make_data(tmp_path, names=["closed/0.wav", *(f"audio/{n}.wav" for n in range(1, 6))])
    with closed_folder(tmp_path / "closed"):
        report = verify_task(data, decode, num_processes=1)
    assert report.missing == []
    ((name, reason),) = report.undecodable
    assert (name, reason.partition(". ")[0]) == (
        "closed/0.wav",
        "cannot be read: Permission denied",
    )


def test_missing_and_spoilt_files_are_listed_with_the_reason_and_counted(tmp_path):
    data = make_data(tmp_path)
    (tmp_path / "audio" / "0.wav").unlink()
    (tmp_path / "audio" / "1.wav").write_bytes(b"")
    (tmp_path / "audio" / "2.wav").write_bytes(b"RIFF, but no sound in it")
    (tmp_path / "audio" / "4.wav").unlink()
    (tmp_path / "audio" / "4.wav").mkdir()
    report = verify_task(data, num_processes=1)
    assert not report.is_whole
    assert report.missing == ["audio/0.wav"]
    assert [name for name, _ in report.undecodable] == [f"audio/{n}.wav" for n in (1, 2, 4)]
    reasons = [reason for _, reason in report.undecodable]
    assert "is empty, 0 bytes" in reasons[0]
    assert "is not audio" in reasons[1]
    assert "is a folder" in reasons[2]
    train, test = report.splits["train"], report.splits["test"]
    assert (train.num_tracks, train.num_missing, train.num_undecodable) == (3, 1, 2)
    assert (test.num_missing, test.num_undecodable) == (0, 1)
    assert train.duration_seconds == 0.0


def test_a_file_is_decoded_to_its_end(tmp_path):
    data = make_data(tmp_path)
    waveform = tone(0, 40.0)
    waveform[-1] = np.nan  # only the last sample is bad
    sf.write(tmp_path / "audio" / "3.wav", waveform, RATE, subtype="FLOAT")
    report = verify_task(data, num_processes=1)
    assert [name for name, _ in report.undecodable] == ["audio/3.wav"]
    assert "NaN" in report.undecodable[0][1]


def test_without_decoding_files_are_only_looked_for(tmp_path):
    data = make_data(tmp_path)
    (tmp_path / "audio" / "0.wav").unlink()
    (tmp_path / "audio" / "1.wav").write_bytes(b"")
    (tmp_path / "audio" / "2.wav").write_bytes(b"no audio at all")
    report = verify_task(data, decode=False)
    assert report.missing == ["audio/0.wav"]
    assert [name for name, _ in report.undecodable] == ["audio/1.wav"]
    assert report.duration_seconds is None
    assert report.splits["train"].duration_seconds is None
    assert not report.is_decoded


def test_several_processes_find_the_same(tmp_path):
    data = make_data(tmp_path)
    (tmp_path / "audio" / "2.wav").write_bytes(b"spoilt")
    assert verify_task(data, num_processes=2) == verify_task(data, num_processes=1)


def test_other_sizes_than_published_are_not_whole(tmp_path):
    report = verify_task(make_data(tmp_path, published=(3, 1, 3)), decode=False)
    assert not report.is_whole
    assert (report.splits["test"].num_tracks, report.splits["test"].num_published) == (2, 3)


def test_groups_in_two_splits_are_named_but_are_the_sources(tmp_path):
    report = verify_task(make_data(tmp_path, groups="aab aB"), decode=False)
    assert report.leaking_groups == {"a": ("train", "test"), "b": ("train", "test")}
    assert report.is_whole


def test_one_file_in_two_splits_is_a_problem(tmp_path):
    names = [f"audio/{index}.wav" for index in (0, 1, 2, 3, 0, 5)]
    report = verify_task(make_data(tmp_path, names=names), decode=True, num_processes=1)
    reason = "one file in two splits, train and test. Keep it in one."
    assert ("audio/0.wav", reason) in report.problems
    assert report.duration_seconds == pytest.approx(1.0 + 2.0 + 0.5 + 1.5 + 0.25)


def test_folds_are_summed_and_each_file_is_decoded_once(tmp_path, monkeypatch):
    rows = np.arange(6)
    folds = [
        Fold("1", rows[:3], rows[3:4], rows[4:]),
        Fold("2", rows[3:], rows[2:3], rows[:2]),
    ]
    decoded = []
    monkeypatch.setattr(
        reader, "decode_file", lambda _, path: decoded.append(path) or Decoded(RATE)
    )
    data = make_data(tmp_path, groups="aabbcc", folds=folds)
    report = verify_task(data, num_processes=1)
    assert len(decoded) == 6
    assert [report.splits[name].num_tracks for name in ("train", "valid", "test")] == [6, 2, 4]
    assert report.leaking_groups == {"b": ("train", "valid")}
    assert report.duration_seconds == 6.0


def test_the_report_is_json(tmp_path):
    report = verify_task(make_data(tmp_path), decode=False)
    values = json.loads(json.dumps(report.as_dict()))
    assert values["is_whole"] is True
    assert values["root"] == str(tmp_path)
    assert values["splits"]["train"]["labels"] == {"rock": 2, "pop": 1}


def test_durations_are_what_load_audio_decodes(tmp_path):
    data = make_data(tmp_path)
    report = verify_task(data, num_processes=1)
    num_samples = sum(len(load_audio(data.audio_path(index))) for index in range(len(data)))
    assert report.duration_seconds == pytest.approx(num_samples / RATE)
