"""The report renders whatever is missing or oddly named, and every number in it has an origin."""

import html
import json
import re
from dataclasses import replace

import pytest
from benchmarked import QUALITIES, make_data, make_result, make_task, write_results

from mulap.benchmark.report.page import write_report
from mulap.probing.printing import mean_and_std, print_percentage
from mulap.probing.rows import append_row, write_rows

CLASS = make_task("class", ["rock", "jazz", "folk"], "Own genres")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A report on a task of each kind, one of them of the paper."""
    folder = tmp_path_factory.mktemp("benchmark")
    numbers, tags = make_task("numbers", ["v", "a"], "Own mood"), make_task("tags", "abc", "Tags")
    tasks = [make_data("gtzan"), make_data(CLASS), make_data(numbers), make_data(tags)]
    rows = write_results(folder, tasks, left_out=[("/music/bad.mp3", "cannot be decoded")])
    page = write_report(str(folder))
    assert page == folder / "report.html"
    return folder, rows


def read(folder):
    return (folder / "report.md").read_text(), (folder / "report.html").read_text()


def test_everything_has_its_place(whole):
    folder, _ = whole
    for text in read(folder):
        plain = html.unescape(text.replace("\\", ""))
        for words in (
            "The paper's Table 1",
            "The paper's Table 2",
            "Figure 3",
            "GTZAN (filtered)",
            "Own genres (split column)",
            "Confusions of musicnn-mtt",
            "cannot be decoded",
            "minus random",
            "torch",
            "SHA-256",
            "45".rjust(64, "0"),
            "What others published",
        ):
            assert words in plain, words


def test_what_each_backbone_left_out_is_listed_and_equal_lists_once(tmp_path):
    data = make_data(CLASS)
    for name, file in (("random", "a.mp3"), ("mel", "b.mp3"), ("musicnn-mtt", "a.mp3")):
        row = make_result(tmp_path, data, name, 0.5, left_out=[(file, "is broken")])
        append_row(tmp_path / "results.jsonl", row)
    write_report(tmp_path)
    text = read(tmp_path)[0]
    assert text.count("a.mp3: is broken") == text.count("b.mp3: is broken") == 1
    assert "random, musicnn-mtt: left out: 1" in text


def test_the_page_is_one_file_that_asks_for_nothing(whole):
    _, page = read(whole[0])
    links = re.findall(r'(?:src|href)="([^"]*)"|url\(([^)]*)\)', page)
    assert all((a or b).startswith("#") for a, b in links)
    assert "<img" not in page
    assert page.count("<svg") == 4 + 2 * len(QUALITIES)


def test_identifiers_are_unique_on_the_page(whole):
    identifiers = re.findall(r' id="([^"]*)"', read(whole[0])[1])
    assert identifiers
    assert len(identifiers) == len(set(identifiers))


def test_the_figures_that_the_markdown_names_are_there(whole):
    folder, _ = whole
    paths = re.findall(r"!\[.*?\]\(([^)]*)\)", read(folder)[0])
    assert len(paths) == 1 + 2 * len(QUALITIES)
    for path in paths:
        assert (folder / path).is_file()
        assert (folder / path).with_suffix(".svg").is_file()


def test_no_path_of_this_machine_is_told(whole):
    for text in read(whole[0]):
        assert str(whole[0]) not in text
        assert "/music/" not in text


def test_the_same_results_give_the_same_report(whole):
    folder, _ = whole
    before = read(folder)
    write_report(folder)
    assert read(folder) == before


def test_every_number_of_a_task_s_tables_is_of_its_rows(whole):
    folder, rows = whole
    text = read(folder)[0]
    section = text[text.index("## Own genres") : text.index("## Own mood")]
    own = [row for row in rows if row["title"] == "Own genres"]
    known = {
        print_percentage(100 * value)
        for row in own
        for score in row["scores"].values()
        for value in (score["mean"], score["std"], score["low"], score["high"])
    }
    known |= {print_percentage(100 * v) for r in own for m in r["per_label"].values()
              for v in m.values()}  # fmt: skip
    known |= {f"{count:.1f}" for row in own for line in row["confusion"] for count in line}
    tables = [line for line in section.splitlines() if line.startswith("|")]
    # Differences, which the bootstrap makes, bear a sign or stand after one.
    first = next(i for i, line in enumerate(tables) if "minus random" in line)
    cells = [line.split("|") for line in tables]
    for index in range(first, first + 2 + len(QUALITIES)):
        cells[index] = cells[index][:4]
    shown = {n for line in cells for cell in line for n in re.findall(r"−?\d+\.\d", cell)}
    assert len(shown) > 30
    assert shown <= known


def test_differences_are_those_of_the_saved_predictions(whole):
    folder, rows = whole
    text = read(folder)[0]
    section = text[text.index("## Own genres") : text.index("## Own mood")]
    accuracy = {
        row["backbone"]: row["scores"]["accuracy"]["mean"]
        for row in rows
        if row["title"] == "Own genres"
    }
    difference = print_percentage(100 * (accuracy["mel"] - accuracy["random"]), signed=True)
    (line,) = re.findall(rf"^\| mel \|.*\| {re.escape(difference)} \|.*$", section, re.MULTILINE)
    assert "to" in line


def test_missing_pairs_and_one_seed_leave_dashes(tmp_path):
    one, two = make_data(CLASS), make_data("emomusic")
    rows = [
        make_result(tmp_path, one, "mel", 0.4, num_seeds=1),
        make_result(tmp_path, two, "./my best", 0.4, num_seeds=1),
    ]
    write_rows(tmp_path / "results.jsonl", rows)
    write_report(tmp_path)
    text, page = read(tmp_path)
    assert "minus" not in text
    assert "±" not in text.split("## Own genres")[1].split("What others")[0]
    assert "| ./my best |" in text
    assert "./my best" in page


def test_lost_predictions_cost_a_difference_not_the_report(tmp_path):
    rows = write_results(tmp_path, [make_data(CLASS)])
    (tmp_path / rows[1]["predictions"]).unlink()
    write_report(tmp_path)
    assert "No difference: mel: " in read(tmp_path)[0]
    (tmp_path / rows[0]["predictions"]).write_bytes(b"torn")
    write_report(tmp_path)
    assert str(tmp_path) not in read(tmp_path)[0]


def test_predictions_for_other_tracks_are_not_compared(tmp_path):
    rows = [
        make_result(tmp_path, make_data(CLASS), "random", 0.1),
        make_result(tmp_path, make_data(CLASS, num_test=50), "mel", 0.1),
    ]
    write_rows(tmp_path / "results.jsonl", rows)
    write_report(tmp_path)
    assert "different test tracks" in read(tmp_path)[0]


def test_odd_names_stay_names(tmp_path):
    task = make_task(
        "class", ["a|b", "<script>alert(1)</script>", "$x$", "two\nlines"], "T | <i>x</i> $5$"
    )
    row = make_result(tmp_path, make_data(task), "./<b>|x", 0.3, label='"<img src=x>|"')
    write_rows(tmp_path / "results.jsonl", [row])
    write_report(tmp_path)
    text, page = read(tmp_path)
    for tag in ("<script", "<img", "<i>", "<b>|"):
        assert tag not in page
        assert tag not in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all(line.endswith("|") for line in tables)


def test_what_could_not_be_judged_is_listed(tmp_path):
    write_results(tmp_path, [make_data(CLASS)])
    entry = {"file": "fma_small (playable), mel", "reason": "data/fma: no such folder"}
    (tmp_path / "failures.jsonl").write_text(json.dumps(entry) + "\n")
    write_report(tmp_path)
    for text in read(tmp_path):
        assert "no such folder" in text
        assert "Failed" in text


def test_folds_and_trained_backbones_are_told(tmp_path):
    row = make_result(tmp_path, make_data(CLASS), "supervised", 0.4)
    write_rows(tmp_path / "results.jsonl", [row | {"num_folds": 5, "trained_on": "magnatagatune"}])
    write_report(tmp_path)
    text = read(tmp_path)[0].replace("\\", "")
    assert "5 folds" in text
    assert "supervised was trained on magnatagatune" in text


def test_what_intervals_resample_is_told_and_results_of_version_0_1_are_read(tmp_path):
    data = make_data(CLASS)
    examples = [replace(e, group=f"a{index // 4}") for index, e in enumerate(data.examples)]
    data = replace(data, examples=examples, task=replace(data.task, group_name="artist"))
    new = make_result(tmp_path, data, "mel", 0.4)
    assert (new["resampled"], new["num_resampled"]) == ("artist", 15)
    write_rows(tmp_path / "results.jsonl", [new])
    write_report(tmp_path)
    for text in read(tmp_path):
        assert "Intervals resample whole groups (artist: 15 in the test)." in text
    old = {key: value for key, value in new.items() if not key.endswith("resampled")}
    write_rows(tmp_path / "results.jsonl", [old | {"backbone": "random", "label": "random"}, new])
    write_report(tmp_path)
    text = read(tmp_path)[0]
    assert "Intervals of random resample single tracks (60 in the test)." in text
    assert "Intervals of mel resample whole groups (artist: 15 in the test)." in text


def test_one_group_has_no_interval_and_is_drawn_without_whiskers(tmp_path):
    data = make_data(CLASS)
    examples = [replace(each, group="one artist") for each in data.examples]
    row = make_result(tmp_path, replace(data, examples=examples), "mel", 0.4)
    assert row["scores"]["accuracy"]["low"] is None
    write_rows(tmp_path / "results.jsonl", [row])
    write_report(tmp_path)
    line = f"| mel | {mean_and_std(row['scores']['accuracy'])} | – |"
    assert line in read(tmp_path)[0].replace("**", "")


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no results. Run mulap benchmark"):
        write_report(tmp_path)


def test_intervals_beside_their_score_are_told(tmp_path):
    row = make_result(tmp_path, make_data(CLASS), "mel", 0.4)
    row["scores"]["f1"]["low"] = row["scores"]["f1"]["mean"] + 0.01
    write_rows(tmp_path / "results.jsonl", [row])
    write_report(tmp_path)
    assert "The interval does not include the score: F1 of mel." in read(tmp_path)[0]
