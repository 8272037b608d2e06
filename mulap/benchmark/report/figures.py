"""The paper's Figure 3 and confusion matrices, drawn with matplotlib.

A bar is a backbone's mean over seeds, its whisker the 95% interval over the test set, the line the
end-to-end model. Bars of ROC-AUC begin at chance, 50%, all others at 0. Colours are Okabe and
Ito's, which colour-blind readers can distinguish; with more than eight backbones hatching is added.
"""

import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from mulap.files import atomic_path
from mulap.probing.printing import print_percentage

_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_HATCHES = ("", "//", "..", "xx")
INK = "#1b1f24"
# Chance of ROC-AUC; below it a bar hangs.
_BASE = {"roc_auc": 50.0}
_MAX_NAME = 26  # characters under a bar
_MAX_ANNOTATED = 15  # classes of a matrix whose cells hold a number
_BESIDE: Any = {"textcoords": "offset points", "ha": "center", "fontsize": 8}
_STYLE: Any = {
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Bar:
    """One backbone on one task, in percent."""

    label: str  # as tables print it
    mean: float  # over seeds
    low: float  # end of the 95% interval
    high: float  # the other end
    style: int = 0  # index of colour and hatching; one backbone has one on all panels


@dataclass(frozen=True)
class Panel:
    """One task."""

    title: str  # task and split
    metric: str  # name, as in a row
    axis: str  # what the metric is called on the axis
    bars: Sequence[Bar]  # the frozen backbones
    line: Bar | None = None  # the end-to-end model; None where there is none


def draw_bars(panels: Sequence[Panel], stem: Path) -> list[str]:
    """Draw the paper's Figure 3: `stem`.png and .svg, all panels in one; there is at least one.

    Return each panel as an SVG of its own, for an HTML page.
    """
    with matplotlib.rc_context(_STYLE):
        num_columns = min(len(panels), 4 if len(panels) > 6 else 3)
        num_rows = -(-len(panels) // num_columns)
        widest = max(_panel_width(panel) for panel in panels)
        figure = Figure(figsize=(widest * num_columns, 3.6 * num_rows), layout="constrained")
        axes = figure.subplots(num_rows, num_columns, squeeze=False).ravel()
        for axis, panel in zip(axes, panels, strict=False):
            _draw_panel(axis, panel)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        _save(figure, stem)
        singles = []
        for panel in panels:
            single = Figure(figsize=(_panel_width(panel), 3.6), layout="constrained")
            _draw_panel(single.subplots(), panel)
            singles.append(_inline(_draw_svg(single, f"{stem.name} {panel.title}")))
    return singles


def _panel_width(panel: Panel) -> float:
    return max(3.2, 1.0 + 0.55 * len(panel.bars))


def _draw_panel(axis: Axes, panel: Panel) -> None:
    base = _BASE.get(panel.metric, 0.0)
    for place, bar in enumerate(panel.bars):
        hatch = _HATCHES[bar.style // len(_COLOURS) % len(_HATCHES)]
        colour = _COLOURS[bar.style % len(_COLOURS)]
        axis.bar(
            place, bar.mean - base, 0.7, base, color=colour, hatch=hatch, edgecolor=INK, linewidth=0
        )
        whisker = [[max(0.0, bar.mean - bar.low)], [max(0.0, bar.high - bar.mean)]]
        axis.errorbar(place, bar.mean, whisker, color=INK, capsize=3, linewidth=1)
    ends = [value for bar in panel.bars for value in (bar.low, bar.high, bar.mean)]
    if panel.line is not None:
        ends += [panel.line.low, panel.line.high, panel.line.mean]
        _draw_line(axis, panel.line)
    low, high = min([base, *ends]), max([base, *ends])
    room = max(1.0, high - low) * 0.05
    axis.set_ylim(low - (room if low < base else 0.0), high + room)
    axis.axhline(base, color=INK, linewidth=0.8)
    axis.set_xlim(-0.6, max(0.6, len(panel.bars) - 0.4))
    _name_bars(axis, panel.bars)
    axis.set_ylabel(panel.axis)
    axis.set_title(_wrap(panel.title), fontsize=9.5, pad=6 if panel.line is None else 18)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    _no_mathematics(axis)


def _name_bars(axis: Axes, bars: Sequence[Bar]) -> None:
    """Write means and names below the axis, where neither whiskers nor the line cross them."""
    axis.set_xticks(range(len(bars)), [shorten(bar.label) for bar in bars])
    axis.tick_params(axis="x", rotation=35, length=0, pad=17)
    for text in axis.get_xticklabels():
        text.set(ha="right", rotation_mode="anchor")
    for place, bar in enumerate(bars):
        axis.annotate(
            print_percentage(bar.mean),
            (place, 0.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, -4),
            va="top",
            **_BESIDE,
        )


def _draw_line(axis: Axes, line: Bar) -> None:
    axis.axhspan(line.low, line.high, color=INK, alpha=0.1, linewidth=0, zorder=0)
    axis.axhline(line.mean, color=INK, linestyle="--", linewidth=1.1)
    axis.annotate(
        f"– – {shorten(line.label)} {print_percentage(line.mean)}",
        (0.5, 1.0),
        xycoords="axes fraction",
        xytext=(0, 4),
        va="bottom",
        **_BESIDE,
    )


def draw_confusion(
    counts: Sequence[Sequence[float]], labels: Sequence[str], title: str, stem: Path
) -> list[str]:
    """Draw a confusion matrix (C, C), its rows as shares of the true class: `stem`.png and .svg.

    Return the figure as SVG for an HTML page, the only entry.
    """
    table = np.asarray(counts, float)
    totals = table.sum(1, keepdims=True)
    shares = np.divide(table, totals, out=np.zeros_like(table), where=totals > 0) * 100
    with matplotlib.rc_context(_STYLE):
        size = max(3.4, 1.6 + 0.36 * len(labels)) if len(labels) <= 40 else 12.0
        figure = Figure(figsize=(size, size), layout="constrained")
        axis = figure.subplots()
        edge: dict[str, Any] = {"edgecolors": "white", "linewidth": 0.5}
        axis.pcolormesh(
            shares, cmap="Blues", vmin=0, vmax=100, **(edge if len(labels) <= 40 else {})
        )
        if len(labels) <= _MAX_ANNOTATED:
            for row, column in np.ndindex(shares.shape):
                colour = "white" if shares[row, column] > 55 else "#1b1f25"
                axis.text(
                    column + 0.5,
                    row + 0.5,
                    f"{shares[row, column]:.0f}",
                    color=colour,
                    ha="center",
                    va="center",
                    fontsize=8,
                )
        places, names = np.arange(len(labels)) + 0.5, [shorten(label) for label in labels]
        axis.set_xticks(places, names, rotation=90)
        axis.set_yticks(places, names)
        axis.tick_params(length=0)
        axis.invert_yaxis()
        axis.set_aspect("equal")
        axis.set_xlabel("predicted")
        axis.set_ylabel("true")
        axis.set_title(_wrap(title), fontsize=9.5)
        axis.spines[:].set_visible(False)
        _no_mathematics(axis)
        return [_save(figure, stem)]


def shorten(name: str) -> str:
    """Cut a name to fit under a bar; keep the end of a path, which says more than its start."""
    name = " ".join(name.split())
    if len(name) <= _MAX_NAME:
        return name
    return "…" + name[1 - _MAX_NAME :] if "/" in name else name[: _MAX_NAME - 1] + "…"


def _wrap(title: str) -> str:
    """Break a title before its bracket, where it is long."""
    return title.replace(" (", "\n(", 1) if len(title) > _MAX_NAME else title


def _no_mathematics(axis: Axes) -> None:
    """A dollar in a name is a dollar."""
    for text in axis.findobj(Text):
        text.set_parse_math(False)  # pyright: ignore[reportAttributeAccessIssue] (a Text has it)


def _save(figure: Figure, stem: Path) -> str:
    """Write a figure as PNG and SVG on white; return the SVG for a page."""
    with atomic_path(stem.with_name(f"{stem.name}.png")) as temporary:
        figure.savefig(temporary, dpi=160, facecolor="white", metadata={"Software": None})
    figure.set_layout_engine("none")  # everything has its place now
    svg = _draw_svg(figure, stem.name)
    head, _, rest = svg.partition(">")
    with atomic_path(stem.with_name(f"{stem.name}.svg")) as temporary:
        white = '<rect width="100%" height="100%" fill="white"/>'
        temporary.write_text(f"{head}>{white}{rest}", encoding="utf-8")
    return _inline(svg)


def _draw_svg(figure: Figure, name: str) -> str:
    """Draw a figure as SVG without a background, whose identifiers are made of its name.

    All figures of a page share one name space.
    """
    out = io.StringIO()
    salt = sha256(name.encode()).hexdigest()
    with matplotlib.rc_context({"svg.hashsalt": salt}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
    svg = out.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # matplotlib's own names (figure_1, axes_1) are the same in each figure.
    parts = "figure|axes|matplotlib|patch|text|xtick|ytick|line2d|Line|Quad|legend"
    svg = re.sub(rf' id="(?:{parts})[^"]*"', "", svg)
    return svg[svg.index("<svg") :].strip()


def _inline(svg: str) -> str:
    """Give a figure the page's colour of text."""
    return svg.replace(INK, "currentColor")
