"""Whether all processes train one run: with other settings or other data in one of them, the
gradients would still be averaged, and nothing would tell that they are of different things.

Each compares itself with the main process, which says what the run is. What cannot differ without
an error (checkpoints in a run's folder, the shapes of a model's weights) is left to who meets it.
"""

from typing import Any

from mulap.training.checkpoints import differing_names, flatten
from mulap.training.processes import Processes, fail_together

# Each process may have its own: these change neither a weight nor where the processes meet.
_OWN_SETTINGS = ("data.num_workers", "training.report_to")


def check_same_settings(processes: Processes, settings: dict[str, Any]) -> None:
    """Check that all processes were told the same; called by all of them.

    Args:
        processes: that are to train together.
        settings: of this one, section -> key -> value.

    Raises:
        ValueError: one was told something else.
    """
    _check_same(processes, settings, "settings", "CONFIG and --set")


def check_same_data(processes: Processes, identity: dict[str, Any]) -> None:
    """Check that all processes have read the same tracks; called by all of them.

    Args:
        processes: that are to train together.
        identity: what this one trains and validates on, as counts and hashes by name.

    Raises:
        ValueError: one has read others, being on another machine perhaps.
    """
    _check_same(processes, identity, "data", "--data, and what else it reads")


def _check_same(processes: Processes, own: dict[str, Any], what: str, remedy: str) -> None:
    main = processes.gather(own)[0]
    with fail_together(processes):
        changed = differing_names(main, own, _OWN_SETTINGS)
        if changed:
            name = changed[0]
            here, there = flatten(own).get(name), flatten(main).get(name)
            raise ValueError(
                f"has other {what} than process 0 ({name} is {here!r} here and {there!r} there): "
                f"give every machine the same {remedy}"
            )
