"""Many files -> their tags, by the same pass on all cores as `mulap embed`, in constant memory.

    file -> features of its segments -> scores of all tags, of each segment and of the whole file

A tagger's score of a file is the mean of its segments' scores. How well any other words fit is
judged in the space that audio and text share, see `mulap.encoders.neutral`. The network hears a
segment once, and the text model reads a tag once, however many there are.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import NamedTuple

import numpy as np

from mulap.audio import find_audio, no_audio
from mulap.embedding.pipeline import Embedded, FileToEmbed, embed_missing
from mulap.encoders.encoder import Embedding, Encoder, Tags
from mulap.encoders.zero_shot import ZeroShot
from mulap.terminal import Progress
from mulap.vectors.keys import file_name


class TaggedFile(NamedTuple):
    """A file, or a folder that cannot be listed.

    Attributes:
        file: its path.
        tags: their scores; None if the file cannot be used.
        reason: why it cannot be used; empty if it can.
        matches: of each tag, what `match` returned; None without it.
    """

    file: str
    tags: Tags | None
    reason: str
    matches: np.ndarray | None = None


def tag_files(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    encoder: Encoder,
    others: Counter[str] | None = None,
    tags: Sequence[str] | ZeroShot | None = None,
    match: Callable[[np.ndarray, Sequence[str]], np.ndarray] | None = None,
) -> Iterator[TaggedFile]:
    """Tag files, and the files in folders.

    Args:
        paths: one or several files, and folders to search through all levels.
        encoder: one that has tags, or shares a space with text.
        others: counts the files in folders that have another ending than audio's, by ending; it is
            complete before the first file comes.
        tags: any words, or what `encoder.zero_shot` made of them. None for a tagger's own, or for
            the list that comes with mulap.
        match: judges the tags by features (T, A), such as `Engine.match`.

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
    if isinstance(tags, ZeroShot):
        zero_shot = tags
    else:
        zero_shot = None if tags is None and encoder.tags else encoder.zero_shot(tags)
    hears = encoder.in_backbone_space() if zero_shot else encoder
    last: list[TaggedFile] = []

    def add(index: int, embedded: Embedded, blocks: Iterable[np.ndarray]) -> None:
        features = np.concatenate(list(blocks))
        starts = np.arange(len(features)) * encoder.stride_seconds
        clip = Embedding(file_name(found[index]), features, starts)
        tagged = encoder.tag_clip(clip, zero_shot)
        last[:] = [TaggedFile(clip.file, tagged, "", match and match(features, tagged.tags))]

    yield from (TaggedFile(folder, None, reason) for folder, reason in closed)
    # Copies are heard again: the scores of all files would not fit into memory.
    missing = embed_missing(hears, [FileToEmbed(path) for path in found], None, add)
    with Progress("tagging", len(found)) as progress, closing(missing) as done:
        for path, embedded in zip(found, done, strict=True):
            progress.advance()
            failed = TaggedFile(file_name(path), None, embedded.reason)
            yield failed if embedded.reason else last.pop()
