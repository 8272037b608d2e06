"""Probes on features made up here: they learn what can be learned, and nothing depends on how the
features are stored or on which other probes are trained."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mulap.probing import probe as probe_module
from mulap.probing.embeddings import TrackFeatures
from mulap.probing.mlp import draw_epoch, take_step
from mulap.probing.probe import ProbeOutcome, train_probe
from mulap.probing.settings import ProbeSettings, expand_grid
from mulap.tasks.metrics import choose_thresholds, decide, headline
from mulap.tasks.task import Example, Fold, Task, TaskData, build_task_data

WIDTH = 6
LABELS = ("a", "b", "c")
SHORT = ProbeSettings(hidden_size=16, batch_size=8, num_epochs=12, learning_rate=0.01, seeds=(0, 1))
SPLITS = {"train": 40, "valid": 20, "test": 21}


def make_task(
    kind: str, is_shuffled: bool = False, seed: int = 0, scale: float = 1.0
) -> tuple[TaskData, TrackFeatures]:
    """Labels that are a linear function of what a track's 1 to 5 segments have in common."""
    random = np.random.default_rng(seed)
    num_tracks = sum(SPLITS.values())
    counts = random.integers(1, 6, num_tracks)
    centres = random.normal(size=(num_tracks, WIDTH))
    vectors = np.repeat(centres, counts, 0) + random.normal(0, 0.1, (counts.sum(), WIDTH))
    values = centres[:, :3]
    if is_shuffled:
        values = random.permutation(values)
    if kind == "numbers":
        targets = [tuple(100 + scale * row) for row in values]
    elif kind == "class":
        targets = [LABELS[index] for index in values.argmax(1)]
    else:
        targets = [tuple(np.array(LABELS)[row > 0]) for row in values]
    splits = [split for split, size in SPLITS.items() for _ in range(size)]
    examples = [
        Example(f"track{index}", f"{index}.wav", target, split)
        for index, (target, split) in enumerate(zip(targets, splits, strict=True))
    ]
    data = build_task_data(Task("toy", "Toy", kind, LABELS), "default", Path("toy"), examples)
    return data, store(vectors.astype(np.float32), counts)


def store(vectors: np.ndarray, counts: np.ndarray, order: np.ndarray | None = None):
    """Put tracks' segments into a file in some order of the tracks."""
    order = np.arange(len(counts)) if order is None else order
    ends = np.cumsum(counts)
    rows = [np.arange(ends[track] - counts[track], ends[track]) for track in order]
    starts = np.empty(len(counts), np.int64)
    starts[order] = np.cumsum(counts[order]) - counts[order]
    return TrackFeatures(vectors[np.concatenate(rows)], starts, counts.astype(np.int64), [])


def score_on_test(data: TaskData, outcome: ProbeOutcome) -> np.ndarray:
    return headline(data.task.kind, outcome.predictions.targets, outcome.predictions.outputs)


def change(features: TrackFeatures, **changes) -> TrackFeatures:
    return dataclasses.replace(features, **changes)


def assert_same(first: ProbeOutcome, second: ProbeOutcome) -> None:
    assert first.settings == second.settings
    assert np.array_equal(first.valid_scores, second.valid_scores)
    assert first.predictions.track_ids == second.predictions.track_ids
    assert np.array_equal(first.predictions.outputs, second.predictions.outputs)
    if first.predictions.decisions is not None:
        assert np.array_equal(first.predictions.decisions, second.predictions.decisions)


@pytest.mark.parametrize(("kind", "least"), [("tags", 0.9), ("class", 0.7), ("numbers", 0.8)])
@pytest.mark.parametrize("hidden_size", [0, 16])
def test_a_probe_learns_what_can_be_learned(kind, least, hidden_size):
    data, features = make_task(kind)
    settings = dataclasses.replace(SHORT, hidden_size=hidden_size, num_epochs=40)
    outcome = train_probe(data, features, [settings])
    assert (score_on_test(data, outcome) > least).all()
    assert outcome.num_used == SPLITS
    assert outcome.predictions.outputs.shape == (2, 21, 3)
    assert outcome.predictions.outputs.dtype == np.float32
    assert outcome.predictions.track_ids == tuple(f"track{index}" for index in range(60, 81))


