"""Why a sentence fits a track: what each part of the track and each word adds.

    leave a part of the track out, or a word of the sentence  -> how much lower is the score?
    the co-attention's weights beside it                      -> does it look at the same parts?

A score is how many standard deviations the track lies above an average one (`joint`, what search
and tags go by), or the log-odds of a match (`match`, the co-attention's answer). Leaving out says
what the score depends on; attention only says what was looked at, and the two need not agree
(docs/explain.md has what was measured).
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mulap.encoders.engine import WINDOW, Engine
from mulap.encoders.neutral import word
from mulap.encoders.zero_shot import ZeroShot

By = Literal["joint", "match"]
_LONG_TRACK = 12  # segments; parts of a longer one are 9 s
_SEGMENTS_OF_A_PART = 3
_LEAST_PARTS = 3  # whose ranks can agree
_LEAST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Part:
    """A part of a track, in seconds, and how much lower the score is without it.

    `attention` is its share of what the words look at, between 0 and 1; None without co-attention.
    """

    start: float
    end: float
    effect: float
    attention: float | None


@dataclass(frozen=True)
class Word:
    """A word of the sentence, and how much lower the score is without it."""

    word: str
    effect: float


@dataclass(frozen=True)
class Explanation:
    """Why a sentence fits a track, or does not.

    Attributes:
        file: its path; empty for an array.
        text: the sentence.
        by: whose score it is.
        score: of the whole.
        percentile: how well the sentence fits, see `mulap.encoders.neutral`.
        parts: of the track, in order; one that is alone has the effect 0.
        words: of the sentence, in order; none where there is one word only.
        agreement: rank correlation of effects and attention over the parts, between -1 and 1; None
            where there are too few parts, or no co-attention.
    """

    file: str
    text: str
    by: By
    score: float
    percentile: float
    parts: tuple[Part, ...]
    words: tuple[Word, ...]
    agreement: float | None

    def most(self) -> Part:
        """Return the part that adds most."""
        return max(self.parts, key=lambda part: part.effect)

    def to_dict(self) -> dict[str, Any]:
        """Return what `--json` prints."""
        parts = [
            {
                "start": round(part.start, 3),
                "end": round(part.end, 3),
                "effect": round(part.effect, 4),
                "attention": None if part.attention is None else round(part.attention, 4),
            }
            for part in self.parts
        ]
        return {
            "file": self.file,
            "text": self.text,
            "by": self.by,
            "score": round(self.score, 3),
            "match": word(self.percentile),
            "percentile": round(self.percentile, 1),
            "segments": parts,
            "words": [{"word": each.word, "effect": round(each.effect, 3)} for each in self.words],
            "agreement": None if self.agreement is None else round(self.agreement, 3),
        }


def explain(
    engine: Engine, audio: Any, text: str, by: By = "joint", sampling_rate: int | None = None
) -> Explanation:
    """Say what each part of a track and each word of a sentence adds to its score.

    Args:
        engine: scores it; with `match` it needs a co-attention.
        audio: a path, or samples of one clip as `Encoder.embed` takes them.
        text: one sentence or a few words.
        by: whose score.
        sampling_rate: of samples, in Hz.

    Raises:
        AudioError: the file cannot be decoded.
        ValueError: there is no text, the model has no average track to compare with, or `match`
            without a co-attention.
    """
    embedding = engine.backbone.embed(audio, sampling_rate)
    return explain_features(engine, embedding.embeddings, text, by, os.fspath(embedding.file))


def explain_features(
    engine: Engine, features: np.ndarray, text: str, by: By = "joint", file: str = ""
) -> Explanation:
    """As `explain`, of the backbone's features of a track (T, A)."""
    if not (words := text.split()):
        raise ValueError('there is no text to explain. Give words, such as "upbeat guitar".')
    stride = engine.backbone.stride_seconds
    parts = _parts(len(features))
    score = {"joint": _deviations, "match": _log_odds}[by]
    whole = np.zeros(len(features), bool)
    hidden = [whole] if len(parts) == 1 else [whole, *(_only(part, len(whole)) for part in parts)]
    of_track = score(engine, features, hidden, [text])[:, 0]
    effects = of_track[0] - of_track[1:] if len(parts) > 1 else np.zeros(1)
    of_words = np.empty(0)
    if len(words) > 1:
        without = [" ".join(words[:k] + words[k + 1 :]) for k in range(len(words))]
        of_words = of_track[0] - score(engine, features, [whole], without)[0]
    attention = attention_of_parts(engine, features, text, parts) if engine.can_match else None
    point = engine.project(features.mean(0, keepdims=True))
    percentile = engine.neutral.percentile(point, engine.embed_text([text]))[0, 0]
    agreement = None
    if attention is not None and len(parts) >= _LEAST_PARTS:
        agreement = rank_correlation(effects, attention)
    return Explanation(
        file,
        text,
        by,
        float(of_track[0]),
        float(percentile),
        tuple(
            Part(
                part.start * stride,
                part.stop * stride,
                float(effects[k]),
                None if attention is None else float(attention[k]),
            )
            for k, part in enumerate(parts)
        ),
        tuple(Word(*each) for each in zip(words, of_words.tolist(), strict=False)),
        agreement,
    )


