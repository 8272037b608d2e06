"""The fused timbral front end by torch's kernels, as on a GPU, against plain torch."""

import functools
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timbral_problems import Block, assert_equal, make, problems, run
from torch import nn

from mulap.fast import timbral_chunks
from mulap.fast.front_end import fuse_front_end
from mulap.fast.timbral import fused_timbral, plain_timbral
from mulap.fast.timbral_chunks import TORCH_KERNELS
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnBackbone

chunked = functools.partial(fused_timbral, kernels=TORCH_KERNELS)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(problems(), st.floats(0.1, 2) | st.floats(-2, -0.1), st.floats(-2, 2), st.integers(1, 9_999))
def test_outputs_gradients_and_statistics_equal_plain_torch(problem, scale, shift, at_once):
    expected = run(plain_timbral, *problem, scale, shift)
    with mock.patch.object(timbral_chunks, "VALUES_AT_ONCE", at_once):
        assert_equal(run(chunked, *problem, scale, shift), expected, atol=1e-8)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 9), st.integers(1, 12), st.integers(0, 99), st.data())
def test_moments_are_those_of_the_compiled_kernels(num_taps, num_bands, seed, data):
    compiled = pytest.importorskip("mulap.fast.timbral_kernels").KERNELS
    generator, width = torch.Generator().manual_seed(seed), num_bands + 1
    draw = functools.partial(torch.randn, generator=generator, dtype=torch.double)
    products, edges = draw(width, num_taps, width), draw((num_taps - 1, width) * 2)
    products[:, 0] += products[:, 0].T.clone()  # as moments are
    edges = edges + edges.permute(2, 3, 0, 1)
    second = TORCH_KERNELS["shift_products"](products, edges)
    torch.testing.assert_close(second, compiled["shift_products"](products, edges))
    height = data.draw(st.integers(1, num_bands))
    expected = compiled["sum_windows"](second, height)
    torch.testing.assert_close(TORCH_KERNELS["sum_windows"](second, height), expected)


@pytest.mark.parametrize("gamma", [-1.5, 0.0])
def test_a_negative_or_zero_norm_weight_is_exact(gamma):
    torch.manual_seed(0)
    problem = make(3, 12, 20, [Block(3, 5), Block(3, 8)])
    for block in problem[1]:
        nn.init.constant_(block.bn.weight, gamma)
    assert_equal(run(chunked, *problem), run(plain_timbral, *problem))


@pytest.mark.parametrize(
    "norm", [{"momentum": 0.3}, {"momentum": None}, {"track_running_stats": False}]
)
def test_running_statistics_move_once_as_batchnorm_s_do(norm):
    torch.manual_seed(0)
    problem = make(5, 9, 14, [Block(3, 5, bias=True, **norm)])
    actual = run(chunked, *problem)
    assert actual.get("0.bn.num_batches_tracked", 1) == 1
    assert_equal(actual, run(plain_timbral, *problem))


def test_nan_is_not_hidden():
    torch.manual_seed(0)
    x_hat, blocks = make(3, 9, 14, [Block(3, 5)])
    x_hat[0, 0, 0] = float("nan")
    one = torch.ones((), dtype=torch.double)
    assert chunked(x_hat, one, one, blocks)[0].isnan().all()


def test_under_autocast_it_is_as_near_as_the_precision_allows():
    torch.manual_seed(0)
    problem = make(3, 12, 20, [Block(3, 5)], torch.float32)
    expected = run(plain_timbral, *problem)
    with torch.autocast("cpu", torch.bfloat16), on_a_gpu():
        actual = run(chunked, *problem)
    assert actual["output 0"].dtype == torch.bfloat16
    assert actual["gradient of 0.conv.weight"].dtype == torch.float32
    kept = {name: value for name, value in actual.items() if "running" in name}
    assert_equal(kept, {name: expected[name] for name in kept}, rtol=1e-6)  # in full precision
    assert_equal({"output 0": actual["output 0"]}, {"output 0": expected["output 0"]}, rtol=0.02)
    for name in ("0.conv.weight", "0.bn.weight", "0.bn.bias"):
        ours, plain = (each[f"gradient of {name}"] for each in (actual, expected))
        assert (ours - plain).norm() <= 0.1 * plain.norm()


def on_a_gpu():
    """There is none, so the question for its kernels is answered here."""
    return mock.patch("mulap.fast.timbral.kernels_for", return_value=TORCH_KERNELS)


def test_the_backbone_takes_them_where_the_compiled_ones_cannot_run():
    with on_a_gpu(), mock.patch.dict(TORCH_KERNELS) as kernels:
        calls = []
        add_windows = kernels["add_windows"]
        kernels["add_windows"] = lambda *given: calls.append(0) or add_windows(*given)
        actual = run_backbone(is_fused=True)
        assert len(calls) == 2
        expected = run_backbone(is_fused=False)
    assert_equal(actual, expected)


def test_under_autocast_the_backbone_convolves_in_its_precision_as_without_it(monkeypatch):
    given, dtypes = [], []

    def watched(x_hat, *args):
        outputs = fused_timbral(x_hat, *args)
        given.append(x_hat.dtype)
        dtypes.extend(each.dtype for each in outputs)
        return outputs

    monkeypatch.setattr("mulap.fast.front_end.fused_timbral", watched)
    torch.manual_seed(0)
    backbone = fuse_front_end(MusicnnBackbone(MulapAudioConfig(num_mel_bins=12)).train())
    with torch.autocast("cpu", torch.bfloat16), on_a_gpu():
        backbone(torch.randn(3, 12, 9))
    assert given == [torch.float32]  # log-mels lose too much in less
    assert dtypes == [torch.bfloat16] * 2


def run_backbone(is_fused):
    torch.manual_seed(0)
    sizes = {"num_timbral_filters": 3, "num_temporal_filters": 2, "num_midend_filters": 3}
    backbone = MusicnnBackbone(MulapAudioConfig(num_mel_bins=12, **sizes)).double().train()
    fuse_front_end(backbone, is_fused)
    generator = torch.Generator().manual_seed(1)
    y = backbone(torch.randn((5, 12, 9), generator=generator, dtype=torch.double))
    y.square().sum().backward()
    gradients = {name: each.grad for name, each in backbone.named_parameters()}
    biases = {name for name in gradients if name.endswith("conv.bias")}  # rounding noise
    kept = {name: each for name, each in gradients.items() if name not in biases}
    return {"output": y.detach()} | kept | dict(backbone.named_buffers())
