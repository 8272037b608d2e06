"""Differences from the untrained backbone: which, between what, and computed once."""

import pytest
from benchmarked import make_data, make_outputs, make_result, make_task

from mulap.benchmark.report import differences
from mulap.benchmark.report.differences import compare_rows, group_rows
from mulap.tasks.result import compare

DATA = make_data(make_task("class", ["rock", "jazz", "folk"]))


def make_rows(folder, *names):
    return [make_result(folder, DATA, name, 0.1 * place) for place, name in enumerate(names)]


def test_each_row_is_compared_with_the_first_untrained_one(tmp_path):
    task = compare_rows(tmp_path, make_rows(tmp_path, "mel", "musicnn-mtt", "random"))
    assert task.baseline == 2
    assert set(task.differences) == {0, 1}
    outputs = [make_outputs(DATA, 0.1 * place) for place in range(3)]
    labels = DATA.task.labels
    assert task.differences[1] == compare("class", labels, outputs[1], outputs[2])


def test_without_an_untrained_row_there_is_nothing_to_compare_with(tmp_path):
    task = compare_rows(tmp_path, make_rows(tmp_path, "mel", "musicnn-mtt"))
    assert (task.baseline, task.differences, task.problems) == (None, {}, [])


def test_a_difference_is_computed_once_and_again_when_predictions_change(tmp_path, monkeypatch):
    calls = []

    def counted(*args):
        calls.append(args)
        return compare(*args)

    monkeypatch.setattr(differences, "compare", counted)
    rows = make_rows(tmp_path, "random", "mel")
    first = compare_rows(tmp_path, rows)
    assert compare_rows(tmp_path, rows).differences == first.differences
    assert len(calls) == 1
    make_outputs(DATA, 0.9).save(tmp_path / rows[1]["predictions"])
    assert compare_rows(tmp_path, rows).differences != first.differences
    assert len(calls) == 2


def test_a_damaged_file_of_differences_is_named_not_trusted(tmp_path):
    (tmp_path / "differences.json").write_text("{")
    task = compare_rows(tmp_path, make_rows(tmp_path, "random", "mel"))
    assert task.differences == {}
    assert task.problems == [
        "mel: differences.json: is not JSON. Delete it; mulap report writes it again."
    ]


@pytest.mark.parametrize("lost", [0, 1])
def test_lost_predictions_are_named_relative_to_the_report(tmp_path, lost):
    rows = make_rows(tmp_path, "random", "mel")
    (tmp_path / rows[lost]["predictions"]).unlink()
    (problem,) = compare_rows(tmp_path, rows).problems
    assert problem.startswith("mel: predictions/")
    assert "Run mulap benchmark again" in problem


def test_tasks_and_splits_are_kept_apart():
    rows = [
        {"task": "m", "title": "M", "split_name": split, "backbone": name}
        for split, name in (("clean", "a"), ("full", "a"), ("clean", "b"))
    ]
    assert [[row["backbone"] for row in group] for group in group_rows(rows)] == [["a", "b"], ["a"]]
