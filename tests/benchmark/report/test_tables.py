"""The paper's tables with ours beside them, and each task's own; numbers come from rows alone."""

import re

import pytest
from benchmarked import QUALITIES, make_data, make_result

from mulap.benchmark.report.tables import (
    PAPER_TABLES,
    confusion_table,
    label_table,
    metrics_table,
    paper_table,
    published_table,
    task_table,
)
from mulap.probing.printing import (
    interval,
    mean_and_std,
    metric_name,
    percent,
    print_percentage,
    row_names,
)
from mulap.tasks.registry import find_task
from mulap.tasks.result import Difference


def make_row(name="random", task="magnatagatune", split="clean", label="", protocol="paper", **s):
    scores = {
        metric: {"values": [mean], "mean": mean, "std": 0.01, "low": mean - 0.1, "high": mean + 0.1}
        for metric, mean in s.items()
    }
    kind = {"accuracy": "class", "r2": "numbers"}.get(next(iter(s), ""), "tags")
    return {
        "task": task,
        "title": task,
        "kind": kind,
        "split_name": split,
        "backbone": name,
        "label": label or name,
        "protocol": protocol,
        "scores": scores,
    }


def find_line(table, name):
    (line,) = [line for line in table.rows if line[0] == name]
    return list(line)


def test_table_1_is_the_papers_with_ours_below():
    rows = [make_row(roc_auc=0.876, pr_auc=0.31), make_row("mel", roc_auc=0.9, pr_auc=0.4)]
    table, lines = paper_table(1, rows)
    assert list(table.header) == [
        "Method",
        "MTAT (clean) ROC-AUC",
        "MTAT (clean) PR-AUC",
        "MTG-Jamendo (split-0) ROC-AUC",
        "MTG-Jamendo (split-0) PR-AUC",
    ]
    assert [list(line) for line in table.rows] == [
        ["this paper"],
        ["MuLaP", "89.3†", "40.2†", "82.6", "27.3"],
        ["self-supervised pre-training"],
        ["CLMR", "86.6?", "32.0?", "–", "–"],
        ["semi-supervised pre-training"],
        ["CALM", "91.5‡", "41.4‡", "–", "–"],
        ["fully supervised"],
        ["HCNN", "91.2†", "46.1†", "83.2", "29.6"],
        ["measured here"],
        ["random", "87.6 ± 1.0", "31.0 ± 1.0", "–", "–"],
        ["mel", "90.0 ± 1.0", "40.0 ± 1.0", "–", "–"],
    ]
    assert [line[0] for line in lines[:3]] == ["‡", "?", "†"]
    assert "not comparable" in lines[0]


def test_published_numbers_of_another_split_are_marked_as_not_comparable():
    table, _ = paper_table(1, [make_row(split="full", roc_auc=0.8)])
    assert table.header[1] == "MTAT (full) ROC-AUC"
    assert find_line(table, "MuLaP")[1] == "89.3‡"
    assert find_line(table, "CALM")[1] == "91.5†"
    assert find_line(table, "CLMR")[1] == "86.6?"


def test_with_both_splits_each_number_stands_in_the_column_of_its_own():
    rows = [make_row(split="clean", roc_auc=0.8), make_row(split="full", roc_auc=0.7)]
    table, _ = paper_table(1, rows)
    assert find_line(table, "MuLaP")[1:5] == ["89.3†", "40.2†", "–", "–"]
    assert find_line(table, "CALM")[1:5] == ["–", "–", "91.5†", "41.4†"]
    assert find_line(table, "random")[1:5] == ["80.0 ± 1.0", "–", "70.0 ± 1.0", "–"]


def test_table_2_is_the_papers():
    table, lines = paper_table(2, [make_row(task="emomusic", split="jukemir", r2=-0.05)])
    found = {line[0]: list(line[1:]) for line in table.rows if len(line) > 1}
    assert found == {
        "MuLaP": ["61.1", "85.9", "71.7", "76.8", "58.5", "76.1"],
        "w2v": ["–", "–", "70.0", "–", "–", "–"],
        "ContrG": ["–", "84.7", "–", "79.7", "–", "73.2"],
        "CALM": ["–", "–", "–", "–", "66.9", "–"],
        "Park et al.": ["57.9", "–", "–", "–", "–", "–"],
        "MediaEval 20": ["–", "–", "–", "–", "–", "77.8"],
        "random": ["–", "–", "–", "–", "−5.0 ± 1.0", "–"],
    }
    assert all("(" in cell for cell in table.header[1:])
    assert any("validation" in line for line in lines)


def test_without_rows_the_tables_say_that_nothing_was_measured():
    for number in PAPER_TABLES:
        table, _ = paper_table(number, [])
        assert table.rows[-1][0] == "nothing yet"
        assert set(table.rows[-1][1:]) == {"–"}


def test_the_columns_are_of_tasks_and_metrics_that_exist():
    for columns in PAPER_TABLES.values():
        for column in columns:
            kind = find_task(column.task).kind
            metrics = {"tags": ("roc_auc", "pr_auc"), "class": ("accuracy",), "numbers": ("r2",)}
            assert column.metric in metrics[kind]