def attention_of_parts(
    engine: Engine, features: np.ndarray, text: str, parts: Sequence[slice]
) -> np.ndarray:
    """Return the share of each part in what the words look at, (num_parts,), of sum 1.

    It is the mean over layers, heads and words; [CLS], [SEP] and the token of the whole track are
    left out. A long track passes in windows, each of which weighs as its length.
    """
    shares = []
    for window in np.array_split(features, -(-len(features) // WINDOW)):
        attention = engine.attend(window, text)
        is_word = [token not in ("[CLS]", "[SEP]") for token in attention.tokens]
        weights = attention.of_words[:, :, is_word, 1:].mean((0, 1, 2))
        shares.append(weights / weights.sum() * len(window))
    share = np.concatenate(shares) / len(features)
    return np.array([share[part].sum() for part in parts])


def rank_correlation(first: np.ndarray, second: np.ndarray) -> float | None:
    """Return Spearman's rank correlation of two lists (N,); None where one is constant."""
    ranks = np.stack([_ranks(first), _ranks(second)])
    if (np.ptp(ranks, axis=1) == 0).any():
        return None
    return float(np.corrcoef(ranks)[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks from 0 (N,); equal values share the mean of theirs."""
    smaller = (values[None] < values[:, None]).sum(1)
    return smaller + ((values[None] == values[:, None]).sum(1) - 1) / 2


def _parts(num_segments: int) -> list[slice]:
    size = 1 if num_segments <= _LONG_TRACK else _SEGMENTS_OF_A_PART
    starts = range(0, num_segments, size)
    return [slice(start, min(start + size, num_segments)) for start in starts]


def _only(part: slice, num_segments: int) -> np.ndarray:
    is_hidden = np.zeros(num_segments, bool)
    is_hidden[part] = True
    return is_hidden


def _deviations(
    engine: Engine, features: np.ndarray, hidden: Sequence[np.ndarray], texts: Sequence[str]
) -> np.ndarray:
    """Return how far the track, with some segments hidden, lies above an average one (M, N)."""
    means = np.stack([features[~each].mean(0) for each in hidden])
    scorer = ZeroShot(tuple(texts), engine.embed_text(texts), engine.reference)
    return scorer.score(engine.project(means)).astype(np.float64)


def _log_odds(
    engine: Engine, features: np.ndarray, hidden: Sequence[np.ndarray], texts: Sequence[str]
) -> np.ndarray:
    """Return the log-odds of a match with some segments hidden (M, N)."""
    scores = engine.match([features] * len(hidden), texts, hidden).astype(np.float64)
    scores = scores.clip(_LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
    return np.log(scores / (1 - scores))
