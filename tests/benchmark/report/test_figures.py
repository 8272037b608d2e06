"""Bars and confusion matrices: what is drawn, in which files, and that names are only names."""

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from mulap.benchmark.report.figures import INK, Bar, Panel, draw_bars, draw_confusion, shorten

BARS = [Bar("random", 55.0, 52.0, 58.0, 0), Bar("mel", 70.5, 66.0, 74.0, 1)]
LINE = Bar("end-to-end", 80.25, 77.0, 83.0)


def make_panel(title="MTAT (clean)", metric="roc_auc", bars=BARS, line=LINE):
    return Panel(title, metric, "ROC-AUC, %", bars, line)


def read_texts(svg):
    return ["".join(e.itertext()) for e in ET.fromstring(svg).iter() if e.tag.endswith("text")]


def test_names_means_and_the_line_are_written_in_every_panel(tmp_path):
    first, second = draw_bars([make_panel(), make_panel("FMA", line=None)], tmp_path / "x")
    texts = read_texts(first)
    for word in ("MTAT (clean)", "ROC-AUC, %", "random", "mel", "55.0", "70.5"):
        assert word in texts
    assert any("end-to-end" in text and "80.2" in text for text in texts)
    assert not any("end-to-end" in text for text in read_texts(second))


def test_png_and_svg_are_written_and_the_same_each_time(tmp_path):
    for folder in ("a", "b"):
        draw_bars([make_panel()] * 3, tmp_path / folder / "bars")
    for ending in ("png", "svg"):
        first, second = (tmp_path / folder / f"bars.{ending}" for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
    assert (tmp_path / "a" / "bars.png").read_bytes()[:4] == b"\x89PNG"
    assert ET.parse(tmp_path / "a" / "bars.svg").getroot().tag.endswith("svg")


def test_a_panel_for_a_page_takes_the_colour_of_its_text_and_no_identifier_twice(tmp_path):
    panels = draw_bars([make_panel("one"), make_panel("two")], tmp_path / "x")
    identifiers = [
        element.get("id")
        for svg in panels
        for element in ET.fromstring(svg).iter()
        if element.get("id")
    ]
    assert len(identifiers) == len(set(identifiers))
    for svg in panels:
        assert "currentColor" in svg
        assert INK not in svg
        assert "<metadata" not in svg
        assert "http" not in svg.replace("http://www.w3.org/", "")


@pytest.mark.parametrize("name", ["$x^2$", "a_b^c", "<b>", "a & b", "x" * 200, "音楽", ""])
@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")
def test_a_name_is_only_a_name(tmp_path, name):
    (svg,) = draw_bars([make_panel(name, bars=[Bar(name, 60.0, 50.0, 70.0)])], tmp_path / "x")
    if name and len(name) < 20:
        assert name in read_texts(svg)
    draw_confusion([[1, 2], [3, 4]], [name, "b"], name, tmp_path / "y")


def test_scores_below_the_base_missing_whiskers_and_no_bars_are_drawn(tmp_path):
    low = [Bar("r", -15.0, -30.0, -5.0), Bar("m", 10.0, 10.0, 10.0), Bar("o", 5.0, 6.0, 7.0)]
    draw_bars([make_panel(metric="r2", bars=low), make_panel(bars=[])], tmp_path / "x")
    draw_bars([make_panel(bars=[Bar(str(i), 60.0, 55.0, 65.0, i) for i in range(20)])] * 9,
              tmp_path / "y")  # fmt: skip
    assert (tmp_path / "y.png").stat().st_size > 1000


def test_a_confusion_matrix_shows_shares_of_the_true_class(tmp_path):
    (svg,) = draw_confusion([[3, 1], [0, 0]], ["a", "b"], "mel", tmp_path / "c")
    texts = read_texts(svg)
    assert {"75", "25", "0", "true", "predicted", "mel"} <= set(texts)


def test_large_matrices_are_drawn_without_numbers(tmp_path):
    labels = [f"class {index}" for index in range(45)]
    (svg,) = draw_confusion(np.eye(45), labels, "mel", tmp_path / "c")
    assert "100" not in read_texts(svg)


def test_long_names_are_cut_where_they_tell_least():
    assert shorten("short") == "short"
    assert shorten("a" * 40) == "a" * 25 + "…"
    assert shorten("../../runs/out/some/long/folder/best").endswith("long/folder/best")
    assert len(shorten("x/" * 40)) == 26
