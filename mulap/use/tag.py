"""Many files -> their tags, by the same pass on all cores as `mulap embed`.

A file's score is the mean of its segments' scores, taken over the whole file in constant memory.
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np

from mulap.audio import find_audio, no_audio
from mulap.embedding.pipeline import Embedded, FileToEmbed, embed_missing
from mulap.encoders.encoder import Encoder, rank_tags
from mulap.terminal import Progress
from mulap.vectors.keys import file_name


class TaggedFile(NamedTuple):
    """A file, or a folder that cannot be listed.

    Attributes:
        file: its path.
        scores: tag -> mean score, best first; empty if the file cannot be used.
        reason: why it cannot be used; empty if it can.
    """

    file: str
    scores: dict[str, float]
    reason: str


def tag_files(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoder: Encoder,
    others: Counter[str] | None = None,
) -> Iterator[TaggedFile]:
    """Tag files, and the files in folders.

    Args:
        paths: one or several files, and folders to search through all levels.
        encoder: one that has tags.
        others: counts the files in folders that have another ending than audio's, by ending; it is
            complete before the first file comes.

    Yields:
        Folders that cannot be listed, then the files in order.

    Raises:
        ValueError: a path is missing, no audio file is found, or the encoder has no tags.
    """
    closed: list[tuple[str, str]] = []
    others = Counter() if others is None else others
    found = find_audio(paths, closed, others)
    if not found:
        raise no_audio(paths, closed, others)
    encoder.check_tags()
    scores: dict[str, dict[str, float]] = {}  # by the key of the audio

    def add(index: int, embedded: Embedded, blocks: Iterable[np.ndarray]) -> None:
        total, num_segments = np.zeros(len(encoder.tags)), 0
        for some in map(encoder.score_tags, blocks):
            total += some.sum(0, dtype=np.float64)
            num_segments += len(some)
        scores[embedded.key] = rank_tags(encoder.tags, total / num_segments)

    yield from (TaggedFile(folder, {}, reason) for folder, reason in closed)
    missing = embed_missing(encoder, [FileToEmbed(path) for path in found], lambda _: False, add)
    with Progress("tagging", len(found)) as progress, closing(missing) as done:
        for path, embedded in zip(found, done, strict=True):
            progress.advance()
            of_file = {} if embedded.reason else scores[embedded.key]
            yield TaggedFile(file_name(path), of_file, embedded.reason)
