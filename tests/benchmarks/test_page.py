"""docs/benchmarks.md: written from its template, table by table."""

from pathlib import Path

from benchmarks.__main__ import TABLES
from benchmarks.measure import Spread
from benchmarks.page import TEMPLATE, fill_page, goals_table, read_tables, write_page
from benchmarks.tables import Goal, Table

PAGE = Path(__file__).resolve().parents[2] / "docs" / "benchmarks.md"


def make_table(key, cell):
    return Table(key, key, ["", "b"], [["a", cell]], goals=[Goal(key, 1.0, Spread(2, 2, 2))])


def test_the_template_has_a_place_for_every_table_and_no_other():
    filled = fill_page(TEMPLATE.read_text(), {})
    assert sorted(read_tables(filled)) == sorted([*TABLES, "goals"])


def test_the_page_is_the_template_around_its_tables():
    page = PAGE.read_text(encoding="utf-8")
    assert page == fill_page(TEMPLATE.read_text(encoding="utf-8"), read_tables(page)), (
        "docs/benchmarks.md was changed by hand: change benchmarks/page.md, then run\n"
        "    python -m benchmarks --tables machine --page docs/benchmarks.md"
    )


def test_a_table_is_replaced_and_the_others_stay(tmp_path):
    path = tmp_path / "page.md"
    write_page(path, [make_table("cnn", "1.5"), make_table("text", "2.5")], "2026-01-01")
    first = path.read_text()
    write_page(path, [make_table("cnn", "3.5")], "2026-01-02")
    tables = read_tables(path.read_text())
    assert "3.5" in tables["cnn"]
    assert "2026-01-02" in tables["cnn"]
    assert tables["text"] == read_tables(first)["text"]
    assert tables["step"] == "Not measured yet.\n"


def test_goals_of_all_tables_come_together():
    table = goals_table([make_table("cnn", ""), make_table("text", "")])
    assert [row[0] for row in table.rows] == ["cnn", "text"]
    assert table.rows[0][-1] == "yes"
