"""Which words and segments are hidden, and which captions are swapped.

Every choice is a pure function of `(seed, epoch, index)`: it depends neither on how many workers
load the data nor on where a run was interrupted, and with a fixed epoch validation is the same each
time. Nothing here knows tensors, files or the model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from mulap.model.modeling import IGNORED_LABEL

Purpose = Literal["crop", "caption", "mlm", "mlm_negative", "mam", "atm", "order", "gain"]
_PURPOSES: tuple[str, ...] = get_args(Purpose)


def keyed_generator(seed: int, epoch: int, index: int, purpose: Purpose) -> np.random.Generator:
    """Make the random generator of one choice for one item in one epoch.

    Args:
        seed: of the run, 0 or above.
        epoch: 0 or above.
        index: of the item in its data set.
        purpose: what is chosen, so that two choices for one item are independent.
    """
    return np.random.default_rng([seed, epoch, index, _PURPOSES.index(purpose)])


@dataclass(frozen=True)
class WordMasking:
    """How words are hidden (BERT's recipe, which the paper takes over).

    Attributes:
        mask_token_id: the id of [MASK].
        replacement_ids: the words that a random replacement may be: no special and no unused token.
        probability: that a word is chosen.
        mask_share: of the chosen, how many become [MASK].
        random_share: of the chosen, how many become a random word; the rest stay as they are.
    """

    mask_token_id: int
    replacement_ids: np.ndarray
    probability: float = 0.15
    mask_share: float = 0.8
    random_share: float = 0.1


def mask_words(
    token_ids: np.ndarray,
    is_special: np.ndarray,
    masking: WordMasking,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Hide some words of a caption.

    Args:
        token_ids: (L,).
        is_special: bool (L,), True at [CLS], [SEP], padding: never chosen.
        masking: how.
        generator: from `keyed_generator`.

    Returns:
        The ids with some words hidden (L,), and the labels (L,): the true id at the chosen words,
        -100 elsewhere. No word may be chosen.
    """
    draws = generator.random((2, len(token_ids)))
    is_chosen = (draws[0] < masking.probability) & ~is_special
    labels = np.where(is_chosen, token_ids, IGNORED_LABEL)
    becomes_mask = is_chosen & (draws[1] < masking.mask_share)
    becomes_random = is_chosen & ~becomes_mask
    becomes_random &= draws[1] < masking.mask_share + masking.random_share
    random_words = generator.choice(masking.replacement_ids, size=len(token_ids))
    hidden = np.where(becomes_mask, masking.mask_token_id, token_ids)
    return np.where(becomes_random, random_words, hidden), labels


def mask_segments(
    num_segments: int, probability: float, min_masked: int, generator: np.random.Generator
) -> np.ndarray:
    """Choose which of a clip's segments are hidden.

    At least one segment always stays, since the global token is the mean of those that do; a clip
    of one segment is never masked.

    Args:
        num_segments: of the clip.
        probability: that a segment is chosen.
        min_masked: chosen at least, where the clip has more segments than that. 0 is ViLBERT's
            way, by which a clip of 6 segments has none hidden in 38 % of all draws.
        generator: from `keyed_generator`.

    Returns:
        bool (num_segments,), True where a segment is hidden.
    """
    draws = generator.random(num_segments)
    num_chosen = int((draws < probability).sum())
    num_masked = min(max(num_chosen, min_masked), num_segments - 1)
    is_masked = np.zeros(num_segments, dtype=bool)
    is_masked[np.argsort(draws, kind="stable")[: max(num_masked, 0)]] = True
    return is_masked


def swap_captions(
    caption_keys: Sequence[str],
    generators: Sequence[np.random.Generator],
    probability: float = 0.5,
) -> tuple[np.ndarray, np.ndarray]:
    """Replace some clips' captions by another one of the mini-batch (paper, section 2.2).

    A caption equal to the clip's own is never taken: it would be a match labelled as none. Where
    all captions of the batch are equal, nothing is swapped.

    Args:
        caption_keys: what makes captions equal, one a clip (`mulap.data.captions.caption_key`).
        generators: one a clip, from `keyed_generator`.
        probability: that a clip's caption is swapped.

    Returns:
        `caption_index` (B,), the caption that each clip gets, and `atm_labels` (B,), 1 where it is
        the clip's own (equation 4's y) and 0 where it is not.
    """
    keys = np.asarray(caption_keys)
    caption_index = np.arange(len(keys))
    labels = np.ones(len(keys), dtype=np.float32)
    for index, generator in enumerate(generators):
        others = np.flatnonzero(keys != keys[index])
        if len(others) and generator.random() < probability:
            caption_index[index] = generator.choice(others)
            labels[index] = 0.0
    return caption_index, labels
