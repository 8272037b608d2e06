"""Bootstrap intervals over whole groups: how far a figure moves when another test set is drawn.

Clips of one track are alike, and so are tracks of one artist. Drawing them one by one treats them
as independent and makes intervals too narrow, so whole groups are drawn. NumPy only: training
evaluates without the extra `probe`.
"""

import numpy as np

_PERCENTILES = (2.5, 97.5)


def bootstrap_counts(groups: np.ndarray, num_draws: int = 1000, seed: int = 0) -> np.ndarray:
    """Draw G of G groups with replacement, R times, each with all its members.

    Args:
        groups: (n,) the group of each item, a number or a name; `np.arange(n)` draws single items.
        num_draws: R. A draw depends on the seed and its own position: more draws keep the first.
        seed: 0 or above.

    Returns:
        int32 (R, n): how often each item is drawn. Groups may differ in size, and so may the sums.
    """
    names, group = np.unique(groups, return_inverse=True)
    counts = np.empty((num_draws, len(group)), np.int32)
    for draw in range(num_draws):
        chosen = np.random.default_rng([seed, draw]).integers(len(names), size=len(names))
        counts[draw] = np.bincount(chosen, minlength=len(names))[group]
    return counts


def bootstrap_interval(
    values: np.ndarray, groups: np.ndarray, num_draws: int = 1000
) -> tuple[float, float] | None:
    """Return the 95% percentile interval of the mean of values (n,), drawing whole groups (n,).

    None if all items are of one group: every draw would be the same.
    """
    counts = bootstrap_counts(groups, num_draws)
    return interval_of_draws(counts @ values / counts.sum(1), groups)


def interval_of_draws(draws: np.ndarray, groups: np.ndarray) -> tuple[float, float] | None:
    """Return the 95% percentile interval of a figure from its value (R,) for each draw.

    A NaN is a draw without a value; if there are no others, a ValueError is raised. None if all
    items are of one group.
    """
    if len(np.unique(groups)) < 2:
        return None
    draws = draws[~np.isnan(draws)]
    if not draws.size:
        raise ValueError("no bootstrap draw has a label to score. Give more draws, or more tracks.")
    low, high = np.percentile(draws, _PERCENTILES)
    return float(low), float(high)
