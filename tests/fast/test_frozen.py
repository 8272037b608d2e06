"""`FrozenBackbone`: the plain network's vectors, whatever the sizes, weights and threads."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from mulap.encoders.backbones import random_backbone
from mulap.fast import frozen
from mulap.fast.frozen import FrozenBackbone, is_freezable
from mulap.model.config import MulapAudioConfig

VARIANTS = ["port", "original"]
# mel bins, timbral, temporal and mid-end filters, frames: fewer and more than what is worked on at
# a time, multiples of it and not, a tile of frames and less.
SIZES = {
    "true size": (96, 204, 51, 64, 188),
    "odd": (31, 13, 5, 3, 45),
    "more than true": (128, 25, 9, 3, 300),
    "smallest": (5, 1, 1, 1, 7),
    "whole tiles": (16, 24, 2, 4, 33),
}


def make_backbone(variant, size=(16, 13, 5, 3, 40), seed=0, num_towers=1):
    """A backbone whose BatchNorm has seen much; half of its factors are negative, one is 0."""
    names = ("num_mel_bins", "num_timbral_filters", "num_temporal_filters", "num_midend_filters")
    sizes = dict(zip(names, size, strict=False))
    config = MulapAudioConfig(variant=variant, num_towers=num_towers, **sizes)
    backbone, generator = random_backbone(config, seed).eval(), torch.Generator().manual_seed(seed)
    for norm in backbone.modules():
        if isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d):
            with torch.no_grad():
                norm.running_mean.normal_(generator=generator)
                norm.running_var.uniform_(0.3, 3, generator=generator)
                norm.weight.normal_(generator=generator)
                norm.bias.normal_(generator=generator)
                norm.weight[-1] *= len(norm.weight) < 2
    return backbone


def make_log_mels(size, num_segments=3, seed=1):
    shape = (num_segments, size[0], size[-1])
    return np.random.default_rng(seed).normal(-20, 12, shape).astype(np.float32)


def plain_vectors(backbone, log_mels):
    """What the backbone gives in double precision."""
    with torch.no_grad():
        vectors = backbone.double()(torch.from_numpy(log_mels).double()).numpy()
    backbone.float()
    return vectors


def assert_equal_up_to_rounding(vectors, expected):
    np.testing.assert_allclose(vectors, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
def test_the_vectors_are_the_plain_networks(variant, size):
    backbone, log_mels = make_backbone(variant, size), make_log_mels(size)
    vectors = FrozenBackbone(backbone)(log_mels)
    assert vectors.shape == (3, backbone.config.feature_size)
    assert vectors.dtype == np.float32
    assert_equal_up_to_rounding(vectors, plain_vectors(backbone, log_mels))


@pytest.mark.parametrize("variant", VARIANTS)
def test_towers_stand_side_by_side(variant):
    backbone, log_mels = make_backbone(variant, num_towers=3), make_log_mels((16, 40))
    vectors = FrozenBackbone(backbone)(log_mels)
    assert vectors.shape == (3, backbone.config.feature_size)
    assert_equal_up_to_rounding(vectors, plain_vectors(backbone, log_mels))


def test_where_the_scale_is_negative_the_lowest_band_counts():
    size = (16, 4, 3, 2, 20)
    backbone = make_backbone("original", size)
    for block in [*backbone.front_end.timbral, *(b.block for b in backbone.front_end.temporal)]:
        block.bn.weight.data.fill_(-1.5)
    log_mels = make_log_mels(size)
    expected = plain_vectors(backbone, log_mels)
    assert_equal_up_to_rounding(FrozenBackbone(backbone)(log_mels), expected)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_segment_has_the_same_bits_beside_any_others_in_any_thread(variant):
    size = (16, 13, 5, 3, 40)
    network, log_mels = FrozenBackbone(make_backbone(variant)), make_log_mels(size, 12)
    together = network(log_mels)
    alone = [network(log_mel[None].copy())[0] for log_mel in log_mels]
    np.testing.assert_array_equal(together, alone)
    with ThreadPoolExecutor(3) as pool:
        for again in pool.map(network, [log_mels] * 12):
            np.testing.assert_array_equal(again, together)


def test_torchs_threads_change_no_bit_and_are_as_many_as_before():
    network, log_mels = FrozenBackbone(make_backbone("port")), make_log_mels((16, 40))
    before = torch.get_num_threads()
    results = []
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            results.append(network(log_mels))
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_calls_with_other_lengths_in_between_leave_nothing_behind():
    network = FrozenBackbone(make_backbone("original"))
    first, longer = make_log_mels((16, 40)), make_log_mels((16, 61))
    before = network(first)
    assert_equal_up_to_rounding(network(longer), plain_vectors(make_backbone("original"), longer))
    np.testing.assert_array_equal(network(first), before)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_stays_so_and_does_not_reach_the_next_segment(variant, value):
    network, log_mels = FrozenBackbone(make_backbone(variant)), make_log_mels((16, 40))
    expected = network(log_mels)
    log_mels[1, 3, 20] = value
    vectors = network(log_mels)
    assert not np.isfinite(vectors[1]).all()
    np.testing.assert_array_equal(vectors[[0, 2]], expected[[0, 2]])


def test_the_backbone_is_neither_changed_nor_needed_any_more():
    backbone, log_mels = make_backbone("port"), make_log_mels((16, 40))
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    network = FrozenBackbone(backbone)
    vectors = network(log_mels)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name
        value.zero_()
    np.testing.assert_array_equal(network(log_mels), vectors)


def test_buffers_are_used_again(monkeypatch):
    network, log_mels = FrozenBackbone(make_backbone("port")), make_log_mels((16, 40))
    network(log_mels)
    monkeypatch.setattr(frozen, "_Buffers", None)  # no more of them can be made
    network(log_mels)


def test_what_is_not_in_float32_is_not_freezable():
    backbone = make_backbone("port")
    assert is_freezable(backbone)
    assert not is_freezable(backbone.half())
    assert not is_freezable(backbone.double())
    assert not is_freezable(make_backbone("port").to("meta"))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_copy_of_one_that_has_embedded_gives_the_same_vectors(variant):
    used, log_mels = FrozenBackbone(make_backbone(variant)), make_log_mels(SIZES["odd"])[:, :16]
    expected = used(log_mels)
    for copied in (pickle.loads(pickle.dumps(used)), copy.deepcopy(used)):
        np.testing.assert_array_equal(copied(log_mels), expected)
