"""What every encoder does: files and arrays in, a vector per segment out, and tags if it has some.

    encoder = mulap.load("musicnn-msd")
    encoder.embed("song.mp3").embeddings                      # (segments, 1506)
    encoder.embed([first, second], sampling_rate=44_100)      # a list of two
    encoder.tag("song.mp3").top(3)                            # {"rock": 0.31, ...}
    encoder.tag("song.mp3").scores                            # when: (segments, tags)

Every segment of a clip is taken, in order, and nothing is random; a track's vector is the mean of
its segments'. Many files into one table: `mulap.embedding.embed`.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from mulap.audio import AudioError, resample, stream_audio
from mulap.encoders.zero_shot import ZeroShot
from mulap.model.cuts import Cuts
from mulap.model.waveforms import is_batch, split_clips, to_mono
from mulap.pools import BlockMapper
from mulap.vectors.keys import file_name

Level = Literal["segment", "track"]
# What a segment's vector is: the backbone's features, or a point of the space shared with text.
Space = Literal["backbone", "joint"]
# Of one clip, some at a time: where segments start, in seconds (M,), and their vectors (M, D).
Rows = Iterator[tuple[np.ndarray, np.ndarray]]

_TAGS_SHOWN = 5
_BLOCK_SECONDS = 30  # of an array, as of a file


@dataclass(frozen=True)
class Embedding:
    """The vectors of one clip.

    Attributes:
        file: its path; empty for an array.
        embeddings: float32 (T, D); (1, D) for a whole track.
        start_seconds: where each segment starts, float64 (T,).
    """

    file: str
    embeddings: np.ndarray
    start_seconds: np.ndarray

    def __repr__(self) -> str:
        """Say whose vectors these are, and how many: a notebook shows it."""
        return f"Embedding({self.file!r}, {len(self.embeddings)} x {self.embeddings.shape[1]})"

    def to_pandas(self) -> Any:
        """Return a DataFrame, a row per segment, found by file and start. Needs pandas."""
        return _to_pandas(self.file, self.start_seconds, self.embeddings, None)


@dataclass(frozen=True)
class Tags:
    """The scores of one clip's tags: independent yes-or-no questions, which do not add up to one.

    A tagger's are between 0 and 1 and not calibrated: compare the tags of a clip, and not a score
    with a threshold. A joint space's are percentiles, see `mulap.encoders.neutral`.

    Attributes:
        file: its path; empty for an array.
        tags: their names.
        scores: of each segment, float32 (T, num_tags).
        start_seconds: where each segment starts, float64 (T,).
        whole: of the clip, float32 (num_tags,). A tagger's are the mean over segments; a joint
            space compares the whole clip.
        deviations: only of a joint space: by how many standard deviations the clip lies above an
            average track, float32 (num_tags,). Percentiles order the tags of a clip best, these the
            clips of a tag (docs/zero-shot.md).
    """

    file: str
    tags: tuple[str, ...]
    scores: np.ndarray
    start_seconds: np.ndarray
    whole: np.ndarray
    deviations: np.ndarray | None = None

    def top(self, count: int | None = None) -> dict[str, float]:
        """Return the tags that score highest for the whole clip, best first.

        Args:
            count: how many; None for all.

        Raises:
            ValueError: the count is below 1.
        """
        if count is not None and count < 1:
            raise ValueError(f"top({count}): gives no tags. Give a count of 1 or more.")
        order = np.argsort(-self.whole, kind="stable")[:count]
        return {self.tags[index]: float(self.whole[index]) for index in order}

    def __repr__(self) -> str:
        """Name the highest tags: a notebook shows it."""
        top = ", ".join(f"{tag} {score:.2f}" for tag, score in self.top(_TAGS_SHOWN).items())
        return (
            f"Tags({self.file!r}, {top}, ... {len(self.tags)} tags x {len(self.scores)} segments)"
        )

    def to_pandas(self) -> Any:
        """Return a DataFrame, a column per tag and a row per segment, as of `Embedding`."""
        return _to_pandas(self.file, self.start_seconds, self.scores, list(self.tags))


class Encoder(ABC):
    """Turns audio into one vector per segment. What it is given never changes it.

    Attributes:
        name: what tables call it.
        embedding_size: length D of a vector.
        feature_extractor: cuts audio at its sampling rate; some encoders use no more of it.
        tags: names of the tags that it scores; most encoders have none.
        space: of its vectors; `joint` only of MuLaP models with a contrastive head.
    """

    name: str
    embedding_size: int
    feature_extractor: Cuts
    tags: tuple[str, ...] = ()
    space: Space = "backbone"

    def __repr__(self) -> str:
        """Say what it makes: a notebook shows it."""
        tags = f", {len(self.tags)} tags" if self.tags else ""
        return f"<{self.name}: {self.embedding_size:,} numbers per segment{tags}>"

    @abstractmethod
    def describe(self, level: Level = "segment") -> dict[str, Any]:
        """Return what makes the vectors, as JSON; `model` is the name, and decides nothing."""

    @abstractmethod
    def stream_blocks(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Turn consecutive blocks of one clip into inputs of `embed_input`, in constant memory.

        Args:
            blocks: mono samples at the extractor's rate, each (num_samples,).
        """

    @abstractmethod
    def embed_input(self, some: np.ndarray) -> np.ndarray:
        """Embed some segments.

        Args:
            some: M segments, in the form that `stream_blocks` gives.

        Returns:
            float32 (M, D).
        """

    def score_tags(self, vectors: np.ndarray) -> np.ndarray:
        """Score the tags of some segments; only an encoder that has tags does.

        Args:
            vectors: float32 (M, D).

        Returns:
            float32 (M, num_tags), between 0 and 1.
        """
        raise NotImplementedError

    def zero_shot(self, tags: Sequence[str] | None = None) -> ZeroShot:
        """Return what scores any words as tags, by a space shared with text.

        Args:
            tags: what to score; None for the list that comes with mulap.

        Raises:
            ValueError: the encoder shares no space with text, or a tag is empty.
        """
        if self.tags:
            raise ValueError(
                f"{self.name}: scores its own tags only. Give no tags, or another model, such as "
                "mulap-small."
            )
        raise ValueError(
            f"{self.name}: has no tags. Give musicnn-mtt, musicnn-msd, a tagger's folder, or a "
            "model that shares a space with text, such as mulap-small."
        )

    def in_joint_space(self) -> "Encoder":
        """Return this encoder with points of the joint space as vectors, where there is one."""
        raise NotImplementedError

    def in_backbone_space(self) -> "Encoder":
        """Return this encoder with the backbone's features as vectors."""
        return self

    @property
    def stride_seconds(self) -> float:
        """Distance between the starts of two segments."""
        return self.feature_extractor.stride_samples / self.feature_extractor.sampling_rate

    def embed(self, audio: Any, sampling_rate: int | None = None, level: Level = "segment") -> Any:
        """Embed files or arrays.

        Args:
            audio: a path, or samples as `to_mono` takes them; or several, as a list. A 2-D array
                of rows longer than channels are many is several clips, one a row.
            sampling_rate: of the samples, in Hz: for arrays only, which need it.
            level: `segment`, or `track` for their mean.

        Returns:
            An `Embedding`, or a list of them where `audio` is several. The vectors of a file are
            to the bit those that `embed_files` writes.

        Raises:
            AudioError: a file cannot be decoded, or gives no finite vectors.
            ValueError: no sampling rate, an unknown level, or samples that cannot be used.
        """
        check_level(level)
        clips, is_several = self._open_clips(audio, sampling_rate)
        embedded = [self._embed_clip(file, blocks, level) for file, blocks in clips]
        return embedded if is_several else embedded[0]

    def tag(
        self, audio: Any, sampling_rate: int | None = None, tags: Sequence[str] | None = None
    ) -> Any:
        """Score tags of files or arrays.

        Args:
            audio: as `embed` takes it.
            sampling_rate: likewise.
            tags: any words, for a model that shares a space with text; None for a tagger's own, or
                for the list that comes with mulap.

        Returns:
            `Tags` of each segment and of the whole clip, or a list where `audio` is several.

        Raises:
            AudioError: as of `embed`.
            ValueError: as of `embed` and `zero_shot`.
        """
        zero_shot = None if tags is None and self.tags else self.zero_shot(tags)
        encoder = self.in_backbone_space() if zero_shot else self
        embedded = encoder.embed(audio, sampling_rate)
        if isinstance(embedded, list):
            return [self.tag_clip(clip, zero_shot) for clip in embedded]
        return self.tag_clip(embedded, zero_shot)

    def tag_clip(self, clip: Embedding, zero_shot: ZeroShot | None = None) -> Tags:
        """Score tags of a clip whose segments are embedded.

        Args:
            clip: the vectors of its segments, which `in_backbone_space` gives.
            zero_shot: from `zero_shot`; None for a tagger's own tags.
        """
        scores = self.score_tags(clip.embeddings)
        whole = scores.mean(0, dtype=np.float64).astype(np.float32)
        return Tags(clip.file, self.tags, scores, clip.start_seconds, whole)

    def embed_waveform(
        self, waveform: Any, level: Level = "segment", sampling_rate: int | None = None
    ) -> Any:
        """Embed arrays, as `embed` does, and return nothing but the vectors.

        Args:
            waveform: as `embed` takes it.
            level: likewise.
            sampling_rate: likewise, but of the extractor's own rate where not given.

        Returns:
            float32 (T, D), or a list of such where `waveform` is several clips.
        """
        own_rate = self.feature_extractor.sampling_rate
        rate = own_rate if sampling_rate is None else sampling_rate
        embedded = self.embed(waveform, rate, level)
        several = isinstance(embedded, list)
        return [clip.embeddings for clip in embedded] if several else embedded.embeddings

    def stream_file(self, path: str | os.PathLike[str]) -> Iterator[np.ndarray]:
        """Yield a file's inputs to `stream_rows`, some segments each, in constant memory."""
        return self.stream_blocks(stream_audio(path, self.feature_extractor.sampling_rate))

    def stream_rows(
        self,
        inputs: Iterable[np.ndarray],
        level: Level = "segment",
        map_blocks: BlockMapper = map,
    ) -> Rows:
        """Embed the consecutive inputs of one clip, in constant memory.

        Args:
            inputs: from `stream_file` or `stream_blocks`.
            level: `segment` for a row each, `track` for one row in all.
            map_blocks: from `block_mapper`, to embed a few inputs ahead of who reads the rows. The
                rows are the same.

        Returns:
            See `to_rows`.

        Raises:
            ValueError: the level is neither.
        """
        return to_rows(map_blocks(self.embed_input, inputs), self.stride_seconds, level)

    def block_mapper(self) -> AbstractContextManager[BlockMapper]:
        """Open what shares the inputs of one clip between threads, if the encoder gains by it."""
        return nullcontext(map)

    def _embed_clip(self, file: str, blocks: Iterable[np.ndarray], level: Level) -> Embedding:
        with self.block_mapper() as map_blocks:
            rows = self.stream_rows(self.stream_blocks(blocks), level, map_blocks)
            starts, vectors = zip(*check_finite(file or "the array", rows), strict=True)
        return Embedding(file, np.concatenate(vectors), np.concatenate(starts))

    def _open_clips(
        self, audio: Any, sampling_rate: int | None
    ) -> tuple[list[tuple[str, Iterator[np.ndarray]]], bool]:
        """Return each clip's path and blocks of samples, and whether there are several clips."""
        own_rate = self.feature_extractor.sampling_rate
        several: list[Any] = [audio]
        if is_list := isinstance(audio, list | tuple | Iterator):
            audio = several = list(audio)
        num_paths = sum(isinstance(each, str | os.PathLike) for each in several)
        if num_paths == len(several) > 0:
            if sampling_rate is not None:
                raise ValueError("sampling_rate is for arrays; files have their own. Leave it out.")
            return [(os.fspath(path), stream_audio(path, own_rate)) for path in several], is_list
        if num_paths:
            raise ValueError("paths and arrays are in one list. Give a list of one kind.")
        if not is_list and not hasattr(audio, "ndim"):
            raise ValueError(
                f"a {type(audio).__name__} is no audio. Give a path, an array, or a list of either."
            )
        clips = [to_mono(clip) for clip in split_clips(audio)]
        if sampling_rate is None:
            raise ValueError(
                "the sampling rate of the array is missing. Give sampling_rate, in Hz."
            )
        blocks = (_cut(resample(clip, sampling_rate, own_rate), own_rate) for clip in clips)
        return [("", each) for each in blocks], is_batch(audio)


