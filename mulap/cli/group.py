"""What all commands share: output streams, exit codes and one-line errors.

Results go to standard output; progress, messages and errors go to standard error. Heavy imports
stand inside the commands, so that `mulap --help` needs no torch. A command ends with

    0    done
    1    failed; one line says where, why and what to do
    2    called wrongly
    3    done, but some inputs could not be used; they are counted and listed with their reasons
    130  interrupted with Ctrl-C
    143  stopped at once by SIGTERM

Files on disk stay valid, also after SIGTERM and SIGKILL: run the same command to resume. If
WORLD_SIZE is set, as torchrun sets it, unusable inputs end with 0 and wrong calls with 1, since a
launcher takes any other code for a crash.
"""

import errno
import functools
import importlib.util
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import click
from click.core import ParameterSource
from tqdm import tqdm

from mulap import __version__, terminal
from mulap.configs import find_config
from mulap.encoders.backend import choose_backend
from mulap.terminal import counted

say, warn = terminal.say, terminal.warn  # --quiet silences the first

# Threads that wait for each other sleep instead of spinning: beside another busy process a training
# step took a third of the time, alone about a tenth more (docs/log.md). Read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

SOME_FAILED = 3
INTERRUPTED = 130
_LONGEST_LINE = 1_000  # letters of an error: some quote what they found in a damaged file
_EXTRAS = {"lancedb": "search", "onnx": "export", "starlette": "web", "uvicorn": "web"}
_EXTRAS |= dict.fromkeys(("torch", "transformers", "huggingface_hub"), "torch")
# Of the extras `probe` and `train`, by the names they are imported by; embedding and tagging do
# without.
_OPTIONAL_PACKAGES = {
    **{name: name for name in ("accelerate", "matplotlib", "numba", "sacrebleu", "scipy")},
    "markdown_it": "markdown-it-py",
    "rouge_score": "rouge-score",
    "sklearn": "scikit-learn",
    "tensorboard": "tensorboard",
    "yaml": "pyyaml",
}
_NO_ROOM = "Free some space, or give another place. Finished work is saved."
_CLOSED = "Check its permissions, or give another place."
_NO_FOLDER = "A file is where a folder should be: give another place."
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


DEFAULT_ENCODER = "mulap-small"
ENCODERS_HELP = (
    "A checkpoint folder, mulap-small, musicnn-mtt, musicnn-msd, random, mel, "
    "hear:MODULE[:WEIGHTS] or hf:NAME."
)
SPLITS = ["train", "valid", "test"]
COUNT = click.IntRange(min=1)
# A group called with nothing shows its help; click 8.1 has no exception for that.
_HELP_IS_THE_ANSWER = getattr(click.exceptions, "NoArgsIsHelpError", ())
data_option = click.option(
    "--data",
    required=True,
    type=UserPath(exists=True),
    help="Corpus: a folder with metadata.csv, .jsonl or .parquet; a MuLaP JSON; or tars.",
)
unpack_option = click.option(
    "--unpack-to",
    type=UserPath(file_okay=False),
    help="Folder for the files of tars and of audio inside parquet. [default: beside them]",
)
run_option = click.option(
    "--output", "-o", required=True, type=UserPath(file_okay=False), help="Folder of the run."
)
device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="PyTorch device, for example cpu, cuda or cuda:1. auto: a GPU if there is one, else cpu.",
)
joint_model_option = click.option(
    "--model",
    default=DEFAULT_ENCODER,
    show_default=True,
    help="mulap-small, or a model of mulap pretrain that shares a space with text.",
)
space_option = click.option(
    "--space",
    type=click.Choice(["backbone", "joint"]),
    default="backbone",
    show_default=True,
    help="backbone: the network's features. joint: points of the space that mulap-small, or a "
    "model trained with a contrastive head, shares with text.",
)
# Of an option or argument that names a library.
LIBRARY = {
    "envvar": "MULAP_LIBRARY",
    "type": UserPath(),
    "callback": lambda _, __, given: given or _default_library(),
}
library_option = click.option(
    "--library",
    **LIBRARY,
    help="Folder of the library. [default: $MULAP_LIBRARY, or ~/.local/share/mulap/library]",
)
set_option = click.option(
    "--set",
    "-s",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Override a setting of CONFIG.",
)
_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


def _default_library() -> Path:
    from mulap.library.about import default_library

    return default_library()


