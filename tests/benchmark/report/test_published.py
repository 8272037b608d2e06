"""Published numbers: those of the facts, each with its split and source, none from memory."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from mulap.benchmark.report.published import (
    MARK_INFERRED,
    MARK_OTHER,
    MARK_UNKNOWN,
    SplitIs,
    mark_of,
    of_paper_table,
    of_task,
    read_published,
    sources,
)
from mulap.tasks.registry import find_task

FACTS = Path(__file__).resolve().parents[3].parent / "shared" / "facts" / "numbers.md"
# The columns of the facts' tables C1 and C2, from the second on.
C1 = ("magnatagatune", "mtg_jamendo_top50", "fma_small", "mtg_jamendo_genre", "nsynth",
      "mtg_jamendo_instrument", "emomusic", "mtg_jamendo_moodtheme")  # fmt: skip
C2 = ("magnatagatune", "mtg_jamendo_top50", "mtg_jamendo_genre", "mtg_jamendo_instrument",
      "mtg_jamendo_moodtheme", "nsynth", "emomusic", "gtzan")  # fmt: skip
# Said in the text below C2, not in the table.
IN_THE_TEXT = {("fma_small", 60.0), ("fma_small", 64.3)}


def read_facts(section, columns):
    """(task, number) of every cell of a table of the facts, but of rows from memory."""
    text = FACTS.read_text(encoding="utf-8")
    text = text[text.index(f"### {section}.") :]
    found = set()
    for line in text[: text.index("\n### ", 5)].splitlines():
        cells = [cell.strip().replace("*", "") for cell in line.strip().strip("|").split("|")]
        if len(cells) <= len(columns) or set(line) <= set("|- ") or cells[0] in ("", "Model"):
            continue
        for task, cell in zip(columns, cells[1:], strict=False):
            cell = re.sub(r"±[\d.]+|\(\d+\)", "", cell)
            if "[M]" not in cell:
                for number in re.findall(r"\d*\.\d+|\d+\.\d+", cell):
                    value = float(number)
                    found.add((task, round(100 * value, 2) if value < 1 else value))
    return found


@pytest.mark.skipif(not FACTS.is_file(), reason="the facts are not beside this checkout")
def test_the_numbers_are_those_of_the_facts_and_all_of_them():
    facts = read_facts("C1", C1) | read_facts("C2", C2)
    ours = {(one.task, one.value) for one in read_published()}
    assert len(facts) > 150
    assert ours - facts == IN_THE_TEXT
    assert facts - ours == set()


@pytest.mark.skipif(not FACTS.is_file(), reason="the facts are not beside this checkout")
def test_every_method_has_its_own_numbers():
    lines = FACTS.read_text(encoding="utf-8").replace("*", "").splitlines()
    checked = 0
    for one in read_published():
        near = [
            line
            for line in lines
            if line.startswith(f"| {one.method.partition(',')[0].partition(' ')[0]}")
        ]
        shown = {f"{one.value:g}", f"{one.value:.1f}", f"{one.value:.2f}"}
        shown.add(f"{one.value / 100:.3g}".removeprefix("0"))
        if near:
            assert any(text in line for line in near for text in shown), one
            checked += 1
    assert checked > 190


def test_nothing_from_memory_is_there():
    methods = {one.method.lower() for one in read_published()}
    assert not any("jukebox" in method or "jukemir" in method for method in methods)


def test_every_number_is_of_a_task_and_split_that_exist():
    for one in read_published():
        task = find_task(one.task)
        assert one.split in ("", *task.splits), one
        name, _, label = one.metric.partition("/")
        assert not label or label in task.labels, one
    assert {one.split for one in of_task("magnatagatune")} == {"clean", "full", ""}


def test_the_papers_emomusic_is_the_mean_of_both_numbers():
    (mulap,) = [one for one in of_task("emomusic") if one.method == "MuLaP"]
    assert (mulap.metric, mulap.value) == ("r2", 58.5)
    assert "mean of valence and arousal" in mulap.note


def test_fmas_number_says_that_it_may_be_a_validation_score():
    (mulap,) = [one for one in of_task("fma_small") if one.method == "MuLaP"]
    assert "validation" in mulap.note


def test_the_papers_table_1_is_whole():
    values = [(one.method, one.task[:4], one.metric, one.value) for one in of_paper_table(1)]
    assert values == [
        ("MuLaP", "magn", "roc_auc", 89.3),
        ("MuLaP", "magn", "pr_auc", 40.2),
        ("MuLaP", "mtg_", "roc_auc", 82.6),
        ("MuLaP", "mtg_", "pr_auc", 27.3),
        ("CLMR", "magn", "roc_auc", 86.6),
        ("CLMR", "magn", "pr_auc", 32.0),
        ("CALM", "magn", "roc_auc", 91.5),
        ("CALM", "magn", "pr_auc", 41.4),
        ("HCNN", "magn", "roc_auc", 91.2),
        ("HCNN", "magn", "pr_auc", 46.1),
        ("HCNN", "mtg_", "roc_auc", 83.2),
        ("HCNN", "mtg_", "pr_auc", 29.6),
    ]


def test_numbers_of_another_or_an_unknown_split_are_marked():
    calm = next(one for one in of_paper_table(1) if one.method == "CALM")
    clmr = next(one for one in of_paper_table(1) if one.method == "CLMR")
    assert mark_of(calm, ["clean"]) == MARK_OTHER
    assert mark_of(calm, ["full"]) == MARK_INFERRED
    assert mark_of(clmr, ["clean"]) == MARK_UNKNOWN
    assert mark_of(of_task("gtzan")[0], ["filtered"]) == ""


def test_every_number_says_what_it_is():
    metrics = {"roc_auc", "pr_auc", "accuracy", "r2", "r2/valence", "r2/arousal"}
    for one in read_published():
        assert one.metric in metrics, one
        assert one.split_is in get_args(SplitIs), one
        assert 0 <= one.value <= 100, one
        assert (one.split == "") == (one.split_is == "not stated"), one
        assert one.method, one


def test_every_source_is_used():
    assert set(sources()) == {one.source for one in read_published()}
    assert json.dumps(sources())
