"""python -m pytest tests/tasks/test_magnatagatune.py"""

import hashlib
import shutil

import numpy as np
import pytest
from task_samples import (
    SPLITS,
    magnatagatune_clips,
    shared_splits,
    write_annotations,
    write_clip_info,
    write_magnatagatune,
    zip_in_parts,
)

from mulap.audio import load_audio
from mulap.tasks.registry import find_task
from mulap.tasks.sets import magnatagatune

TASK = find_task("magnatagatune")


@pytest.fixture(scope="module")
def real():
    """The real lists and label arrays: split -> (paths, bool (n, 50))."""
    folder = shared_splits("mtat")
    found = {}
    for split in SPLITS:
        paths = (folder / f"{split}_list.txt").read_text().split("\n")[:-1]
        found[split] = paths, np.load(folder / f"y_{split}.npy").astype(bool)
    return found


@pytest.fixture(scope="module")
def real_folder(real, tmp_path_factory):
    """Real lists, and an annotations file written from the real label arrays, in another order."""
    folder = tmp_path_factory.mktemp("mtat")
    clips = {}
    for paths, labels in real.values():
        for path, row in zip(paths, labels, strict=True):
            clips[path] = tuple(magnatagatune.LABELS[index] for index in np.flatnonzero(row))
    clips = dict(sorted(clips.items(), key=lambda item: hashlib.md5(item[0].encode()).digest()))
    write_annotations(folder / magnatagatune.ANNOTATIONS, clips)
    write_clip_info(folder / magnatagatune.CLIPS, clips)
    for split in SPLITS:
        shutil.copy(shared_splits("mtat") / f"{split}_list.txt", folder)
    return folder


def test_labels_are_the_lists_own_in_their_order():
    lines = (shared_splits("mtat") / "top50_tags.txt").read_text().split()
    joined = [
        "".join(word if place == 0 else word.title() for place, word in enumerate(label.split()))
        for label in TASK.labels
    ]
    assert joined == lines
    assert len(set(TASK.labels)) == 50


def test_clean_has_the_published_sizes_rows_and_labels(real, real_folder):
    data = TASK.load(real_folder)
    assert data.split_name == "clean"
    assert tuple(data.counts().values()) == TASK.splits["clean"] == (15_244, 1_529, 4_332)
    for split in SPLITS:
        paths, labels = real[split]
        positions = getattr(data.folds[0], split)
        assert [data.examples[index].file_name for index in positions] == [
            f"audio/{path}" for path in paths
        ]
        np.testing.assert_array_equal(data.targets[positions], labels)


def test_the_clip_that_the_authors_code_drops_is_in_the_clean_test_split(real_folder):
    data = TASK.load(real_folder)
    dropped = "audio/f/tilopa-turkishauch-05-schlicht_1-88-117.mp3"
    assert dropped in {data.examples[index].file_name for index in data.folds[0].test}


def test_clean_holds_none_of_the_empty_files_and_keeps_to_the_folders_of_full(real):
    for split, (paths, _) in real.items():
        assert not magnatagatune.EMPTY_FILES & set(paths)
        letters = next(key for key, name in magnatagatune.FOLDERS.items() if name == split)
        assert {path[0] for path in paths} == set(letters)
    everything = [path for paths, _ in real.values() for path in paths]
    assert len(set(everything)) == len(everything)


def test_the_caveat_counts_the_test_clips_of_known_artists(real):
    def artist(path):
        return path.partition("/")[2].partition("-")[0]

    known = {artist(path) for split in ("train", "valid") for path in real[split][0]}
    shared = sum(artist(path) in known - {"various_artists"} for path in real["test"][0])
    assert f"{shared:,} of the 4,332" in TASK.caveat


def test_artists_in_two_splits_are_reported(real_folder):
    (_, reason), *_ = TASK.load(real_folder).problems
    assert "groups in two splits" in reason


def test_the_published_lists_have_the_size_that_is_checked(real):
    """The pickles, written again as Python 2 wrote them, come out at the sizes in the constants."""
    for split, (paths, _) in real.items():
        entries = (f"S'{path[:-4]}.npy'\np{place}\n" for place, path in enumerate(paths, 2))
        pickled = "(lp1\n" + "a".join(entries) + "a."
        remote = next(each for each in TASK.remotes["clean"] if split in each.path)
        assert remote.num_bytes == len(pickled)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_pickled_lists_of_any_protocol_give_the_same_tracks(tmp_path, protocol):
    data = TASK.load(write_magnatagatune(tmp_path, protocol=protocol))
    assert tuple(data.counts().values()) == (12, 1, 3)
    assert [data.examples[0].target, data.examples[0].group] == [("guitar", "vocals"), "Artist 0"]
    assert not data.problems


