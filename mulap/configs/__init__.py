"""Settings to start from, by name: `pretrain/small`, or `small` where only one kind has it.

Each kind has a folder of YAML files here: `pretrain`, `supervised` and `benchmark` for the commands
of those names, `accelerate` for `accelerate launch`.
"""

import os
from pathlib import Path

FOLDER = Path(__file__).parent


def list_configs(kind: str = "*") -> list[str]:
    """Return the names of the files of a kind, or of all, as `kind/name`."""
    paths = FOLDER.glob(f"{kind}/*.yaml")
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in paths)


def find_config(name: str | os.PathLike[str], kind: str = "*") -> Path:
    """Return the file of a name; a file that is there under this path comes first.

    Args:
        name: a path, `kind/name` or `name`.
        kind: which folder a plain name belongs to; any by default.

    Raises:
        ValueError: there is neither such a file nor such a name, or several kinds have the name.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    known = list_configs(kind)
    found = [each for each in known if os.fspath(name) in (each, each.partition("/")[2])]
    if len(found) > 1:
        raise ValueError(f"{name}: several configurations have this name. Give {_join(found)}.")
    if not found:
        shown = known if kind == "*" else [each.partition("/")[2] for each in known]
        raise ValueError(
            f"{name}: neither a file nor a configuration. Give a YAML file, or {_join(shown)}."
        )
    return FOLDER / f"{found[0]}.yaml"


def _join(names: list[str]) -> str:
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else names[0]
