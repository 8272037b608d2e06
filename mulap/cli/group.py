"""The group that all commands belong to, how they talk, and how they end.

Results go to standard output, talk to standard error. Heavy imports stand inside the commands, so
that `mulap --help` needs no torch. A command ends with

    0   done
    1   could not be done; one line says what, where and what to do
    2   was called wrongly
    3   done, but some inputs could not be used; they are counted and listed with their reasons
    130 was interrupted, by control-C; SIGTERM ends it at once, as SIGKILL does: what is on disk is
        always such that the same command can go on
"""

import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click

from mulap import __version__, terminal
from mulap.configs import find_config

# Threads that wait for each other sleep instead of spinning: beside another busy process a training
# step took a third of the time, alone about a tenth more (docs/log.md). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SOME_FAILED = 3
INTERRUPTED = 130
_LONGEST_LINE = 1_000  # letters of an error: some quote what they found in a damaged file
# Of the extras `probe` and `train`; embedding and tagging do without.
_OPTIONAL_PACKAGES = {
    "accelerate",
    "matplotlib",
    "numba",
    "scipy",
    "sklearn",
    "tensorboard",
    "yaml",
}
_NO_ROOM = "free some space or give another place; what is done is kept"
_CLOSED = "check your rights to it, or give another place"
_NO_FOLDER = "a file is where a folder should be; give another place"
_REMEDIES = {
    errno.ENOSPC: _NO_ROOM,
    errno.EDQUOT: _NO_ROOM,
    errno.EFBIG: _NO_ROOM,
    errno.EROFS: _CLOSED,
    errno.EACCES: _CLOSED,
    errno.EPERM: _CLOSED,
    errno.ENOTDIR: _NO_FOLDER,
    errno.EEXIST: _NO_FOLDER,
}


class UserPath(click.Path):
    """A path. `~` is the home folder also in --output=~/run, which no shell expands."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value as a path."""
        if not os.path.lexists(value):  # there may be a folder called `~`
            value = os.path.expanduser(value)
        return super().convert(value, param, ctx)


class ConfigName(click.ParamType):
    """A YAML file, or the name of a configuration that comes with mulap."""

    name = "config"

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the file."""
        try:
            return find_config(value, self.kind)
        except ValueError as error:
            return self.fail(str(error), param, ctx)


ENCODERS_HELP = (
    "A checkpoint folder, musicnn-mtt, musicnn-msd, random, mel, hear:MODULE[:WEIGHTS] or hf:NAME."
)
SPLITS = ["train", "valid", "test"]
# A group called with nothing shows its help; click 8.1 has no exception for that.
_HELP_IS_THE_ANSWER = getattr(click.exceptions, "NoArgsIsHelpError", ())
data_option = click.option(
    "--data",
    required=True,
    type=UserPath(exists=True),
    help="A folder with metadata.csv, .jsonl or .parquet; a MuLaP JSON; or tars.",
)
unpack_option = click.option(
    "--unpack-to",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the files of tars and of audio inside parquet. [default: beside them]",
)
run_option = click.option(
    "--output",
    "-o",
    required=True,
    type=UserPath(file_okay=False),
    help="Run folder.",
)
set_option = click.option(
    "--set",
    "-s",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a setting.",
)
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors that users can mend into one line and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _check_current_folder()
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader of our output is gone, as in `| head`: click ends quietly
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _OPTIONAL_PACKAGES:
                raise
            message = f"the package {package} is missing (pip install 'mulap[probe,train]')"
            raise click.ClickException(message) from error
        except OSError as error:
            raise click.ClickException(describe_os_error(error)) from error
        except ValueError as error:
            raise click.ClickException(_one_line(error)) from error

    return wrapped


def _check_current_folder() -> None:
    """Stop before any work if nothing can be found from here, not even by absolute paths."""
    try:
        os.getcwd()
    except FileNotFoundError as error:
        message = "the current folder was deleted. Change to another one (cd) and run it again."
        raise click.ClickException(message) from error


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    half = _LONGEST_LINE // 2  # the remedy stands at the end
    return text if len(text) <= _LONGEST_LINE else f"{text[:half]} ... {text[-half:]}"


def describe_os_error(error: OSError) -> str:
    """Say in a line what failed, where, and what to do."""
    if error.filename is None or not error.strerror:
        return _one_line(error)
    remedy = _REMEDIES.get(error.errno or 0, "check it by hand")
    return f"{os.fsdecode(error.filename)}: {error.strerror} ({remedy})"


def say(text: str) -> None:
    """Print talk, which is not the result, to standard error."""
    click.echo(text, err=True)


def end_with_failures(num_failures: int, listed_in: object) -> None:
    """Leave with exit code 3 if some inputs could not be used.

    A launcher of processes would take that for a crash, and a finished run for one that failed: it
    is told nothing, and the user the same line.
    """
    if num_failures:
        say(f"{num_failures} input(s) could not be used: see {listed_in}")
        if "WORLD_SIZE" not in os.environ:
            sys.exit(SOME_FAILED)


def say_left_aside(others: dict[str, int]) -> None:
    """Report the files in folders that were not read because of their endings."""
    if others:
        said = ", ".join(f"{count} {ending}" for ending, count in list(others.items())[:5])
        more = f", and {len(others) - 5} more endings" if len(others) > 5 else ""
        say(f"left aside: {sum(others.values())} file(s) with other endings ({said}{more})")


def quiet_transformers() -> None:
    """Keep transformers' bars for loading and saving off the screen."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def _wrong_use_in_one_line() -> Iterator[None]:
    """Tell of wrong use without the usage above it; `--help` has it."""
    try:
        yield
    except click.UsageError as error:
        if error.ctx is None or isinstance(error, _HELP_IS_THE_ANSWER):
            raise
        _check_current_folder()
        message = " ".join(error.format_message().split())
        raise click.UsageError(f"{message} (see {error.ctx.command_path} --help)") from error


