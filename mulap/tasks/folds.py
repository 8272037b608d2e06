"""Folds and valid tracks by a seed; a group is never split.

Labels are spread as evenly as scikit-learn's splitters can. Everything is a pure function of the
arrays and the seed. A group that is larger than a part should be stays whole, so parts may be of
unequal size.
"""

import warnings

import numpy as np
from sklearn.model_selection import GroupKFold, StratifiedGroupKFold, StratifiedKFold

from mulap.tasks.task import Fold

VALID_SHARE = 1 / 8
"""Share of the tracks not tested in a fold that are held out as valid, if groups allow it."""


def assign_folds(groups: np.ndarray, labels: np.ndarray, num_folds: int, seed: int) -> list[Fold]:
    """Make folds that test each track once.

    Args:
        groups: (n,) a number for each track's group.
        labels: bool (n, C) which labels a track has; C = 0 where there are none to balance.
        num_folds: how many; as many as there are groups if those are fewer.
        seed: a whole number from 0 on.

    Raises:
        ValueError: fewer than two folds, or too few groups.
    """
    if num_folds < 2:
        raise ValueError(f"{num_folds} folds: too few. Give 2 or more.")
    num_groups = len(np.unique(groups))
    if num_groups < 3:
        raise ValueError(
            f"only {num_groups} groups: train, valid and test need at least one each. Add "
            "tracks, or group by another column; file_name keeps no tracks together."
        )
    tests = _assign(groups, labels, min(num_folds, num_groups), seed)
    everything = np.arange(len(groups))
    folds = []
    for index, test in enumerate(tests):
        others = np.setdiff1d(everything, test)
        train, valid = hold_out(others, groups, labels, seed=seed + index)
        folds.append(Fold(str(index + 1), train, valid, test))
    return folds


def hold_out(
    tracks: np.ndarray, groups: np.ndarray, labels: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Divide the tracks (m,) that are not tested into train and valid; the rest as `assign_folds`.

    Of the parts that `VALID_SHARE` would make, valid is the one that leaves most labels in train,
    then has most of them itself, then is nearest in size.

    Raises:
        ValueError: all tracks are of one group, so it would have to be split.
    """
    num_groups = len(np.unique(groups[tracks]))
    if num_groups < 2:
        raise ValueError(
            f"the {len(tracks)} tracks outside test are of one group, so none can be held out "
            "for valid. Add tracks, or group by another column."
        )
    parts = _assign(groups[tracks], labels[tracks], min(round(1 / VALID_SHARE), num_groups), seed)

    def badness(part: np.ndarray) -> tuple[int, int, float]:
        valid = labels[tracks[part]].any(0)
        train = np.delete(labels[tracks], part, axis=0).any(0)
        return -int(train.sum()), -int(valid.sum()), abs(len(part) - VALID_SHARE * len(tracks))

    valid = min(parts, key=badness)
    return np.delete(tracks, valid), tracks[valid]


def _assign(groups: np.ndarray, labels: np.ndarray, num_parts: int, seed: int) -> list[np.ndarray]:
    """Return positions of `num_parts` parts, none empty; there are at least as many groups."""
    # Tags are balanced by their rarest one, which is the one most easily missing from a part.
    rarity = labels.sum(0) + np.arange(labels.shape[1]) / (labels.shape[1] + 1)
    rarest = np.where(labels, rarity, np.inf)
    classes = rarest.argmin(1) if labels.shape[1] else np.zeros(len(groups), int)
    by_group = GroupKFold(num_parts, shuffle=True, random_state=seed)
    splitter, given = by_group, groups
    counts = np.unique(classes, return_counts=True)[1]
    if len(counts) > 1 and counts.max() >= num_parts:
        # The splitter for groups is slow where there are many; without groups it need not be used.
        is_single = len(np.unique(groups)) == len(groups)
        kind, given = (StratifiedKFold, None) if is_single else (StratifiedGroupKFold, groups)
        splitter = kind(num_parts, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        # That a class has fewer tracks than there are parts is reported by who asked for them.
        warnings.filterwarnings("ignore", "The least populated class", UserWarning)
        parts = [part for _, part in splitter.split(classes, classes, given)]
    if not all(len(part) for part in parts):
        # Balancing labels can leave a part without a track; assigning groups alone cannot.
        parts = [part for _, part in by_group.split(classes, classes, groups)]
    return parts