def one_line_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """Turn the errors that users can fix into one line and exit code 1."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _check_current_folder()
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:
            raise  # the reader of our output is gone, as in `| head`: click ends quietly
        except ModuleNotFoundError as error:
            package = (error.name or "").partition(".")[0]
            if package not in _OPTIONAL_PACKAGES | _EXTRAS:
                raise
            raise click.ClickException(_describe_missing(package)) from error
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


def _describe_missing(package: str) -> str:
    """Name all optional packages that are missing, so that one install is enough."""
    if extra := _EXTRAS.get(package):
        return f"the package {package} is missing. Run pip install 'mulap[{extra}]'"
    missing = [
        name
        for module, name in _OPTIONAL_PACKAGES.items()
        if module == package or importlib.util.find_spec(module) is None
    ]
    name = _OPTIONAL_PACKAGES[package]
    return f"the package {name} is missing. Run pip install {' '.join(missing)}"


def _one_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    half = _LONGEST_LINE // 2  # the remedy stands at the end
    return text if len(text) <= _LONGEST_LINE else f"{text[:half]} ... {text[-half:]}"


def describe_os_error(error: OSError) -> str:
    """Say in a line what failed, where, and what to do."""
    if error.filename is None or not error.strerror:
        return _one_line(error)
    remedy = _REMEDIES.get(error.errno or 0, "Check that the path exists and is readable.")
    return f"{os.fsdecode(error.filename)}: {error.strerror}. {remedy}"


def end_with_failures(num_failures: int, listed_in: object) -> None:
    """Exit with code 3 if some inputs could not be used.

    Under a launcher, which would take that for a crash, the exit code is 0.
    """
    if num_failures:
        warn(f"{counted(num_failures, 'input')} could not be used; reasons: {listed_in}")
        if "WORLD_SIZE" not in os.environ:
            sys.exit(SOME_FAILED)


def say_left_aside(others: dict[str, int]) -> None:
    """Report the files in folders that were not read because of their endings."""
    if others:
        said = ", ".join(f"{count} {ending}" for ending, count in list(others.items())[:5])
        more = f", and {counted(len(others) - 5, 'more ending')}" if len(others) > 5 else ""
        files = counted(sum(others.values()), "file")
        warn(f"left aside: {files} with other endings ({said}{more})")


def print_files(files: Iterable[Any], show: Callable[[Any], str], left_aside: Counter[str]) -> int:
    """Print what is said of each file, and warn of those that cannot be used; return their number.

    Args:
        files: each has `file` and `reason`, which is empty if the file can be used.
        show: what is printed of one.
        left_aside: files of other endings, which are reported at the end.
    """
    num_failures = 0
    for each in files:
        if each.reason:
            num_failures += 1
            warn(f"left out: {each.file}: {each.reason}")
            continue
        text = show(each)
        with tqdm.external_write_mode():  # the bar is taken away meanwhile
            click.echo(text)
    say_left_aside(left_aside)
    return num_failures


def quiet_transformers() -> None:
    """Keep transformers' bars for loading and saving off the screen, where it is used."""
    if choose_backend() == "onnx":
        return
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()


@contextmanager
def _wrong_use_in_one_line() -> Iterator[None]:
    """Report wrong use without the usage above it; `--help` has it."""
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
    """Report Ctrl-C, also where a library turned it into an error of its own, as torch does."""
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
        warn("\nInterrupted. Finished work is saved; run the same command to resume.")
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
    """A group whose commands report errors, wrong use and Ctrl-C in one line.

    Each command gets --quiet; without it progress is shown.
    """

    group_class = type  # groups of this group are such groups too

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Register a command, or a group of commands."""
        if not isinstance(cmd, click.Group) and _QUIET not in cmd.params:
            cmd.params.append(_QUIET)
        super().add_command(cmd, name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands, each with its whole first sentence: click would cut it short."""
        commands = [(name, self.commands[name]) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(200)) for name, each in commands])

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
    """Train music-audio encoders on captioned tracks; tag, embed and evaluate with them."""
    if sys.platform == "win32":  # which moves no file that is open, as our atomic writes do
        raise click.ClickException("Windows is not supported. Use mulap in WSL (wsl --install).")


def refuse_given(reason: str, *names: str) -> None:
    """Refuse options that were given on the command line and would do nothing.

    Args:
        reason: why, and what to do instead, after the option's name.
        names: of the parameters.

    Raises:
        click.UsageError: one of them was given.
    """
    context = click.get_current_context()
    for name in names:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = next(each for each in context.command.params if each.name == name)
            typed = option.opts if context.params[name] else option.secondary_opts or option.opts
            raise click.UsageError(f"{typed[0]} {reason}", context)


def join_counts(counts: dict[str, int]) -> str:
    """Write `3 this, 5 that`."""
    return ", ".join(f"{count} {name}" for name, count in counts.items())
