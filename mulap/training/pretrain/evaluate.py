"""How well a model does on held-out tracks: each loss, matching accuracy, retrieval.

Order, masks and swaps are those of epoch 0 under a fixed seed, so two evaluations of one model are
equal and those of two models comparable. Matching is measured twice: `atm/accuracy` on pairs
swapped and masked as in training, one per clip; and `atm/pair_accuracy` on every pair of a pool,
nothing masked, a clip's own caption weighing as much as all others together. Chance is a half for
both. Retrieval (`retrieval`) ranks that pool, and its figures carry the name of the head that
ranked.

Neighbours in a manifest are often cuts of one track. Batches are therefore taken in a permuted
order, and the pool has one clip per group (track, album or artist: what the split keeps together)
where no other number is asked for.

Several processes share whole batches and whole clips, so their figures are those of one process.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from mulap.cores import start_method
from mulap.data.captions import caption_key
from mulap.data.collator import PretrainCollator
from mulap.data.dataset import ClipDataset, Item, as_it_is
from mulap.data.splits import fold_group
from mulap.model.pretraining import MulapForPreTraining, MulapForPreTrainingOutput
from mulap.objectives.losses import (
    LossOptions,
    Targets,
    compute_losses,
    counted_segments,
    counted_words,
    weighted_sum,
)
from mulap.objectives.masking import keyed_generator
from mulap.training.pretrain.retrieval import (
    chance_of_ranks,
    pair_accuracy,
    retrieval_ranks,
    right_pairs,
    summarize_ranks,
)
from mulap.training.processes import ALONE, Processes

EVALUATION_SEED = 0


@dataclass
class Evaluation:
    """What one evaluation found.

    Attributes:
        metrics: figures by name, as `loss/mlm`, `atm/accuracy`, `retrieval/atm/R@1`, and what
            random scores would give, `retrieval/chance/R@1`.
        pair_accuracy: of each clip of the pool (P,).
        ranks: by head, the rank of each caption's own clip in the pool, 1 the best (C,); by
            HEAD/to_text, the rank of each clip's own caption (P,).
        groups: of the clips of the pool, from 0 (P,).
        caption_groups: of the captions asked for (C,); with one per clip, as `groups`.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    pair_accuracy: np.ndarray = field(default_factory=lambda: np.empty(0))
    ranks: dict[str, np.ndarray] = field(default_factory=dict)
    groups: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    caption_groups: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def groups_of(self, head: str) -> np.ndarray:
        """Return the groups of what is ranked by a name of `ranks`."""
        return self.groups if head.endswith("/to_text") else self.caption_groups


def split_batch(batch: dict[str, Tensor]) -> tuple[dict[str, Tensor], Targets]:
    """Part a collated batch into the model's inputs and the losses' targets."""
    inputs = dict(batch)
    targets = Targets(
        atm_labels=inputs.pop("atm_labels"),
        audio_attention_mask=batch["audio_attention_mask"],
        is_masked_segment=batch["is_masked_segment"],
        clip_hash=batch["caption_hash"][: len(batch["audio_attention_mask"])],
        caption_hash=inputs.pop("caption_hash"),
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
    processes: Processes = ALONE,
    per_group: int = 1,
    asks_all: bool = False,
) -> Evaluation:
    """Evaluate a model on the clips of a data set.

    Args:
        model: moved nowhere; put in eval mode and back.
        dataset: held-out clips.
        collator: masks and swaps with a fixed seed.
        options: which losses, and their weights.
        batch_size: clips at once; captions are swapped within it.
        retrieval_pool: most clips of the pool; 0 leaves retrieval out.
        num_workers: processes that decode.
        processes: that share the batches and the pool's clips; each gets all figures, which are
            those that one process finds.
        per_group: most clips of one group in the pool.
        asks_all: ask for every caption of each clip of the pool, not for one.

    Returns:
        Evaluation.
    """
    order = keyed_generator(EVALUATION_SEED, 0, 0, "order").permutation(len(dataset)).tolist()
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    was_training = model.training
    model.eval()
    try:
        result = _evaluate_pairs(model, dataset, batches, collator, options, num_workers, processes)
        pool = choose_pool(dataset, order, retrieval_pool, per_group)
        groups = [fold_group(dataset.clips[index].group) for index in pool]
        result.groups = result.caption_groups = np.unique(groups, return_inverse=True)[1]
        if len(pool) > 1:
            share = pool[processes.rank :: processes.count]
            items = _read_items(dataset, share or pool[:1], num_workers)
            captions = [dataset.clips[index].captions for index in pool]
            heads = {"captions_at_once": batch_size, "fuses": options.needs_coattention}
            _evaluate_pool(model, items, captions, asks_all, collator, processes, result, **heads)
    finally:
        model.train(was_training)
    return result


def choose_pool(
    dataset: ClipDataset, order: Sequence[int], size: int, per_group: int = 1
) -> list[int]:
    """Choose the clips among which pairs and retrieval are measured.

    Args:
        dataset: whose clips have groups.
        order: of its indices; the first clips of a group in it are taken.
        size: most clips.
        per_group: most clips of one group.

    Returns:
        Indices, in that order; fewer than `size` where there are no more.
    """
    counts = Counter[str]()
    chosen = []
    for index in order:
        if len(chosen) >= size:
            break
        group = fold_group(dataset.clips[index].group)
        if counts[group] < per_group:
            counts[group] += 1
            chosen.append(index)
    return chosen


@dataclass
class _Batch:
    """What the figures of all batches are made of.

    Attributes:
        losses: by objective, the mean and of how many.
        is_right: bool (P,), whether each pair was told rightly; empty without co-attention.
        num_segments: of the batch.
        feature_sum: over its segments, float64 (A,).
        feature_square: mean over features of the sum of squares over segments.
    """

    losses: dict[str, tuple[float, int]]
    is_right: np.ndarray
    num_segments: int
    feature_sum: np.ndarray
    feature_square: float


