"""Writes the reference pages from the code itself, so that they cannot say anything else.

docs/cli.md      from the click commands of `mulap.cli`
docs/configs.md  from the dataclasses of settings, and the files in mulap/configs/

python scripts/make_docs.py            write them
python scripts/make_docs.py --check    say which is out of date, exit code 1
"""

import argparse
import dataclasses
import inspect
import re
import sys
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import click

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mulap import cli  # noqa: E402
from mulap.cli import group  # noqa: E402
from mulap.configs import FOLDER  # noqa: E402
from mulap.data.collator import PretrainCollator  # noqa: E402
from mulap.model.config import ModelSwitches, MulapAudioConfig  # noqa: E402
from mulap.probing.settings import ProbeSettings  # noqa: E402
from mulap.training.pretrain import settings  # noqa: E402
from mulap.training.supervised.settings import SupervisedSettings  # noqa: E402

NOTICE = "<!-- Written by scripts/make_docs.py: change the code, then run `make docs`. -->"
# Settings whose fields are described where they are used, under the same names; the last one wins.
DESCRIBED_BY: dict[type, tuple[type, ...]] = {
    settings.ModelSettings: (settings.ModelSettings, MulapAudioConfig, ModelSwitches),
    settings.MaskingSettings: (PretrainCollator,),
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell or " " for cell in line) + " |" for line in lines)


def code(value: object) -> str:
    """Return a value as inline code that does not break a table."""
    return f"`{value}`".replace("|", "\\|")


def attributes(kind: type) -> dict[str, str]:
    """Return name -> text of the Attributes section of a class's docstring."""
    section = inspect.cleandoc(kind.__doc__ or "").partition("\nAttributes:\n")[2]
    section = textwrap.dedent(re.split(r"\n(?=\S)", section)[0])
    found = re.findall(r"^(\w+): (.*(?:\n .*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in found}


def commands(
    command: click.Command = cli.main, path: str = "mulap"
) -> Iterator[tuple[str, click.Command]]:
    """Yield every command that does something, with the words that call it."""
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, f"{path} {name}")
    else:
        yield path, command


def describe_option(option: click.Option) -> list[str]:
    """Return an option's row: how it is written, what it takes, its default and its meaning."""
    default = str(option.default) if isinstance(option.default, Path) else option.default
    is_shown = isinstance(default, int | float | str) and not isinstance(default, bool)
    if isinstance(option.type, click.Choice):
        takes = ", ".join(code(choice) for choice in option.type.choices)
    elif option.is_flag:
        takes = ""
    elif isinstance(option.type, click.IntRange):
        takes = f"integer, {option.type.min} or more"
    else:
        takes = (option.metavar or option.type.name).replace("|", "\\|")
    written = [*option.opts, *option.secondary_opts]
    text, _, told = (option.help or "").partition("  [default: ")
    shown = "required" if option.required else told.rstrip("]")
    if is_shown and default != "":
        shown = code(default)
    notes = " May be given several times." if option.multiple else ""
    return [", ".join(map(code, written)), takes, shown, text + notes]


def make_cli_page() -> str:
    """Return docs/cli.md."""
    exit_codes = (group.__doc__ or "").partition("A command ends with\n")[2]
    parts = [
        f"# Commands\n\n{NOTICE}\n",
        "Results go to standard output; progress, messages and errors go to standard error. `mulap "
        "COMMAND --help` says the same as this page. A command ends with\n",
        exit_codes.strip("\n") + "\n",
        "An error is one line on standard error that begins with `Error: `. Progress is a bar in "
        "a terminal, and in a log one line after 5 seconds and then every 30 seconds; `--quiet`, "
        "which every command takes, turns it off.\n",
    ]
    for path, command in commands():
        arguments = [each for each in command.params if isinstance(each, click.Argument)]
        options = [each for each in command.params if isinstance(each, click.Option)]
        words = [each.make_metavar(click.Context(command)) for each in arguments]
        text = inspect.cleandoc(command.help or "")
        parts += [
            f"## {path}\n",
            f"```\n{' '.join([path, '[OPTIONS]', *words])}\n```\n",
            f"{text}\n",
            table(["option", "takes", "default", "what"], list(map(describe_option, options))),
            "",
        ]
    return "\n".join(parts).rstrip() + "\n"


def describe_type(kind: Any) -> str:
    """Return a setting's type in words."""
    if get_origin(kind) is Literal:
        return ", ".join(map(code, get_args(kind)))
    if get_origin(kind) in (Union, types.UnionType):
        return f"{describe_type(get_args(kind)[0])} or none"
    if get_origin(kind) is list:
        return f"list of {describe_type(get_args(kind)[0])}"
    return kind.__name__


def default_of(field: dataclasses.Field) -> object:
    """Return a field's default, as YAML would write none and booleans."""
    is_made = field.default_factory is not dataclasses.MISSING
    return as_yaml(field.default_factory() if is_made else field.default)  # pyright: ignore


