"""What a supervised training hears of a task's tracks: random crops, and all segments.

    train        |......[==]..........|   one crop a track an epoch, anywhere in the file
    valid, test  |[==][==][==][==][==]|   the segments of `MulapFeatureExtractor`, none overlapping

A crop is a pure function of (seed, epoch, index). Scope: `mulap.data.reader` decodes, and knows how
long each track is.
"""

import numpy as np
import torch
from torch.utils.data import Dataset

from mulap.data.dataset import Key
from mulap.data.reader import Tracks, count_segments, read_part
from mulap.model.features import MulapFeatureExtractor
from mulap.objectives.masking import keyed_generator


def crop_samples(extractor: MulapFeatureExtractor) -> int:
    """Return how many samples of a file become one segment, less what is padded around a clip."""
    return extractor.segment_samples - 2 * extractor.pad_samples


def choose_start(num_samples: int, length: int, generator: np.random.Generator) -> int:
    """Choose where a crop of `length` samples starts: anywhere it fits, or 0 in a shorter file."""
    return int(generator.integers(max(0, num_samples - length) + 1))


class CropDataset(Dataset[dict[str, torch.Tensor]]):
    """Random crops of labelled tracks by `(epoch, index)`; of kept log-mels, random segments.

    Args:
        audio: of all tracks.
        tracks: int (n_train,), positions in `audio` of those to learn from.
        targets: (n_train, C), or (n_train,) of a class.
        seed: of the crops.
    """

    def __init__(self, audio: Tracks, tracks: np.ndarray, targets: torch.Tensor, seed: int) -> None:
        self.audio = audio
        self.tracks = tracks
        self.targets = targets
        self.seed = seed

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, key: Key) -> dict[str, torch.Tensor]:
        """Return `input_features` (F, N) and `targets` (C,) of `(epoch, index)`."""
        epoch, index = key
        generator = keyed_generator(self.seed, epoch, index, "crop")
        crop = self._read(int(self.tracks[index]), generator)
        return {"input_features": torch.from_numpy(crop), "targets": self.targets[index]}

    def _read(self, track: int, generator: np.random.Generator) -> np.ndarray:
        audio = self.audio
        if audio.log_mels is not None:
            segments = audio.log_mels[track]
            return segments[int(generator.integers(len(segments)))]
        rate, length = audio.extractor.sampling_rate, crop_samples(audio.extractor)
        start = choose_start(int(audio.num_samples[track]), length, generator)
        return read_part(audio.extractor, audio.paths[track], start / rate, length / rate)[0]


class SegmentDataset(Dataset[np.ndarray]):
    """All segments of some tracks, a track an item.

    Args:
        audio: of all tracks.
        tracks: int (n,), positions in `audio`.
        num_segments: most of a track, from its middle; 0 for all.
    """

    def __init__(self, audio: Tracks, tracks: np.ndarray, num_segments: int = 0) -> None:
        self.audio = audio
        self.tracks = tracks
        self.num_segments = num_segments

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return float32 (T, F, N)."""
        audio, track, wanted = self.audio, int(self.tracks[index]), self.num_segments
        total = count_segments(audio.extractor, int(audio.num_samples[track]))
        first = (total - wanted) // 2 if 0 < wanted < total else 0
        if audio.log_mels is not None:
            return audio.log_mels[track][first:][: wanted or None]
        stride, rate = audio.extractor.stride_samples, audio.extractor.sampling_rate
        seconds = wanted * stride / rate if wanted else None
        return read_part(audio.extractor, audio.paths[track], first * stride / rate, seconds)
