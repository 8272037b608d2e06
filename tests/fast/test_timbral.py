"""The fused timbral front end against plain torch."""

import copy
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timbral_problems import Block, assert_equal, make, problems, run
from torch import nn

from mulap.fast import timbral
from mulap.fast.timbral import fused_timbral, fused_timbral_available, plain_timbral

pytest.importorskip("numba")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(problems(), st.floats(0.1, 2) | st.floats(-2, -0.1), st.floats(-2, 2))
def test_outputs_gradients_and_statistics_equal_plain_torch(problem, scale, shift):
    expected = run(plain_timbral, *problem, scale, shift)
    assert_equal(run(fused_timbral, *problem, scale, shift), expected, atol=1e-8)


def test_blocks_of_different_width_and_long_inputs_are_handled():
    torch.manual_seed(0)
    problem = make(1, 10, 500, [Block(2, 6, 3), Block(3, 4, 5)])
    assert_equal(run(fused_timbral, *problem), run(plain_timbral, *problem))


def test_scale_and_shift_get_their_gradient():
    """Through the edges, where the padding is no part of the affine map."""
    torch.manual_seed(0)
    problem = make(2, 12, 9, [Block(3, 5)])
    expected, actual = run(plain_timbral, *problem), run(fused_timbral, *problem)
    for name in ("scale", "shift"):
        assert abs(float(expected[name])) > 0.1
        assert float(actual[name]) == pytest.approx(float(expected[name]), rel=1e-9)


@pytest.mark.parametrize("gamma", [-1.5, 0.0])
def test_a_negative_or_zero_norm_weight_is_exact(gamma):
    torch.manual_seed(0)
    problem = make(2, 12, 20, [Block(3, 5), Block(3, 8)])
    for block in problem[1]:
        nn.init.constant_(block.bn.weight, gamma)
    expected = run(plain_timbral, *problem)
    assert all(value.isfinite().all() for value in expected.values())
    assert_equal(run(fused_timbral, *problem), expected)


@pytest.mark.parametrize("value", [0.0, 1.0, 50.0])
def test_constant_input_is_exact(value):
    """All bands tie, but the windows under them are the same."""
    torch.manual_seed(0)
    x_hat, blocks = make(2, 12, 20, [Block(3, 5), Block(3, 8)])
    problem = torch.full_like(x_hat, value), blocks
    assert_equal(run(fused_timbral, *problem), run(plain_timbral, *problem), atol=1e-7)


def test_a_tie_passes_its_gradient_to_one_of_the_tied_bands():
    torch.manual_seed(0)
    block = Block(1, 2, num_taps=1).double()
    with torch.no_grad():
        block.conv.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 1, 2, 1))
        block.bn.weight.fill_(1.0)
        block.bn.bias.fill_(2.0)
    # The first clip ties: the filter sees only the first band of its windows, (1, 1) and (1, 5).
    x_hat = torch.tensor([[[1.0], [1.0], [5.0]], [[0.2], [0.7], [3.0]]], dtype=torch.double)
    blocks = nn.ModuleList([block])
    nudged = x_hat.clone()
    nudged[0, 1] += 1e-9
    first, second = run(plain_timbral, x_hat, blocks), run(plain_timbral, nudged, blocks)
    actual = run(fused_timbral, x_hat, blocks)
    name = "gradient of 0.conv.weight"
    distances = [float((actual[name] - end[name]).abs().max()) for end in (first, second)]
    assert min(distances) < 1e-6 < max(distances)
    assert_equal({"output 0": actual["output 0"]}, {"output 0": first["output 0"]})