def _evaluate_pairs(
    model: MulapForPreTraining,
    dataset: ClipDataset,
    all_batches: list[list[int]],
    collator: PretrainCollator,
    options: LossOptions,
    num_workers: int,
    processes: Processes,
) -> Evaluation:
    loader = DataLoader(
        dataset,
        batch_sampler=all_batches[processes.rank :: processes.count],
        collate_fn=collator,
        num_workers=num_workers,
        multiprocessing_context=start_method() if num_workers else None,
        # A generator of its own: the loader would otherwise draw from the run's.
        generator=torch.Generator(),
    )
    own = [_evaluate_batch(model, batch, options) for batch in loader]
    batches = processes.gather_shares(own, len(all_batches))
    losses = {}
    for name in batches[0].losses:
        values, counts = np.array([batch.losses[name] for batch in batches]).T
        losses[name] = float((values * counts).sum() / max(counts.sum(), 1.0))
    total = weighted_sum({name: torch.tensor(loss) for name, loss in losses.items()}, options)
    metrics = {"loss": float(total)} | {f"loss/{name}": loss for name, loss in losses.items()}
    is_right = np.concatenate([batch.is_right for batch in batches])
    if len(is_right):
        metrics["atm/accuracy"] = float(is_right.mean())
    metrics["feature_spread"] = _spread(batches)
    return Evaluation(metrics)


def _evaluate_batch(
    model: MulapForPreTraining, batch: dict[str, Tensor], options: LossOptions
) -> _Batch:
    batch = {name: value.to(model.device) for name, value in batch.items()}
    inputs, targets = split_batch(batch)
    outputs = model(**inputs, fuses=options.needs_coattention)
    losses = compute_losses(outputs, targets, options)
    counts = _loss_counts(outputs, targets, options)
    features = outputs.backbone_features.double().cpu().numpy()
    is_right = torch.empty(0)
    if options.needs_coattention:
        is_right = (outputs.atm_logits > 0) == targets.atm_labels.bool()
    return _Batch(
        losses={name: (float(loss), counts[name]) for name, loss in losses.items()},
        is_right=is_right.cpu().numpy(),
        num_segments=len(features),
        feature_sum=features.sum(0),
        feature_square=float(np.square(features).sum(0).mean()),
    )


def _spread(batches: Sequence[_Batch]) -> float:
    """Return `feature_spread` of the segments of all batches."""
    num_segments = sum(batch.num_segments for batch in batches)
    mean_square = sum(batch.feature_square for batch in batches) / num_segments
    means = np.sum([batch.feature_sum for batch in batches], axis=0) / num_segments
    if mean_square == 0:
        return 0.0
    return float(np.sqrt(max(0.0, 1 - np.square(means).mean() / mean_square)))


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


def _read_items(dataset: ClipDataset, indices: Sequence[int], num_workers: int) -> list[Item]:
    """Read some clips of a data set, in order."""
    loader = DataLoader(
        dataset,
        batch_size=None,
        sampler=indices,
        collate_fn=as_it_is,
        num_workers=num_workers,
        multiprocessing_context=start_method() if num_workers else None,
        generator=torch.Generator(),
    )
    return list(loader)


def _evaluate_pool(
    model: MulapForPreTraining,
    items: Sequence[Item],
    captions: Sequence[Sequence[str]],
    asks_all: bool,
    collator: PretrainCollator,
    processes: Processes,
    result: Evaluation,
    **options: Any,
) -> None:
    """Add what is measured among all pairs of a pool; each process scores a share of the clips.

    `items` is this process's share `pool[rank::count]`; one that has none gives any one clip.
    `captions` are all of each clip of the pool; of each, its item's is asked for, or every one. The
    options are those of `MulapForPreTraining.pairs`.
    """
    pool_size = len(captions)
    share_size = len(range(processes.rank, pool_size, processes.count))
    if asks_all:
        asked = [caption for of_clip in captions for caption in of_clip]
        result.caption_groups = np.repeat(result.groups, [len(of_clip) for of_clip in captions])
    else:
        asked = processes.gather_shares([item.caption for item in items][:share_size], pool_size)
    own_keys = [{*map(caption_key, of_clip)} for of_clip in captions]
    is_right = right_pairs(own_keys, [caption_key(caption) for caption in asked])
    clips = [torch.from_numpy(item.input_features) for item in items]
    tokens = collator.tokenize(asked, padding=True, return_tensors="pt")
    texts = tokens.input_ids, tokens.attention_mask
    scores_by_head = {}
    for head, scores in model.pairs(clips, *texts, **options).items():
        rows = processes.gather_shares(list(scores.cpu().numpy())[:share_size], pool_size)
        scores_by_head[head] = torch.from_numpy(np.stack(rows))
    if "atm" in scores_by_head:
        result.pair_accuracy = pair_accuracy(scores_by_head["atm"], is_right)
        result.metrics["atm/pair_accuracy"] = float(result.pair_accuracy.mean())
    for head, scores in scores_by_head.items():
        result.ranks[head] = retrieval_ranks(scores, is_right)
        result.ranks[f"{head}/to_text"] = retrieval_ranks(scores.T, is_right.T)
    for name, ranks in result.ranks.items():
        summary = summarize_ranks(ranks, len(asked) if name.endswith("/to_text") else pool_size)
        result.metrics |= {f"retrieval/{name}/{k}": v for k, v in summary.items()}
    result.metrics |= {f"retrieval/chance/{k}": v for k, v in chance_of_ranks(is_right).items()}
