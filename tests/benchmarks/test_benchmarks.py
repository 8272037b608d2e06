"""Every table at toy size, so that the benchmarks cannot rot. No time is judged."""

import json
import re
from contextlib import redirect_stdout
from io import StringIO

import pytest
import torch

from benchmarks.__main__ import TABLES, main
from benchmarks.inference import AUTHORS, CLAP, MERT, MUSICNN, OURS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    """What one toy run printed, and what it wrote as JSON."""
    path = tmp_path_factory.mktemp("toy") / "out.json"
    threads, printed = torch.get_num_threads(), StringIO()
    with redirect_stdout(printed):
        main(["--toy", "--threads", "1", "--json", str(path)])
    torch.set_num_threads(threads)
    return printed.getvalue(), json.loads(path.read_text())


def test_every_table_is_measured_and_printed(toy):
    printed, tables = toy
    assert set(tables) == {*TABLES, "goals"}
    for table in tables.values():
        assert f"## {table['title']}" in printed
        assert all(row[0] in printed for row in table["rows"])


def test_every_row_has_a_cell_under_each_head(toy):
    for table in toy[1].values():
        assert table["rows"]
        assert {len(row) for row in table["rows"]} == {len(table["head"])}


def test_every_contestant_is_timed_or_says_why_not(toy):
    for key, table in toy[1].items():
        for each in table["measured"]:
            assert each["missing"] or min(each["seconds"]) > 0, key


def test_all_who_embed_files_embed_all_of_them(toy):
    measured = {each["name"]: each for each in toy[1]["embedding"]["measured"]}
    assert measured[MUSICNN]["missing"]
    assert measured[OURS]["results"] == measured[AUTHORS]["results"] == [4]  # files of 3.5 s
    assert measured[CLAP]["results"] == [4]
    assert measured[MERT]["results"] == [1]


def test_ours_and_the_authors_step_start_from_losses_of_one_size(toy):
    ours, authors = (each["results"][0] for each in toy[1]["step"]["measured"])
    assert ours.keys() == authors.keys() == {"mlm", "mam", "atm"}
    assert ours["mlm"] == pytest.approx(authors["mlm"], rel=0.2)


def test_all_goals_of_the_issue_are_asked_about(toy):
    goals = {row[0]: row[1] for row in toy[1]["goals"]["rows"]}
    asked = [float(re.search(r"[\d.]+", text)[0]) for text in goals.values()]
    assert {2.2, 10, 20, 2.5, 85, 8, 2, 150} <= set(asked)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--tables", "cnn,none"], "no table is called none"), (["--toy", "--page", "x"], "--page")],
)
def test_wrong_options_are_refused_in_words(arguments, said, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert said in capsys.readouterr().err
