"""Computing on a device: in float32, nothing of it left behind, and one line if it is full."""

import threading

import numpy as np
import pytest
import torch
from tiny import tone

from mulap.inference.backbones import random_backbone
from mulap.inference.devices import computing_on
from mulap.inference.embedder import Embedder
from mulap.model.config import MulapAudioConfig

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}


@pytest.fixture
def embedder():
    """As on another device: the backbone itself embeds."""
    embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))
    embedder.frozen = None
    return embedder


@pytest.fixture(params=["tf32", "none"])
def precision(request):
    """What the process has convolutions at."""
    before = torch.backends.cudnn.conv.fp32_precision
    torch.backends.cudnn.conv.fp32_precision = request.param
    yield request.param
    torch.backends.cudnn.conv.fp32_precision = before


def test_a_backbone_convolves_in_float32_and_the_process_as_before(
    embedder, precision, monkeypatch
):
    seen, forward = [], embedder.backbone.forward

    def watch(log_mel):
        seen.append(torch.backends.cudnn.conv.fp32_precision)
        return forward(log_mel)

    monkeypatch.setattr(embedder.backbone, "forward", watch)
    assert np.isfinite(embedder.embed_waveform(tone(0, 4.0))).all()
    assert seen == ["ieee"]
    assert torch.backends.cudnn.conv.fp32_precision == precision


def test_a_thread_that_ends_first_leaves_the_others_their_float32(precision):
    is_first_in, is_second_in = threading.Event(), threading.Event()

    def first():
        with computing_on("cuda"):
            is_first_in.set()
            is_second_in.wait()

    thread = threading.Thread(target=first)
    thread.start()
    is_first_in.wait()
    with computing_on("cuda"):
        is_second_in.set()
        thread.join()
        assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cudnn.conv.fp32_precision == precision


def test_a_gpu_without_room_is_one_line(embedder, precision, monkeypatch):
    def full(log_mel):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 MiB.")

    monkeypatch.setattr(embedder.backbone, "forward", full)
    with pytest.raises(ValueError, match="its memory is too small .*--device cpu") as caught:
        embedder.embed_waveform(tone(0, 4.0))
    assert "\n" not in str(caught.value)
    assert torch.backends.cudnn.conv.fp32_precision == precision
