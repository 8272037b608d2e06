"""How well a model does on held-out tracks: each loss, matching accuracy, retrieval.

Masks and swaps are those of epoch 0 under a fixed seed, so two evaluations of one model are equal
and those of two models comparable. Retrieval ranks all tracks of a pool for each caption by one of
two heads, and its figures carry that head's name:

    atm          the matching head, a cross-encoder: every pair passes the co-attention
    contrastive  cosine similarity of the two projections, where the model has them

Matching is measured twice: `atm/accuracy` on pairs swapped and masked as in training, one a clip;
and `atm/pair_accuracy` on every pair of the pool, nothing hidden, a clip's own caption weighing as
much as all others together. Chance is a half for both.

This file knows neither the training loop nor where clips come from.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mulap.data.captions import caption_key
from mulap.data.collator import PretrainCollator
from mulap.data.dataset import ClipDataset, Item
from mulap.model.pretraining import MulapForPreTraining, MulapForPreTrainingOutput
from mulap.objectives.losses import (
    LossOptions,
    Targets,
    compute_losses,
    counted_segments,
    counted_words,
    feature_spread,
    weighted_sum,
)

RECALL_AT = (1, 5, 10)
EVALUATION_SEED = 0


@dataclass
class Evaluation:
    """What one evaluation found.

    Attributes:
        metrics: figures by name, as `loss/mlm`, `atm/accuracy`, `retrieval/atm/R@1`.
        pair_accuracy: of each clip of the pool, `atm/pair_accuracy` (P,).
        ranks: by head, the rank of each caption's own track in the pool, 1 the best.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    pair_accuracy: np.ndarray = field(default_factory=lambda: np.empty(0))
    ranks: dict[str, np.ndarray] = field(default_factory=dict)


def split_batch(batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Targets]:
    """Part a collated batch into the model's inputs and the losses' targets."""
    inputs = dict(batch)
    targets = Targets(
        atm_labels=inputs.pop("atm_labels"),
        audio_attention_mask=batch["audio_attention_mask"],
        is_masked_segment=batch["is_masked_segment"],
        is_same_caption=inputs.pop("is_same_caption"),
    )
    return inputs, targets


@torch.no_grad()
def evaluate(
    model: MulapForPreTraining,
    dataset: ClipDataset,
    collator: PretrainCollator,
    options: LossOptions,
    batch_size: int = 32,
    retrieval_pool: int = 200,
    num_workers: int = 0,
) -> Evaluation:
    """Evaluate a model on the clips of a data set.

    Args:
        model: moved nowhere; put in eval mode and back.
        dataset: held-out clips.
        collator: hides and swaps with a fixed seed.
        options: which losses, and their weights.
        batch_size: clips at once; captions are swapped within it.
        retrieval_pool: the first that many clips make the pool; 0 leaves retrieval out.
        num_workers: processes that decode.

    Returns:
        Evaluation.
    """
    was_training = model.training
    model.eval()
    try:
        result = _evaluate_pairs(model, dataset, collator, options, batch_size, num_workers)
        pool = range(min(retrieval_pool, len(dataset)))
        if len(pool) > 1:
            items = [dataset[index] for index in pool]
            keys = [caption_key(item.caption) for item in items]
            scores_by_head = score_pool(model, items, collator, batch_size)
            result.pair_accuracy = pair_accuracy(scores_by_head["atm"], keys)
            result.metrics["atm/pair_accuracy"] = float(result.pair_accuracy.mean())
            for head, scores in scores_by_head.items():
                result.ranks[head] = ranks = retrieval_ranks(scores, keys)
                summary = summarize_ranks(ranks)
                result.metrics |= {f"retrieval/{head}/{k}": v for k, v in summary.items()}
    finally:
        model.train(was_training)
    return result


def _batches(
    dataset: ClipDataset, collator: PretrainCollator, batch_size: int, num_workers: int
) -> Iterator[dict[str, Tensor]]:
    context = "fork" if num_workers else None
    yield from DataLoader(
        dataset,
        batch_size,
        collate_fn=collator,
        num_workers=num_workers,
        multiprocessing_context=context,
        # A generator of its own: the loader would otherwise draw from the run's.
        generator=torch.Generator(),
    )


def _evaluate_pairs(
    model: MulapForPreTraining,
    dataset: ClipDataset,
    collator: PretrainCollator,
    options: LossOptions,
    batch_size: int,
    num_workers: int,
) -> Evaluation:
    sums: dict[str, float] = defaultdict(float)
    counts: dict[str, float] = defaultdict(float)
    is_right, features = [], []
    for batch in _batches(dataset, collator, batch_size, num_workers):
        batch = {name: value.to(model.device) for name, value in batch.items()}
        inputs, targets = split_batch(batch)
        outputs = model(**inputs)
        losses = compute_losses(outputs, targets, options)
        for name, count in _loss_counts(outputs, targets, options).items():
            if name in losses:
                sums[name] += float(losses[name]) * count
                counts[name] += count
        is_right.append(((outputs.atm_logits > 0) == targets.atm_labels.bool()).cpu().numpy())
        features.append(outputs.backbone_features.cpu())
    losses = {name: sums[name] / max(counts[name], 1.0) for name in sums}
    total = weighted_sum({name: torch.tensor(loss) for name, loss in losses.items()}, options)
    metrics = {"loss": float(total)} | {f"loss/{name}": loss for name, loss in losses.items()}
    metrics["atm/accuracy"] = float(np.concatenate(is_right).mean())
    metrics["feature_spread"] = feature_spread(torch.cat(features))
    return Evaluation(metrics)


