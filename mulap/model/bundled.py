"""Where the weights that ship with the package lie: a name such as `musicnn-mtt` -> a folder.

In a checkpoint's remote code this file has no `weights` folder beside it; every name is then left
to Hugging Face.
"""

import hashlib
import os
from functools import cache
from pathlib import Path

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"
SUMS_FILE = "SHA256SUMS"
_LOADED = (".json", ".onnx", ".safetensors", ".txt")


def bundled_names() -> list[str]:
    """Return the names of the weights that ship with the package, sorted."""
    return sorted(config.parent.name for config in _WEIGHTS.glob("*/config.json"))


def locate_weights(name_or_path: str | os.PathLike[str]) -> str:
    """Return the folder of a bundled name; give anything else back as it came.

    A folder of the same name in the working directory comes first, as everywhere in transformers.
    The files of a bundled name are compared with their checksums, once in a process.

    Args:
        name_or_path: `mulap-small`, `musicnn-mtt`, `musicnn-msd`, a folder, or a name on the hub.

    Returns:
        What `from_pretrained` should be given.

    Raises:
        ValueError: the files of a bundled name are not those that were published.
    """
    name = os.fspath(name_or_path)
    if name in bundled_names() and not os.path.isdir(name):
        check_sums(_WEIGHTS / name)
        return str(_WEIGHTS / name)
    return name


@cache
def check_sums(folder: Path) -> None:
    """Compare a folder's files with its `SHA256SUMS`, which `sha256sum -c` reads as well.

    Raises:
        ValueError: a file is missing or differs, or there are no checksums.
    """
    changed = SUMS_FILE
    try:
        for line in (folder / SUMS_FILE).read_text(encoding="utf-8").splitlines():
            expected, _, changed = line.partition("  ")
            with open(folder / changed, "rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest() != expected:
                    raise ValueError(f"{changed} has another SHA-256")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{folder}: {changed} is not the file that was published. Install mulap again."
        ) from error


def write_sums(folder: Path) -> None:
    """Write a folder's `SHA256SUMS`: of what is loaded, not of the words beside it."""
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.suffix in _LOADED
    ]
    (folder / SUMS_FILE).write_text("".join(lines), encoding="utf-8")