@pytest.mark.parametrize("number", [1, 2])
def test_tables_invent_no_number(number):
    tasks = [make_data(task) for task in ("magnatagatune", "nsynth", "emomusic")]
    rows = [make_result(None, data, name, QUALITIES[name]) for data in tasks for name in QUALITIES]
    table, _ = paper_table(number, rows)
    known = {print_percentage(100 * v) for row in rows for s in row["scores"].values()
             for v in (s["mean"], s["std"])}  # fmt: skip
    empty, _ = paper_table(number, [])
    known |= {n for line in empty.rows for n in re.findall(r"−?\d+\.\d", " ".join(line[1:]))}
    shown = {n for line in table.rows for n in re.findall(r"−?\d+\.\d", " ".join(line[1:]))}
    assert shown
    assert shown <= known


def test_a_task_s_table_has_intervals_and_the_difference_to_the_baseline():
    rows = [make_row(roc_auc=0.5, pr_auc=0.1), make_row("mel", roc_auc=0.75, pr_auc=0.2)]
    difference = {1: Difference(0.25, -0.01, 0.5)}
    table = task_table(rows, ["random", "mel"], difference, "random")
    assert [list(line) for line in table.rows] == [
        ["random", "50.0 ± 1.0", "40.0 to 60.0", "–", "–"],
        ["mel", "75.0 ± 1.0", "65.0 to 85.0", "+25.0", "−1.0 to +50.0"],
    ]
    assert table.strong == {(1, 1)}
    assert len(task_table(rows, ["a", "b"], {}, "").header) == 3
    others = metrics_table(rows, ["random", "mel"])
    assert others is not None
    assert list(others.rows[1]) == ["mel", "20.0 ± 1.0", "10.0 to 30.0"]


def test_published_numbers_of_a_task_say_their_split_and_source():
    table, lines = published_table("magnatagatune", "clean")
    assert table is not None
    assert list(table.header) == [
        "Method",
        "ROC-AUC",
        "PR-AUC",
        "split",
        "kind of method",
        "source",
    ]
    ttmr = [line for line in table.rows if line[0] == "TTMR"]
    assert [(line[1], line[3]) for line in ttmr] == [("91.1", "full‡"), ("91.7", "clean")]
    assert any("not comparable" in line for line in lines)
    muq, _ = published_table("gtzan", "filtered")
    assert muq is not None
    assert find_line(muq, "MuQ")[1] == "85.5 ± 0.9"
    assert published_table("folder", "x") == (None, [])


def test_labels_stand_in_order_of_their_scores_the_skipped_last():
    row = make_row(roc_auc=0.5) | {
        "labels": ["a", "b", "c"],
        "per_label": {"roc_auc": {"a": 0.3, "c": 0.9}},
    }
    table, extremes = label_table([row], ["random"], "roc_auc")
    assert [list(line) for line in table.rows] == [["c", "90.0"], ["a", "30.0"], ["b", "–"]]
    assert extremes is None


def test_of_many_labels_the_best_and_the_worst_are_shown():
    row = make_result(None, make_data("magnatagatune"), "random", 0.1)
    table, extremes = label_table([row], ["random"], "roc_auc")
    assert len(table.rows) == 50
    assert extremes is not None
    assert extremes.rows[1] == table.rows[0]
    assert extremes.rows[-1] == table.rows[-1]
    assert [line[0] for line in extremes.rows if len(line) == 1] == ["the best 5", "the worst 5"]


def test_a_confusion_matrix_is_a_table_or_of_many_classes_a_list():
    row = {"labels": ["a", "b"], "confusion": [[3.0, 0.5], [1.0, 2.0]]}
    table = confusion_table(row)
    assert [list(line) for line in table.rows] == [["a", "3", "0.5"], ["b", "1", "2"]]
    listed = confusion_table(row, most=1)
    assert [list(line) for line in listed.rows] == [["b", "a", "1"]]


def test_several_protocols_are_told_apart_and_one_is_not_named():
    rows = [make_row(roc_auc=0.5), make_row(roc_auc=0.6, protocol="linear")]
    assert row_names(rows) == ["random, paper", "random, linear"]
    whole = make_row("end-to-end", roc_auc=0.5, protocol="end-to-end")
    assert row_names([rows[0], whole]) == ["random", "end-to-end"]


def test_backbones_that_share_a_label_are_told_apart():
    rows = [
        make_row("./new", label="ours", roc_auc=0.9),
        make_row("random", roc_auc=0.5),
        make_row("./old", label="ours", roc_auc=0.6),  # of an earlier config
    ]
    assert row_names(rows) == ["ours (./new)", "random", "ours (./old)"]
    table, _ = paper_table(1, rows)
    assert find_line(table, "ours (./new)")[1] == "90.0 ± 1.0"
    assert find_line(table, "ours (./old)")[1] == "60.0 ± 1.0"


def test_numbers_are_printed_in_percent_with_one_decimal():
    assert [percent(0.61249), percent(-0.155), percent(None), percent(1.0)] == [
        "61.2",
        "−15.5",
        "–",
        "100.0",
    ]
    assert percent(0.012, signed=True) == "+1.2"
    assert percent(-0.0001) == "0.0"
    assert percent(-0.0001, signed=True) == "+0.0"
    assert mean_and_std({"mean": 0.5, "std": None}) == "50.0"
    assert mean_and_std({"mean": 0.5, "std": 0.004}) == "50.0 ± 0.4"
    assert mean_and_std(None) == interval({"low": None, "high": 0.5}) == "–"
    assert metric_name("r2/valence") == "R² valence"