@pytest.mark.slow
def test_single_precision_is_close_at_true_size():
    torch.manual_seed(0)
    x_hat, blocks = make(2, 96, 188, [Block(204, 67), Block(204, 38)], torch.float32)
    expected = run(plain_timbral, x_hat.double(), copy.deepcopy(blocks).double())
    actual = run(fused_timbral, x_hat, blocks)
    outputs = {name for name in expected if name.startswith("output") or "running" in name}
    for name in expected:
        if not name.endswith("conv.bias"):
            rtol = 1e-5 if name in outputs else 1e-3  # rounding moves a few near ties
            assert_equal({name: actual[name]}, {name: expected[name]}, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize("norm", [{"momentum": 0.3}, {"momentum": None}, {"eps": 0.1}])
def test_running_statistics_follow_batchnorm_over_several_calls(norm):
    torch.manual_seed(0)
    x_hat, blocks = make(2, 9, 14, [Block(3, 5, **norm)])
    twin = copy.deepcopy(blocks)
    one = torch.ones((), dtype=torch.double)
    for step in range(3):
        fused_timbral(x_hat * (step + 1), one, one, blocks)
        plain_timbral(x_hat * (step + 1), one, one, twin)
    assert int(blocks[0].bn.num_batches_tracked) == 3
    assert_equal(dict(blocks.named_buffers()), dict(twin.named_buffers()), rtol=1e-12)


def test_blocks_without_running_statistics_work():
    torch.manual_seed(0)
    problem = make(2, 9, 14, [Block(3, 5, track_running_stats=False)])
    assert_equal(run(fused_timbral, *problem), run(plain_timbral, *problem))


def test_a_second_call_adds_to_the_gradients():
    torch.manual_seed(0)
    x_hat, blocks = make(2, 9, 14, [Block(3, 5)])
    one = torch.ones((), dtype=torch.double)
    gradients = []
    for _ in range(2):
        fused_timbral(x_hat, one, one, blocks)[0].square().sum().backward()
        gradients.append(blocks[0].conv.weight.grad.clone())
    torch.testing.assert_close(gradients[1], 2 * gradients[0])


def test_without_gradients_the_values_and_statistics_are_the_same():
    torch.manual_seed(0)
    x_hat, blocks = make(2, 9, 14, [Block(3, 5)])
    twin = copy.deepcopy(blocks)
    one = torch.ones((), dtype=torch.double)
    with torch.no_grad():
        (quiet,) = fused_timbral(x_hat, one, one, blocks)
    (traced,) = fused_timbral(x_hat, one, one, twin)
    assert not quiet.requires_grad
    assert torch.equal(quiet, traced)
    assert torch.equal(blocks[0].bn.running_var, twin[0].bn.running_var)


def test_frozen_parameters_get_no_gradient():
    torch.manual_seed(0)
    x_hat, blocks = make(2, 9, 14, [Block(3, 5)])
    blocks[0].conv.weight.requires_grad_(False)
    one = torch.ones((), dtype=torch.double)
    fused_timbral(x_hat, one, one, blocks)[0].sum().backward()
    assert blocks[0].conv.weight.grad is None
    assert blocks[0].bn.bias.grad is not None


def test_two_runs_give_the_same_bits_also_when_several_threads_run_at_once():
    torch.manual_seed(0)
    problem = make(3, 20, 30, [Block(9, 11), Block(9, 5)], torch.float32)
    expected = run(fused_timbral, *problem)
    with ThreadPoolExecutor(4) as pool:
        runs = [pool.submit(run, fused_timbral, *problem) for _ in range(8)]
    for other in runs:
        assert all(torch.equal(expected[name], other.result()[name]) for name in expected)


def test_the_number_of_threads_changes_no_bit_and_is_left_as_it_was():
    torch.manual_seed(0)
    problem = make(9, 50, 60, [Block(40, 31), Block(40, 15)], torch.float32)
    results, before = [], torch.get_num_threads()
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            results.append(run(fused_timbral, *problem))
            assert torch.get_num_threads() == num_threads
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_nan_is_not_hidden():
    torch.manual_seed(0)
    x_hat, blocks = make(2, 9, 14, [Block(3, 5)])
    x_hat[0, 0, 0] = float("nan")
    one = torch.ones((), dtype=torch.double)
    assert fused_timbral(x_hat, one, one, blocks)[0].isnan().all()


def test_inputs_and_blocks_that_cannot_be_fused_are_refused(monkeypatch):
    x_hat, blocks = make(2, 9, 14, [Block(3, 5)])
    assert fused_timbral_available(x_hat, blocks)
    assert not fused_timbral_available(x_hat.half())
    assert not fused_timbral_available(x_hat.to("meta"))
    assert not fused_timbral_available(x_hat.clone().requires_grad_())
    with torch.autocast("cpu"):
        assert not fused_timbral_available(x_hat)
    assert not fused_timbral_available(x_hat, copy.deepcopy(blocks).eval())
    strided = copy.deepcopy(blocks)
    strided[0].conv.stride = (1, 2)
    one = torch.ones((), dtype=torch.double)
    with pytest.raises(ValueError, match="Use plain_timbral"):
        fused_timbral(x_hat, one, one, strided)
    monkeypatch.setattr(timbral, "_load_kernels", dict)  # as without numba
    assert not fused_timbral_available(x_hat, blocks)


@pytest.mark.parametrize("sizes", [(1, 5, 1), (2, 4, 9)])
def test_too_little_input_is_one_clear_error(sizes):
    problem = make(*sizes, [Block(3, 5)])
    with pytest.raises(ValueError, match="per channel, and BatchNorm trains on 2 or more"):
        run(fused_timbral, *problem)


def test_importing_the_model_does_not_import_numba():
    code = "import sys, mulap.fast.timbral; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_a_cache_folder_that_cannot_be_written_only_costs_time():
    code = (
        "from tests.timbral_problems import *\nfrom mulap.fast.timbral import fused_timbral\n"
        "run(fused_timbral, *make(2, 9, 14, [Block(3, 5)]))"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": os.path.join(os.devnull, "cache")}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_overlapping_calls_leave_torch_its_number_of_threads():
    torch.manual_seed(0)
    problem = make(2, 9, 14, [Block(3, 5)])
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: run(fused_timbral, *problem), range(64)))
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == 3
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