def check_level(level: str) -> None:
    """Refuse a level that is neither `segment` nor `track`."""
    if level not in get_args(Level):
        raise ValueError(f"level is '{level}' (give {' or '.join(get_args(Level))})")


def to_rows(vectors: Iterable[np.ndarray], stride_seconds: float, level: Level) -> Rows:
    """Say where segments start, and take their mean if it is asked for; in constant memory.

    Args:
        vectors: of one clip's consecutive segments, each float32 (M, D); at least one in all.
        stride_seconds: distance between the starts of two segments.
        level: `segment` for a row each, `track` for one row in all.

    Yields:
        Where some segments start, float64 (M,), and their vectors, float32 (M, D).

    Raises:
        ValueError: the level is neither.
    """
    check_level(level)
    total, num_segments = np.zeros(1), 0
    for some in vectors:
        if level == "segment":
            yield (num_segments + np.arange(len(some))) * stride_seconds, some
        total = total + some.sum(0, dtype=np.float64)
        num_segments += len(some)
    if level == "track":
        yield np.zeros(1), (total / num_segments).astype(np.float32)[None]


def check_finite(path: str | os.PathLike[str], rows: Rows) -> Rows:
    """Pass a file's rows on, as long as their vectors are finite.

    Raises:
        AudioError: a vector is not, which samples of absurd size can do.
    """
    for start_seconds, vectors in rows:
        if not np.isfinite(vectors).all():
            where = f"near {start_seconds[0]:.0f} s"
            raise AudioError(path, f"has no finite embedding {where}. Export it at a usual level.")
        yield start_seconds, vectors


def _cut(samples: np.ndarray, rate: int) -> Iterator[np.ndarray]:
    """Cut samples into blocks, as a file's come: the same segments then pass together."""
    step = _BLOCK_SECONDS * rate
    return (samples[start : start + step] for start in range(0, max(1, len(samples)), step))


def _to_pandas(
    file: str, start_seconds: np.ndarray, values: np.ndarray, columns: list[str] | None
) -> Any:
    import pandas  # noqa: PLC0415 (nothing else needs it)

    names = ["file", "start_seconds"]
    index = pandas.MultiIndex.from_product([[file_name(file)], start_seconds], names=names)
    return pandas.DataFrame(values, index, columns)
