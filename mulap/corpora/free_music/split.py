"""Tracks -> groups and splits: whole packages are held out, and nothing in them is trained on.

A package's split is that of the table. A track is left out if a track of a more held-out split
(test, then valid, then train) has the same composer or is a near-duplicate of it: games reuse
themes. A group is then the tracks of one composer, or of one package where no composer is known;
groups with a pair of near-duplicates become one.

Near-duplicates: tracks whose mean embeddings, standardized over the corpus, have a cosine of
`SAME_MUSIC` and more. Equal audio has 1. docs/corpus.md says how the threshold was chosen.
"""

from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np

from mulap.corpora.described.tracks import HeardTrack
from mulap.data.splits import SPLITS, choose_group, fold_group

SAME_MUSIC = 0.975


def find_near_duplicates(
    vectors: np.ndarray, threshold: float = SAME_MUSIC
) -> list[tuple[int, int, float]]:
    """Return the pairs of rows that are one piece of music, with their cosines.

    Args:
        vectors: of the tracks, (num_tracks, width).
        threshold: least cosine of the vectors, standardized over the rows.
    """
    if len(vectors) < 2:
        return []
    centred = vectors - vectors.mean(0)
    centred /= np.maximum(centred.std(0), 1e-6)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    cosines = np.triu(centred @ centred.T, 1)
    first, second = np.nonzero(cosines >= threshold)
    return [(int(i), int(j), float(cosines[i, j])) for i, j in zip(first, second, strict=True)]


def assign_groups(
    tracks: Sequence[HeardTrack], threshold: float = SAME_MUSIC
) -> tuple[list[HeardTrack], list[tuple[str, str]]]:
    """Give each track its final group, and leave out those that a held-out track is too close to.

    Args:
        tracks: their `group` is a composer or a package, their `split` is that of the package.
        threshold: of `find_near_duplicates`.

    Returns:
        The tracks that are used, and (track, reason) of the others.
    """
    order = {split: rank for rank, split in enumerate(SPLITS)}
    links = find_near_duplicates(np.array([each.vector for each in tracks]), threshold)
    alike: dict[int, list[int]] = {index: [] for index in range(len(tracks))}
    for first, second, _ in links:
        alike[first].append(second)
        alike[second].append(first)
    by_group: dict[str, list[int]] = {}
    for index, each in enumerate(tracks):
        by_group.setdefault(fold_group(each.track.group), []).append(index)
    used, failures, joined = list[int](), [], _Joined()
    for index, each in enumerate(tracks):
        same = by_group[fold_group(each.track.group)]
        held_out = max([*same, *alike[index]], key=lambda other: order[tracks[other].track.split])
        above = tracks[held_out].track
        if order[above.split] > order[each.track.split]:
            what = "has the composer" if held_out in same else "is a version"
            reason = f"{what} of {above.track_id}, which is held out for {above.split}"
            failures.append((each.track.track_id, reason))
            continue
        used.append(index)
        joined.join(index, fold_group(each.track.group))
    for first, second, _ in links:
        if first in joined and second in joined:
            joined.join(first, second)
    names: dict[Hashable, str] = {}
    return [
        _rename(tracks[i], names.setdefault(joined.root(i), tracks[i].track.group)) for i in used
    ], failures


def _rename(each: HeardTrack, group: str) -> HeardTrack:
    return replace(each, track=replace(each.track, group=group))


def group_of(composer: str, package: str) -> str:
    """Return the group of a track before near-duplicates are looked for."""
    return choose_group([composer], package)


class _Joined:
    """Sets of things that belong together (union-find)."""

    def __init__(self) -> None:
        self._parent: dict[Hashable, Hashable] = {}

    def __contains__(self, thing: Hashable) -> bool:
        return thing in self._parent

    def root(self, thing: Hashable) -> Hashable:
        while (parent := self._parent.setdefault(thing, thing)) != thing:
            thing = parent
        return thing

    def join(self, first: Hashable, second: Hashable) -> None:
        self._parent[self.root(first)] = self.root(second)
