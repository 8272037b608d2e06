"""Two processes with statistics in common against one process with the whole batch."""

import copy
from unittest import mock

import pytest
import torch
from torch import distributed, multiprocessing, nn

from mulap.fast.front_end import fuse_front_end
from mulap.fast.sync_batch_norm import (
    SyncBatchNorm1d,
    SyncBatchNorm2d,
    convert_sync_batch_norm,
    is_synchronised,
)
from mulap.fast.timbral import kernels_for
from mulap.fast.timbral_chunks import TORCH_KERNELS
from mulap.model.config import MulapAudioConfig
from mulap.model.musicnn import MusicnnBackbone

SHARES = slice(0, 2), slice(2, 5)  # uneven


def make_layers() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(1, 3, 2),
        nn.BatchNorm2d(3, momentum=None),
        nn.ReLU(),
        nn.Flatten(2),
        nn.BatchNorm1d(3, eps=0.1),
        nn.Flatten(1),
        nn.BatchNorm1d(36, affine=False, track_running_stats=False),
    ).double()
    nn.init.normal_(layers[1].weight)
    return layers


def make_backbone(is_fused: bool) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"num_timbral_filters": 3, "num_temporal_filters": 2, "num_midend_filters": 3}
    backbone = MusicnnBackbone(MulapAudioConfig(num_mel_bins=12, **sizes)).double().train()
    return fuse_front_end(backbone, is_fused)


CASES = {
    "layers": (make_layers, (5, 1, 5, 4)),
    "plain backbone": (lambda: make_backbone(False), (5, 12, 9)),
    "fused backbone": (lambda: make_backbone(True), (5, 12, 9)),
    "backbone in chunks": (lambda: make_backbone(True), (5, 12, 9)),
}


def run(name: str, share: slice, is_shared: bool) -> dict[str, torch.Tensor]:
    """Outputs, gradients and buffers after two steps with a share of the batch."""
    make, shape = CASES[name]
    model = make()
    if is_shared:
        model = convert_sync_batch_norm(model)
    generator = torch.Generator().manual_seed(1)
    x = torch.randn((2, *shape), generator=generator, dtype=torch.double) * 2 + 0.5
    in_chunks = name == "backbone in chunks"  # as on a GPU
    kernels = TORCH_KERNELS if in_chunks else kernels_for(x)
    with mock.patch("mulap.fast.timbral.kernels_for", return_value=kernels):
        for step in x:
            y = model(step[share])
    direction = torch.randn((shape[0], y.shape[1]), generator=generator, dtype=torch.double)
    (y * direction[share]).sum().backward()
    results = {"output": y.detach()}
    results |= {name: parameter.grad for name, parameter in model.named_parameters()}
    return results | {f"buffer {name}": buffer for name, buffer in model.named_buffers()}


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    store = distributed.FileStore(f"{folder}/store", 2)
    distributed.init_process_group("gloo", store=store, rank=rank, world_size=2)
    results = {name: run(name, SHARES[rank], is_shared=True) for name in CASES}
    lone = SyncBatchNorm1d(2).train()
    results["is waited for"] = is_synchronised(lone) and not is_synchronised(lone.eval())
    distributed.destroy_process_group()
    torch.save(results, f"{folder}/{rank}.pt")


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    pytest.importorskip("numba")
    folder = tmp_path_factory.mktemp("ranks")
    multiprocessing.spawn(work, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_equal_one_with_the_whole_batch(ranks, name):
    expected = run(name, slice(None), is_shared=False)
    first, second = (rank[name] for rank in ranks)
    assert first.keys() == expected.keys()
    for key, value in expected.items():
        if key == "output":
            actual = torch.cat([first[key], second[key]])
        elif key.startswith("buffer"):
            assert torch.equal(first[key], second[key])
            actual = first[key]
        else:  # each process has its share of the gradient
            actual = first[key] + second[key]
        torch.testing.assert_close(actual, value, rtol=1e-9, atol=1e-10, msg=key)


@pytest.mark.slow
def test_only_a_training_pass_waits_for_the_other_process(ranks):
    assert all(rank["is waited for"] for rank in ranks)


def test_conversion_keeps_names_parameters_and_buffers():
    backbone = make_backbone(False)
    before = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    assert convert_sync_batch_norm(convert_sync_batch_norm(backbone)) is backbone
    after = dict(backbone.named_parameters()) | dict(backbone.named_buffers())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)
    kinds = {type(module) for module in backbone.modules()}
    assert {SyncBatchNorm1d, SyncBatchNorm2d} <= kinds
    assert not {nn.BatchNorm1d, nn.BatchNorm2d} & kinds


def test_outside_of_a_group_it_is_the_batchnorm_that_it_was():
    layers = make_layers()
    converted = convert_sync_batch_norm(copy.deepcopy(layers))
    x = torch.randn((4, 1, 5, 4), generator=torch.Generator().manual_seed(0), dtype=torch.double)
    assert torch.equal(layers(x), converted(x))
    assert torch.equal(layers.eval()(x), converted.eval()(x))
