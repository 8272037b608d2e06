"""FMA-small: the true test set, the clips that hold nothing, and tables that are not FMA's."""

from pathlib import Path

import pytest
from task_samples_more import fma_rows, pack, write_fma_small

from mulap.archives import unpack
from mulap.tasks.registry import find_task
from mulap.tasks.sets.fma_small import BROKEN, LABELS, SPLITS, TABLE

TASK = find_task("fma_small")
# By two other projects' counts all of the broken clips are in train.
OFFICIAL = {"training": 800, "validation": 100, "test": 100}


def official_rows() -> list[tuple]:
    """As many clips as FMA has; the last six of train have the ids of the broken ones."""
    rows = fma_rows(OFFICIAL)
    for position, track_id in zip(range(6_394, 6_400), BROKEN, strict=True):
        rows[position] = (track_id, *rows[position][1:])
    # None of the made-up ids may be one of theirs too.
    return [row if row[0] not in BROKEN or 6_394 <= i < 6_400 else (row[0] + 1, *row[1:])
            for i, row in enumerate(rows)]  # fmt: skip


@pytest.mark.parametrize("split_name", SPLITS)
def test_a_table_of_the_official_size_has_the_sizes_that_are_promised(tmp_path, split_name):
    data = TASK.load(write_fma_small(tmp_path, official_rows()), split_name)
    assert tuple(data.counts().values()) == SPLITS[split_name]
    assert len(data.problems) == (6 if split_name == "playable" else 0)


def test_the_test_tracks_are_the_rows_of_test_and_not_those_of_validation(tmp_path):
    rows = fma_rows()
    data = TASK.load(write_fma_small(tmp_path, rows))
    (fold,) = data.folds
    for ours, theirs in (("train", "training"), ("valid", "validation"), ("test", "test")):
        wanted = {str(row[0]) for row in rows if row[2] == theirs}
        found = {data.examples[index].track_id for index in getattr(fold, ours)}
        assert found == wanted


def test_the_broken_clips_are_left_out_with_what_is_wrong_with_each(tmp_path):
    rows = [*fma_rows(), *((track_id, 1, "training", "small", "Pop") for track_id in BROKEN)]
    data = TASK.load(write_fma_small(tmp_path, rows))
    assert not {str(track_id) for track_id in BROKEN} & {e.track_id for e in data.examples}
    reasons = {source.split()[-1]: reason for source, reason in data.problems}
    assert reasons["98567"] == "known to be broken: 0.5 s of audio"
    assert set(reasons) == {str(track_id) for track_id in BROKEN}
    assert len(TASK.load(tmp_path, "all")) == len(data) + 6


def test_files_labels_and_other_subsets(tmp_path):
    data = TASK.load(write_fma_small(tmp_path))
    assert data.examples[0].file_name == "fma_small/000/000002.mp3"
    assert data.examples[0].group == "14"
    assert [LABELS[target] for target in data.targets[:4]] == ["Electronic"] * 3 + ["Experimental"]
    assert len(data) == 40  # the two rows of other subsets are not there
    assert data.task.labels == tuple(sorted(LABELS))


def test_an_artist_in_two_splits_is_reported(tmp_path):
    rows = fma_rows()
    rows[-1] = (rows[-1][0], rows[0][1], *rows[-1][2:])
    data = TASK.load(write_fma_small(tmp_path, rows))
    assert data.problems[0][1] == "1 groups in two splits, as '14' in train and test"


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_line_ends_and_byte_order_marks_change_nothing(tmp_path, line_end, mark):
    path = write_fma_small(tmp_path, line_end=line_end) / TABLE
    path.write_bytes(mark + path.read_bytes())
    data = TASK.load(tmp_path)
    assert data.examples[0].track_id == "2"
    assert data.counts() == {"train": 24, "valid": 8, "test": 8}


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    lines = content.split(b"\n")
    changed = {
        "missing": None,
        "empty": b"",
        "no split column": content.replace(b",split,", b",spilt,", 1),
        "no index row": b"\n".join([*lines[:2], *lines[3:]]),
        "not UTF-8": content.replace("ö".encode(), b"\xf6"),
        "not UTF-8 where it matters": content.replace(b"Hip-Hop", b"Hip\xf6Hop", 1),
        "short row": content + b"9,9\n",
        "no small": content.replace(b",small,", b",large,"),
        "unknown split": content.replace(b",validation,", b",holdout,", 1),
        "unknown genre": content.replace(b",Folk,", b",Polka,", 1),
        "id twice": content.replace(b"\n5,0,", b"\n2,0,", 1),
        "id no number": content.replace(b"\n5,0,", b"\nfive,0,", 1),
    }[how]
    assert changed != content
    path.unlink()
    if changed is not None:
        path.write_bytes(changed)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", "cannot be read .*mulap download fma_small"),
        ("empty", "no column 'set,split'"),
        ("no split column", "no column 'set,split' in its three header rows"),
        ("no index row", "no index row 'track_id'"),
        ("not UTF-8", "cannot be read"),
        ("not UTF-8 where it matters", "cannot be read"),
        ("short row", "cannot be read to its end .*Expected 9 columns, got 2"),
        ("no small", "no row has the subset 'small'"),
        ("unknown split", "unknown split 'holdout'"),
        ("unknown genre", "track .* unknown label 'Polka'"),
        ("id twice", "track '2' twice"),
        ("id no number", "cannot be read to its end"),
    ],
)
def test_a_table_that_is_not_fma_s_is_refused_in_one_line(tmp_path, how, message):
    path = write_fma_small(tmp_path) / TABLE
    damage(path, how)
    with pytest.raises(ValueError, match=message) as error:
        TASK.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_biography_longer_than_a_csv_cell_may_be_is_no_obstacle(tmp_path):
    path = write_fma_small(tmp_path) / TABLE
    long = "word " * 40_000 + "\n" + "word " * 40_000  # Python's csv stops at 131,072 characters
    path.write_text(path.read_text().replace("plays the lute", long, 1))
    assert len(TASK.load(tmp_path)) == 40


def test_archives_like_the_official_ones_come_out_where_they_are_looked_for(tmp_path):
    folder = write_fma_small(tmp_path / "data", seconds=0.2)
    for remote in TASK.remotes[""]:
        archive = tmp_path / remote.path
        pack(folder, [archive.stem], archive, "zip")
        unpack([archive], folder / remote.unpack_to)
    data = TASK.load(folder)
    assert all(data.audio_path(index).is_file() for index in range(len(data)))
