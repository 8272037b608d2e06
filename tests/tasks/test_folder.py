"""Tables of one's own: kinds, splits, folds, groups, and rows that cannot be used."""

import json
import tempfile
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from task_samples_more import write_labels

from mulap.tasks.folder import read_folder


def make_rows(num_rows: int = 24, **columns) -> list[dict]:
    """Rows with a genre; a column is a function of the row's number."""
    columns = {"genre": lambda i: ("rock", "jazz", "folk")[i % 3]} | columns
    return [
        {"file_name": f"music/{i:02}.wav", **{name: f(i) for name, f in columns.items()}}
        for i in range(num_rows)
    ]


def load(folder: Path, rows: list[dict], label="genre", **options):
    return read_folder(write_labels(folder / "labels.csv", rows), label, **options)


def names_in(data, positions) -> set[str]:
    return {data.examples[index].track_id for index in positions}


# --- what labels are ---


def test_a_class_task_of_a_table_without_splits(tmp_path):
    data = load(tmp_path, make_rows())
    assert (data.task.kind, data.task.labels) == ("class", ("folk", "jazz", "rock"))
    assert data.targets.tolist() == [2, 1, 0] * 8
    assert data.split_name == "5-fold seed 0 by track"
    assert data.root == tmp_path
    assert data.audio_path(3) == tmp_path / "music" / "03.wav"
    assert [fold.name for fold in data.folds] == ["1", "2", "3", "4", "5"]
    assert data.counts()["test"] == 24
    assert data.problems == []
    assert data.task.title == "labels (genre)"
    assert load(tmp_path, make_rows(), title="Mine").task.title == "Mine"


@pytest.mark.parametrize("value", ["a|b", "a;;b", "b| a |"])
def test_tags_are_split_and_sorted(tmp_path, value):
    data = load(tmp_path, make_rows(tags=lambda i: value if i % 2 else "c"), "tags")
    assert (data.task.kind, data.task.labels) == ("tags", ("a", "b", "c"))
    assert data.targets[:2].tolist() == [[False, False, True], [True, True, False]]


@pytest.mark.parametrize(
    ("values", "how"),
    [
        (("rock, guitar", "jazz,piano", "rock , drums"), "commas (write a|b to keep them inside a"),
        (("rock;guitar", "jazz; piano", "rock;drums"), "semicolons (write a|b to keep them insid"),
        (("rock|guitar", "jazz|piano", "rock;;drums"), "bars or in lists"),
        (("['rock', 'guitar']", "['jazz', 'piano']", '["rock", "drums"]'), "bars or in lists"),
        (("[rock, guitar]", "[jazz, piano]", "[rock, drums]"), "commas (write a|b"),
    ],
)
def test_tags_are_split_at_the_usual_marks_and_it_is_told(tmp_path, values, how):
    """Each combination was taken for one tag, and nothing was said: ROC-AUC near one half."""
    data = load(tmp_path, make_rows(12, tags=lambda i: values[i % 3]), "tags", kind="tags")
    assert data.task.labels == ("drums", "guitar", "jazz", "piano", "rock")
    assert data.targets.sum(0).tolist() == [4, 4, 4, 4, 8]
    (note,) = data.notes
    assert note.startswith(f"column tags: 5 tags, separated by {how}")
    assert note.endswith(": rock 8, guitar 4, jazz 4, piano 4, drums 4")


def test_a_bar_anywhere_keeps_other_marks_inside_tags(tmp_path):
    values = ("Folk, World; Country|live", "Pop/Rock", "Folk, World; Country")
    data = load(tmp_path, make_rows(12, tags=lambda i: values[i % 3]), "tags")
    assert data.task.labels == ("Folk, World; Country", "Pop/Rock", "live")


def test_slashes_stay_inside_tags(tmp_path):
    data = load(tmp_path, make_rows(12, tags=lambda i: ("Pop/Rock;Jazz", "Jazz")[i % 2]), "tags")
    assert (data.task.kind, data.task.labels) == ("tags", ("Jazz", "Pop/Rock"))