@contextmanager
def _control_c_in_one_line() -> Iterator[None]:
    """Tell of control-C, also where a library made an error of its own of it, as torch does."""
    is_pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal is_pressed
        is_pressed = True
        signal.default_int_handler(number, frame)

    before = signal.getsignal(signal.SIGINT)
    is_ours = before is signal.default_int_handler
    is_ours = is_ours and threading.current_thread() is threading.main_thread()
    try:
        if is_ours:
            signal.signal(signal.SIGINT, press)
        yield
    except (KeyboardInterrupt, click.ClickException) as error:
        if not is_pressed and not isinstance(error, KeyboardInterrupt):
            raise
        say("\ninterrupted: what is done is kept (call it again to go on)")
        raise click.exceptions.Exit(INTERRUPTED) from error
    finally:
        if is_ours:
            signal.signal(signal.SIGINT, before)


def _silence(ctx: click.Context, _: click.Parameter, is_quiet: bool) -> None:
    if is_quiet:
        ctx.with_resource(terminal.shown(False))


_QUIET = click.Option(
    ["--quiet", "-q"],
    is_flag=True,
    expose_value=False,
    callback=_silence,
    help="Show no progress; print only results, left-out files and errors.",
)


class OneLineGroup(click.Group):
    """A group whose commands tell of wrong use and of control-C in one line, as of every error.

    Each command gets --quiet; without it progress is shown.
    """

    group_class = type  # groups of this group are such groups too

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Register a command, or a group of commands."""
        if not isinstance(cmd, click.Group) and _QUIET not in cmd.params:
            cmd.params.append(_QUIET)
        super().add_command(cmd, name)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the options before the command."""
        with _control_c_in_one_line(), _wrong_use_in_one_line():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Parse the rest and call the command."""
        with _control_c_in_one_line(), _wrong_use_in_one_line(), terminal.shown():
            return super().invoke(ctx)


@click.group(cls=OneLineGroup, context_settings=_CONTEXT)
@click.version_option(__version__, prog_name="mulap")
def main() -> None:
    """Learn a music-audio encoder from tracks and the sentences about them, and use it."""


def check_device(device: str) -> None:
    """Stop where torch has no such device; it would say so at length, and not as a ValueError."""
    import torch

    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"--device {device}: torch cannot use it here (give cpu)") from error


def join_counts(counts: dict[str, int]) -> str:
    """Write `3 this, 5 that`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
