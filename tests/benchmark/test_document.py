"""Blocks become Markdown and HTML, and no name breaks out of its place."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.benchmark.document import (
    Bullets,
    Details,
    Figure,
    Heading,
    Paragraph,
    Table,
    to_html,
    to_markdown,
)

NASTY = ["a|b", "<script>alert(1)</script>", "c & d", "*e* _f_ `g`", "[h](i)", "two\nlines", "$5$"]


class Reader(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self):
        super().__init__()
        self.tags, self.text, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    reader = Reader()
    reader.feed(page)
    return reader


@pytest.mark.parametrize("name", NASTY)
def test_a_name_is_text_in_a_page(name):
    blocks = [
        Heading(name),
        Paragraph(name),
        Bullets([name]),
        Table(["x", name], [[name, name], [name]]),
        Details(name, [Paragraph(name)]),
        Figure("x.png", [], name),
    ]
    reader = read(to_html(name, blocks))
    assert "script" not in reader.tags
    assert "".join(reader.text).count(name.strip("`").split("`")[0]) >= 6


@pytest.mark.parametrize("name", NASTY)
def test_a_name_stays_in_its_cell_of_a_markdown_table(name):
    table = to_markdown([Table(["x", "y"], [[name, name]])])
    lines = table.strip().splitlines()
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == 3
    assert "<script" not in table


@settings(derandomize=True, max_examples=50)
@given(st.lists(st.text(), min_size=2, max_size=4))
def test_any_row_is_one_line_of_as_many_cells(cells):
    lines = to_markdown([Table(["h"] * len(cells), [cells])]).rstrip("\n").split("\n")
    assert len(lines) == 3
    bars = lines[2].replace("\\\\", "").replace("\\|", "").count("|")
    assert bars == len(cells) + 1


def test_a_row_of_one_cell_is_a_heading_over_rows():
    table = Table(["x", "y"], [["group"], ["a", "1"]], frozenset({(1, 1)}))
    assert to_markdown([table]).splitlines()[2:] == ["| *group* |  |", "| a | **1** |"]
    page = to_html("t", [table])
    assert 'colspan="2">group</th>' in page
    assert "<b>1</b>" in page


def test_words_between_backquotes_are_code():
    paragraph = Paragraph("run `mulap probe` *now*")
    assert to_markdown([paragraph]) == "run `mulap probe` \\*now\\*\n"
    assert "run <code>mulap probe</code> *now*" in to_html("t", [paragraph])


def test_a_page_asks_for_nothing_and_fits_a_phone_and_the_dark():
    page = to_html("t", [Figure("figures/x.png", ["<svg></svg>"], "bars")])
    assert read(page).links == []
    assert "figures/x.png" not in page
    assert 'name="viewport"' in page
    assert "color-scheme: light dark" in page
    assert 'aria-label="bars"' in page
    assert to_markdown([Figure("figures/x.png", [], "bars")]) == "![bars](figures/x.png)\n"


def test_details_are_folded_in_both():
    details = Details("more", [Paragraph("inside")])
    assert "<details>\n<summary>more</summary>\n\ninside\n\n</details>" in to_markdown([details])
    assert "<details><summary>more</summary>" in to_html("t", [details])