def _loss_counts(
    outputs: MulapForPreTrainingOutput, targets: Targets, options: LossOptions
) -> dict[str, int]:
    """How much each loss of a batch weighs in the mean over batches: what it is the mean of."""
    num_clips = len(targets.atm_labels)
    counts = {"atm": num_clips, "contrastive": num_clips}
    counts["mam"] = int(counted_segments(targets, options).sum())
    if outputs.mlm_clip_index is not None:
        counts["mlm"] = int(counted_words(outputs.mlm_clip_index, targets, options).sum())
    return counts


@torch.no_grad()
def score_pool(
    model: MulapForPreTraining,
    items: Sequence[Item],
    collator: PretrainCollator,
    batch_size: int = 32,
) -> dict[str, Tensor]:
    """Score every clip of a pool against every caption, by each head that can.

    Args:
        model: in eval mode.
        items: the pool, P clips with a caption each.
        collator: its tokenizer and length limit are used; nothing is hidden.
        batch_size: clips or captions at once.

    Returns:
        By head, scores (P clips, P captions).
    """
    tokens = collator.tokenizer(
        [item.caption for item in items],
        truncation=True,
        max_length=collator.max_tokens,
        padding=True,
        return_token_type_ids=False,
        return_tensors="pt",
    ).to(model.device)
    num_segments = max(len(item.input_features) for item in items)
    features = torch.zeros(len(items), num_segments, model.config.audio_config.feature_size)
    is_segment = torch.zeros(len(items), num_segments, dtype=torch.long)
    for row, item in enumerate(items):
        log_mel = torch.from_numpy(item.input_features)[None].to(model.device)
        mask = torch.ones(log_mel.shape[:2], dtype=torch.long, device=model.device)
        features[row, : log_mel.shape[1]] = model.mulap.encode_audio(log_mel, mask)[0].cpu()
        is_segment[row, : log_mel.shape[1]] = 1
    audio_features, is_segment = features.to(model.device), is_segment.to(model.device)
    text_states = torch.cat(
        [
            model.mulap.encode_text(ids, mask)
            for ids, mask in zip(
                tokens.input_ids.split(batch_size),
                tokens.attention_mask.split(batch_size),
                strict=True,
            )
        ]
    )
    scores = {
        "atm": model.score_features(
            audio_features, is_segment, text_states, tokens.attention_mask
        ).cpu()
    }
    if model.config.has_contrastive_head:
        audio = model.mulap.pool_audio(audio_features, is_segment)
        scores["contrastive"] = (audio @ model.mulap.pool_text(text_states).T).cpu()
    return scores


def pair_accuracy(scores: Tensor, caption_keys: Sequence[str]) -> np.ndarray:
    """How often each clip's matches and mismatches are told rightly.

    Args:
        scores: log-odds of a match (P clips, P captions).
        caption_keys: what makes captions equal, one a clip. A caption equal to the clip's own is a
            match.

    Returns:
        float (P,), the mean of the share of matches scored above 0 and of mismatches scored below.
        A clip whose caption all others share has no mismatch; its matches count alone.
    """
    keys = np.asarray(caption_keys)
    is_match = keys[:, None] == keys[None]
    is_above = scores.numpy() > 0
    matches = (is_above & is_match).sum(axis=1) / is_match.sum(axis=1)
    num_mismatches = (~is_match).sum(axis=1)
    mismatches = (~is_above & ~is_match).sum(axis=1) / np.maximum(num_mismatches, 1)
    return np.where(num_mismatches > 0, (matches + mismatches) / 2, matches)


def bootstrap_interval(
    values: np.ndarray, level: float = 0.95, num_draws: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean over tracks.

    Args:
        values: one a track (P,).
        level: of confidence.
        num_draws: resamples.
        seed: of the resamples.

    Returns:
        Lower and upper end.
    """
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(values), size=(num_draws, len(values)))
    tail = (1 - level) / 2
    low, high = np.quantile(values[draws].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def retrieval_ranks(scores: Tensor, caption_keys: Sequence[str]) -> np.ndarray:
    """Rank the right tracks of each caption among all tracks (text to audio).

    Tracks whose captions are equal are all right answers to either; the best-ranked counts. Ties
    count half: a head that gives every pair one score lands in the middle, not on top.

    Args:
        scores: (P clips, P captions).
        caption_keys: what makes captions equal, one a clip.

    Returns:
        float (P,), 1 the best, of each caption.
    """
    values = scores.double().numpy()
    values = np.where(np.isnan(values), -np.inf, values)  # a broken model must not rank first
    keys = np.asarray(caption_keys)
    ranks = np.empty(len(keys))
    for column, key in enumerate(keys):
        is_relevant = keys == key
        best = values[is_relevant, column].max()
        others = values[~is_relevant, column]
        ranks[column] = 1 + (others > best).sum() + 0.5 * (others == best).sum()
    return ranks


def summarize_ranks(ranks: np.ndarray) -> dict[str, float]:
    """Recall at 1, 5 and 10, median rank, and the size of the pool.

    Args:
        ranks: from `retrieval_ranks` (P,).

    Returns:
        Figures by name; chance is k / pool for recall at k, (pool + 1) / 2 for the median rank.
    """
    summary = {f"R@{k}": float((ranks <= k).mean()) for k in RECALL_AT}
    return summary | {"median_rank": float(np.median(ranks)), "pool": float(len(ranks))}
