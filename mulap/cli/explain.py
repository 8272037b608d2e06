"""The command that explains a score."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mulap.cli.group import (
    UserPath,
    device_option,
    joint_model_option,
    main,
    one_line_errors,
    quiet_transformers,
    say,
)
from mulap.terminal import clock_time, draw_bars

if TYPE_CHECKING:
    from mulap.use.explain import Explanation

_WIDTH = 40  # most parts on a line


@main.command()
@click.argument("file", type=UserPath())
@click.argument("text")
@joint_model_option
@click.option(
    "--by",
    type=click.Choice(["joint", "match"]),
    default="joint",
    show_default=True,
    help="Whose score: that of the space shared with text, as in search, or that of the "
    "co-attention.",
)
@click.option("--png", type=UserPath(), help="Also draw it.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line.")
@device_option
@one_line_errors
def explain(
    file: Path, text: str, model: str, by: Any, png: Path | None, as_json: bool, device: str
) -> None:
    """Say what each part of FILE and each word of TEXT adds to how well they fit.

    Each is left out once; what the score loses by it is what it adds. The co-attention's weights
    are compared with that.
    """
    quiet_transformers()
    from mulap.encoders.engine import load_engine
    from mulap.use.explain import explain as explain_file

    explanation = explain_file(load_engine(model, device), file, text, by)
    if png is not None:
        from mulap.use.explain_figure import draw_explanation

        draw_explanation(explanation, png)
    if as_json:
        click.echo(json.dumps(explanation.to_dict(), ensure_ascii=False))
        return
    click.echo("\n".join(_lines(explanation)))
    if png is not None:
        say(f"drawn: {png}")


def _lines(explanation: "Explanation") -> list[str]:
    """Return the explanation for a terminal."""
    from mulap.encoders.neutral import word

    said = f"{word(explanation.percentile)}, {explanation.score:+.1f}"
    parts, most = explanation.parts, explanation.most()
    effects = [part.effect for part in parts]
    drawn = draw_bars(effects, min(effects), max(effects), _WIDTH)
    end = clock_time(parts[-1].end)
    lines = [
        f"{explanation.file}  {said}",
        f"  0:00 {drawn} {end}   most {clock_time(most.start)}-{clock_time(most.end)}",
    ]
    if len(parts) == 1:
        lines[1] = f"  0:00 - {end}   too short to leave a part out"
    if explanation.words:
        added = "   ".join(f"{each.word} {each.effect:+.1f}" for each in explanation.words)
        lines.append(f"  {added}   (what the word adds)")
    if explanation.agreement is not None:
        lines.append(_describe_agreement(explanation.agreement))
    return lines


def _describe_agreement(agreement: float) -> str:
    if agreement >= 0.5:
        return f"  Attention looks at the same parts (agreement {agreement:.2f})."
    return f"  Attention looks elsewhere (agreement {agreement:.2f}): trust the lines above."
