"""Clips -> batches: what is read, cut, hidden and swapped, by `(epoch, index)`.

    KeyedSampler -> (epoch, index) -> ClipDataset -> Item -> PretrainCollator -> model inputs

The epoch travels with the index, so an item is a pure function of its key: workers, processes and
interruptions change nothing. A clip that cannot be decoded is found by `ClipDataset.verify` before
training and left out; one that goes bad later stops the run with its name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import PreTrainedTokenizerBase

from mulap.audio import AudioError, load_audio, probe_audio
from mulap.data.captions import caption_key
from mulap.data.manifest import Clip
from mulap.model.features import MulapFeatureExtractor
from mulap.model.modeling import IGNORED_LABEL
from mulap.objectives.masking import (
    Purpose,
    WordMasking,
    keyed_generator,
    mask_segments,
    mask_words,
    swap_captions,
)

Key = tuple[int, int]


@dataclass(frozen=True)
class ClipReader:
    """Reads the log-mel segments of a clip.

    Attributes:
        extractor: waveform -> log-mel.
        crop_seconds: how much of a track is used; whole segments of it (20 s give 6 of 3 s).
        crop: `start`, the first seconds (the paper), or `random`, another place each epoch.
        seed: of random crops.
    """

    extractor: MulapFeatureExtractor
    crop_seconds: float = 20.0
    crop: Literal["start", "random"] = "start"
    seed: int = 0

    @property
    def num_segments(self) -> int:
        """Segments of a clip that is long enough."""
        length = round(self.crop_seconds * self.extractor.sampling_rate)
        length += 2 * self.extractor.pad_samples
        num_strides = (length - self.extractor.segment_samples) // self.extractor.stride_samples
        return max(1, 1 + num_strides)

    def read(self, clip: Clip, key: Key) -> np.ndarray:
        """Decode what is needed of a clip.

        Args:
            clip: which.
            key: (epoch, index), which fixes a random crop.

        Returns:
            float32 (T, F, N), T <= num_segments.

        Raises:
            AudioError: the file cannot be decoded.
        """
        start_seconds = 0.0
        if self.crop == "random":
            slack_seconds = probe_audio(clip.audio_path).duration_seconds - self.crop_seconds
            draw = keyed_generator(self.seed, *key, "crop").random()
            start_seconds = max(0.0, slack_seconds) * draw
        rate = self.extractor.sampling_rate
        waveform = load_audio(clip.audio_path, start_seconds, self.crop_seconds, rate)
        segments = self.extractor.segment(waveform)[: self.num_segments]
        return self.extractor.log_mel(segments)


@dataclass(frozen=True)
class Item:
    """One clip with one of its captions.

    Attributes:
        key: (epoch, index).
        input_features: log-mel segments (T, F, N).
        caption: as written.
    """

    key: Key
    input_features: np.ndarray
    caption: str


class ClipDataset(Dataset[Item]):
    """Clips by key.

    Args:
        clips: rows of a manifest.
        reader: how they are read.
        seed: of the choice between several captions of one clip.
    """

    def __init__(self, clips: Sequence[Clip], reader: ClipReader, seed: int = 0) -> None:
        self.clips = list(clips)
        self.reader = reader
        self.seed = seed
        self._features: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, key: Key | int) -> Item:
        """Return the item of `(epoch, index)`; a bare index means epoch 0."""
        epoch, index = key if isinstance(key, tuple) else (0, key)
        clip = self.clips[index]
        caption_index = 0
        if len(clip.captions) > 1:
            generator = keyed_generator(self.seed, epoch, index, "caption")
            caption_index = int(generator.integers(len(clip.captions)))
        if self._features is None:
            features = self.reader.read(clip, (epoch, index))
        else:
            features = self._features[index]
        return Item((epoch, index), features, clip.captions[caption_index])

    def verify(self, num_workers: int = 0, keep: bool = False) -> list[tuple[Clip, str]]:
        """Decode every clip once and leave out those that cannot be.

        Args:
            num_workers: processes that decode; 0 decodes in this one.
            keep: hold the log-mels in memory from here on (72 KB a segment), so that no epoch
                decodes anything. Only crops from the start stay the same and can be kept.

        Returns:
            The clips left out, each with its reason.

        Raises:
            ValueError: `keep` with random crops.
        """
        if keep and self.reader.crop != "start":
            raise ValueError(
                "data.cache_features keeps one crop of each clip: set data.crop to start, or "
                "data.cache_features to false"
            )
        kept: list[Clip] = []
        features: list[np.ndarray] = []
        failures: list[tuple[Clip, str]] = []
        checked = DataLoader(
            _Checked(self.clips, self.reader, keep),
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=num_workers,
            multiprocessing_context="fork" if num_workers else None,
        )
        for clip, (log_mel, reason) in zip(self.clips, checked, strict=True):
            if reason:
                failures.append((clip, reason))
                continue
            kept.append(clip)
            if keep:
                features.append(log_mel)
        self.clips = kept
        self._features = features if keep else None
        return failures


def _as_it_is(checked: tuple[np.ndarray, str]) -> tuple[np.ndarray, str]:
    """Keep the loader from turning arrays into tensors."""
    return checked


class _Checked(Dataset[tuple[np.ndarray, str]]):
    """Log-mels, or the reason why there is none, by clip."""

    def __init__(self, clips: Sequence[Clip], reader: ClipReader, keep: bool) -> None:
        self.clips = clips
        self.reader = reader
        self.keep = keep

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[np.ndarray, str]:
        nothing = np.empty(0, dtype=np.float32)
        try:
            log_mel = self.reader.read(self.clips[index], (0, index))
        except AudioError as error:
            return nothing, str(error)
        return (log_mel if self.keep else nothing), ""


class KeyedSampler(Sampler[Key]):
    """All indices of an epoch in an order that `(seed, epoch)` fixes, as `(epoch, index)`.

    Args:
        num_items: of the data set.
        seed: of the order.

    Attributes:
        epoch: to be set before each epoch.
    """

    def __init__(self, num_items: int, seed: int) -> None:
        self.num_items = num_items
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch comes next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.num_items

    def __iter__(self) -> Iterator[Key]:
        order = keyed_generator(self.seed, self.epoch, 0, "order").permutation(self.num_items)
        return iter([(self.epoch, int(index)) for index in order])


@dataclass
class PretrainCollator:
    """Items -> one batch with hidden words, hidden segments and swapped captions.

    Attributes:
        tokenizer: a BERT tokenizer.
        seed: of every choice.
        max_tokens: captions are cut to this many tokens, and padded to the batch's longest.
        mlm_probability: that a word is hidden.
        mam_probability: that a segment is hidden.
        mam_min_masked: segments hidden at least, where a clip has more.
        atm_probability: that a caption is swapped.
        atm_negatives: `batch`, another caption of the mini-batch (the paper); `dataset`, one of
            `caption_pool` (the authors' code).
        caption_pool: all captions, for `dataset`.
    """

    tokenizer: PreTrainedTokenizerBase
    seed: int = 0
    max_tokens: int = 64
    mlm_probability: float = 0.15
    mam_probability: float = 0.15
    mam_min_masked: int = 0
    atm_probability: float = 0.5
    atm_negatives: Literal["batch", "dataset"] = "batch"
    caption_pool: Sequence[str] = ()
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
        captions, caption_index, atm_labels = self._pair(items)
        keys = np.array([caption_key(caption) for caption in captions])
        # Captions from the pool stand behind the clips' own, in the clips' order.
        owners: list[tuple[Key, Purpose]] = [(item.key, "mlm") for item in items]
        swapped = np.flatnonzero(caption_index >= len(items))
        owners += [(items[row].key, "mlm_negative") for row in swapped]
        batch = self._audio(items) | self._text(captions, owners)
        batch["caption_index"] = torch.from_numpy(caption_index)
        batch["atm_labels"] = torch.from_numpy(atm_labels)
        batch["is_same_caption"] = torch.from_numpy(keys[: len(items), None] == keys[None])
        return batch

    def _pair(self, items: Sequence[Item]) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Return C captions, each clip's caption among them (B,) and whether it is its own (B,)."""
        captions = [item.caption for item in items]
        keys = [caption_key(caption) for caption in captions]
        generators = [keyed_generator(self.seed, *item.key, "atm") for item in items]
        if self.atm_negatives == "batch":
            return captions, *swap_captions(keys, generators, self.atm_probability)
        caption_index = np.arange(len(items))
        labels = np.ones(len(items), dtype=np.float32)
        for index, generator in enumerate(generators):
            if generator.random() >= self.atm_probability:
                continue
            other = self.caption_pool[int(generator.integers(len(self.caption_pool)))]
            if caption_key(other) != keys[index]:
                caption_index[index] = len(captions)
                captions.append(other)
                labels[index] = 0.0
        return captions, caption_index, labels

    def _audio(self, items: Sequence[Item]) -> dict[str, torch.Tensor]:
        log_mels = [item.input_features for item in items]
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
        return {
            "input_features": _pad(log_mels, 0.0),
            "audio_attention_mask": _pad(is_segment, 0),
            "is_masked_segment": _pad(is_masked, False),
        }

    def _text(
        self, captions: list[str], owners: list[tuple[Key, Purpose]]
    ) -> dict[str, torch.Tensor]:
        encoded = self.tokenizer(
            captions,
            truncation=True,
            max_length=self.max_tokens,
            return_special_tokens_mask=True,
            return_token_type_ids=False,
        )
        # Words are hidden before padding: the draws must not depend on the batch's longest caption.
        masked = [
            mask_words(
                np.array(token_ids),
                np.array(is_special, dtype=bool),
                self._masking,
                keyed_generator(self.seed, *key, purpose),
            )
            for token_ids, is_special, (key, purpose) in zip(
                encoded["input_ids"], encoded["special_tokens_mask"], owners, strict=True
            )
        ]
        attention_mask = [np.array(row, dtype=np.int64) for row in encoded["attention_mask"]]
        return {
            "input_ids": _pad([hidden for hidden, _ in masked], int(self.tokenizer.pad_token_id)),
            "attention_mask": _pad(attention_mask, 0),
            "mlm_labels": _pad([labels for _, labels in masked], IGNORED_LABEL),
        }


def _pad(rows: Sequence[np.ndarray], value: float) -> torch.Tensor:
    """Stack rows (length, ...) to (rows, longest, ...), filled up with `value`."""
    shape = (len(rows), max(map(len, rows)), *rows[0].shape[1:])
    padded = np.full(shape, value, dtype=rows[0].dtype)
    for row, values in enumerate(rows):
        padded[row, : len(values)] = values
    return torch.from_numpy(padded)


def ordinary_token_ids(tokenizer: PreTrainedTokenizerBase) -> np.ndarray:
    """Return the ids that a random replacement may be: neither special nor `[unused...]`, sorted.

    Args:
        tokenizer: any tokenizer with a vocabulary.
    """
    special = set(tokenizer.all_special_ids)
    return np.array(
        sorted(
            token_id
            for token, token_id in tokenizer.get_vocab().items()
            if token_id not in special and not token.startswith("[unused")
        )
    )
