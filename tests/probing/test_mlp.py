"""A classifier learns what plain torch code learns, and its randomness is of its seed alone."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from mulap.probing.mlp import Mlp, draw_epoch, take_step
from mulap.probing.settings import ProbeSettings

BASE = ProbeSettings(hidden_size=8)
SIZES = (12, 3)  # D, C


def make_batch(kind: str, seed: int, num_tracks: int = 9) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1000 + seed)
    x = torch.randn((num_tracks, SIZES[0]), generator=generator)
    if kind == "class":
        return x, torch.randint(0, SIZES[1], (num_tracks,), generator=generator)
    targets = torch.randn((num_tracks, SIZES[1]), generator=generator)
    return x, targets if kind == "numbers" else (targets > 0).float()


def make_optimizer(settings: ProbeSettings, model: nn.Module) -> torch.optim.Adam:
    decay = settings.weight_decay
    return torch.optim.Adam(model.parameters(), lr=settings.learning_rate, weight_decay=decay)


def plain_model(settings: ProbeSettings, seed: int) -> nn.Sequential:
    """The reference: what anybody would write."""
    torch.manual_seed(seed)
    if not settings.hidden_size:
        return nn.Sequential(nn.Linear(*SIZES))
    layers = [nn.Linear(SIZES[0], settings.hidden_size), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(settings.hidden_size, SIZES[1]))


def assert_same_weights(ours: nn.Module, plain: nn.Module) -> None:
    for mine, theirs in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


@pytest.fixture(autouse=True)
def own_random_state():
    with torch.random.fork_rng():
        yield


@pytest.mark.parametrize("hidden_size", [0, 8])
def test_initial_weights_are_those_of_torchs_linear_and_no_global_state_is_touched(hidden_size):
    settings = dataclasses.replace(BASE, hidden_size=hidden_size)
    before = torch.random.get_rng_state()
    model = Mlp(settings, 5, *SIZES)
    assert torch.equal(before, torch.random.get_rng_state())
    assert_same_weights(model, plain_model(settings, 5))


@pytest.mark.parametrize("kind", ["tags", "class", "numbers"])
@pytest.mark.parametrize("hidden_size", [0, 8])
def test_steps_equal_plain_torch_code(kind, hidden_size):
    settings = dataclasses.replace(
        BASE, hidden_size=hidden_size, learning_rate=3e-3, weight_decay=0.1
    )
    model, plain = Mlp(settings, 4, *SIZES), plain_model(settings, 4)
    ours, theirs = make_optimizer(settings, model), make_optimizer(settings, plain)
    loss_of = {
        "tags": nn.BCEWithLogitsLoss(),
        "class": nn.CrossEntropyLoss(),
        "numbers": nn.MSELoss(),
    }[kind]
    for step in range(15):
        x, targets = make_batch(kind, step)
        take_step(model, ours, kind, x, targets, None)
        theirs.zero_grad()
        loss_of(plain(x), targets).backward()
        theirs.step()
    assert_same_weights(model, plain)


def test_dropout_is_on_the_input_and_the_hidden_layer_and_never_on_logits():
    model = Mlp(dataclasses.replace(BASE, dropout=0.25), 0, *SIZES)
    assert model.num_random == 20
    x = torch.randn((5, 12), generator=torch.Generator().manual_seed(0))
    uniform = torch.rand((5, 20), generator=torch.Generator().manual_seed(1))
    kept = (uniform >= 0.25) / 0.75
    first, second = model.layers
    expected = second(torch.relu(first(x * kept[:, :12])) * kept[:, 12:])
    torch.testing.assert_close(model(x, uniform), expected)
    # With everything dropped that can be, logits are the last bias, not 0.
    torch.testing.assert_close(model(x, torch.zeros((5, 20))), second.bias.expand(5, -1))
    assert Mlp(BASE, 0, *SIZES).num_random == 0


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
