"""Many files -> a sentence about each.

    retrieved   the sentence nearest to the track among some 2,000 that describe music, or yours
    written     words by the masked-word head (`mulap.use.write`), ranked by the co-attention

`retrieved` is the default: docs/captions.md has what was measured. A word says how sure a sentence
is. The best of 2,000 nearly always fits better than neutral sentences do; but the ten nearest say
nearly the same of some tracks, and contradict each other on others. So the word compares how far
they agree with how far they do on average tracks. What is written, or is the best of few sentences,
is compared with neutral ones (`mulap.encoders.neutral`).
"""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mulap.audio import find_audio, no_audio
from mulap.corpora.wording import capitalise
from mulap.embedding.pipeline import Embedded, FileToEmbed, embed_missing
from mulap.encoders.engine import WINDOW, Engine
from mulap.encoders.kept import kept
from mulap.encoders.neutral import FAIR, word
from mulap.terminal import Progress, counted, say
from mulap.use.write import write_candidates
from mulap.vectors.keys import file_name

Method = Literal["retrieved", "written"]
SENTENCES = Path(__file__).with_name("sentences.txt")
_NUM_OTHERS = 3
_SAME = 0.9  # cosine of sentences that say nearly the same
_NEAREST, _LEAST_SENTENCES = 10, 100  # that agree or not; of a list for which that is asked
_NUM_AVERAGE_TRACKS = 1_000
SURE, HALF_SURE = 75.0, 50.0  # percentiles of agreement; where strong and fair begin


@dataclass(frozen=True)
class Caption:
    """A sentence about a file, or why there is none.

    Attributes:
        file: its path.
        caption: the sentence; empty if the file cannot be used.
        method: how it was found.
        percentile: how well it fits, see `Neutral.percentile`.
        agreement: how many of 100 average tracks have ten nearest sentences that agree less; None
            of what is written, and of a list of fewer than 100 sentences.
        others: the next best sentences that say something else, best first.
        reason: why the file cannot be used; empty if it can.
    """

    file: str
    caption: str = ""
    method: Method = "retrieved"
    percentile: float = 0.0
    agreement: float | None = None
    others: tuple[str, ...] = ()
    reason: str = ""

    @property
    def stands_out(self) -> bool:
        """Whether the sentence fits better than neutral ones; silence and speech have none."""
        return self.percentile >= FAIR

    @property
    def match(self) -> str:
        """A word for how sure it is: `strong`, `fair` or `weak`."""
        if self.agreement is None or not self.stands_out:
            return word(self.percentile)
        is_fair = self.agreement >= HALF_SURE
        return "strong" if self.agreement >= SURE else "fair" if is_fair else "weak"

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        return {
            "file": self.file,
            "caption": self.caption,
            "method": self.method,
            "match": self.match,
            "percentile": round(self.percentile, 1),
            "agreement": None if self.agreement is None else round(self.agreement, 1),
            "others": list(self.others),
        }


