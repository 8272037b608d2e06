"""Arrays that take seconds to compute, kept in the user's cache folder."""

from collections.abc import Callable

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mulap.files import atomic_path, user_cache
from mulap.terminal import say

Arrays = dict[str, np.ndarray]


def kept(kind: str, making: str, compute: Callable[[], Arrays]) -> Arrays:
    """Return what `compute` gives, from the cache if it is there.

    Args:
        kind: the folder in the cache.
        making: a hash of all that the arrays depend on.
        compute: called if they are not there, or cannot be read.
    """
    path = user_cache() / kind / f"{making[:32]}.safetensors"
    try:
        return load_file(path)
    except FileNotFoundError:
        pass
    except (SafetensorError, OSError) as error:
        say(f"{path}: cannot be read, {error}. Its numbers are computed again.")
    arrays = compute()
    try:
        with atomic_path(path) as unfinished:
            save_file(arrays, unfinished)
    except OSError as error:
        say(f"{path}: cannot be written, {error.strerror}. Its numbers are computed each time.")
    return arrays
