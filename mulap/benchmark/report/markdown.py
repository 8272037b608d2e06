"""Markdown of a report, and the same as one HTML page.

All text is escaped here: names of tasks, tags and backbones may hold pipes, angle brackets or line
breaks. The page asks nothing of any server, fits a phone and follows the reader's dark mode; its
figures are SVG whose ink is the colour of the text.
"""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row."""

    header: Sequence[str]  # one cell a column
    # cells as text; a row of one cell is a heading over the rows below it
    rows: Sequence[Sequence[str]]
    strong: frozenset[tuple[int, int]] = frozenset()  # (row, column) of cells that stand out

    def markdown(self) -> str:
        """Write the table as GitHub has them."""
        width = len(self.header)
        lines = [list(map(escape, self.header)), ["---", *["---:"] * (width - 1)]]
        for row_index, row in enumerate(self.rows):
            cells = list(map(escape, row))
            if len(cells) == 1 and width > 1:
                cells = [f"*{cells[0]}*", *[""] * (width - 1)]
            for column in range(len(cells)):
                if (row_index, column) in self.strong:
                    cells[column] = f"**{cells[column]}**"
            lines.append(cells)
        return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def escape(text: str) -> str:
    """Return text as Markdown that shows it, in one line."""
    return _escape_characters(" ".join(text.split()))


def _escape_characters(text: str) -> str:
    escaped = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def prose(text: str) -> str:
    """Escape all but what stands between backquotes, which is code."""
    parts = " ".join(text.split()).split("`")
    written = "".join(
        f"`{part}`" if index % 2 and index < len(parts) - 1 else _escape_characters(part)
        for index, part in enumerate(parts)
    )
    return re.sub(r"^(\d*)([-+=.)])(?=\s)", r"\1\\\2", written)  # else it would begin a list


def heading(text: str, level: int = 2) -> str:
    """Write a heading."""
    return f"{'#' * level} {escape(text)}"


def bullets(lines: Sequence[str]) -> str:
    """Write a list; words between backquotes are code."""
    return "\n".join(f"- {prose(line)}" for line in lines)


def image(path: str, text: str) -> str:
    """Write a figure: the path of its PNG, relative to the report, and what it shows, in words."""
    return f"![{escape(text)}]({path})"


def details(summary: str, blocks: Sequence[str]) -> str:
    """Write blocks that are folded away under a line."""
    line, inside = html.escape(" ".join(summary.split())), "\n\n".join(blocks)
    return f"<details>\n<summary>{line}</summary>\n\n{inside}\n\n</details>"


def to_html(title: str, text: str, panels: Mapping[str, Sequence[str]]) -> str:
    """Render Markdown, of blocks that the functions above wrote, as one HTML page.

    `panels` gives the parts of each image as SVG, which flow into as many columns as fit.
    """

    def draw(renderer: RendererHTML, tokens: Sequence[Token], index: int, *rest: Any) -> str:
        token = tokens[index]
        label = html.escape(renderer.renderInlineAsText(token.children, *rest))
        parts = "".join(f"<span>{panel}</span>" for panel in panels[str(token.attrs["src"])])
        return f'<span class="figure" role="img" aria-label="{label}">{parts}</span>'

    parser = MarkdownIt("commonmark", {"html": True}).enable("table")
    parser.add_render_rule("image", draw)
    parser.add_render_rule("table_open", lambda *_: '<div class="table"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    parser.add_render_rule("th_open", lambda *_: "<th>")  # the style sheet aligns cells
    parser.add_render_rule("td_open", lambda *_: "<td>")
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=parser.render(text))


_STYLE = """
:root { color-scheme: light dark; --line: #8886; --shade: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
code { overflow-wrap: anywhere; background: var(--shade); padding: 0 .2em; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } td { white-space: nowrap; }
th:first-child, td:first-child { min-width: 7rem; max-width: 14rem; text-align: left;
  white-space: normal; overflow-wrap: anywhere; position: sticky; left: 0; background: Canvas; }
.figure { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: 1rem 0; }
.figure svg { max-width: 100%; height: auto; } .figure span { flex: 0 1 auto; max-width: 100%; }
summary { cursor: pointer; padding: .3rem 0; }
"""

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
{body}
</body>
</html>
"""
