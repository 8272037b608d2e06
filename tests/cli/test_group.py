"""What all commands share: how they end, their help, and options they refuse."""

import errno
import os
import signal
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from mulap import terminal
from mulap.cli import main
from mulap.cli.group import (
    OneLineGroup,
    UserPath,
    describe_os_error,
    one_line_errors,
    refuse_given,
)


@click.group(cls=OneLineGroup)
def group() -> None:
    pass


@group.command()
@one_line_errors
def work() -> None:
    os.kill(os.getpid(), signal.SIGINT)


@group.command()
@one_line_errors
def swallow() -> None:
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt as error:  # as torch does while it reads a tensor
        raise ValueError("this is no tensor") from error


@group.command()
@click.option("--pressed", callback=lambda *_: os.kill(os.getpid(), signal.SIGINT))
def parse(pressed: None) -> None:
    pass


@click.group(cls=OneLineGroup)
@click.option("--pressed", callback=lambda *_: os.kill(os.getpid(), signal.SIGINT))
def early(pressed: None) -> None:
    pass


early.add_command(work)


@pytest.mark.parametrize(
    ("commands", "name"),
    [(group, "work"), (group, "swallow"), (group, "parse"), (early, "work")],
    ids=["in the command", "swallowed by a library", "in its options", "in the group's"],
)
def test_control_c_ends_a_command_with_130_and_a_line(commands, name):
    result = CliRunner().invoke(commands, [name])
    assert result.exit_code == 130
    assert result.stdout == ""
    assert result.stderr.strip() == (
        "Interrupted. Finished work is saved; run the same command to resume."
    )
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_error_without_control_c_stays_an_error():
    @group.command()
    @one_line_errors
    def fail() -> None:
        raise ValueError("no tensor")

    result = CliRunner().invoke(group, ["fail"])
    assert (result.exit_code, result.stderr) == (1, "Error: no tensor\n")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device", "out.npz"),
            "out.npz: No space left on device. Free some space",
        ),
        (
            PermissionError(errno.EACCES, "Permission denied", b"out.npz"),
            "out.npz: Permission denied. Check its permissions",
        ),
        (OSError("two\nlines"), "two lines"),
    ],
)
def test_an_error_of_the_disk_is_a_line_with_place_and_remedy(error, line):
    assert describe_os_error(error).startswith(line)


def test_an_error_that_quotes_a_damaged_file_is_cut_in_its_middle():
    @group.command()
    @one_line_errors
    def quote() -> None:
        raise ValueError("a.csv: what is " + 5_000 * "9" + "\n(mend it)")

    result = CliRunner().invoke(group, ["quote"])
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: a.csv: what is 99")
    assert result.stderr.endswith("9 (mend it)\n")
    assert len(result.stderr) < 1_100


@pytest.mark.parametrize(
    ("words", "said"),
    [(["report"], "half done\n"), (["report", "--quiet"], ""), (["inner", "report", "-q"], "")],
)
def test_quiet_keeps_progress_off_the_screen_in_every_command_of_every_group(words, said):
    @click.group(cls=OneLineGroup)
    def outer() -> None:
        pass

    @outer.group()
    def inner() -> None:
        pass

    @click.command()
    def report() -> None:
        terminal.say("half done")
        click.echo("the result")

    outer.add_command(report)
    inner.add_command(report)
    result = CliRunner().invoke(outer, words)
    assert (result.exit_code, result.stdout, result.stderr) == (0, "the result\n", said)
    assert not terminal.is_shown()


@pytest.mark.parametrize("words", [["report"], ["report", "--data", "x"]], ids=["runs", "misused"])
def test_a_current_folder_that_was_deleted_is_one_line(words, tmp_path, monkeypatch):
    @click.group(cls=OneLineGroup)
    def outer() -> None:
        pass

    @outer.command()
    @click.option("--data", type=UserPath(exists=True))
    @one_line_errors
    def report(data: Path | None) -> None:
        click.echo("the result")

    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = CliRunner().invoke(outer, words)
    said = "Error: the current folder was deleted. Change to another one (cd) and run it again.\n"
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", said)
    assert CliRunner().invoke(outer, ["report", "--help"]).exit_code == 0


def test_a_path_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    path = UserPath()
    assert path.convert("~/run", None, None) == tmp_path / "run"
    assert path.convert("run~", None, None) == Path("run~")
    (tmp_path / "~").mkdir()
    (tmp_path / "~" / "run").mkdir()
    assert path.convert("~/run", None, None) == Path("~/run")


def test_all_packages_of_extras_that_are_missing_are_named_at_once(monkeypatch):
    @group.command()
    @one_line_errors
    def need() -> None:
        raise ModuleNotFoundError("No module named 'sklearn.svm'", name="sklearn.svm")

    for module in ("sklearn", "yaml"):
        monkeypatch.setitem(sys.modules, module, None)
    result = CliRunner().invoke(group, ["need"])
    said = "the package scikit-learn is missing. Run pip install scikit-learn pyyaml"
    assert (result.exit_code, result.stderr) == (1, f"Error: {said}\n")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], ""),
        (["--fast"], ""),
        (["--num-cores", "2"], "--num-cores is for fast runs. Add --fast."),
        (["-n", "1"], "--num-cores is for fast runs. Add --fast."),
    ],
)
def test_an_option_that_would_do_nothing_is_refused_if_it_was_given(words, said):
    @group.command()
    @click.option("--fast", is_flag=True)
    @click.option("--num-cores", "-n", default=1)
    @one_line_errors
    def run(fast: bool, num_cores: int) -> None:
        if not fast:
            refuse_given("is for fast runs. Add --fast.", "num_cores")

    result = CliRunner().invoke(group, ["run", *words])
    assert result.exit_code == (2 if said else 0)
    assert said in result.stderr


def test_the_help_lists_every_command_with_its_whole_first_sentence():
    help_text = " ".join(CliRunner().invoke(main, ["--help"]).output.split())
    assert "..." not in help_text.split("Commands:")[1]
    for name, command in main.commands.items():
        sentence = command.get_short_help_str(200)
        assert f"{name} {sentence}" in help_text


def test_windows_is_refused_in_one_line(monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    result = CliRunner().invoke(main, ["embed", "a.wav"])
    assert result.exit_code == 1
    assert result.stderr == "Error: Windows is not supported. Use mulap in WSL (wsl --install).\n"
