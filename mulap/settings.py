"""A YAML file -> a dataclass of settings, every name and type checked.

A file may say `extends: other.yaml`, or `extends: pretrain/paper` for one of `mulap.configs`, and
then only what differs. An unknown key is an error that names the nearest known one. A value
of the wrong type is an error too, and so is a missing setting without a default. A dataclass may
check in `__post_init__` which values go together.
"""

import dataclasses
import difflib
import os
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from mulap.configs import find_config, list_configs

Settings = TypeVar("Settings")
_WORDS = {
    bool: "true or false",
    float: "a number",
    int: "a whole number",
    str: "text",
    Path: "a path",
}


def read_settings(
    kind: type[Settings], path: str | os.PathLike[str] | None, overrides: list[str] | None = None
) -> Settings:
    """Read settings from a YAML file.

    Args:
        kind: a dataclass whose fields are the file's sections, each a dataclass itself.
        path: the file; None for the defaults.
        overrides: `section.key=value`, applied last, with YAML's notation for values.

    Returns:
        An instance of `kind`; what is not said has its default.

    Raises:
        ValueError: the file cannot be read, a key is not known, or a value has the wrong type.
    """
    values = {} if path is None else _read_yaml(Path(path), seen=())
    for override in overrides or []:
        name, separator, text = override.partition("=")
        section, dot, key = name.partition(".")
        keys = values.get(section) or {}
        if not separator or not dot or not isinstance(keys, dict):
            raise ValueError(
                f"'{override}' is not a setting. Write section.key=value, such as training.seed=1."
            )
        try:
            values[section] = {**keys, key: yaml.safe_load(text)}
        except yaml.YAMLError as error:
            raise ValueError(f"'{override}': the value is not valid YAML. Quote it.") from error
    return build_settings(kind, values, where=str(path or "the settings"))


def build_settings(kind: type[Settings], values: Any, where: str) -> Settings:
    """Make settings of a dictionary of sections, as YAML gives it, checking every name and type.

    Raises:
        ValueError: a key is not known, or a value has the wrong type; `where` it stands is named.
    """
    return _build(kind, values, where, prefix="")


def load_yaml(path: str | os.PathLike[str]) -> Any:
    """Parse a YAML file; ValueError if it cannot be read or parsed."""
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}). Name a YAML file.") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also of dates and bytes
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: is not valid YAML ({reason}). Fix it there.") from error


def _read_yaml(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ValueError(f"{path}: extends itself. Remove one `extends:`.")
    values = load_yaml(path) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds no sections. Write `training:` and its keys under it.")
    base = values.pop("extends", None)
    if base is None:
        return values
    beside = path.parent / Path(str(base)).expanduser()
    if not beside.is_file() and str(base) in list_configs():
        beside = find_config(str(base))
    merged = _read_yaml(beside, (*seen, path.resolve()))
    for section, keys in values.items():
        before = merged.get(section)
        if isinstance(keys, dict) and isinstance(before, dict):
            merged[section] = {**before, **keys}
        elif keys is not None or section not in merged:
            merged[section] = keys  # a known heading with nothing under it changes nothing
    return merged


def _build(kind: type, values: Any, where: str, prefix: str) -> Any:
    """Make a dataclass of a dictionary, checking every name and type."""
    if not isinstance(values, dict):
        name = f" '{prefix.rstrip('.')}'" if prefix else ""
        raise ValueError(f"{where}:{name} is {values!r}. Give it keys and values.")
    hints = get_type_hints(kind)
    built = {}
    for name, value in values.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1, cutoff=0.5)
            hint = (
                f"Did you mean '{prefix}{near[0]}'?" if near else f"Give one of {', '.join(hints)}."
            )
            raise ValueError(f"{where}: unknown setting '{prefix}{name}'. {hint}")
        if dataclasses.is_dataclass(hints[name]):
            value = {} if value is None else value
        built[name] = _check(hints[name], value, where, f"{prefix}{name}")
    for field in dataclasses.fields(kind):
        has_default = {field.default, field.default_factory} != {dataclasses.MISSING}
        if not has_default and field.name not in built:
            raise ValueError(f"{where}: '{prefix}{field.name}' is missing. Add it.")
    try:
        return kind(**built)
    except ValueError as error:  # values that do not go together
        raise ValueError(f"{where}: {f'in {prefix[:-1]}: ' if prefix else ''}{error}") from error


def _check(kind: Any, value: Any, where: str, name: str) -> Any:
    """Return a value as the type of its setting has it."""
    origin, choices = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return _build(kind, value, where, f"{name}.")
    if origin in (Union, types.UnionType):
        if value is None and types.NoneType in choices:
            return None
        fitting = (each for each in choices if isinstance(value, _yaml_type(each)))
        return _check(next(fitting, choices[0]), value, where, name)
    if origin is not list:
        return _check_plain(kind, value, f"{where}: '{name}' is {value!r}")
    if not isinstance(value, list):
        raise ValueError(
            f"{where}: '{name}' is {value!r}. Give a list, such as [{_name(choices[0])}]."
        )
    return [_check(choices[0], each, where, f"{name}[{n}]") for n, each in enumerate(value, 1)]


def _check_plain(kind: Any, value: Any, what: str) -> Any:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ValueError(f"{what}. Choose one of {', '.join(map(str, get_args(kind)))}.")
        return value
    if kind is Path and isinstance(value, str):
        return Path(value).expanduser()
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML reads 1e-4 as text.
        try:
            return float(value)
        except ValueError as error:
            raise ValueError(f"{what}. Give a number.") from error
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{what}. Give {_WORDS.get(kind, _name(kind))}.")
    return value


def _yaml_type(kind: Any) -> type:
    """Return the type that YAML gives a value for a setting of some type."""
    if dataclasses.is_dataclass(kind):
        return dict
    if get_origin(kind) is Literal:
        return type(get_args(kind)[0])
    return str if kind is Path else get_origin(kind) or kind


def _name(kind: Any) -> str:
    return _name(get_args(kind)[0]) if get_origin(kind) else kind.__name__.lower()
