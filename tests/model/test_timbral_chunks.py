"""The timbral front end in chunks against plain torch."""

import functools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timbral_problems import Block, assert_equal, make, problems, run
from torch import nn

from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnBackbone
from mulap.model.timbral import plain_timbral
from mulap.model.timbral_chunks import chunked_timbral

chunked = functools.partial(chunked_timbral, segments_at_once=2)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(problems(), st.floats(0.1, 2) | st.floats(-2, -0.1), st.floats(-2, 2), st.integers(1, 3))
def test_outputs_gradients_and_statistics_equal_plain_torch(problem, scale, shift, at_once):
    expected = run(plain_timbral, *problem, scale, shift)
    function = functools.partial(chunked_timbral, segments_at_once=at_once)
    assert_equal(run(function, *problem, scale, shift), expected, atol=1e-8)


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
    with torch.autocast("cpu", torch.bfloat16):
        actual = run(chunked, *problem)
    assert actual["output 0"].dtype == torch.bfloat16
    assert actual["gradient of 0.conv.weight"].dtype == torch.float32
    assert_equal({"output 0": actual["output 0"]}, {"output 0": expected["output 0"]}, rtol=0.02)


@pytest.mark.parametrize("is_on_gpu", [True, False])
def test_the_backbone_takes_it_where_the_fused_way_cannot_run(monkeypatch, is_on_gpu):
    """On a GPU; there is none, so the question for one is answered here."""
    calls = []
    monkeypatch.setattr("mulap.model.musicnn.fused_timbral_available", lambda *_: False)
    monkeypatch.setattr("mulap.model.musicnn.is_on_gpu", lambda _: is_on_gpu)
    monkeypatch.setattr(
        "mulap.model.musicnn.chunked_timbral", lambda *given: calls.append(0) or chunked(*given)
    )
    actual, expected = run_backbone(is_fused=True), run_backbone(is_fused=False)
    assert len(calls) == is_on_gpu
    assert_equal(actual, expected)


def test_under_autocast_the_backbone_convolves_in_its_precision_as_without_it(monkeypatch):
    monkeypatch.setattr("mulap.model.musicnn.is_on_gpu", lambda _: True)
    given, dtypes = [], []

    def watched(x_hat, *args):
        outputs = chunked(x_hat, *args)
        given.append(x_hat.dtype)
        dtypes.extend(each.dtype for each in outputs)
        return outputs

    monkeypatch.setattr("mulap.model.musicnn.chunked_timbral", watched)
    torch.manual_seed(0)
    backbone = MusicnnBackbone(MulapAudioConfig(num_mel_bins=12)).train()
    with torch.autocast("cpu", torch.bfloat16):
        backbone(torch.randn(3, 12, 9))
    assert given == [torch.float32]  # log-mels lose too much in less
    assert dtypes == [torch.bfloat16] * 2


def run_backbone(is_fused):
    torch.manual_seed(0)
    sizes = {"num_timbral_filters": 3, "num_temporal_filters": 2, "num_midend_filters": 3}
    backbone = MusicnnBackbone(MulapAudioConfig(num_mel_bins=12, **sizes)).double().train()
    backbone.front_end.is_fused = is_fused
    generator = torch.Generator().manual_seed(1)
    y = backbone(torch.randn((5, 12, 9), generator=generator, dtype=torch.double))
    y.square().sum().backward()
    gradients = {name: each.grad for name, each in backbone.named_parameters()}
    biases = {name for name in gradients if name.endswith("conv.bias")}  # rounding noise
    kept = {name: each for name, each in gradients.items() if name not in biases}
    return {"output": y.detach()} | kept | dict(backbone.named_buffers())
