"""Many files -> their tags, by the same pass on all cores as `mulap embed`, in constant memory.

A tagger's score of a file is the mean of its segments' scores. Any other words are scored by the
space that audio and text share: by how many standard deviations the file differs from an average
track.
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
from mulap.encoders.zero_shot import ZeroShot
from mulap.terminal import Progress
from mulap.vectors.keys import file_name


class TaggedFile(NamedTuple):
    """A file, or a folder that cannot be listed.

    Attributes:
        file: its path.
        scores: tag -> score, best first; empty if the file cannot be used.
        reason: why it cannot be used; empty if it can.
    """

    file: str
    scores: dict[str, float]
    reason: str


def tag_files(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoder: Encoder,
    others: Counter[str] | None = None,
    tags: Sequence[str] | ZeroShot | None = None,
) -> Iterator[TaggedFile]:
    """Tag files, and the files in folders.

    Args:
        paths: one or several files, and folders to search through all levels.
        encoder: one that has tags, or shares a space with text.
        others: counts the files in folders that have another ending than audio's, by ending; it is
            complete before the first file comes.
        tags: any words, or what `encoder.zero_shot` made of them. None for a tagger's own, or for
            the list that comes with mulap.

    Yields:
        Folders that cannot be listed, then the files in order.

    Raises:
        ValueError: a path is missing, no audio file is found, or the encoder has no such tags.
    """
    closed: list[tuple[str, str]] = []
    others = Counter() if others is None else others
    found = find_audio(paths, closed, others)
    if not found:
        raise no_audio(paths, closed, others)
    is_tagger = tags is None and bool(encoder.tags)
    zero_shot = None if is_tagger else tags
    if not (is_tagger or isinstance(zero_shot, ZeroShot)):
        zero_shot = encoder.zero_shot(zero_shot)
    names, score_tags, level = encoder.tags, encoder.score_tags, "segment"
    if isinstance(zero_shot, ZeroShot):
        names, score_tags, level = zero_shot.tags, zero_shot.score, "track"
        encoder = encoder.in_joint_space()
    scores: dict[str, dict[str, float]] = {}  # by the key of the audio

    def add(index: int, embedded: Embedded, blocks: Iterable[np.ndarray]) -> None:
        total, num_rows = np.zeros(len(names)), 0
        for some in map(score_tags, blocks):
            total += some.sum(0, dtype=np.float64)
            num_rows += len(some)
        scores[embedded.key] = rank_tags(names, total / num_rows)

    yield from (TaggedFile(folder, {}, reason) for folder, reason in closed)
    files = [FileToEmbed(path) for path in found]
    missing = embed_missing(encoder, files, lambda _: False, add, level)
    with Progress("tagging", len(found)) as progress, closing(missing) as done:
        for path, embedded in zip(found, done, strict=True):
            progress.advance()
            of_file = {} if embedded.reason else scores[embedded.key]
            yield TaggedFile(file_name(path), of_file, embedded.reason)