@pytest.mark.parametrize(("kind", "most"), [("tags", 0.7), ("class", 0.6), ("numbers", 0.1)])
def test_a_probe_stays_at_chance_where_nothing_can_be_learned(kind, most):
    data, features = make_task(kind, is_shuffled=True)
    outcome = train_probe(data, features, [dataclasses.replace(SHORT, num_epochs=40)])
    assert score_on_test(data, outcome).mean() < most


def test_a_negative_r2_still_gives_predictions_of_the_best_epoch():
    data, features = make_task("numbers", is_shuffled=True)
    features = change(features, vectors=1000 * features.vectors)
    outcome = train_probe(data, features, [dataclasses.replace(SHORT, num_epochs=2)])
    assert (outcome.valid_scores < 0).all()
    assert np.isfinite(outcome.predictions.outputs).all()


def test_numbers_come_back_in_the_units_of_the_labels():
    data, features = make_task("numbers", scale=1e-3)
    outcome = train_probe(data, features, [dataclasses.replace(SHORT, num_epochs=40)])
    assert (score_on_test(data, outcome) > 0.8).all()
    assert abs(outcome.predictions.outputs.mean() - 100) < 1e-2


def plain_probe(data: TaskData, features: TrackFeatures, settings: ProbeSettings, seed: int):
    """The protocol as one reads it in the paper, a model at a time: (valid score, test outputs)."""
    torch.manual_seed(seed)
    fold, targets = data.folds[0], torch.as_tensor(data.targets.astype(np.float32))
    model = nn.Sequential(
        nn.Linear(WIDTH, settings.hidden_size), nn.ReLU(), nn.Linear(settings.hidden_size, 3)
    )
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", settings.plateau_factor, settings.plateau_patience, threshold=0
    )

    @torch.no_grad()
    def predict(tracks):
        outputs = []
        for track in tracks:
            start = features.starts[track]
            rows = torch.from_numpy(features.vectors[start : start + features.counts[track]])
            outputs.append(model(rows).sigmoid().mean(0))
        return torch.stack(outputs)[None].numpy()

    best, best_epoch, outputs = -np.inf, 0, None
    for epoch in range(settings.num_epochs):
        draw = draw_epoch(seed, epoch, features.counts[fold.train])
        for batch in np.array_split(
            draw.order, range(settings.batch_size, len(draw.order), settings.batch_size)
        ):
            tracks = fold.train[batch]
            rows = features.starts[tracks] + draw.offsets[batch]
            optimizer.zero_grad()
            logits = model(torch.from_numpy(features.vectors[rows]))
            nn.functional.binary_cross_entropy_with_logits(logits, targets[tracks]).backward()
            optimizer.step()
        score = headline("tags", data.targets[fold.valid], predict(fold.valid))[0]
        if score > best:
            best, best_epoch, outputs = score, epoch, predict(fold.test)[0]
        schedule.step(score)
        if epoch - best_epoch >= settings.stop_patience:
            break
    return best, outputs


def test_a_probe_equals_the_protocol_in_plain_torch_code():
    data, features = make_task("tags")
    settings = dataclasses.replace(
        SHORT, num_epochs=60, plateau_patience=2, stop_patience=10, batch_size=12
    )  # 40 tracks: the last batch has 4
    outcome = train_probe(data, features, [settings])
    with torch.random.fork_rng():
        for index, seed in enumerate(settings.seeds):
            best, outputs = plain_probe(data, features, settings, seed)
            assert outcome.valid_scores[0, 0, index] == pytest.approx(best, abs=1e-9)
            np.testing.assert_allclose(outcome.predictions.outputs[index], outputs, atol=2e-5)


