"""An explanation as a picture: what each part adds, over time, and what each word does."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mulap.files import atomic_path
from mulap.use.explain import Explanation

_MORE, _LESS, _LOOK = "#2a6f97", "#c1666b", "#444444"
_STYLE: Any = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def draw_explanation(explanation: Explanation, path: Path) -> None:
    """Draw an explanation as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    with matplotlib.rc_context(_STYLE):
        has_words = bool(explanation.words)
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        ratios = [3, 1] if has_words else [1]
        axes = figure.subplots(1, len(ratios), squeeze=False, width_ratios=ratios)[0]
        _draw_parts(axes[0], explanation)
        if has_words:
            _draw_words(axes[1], explanation)
        what = "deviations above an average track" if explanation.by == "joint" else "log-odds"
        title = f'"{explanation.text}" - {Path(explanation.file).name}'
        figure.suptitle(f"{title}: {explanation.score:+.1f} {what}", parse_math=False)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, format="png", dpi=150, metadata={"Software": None})


def _draw_parts(axis: Axes, explanation: Explanation) -> None:
    parts = explanation.parts
    starts, widths = [p.start for p in parts], [p.end - p.start for p in parts]
    effects = [part.effect for part in parts]
    colours = [_MORE if effect >= 0 else _LESS for effect in effects]
    axis.bar(starts, effects, widths, align="edge", color=colours, edgecolor="white", linewidth=0.5)
    axis.axhline(0, color="#999999", linewidth=0.8)
    axis.set_xlabel("time in the track")
    axis.set_ylabel("what the score loses without it")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda s, _: f"{int(s) // 60}:{int(s) % 60:02d}"))
    axis.set_xlim(0, parts[-1].end)
    if parts[0].attention is not None:
        other = axis.twinx()
        middles = [(part.start + part.end) / 2 for part in parts]
        # Per second, relative to looking everywhere alike: the last part may be shorter.
        length = parts[-1].end
        shares = [(p.attention or 0.0) / (p.end - p.start) * length for p in parts]
        other.plot(middles, shares, color=_LOOK, marker=".", linewidth=1)
        other.set_ylim(0, max(2.0, 1.1 * max(shares)))
        other.set_ylabel("attention (1: as if evenly)")
        other.spines["right"].set_visible(True)


def _draw_words(axis: Axes, explanation: Explanation) -> None:
    words = explanation.words
    places = range(len(words))
    colours = [_MORE if each.effect >= 0 else _LESS for each in words]
    axis.barh(places, [each.effect for each in words], color=colours)
    axis.set_yticks(places, [each.word for each in words], parse_math=False)
    axis.invert_yaxis()
    axis.axvline(0, color="#999999", linewidth=0.8)
    axis.set_xlabel("what the word adds")
