"""A report as blocks, written as Markdown and as one HTML page. Knows nothing of results.

All text is escaped here: names of tasks, tags and backbones may hold pipes, angle brackets or line
breaks. The page asks nothing of any server, fits a phone and follows the reader's dark mode; its
figures are SVG whose ink is the colour of the text.
"""

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Heading:
    """A heading of level 1, 2 or 3."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Paragraph:
    """A paragraph; words between backquotes are code."""

    text: str


@dataclass(frozen=True)
class Bullets:
    """A list of lines."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Table:
    """A table; the first column names the row.

    Attributes:
        header: one cell a column.
        rows: cells as text; a row of one cell is a heading over the rows below it.
        strong: (row, column) of cells that stand out.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    strong: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Figure:
    """A plot.

    Attributes:
        path: of the PNG, relative to the report, for Markdown.
        panels: its parts as SVG, for the page, where they flow into as many columns as fit.
        text: what it shows, for those who cannot see it.
    """

    path: str
    panels: Sequence[str]
    text: str


@dataclass(frozen=True)
class Details:
    """Blocks that the page folds away under a line."""

    summary: str
    blocks: Sequence["Block"] = field(default_factory=tuple)


Block = Heading | Paragraph | Bullets | Table | Figure | Details


def to_markdown(blocks: Sequence[Block]) -> str:
    """Write blocks as Markdown with GitHub's tables."""
    return "\n\n".join(_markdown(block) for block in blocks) + "\n"


def to_html(title: str, blocks: Sequence[Block]) -> str:
    """Write blocks as one HTML page.

    Args:
        title: of the window.
        blocks: what it shows.
    """
    body = "\n".join(_html(block) for block in blocks)
    return _PAGE.format(title=html.escape(title), style=_STYLE, body=body)


def _markdown(block: Block) -> str:
    match block:
        case Heading():
            return f"{'#' * block.level} {_escape_markdown(block.text)}"
        case Paragraph():
            return _prose(block.text)
        case Bullets():
            return "\n".join(f"- {_prose(line)}" for line in block.lines)
        case Figure():
            return f"![{_escape_markdown(block.text)}]({block.path})"
        case Details():
            inside = "\n\n".join(_markdown(each) for each in block.blocks)
            summary = html.escape(_one_line(block.summary))
            return f"<details>\n<summary>{summary}</summary>\n\n{inside}\n\n</details>"
        case Table():
            return _markdown_table(block)


def _markdown_table(table: Table) -> str:
    width = len(table.header)
    lines = [list(map(_escape_markdown, table.header)), ["---", *["---:"] * (width - 1)]]
    for row_index, row in enumerate(table.rows):
        cells = list(map(_escape_markdown, row))
        if len(cells) == 1 and width > 1:
            cells = [f"*{cells[0]}*", *[""] * (width - 1)]
        for column in range(len(cells)):
            if (row_index, column) in table.strong:
                cells[column] = f"**{cells[column]}**"
        lines.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _escape_markdown(text: str) -> str:
    return _escape_characters(_one_line(text))


def _escape_characters(text: str) -> str:
    escaped = re.sub(r"([\\`*_\[\]|~#$])", r"\\\1", text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _prose(text: str) -> str:
    """Escape all but what stands between backquotes."""
    parts = _one_line(text).split("`")
    return "".join(
        f"`{part}`" if index % 2 and index < len(parts) - 1 else _escape_characters(part)
        for index, part in enumerate(parts)
    )


def _html(block: Block) -> str:
    match block:
        case Heading():
            return f"<h{block.level}>{html.escape(block.text)}</h{block.level}>"
        case Paragraph():
            return f"<p>{_html_prose(block.text)}</p>"
        case Bullets():
            lines = "".join(f"<li>{_html_prose(line)}</li>" for line in block.lines)
            return f"<ul>{lines}</ul>"
        case Figure():
            panels = "".join(f"<div>{panel}</div>" for panel in block.panels)
            label = html.escape(_one_line(block.text))
            return f'<div class="figure" role="img" aria-label="{label}">{panels}</div>'
        case Details():
            inside = "\n".join(_html(each) for each in block.blocks)
            summary = html.escape(block.summary)
            return f"<details><summary>{summary}</summary>\n{inside}\n</details>"
        case Table():
            return _html_table(block)


def _html_prose(text: str) -> str:
    parts = html.escape(text).split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 and index < len(parts) - 1 else part
        for index, part in enumerate(parts)
    )


def _html_table(table: Table) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table.header)
    body = []
    for row_index, row in enumerate(table.rows):
        if len(row) == 1 and len(table.header) > 1:
            span = f'<th class="group" colspan="{len(table.header)}">{html.escape(row[0])}</th>'
            body.append(f"<tr>{span}</tr>")
            continue
        cells = [f"<th>{html.escape(row[0])}</th>"]
        for column, cell in enumerate(row[1:], 1):
            is_strong = (row_index, column) in table.strong
            text = html.escape(cell)
            cells.append(f"<td>{f'<b>{text}</b>' if is_strong else text}</td>")
        body.append(f"<tr>{''.join(cells)}</tr>")
    rows = "\n".join(body)
    return (
        f'<div class="table"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


_STYLE = """
:root { color-scheme: light dark; --line: #8886; --shade: #8881; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 0 auto; padding: 1rem; }
h1 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); }
code { overflow-wrap: anywhere; background: var(--shade); padding: 0 .2em; }
.table { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid var(--line); text-align: right; }
th { font-weight: 600; } td { white-space: nowrap; }
tbody th { font-weight: 400; } th:first-child { text-align: left; }
tr th:first-child:not(.group) { min-width: 7rem; max-width: 14rem; overflow-wrap: anywhere;
  position: sticky; left: 0; background: Canvas; }
th.group { font-style: italic; padding-top: .8rem; }
.figure { display: flex; flex-wrap: wrap; gap: .5rem 1rem; margin: 1rem 0; }
.figure svg { max-width: 100%; height: auto; } .figure div { flex: 0 1 auto; max-width: 100%; }
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