@pytest.mark.parametrize("kind", ["tags", "class", "numbers"])
def test_the_order_of_tracks_in_the_cache_changes_nothing(kind):
    data, features = make_task(kind)
    order = np.random.default_rng(3).permutation(len(data))
    moved = store(features.vectors, features.counts, order)
    assert not np.array_equal(moved.vectors, features.vectors)
    grid = [SHORT, dataclasses.replace(SHORT, standardize=True, dropout=0.5)]
    assert_same(train_probe(data, features, grid), train_probe(data, moved, grid))


def test_a_model_is_the_same_alone_and_with_other_seeds_and_points():
    data, features = make_task("tags")
    grid = expand_grid(
        hidden_size=[0, 16],
        dropout=[0.0, 0.4],
        standardize=[False, True],
        learning_rate=[0.001, 0.01],
        plateau_patience=1,
        stop_patience=[3, 8],
        num_epochs=15,
        batch_size=16,
        seeds=(0, 5),
    )
    together = train_probe(data, features, grid).valid_scores
    assert together.shape == (1, 32, 2)
    assert len(np.unique(together.round(6))) > 20
    for index in (0, 9, 14, 23, 31):
        for place, seed in enumerate((0, 5)):
            alone = dataclasses.replace(grid[index], seeds=(seed,))
            score = train_probe(data, features, [alone]).valid_scores[0, 0, 0]
            assert together[0, index, place] == pytest.approx(score, abs=1e-6)


def test_the_point_that_is_best_on_validation_is_chosen_and_every_score_kept():
    data, features = make_task("class")
    grid = [dataclasses.replace(SHORT, learning_rate=rate) for rate in (1e-6, 1e-2, 1e-5)]
    outcome = train_probe(data, features, grid)
    assert outcome.settings == (grid[1],)
    assert outcome.valid_scores.shape == (1, 3, 2)
    assert outcome.valid_scores[0].mean(1).argmax() == 1
    alone = train_probe(data, features, [grid[1]])
    np.testing.assert_allclose(outcome.predictions.outputs, alone.predictions.outputs, atol=1e-6)
    # Of equals the first.
    assert train_probe(data, features, [SHORT, SHORT]).settings == (SHORT,)


def test_test_labels_are_not_looked_at():
    data, features = make_task("tags")
    wrong = data.targets.copy()
    wrong[data.folds[0].test] = ~wrong[data.folds[0].test]
    grid = [SHORT, dataclasses.replace(SHORT, learning_rate=0.1)]
    changed = train_probe(dataclasses.replace(data, targets=wrong), features, grid)
    assert_same(changed, train_probe(data, features, grid))


def test_decisions_of_tags_come_from_thresholds_chosen_on_validation():
    data, features = make_task("tags")
    swapped = dataclasses.replace(data.folds[0], test=data.folds[0].valid)
    outcome = train_probe(dataclasses.replace(data, folds=[swapped]), features, [SHORT])
    predictions = outcome.predictions
    thresholds = choose_thresholds(predictions.targets, predictions.outputs)
    assert np.array_equal(predictions.decisions, decide(predictions.outputs, thresholds))
    data, features = make_task("class")
    assert train_probe(data, features, [SHORT]).predictions.decisions is None


def test_folds_are_pooled_in_the_order_of_the_examples():
    data, features = make_task("class")
    everything = np.random.default_rng(1).permutation(len(data))
    folds = [
        Fold(f"fold{k}", parts[0], parts[1], parts[2])
        for k in range(3)
        for parts in [np.split(np.roll(everything, 27 * k), [40, 54])]
    ]
    outcome = train_probe(dataclasses.replace(data, folds=folds), features, [SHORT])
    predictions = outcome.predictions
    assert predictions.track_ids == tuple(example.track_id for example in data.examples)
    assert np.array_equal(predictions.targets, data.targets)
    assert len(outcome.settings) == len(outcome.valid_scores) == 3
    assert outcome.num_used == {"train": 120, "valid": 42, "test": 81}
    for fold in folds:
        alone = train_probe(dataclasses.replace(data, folds=[fold]), features, [SHORT])
        outputs = predictions.outputs[:, np.sort(fold.test)]
        assert np.array_equal(outputs, alone.predictions.outputs)


