"""Tracks -> groups and splits: whole packages are held out, and nothing in them is trained on.

A package's split is that of the table. A track is left out if a track of a more held-out split
(test, then valid, then train) has the same composer or is a near-duplicate of it: games reuse
themes. A group is then the tracks of one composer, or of one package where no composer is known;
groups with a pair of near-duplicates become one.

Near-duplicates: tracks whose mean embeddings, standardized over the corpus, have a cosine of
`SAME_MUSIC` and more. Equal audio has 1. docs/corpus.md says how the threshold was chosen.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse.csgraph import connected_components

from mulap.corpora.described.tracks import HeardTrack
from mulap.data.splits import SPLITS, fold_group

SAME_MUSIC = 0.975


def find_near_duplicates(
    vectors: np.ndarray,
) -> list[tuple[int, int, float]]:
    """Return the pairs of rows that are one piece of music, with their cosines.

    Args:
        vectors: of the tracks, (num_tracks, width); they are standardized over the rows.
    """
    if len(vectors) < 2:
        return []
    centred = vectors - vectors.mean(0)
    centred /= np.maximum(centred.std(0), 1e-6)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)
    cosines = np.triu(centred @ centred.T, 1)
    first, second = np.nonzero(cosines >= SAME_MUSIC)
    return [(int(i), int(j), float(cosines[i, j])) for i, j in zip(first, second, strict=True)]


def assign_groups(
    tracks: Sequence[HeardTrack],
) -> tuple[list[HeardTrack], list[tuple[str, str]]]:
    """Give each track its final group, and leave out those that a held-out track is too close to.

    Args:
        tracks: their `group` is a composer or a package, their `split` is that of the package.

    Returns:
        The tracks that are used, and (track, reason) of the others.
    """
    folded = [fold_group(each.track.group) for each in tracks]
    same = np.array(folded)[:, None] == np.array(folded)
    alike = np.zeros_like(same)
    for i, j, _ in find_near_duplicates(np.array([each.vector for each in tracks])):
        alike[i, j] = alike[j, i] = True
    ranks = np.array([SPLITS.index(each.track.split) for each in tracks])
    used, left_out = list[int](), []
    for index, each in enumerate(tracks):
        near = [*np.flatnonzero(same[index]).tolist(), *np.flatnonzero(alike[index]).tolist()]
        held_out = max(near, key=lambda other: ranks[other])
        if ranks[held_out] == ranks[index]:
            used.append(index)
            continue
        above = tracks[held_out].track
        what = "has the composer" if same[index, held_out] else "is a version"
        reason = f"{what} of {above.track_id}, which is held out for {above.split}"
        left_out.append((each.track.track_id, reason))
    _, labels = connected_components((same | alike)[np.ix_(used, used)], directed=False)
    names: dict[int, str] = {}  # of what is joined, the first track's group
    grouped = []
    for index, label in zip(used, labels, strict=True):
        each = tracks[index]
        group = names.setdefault(label, each.track.group)
        grouped.append(replace(each, track=replace(each.track, group=group)))
    return grouped, left_out
