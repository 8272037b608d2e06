"""The audio of a task's tracks as a supervised training hears it: random crops, and all segments.

    train        |......[==]..........|   one crop a track an epoch, anywhere in the file
    valid, test  |[==][==][==][==][==]|   the segments of `MulapFeatureExtractor`, none overlapping

Every file is decoded once before training: that finds those that cannot be, and how long each
really is, which headers of damaged files get wrong, so that no crop passes an end. The lengths are
written down, so that a run that goes on decodes only what is new. A crop is a pure function of
(seed, epoch, index). Which tracks are of which split, and labels, it does not know.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from mulap.audio import AudioError, load_audio, probe_audio, stream_audio
from mulap.data.dataset import Key, as_it_is
from mulap.files import atomic_path
from mulap.model.features import MulapFeatureExtractor
from mulap.objectives.masking import keyed_generator

# Far beyond any recording; the power of louder samples would not fit float32.
_LOUDEST_SAMPLE = 1e12
_SAVE_EVERY_TRACKS = 1000  # what a kill may cost, of a pass that takes hours for a large task


@dataclass(frozen=True)
class TrackAudio:
    """The tracks that can be decoded.

    Attributes:
        extractor: waveform -> log-mel.
        paths: of all n tracks.
        num_samples: int64 (n,), at the extractor's rate; 0 for a track that is left out.
        log_mels: of all segments of each track, (T, F, N), if they are kept; else None.
    """

    extractor: MulapFeatureExtractor
    paths: Sequence[Path]
    num_samples: np.ndarray
    log_mels: Sequence[np.ndarray] | None = None

    def read_crop(self, index: int, generator: np.random.Generator) -> np.ndarray:
        """Read one random crop; of kept log-mels, one random segment.

        Args:
            index: of the track.
            generator: of the place.

        Returns:
            float32 (F, N).

        Raises:
            AudioError: the file cannot be decoded any more.
        """
        if self.log_mels is not None:
            segments = self.log_mels[index]
            return segments[int(generator.integers(len(segments)))]
        rate, length = self.extractor.sampling_rate, crop_samples(self.extractor)
        start = choose_start(int(self.num_samples[index]), length, generator)
        crop = load_audio(self.paths[index], start / rate, length / rate, rate)
        return self.extractor.log_mel(self.extractor.segment(crop))[0]

    def read_segments(self, index: int, num_segments: int = 0) -> np.ndarray:
        """Read the segments of a track.

        Args:
            index: of the track.
            num_segments: only so many, from the middle of a longer track; 0 for all.

        Returns:
            float32 (T, F, N).

        Raises:
            AudioError: the file cannot be decoded any more.
        """
        total = count_segments(self.extractor, int(self.num_samples[index]))
        first = (total - num_segments) // 2 if 0 < num_segments < total else 0
        if self.log_mels is not None:
            return self.log_mels[index][first:][: num_segments or None]
        rate = self.extractor.sampling_rate
        start_seconds = first * self.extractor.stride_samples / rate
        seconds = num_segments * self.extractor.stride_samples / rate if num_segments else None
        waveform = load_audio(self.paths[index], start_seconds, seconds, rate)
        return self.extractor.log_mel(self.extractor.segment(waveform))


def crop_samples(extractor: MulapFeatureExtractor) -> int:
    """Return how many samples of a file become one segment, less what is padded around a clip."""
    return extractor.segment_samples - 2 * extractor.pad_samples


def choose_start(num_samples: int, length: int, generator: np.random.Generator) -> int:
    """Choose where a crop of `length` samples starts: anywhere it fits, or 0 in a shorter file."""
    return int(generator.integers(max(0, num_samples - length) + 1))


def count_segments(extractor: MulapFeatureExtractor, num_samples: int) -> int:
    """Return how many segments `extractor.segment` cuts a clip of so many samples into."""
    left = num_samples + 2 * extractor.pad_samples - extractor.segment_samples
    return 1 + max(0, left) // extractor.stride_samples


def count_cache_bytes(extractor: MulapFeatureExtractor, paths: Sequence[Path]) -> int:
    """Return how much memory all log-mels will take, by the files' headers."""
    num_segments = 0
    for path in paths:
        try:
            seconds = probe_audio(path).duration_seconds
        except AudioError:
            continue  # decoding tells, in `read_tracks`
        num_segments += count_segments(extractor, round(seconds * extractor.sampling_rate))
    return num_segments * extractor.num_mel_bins * extractor.num_frames * 4