def test_tracks_without_features_are_left_out_and_counted():
    data, features = make_task("tags")
    counts = features.counts.copy()
    counts[[0, 3, 41, 65, 80]] = 0
    outcome = train_probe(data, change(features, counts=counts), [SHORT])
    assert outcome.num_used == {"train": 38, "valid": 19, "test": 19}
    assert "track65" not in outcome.predictions.track_ids
    assert len(outcome.predictions.targets) == 19
    # As if they had never been there.
    kept = np.flatnonzero(counts)
    examples = [data.examples[index] for index in kept]
    smaller = build_task_data(data.task, "default", data.root, examples)
    starts = features.starts[kept]
    alone = train_probe(smaller, change(features, starts=starts, counts=counts[kept]), [SHORT])
    assert_same(outcome, alone)


def watch_steps(monkeypatch, seen: list[torch.Tensor]) -> None:
    """Keep the features of every step."""

    def step(model, optimizer, kind, x, *rest):
        seen.append(x)
        take_step(model, optimizer, kind, x, *rest)

    monkeypatch.setattr(probe_module, "take_step", step)


@pytest.mark.parametrize("batch_size", [1, 39, 40, 64])
def test_every_train_track_is_used_whatever_is_left_for_the_last_batch(batch_size, monkeypatch):
    data, features = make_task("tags")
    seen = []
    watch_steps(monkeypatch, seen)
    settings = dataclasses.replace(SHORT, batch_size=batch_size, num_epochs=1)
    train_probe(data, features, [settings])
    sizes = [batch_size] * (40 // batch_size) + ([40 % batch_size] if 40 % batch_size else [])
    assert [len(x) for x in seen] == 2 * sizes
    owner = np.repeat(np.arange(len(data)), features.counts)
    rows = {vector.tobytes(): track for vector, track in zip(features.vectors, owner, strict=True)}
    for model in range(2):
        batches = seen[model * len(sizes) : (model + 1) * len(sizes)]
        tracks = [rows[vector.numpy().tobytes()] for x in batches for vector in x]
        assert sorted(tracks) == list(range(40))


def test_standardized_features_make_units_and_constant_features_irrelevant():
    data, features = make_task("numbers")
    settings = dataclasses.replace(SHORT, standardize=True, num_epochs=30)
    vectors = features.vectors.astype(np.float64) * [1e-3, 1, 10, 1e3, 1, 1] + [0, 0, 1, -50, 0, 0]
    vectors[:, 4] = 0.1  # constant
    outcome = train_probe(data, change(features, vectors=vectors.astype(np.float32)), [settings])
    assert (score_on_test(data, outcome) > 0.8).all()
    plain = dataclasses.replace(settings, standardize=False)
    outcome = train_probe(data, change(features, vectors=vectors.astype(np.float32)), [plain])
    assert (score_on_test(data, outcome) < 0.8).all()


def test_the_standardization_weighs_train_tracks_alike_and_sees_no_other(monkeypatch):
    data, features = make_task("tags")
    vectors = features.vectors.copy()
    vectors[features.starts[40] :] = 1e6  # valid and test
    seen = []
    watch_steps(monkeypatch, seen)
    settings = dataclasses.replace(SHORT, standardize=True, num_epochs=60, stop_patience=60)
    train_probe(data, change(features, vectors=vectors), [settings])
    rows = torch.cat(seen)  # one random segment a track an epoch: tracks weigh alike in it too
    assert rows.mean(0).abs().max() < 0.02
    assert (rows.std(0) - 1).abs().max() < 0.02


def test_features_that_are_not_numbers_are_refused_in_one_line():
    data, features = make_task("tags")
    vectors = features.vectors.copy()
    vectors[features.starts[47] + features.counts[47] - 1, 2] = np.nan
    with pytest.raises(
        ValueError, match="toy: track 'track47' has embeddings.*not finite"
    ) as caught:
        train_probe(data, change(features, vectors=vectors), [SHORT])
    assert "\n" not in str(caught.value)
    counts = features.counts.copy()
    counts[47] = 0  # a track that is left out may hold anything
    train_probe(data, change(features, vectors=vectors, counts=counts), [SHORT])


def test_a_part_without_features_is_refused_in_one_line():
    data, features = make_task("tags")
    counts = features.counts.copy()
    counts[data.folds[0].valid] = 0
    with pytest.raises(ValueError, match="toy: no track in valid has embeddings"):
        train_probe(data, change(features, counts=counts), [SHORT])


def test_a_probe_that_diverges_loses_against_one_that_does_not_and_alone_is_refused():
    data, features = make_task("numbers")
    wild = dataclasses.replace(SHORT, learning_rate=1e38)
    outcome = train_probe(data, features, [wild, SHORT])
    assert outcome.settings == (SHORT,)
    assert np.isneginf(outcome.valid_scores[0, 0]).all()
    with pytest.raises(ValueError, match="toy: outputs were never finite"):
        train_probe(data, features, [wild])


def follow(monkeypatch, settings: ProbeSettings, scores: list[float]) -> list[str]:
    """Train while validation gives these scores; what became of each epoch."""
    data, features = make_task("tags")
    events, rates = [], []
    step = torch.optim.Adam.step

    def watch(optimizer, *args):
        rates.append(optimizer.param_groups[0]["lr"])
        return step(optimizer, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", watch)
    given = iter(scores)
    monkeypatch.setattr(probe_module, "headline", lambda *args: [next(given)])
    settings = dataclasses.replace(settings, batch_size=64, seeds=(0,))
    outcome = train_probe(data, features, [settings])
    for epoch in range(1, len(rates)):
        events.append("plateau" if rates[epoch] < rates[epoch - 1] else "")
        assert rates[epoch] in (rates[epoch - 1], rates[epoch - 1] * settings.plateau_factor)
    return [*events, f"ended with {outcome.valid_scores[0, 0, 0]}"]


def test_patience_follows_a_sequence_made_by_hand(monkeypatch):
    settings = ProbeSettings(hidden_size=0, plateau_patience=1, stop_patience=4, num_epochs=100)
    scores = [
        -5.0,  # the first is better than none, however bad
        -4.0,
        -4.0,  # equal is not better
        -6.0,  # one epoch is borne, the second is a plateau
        -3.0,
        float("nan"),  # never better
        -3.5,  # a plateau
        -3.5,  # counting starts again after it
        -3.5,  # but the fourth epoch since the best is the last
    ]
    events = ["", "", "", "plateau", "", "", "plateau", "", "ended with -3.0"]
    assert follow(monkeypatch, settings, scores) == events


def test_training_ends_with_the_last_epoch_even_if_it_is_the_best(monkeypatch):
    settings = ProbeSettings(hidden_size=0, num_epochs=3)
    assert follow(monkeypatch, settings, [1.0, 2.0, 3.0]) == ["", "", "ended with 3.0"]


def test_plateaus_are_those_of_torchs_scheduler(monkeypatch):
    scores = np.random.default_rng(0).normal(size=60).cumsum() / 10
    settings = ProbeSettings(hidden_size=0, plateau_patience=3, stop_patience=500, num_epochs=60)
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, "max", factor=0.5, patience=3, threshold=0, eps=0
    )
    expected = []
    for score in scores[:-1]:
        before = optimizer.param_groups[0]["lr"]
        scheduler.step(score)
        expected.append("plateau" if optimizer.param_groups[0]["lr"] < before else "")
    assert "plateau" in expected
    assert follow(monkeypatch, settings, scores.tolist())[:-1] == expected


def test_points_of_a_grid_must_share_their_seeds():
    data, features = make_task("tags")
    with pytest.raises(ValueError, match="different seeds"):
        train_probe(data, features, [SHORT, dataclasses.replace(SHORT, seeds=(3,))])


def test_training_twice_gives_the_same_and_touches_no_global_generator():
    data, features = make_task("class")
    settings = dataclasses.replace(SHORT, dropout=0.3)
    before = torch.random.get_rng_state()
    first = train_probe(data, features, [settings])
    assert torch.equal(before, torch.random.get_rng_state())
    assert_same(first, train_probe(data, features, [settings]))
