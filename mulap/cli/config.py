"""The command that lists and prints the configurations of the package."""

import click

from mulap.cli.group import main, one_line_errors
from mulap.configs import find_config, list_configs


@main.command()
@click.argument("name", required=False)
@one_line_errors
def config(name: str | None) -> None:
    """List the configurations that come with mulap, or print the one called NAME.

    Change a copy to make your own: mulap config small > mine.yaml
    """
    if name is not None:
        click.echo(find_config(name).read_text(encoding="utf-8"), nl=False)
        return
    names = list_configs()
    width = max(map(len, names))
    for each in names:
        about = find_config(each).read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        click.echo(f"{each:<{width}}  {about}")