class Captioner:
    """Finds or writes sentences about tracks, from their features.

    Args:
        engine: of the model; `written` needs one that can match.
        method: how sentences are found.
        sentences: of which `retrieved` takes one; None for those that come with mulap.

    Raises:
        ValueError: there is no sentence, or the model cannot write.
    """

    def __init__(
        self, engine: Engine, method: Method = "retrieved", sentences: Sequence[str] | None = None
    ) -> None:
        self.engine = engine
        self.method: Method = method
        given = read_sentences(SENTENCES) if sentences is None else sentences
        self.sentences = tuple(dict.fromkeys(given))
        if not self.sentences:
            raise ValueError("there is no sentence to choose from. Give one or more.")
        if method == "written" and not engine.can_match:
            raise ValueError(
                f"{engine.name}: has no masked-word head to write with. Use --method retrieved."
            )

    @cached_property
    def _points(self) -> np.ndarray:
        """The sentences' points (S, D), kept on disk: they take some seconds."""
        making = sha256("\n".join((self.engine.space, *self.sentences)).encode()).hexdigest()
        return kept("sentences", making, self._embed)["points"]

    def _embed(self) -> dict[str, np.ndarray]:
        say(f"embedding {counted(len(self.sentences), 'sentence')}, once for this model")
        return {"points": self.engine.embed_text(self.sentences)}

    @cached_property
    def _agreements(self) -> np.ndarray:
        """How far the nearest sentences of average tracks agree, sorted."""
        tracks = self.engine.reference.draw(_NUM_AVERAGE_TRACKS)
        order = np.argpartition(-(tracks @ self._points.T), _NEAREST, axis=1)[:, :_NEAREST]
        return np.sort([_agreement(self._points[some]) for some in order])

    def caption(self, features: np.ndarray, file: str = "") -> Caption:
        """Caption a track by its segments' features (T, A)."""
        point, agreement = self.engine.project(features.mean(0, keepdims=True)), None
        if self.method == "written":
            sentences = self._write(features, point[0])
            points = self.engine.embed_text(sentences)
            order = list(range(len(sentences)))
        else:
            sentences, points = self.sentences, self._points
            order = np.argsort(-(points @ point[0]), kind="stable").tolist()
            if len(sentences) >= _LEAST_SENTENCES:
                own = _agreement(points[order[:_NEAREST]])
                agreement = 100 * float(
                    np.searchsorted(self._agreements, own) / _NUM_AVERAGE_TRACKS
                )
        best, *others = _unlike(order, points, 1 + _NUM_OTHERS)
        percentile = self.engine.neutral.percentile(point, points[best : best + 1])[0, 0]
        texts = tuple(sentences[index] for index in others)
        return Caption(file, sentences[best], self.method, float(percentile), agreement, texts)

    def _write(self, features: np.ndarray, point: np.ndarray) -> list[str]:
        """Write candidates about the most typical part of a track; the best come first."""
        parts = np.array_split(features, -(-len(features) // WINDOW))
        means = np.stack([part.mean(0) for part in parts])
        typical = parts[int((self.engine.project(means) @ point).argmax())]
        texts = write_candidates(self.engine, typical)
        order = np.argsort(-self.engine.match(typical, texts), kind="stable")
        return [capitalise(texts[index]) + "." for index in order]


def caption_files(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    captioner: Captioner,
    others: Counter[str] | None = None,
) -> Iterator[Caption]:
    """Caption files, and the files in folders, on all cores.

    Args:
        paths: one or several files, and folders to search through all levels.
        captioner: what finds the sentences.
        others: counts the files in folders that have another ending than audio's, by ending; it is
            complete before the first file comes.

    Yields:
        Folders that cannot be listed, then the files in order.

    Raises:
        ValueError: a path is missing, or no audio file is found.
    """
    closed: list[tuple[str, str]] = []
    others = Counter() if others is None else others
    found = find_audio(paths, closed, others)
    if not found:
        raise no_audio(paths, closed, others)
    captions: dict[str, Caption] = {}  # by the key of the audio

    def add(index: int, embedded: Embedded, blocks: Iterable[np.ndarray]) -> None:
        captions[embedded.key] = captioner.caption(np.concatenate(list(blocks)))

    yield from (Caption(folder, reason=reason) for folder, reason in closed)
    files = [FileToEmbed(path) for path in found]
    missing = embed_missing(captioner.engine.backbone, files, lambda _: False, add)
    with Progress("captioning", len(found)) as progress, closing(missing) as done:
        for path, embedded in zip(found, done, strict=True):
            progress.advance()
            file = file_name(path)
            if embedded.reason:
                yield Caption(file, reason=embedded.reason)
            else:
                yield replace(captions[embedded.key], file=file)


def read_sentences(path: str | os.PathLike[str]) -> list[str]:
    """Read sentences from a text file, one a line; empty lines are left out.

    Raises:
        ValueError: there is none, or the file is not UTF-8.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is not UTF-8 text. Save it as UTF-8.") from error
    if not (sentences := [" ".join(line.split()) for line in lines if line.strip()]):
        raise ValueError(f"{path}: holds no sentence. Put one on each line.")
    return sentences


def _agreement(points: np.ndarray) -> float:
    """Return the mean cosine of sentences' points (N, D), each with all."""
    return float(points.mean(0) @ points.mean(0))


def _unlike(order: Sequence[int], points: np.ndarray, count: int) -> list[int]:
    """Return the first few of an order whose sentences do not say nearly the same."""
    chosen: list[int] = []
    for index in order:
        if not chosen or (points[chosen] @ points[index]).max() < _SAME:
            chosen.append(index)
        if len(chosen) == count:
            break
    return chosen
