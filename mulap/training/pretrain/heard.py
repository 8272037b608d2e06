"""What the frozen backbone's own taggers hear, as targets in the space shared with text.

    features of a clip -> taggers' heads -> log-odds of words -> how unusual each is -> softmax
    point of the clip . points of the words, scaled ------------------------------> softmax

Captions that taggers' words make name a few words of a clip; here all of them count at once. The
heads heard hundreds of thousands of songs, so that the space learns to name what the corpus at hand
hardly has. Measured in docs/log.md, 2026-11-28.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize
from transformers import PreTrainedTokenizerBase

from mulap.corpora.described.facets import read_words
from mulap.corpora.described.hear import TAGGERS, tag_names
from mulap.corpora.described.relative import describe_word
from mulap.encoders.backbones import join_backbones, load_backbone, load_tagging_head
from mulap.encoders.zero_shot import sentences
from mulap.model.audio_input import valid_mean
from mulap.model.modeling import MulapModel

# Of the targets: a word that is one deviation more unusual counts e^2 times as much.
SHARPNESS = 2.0
MOST_HEARD_CLIPS = 20_000  # that say how usual a word is; their features are read at the start
_LEAST_DEVIATION = 1e-3
_HALF_PRECISION = 1e-3


class HeardWords(nn.Module):
    """Targets for clips' points, one distribution over words a clip.

    Args:
        names: of the taggers whose backbones the model's are, in their order.
        model: with a contrastive head; its text model and backbone are frozen.
        tokenizer: of its text model.

    Raises:
        ValueError: a name is not that of a public tagger, or the backbone is another one.
    """

    _from_tags: Tensor
    _summaries: Tensor
    _mean: Tensor
    _deviation: Tensor

    def __init__(
        self, names: Sequence[str], model: MulapModel, tokenizer: PreTrainedTokenizerBase
    ) -> None:
        if unknown := sorted({*names} - {*TAGGERS}) or ([] if names else ["none"]):
            raise ValueError(
                f"objectives.tags: model.audio_weights is {unknown[0]}, which has no words for it. "
                f"Name {' or '.join(TAGGERS)} there, or set objectives.tags to 0."
            )
        super().__init__()
        backbones = [load_backbone(name) for name in names]
        if not _is_same(join_backbones(names), model.audio_backbone):
            raise ValueError(
                f"objectives.tags: {' and '.join(names)} (model.audio_weights) is not the model's "
                "backbone. Name what it was made of, or set objectives.tags to 0."
            )
        heads = [load_tagging_head(*each) for each in zip(names, backbones, strict=True)]
        self._heads = nn.ModuleList(head for head in heads if head is not None)
        self._heads.requires_grad_(False).eval()
        self._sizes = [backbone.config.feature_size for backbone in backbones]
        words, from_tags = _words_of(names)
        self.words = tuple(words)
        lines = [line for word in words for line in sentences(word)]
        tokens = tokenizer(lines, padding=True, return_tensors="pt").to(model.device)
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        with torch.no_grad():
            summaries = model.summarize_text(model.encode_text(ids, mask), mask)
        # The Trainer moves the model to its device later; `loss` follows.
        self.register_buffer("_from_tags", from_tags)
        self.register_buffer("_summaries", summaries.cpu())
        self.register_buffer("_mean", torch.zeros(len(words)))
        self.register_buffer("_deviation", torch.ones(len(words)))

    def fit(self, clips: Iterable[np.ndarray]) -> None:
        """Learn how usual each word is.

        Args:
            clips: features of whole training clips, (T, A) each.
        """
        odds = torch.stack([self._hear(torch.from_numpy(clip)).mean(0) for clip in clips])
        self._mean, self._deviation = odds.mean(0), odds.std(0).clamp_min(_LEAST_DEVIATION)

    def loss(
        self, model: MulapModel, points: Tensor, features: Tensor, is_segment: Tensor
    ) -> Tensor:
        """Cross-entropy between what the taggers hear and what the points say.

        Args:
            model: whose text projection and scale are trained.
            points: of the clips, of unit length (B, D).
            features: of the backbone, before `feature_norm`, of all segments that exist (M, A).
            is_segment: (B, T), nonzero where there is a segment.

        Returns:
            Scalar, the mean over clips.
        """
        self.to(points.device)
        with torch.no_grad():
            odds = self._hear(features)
            spread = odds.new_zeros(*is_segment.shape, odds.shape[-1])
            spread = spread.masked_scatter(is_segment.bool()[..., None], odds)
            unusual = (valid_mean(spread, is_segment) - self._mean) / self._deviation
            targets = (SHARPNESS * unusual).softmax(dim=-1)
        own = model.project_text(self._summaries).unflatten(0, (len(self.words), -1))
        assert model.logit_scale is not None
        similarity = model.logit_scale.exp() * points @ normalize(own.mean(1), dim=-1).T
        return cross_entropy(similarity.float(), targets)

    @torch.no_grad()
    def _hear(self, features: Tensor) -> Tensor:
        """Return log-odds of the words (M, W) for features (M, A)."""
        towers = features.float().split(self._sizes, dim=-1)
        odds = [head(part) for head, part in zip(self._heads, towers, strict=True)]
        return torch.cat(odds, dim=-1) @ self._from_tags


def _is_same(backbone: nn.Module, other: nn.Module) -> bool:
    """Whether two networks have the same weights, but for half precision on disk."""
    ours, theirs = backbone.state_dict(), other.state_dict()
    return ours.keys() == theirs.keys() and all(
        value.shape == theirs[name].shape
        and torch.allclose(value, theirs[name].cpu(), rtol=_HALF_PRECISION, atol=1e-6)
        for name, value in ours.items()
    )


def _words_of(names: Sequence[str]) -> tuple[list[str], Tensor]:
    """Return the words that taggers hear, and what makes their log-odds of the tags' (tags, W).

    A word is the mean of its synonyms; one that only another tagger hears is left out.
    """
    table = read_words()
    own = [tag for name in names for tag in tag_names() if tag.startswith(f"{_short(name)} ")]
    kept = {
        word: [own.index(tag) for tag in tags if tag in own]
        for word, tags in zip(table.words, table.tags, strict=True)
    }
    kept = {word: places for word, places in kept.items() if places}
    matrix = torch.zeros(len(own), len(kept))
    for column, places in enumerate(kept.values()):
        matrix[places, column] = 1 / len(places)
    return [describe_word(word) for word in kept], matrix


def _short(name: str) -> str:
    return name.removeprefix("musicnn-")
