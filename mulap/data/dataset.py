"""Clips -> items by `(epoch, index)`: which part of a track is read, and which of its captions.

    KeyedSampler -> (epoch, index) -> ClipDataset -> Item -> `collator`

The epoch travels with the index, so an item is a pure function of its key: workers, processes and
interruptions change nothing. A clip that cannot be decoded is found by `ClipDataset.verify` before
training and left out; one that goes bad later stops the run with its name. Clips that
`mulap prepare` stored give the same items and are not decoded; `prepare` has already left out the
clips that it could not decode.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from torch.utils.data import Dataset, Sampler

from mulap.audio import AudioError
from mulap.data.clips import Clip, Stored
from mulap.data.prepared.recipe import PREPARE_OPTIONS, audio_settings
from mulap.data.reader import Decoding, Tracks, decode_file, read_part, read_tracks
from mulap.files import AnyPath
from mulap.model.features import MulapFeatureExtractor
from mulap.objectives.masking import keyed_generator

Key = tuple[int, int]


@dataclass(frozen=True)
class ClipReader:
    """Reads the log-mel segments of a clip."""

    extractor: MulapFeatureExtractor  # waveform -> log-mel
    # how much of a track is used; whole segments of it (20 s give 6 of 3 s)
    crop_seconds: float = 20.0
    # `start`, the first seconds (the paper), or `random`, another place each epoch
    crop: Literal["start", "random"] = "start"
    seed: int = 0  # of random crops and gains
    # most that a clip is made louder or softer, in dB; by how much is drawn each epoch
    gain_db: float = 0.0

    @property
    def num_segments(self) -> int:
        """Segments of a clip that is long enough."""
        length = round(self.crop_seconds * self.extractor.sampling_rate)
        length += 2 * self.extractor.pad_samples
        num_strides = (length - self.extractor.segment_samples) // self.extractor.stride_samples
        return max(1, 1 + num_strides)

    def read(self, clip: Clip, key: Key, duration_seconds: float = 0.0) -> np.ndarray:
        """Decode what is needed of a clip, or read what was stored: float32 (T, F, N).

        The key, (epoch, index), fixes a random crop, which also needs the length of a file. T is at
        most `num_segments`. AudioError if the file cannot be decoded, ValueError if stored data are
        damaged.
        """
        stored, seconds = clip.stored, self.crop_seconds
        if stored is None:
            start_seconds = self._start(duration_seconds, key)
            return read_part(self.extractor, clip.audio_path, start_seconds, seconds)
        if stored.recipe.store == "log-mel":
            return stored.log_mels(self.choose_segments(stored.num_segments, key))
        is_random = self.crop == "random"
        start_seconds = self._start(stored.duration_seconds, key) if is_random else 0.0
        segments = self.extractor.segment(stored.waveform(start_seconds, seconds))
        return self.extractor.log_mel(segments)

    def _start(self, duration_seconds: float, key: Key) -> float:
        """Return where a crop starts, in seconds."""
        if self.crop == "start":
            return 0.0
        draw = keyed_generator(self.seed, *key, "crop").random()
        return max(0.0, duration_seconds - self.crop_seconds) * draw

    def choose_segments(self, count: int, key: Key) -> slice:
        """Return which of a track's segments make a crop: whole ones, in a row."""
        first = 0
        if self.crop == "random":
            draw = keyed_generator(self.seed, *key, "crop").random()
            first = int(draw * (max(0, count - self.num_segments) + 1))
        return slice(first, first + self.num_segments)

    def amplify(self, log_mels: np.ndarray, key: Key) -> np.ndarray:
        """Return a clip's log-mels (T, F, N) as if it had been played at another level."""
        if not self.gain_db:
            return log_mels
        draw = keyed_generator(self.seed, *key, "gain").uniform(-self.gain_db, self.gain_db)
        return self.extractor.amplify(log_mels, draw)

    def check_prepared(self, stored: Stored) -> None:
        """Raise ValueError where prepared data would not give what this reader gives from files."""
        recipe, folder = stored.recipe, stored.folder
        wanted = audio_settings(self.extractor, recipe.store)
        for name, value in recipe.audio.items():
            if wanted[name] != value:
                option = f"Prepare it again with --{name.replace('_', '-')} {wanted[name]}."
                remedy = option if name in PREPARE_OPTIONS else "Train on the audio files instead."
                raise ValueError(
                    f"{folder}: was prepared with {name} {value}, the model needs "
                    f"{wanted[name]}. {remedy}"
                )
        if self.crop == "random" and recipe.seconds:
            raise ValueError(
                f"{folder}: holds {_describe(recipe.store, recipe.seconds)}, and "
                "data.crop=random needs whole tracks. Prepare it again with --seconds all, or set "
                "data.crop=start."
            )
        if recipe.seconds not in (None, self.crop_seconds) and recipe.seconds < self.crop_seconds:
            raise ValueError(
                f"{folder}: holds {_describe(recipe.store, recipe.seconds)}, but "
                f"data.crop_seconds is {self.crop_seconds:g}. Prepare it again with --seconds "
                f"{self.crop_seconds:g}."
            )
        if recipe.store != "log-mel":
            return
        if self.crop == "random":
            self.check_random_segments(f"{folder}: log-mels")
        elif not self._is_part_of(recipe.seconds):
            raise ValueError(
                f"{folder}: its log-mels of longer crops do not begin with those of "
                f"{self.crop_seconds:g} s. Prepare it again with --seconds {self.crop_seconds:g}."
            )

    def check_random_segments(self, what: str) -> None:
        """Raise ValueError where log-mels cannot be cropped: a floor depends on its neighbours."""
        if self._floors_together:
            raise ValueError(
                f"{what}: data.crop=random cannot use log-mels of whole tracks with "
                "model.db_reference=batch. Set data.crop to start, or db_reference to segment."
            )

    @property
    def _floors_together(self) -> bool:
        """Whether a segment's floor depends on its neighbours."""
        return self.extractor.variant == "port" and self.extractor.db_reference == "batch"

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
        return end - extractor.pad_samples <= crop_samples and not self._floors_together


