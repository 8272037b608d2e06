"""python -m pytest tests/tasks/test_mtg_jamendo.py"""

import hashlib

import pytest
from task_samples import SPLITS, mtg_jamendo_row, shared_splits, write_mtg_jamendo

from mulap.data.splits import find_leaking_groups
from mulap.tasks.registry import find_task
from mulap.tasks.sets import mtg_jamendo

# task -> (name in the files, labels, published sizes)
PUBLISHED = {
    "mtg_jamendo_top50": ("top50tags", 50, (32_136, 10_888, 11_356)),
    "mtg_jamendo_genre": ("genre", 87, (32_572, 11_043, 11_479)),
    "mtg_jamendo_instrument": ("instrument", 40, (14_395, 5_466, 5_115)),
    "mtg_jamendo_moodtheme": ("moodtheme", 56, (9_949, 3_802, 4_231)),
}


@pytest.fixture(scope="module")
def real_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mtg_jamendo")
    (folder / "data" / "splits").mkdir(parents=True)
    (folder / "data" / "splits" / "split-0").symlink_to(shared_splits("mtg_jamendo"))
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_real_tables_give_the_published_sizes_rows_and_artists(real_folder, name):
    subset, num_labels, sizes = PUBLISHED[name]
    task = find_task(name)
    data = task.load(real_folder)
    assert tuple(data.counts().values()) == task.splits["split-0"] == sizes
    assert data.targets.shape == (sum(sizes), num_labels)
    assert data.targets.any(axis=1).all()
    assert data.targets.any(axis=0).all()
    rows = []
    for file in mtg_jamendo.SPLIT_FILES.values():
        path = real_folder / "data" / "splits" / "split-0" / f"autotagging_{subset}-{file}.tsv"
        rows += [line.split("\t") for line in path.read_text().splitlines()[1:]]
    for row, example in zip(rows, data.examples, strict=True):
        read = (example.track_id, example.group, example.file_name, example.target)
        assert read == (row[0], row[1], f"audio/{row[3]}", tuple(row[5:]))
    assert not find_leaking_groups((e.group, e.split) for e in data.examples)
    assert data.problems == []


def test_labels_are_the_official_lists():
    folder = shared_splits("mtg_jamendo")
    everything = tuple((folder / "tag_list_183.txt").read_text().split())
    assert find_task("mtg_jamendo_genre").labels == everything[:87]
    assert find_task("mtg_jamendo_instrument").labels == everything[87:127]
    moods = tuple((folder / "moodtheme_split.txt").read_text().split())
    assert find_task("mtg_jamendo_moodtheme").labels == moods
    top = tuple((folder / "top50.txt").read_text().split())
    assert find_task("mtg_jamendo_top50").labels == top


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_is_fetched_has_the_size_and_checksum_of_the_real_files(real_folder, name):
    remotes = find_task(name).remotes["split-0"]
    for remote in remotes:
        data = (shared_splits("mtg_jamendo") / remote.path.rpartition("/")[2]).read_bytes()
        assert remote.num_bytes == len(data)
        assert remote.checksum in ("", f"sha256:{hashlib.sha256(data).hexdigest()}")
        assert remote.url.endswith(f"/{remote.path}")
    assert sum(bool(remote.checksum) for remote in remotes) >= 2


def test_a_small_table_reads_with_either_line_end(tmp_path):
    folder = write_mtg_jamendo(tmp_path, "instrument")
    task = find_task("mtg_jamendo_instrument")
    first = task.load(folder)
    for path in folder.rglob("*.tsv"):
        path.write_bytes(path.read_bytes().replace(b"\r\n", b"\n"))
    second = task.load(folder)
    assert [e.track_id for e in first.examples] == [f"track_{214 + row:07}" for row in range(12)]
    assert first.examples == second.examples
    assert first.counts() == dict.fromkeys(SPLITS, 4)


@pytest.mark.parametrize("ending", ["mp3", "low.mp3"])
@pytest.mark.parametrize("below", ["audio/", ""])
def test_audio_is_found_in_either_quality_and_place(tmp_path, below, ending):
    folder = write_mtg_jamendo(tmp_path)
    path = folder / f"{below}15/215.{ending}"
    path.parent.mkdir(parents=True)
    path.touch()
    data = find_task("mtg_jamendo_genre").load(folder)
    assert data.audio_path(1) == path


def test_sound_of_the_samples_is_where_the_task_looks_for_it(tmp_path):
    data = find_task("mtg_jamendo_top50").load(write_mtg_jamendo(tmp_path, "top50tags", 2, 0.2))
    assert all(data.audio_path(index).stat().st_size for index in range(len(data)))


def edit(folder, old: bytes, new: bytes) -> None:
    path = folder / "data" / "splits" / "split-0" / "autotagging_genre-validation.tsv"
    assert old in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        (b"genre---60s", b"genre---6os", r"validation\.tsv, line 2 has the unknown label 'genre-"),
        (b"ARTIST_ID", b"ARTIST", r"validation\.tsv: no column 'ARTIST_ID' in its header"),
        (b"\t151.4\t", b"\r\n", r"validation\.tsv, line 2: 4 cells under 6 columns"),
        (b"genre---60s", b"genre---\xe9", r"validation\.tsv: line 2 is not UTF-8"),
        (b"track_0000218", b"track_0000214", r"the track 'track_0000214' twice"),
    ],
)
def test_a_table_of_another_form_gives_one_line(tmp_path, old, new, complaint):
    folder = write_mtg_jamendo(tmp_path)
    edit(folder, old, new)
    with pytest.raises(ValueError, match=complaint) as failure:
        find_task("mtg_jamendo_genre").load(folder)
    assert "\n" not in str(failure.value)


def test_a_missing_table_and_an_empty_split_give_one_line(tmp_path):
    folder = write_mtg_jamendo(tmp_path)
    path = folder / "data" / "splits" / "split-0" / "autotagging_genre-test.tsv"
    path.write_text("TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n")
    with pytest.raises(ValueError, match="no track in test"):
        find_task("mtg_jamendo_genre").load(folder)
    path.unlink()
    with pytest.raises(ValueError, match=r"genre-test\.tsv: cannot be read: No such file"):
        find_task("mtg_jamendo_genre").load(folder)
    with pytest.raises(ValueError, match="no split 'split-1'"):
        find_task("mtg_jamendo_genre").load(folder, "split-1")


def test_an_artist_in_two_splits_is_reported(tmp_path):
    folder = write_mtg_jamendo(tmp_path)
    path = folder / "data" / "splits" / "split-0" / "autotagging_genre-test.tsv"
    row = mtg_jamendo_row(999, 0, ("genre---rock",))  # artist 0 is in train
    path.write_bytes(path.read_bytes() + f"{row}\r\n".encode())
    ((_, reason),) = find_task("mtg_jamendo_genre").load(folder).problems
    assert reason == "1 groups in two splits, as 'artist_000000' in train and test"


def test_by_hand_names_their_script_and_the_place():
    mood, genre = find_task("mtg_jamendo_moodtheme"), find_task("mtg_jamendo_genre")
    assert "download.py --dataset autotagging_moodtheme --type audio DIR/audio" in mood.by_hand
    assert "download.py --dataset raw_30s --type audio DIR/audio" in genre.by_hand
    assert "MediaEval 2020" in mood.caveat
    assert "MediaEval" not in genre.caveat
