"""What scores of every clip of a pool against every caption are worth: matching, retrieval.

The scores are those of `MulapForPreTraining.pairs`, by one of its heads. Retrieval ranks all clips
of the pool for each caption.

A clip may have several captions, of which one or all are asked for. It is a right answer to any of
them, also where another clip asks for it.
"""

from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from torch import Tensor

RECALL_AT = (1, 5, 10)


def right_pairs(own_keys: Sequence[Collection[str]], caption_keys: Sequence[str]) -> np.ndarray:
    """Say which captions are right for which clips.

    Args:
        own_keys: what makes captions equal, of all captions of each clip.
        caption_keys: the same of the captions asked for.

    Returns:
        bool (clips, captions).
    """
    return np.array([[key in own for key in caption_keys] for own in own_keys])


def pair_accuracy(scores: Tensor, is_match: np.ndarray) -> np.ndarray:
    """How often each clip's matches and mismatches are told rightly.

    Args:
        scores: log-odds of a match (P clips, C captions).
        is_match: from `right_pairs`.

    Returns:
        float (P,), the mean of the share of matches scored above 0 and of mismatches scored below.
        A clip whose caption all others share has no mismatch; its matches count alone.
    """
    is_above = scores.numpy() > 0
    matches = (is_above & is_match).sum(axis=1) / is_match.sum(axis=1)
    num_mismatches = (~is_match).sum(axis=1)
    mismatches = (~is_above & ~is_match).sum(axis=1) / np.maximum(num_mismatches, 1)
    return np.where(num_mismatches > 0, (matches + mismatches) / 2, matches)


def retrieval_ranks(scores: Tensor, is_right: np.ndarray) -> np.ndarray:
    """Rank the right tracks of each caption among all tracks (text to audio).

    Where several are right, the best-ranked counts. Ties count half: a head that gives every pair
    one score lands in the middle, not on top.

    Args:
        scores: (P clips, C captions).
        is_right: from `right_pairs`.

    Returns:
        float (C,), 1 the best, of each caption.
    """
    values = scores.double().numpy()
    values = np.where(np.isnan(values), -np.inf, values)  # a broken model must not rank first
    ranks = np.empty(values.shape[1])
    for column in range(len(ranks)):
        best = values[is_right[:, column], column].max()
        others = values[~is_right[:, column], column]
        ranks[column] = 1 + (others > best).sum() + 0.5 * (others == best).sum()
    return ranks


def summarize_ranks(ranks: np.ndarray, pool: int) -> dict[str, float]:
    """Recall at 1, 5 and 10, median rank, and the size of the pool.

    Args:
        ranks: from `retrieval_ranks` (C,).
        pool: how many were ranked.

    Returns:
        Figures by name. `chance_of_ranks` says what random scores give.
    """
    summary = {f"R@{k}": float((ranks <= k).mean()) for k in RECALL_AT}
    return summary | {"median_rank": float(np.median(ranks)), "pool": float(pool)}


def chance_of_ranks(is_right: np.ndarray) -> dict[str, float]:
    """Return what `summarize_ranks` gives for random scores, on average.

    A caption with m right answers among P clips has none of them among the first r with the
    probability of r draws, without replacement, from the P - m others. With m = 1 throughout that
    is k / P for recall at k and (P + 1) / 2 for the median rank.

    Args:
        is_right: from `right_pairs`.

    Returns:
        Recall at 1, 5 and 10, and the median rank.
    """
    num_clips, num_captions = is_right.shape
    num_above = np.arange(num_clips)
    is_within = np.zeros(num_clips)  # probability of a rank up to 1, 2, ..., P
    for num_right, count in Counter(is_right.sum(axis=0).tolist()).items():
        left = np.maximum(num_clips - num_right - num_above, 0)
        is_missed = np.cumprod(left / (num_clips - num_above))
        is_within += count / num_captions * (1 - is_missed)
    at_half = 1 + np.searchsorted(is_within, [0.5 - 1e-9, 0.5 + 1e-9])  # two ranks may share it
    recalls = {f"R@{k}": float(is_within[min(k, num_clips) - 1]) for k in RECALL_AT}
    return recalls | {"median_rank": float(at_half.mean())}
