"""Names of tasks -> tasks. A new task is a file of constants and a line here (docs/tasks.md)."""

import difflib
from dataclasses import replace
from importlib import import_module

from mulap.tasks.task import Task

# name -> module; a module is imported when its task is first used.
_MODULES = {
    "magnatagatune": "magnatagatune",
    "mtg_jamendo_top50": "mtg_jamendo",
    "mtg_jamendo_genre": "mtg_jamendo",
    "mtg_jamendo_instrument": "mtg_jamendo",
    "mtg_jamendo_moodtheme": "mtg_jamendo",
    "fma_small": "fma_small",
    "nsynth": "nsynth",
    "emomusic": "emomusic",
    "gtzan": "gtzan",
}


def task_names() -> list[str]:
    """Return the names of all tasks but `folder`, which is a table of the user's own."""
    return list(_MODULES)


def find_task(name: str) -> Task:
    """Return a task by name; ValueError if there is none, which names the nearest."""
    if name not in _MODULES:
        near = difflib.get_close_matches(name, _MODULES, 1)
        remedy = f"Did you mean {near[0]}?" if near else f"Give one of {', '.join(_MODULES)}."
        raise ValueError(f"there is no task '{name}'. {remedy}")
    module = import_module(f"mulap.tasks.sets.{_MODULES[name]}")
    return replace(module.TASKS[name], read=module.read)
