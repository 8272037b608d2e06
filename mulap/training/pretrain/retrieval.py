"""What scores of every clip of a pool against every caption are worth: matching, retrieval.

The scores are those of `MulapForPreTraining.pairs`, by one of its heads. Retrieval ranks all clips
of the pool for each caption.

Captions that say the same in the same words are one: all their clips are right answers.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from torch import Tensor

RECALL_AT = (1, 5, 10)


def pair_accuracy(scores: Tensor, caption_keys: Sequence[str]) -> np.ndarray:
    """How often each clip's matches and mismatches are told rightly.

    Args:
        scores: log-odds of a match (P clips, P captions).
        caption_keys: what makes captions equal, one a clip. A caption equal to the clip's own is a
            match.

    Returns:
        float (P,), the mean of the share of matches scored above 0 and of mismatches scored below.
        A clip whose caption all others share has no mismatch; its matches count alone.
    """
    keys = np.asarray(caption_keys)
    is_match = keys[:, None] == keys[None]
    is_above = scores.numpy() > 0
    matches = (is_above & is_match).sum(axis=1) / is_match.sum(axis=1)
    num_mismatches = (~is_match).sum(axis=1)
    mismatches = (~is_above & ~is_match).sum(axis=1) / np.maximum(num_mismatches, 1)
    return np.where(num_mismatches > 0, (matches + mismatches) / 2, matches)


def retrieval_ranks(scores: Tensor, caption_keys: Sequence[str]) -> np.ndarray:
    """Rank the right tracks of each caption among all tracks (text to audio).

    Tracks whose captions are equal are all right answers to either; the best-ranked counts. Ties
    count half: a head that gives every pair one score lands in the middle, not on top.

    Args:
        scores: (P clips, P captions).
        caption_keys: what makes captions equal, one a clip.

    Returns:
        float (P,), 1 the best, of each caption.
    """
    values = scores.double().numpy()
    values = np.where(np.isnan(values), -np.inf, values)  # a broken model must not rank first
    keys = np.asarray(caption_keys)
    ranks = np.empty(len(keys))
    for column, key in enumerate(keys):
        is_relevant = keys == key
        best = values[is_relevant, column].max()
        others = values[~is_relevant, column]
        ranks[column] = 1 + (others > best).sum() + 0.5 * (others == best).sum()
    return ranks


def summarize_ranks(ranks: np.ndarray) -> dict[str, float]:
    """Recall at 1, 5 and 10, median rank, and the size of the pool.

    Args:
        ranks: from `retrieval_ranks` (P,).

    Returns:
        Figures by name. `chance_of_ranks` says what random scores give.
    """
    summary = {f"R@{k}": float((ranks <= k).mean()) for k in RECALL_AT}
    return summary | {"median_rank": float(np.median(ranks)), "pool": float(len(ranks))}


def chance_of_ranks(caption_keys: Sequence[str]) -> dict[str, float]:
    """Return what `summarize_ranks` gives for random scores, on average.

    A caption with m right answers among P clips has none of them among the first r with the
    probability of r draws, without replacement, from the P - m others. With m = 1 throughout that
    is k / P for recall at k and (P + 1) / 2 for the median rank.

    Args:
        caption_keys: what makes captions equal, one per clip (P,).

    Returns:
        Recall at 1, 5 and 10, and the median rank.
    """
    num_clips = len(caption_keys)
    num_above = np.arange(num_clips)
    is_within = np.zeros(num_clips)  # probability of a rank up to 1, 2, ..., P
    for num_right, num_keys in Counter(Counter(caption_keys).values()).items():
        left = np.maximum(num_clips - num_right - num_above, 0)
        is_missed = np.cumprod(left / (num_clips - num_above))
        is_within += num_keys * num_right / num_clips * (1 - is_missed)
    at_half = 1 + np.searchsorted(is_within, [0.5 - 1e-9, 0.5 + 1e-9])  # two ranks may share it
    recalls = {f"R@{k}": float(is_within[min(k, num_clips) - 1]) for k in RECALL_AT}
    return recalls | {"median_rank": float(at_half.mean())}
