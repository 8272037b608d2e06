"""Any words as tags, by the space that audio and text share: how a track differs from the average.

    tag        -> the mean of its sentences' points, such as "jazz" and "jazz music"
    track      -> its point
    score      =  (cosine - mean over reference tracks) / standard deviation over them

So the scores of different tags compare: a tag that fits everything a little fits nothing by that.
Cosines are linear in the track's point, so that the mean and the covariance of the reference's
points give both numbers for any tag, exactly. Probes and search rank by such scores; people are
shown percentiles, see `mulap.encoders.neutral`.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

TEMPLATES = ("{}", "{} music", "{} track", "this is {} music")
YES, MAYBE = 1.5, 0.5  # standard deviations: 93 and 69 of 100 tracks are below, if they are normal
REFERENCE_FILE = "reference.safetensors"
_LEAST_DEVIATION = 1e-6  # of cosines; less is rounding
_TAGS_FILE = Path(__file__).with_name("tags.csv")


def unit_length(points: np.ndarray) -> np.ndarray:
    """Return points (..., D), none of which is 0, with length 1, float32."""
    points = np.asarray(points)
    return (points / np.linalg.norm(points, axis=-1, keepdims=True)).astype(np.float32)


class Reference(NamedTuple):
    """The points of many tracks, in short.

    Attributes:
        mean: of the points (D,).
        factor: a square root F of their covariance, F'F (D, D).
        tag_points: of `default_tags`, so that they need no text branch (num_tags, D).
        sentences_sha256: of the sentences that gave them; another list has other points.
    """

    mean: np.ndarray
    factor: np.ndarray
    tag_points: np.ndarray | None = None
    sentences_sha256: str = ""

    @classmethod
    def of(cls, points: np.ndarray) -> "Reference":
        """Summarise the points of tracks (N, D)."""
        points = points.astype(np.float64)
        mean = points.mean(0)
        values, directions = np.linalg.eigh(np.cov(points - mean, rowvar=False, bias=True))
        return cls(mean, np.sqrt(values.clip(0))[:, None] * directions.T)

    def draw(self, count: int) -> np.ndarray:
        """Return points of average tracks, drawn the same each time, of unit length (count, D)."""
        drawn = np.random.default_rng(0).standard_normal((count, len(self.factor)))
        return unit_length(self.mean + drawn @ self.factor)

    def deviation(self, points: np.ndarray) -> np.ndarray:
        """Return the standard deviation over tracks of the cosine with each point (N, D): (N,)."""
        return np.linalg.norm(points @ self.factor.T, axis=1).clip(_LEAST_DEVIATION)

    def deviations(self, tracks: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Return by how many of them tracks (N, D) are nearer than the average to points (M, D).

        Returns:
            float32 (N, M).
        """
        cosines = (tracks - self.mean) @ points.T
        return (cosines / self.deviation(points)).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write it beside a model's weights; matrices in half precision."""
        tensors = {
            "mean": self.mean.astype(np.float32),
            "factor": np.ascontiguousarray(self.factor, np.float16),
        }
        if self.tag_points is not None:
            tensors["tag_points"] = np.ascontiguousarray(self.tag_points, np.float16)
        metadata = {"sentences_sha256": self.sentences_sha256}
        save_file(tensors, folder / REFERENCE_FILE, metadata)

    @classmethod
    def load(cls, folder: Path) -> "Reference":
        """Read it from a model's folder.

        Raises:
            ValueError: it is not there, or damaged.
        """
        path = folder / REFERENCE_FILE
        if not path.is_file():
            raise ValueError(
                f"{folder}: has no {REFERENCE_FILE}, the average track that scores are compared "
                "with. Runs that end now write it; call `mulap pretrain` of this run again."
            )
        try:
            with safe_open(path, framework="np") as file:
                tensors = {name: file.get_tensor(name).astype(np.float64) for name in file.keys()}
                sentences_sha256 = (file.metadata() or {}).get("sentences_sha256", "")
            factor, points = tensors["factor"], tensors.get("tag_points")
            return cls(tensors["mean"], factor, points, sentences_sha256)
        except (SafetensorError, KeyError, OSError) as error:
            raise ValueError(f"{path}: cannot be read, {error}. Copy it again.") from error


@dataclass(frozen=True)
class ZeroShot:
    """Scores tags of tracks.

    Attributes:
        tags: what is asked, each once.
        points: of the tags, the mean of their sentences' points (num_tags, D).
        reference: the average track.
        unknown: those of the tags whose words the text model hardly knows.
    """

    tags: tuple[str, ...]
    points: np.ndarray
    reference: Reference
    unknown: tuple[str, ...] = ()

    def score(self, tracks: np.ndarray) -> np.ndarray:
        """Score tracks' points (N, D).

        Returns:
            Standard deviations from the average track, float32 (N, num_tags).
        """
        cosines = (tracks - self.reference.mean) @ self.points.T
        return (cosines / self._deviation).astype(np.float32)

    @cached_property
    def _deviation(self) -> np.ndarray:
        return self.reference.deviation(self.points)


def sentences(tag: str) -> list[str]:
    """Return the sentences that stand for a tag."""
    return [template.format(tag) for template in TEMPLATES]


def hash_sentences(tags: Sequence[str]) -> str:
    """Return the SHA-256 of all sentences that stand for some tags."""
    lines = "\n".join(sentence for tag in tags for sentence in sentences(tag))
    return hashlib.sha256(lines.encode()).hexdigest()


def says(score: float) -> str:
    """Return a word for a score: `yes`, `maybe` or `no`."""
    return "yes" if score >= YES else "maybe" if score >= MAYBE else "no"


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return tags without white space around them, each once.

    Raises:
        ValueError: there is none, or one is empty.
    """
    cleaned = tuple(dict.fromkeys(" ".join(tag.split()) for tag in tags))
    if not all(cleaned) or not cleaned:
        raise ValueError('a tag is empty. Give words, such as "jazz,metal,8-bit".')
    return cleaned


def read_tags(path: str | os.PathLike[str]) -> list[str]:
    """Read tags from a text file, separated by commas or line ends."""
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    return [tag for line in lines for tag in line.split(",") if tag.strip()]


@cache
def tags_by_kind() -> dict[str, list[str]]:
    """Return the tags that come with mulap by kind: genre, instrument, voice, mood, sound, use."""
    found: dict[str, list[str]] = {}
    for line in _TAGS_FILE.read_text(encoding="utf-8").splitlines()[1:]:
        tag, kind = line.split(",")
        found.setdefault(kind, []).append(tag)
    return found


def default_tags() -> tuple[str, ...]:
    """Return all tags that come with mulap."""
    return tuple(tag for tags in tags_by_kind().values() for tag in tags)