def as_yaml(value: object) -> object:
    """Return a value as it is written in a YAML file."""
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return {True: "true", False: "false", None: "none"}[value] if is_word(value) else value


def is_word(value: object) -> bool:
    """Return whether YAML has a word of its own for a value."""
    return value is None or isinstance(value, bool)


def describe_section(kind: type) -> list[list[str]]:
    """Return a row a field: name, type, default, description.

    Raises:
        KeyError: a field has no description.
    """
    texts: dict[str, str] = {}
    for source in DESCRIBED_BY.get(kind, (kind,)):
        texts |= attributes(source)
    hints = get_type_hints(kind)
    return [
        [code(each.name), describe_type(hints[each.name]), code(default_of(each)), texts[each.name]]
        for each in dataclasses.fields(kind)
    ]


def flatten(values: dict[str, Any]) -> dict[str, Any]:
    """Return {section: {key: value}} as {section.key: value}."""
    return {f"{part}.{key}": value for part, keys in values.items() for key, value in keys.items()}


def header_of(path: Path) -> str:
    """Return the comment at the head of a YAML file, as Markdown."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#"):
            break
        lines.append(line.removeprefix("#").removeprefix(" "))
    return re.sub(r"^  (?=\S)", "    ", "\n".join(lines), flags=re.MULTILINE).strip()


def describe_settings(kind: type, mark: str) -> list[str]:
    """Return a table for each section of some settings."""
    parts = []
    for name, section in get_type_hints(kind).items():
        about = (inspect.getdoc(section) or "").splitlines()[0]
        rows = describe_section(section)
        parts += [f"{mark} {name}\n", f"{about}\n"]
        parts += [table(["key", "type", "default", "what"], rows), ""]
    return parts


def describe_files(folder: str, mark: str) -> list[str]:
    """Return what each file of a folder of configs says of itself."""
    files = sorted((FOLDER / folder).glob("*.yaml"))
    return [f"{mark} {path.stem}\n\n{header_of(path)}\n" for path in files]


def describe_changes() -> str:
    """Return what the files of pre-training change, in one table."""
    defaults = flatten(dataclasses.asdict(settings.PretrainSettings()))
    changes = {}
    for path in sorted((FOLDER / "pretrain").glob("*.yaml")):
        loaded = flatten(dataclasses.asdict(settings.load_settings(path)))
        changes[path.stem] = {key: loaded[key] for key in loaded if loaded[key] != defaults[key]}
    changed = [key for key in defaults if any(key in each for each in changes.values())]
    rows = [
        [code(key), code(as_yaml(defaults[key]))]
        + [code(as_yaml(each[key])) if key in each else "" for each in changes.values()]
        for key in changed
    ]
    return table(["setting", "default", *changes], rows)


def make_configs_page() -> str:
    """Return docs/configs.md."""
    parts = [
        f"# Settings\n\n{NOTICE}\n",
        "CONFIG of `mulap pretrain`, `mulap pretrain-supervised` and `mulap benchmark` is a YAML "
        "file, or the name of one that comes with mulap. `mulap config` lists these names; `mulap "
        "config small > mine.yaml` copies one. A file may say `extends: pretrain/paper`, or "
        "`extends: other.yaml`, and then only what differs; `--set section.key=value` comes last. "
        "An unknown key, or a value of the wrong type, stops the run before anything is loaded.\n",
        *describe_settings(settings.PretrainSettings, "##"),
        "## What comes with mulap for pre-training\n",
        *describe_files("pretrain", "###"),
        "### What they change\n",
        "An empty cell is the default.\n",
        describe_changes(),
        "",
        "## Supervised training\n",
        "Without CONFIG, `mulap pretrain-supervised` uses these defaults, the paper's.\n",
        *describe_settings(SupervisedSettings, "###"),
        *describe_files("supervised", "###"),
        "## Benchmarks\n",
        "`mulap benchmark CONFIG` reads lists of tasks and backbones (docs/tasks.md). `supervised` "
        "in it holds the settings of supervised training.\n",
        *describe_files("benchmark", "###"),
        "## Probes\n",
        "What the named protocols fix (docs/tasks.md); the defaults are `paper`.\n",
        table(["key", "type", "default", "what"], describe_section(ProbeSettings)),
    ]
    return "\n".join(parts).rstrip() + "\n"


PAGES = {"docs/cli.md": make_cli_page, "docs/configs.md": make_configs_page}


def main() -> int:
    """Write the pages, or check them; return the exit code."""
    parser = argparse.ArgumentParser(description="Write the generated pages of the documentation.")
    parser.add_argument("--check", action="store_true", help="only say which are out of date")
    is_check = parser.parse_args().check
    stale = []
    for name, make_page in PAGES.items():
        path, text = ROOT / name, make_page()
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if not is_check:
            path.write_text(text, encoding="utf-8")
    if is_check and stale:
        print(f"out of date: {', '.join(stale)} (run `make docs`)", file=sys.stderr)
        return 1
    print(f"{'up to date' if is_check or not stale else 'wrote ' + ', '.join(stale)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
