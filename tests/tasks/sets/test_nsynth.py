"""NSynth: families by their ids, instruments apart, files that are cut or not NSynth's."""

import json

import pytest
from task_samples_more import nsynth_notes, pack, write_nsynth

from mulap.archives import unpack
from mulap.tasks.registry import find_task
from mulap.tasks.sets.nsynth import LABELS, SPLITS

TASK = find_task("nsynth")


def test_families_files_and_instruments(tmp_path):
    data = TASK.load(str(write_nsynth(tmp_path)))
    first = data.examples[0]
    assert first.file_name == "nsynth-train/audio/bass_acoustic_000-060-100.wav"
    assert (first.track_id, first.group) == ("bass_acoustic_000-060-100", "bass_acoustic_000")
    assert data.counts() == {"train": 22, "valid": 22, "test": 22}
    for index, example in enumerate(data.examples):
        assert example.track_id.startswith(LABELS[data.targets[index]])
    assert data.problems == []


def test_labels_are_in_the_order_of_the_official_ids():
    assert len(LABELS) == 11
    assert (LABELS[0], LABELS[9], LABELS[10]) == ("bass", "synth_lead", "vocal")
    assert SPLITS == {"official": (289_205, 12_678, 4_096)}
    # Magenta says 305,979 notes in all.
    assert sum(SPLITS["official"]) == 305_979


def test_archives_like_the_official_ones_come_out_where_they_are_looked_for(tmp_path):
    folder = write_nsynth(tmp_path / "data", seconds=0.1)
    for remote in TASK.remotes[""]:
        archive = tmp_path / remote.path
        pack(folder, [remote.path.partition(".")[0]], archive, "gztar")
        unpack([archive], folder / remote.unpack_to)
    data = TASK.load(folder)
    assert all(data.audio_path(index).is_file() for index in range(len(data)))


def test_an_instrument_of_train_in_test_is_reported(tmp_path):
    notes = {split: nsynth_notes(first=first) for split, first in
             (("train", 0), ("valid", 2), ("test", 4))}  # fmt: skip
    name, note = next(iter(notes["train"].items()))
    other = f"{note['instrument_str']}-061-100"
    notes["test"][other] = {**note, "note_str": other}
    data = TASK.load(write_nsynth(tmp_path, notes))
    assert data.problems[0][1] == f"1 groups in two splits, as {name[:-8]!r} in train and test"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"instrument_family": 3}, "family 3 is not called 'bass'"),
        ({"instrument_family": 11}, "family 11 is not called 'bass'"),
        ({"instrument_family": -1}, "family -1 is not called 'bass'"),
        ({"instrument_family": True}, "no instrument_family"),
        ({"instrument_family_str": None}, "no instrument_family"),
        ({"instrument_str": 5}, "no instrument_family"),
    ],
)
def test_a_note_whose_labels_cannot_be_used_is_counted(tmp_path, change, reason):
    notes = {split: nsynth_notes() for split in ("valid", "test")}
    notes["train"] = nsynth_notes(first=2)
    next(iter(notes["train"].values())).update(change)
    notes["valid"], notes["test"] = nsynth_notes(first=4), nsynth_notes(first=6)
    data = TASK.load(write_nsynth(tmp_path, notes))
    assert len(data) == 65
    assert len(data.problems) == 1
    assert data.problems[0][0] == "nsynth-train/examples.json note 'bass_acoustic_002-060-100'"
    assert data.problems[0][1].startswith(reason)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read: No such file.*mulap download nsynth"),
        (b"", "not JSON"),
        (b"[]", "no track in test"),
        (b"[1, 2]", "not NSynth's labels"),
        (b'"notes"', "not NSynth's labels"),
        (b"{}", "no track in test"),
        (b'{"a": {"instrument_family": 0', "not JSON"),
        (b"\xff\xfe{", "not UTF-16"),
        (b'{"caf\xe9": 1}', "line 1 is not UTF-8"),
        (b"[" * 200_000, "not JSON"),
    ],
)
def test_a_file_that_is_not_nsynth_s_is_refused_in_one_line(tmp_path, content, message):
    path = write_nsynth(tmp_path) / "nsynth-test" / "examples.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        TASK.load(tmp_path)
    assert "\n" not in str(error.value)
    assert str(tmp_path) in str(error.value)


def test_a_note_that_stands_twice_in_a_file_is_refused(tmp_path):
    path = write_nsynth(tmp_path) / "nsynth-test" / "examples.json"
    notes = json.loads(path.read_text())
    name = next(iter(notes))
    again = f'"{name}": {json.dumps(notes[name])},'
    path.write_text(path.read_text().replace("{", "{" + again, 1))
    with pytest.raises(ValueError, match=f"has the track '{name}' twice"):
        TASK.load(tmp_path)


def test_line_ends_and_a_byte_order_mark_change_nothing(tmp_path):
    path = write_nsynth(tmp_path) / "nsynth-train" / "examples.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert len(TASK.load(tmp_path)) == 66