def test_a_note_says_how_often_each_class_occurs(tmp_path):
    names = [f"c{i:02}" for i in range(20)]
    rows = make_rows(44, genre=lambda i: names[i % 20 if i < 40 else 0])
    assert load(tmp_path, rows).notes == [
        "column genre: 20 classes: c00 6, c01 2, c02 2, c03 2, c04 2, c05 2, c06 2, c07 2, c08 2, "
        "c09 2, c10 2, c11 2, and 8 more, the rarest 2"
    ]
    assert load(tmp_path, make_rows(tempo=lambda i: i + 0.5), "tempo").notes == []


def test_names_are_found_as_the_disk_spells_them_also_through_a_path_that_is_text(tmp_path):
    rows = make_rows(12)
    table = write_labels(tmp_path / "labels.csv", rows)
    decomposed = unicodedata.normalize("NFD", "é.wav")
    (tmp_path / "music" / "00.wav").rename(tmp_path / "music" / decomposed)
    text = table.read_text(encoding="utf-8").replace("music/00.wav", "music\\é.wav")
    table.write_text(text.replace(",", ";"), encoding="utf-8")
    data = read_folder(str(table), "genre")
    assert data.problems == []
    assert data.examples[0].file_name == f"music/{decomposed}"
    assert data.audio_path(0).is_file()


def test_a_row_for_each_tag_is_merged_where_the_kind_is_given(tmp_path):
    rows = [{**row, "tag": tag} for row in make_rows(8) for tag in ("x", row["genre"])]
    data = load(tmp_path, rows, "tag", kind="tags")
    assert len(data) == 8
    assert data.targets.sum() == 16
    with pytest.raises(
        ValueError, match="Give --kind tags to merge the rows, or --kind class to leave"
    ):
        load(tmp_path, rows, "tag")


def test_numbers_of_one_column_and_of_several(tmp_path):
    rows = make_rows(tempo=lambda i: 60 + i / 2, energy=lambda i: i)
    data = load(tmp_path, rows, "tempo")
    assert (data.task.kind, data.targets.shape) == ("numbers", (24, 1))
    data = load(tmp_path, rows, ("tempo", "energy"))
    assert data.task.labels == ("tempo", "energy")
    assert data.targets[3].tolist() == [61.5, 3.0]


def test_whole_numbers_are_asked_about_and_then_taken_as_told(tmp_path):
    rows = make_rows(mood=lambda i: i % 2)
    with pytest.raises(ValueError, match=r"labels.csv: the column 'mood' holds whole numbers"):
        load(tmp_path, rows, "mood")
    assert load(tmp_path, rows, "mood", kind="class").task.labels == ("0", "1")
    assert load(tmp_path, rows, "mood", kind="numbers").targets.dtype == np.float64


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet"])
def test_every_format_of_table_gives_the_same_task(tmp_path, ending):
    rows = make_rows(tags=lambda i: ["x", "y"] if i % 3 else ["x"], split=lambda i: "train")
    for i, row in enumerate(rows):
        row["split"] = ("train", "train", "dev", "testing")[i % 4]
    table = tmp_path / f"table.{ending}"
    if ending == "csv":
        write_labels(table, [{**row, "tags": "|".join(row["tags"])} for row in rows])
    else:
        write_labels(tmp_path / "other.csv", rows)
    if ending == "jsonl":
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif ending == "json":
        table.write_text(json.dumps(rows))
    elif ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), table)
    data = read_folder(table, "tags")
    assert data.task.kind == "tags"
    assert data.targets.sum() == 40
    assert data.split_name == "split column"
    assert data.counts() == {"train": 12, "valid": 6, "test": 6}


@pytest.mark.parametrize(
    "change", [lambda b: b"\xef\xbb\xbf" + b, lambda b: b.replace(b"\n", b"\r\n")]
)
def test_a_byte_order_mark_and_line_ends_change_nothing(tmp_path, change):
    table = write_labels(tmp_path / "labels.csv", make_rows())
    before = read_folder(table, "genre")
    table.write_bytes(change(table.read_bytes()))
    assert read_folder(table, "genre").examples == before.examples


# --- splits ---


