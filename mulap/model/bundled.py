"""Where the weights that ship with the package lie: a name such as `musicnn-mtt` -> a folder.

In a checkpoint's remote code this file has no `weights` folder beside it; every name is then left
to Hugging Face.
"""

import os
from pathlib import Path

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def bundled_names() -> list[str]:
    """Return the names of the weights that ship with the package, sorted."""
    return sorted(config.parent.name for config in _WEIGHTS.glob("*/config.json"))


def locate_weights(name_or_path: str | os.PathLike[str]) -> str:
    """Return the folder of a bundled name; give anything else back as it came.

    A folder of the same name in the working directory comes first, as everywhere in transformers.

    Args:
        name_or_path: `musicnn-mtt`, `musicnn-msd`, a folder, or a name on the hub.

    Returns:
        What `from_pretrained` should be given.
    """
    name = os.fspath(name_or_path)
    if name in bundled_names() and not os.path.isdir(name):
        return str(_WEIGHTS / name)
    return name
