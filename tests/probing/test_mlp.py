"""A stack of classifiers learns what each would alone, and what plain torch code learns."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from mulap.probing.mlp import (
    MlpStack,
    Patience,
    draw_epoch,
    forward,
    initial_weights,
    plan_stacks,
    sum_losses,
)
from mulap.probing.settings import PROTOCOLS, ProbeSettings

BASE = ProbeSettings(hidden_size=8)
SIZES = (12, 3)  # D, C
KINDS = ("tags", "class", "numbers")


def make_batch(kind: str, seed: int, num_tracks: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 + seed)
    x = torch.randn((num_tracks, SIZES[0]), generator=generator)
    if kind == "class":
        return x, torch.randint(0, SIZES[1], (num_tracks,), generator=generator)
    targets = torch.randn((num_tracks, SIZES[1]), generator=generator)
    return x, targets if kind == "numbers" else (targets > 0).float()


def run_stack(models, kind: str, num_steps: int = 15) -> list[torch.Tensor]:
    stack = MlpStack(models, *SIZES)
    for step in range(num_steps):
        batches = [make_batch(kind, 100 * step + seed) for seed in stack.alive_seeds.tolist()]
        x, targets = (torch.stack(each) for each in zip(*batches, strict=True))
        uniform = None
        if stack.num_random:
            drawn = [np.random.default_rng([seed, step]) for seed in stack.alive_seeds]
            shape = (x.shape[1], stack.num_random)
            uniform = torch.stack([torch.from_numpy(g.random(shape)).float() for g in drawn])
        stack.step(kind, x, targets, uniform)
    return [weight.detach() for weight in stack.weights]


def run_plain(settings: ProbeSettings, seed: int, kind: str, num_steps: int = 15) -> nn.Sequential:
    """The reference: what anybody would write for one model."""
    torch.manual_seed(seed)
    if settings.hidden_size:
        layers = [nn.Linear(SIZES[0], settings.hidden_size), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(settings.hidden_size, SIZES[1]))
    else:
        model = nn.Sequential(nn.Linear(*SIZES))
    optimizer = torch.optim.Adam(
        model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    loss_of = {
        "tags": nn.BCEWithLogitsLoss(),
        "class": nn.CrossEntropyLoss(),
        "numbers": nn.MSELoss(),
    }[kind]
    for step in range(num_steps):
        x, targets = make_batch(kind, 100 * step + seed)
        optimizer.zero_grad()
        loss_of(model(x), targets).backward()
        optimizer.step()
    return model


def assert_equals_plain(weights: list[torch.Tensor], index: int, model: nn.Sequential) -> None:
    layers = [layer for layer in model if isinstance(layer, nn.Linear)]
    plain = [each for layer in layers for each in (layer.weight.T, layer.bias[None])]
    for stacked, alone in zip(weights, plain, strict=True):
        torch.testing.assert_close(stacked[index], alone.detach(), rtol=1e-5, atol=1e-6)


@pytest.fixture(autouse=True)
def own_random_state():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("hidden_size", [0, 8])
def test_initial_weights_are_those_of_torchs_linear(hidden_size):
    model = run_plain(ProbeSettings(hidden_size=hidden_size), 5, "tags", num_steps=0)
    weights = initial_weights(5, SIZES[0], hidden_size, SIZES[1])
    assert_equals_plain([weight[None] for weight in weights], 0, model)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hidden_size", [0, 8])
def test_each_model_of_a_stack_equals_plain_torch_code(kind, hidden_size):
    points = [
        dataclasses.replace(BASE, hidden_size=hidden_size, learning_rate=rate, weight_decay=decay)
        for rate, decay in ((1e-3, 0.01), (1e-2, 0.0), (3e-3, 0.3))
    ]
    models = [(point, seed) for point in points for seed in (0, 4)]
    weights = run_stack(models, kind)
    for index, (settings, seed) in enumerate(models):
        assert_equals_plain(weights, index, run_plain(settings, seed, kind))


@pytest.mark.parametrize("hidden_size", [0, 8])
def test_each_model_of_a_stack_with_dropout_equals_itself_alone(hidden_size):
    points = [dataclasses.replace(BASE, hidden_size=hidden_size, dropout=p) for p in (0, 0.5, 0.2)]
    models = [(point, seed) for point in points for seed in (1, 2)]
    together = run_stack(models, "tags")
    for index, model in enumerate(models):
        for stacked, alone in zip(together, run_stack([model], "tags"), strict=True):
            torch.testing.assert_close(stacked[index], alone[0], rtol=1e-6, atol=1e-7)


def test_dropout_is_on_the_input_and_the_hidden_layer_and_never_on_logits():
    weights = [weight[None] for weight in initial_weights(0, 12, 8, 3)]
    x = torch.randn((1, 5, 12), generator=torch.Generator().manual_seed(0))
    uniform = torch.rand((1, 5, 20), generator=torch.Generator().manual_seed(1))
    dropout = torch.full((1, 1, 1), 0.25)
    kept = (uniform >= 0.25) / 0.75
    hidden = torch.relu((x * kept[..., :12])[0] @ weights[0][0] + weights[1][0])
    expected = (hidden * kept[0, :, 12:]) @ weights[2][0] + weights[3][0]
    torch.testing.assert_close(forward(weights, x, dropout, uniform)[0], expected)
    # With everything dropped that can be, logits are the last bias, not 0.
    nothing = forward(weights, x, dropout, torch.zeros((1, 5, 20)))
    torch.testing.assert_close(nothing[0], weights[3][0].expand(5, -1))


def test_the_loss_of_one_model_is_the_usual_mean():
    logits = torch.randn((2, 7, 3), generator=torch.Generator().manual_seed(0))
    targets = (torch.randn((2, 7, 3), generator=torch.Generator().manual_seed(1)) > 0).float()
    for kind, loss in (("tags", nn.BCEWithLogitsLoss()), ("numbers", nn.MSELoss())):
        expected = loss(logits[0], targets[0]) + loss(logits[1], targets[1])
        torch.testing.assert_close(sum_losses(kind, logits, targets), expected)
    positions = targets.argmax(2)
    expected = sum(nn.CrossEntropyLoss()(logits[k], positions[k]) for k in range(2))
    torch.testing.assert_close(sum_losses("class", logits, positions), expected)


def test_a_model_that_diverges_does_not_touch_its_neighbours():
    wild = dataclasses.replace(BASE, learning_rate=1e38)
    weights = run_stack([(BASE, 0), (wild, 1)], "numbers")
    assert not torch.isfinite(weights[0][1]).all()
    assert_equals_plain(weights, 0, run_plain(BASE, 0, "numbers"))


def test_taking_models_out_leaves_the_others_as_they_would_be():
    models = [(BASE, 0), (dataclasses.replace(BASE, learning_rate=0.01), 1), (BASE, 2)]
    stack = MlpStack(models, *SIZES)
    for step in range(15):
        batches = [make_batch("tags", 100 * step + seed) for seed in stack.alive_seeds.tolist()]
        x, targets = (torch.stack(each) for each in zip(*batches, strict=True))
        stack.step("tags", x, targets, None)
        if step == 4:
            stack.drop(np.array([True, False, False]))
        if step == 9:
            stack.drop(np.array([False, True]))
            assert stack.alive.tolist() == [1]
            assert stack.weights[0].shape == (1, 12, 8)
    assert_equals_plain([w.detach() for w in stack.weights], 0, run_plain(*models[1], "tags"))
    stack.drop(np.array([True]))
    assert len(stack.alive) == 0


def test_the_best_weights_are_a_copy_and_a_lowered_rate_stays_low_after_a_drop():
    stack = MlpStack([(BASE, seed) for seed in range(3)], *SIZES)
    initial = [weight.clone() for weight in stack.best]
    x, targets = make_batch("tags", 0)
    together = (x.expand(3, -1, -1), targets.expand(3, -1, -1))
    stack.drop(np.array([True, False, False]))
    stack.step("tags", together[0][:2], together[1][:2], None)
    stack.remember(np.array([False, True]))
    reached = stack.weights[0][1].detach().clone()
    stack.lower(np.array([1.0, 0.5]))
    stack.drop(np.array([True, False]))
    stack.step("tags", together[0][:1], together[1][:1], None)
    assert torch.equal(stack.best[0][2], reached)
    assert torch.equal(stack.best[0][:2], initial[0][:2])
    # Adam's step is at most about the learning rate.
    moved = (stack.weights[0][0].detach() - reached).abs().max()
    assert 0.6e-3 > moved > 0.3e-3


def test_an_epoch_depends_on_seed_and_epoch_alone():
    counts = np.array([1, 5, 3, 9, 2])
    first, again = draw_epoch(3, 7, counts), draw_epoch(3, 7, counts)
    assert np.array_equal(first.order, again.order)
    assert np.array_equal(first.offsets, again.offsets)
    assert torch.equal(
        torch.rand(9, generator=first.dropout), torch.rand(9, generator=again.dropout)
    )
    assert sorted(first.order.tolist()) == [0, 1, 2, 3, 4]
    others = [draw_epoch(3, epoch, counts) for epoch in range(100)]
    assert len({tuple(other.order) for other in others}) > 20
    offsets = np.stack([other.offsets for other in others])
    assert (offsets.min(0) == 0).all()
    assert (offsets.max(0) == counts - 1).all()


def test_stacks_hold_points_of_one_shape_and_no_more_than_memory_allows():
    grid = PROTOCOLS["jukemir"]
    stacks = plan_stacks(grid, 1506, 50)
    assert sorted(point for stack in stacks for point in stack) == list(range(len(grid)))
    for stack in stacks:
        assert len({(grid[point].hidden_size, grid[point].standardize) for point in stack}) == 1
        sizes = [(grid[point].hidden_size or 50) * 1506 * 3 for point in stack]
        assert len(stack) == 1 or sum(sizes) <= 2**25
    assert [len(stack) for stack in plan_stacks(grid, 2**23, 50)] == [1] * len(grid)


def test_patience_follows_a_sequence_made_by_hand():
    settings = ProbeSettings(plateau_patience=1, stop_patience=4, num_epochs=100)
    patience = Patience([settings])
    sequence = [
        (-5.0, "better"),  # the first is better than none, however bad
        (-4.0, "better"),
        (-4.0, ""),  # equal is not better
        (-6.0, "plateau"),  # one epoch is borne, the second is a plateau
        (-3.0, "better"),
        (float("nan"), ""),  # never better
        (-3.5, "plateau"),
        (-3.5, ""),  # counting starts again after a plateau
        (-3.5, "plateau finished"),  # but the fourth epoch since the best is the last
    ]
    for score, expected in sequence:
        is_better, is_plateau, is_finished = patience.update(np.array([0]), np.array([score]))
        flags = {"better": is_better, "plateau": is_plateau, "finished": is_finished}
        assert " ".join(name for name, flag in flags.items() if flag[0]) == expected
    assert patience.best.tolist() == [-3.0]


def test_training_ends_with_the_last_epoch_even_if_it_is_the_best():
    patience = Patience([ProbeSettings(num_epochs=2), ProbeSettings(num_epochs=3)])
    assert patience.update(np.arange(2), np.array([1.0, 1.0]))[2].tolist() == [False, False]
    assert patience.update(np.arange(2), np.array([2.0, 2.0]))[2].tolist() == [True, False]
    assert patience.update(np.array([1]), np.array([3.0]))[2].tolist() == [True]
    assert patience.best.tolist() == [2.0, 3.0]


def test_plateaus_are_those_of_torchs_scheduler():
    scores = np.random.default_rng(0).normal(size=(120, 3)).cumsum(0) / 10
    points = [ProbeSettings(plateau_patience=wait, stop_patience=500) for wait in (0, 3, 10)]
    patience, rates = Patience(points), np.full(3, 1e-3)
    optimizers = [torch.optim.SGD([torch.zeros(1)], lr=1e-3) for _ in points]
    schedulers = [
        torch.optim.lr_scheduler.ReduceLROnPlateau(
            optimizer, "max", factor=0.5, patience=point.plateau_patience, threshold=0, eps=0
        )
        for optimizer, point in zip(optimizers, points, strict=True)
    ]
    for row in scores:
        rates *= np.where(patience.update(np.arange(3), row)[1], 0.5, 1.0)
        for scheduler, score in zip(schedulers, row, strict=True):
            scheduler.step(score)
        assert rates.tolist() == [each.param_groups[0]["lr"] for each in optimizers]
    assert (rates < 1e-3).all()
