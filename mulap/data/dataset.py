"""Clips -> items by `(epoch, index)`: what is read of a track, and which of its captions.

    KeyedSampler -> (epoch, index) -> ClipDataset -> Item -> `collator`

The epoch travels with the index, so an item is a pure function of its key: workers, processes and
interruptions change nothing. A clip that cannot be decoded is found by `ClipDataset.verify` before
training and left out; one that goes bad later stops the run with its name. Clips that
`mulap prepare` stored give the same items and are not decoded; theirs were left out by it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from mulap.audio import AudioError, load_audio, probe_audio
from mulap.data.clips import Clip
from mulap.data.prepared import PreparedData
from mulap.data.recipe import PREPARE_OPTIONS, audio_settings
from mulap.model.features import MulapFeatureExtractor
from mulap.objectives.masking import keyed_generator

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
        """Decode what is needed of a clip, or read what was stored of it.

        Args:
            clip: which.
            key: (epoch, index), which fixes a random crop.

        Returns:
            float32 (T, F, N), T <= num_segments.

        Raises:
            AudioError: the file cannot be decoded.
            ValueError: what was stored is damaged.
        """
        if clip.stored and clip.stored.data.recipe.store == "log-mel":
            return clip.stored.log_mels(self.num_segments)
        start_seconds = 0.0
        if self.crop == "random":
            known = clip.stored or probe_audio(clip.audio_path)
            slack_seconds = known.duration_seconds - self.crop_seconds
            draw = keyed_generator(self.seed, *key, "crop").random()
            start_seconds = max(0.0, slack_seconds) * draw
        if clip.stored:
            waveform = clip.stored.waveform(start_seconds, self.crop_seconds)
        else:
            rate = self.extractor.sampling_rate
            waveform = load_audio(clip.audio_path, start_seconds, self.crop_seconds, rate)
        segments = self.extractor.segment(waveform)[: self.num_segments]
        return self.extractor.log_mel(segments)

    def check_prepared(self, data: PreparedData) -> None:
        """Stop where prepared data would not give what this reader gives from the files.

        Raises:
            ValueError: they were prepared for other settings; the line says how to do it again.
        """
        recipe = data.recipe
        wanted = audio_settings(self.extractor, recipe.store)
        for name, value in recipe.audio.items():
            if wanted[name] != value:
                option = f"prepare it again with --{name.replace('_', '-')} {wanted[name]}"
                remedy = option if name in PREPARE_OPTIONS else "train it on the audio itself"
                raise ValueError(
                    f"{data.folder}: was prepared with {name} {value}, the model wants "
                    f"{wanted[name]}; {remedy}"
                )
        if self.crop == "random" and (recipe.store != "pcm" or recipe.seconds):
            raise ValueError(
                f"{data.folder}: holds {_describe(recipe.store, recipe.seconds)}, and "
                "data.crop=random needs whole tracks; prepare it again with --store pcm, or set "
                "data.crop=start"
            )
        if recipe.seconds not in (None, self.crop_seconds) and recipe.seconds < self.crop_seconds:
            raise ValueError(
                f"{data.folder}: holds {_describe(recipe.store, recipe.seconds)}, but "
                f"data.crop_seconds is {self.crop_seconds:g}; prepare it again with --seconds "
                f"{self.crop_seconds:g}"
            )
        if recipe.store == "log-mel" and not self._is_part_of(recipe.seconds):
            raise ValueError(
                f"{data.folder}: its log-mels of longer crops do not begin with those of "
                f"{self.crop_seconds:g} s; prepare it again with --seconds {self.crop_seconds:g}"
            )

    def _is_part_of(self, seconds: float | None) -> bool:
        """Whether this crop's log-mels are the first of those of a longer crop (None: of all).

        They are where no segment reaches into the zeros, or the repetitions, that come after the
        crop, and where a segment's floor does not depend on its neighbours.
        """
        if seconds == self.crop_seconds:
            return True
        extractor = self.extractor
        end = (self.num_segments - 1) * extractor.stride_samples + extractor.segment_samples
        crop_samples = round(self.crop_seconds * extractor.sampling_rate)
        is_inside = end - extractor.pad_samples <= crop_samples
        return is_inside and not (extractor.variant == "port" and extractor.db_reference == "batch")


def _describe(store: str, seconds: float | None) -> str:
    what = "log-mels" if store == "log-mel" else "samples"
    return f"{what} of " + (f"the first {seconds:g} s of each track" if seconds else "whole tracks")


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

    Raises:
        ValueError: the clips were prepared for other settings than the reader's.
    """

    def __init__(self, clips: Sequence[Clip], reader: ClipReader, seed: int = 0) -> None:
        if clips and clips[0].stored:  # all or none of a manifest's clips are
            reader.check_prepared(clips[0].stored.data)
        self.clips = clips
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

        Prepared clips were decoded before: they are neither read nor kept in memory.

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
        if self.clips and self.clips[0].stored:
            return []
        kept: list[Clip] = []
        features: list[np.ndarray] = []
        failures: list[tuple[Clip, str]] = []
        checked = DataLoader(
            _Checked(self.clips, self.reader, keep),
            batch_size=None,
            collate_fn=as_it_is,
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


def as_it_is(checked: Any) -> Any:
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
        epoch = self.epoch  # later keys are of it too, whatever is set meanwhile
        order = keyed_generator(self.seed, epoch, 0, "order").permutation(self.num_items)
        return ((epoch, int(index)) for index in order)
