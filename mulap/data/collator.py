"""Items -> one batch: words and segments are masked, captions swapped, lengths padded.

Every choice is keyed by an item's `(epoch, index)` (`mulap.objectives.masking`) and made before
padding, so that neither the batch's longest clip nor its longest caption changes it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from mulap.data.captions import caption_key, hash_caption
from mulap.data.dataset import Item, Key
from mulap.model.features import DYNAMIC_RANGE_DB
from mulap.model.modeling import IGNORED_LABEL
from mulap.objectives.masking import (
    Purpose,
    WordMasking,
    keyed_generator,
    mask_segments,
    mask_words,
    swap_captions,
)


@dataclass
class PretrainCollator:
    """Items -> one batch with masked words, masked segments and swapped captions.

    Attributes:
        tokenizer: a BERT tokenizer (transformers' types for its ids are too wide to declare).
        seed: of every choice.
        max_tokens: captions are cut to this many tokens, and padded to the batch's longest.
        mlm_probability: probability that a word is masked.
        mam_probability: probability that a segment is masked.
        mam_min_masked: fewest segments to mask, if a clip has more.
        atm_probability: probability that a caption is swapped.
        atm_negatives: `batch`, another caption of the mini-batch (the paper); `dataset`, one of
            `caption_pool` (the authors' code).
        atm_draws: pairs drawn for each clip. 1 is the paper's; more give the matching objective,
            which learns from one bit a pair, more to learn from at the price of the co-attention.
        caption_pool: all captions, for `dataset`.
        keeps_captions: also give the captions as they were before masking, for a contrastive loss.
        is_floored_together: floor all log-mels 80 dB under the batch's maximum (`db_reference`).
    """

    tokenizer: Any
    seed: int = 0
    max_tokens: int = 64
    mlm_probability: float = 0.15
    mam_probability: float = 0.15
    mam_min_masked: int = 0
    atm_probability: float = 0.5
    atm_negatives: Literal["batch", "dataset"] = "batch"
    atm_draws: int = 1
    caption_pool: Sequence[str] = ()
    keeps_captions: bool = False
    is_floored_together: bool = False
    _masking: WordMasking = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.atm_negatives == "dataset" and not self.caption_pool:
            raise ValueError("atm_negatives = dataset needs a caption_pool to draw from")
        self._masking = WordMasking(
            mask_token_id=self.tokenizer.mask_token_id,
            replacement_ids=ordinary_token_ids(self.tokenizer),
            probability=self.mlm_probability,
        )

    def __call__(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        """Make a batch of B items; see `MulapModel.forward` and `Targets` for what it holds."""
        captions, keys, caption_index, atm_labels = self._pair(items)
        # Captions from the pool stand behind the clips' own, in the clips' order.
        swapped = np.flatnonzero(caption_index >= len(items))
        owners: list[tuple[Key, Purpose]] = [
            *((item.key, "mlm") for item in items),
            *((items[int(pair) % len(items)].key, "mlm_negative") for pair in swapped),
        ]
        batch = self._audio(items) | self._text(captions, owners)
        batch["caption_index"] = torch.from_numpy(caption_index)
        batch["atm_labels"] = torch.from_numpy(atm_labels)
        batch["caption_hash"] = torch.tensor([hash_caption(key) for key in keys])
        return batch

    def _pair(self, items: Sequence[Item]) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
        """Return C captions, their keys, each pair's caption (P,) and if it is its own (P,)."""
        captions = [item.caption for item in items]
        keys = [caption_key(caption) for caption in captions]
        generators = [keyed_generator(self.seed, *item.key, "atm") for item in items]
        drawn = [
            swap_captions(keys, generators, self.atm_probability)
            if self.atm_negatives == "batch"
            else self._swap_from_pool(captions, keys, generators)
            for _ in range(self.atm_draws)
        ]
        caption_index, labels = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        return captions, keys, caption_index, labels

    def _swap_from_pool(
        self, captions: list[str], keys: list[str], generators: list[np.random.Generator]
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `swap_captions`, with captions of the pool, which are put behind the batch's own."""
        caption_index = np.arange(len(generators))
        labels = np.ones(len(generators), dtype=np.float32)
        for index, generator in enumerate(generators):
            if generator.random() >= self.atm_probability:
                continue
            other = self.caption_pool[int(generator.integers(len(self.caption_pool)))]
            key = caption_key(other)
            if key != keys[index]:
                caption_index[index] = len(captions)
                captions.append(other)
                keys.append(key)
                labels[index] = 0.0
        return caption_index, labels

    def _audio(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        log_mels = [item.input_features for item in items]
        if self.is_floored_together:
            # Each clip's own floor, which is not above this one, makes no difference.
            floor = max(log_mel.max() for log_mel in log_mels) - DYNAMIC_RANGE_DB
            log_mels = [np.maximum(log_mel, floor) for log_mel in log_mels]
        is_masked = [
            mask_segments(
                len(log_mel),
                self.mam_probability,
                self.mam_min_masked,
                keyed_generator(self.seed, *item.key, "mam"),
            )
            for log_mel, item in zip(log_mels, items, strict=True)
        ]
        is_segment = [np.ones(len(log_mel), dtype=np.int64) for log_mel in log_mels]
        batch = {
            "input_features": _pad(log_mels, 0.0),
            "audio_attention_mask": _pad(is_segment, 0),
            "is_masked_segment": _pad(is_masked, False),
        }
        own = [item.own_features for item in items if item.own_features is not None]
        return batch | ({"own_features": _pad(own, 0.0)} if own else {})

    def tokenize(self, captions: Sequence[str], **options: Any) -> Any:
        """Return what the tokenizer gives for captions, cut to `max_tokens`; nothing is masked."""
        return self.tokenizer(
            list(captions),
            truncation=True,
            max_length=self.max_tokens,
            return_token_type_ids=False,
            **options,
        )

    def _text(
        self, captions: list[str], owners: list[tuple[Key, Purpose]]
    ) -> dict[str, torch.Tensor]:
        encoded = self.tokenize(captions)
        # Words are masked before padding: the draws must not depend on the batch's longest caption.
        # Special is also what a caption spells out ("[SEP]") and what no word was found for.
        masked = [
            mask_words(
                np.array(token_ids),
                np.isin(token_ids, self.tokenizer.all_special_ids),
                self._masking,
                keyed_generator(self.seed, *key, purpose),
            )
            for token_ids, (key, purpose) in zip(encoded["input_ids"], owners, strict=True)
        ]
        attention_mask = [np.array(row, dtype=np.int64) for row in encoded["attention_mask"]]
        batch = {
            "input_ids": _pad([hidden for hidden, _ in masked], self.tokenizer.pad_token_id),
            "attention_mask": _pad(attention_mask, 0),
            "mlm_labels": _pad([labels for _, labels in masked], IGNORED_LABEL),
        }
        if self.keeps_captions:
            whole = [np.array(token_ids) for token_ids in encoded["input_ids"]]
            batch["whole_input_ids"] = _pad(whole, self.tokenizer.pad_token_id)
        return batch


def _pad(rows: Sequence[np.ndarray], value: float) -> torch.Tensor:
    """Stack rows (length, ...) to (rows, longest, ...), filled up with `value`."""
    shape = (len(rows), max(map(len, rows)), *rows[0].shape[1:])
    padded = np.full(shape, value, dtype=rows[0].dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return torch.from_numpy(padded)


def ordinary_token_ids(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return the ids, sorted, that may replace a word: neither special nor `[unused...]`."""
    special = set(tokenizer.all_special_ids)
    return np.array(
        sorted(
            token_id
            for token, token_id in tokenizer.get_vocab().items()
            if token_id not in special and not token.startswith("[unused")
        )
    )
