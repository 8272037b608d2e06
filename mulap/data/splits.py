"""Which split a track belongs to: train, valid or test.

A split that the data names itself (a folder, a column) is kept. Where it names none, the split is
a pure function of the track's group: a SHA-256 of the group's name picks one of the three, 80/10/10
as in the paper's section 3.1. So adding tracks moves none, the order of the rows does not matter,
and one artist (or album) is never in both the training and the test set.

Limits: two spellings of an artist are two groups, and so are two albums of an artist whom no column
names.
"""

import hashlib
import unicodedata
from collections.abc import Iterable

SPLITS = ("train", "valid", "test")
"""The names of the splits, everywhere in this package."""

SPLIT_FRACTIONS = (0.8, 0.1, 0.1)
"""Shares of train, valid and test among groups (paper, section 3.1)."""

SPLIT_SALT = "mulap-split-1:"
"""Put before the group's name in the hash. It never changes: all tracks would be assigned again,
and figures from two versions of this package would no longer be about the same test set."""

GROUP_COLUMNS = ("group", "artist", "album")
"""Columns that may hold the group: the first with a value wins, after all of them the track id."""

SPLIT_ALIASES = {
    "train": "train",
    "training": "train",
    "valid": "valid",
    "validation": "valid",
    "val": "valid",
    "dev": "valid",
    "test": "test",
    "testing": "test",
}
"""Spellings of the splits in other people's folders, file names and columns."""

_NO_GROUP = frozenset(
    {"", "-", "?", "n/a", "na", "nan", "none", "null", "unknown", "unknown artist"}
    | {"unknown album", "various", "various artists", "va"}
)


def find_split(text: str) -> str | None:
    """Return the split that a folder's or column's word means, or None for any other word."""
    return SPLIT_ALIASES.get(text.strip().lower())


def fold_group(group: str) -> str:
    """Return the form of a group's name in which it is compared: no case, no doubled spaces."""
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", group).casefold())
    return " ".join(folded.split())


def choose_group(candidates: Iterable[str], track_id: str) -> str:
    """Return the first candidate that names a group, else the track's own id.

    Fillers such as "Various Artists" or "unknown" name none: as a group they would tie unrelated
    tracks together and, being large, spoil the shares of the splits.
    """
    for candidate in candidates:
        if fold_group(candidate) not in _NO_GROUP:
            return candidate
    return track_id


def split_of_group(group: str) -> str:
    """Return the split of all tracks of `group`: 80 % train, 10 % valid, 10 % test of the groups.

    A pure function of the group's name (case and doubled spaces aside), the same on every machine.
    """
    # A lone surrogate (from a JSON escape) cannot be written as UTF-8, yet must get a split.
    name = (SPLIT_SALT + fold_group(group)).encode("utf-8", "surrogatepass")
    position = int.from_bytes(hashlib.sha256(name).digest()[:8], "big") / 2**64
    train, valid, _ = SPLIT_FRACTIONS
    if position < train:
        return "train"
    return "valid" if position < train + valid else "test"


def find_leaking_groups(rows: Iterable[tuple[str, str]]) -> dict[str, tuple[str, ...]]:
    """Return the groups that lie in more than one split, each with its splits.

    `rows` has the group and the split of every clip.
    """
    splits_of: dict[str, set[str]] = {}
    spelling: dict[str, str] = {}
    for group, split in rows:
        folded = fold_group(group)
        splits_of.setdefault(folded, set()).add(split)
        spelling.setdefault(folded, group)
    return {
        spelling[folded]: tuple(name for name in SPLITS if name in found)
        for folded, found in splits_of.items()
        if len(found) > 1
    }