def test_a_split_column_is_kept_whatever_it_is_called(tmp_path):
    split = lambda i: ("Training", "val", "TEST")[i % 3]  # noqa: E731
    rows = make_rows(genre=lambda i: "ab"[i % 2], subset=split)
    data = load(tmp_path, rows, split="subset")
    assert data.split_name == "split column subset"
    assert data.folds[0].valid.tolist() == list(range(1, 24, 3))
    # Nobody said that `subset` is the split: folds are dealt.
    assert len(load(tmp_path, rows).folds) == 5


def test_valid_is_taken_out_of_train_where_a_table_has_none(tmp_path):
    rows = make_rows(
        60, split=lambda i: "test" if i < 12 else "train", artist=lambda i: f"A{i // 3}"
    )
    data = load(tmp_path, rows)
    assert data.split_name == "split column, valid seed 0 by artist"
    (fold,) = data.folds
    assert fold.test.tolist() == list(range(12))
    assert len(fold.train) + len(fold.valid) == 48
    assert 48 / 10 <= len(fold.valid) <= 48 / 5
    artists = [{data.examples[i].group for i in part} for part in (fold.train, fold.valid)]
    assert not artists[0] & artists[1]
    assert data.problems == []
    other = load(tmp_path, rows, seed=1)
    assert other.split_name == "split column, valid seed 1 by artist"
    assert other.folds[0].test.tolist() == fold.test.tolist()