def read_tracks(
    extractor: MulapFeatureExtractor,
    paths: Sequence[Path],
    keep: bool,
    num_workers: int = 0,
    lengths: Path | None = None,
) -> tuple[TrackAudio, list[tuple[Path, str]]]:
    """Decode every track once, to learn its length and whether it can be used.

    Args:
        extractor: waveform -> log-mel.
        paths: of the tracks.
        keep: hold all log-mels in memory from here on.
        num_workers: processes that decode; 0 decodes in this one.
        lengths: a JSON file of lengths by file, read if it is there and added to on the way: a
            track in it is decoded again only if it has changed, or if log-mels are kept.

    Returns:
        The tracks, and those left out, each with its reason.
    """
    known = _load_lengths(lengths) if lengths else {}
    decoded = DataLoader(
        _Decoded(extractor, paths, keep, {} if keep else dict(known)),
        batch_size=None,
        collate_fn=as_it_is,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
    )
    num_samples = np.zeros(len(paths), np.int64)
    log_mels: list[np.ndarray] = []
    failures: list[tuple[Path, str]] = []
    for index, (length, log_mel, reason) in enumerate(decoded):
        num_samples[index] = length
        log_mels.append(log_mel)
        if reason:
            failures.append((paths[index], reason))
        elif lengths:
            known[_stamp(paths[index], extractor.sampling_rate)] = length
            if (index + 1) % _SAVE_EVERY_TRACKS == 0:
                _save_lengths(lengths, known)
    if lengths:
        _save_lengths(lengths, known)
    return TrackAudio(extractor, paths, num_samples, log_mels if keep else None), failures


def _save_lengths(path: Path, lengths: Mapping[str, int]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(lengths, indent=0) + "\n", encoding="utf-8")


def _load_lengths(path: Path) -> dict[str, int]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def _stamp(path: Path, rate: int) -> str:
    """Name a file with its size and time, which change with what is in it."""
    status = path.stat()
    return f"{path}|{status.st_size}|{status.st_mtime_ns}|{rate}"


class _Decoded(Dataset[tuple[int, np.ndarray, str]]):
    """Length, log-mels where they are kept, and the reason why there are none, by track."""

    def __init__(
        self,
        extractor: MulapFeatureExtractor,
        paths: Sequence[Path],
        keep: bool,
        known: Mapping[str, int],
    ) -> None:
        self.extractor = extractor
        self.paths = paths
        self.keep = keep
        self.known = known

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, np.ndarray, str]:
        nothing = np.empty(0, np.float32)
        path, rate = self.paths[index], self.extractor.sampling_rate
        if self.known and path.is_file() and (length := self.known.get(_stamp(path, rate))):
            return length, nothing, ""
        blocks: list[np.ndarray] = []
        num_samples = 0
        try:
            for block in stream_audio(path, rate):
                if np.abs(block).max() > _LOUDEST_SAMPLE:
                    reason = "has samples of absurd size (export it at a usual level)"
                    raise AudioError(path, reason)
                num_samples += len(block)
                if self.keep:
                    blocks.append(block)
        except AudioError as error:
            return 0, nothing, error.reason
        if not self.keep:
            return num_samples, nothing, ""
        segments = self.extractor.segment(np.concatenate(blocks))
        return num_samples, self.extractor.log_mel(segments), ""


class CropDataset(Dataset[dict[str, torch.Tensor]]):
    """Random crops of labelled tracks by `(epoch, index)`.

    Args:
        audio: of all tracks.
        tracks: int (n_train,), positions in `audio` of those to learn from.
        targets: (n_train, C), or (n_train,) of a class.
        seed: of the crops.
    """

    def __init__(
        self, audio: TrackAudio, tracks: np.ndarray, targets: torch.Tensor, seed: int
    ) -> None:
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
        crop = self.audio.read_crop(int(self.tracks[index]), generator)
        return {"input_features": torch.from_numpy(crop), "targets": self.targets[index]}


class SegmentDataset(Dataset[np.ndarray]):
    """All segments of some tracks, a track an item.

    Args:
        audio: of all tracks.
        tracks: int (n,), positions in `audio`.
        num_segments: most of a track, from its middle; 0 for all.
    """

    def __init__(self, audio: TrackAudio, tracks: np.ndarray, num_segments: int = 0) -> None:
        self.audio = audio
        self.tracks = tracks
        self.num_segments = num_segments

    def __len__(self) -> int:
        return len(self.tracks)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return float32 (T, F, N)."""
        return self.audio.read_segments(int(self.tracks[index]), self.num_segments)
