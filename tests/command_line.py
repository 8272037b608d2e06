"""Calling `mulap` in this process, and the form of its errors."""

from click.testing import CliRunner, Result

from mulap.cli import main


def call(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def check_one_line(result: Result, exit_code: int, *parts: str) -> None:
    """One line on standard error, nothing on standard output, no traceback."""
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stderr.endswith("\n")
    for part in parts:
        assert part in result.stderr
