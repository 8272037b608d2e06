"""No name breaks out of its place, in Markdown or on the page."""

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.benchmark.report.markdown import (
    Table,
    bullets,
    details,
    heading,
    image,
    prose,
    to_html,
)

NASTY = ["a|b", "<script>alert(1)</script>", "c & d", "*e* _f_ `g`", "[h](i)", "two\nlines", "$5$"]
NASTY += ["1. first", "- a", "+ b", "# c", "2) d", "&lt;e", "=== f"]


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
        heading(name),
        prose(name),
        bullets([name]),
        Table(["x", name], [[name, name], [name]]).markdown(),
        details(name, [prose(name)]),
        image("x.png", name),
    ]
    reader = read(to_html(name, "\n\n".join(blocks), {"x.png": []}))
    assert "script" not in reader.tags
    assert reader.tags.count("ul") == 1
    assert "ol" not in reader.tags
    shown = " ".join(name.split())
    text = " ".join("".join(reader.text).split())
    assert text.count(shown.strip("`").split("`")[0]) >= 7


@pytest.mark.parametrize("name", NASTY)
def test_a_name_stays_in_its_cell_of_a_markdown_table(name):
    lines = Table(["x", "y"], [[name, name]]).markdown().splitlines()
    assert len(lines) == 3
    assert lines[2].replace("\\|", "").count("|") == 3
    assert "<script" not in lines[2]


@settings(derandomize=True, max_examples=50, deadline=None)
@given(st.lists(st.text(), min_size=2, max_size=4))
def test_any_row_is_one_line_of_as_many_cells_in_both(cells):
    table = Table(["h"] * len(cells), [cells]).markdown()
    lines = table.split("\n")
    assert len(lines) == 3
    bars = lines[2].replace("\\\\", "").replace("\\|", "").count("|")
    assert bars == len(cells) + 1
    assert read(to_html("t", table, {})).tags.count("td") == len(cells)


def test_a_row_of_one_cell_is_a_heading_over_rows():
    table = Table(["x", "y"], [["group"], ["a", "1"]], frozenset({(1, 1)})).markdown()
    assert table.splitlines()[2:] == ["| *group* |  |", "| a | **1** |"]
    page = to_html("t", table, {})
    assert "<td><em>group</em></td>\n<td></td>" in page
    assert "<td><strong>1</strong></td>" in page


def test_words_between_backquotes_are_code():
    text = prose("run `mulap probe` *now*")
    assert text == "run `mulap probe` \\*now\\*"
    assert "run <code>mulap probe</code> *now*" in to_html("t", text, {})


def test_a_page_asks_for_nothing_and_fits_a_phone_and_the_dark():
    text = image("figures/x.png", "bars")
    assert text == "![bars](figures/x.png)"
    page = to_html("t", text, {"figures/x.png": ["<svg></svg>", "<svg></svg>"]})
    assert read(page).links == []
    assert page.count("<svg>") == 2
    assert "figures/x.png" not in page
    assert 'name="viewport"' in page
    assert "color-scheme: light dark" in page
    assert 'aria-label="bars"' in page


def test_details_are_folded_in_both():
    text = details("more", [prose("inside")])
    assert text == "<details>\n<summary>more</summary>\n\ninside\n\n</details>"
    page = to_html("t", text, {})
    assert "<details>\n<summary>more</summary>\n<p>inside</p>\n</details>" in page
