"""How commands end when they are interrupted."""

import os
import signal

import click
from click.testing import CliRunner

from mulap.cli.group import OneLineGroup, one_line_errors


@click.group(cls=OneLineGroup)
def group() -> None:
    pass


@group.command()
@one_line_errors
def work() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_control_c_ends_a_command_with_130_and_a_line():
    result = CliRunner().invoke(group, ["work"])
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.strip() == "interrupted: what is done is kept (call it again to go on)"
