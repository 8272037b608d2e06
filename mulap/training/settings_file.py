"""A YAML file -> a dataclass of settings, every name and type checked.

A file may say `extends: other.yaml` and then only what differs. A key that is not known stops the
run and names the nearest one that is; so does a value of the wrong type. What the settings mean,
and which values go together, it does not know.
"""

import dataclasses
import difflib
import os
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

Settings = TypeVar("Settings")


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
                f"'{override}' is no setting: write section.key=value, as training.seed=1"
            )
        try:
            values[section] = {**keys, key: yaml.safe_load(text)}
        except yaml.YAMLError as error:
            raise ValueError(f"'{override}': the value is no valid YAML: quote it") from error
    return build_settings(kind, values, where=str(path or "the settings"))


def build_settings(kind: type[Settings], values: Any, where: str) -> Settings:
    """Make settings of a dictionary of sections, checking every name and type.

    Args:
        kind: a dataclass whose fields are the sections, each a dataclass itself.
        values: section -> key -> value, as YAML gives it.
        where: the file or its part, for messages.

    Raises:
        ValueError: a key is not known, or a value has the wrong type.
    """
    return _build(kind, values, where, prefix="")


def load_yaml(path: Path) -> Any:
    """Parse a YAML file.

    Raises:
        ValueError: it cannot be read or parsed.
    """
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror}): name a YAML file") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # also of dates and bytes
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: is no valid YAML ({reason}): mend it there") from error


def _read_yaml(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise ValueError(f"{path}: extends itself: remove one `extends:`")
    values = load_yaml(path) or {}
    if not isinstance(values, dict):
        raise ValueError(f"{path}: holds no sections: write `training:` and its keys under it")
    base = values.pop("extends", None)
    if base is None:
        return values
    merged = _read_yaml(path.parent / str(base), (*seen, path.resolve()))
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
        raise ValueError(f"{where}: '{prefix.rstrip('.')}' is {values!r}: give it keys and values")
    hints = get_type_hints(kind)
    built = {}
    for name, value in values.items():
        if name not in hints:
            near = difflib.get_close_matches(str(name), hints, n=1, cutoff=0.5)
            hint = f"did you mean '{prefix}{near[0]}'?" if near else f"known: {', '.join(hints)}"
            raise ValueError(f"{where}: unknown setting '{prefix}{name}': {hint}")
        if dataclasses.is_dataclass(hints[name]):
            built[name] = _build(
                hints[name], {} if value is None else value, where, f"{prefix}{name}."
            )
        else:
            built[name] = _check(hints[name], value, f"{where}: '{prefix}{name}'")
    return kind(**built)


def _check(kind: Any, value: Any, what: str) -> Any:
    origin, choices = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value not in choices:
            raise ValueError(f"{what} is {value!r}: choose one of {', '.join(map(str, choices))}")
        return value
    if origin in (Union, types.UnionType):
        return value if value is None else _check(choices[0], value, what)
    if origin is list:
        if not isinstance(value, list):
            raise ValueError(f"{what} is {value!r}: give a list, as [{choices[0].__name__}]")
        return [_check(choices[0], entry, what) for entry in value]
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML reads 1e-4 as text.
        try:
            return float(value)
        except ValueError as error:
            raise ValueError(f"{what} is {value!r}: give a number") from error
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{what} is {value!r}: give a {kind.__name__}")
    return value
