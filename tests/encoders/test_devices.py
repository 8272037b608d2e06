"""Computing on a device: in float32, nothing of it left behind, and one line if it is full."""

import threading

import numpy as np
import pytest
import torch
from tiny import tone

from mulap.encoders.backbones import random_backbone
from mulap.encoders.devices import computing_on
from mulap.encoders.embedder import Embedder
from mulap.model.config import MulapAudioConfig

SMALL = {"num_timbral_filters": 5, "num_temporal_filters": 3, "num_midend_filters": 4}


@pytest.fixture
def embedder():
    """As on another device: the backbone itself embeds."""
    embedder = Embedder(random_backbone(MulapAudioConfig(**SMALL)))
    embedder.frozen = None
    return embedder


def precision_now():
    cudnn = torch.backends.cudnn
    try:
        is_tf32 = cudnn.allow_tf32
    except RuntimeError:
        is_tf32 = "they differ"
    return is_tf32, cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision


@pytest.fixture(params=["TF32", "float32", "apart"])
def precision(request):
    """What the process has: torch's own way, the other one, or convolutions set apart."""
    torch.backends.cudnn.allow_tf32 = request.param != "float32"
    if request.param == "apart":
        torch.backends.cudnn.conv.fp32_precision = "none"
        assert precision_now()[0] == "they differ"
    yield precision_now()
    torch.backends.cudnn.allow_tf32 = True


def test_a_backbone_convolves_in_float32_and_the_process_as_before(
    embedder, precision, monkeypatch
):
    seen, forward = [], embedder.backbone.forward

    def watch(log_mel):
        seen.append(precision_now())
        return forward(log_mel)

    monkeypatch.setattr(embedder.backbone, "forward", watch)
    assert np.isfinite(embedder.embed_waveform(tone(0, 4.0))).all()
    # The setting for all can be read too: torch refuses to where it does not fit the others.
    assert seen == [("they differ" if precision[0] == "they differ" else False, "ieee", "ieee")]
    assert precision_now() == precision


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
        assert precision_now()[1] == "ieee"
    assert precision_now() == precision


def test_a_gpu_without_room_is_one_line(embedder, precision, monkeypatch):
    def full(log_mel):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate 20.00 MiB.")

    monkeypatch.setattr(embedder.backbone, "forward", full)
    with pytest.raises(ValueError, match="its memory is too small.*--device cpu") as caught:
        embedder.embed_waveform(tone(0, 4.0))
    assert "\n" not in str(caught.value)
    assert precision_now() == precision
