"""What only a CUDA device can show: `make gpu`. Everything else about it is tested on the CPU."""

import copy

import numpy as np
import pytest
import torch
from timbral_problems import Block, assert_equal, make, run
from tiny import write_corpus, write_settings

from mulap.encoders.backbones import random_backbone
from mulap.encoders.embedder import Embedder
from mulap.fast.timbral import fused_timbral, kernels_for, plain_timbral
from mulap.fast.timbral_chunks import TORCH_KERNELS
from mulap.model.config import MulapAudioConfig
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings
from mulap.training.pretrain.trainer import MulapTrainer

pytestmark = pytest.mark.gpu
SMALL = {"num_timbral_filters": 3, "num_temporal_filters": 2, "num_midend_filters": 3}


@pytest.mark.parametrize("num_segments", [1, 5])
def test_the_front_end_equals_plain_torch_on_the_cpu_in_double_precision(num_segments):
    torch.manual_seed(0)
    x_hat, blocks = make(num_segments, 24, 40, [Block(3, 17), Block(11, 10), Block(2, 24)])
    expected = run(plain_timbral, x_hat, blocks)
    x_hat = x_hat.cuda()
    assert kernels_for(x_hat) is TORCH_KERNELS
    assert_equal(run(fused_timbral, x_hat, copy.deepcopy(blocks).cuda()), expected)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_gradients_are_as_near_as_those_of_plain_torch_in_the_same_precision(dtype):
    """Where bands nearly tie, less precision passes the gradient to another one, in both."""
    torch.manual_seed(0)
    x_hat, blocks = make(16, 96, 188, [Block(204, 67), Block(204, 38)], torch.float32)
    x_hat, blocks = x_hat.cuda(), blocks.cuda()
    expected = run(plain_timbral, x_hat.double(), copy.deepcopy(blocks).double())
    with (
        torch.backends.cudnn.flags(
            enabled=True, allow_tf32=False
        ),  # plain torch finds no use for it
        torch.autocast("cuda", dtype or torch.bfloat16, enabled=dtype is not None),
    ):
        ours, plain = (run(function, x_hat, blocks) for function in (fused_timbral, plain_timbral))
    for name, value in expected.items():
        if not name.endswith(("conv.bias", "num_batches_tracked")):
            difference, of_plain = (
                float((each[name].double() - value).norm() / value.norm()) for each in (ours, plain)
            )
            assert difference <= 1.5 * of_plain + 1e-3, (name, difference, of_plain)


@pytest.mark.parametrize("is_training", [False, True])
def test_the_backbone_gives_what_it_gives_on_the_cpu(is_training):
    backbone = random_backbone(MulapAudioConfig(**SMALL)).double().train(is_training)
    log_mels = torch.randn(150, 96, 188, dtype=torch.double)  # more than are evaluated at once
    results = []
    for device in ("cpu", "cuda"):
        model = copy.deepcopy(backbone).to(device)
        vectors = model(log_mels.to(device))
        if is_training:
            vectors.square().mean().backward()
            gradients = {name: each.grad.cpu() for name, each in model.named_parameters()}
        else:
            gradients = {}
        kept = {name: each.cpu() for name, each in model.named_buffers()}
        results.append({"vectors": vectors.detach().cpu()} | gradients | kept)
    for name, value in results[0].items():
        if not name.endswith("conv.bias"):
            torch.testing.assert_close(results[1][name], value, rtol=1e-7, atol=1e-9, msg=name)


def test_rows_of_a_gpu_differ_in_their_last_bits_only(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", num_train=2, num_valid=1, seconds=20.0)
    file = next(corpus.glob("*.wav"))
    rows = [Embedder.from_pretrained("musicnn-mtt", device).embed(file).embeddings
            for device in ("cpu", "cuda")]  # fmt: skip
    assert rows[0].shape == rows[1].shape
    assert np.abs(rows[0] - rows[1]).max() <= 1e-4 * np.abs(rows[0]).max()


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_pre_training_goes_on_after_an_interruption_as_if_nothing_had_been(
    tmp_path, monkeypatch, precision
):
    corpus = write_corpus(tmp_path / "corpus", num_train=16, num_valid=4, seconds=6.5)
    sections = {
        "model": {"has_contrastive_head": True},
        "objectives": {"contrastive": 1.0},
        "training": {"precision": precision, "num_epochs": 2, "save_every_steps": 1},
    }
    settings = load_settings(write_settings(tmp_path / "settings.yaml", **sections))
    whole = pretrain(settings, corpus, tmp_path / "whole")
    assert np.isfinite(list(whole.metrics.values())).all()
    compute_loss, calls = MulapTrainer.compute_loss, []

    def compute_until_killed(self, *arguments, **options):
        calls.append(0)
        if len(calls) == 6:  # in the second epoch
            raise KeyboardInterrupt
        return compute_loss(self, *arguments, **options)

    monkeypatch.setattr(MulapTrainer, "compute_loss", compute_until_killed)
    with pytest.raises(KeyboardInterrupt):
        pretrain(settings, corpus, tmp_path / "run")
    report = pretrain(settings, corpus, tmp_path / "run")
    assert len(calls) == 6 + 3  # the last three steps of eight
    for name in ("loss", "loss/mlm", "loss/mam", "loss/atm", "loss/contrastive"):
        # A GPU adds up in no fixed order.
        assert report.metrics[name] == pytest.approx(whole.metrics[name], rel=0.02), name