def test_full_takes_all_clips_by_folder_but_the_three_empty_ones(tmp_path):
    clips = magnatagatune_clips()
    clips["3/untagged-album-01-song-0-29.mp3"] = ()  # in full, never in clean
    clips |= {path: ("guitar",) for path in magnatagatune.EMPTY_FILES}
    data = TASK.load(write_magnatagatune(tmp_path, clips), "full")
    assert tuple(data.counts().values()) == (13, 1, 3)
    names = [example.file_name.removeprefix("audio/") for example in data.examples]
    assert names == [path for path in clips if path not in magnatagatune.EMPTY_FILES]
    assert not data.targets[names.index("3/untagged-album-01-song-0-29.mp3")].any()
    assert TASK.splits["full"] == (18_706, 1_825, 5_329)


def test_audio_is_found_where_the_archive_unpacks_it_or_beside_the_tables(tmp_path):
    folder = write_magnatagatune(tmp_path / "a", seconds=0.5)
    assert zip_in_parts(folder / "audio", tmp_path / "mp3.zip")[2].name == "mp3.zip.003"
    data = TASK.load(folder)
    assert all(data.audio_path(index).is_file() for index in range(len(data)))
    assert abs(len(load_audio(data.audio_path(0))) - 8_000) < 2_500  # mp3 pads
    for path in list((folder / "audio").iterdir()):
        path.rename(folder / path.name)
    data = TASK.load(folder)
    assert data.examples[0].file_name == "0/artist_0-album-01-song-0-29.mp3"


def test_a_listed_clip_without_annotation_is_left_out_and_named(tmp_path):
    folder = write_magnatagatune(tmp_path)
    names = [f"{path[:-4]}.npy" for path in magnatagatune_clips() if path[0] == "c"]
    (folder / "valid_list_pub.cP").unlink()
    (folder / "valid_list.txt").write_bytes("\r\n".join([*names, "c/other.npy"]).encode())
    data = TASK.load(folder)
    assert data.counts()["valid"] == 1
    assert data.problems == [("valid_list.txt: c/other.mp3", "not in annotations_final.csv")]


def test_files_that_are_missing_or_of_another_form_give_one_line(tmp_path):
    def complaint(name: str, change) -> str:
        folder = write_magnatagatune(tmp_path / str(len(list(tmp_path.iterdir()))))
        path = folder / name
        path.write_bytes(change(path.read_bytes()))
        with pytest.raises(ValueError, match=name) as failure:
            TASK.load(folder)
        assert "\n" not in str(failure.value)
        return str(failure.value)

    table = magnatagatune.ANNOTATIONS
    assert "no column 'guitar'" in complaint(table, lambda data: data.replace(b'"guitar"', b'"x"'))
    assert "neither 0 nor 1" in complaint(table, lambda data: data.replace(b'"1"\t', b'"yes"\t'))
    assert "cells under 190 columns" in complaint(table, lambda data: data[:-100])
    assert "not UTF-8" in complaint(table, lambda data: data + b"\xe9")
    assert "no column 'artist'" in complaint(
        magnatagatune.CLIPS, lambda data: data.replace(b"artist", b"singer")
    )
    refused = complaint("test_list_pub.cP", lambda data: b"cos\nsystem\n(S'true'\ntR.")
    assert "not a pickled list of strings (GLOBAL at byte 0)" in refused
    for name in (table, magnatagatune.CLIPS, "train_list_pub.cP"):
        folder = write_magnatagatune(tmp_path / "again")
        (folder / name).unlink()
        with pytest.raises(ValueError, match=f"{name}: cannot be read: No such file"):
            TASK.load(folder)


def test_a_clip_outside_the_known_folders_stops_full(tmp_path):
    folder = write_magnatagatune(tmp_path, magnatagatune_clips() | {"g/x.mp3": ("guitar",)})
    with pytest.raises(ValueError, match=r"line 18: 'g/x\.mp3' lies in none of the folders"):
        TASK.load(folder, "full")


def test_all_that_is_fetched_is_checked_and_the_lists_only_for_clean():
    assert {len(each.checksum) for each in TASK.remotes[""]} == {len("sha256:") + 64}
    assert all(each.url.startswith("https://") for each in TASK.remotes[""])
    assert [each.unpack_to for each in TASK.remotes[""] if "zip" in each.path] == ["audio"] * 3
    assert {each.path for each in TASK.remotes["clean"]} == {f"{s}_list_pub.cP" for s in SPLITS}
    assert "full" not in TASK.remotes