def test_a_split_column_wins_over_groups_and_the_leak_is_reported(tmp_path):
    rows = make_rows(
        split=lambda i: ("train", "valid", "test")[i // 8], artist=lambda i: f"A{i % 9}"
    )
    data = load(tmp_path, rows)
    assert data.counts() == {"train": 8, "valid": 8, "test": 8}
    assert any("groups in two splits" in reason for _, reason in data.problems)


@pytest.mark.parametrize(("only", "gone"), [(("train", "valid"), "test"), (("test",), "train")])
def test_a_split_column_without_test_or_train_is_refused(tmp_path, only, gone):
    with pytest.raises(ValueError, match=rf"labels.csv: the column 'split' has no track in {gone}"):
        load(tmp_path, make_rows(split=lambda i: only[i % len(only)]))


# --- folds ---


def test_a_fold_column_tests_each_value_once(tmp_path):
    sources = ("bank 10", "bank 2", "bank 9")
    data = load(tmp_path, make_rows(48, source=lambda i: sources[i // 16]), fold="source")
    assert data.split_name == "fold column source (3 folds), valid seed 0 by track"
    assert [fold.name for fold in data.folds] == sorted(sources)
    for fold in data.folds:
        tested = names_in(data, fold.test)
        assert len(tested) == 16
        assert 32 / 10 <= len(fold.valid) <= 32 / 5
        assert not tested & (names_in(data, fold.train) | names_in(data, fold.valid))
    assert data.problems == []


def test_a_column_called_fold_is_used_and_its_numbers_are_in_order(tmp_path):
    data = load(tmp_path, make_rows(44, fold=lambda i: i % 11))
    assert [fold.name for fold in data.folds] == [str(number) for number in range(11)]


def test_a_fold_column_wins_over_groups_and_the_leak_is_reported(tmp_path):
    rows = make_rows(48, part=lambda i: i % 2, artist=lambda i: f"A{i // 4}")
    data = load(tmp_path, rows, fold="part")
    assert (
        "labels.csv column part",
        "12 groups in two folds, such as 'A0': probes learn from tracks of the groups that they "
        "are tested on",
    ) in (data.problems)
    for fold in data.folds:
        train, valid = ({data.examples[i].group for i in part} for part in (fold.train, fold.valid))
        assert not train & valid


def test_a_fold_that_leaves_one_group_is_refused(tmp_path):
    rows = make_rows(source=lambda i: "ab"[i % 2])
    with pytest.raises(
        ValueError, match=r"labels.csv: the 12 tracks outside test are of one group"
    ):
        load(tmp_path, rows, fold="source", group="source")


def test_dealt_folds_name_the_group_and_their_true_number(tmp_path):
    rows = make_rows(artist=lambda i: f"A{i % 4}")
    data = load(tmp_path, rows, seed=3)
    assert data.split_name == "4-fold seed 3 by artist"
    assert load(tmp_path, rows, num_folds=3).split_name == "3-fold seed 0 by artist"


def test_fillers_are_no_artist(tmp_path):
    data = load(tmp_path, make_rows(artist=lambda i: "Various Artists"))
    assert len(data.folds) == 5
    assert {e.group for e in data.examples} == {""}


def test_spellings_of_one_artist_are_one_group(tmp_path):
    rows = make_rows(artist=lambda i: (f"Björk {i % 6}", f" BJÖRK  {i % 6}")[i // 12])
    for fold in load(tmp_path, rows).folds:
        assert {i % 6 for i in fold.test} & {i % 6 for i in [*fold.train, *fold.valid]} == set()


def test_a_class_that_no_train_track_has_is_reported(tmp_path):
    rows = make_rows(genre=lambda i: "rare" if i == 5 else "ab"[i % 2])
    data = load(tmp_path, rows)
    assert [reason for _, reason in data.problems] == [
        "labels in test that no train track has: 'rare'"
    ]
    assert data.problems[0][0].startswith("labels.csv fold ")


@settings(derandomize=True, max_examples=40, deadline=None)
@given(data=st.data())
def test_whatever_the_groups_are_none_is_torn(data):
    num_rows = data.draw(st.integers(6, 30))
    artists = data.draw(st.lists(st.sampled_from("ABCDEFGH"), min_size=num_rows, max_size=num_rows))
    artists[:4] = "ABCD"
    how = data.draw(st.sampled_from(["class", "tags", "numbers"]))
    with tempfile.TemporaryDirectory() as folder:
        rows = make_rows(
            num_rows, artist=lambda i: artists[i], tags=lambda i: "x|y" if i % 2 else "x",
            tempo=lambda i: i + 0.5,
        )  # fmt: skip
        label = {"class": "genre", "tags": "tags", "numbers": "tempo"}[how]
        task = load(Path(folder), rows, label, num_folds=data.draw(st.integers(3, 6)))
    for fold in task.folds:
        parts = [{artists[i] for i in part} for part in (fold.train, fold.valid, fold.test)]
        assert sum(map(len, parts)) == len(set().union(*parts))


# --- rows and tables that cannot be used ---


def test_rows_that_cannot_be_used_are_counted_with_the_reason(tmp_path):
    split = lambda i: ("train", "train", "train", "valid", "test")[i % 5]  # noqa: E731
    rows = make_rows(30, split=split, artist=lambda i: "B" if i == 11 else "")
    rows[4]["genre"] = " "
    rows[5]["split"] = "holdout"
    rows.append({**rows[9], "genre": "polka"})
    rows.append({**rows[10], "split": "valid"})
    rows.append({**rows[11], "artist": "Someone"})
    rows.append({**rows[12], "artist": "Someone"})  # says more, and nothing else: no harm
    rows.append({**rows[13], "file_name": f"./{rows[13]['file_name']}"})  # the same file
    table = write_labels(tmp_path / "labels.csv", rows)
    (tmp_path / rows[0]["file_name"]).unlink()
    with open(table, "a", encoding="utf-8") as out:
        out.write(',rock,train,\nmusic/01.wav,rock,train,X,one cell too many\n"torn\n')
    data = read_folder(table, "genre", kind="class")
    reasons = [reason for _, reason in data.problems]
    for wanted in (
        "no such file: 'music/00.wav'",
        "no label: the column 'genre' is empty",
        "unknown split: 'holdout'",
        "no file name",
        "too many cells",
        "unreadable row",
        "'music/09.wav' is left out: its label is 'polka' here, but 'rock' in labels.csv row 11",
        "'music/10.wav' is left out: its split or fold is 'valid' here, but 'train' in",
        "'music/11.wav' is left out: its group is 'someone' here, but 'b' in",
    ):
        assert sum(reason.startswith(wanted) for reason in reasons) == 1, wanted
    assert len(reasons) == 9
    assert len(data) == 30 - 6
    assert {e.group for e in data.examples} == {"", "Someone"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"file_name,genre\n", "no track can be used; labels.csv: it holds no rows"),
        (b"file,genre\na,b\n", "no column 'file_name'; it has 'file', 'genre'. Rename 'file' to"),
        (b"file_name;genre\na;b\n", "no track can be used; .*row 2: no such file: 'a'"),
        (b"file_name,gener\na,b\n", "no column 'genre'; it has .*. Did you mean 'gener'"),
        (b"file_name,genre,genre\na,b,c\n", "two columns 'genre'"),
        (b"file_name,genre\ncaf\xe9,b\n", "line 2 is not UTF-8"),
        (b"\xff\xfef\x00i", "is not UTF-16"),
        (b"file_name,genre\na.wav,rock\n", "no track can be used; .*row 2: no such file: 'a.wav'"),
        (b"file_name,genre\nlabels.csv,rock\n", "every track is 'rock'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused_in_one_line(tmp_path, content, message):
    table = tmp_path / "labels.csv"
    table.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_folder(table, "genre")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(str(table))


def test_a_table_that_is_not_there_or_is_a_folder_is_refused(tmp_path):
    for path, reason in ((tmp_path / "none.csv", "cannot be read"), (tmp_path, "is a folder")):
        with pytest.raises(ValueError, match=f"{path}: {reason}"):
            read_folder(path, "genre")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "fold_", "fold": "split_"}, "Give one of them"),
        ({"split": "none"}, "no column 'none'"),
        ({"fold": "none"}, "no column 'none'"),
        ({"group": "none"}, "no column 'none'"),
        ({"kind": "genres"}, "no kind 'genres'. Give one of tags, class, numbers"),
        ({"kind": "numbers"}, "no track can be used; .*not a number: 'rock' in the column 'genre'"),
        ({"num_folds": 1}, "1 folds: too few"),
        ({"seed": -1}, "seed -1"),
        ({"fold": "genre_"}, "the fold column 'genre_' says 'x' of every track"),
    ],
)
def test_options_that_make_no_sense_are_refused_in_one_line(tmp_path, options, message):
    rows = make_rows(split_=lambda i: "train", fold_=lambda i: i, genre_=lambda i: "x")
    with pytest.raises(ValueError, match=message):
        load(tmp_path, rows, **options)


def test_what_is_the_same_everywhere_is_refused_before_anything_is_embedded(tmp_path):
    for value in (1.5, "a|b"):
        with pytest.raises(ValueError, match=r"every track is '(1\.5|a\|b)': there is nothing"):
            load(tmp_path, make_rows(label=lambda i, value=value: value), "label")


def test_a_group_column_is_found_whatever_its_case_and_labels_are_never_groups(tmp_path):
    for name in ("Artist", "ARTIST"):
        data = load(tmp_path, make_rows(**{name: lambda i: f"A{i % 8}"}))
        assert data.split_name == f"5-fold seed 0 by {name}"
    rows = make_rows(artist=lambda i: f"A{i % 3}", album=lambda i: f"B{i // 2}")
    assert load(tmp_path, rows, "artist").split_name == "5-fold seed 0 by album"


def test_a_file_name_too_long_to_be_looked_for_costs_its_own_row_only(tmp_path):
    table = write_labels(tmp_path / "labels.csv", make_rows())
    with open(table, "a", encoding="utf-8") as out:
        out.write("x" * 400 + ".wav,rock\n")
    data = read_folder(table, "genre")
    assert len(data) == 24
    ((source, reason),) = data.problems
    assert source == "labels.csv row 26"
    assert reason.endswith("(File name too long)")


def test_rows_that_cannot_be_used_are_counted_and_leaks_are_not(tmp_path):
    split = lambda i: ("train", "valid", "test")[i // 8]  # noqa: E731
    rows = make_rows(split=split, artist=lambda i: f"A{i % 9}")
    assert load(tmp_path, rows).num_unusable_rows == 0
    rows[3]["genre"] = ""
    data = load(tmp_path, rows)
    assert (data.num_unusable_rows, len(data.problems)) == (1, 2)


def test_one_column_of_classes_is_enough(tmp_path):
    with pytest.raises(ValueError, match="kind 'class' has one column of labels, not 2"):
        load(tmp_path, make_rows(other=lambda i: "x"), ("genre", "other"), kind="class")
    with pytest.raises(ValueError, match="no column of labels"):
        load(tmp_path, make_rows(), ())