def _describe(store: str, seconds: float | None) -> str:
    what = "log-mels" if store == "log-mel" else "samples"
    return f"{what} of " + (f"the first {seconds:g} s of each track" if seconds else "whole tracks")


class Features(NamedTuple):
    """A backbone's features of all clips.

    Attributes:
        rows: indexed by row numbers (T,) it gives float32 (T, A).
        starts: number of each clip's first row (clips,).
        counts: how many rows each has (clips,).
    """

    rows: Any
    starts: np.ndarray
    counts: np.ndarray

    def of(self, index: int, chosen: slice = slice(None)) -> np.ndarray:
        """Return some segments of a clip, float32 (T, A)."""
        return np.asarray(self.rows[self.starts[index] + np.arange(self.counts[index])[chosen]])


@dataclass(frozen=True)
class Item:
    """One clip with one of its captions."""

    key: Key  # (epoch, index)
    input_features: np.ndarray  # log-mel segments (T, F, N), or a backbone's features (T, A)
    caption: str  # as written
    # the features at the level of the file, where `input_features` may be of another (T, A)
    own_features: np.ndarray | None = None


class ClipDataset(Dataset[Item]):
    """Clips of a manifest by key; the seed chooses between several captions of one clip.

    ValueError if the clips were prepared for other settings than the reader's.
    """

    def __init__(self, clips: Sequence[Clip], reader: ClipReader, seed: int = 0) -> None:
        if clips and clips[0].stored:  # all or none of a manifest's clips are
            reader.check_prepared(clips[0].stored)
        self.clips = clips
        self.reader = reader
        self.seed = seed
        self._tracks: Tracks | None = None
        self._places: list[int] = []  # of the clips, in `_tracks`
        self._features: Features | None = None
        self._amplified: Sequence[Features] = ()

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
        key, caption = (epoch, index), clip.captions[caption_index]
        if self._features is None:
            log_mels = self.reader.amplify(self._read(index, key), key)
            return Item(key, log_mels, caption)
        chosen = self.reader.choose_segments(int(self._features.counts[index]), key)
        own = features = self._features.of(index, chosen)
        if self._amplified and keyed_generator(self.seed, *key, "gain").random() < 0.5:
            [features] = [each.of(index, chosen) for each in self._amplified if each.counts[index]]
        return Item(key, features, caption, own if self._amplified else None)

    def _read(self, index: int, key: Key) -> np.ndarray:
        reader, clip, seconds = self.reader, self.clips[index], 0.0
        if self._tracks is not None:
            place = self._places[index]
            if self._tracks.log_mels is not None:
                log_mels = self._tracks.log_mels[place]
                return log_mels[reader.choose_segments(len(log_mels), key)]
            seconds = float(self._tracks.duration_seconds[place])
        elif reader.crop == "random" and not clip.stored:  # nobody called `verify`
            decoding = Decoding(reader.extractor.sampling_rate)
            seconds = decode_file(decoding, clip.audio_path).duration_seconds
        return reader.read(clip, key, seconds)

    @property
    def gives_features(self) -> bool:
        """Whether items hold a backbone's features in place of log-mels."""
        return self._features is not None

    def features_of(self, index: int) -> np.ndarray:
        """Return a backbone's features of a whole clip, float32 (T, A); see `use_features`."""
        assert self._features is not None
        return self._features.of(index)

    def use_features(self, features: Features, amplified: Sequence[Features] = ()) -> None:
        """Give a backbone's features from here on; clips that have none are left out.

        Args:
            features: of all clips, at the level of their files.
            amplified: at other levels; each clip has rows in one of them, which take the place of
                the others half of the time, by the key.
        """
        used = np.flatnonzero(features.counts)
        if len(used) < len(self.clips):
            self.clips = [self.clips[place] for place in used.tolist()]
        kept = [
            Features(each.rows, each.starts[used], each.counts[used])
            for each in (features, *amplified)
        ]
        self._features, self._amplified = kept[0], kept[1:]

    def verify(
        self, num_workers: int = 0, keep: bool = False, lengths: AnyPath | None = None
    ) -> list[tuple[Clip, str]]:
        """Decode every clip once and leave out those that cannot be.

        Crops from the start are decoded; for random ones all of each track is, since headers may
        claim more than there is. Prepared clips were decoded before: they are neither read nor
        kept in memory.

        Args:
            num_workers: processes that decode; 0 decodes in this one.
            keep: hold the log-mels in memory from here on (72 KB a segment), so that no epoch
                decodes anything. A random crop is then whole segments of its track, in a row.
            lengths: where the lengths of tracks are written down, see `read_tracks`.

        Returns:
            The clips left out, each with its reason.

        Raises:
            ValueError: `keep` with random crops, where a log-mel depends on its neighbours.
        """
        if self.clips and self.clips[0].stored:
            return []
        reader = self.reader
        is_random = reader.crop == "random"
        if keep and is_random:
            reader.check_random_segments("data.cache_features")
        paths = [clip.audio_path for clip in self.clips]
        self._tracks = tracks = read_tracks(
            reader.extractor,
            paths,
            keep,
            num_workers,
            lengths if is_random else None,
            None if is_random else reader.crop_seconds,
        )
        failures = [
            (self.clips[index], str(AudioError(paths[index], reason)))
            for index, reason in tracks.failures
        ]
        self._places = np.flatnonzero(tracks.num_samples).tolist()
        self.clips = [self.clips[place] for place in self._places]
        return failures


def as_it_is(checked: Any) -> Any:
    """Keep the loader from turning arrays into tensors."""
    return checked


class KeyedSampler(Sampler[Key]):
    """All indices of an epoch in an order that `(seed, epoch)` fixes, as `(epoch, index)`."""

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
        epoch = self.epoch  # later keys belong to it too, even if it is set meanwhile
        order = keyed_generator(self.seed, epoch, 0, "order").permutation(self.num_items)
        return ((epoch, int(index)) for index in order)
