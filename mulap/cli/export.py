"""The command that writes a model's ONNX graphs."""

from pathlib import Path

import click

from mulap.cli.group import main, one_line_errors


@main.command()
@click.argument("model")
@click.argument("output", type=click.Path(path_type=Path))
@one_line_errors
def export(model: str, output: Path) -> None:
    """Copy MODEL to the folder OUTPUT, with ONNX graphs that run without PyTorch.

    MODEL is mulap-small, musicnn-mtt, musicnn-msd or a model's folder. The graphs read their
    weights from model.safetensors beside them. Every command with --model takes the new folder.
    """
    from mulap.graphs.write import write_export

    for path in write_export(model, output):
        click.echo(f"{path}  {path.stat().st_size / 1000:,.0f} kB")
