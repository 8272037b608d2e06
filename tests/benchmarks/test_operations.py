"""What the hot paths do, counted instead of timed: who makes one heavier sees it here.

Counted are arithmetic (multiplications and additions of products and convolutions), torch's
operators, memory that an operator asks for anew (slow at its first touch), and calls of compiled
kernels. The numbers below are what the paths did when they were last made lighter. A failure says
the new number: write it here, and in the commit why it is worth it.

Networks are of full size where that is quick (embedding), tiny where it is not (training).
"""

from collections import Counter

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.authors import pad_captions, plain_backbone
from benchmarks.problems import collate, make_captions, make_clips, make_model
from mulap.encoders.embedder import Embedder
from mulap.fast import timbral
from mulap.fast.front_end import fuse_front_end
from mulap.objectives.losses import LossOptions, compute_losses, weighted_sum
from mulap.training.pretrain.evaluate import split_batch

# One segment, log-mel to vector.
EMBEDDING = {
    "random": {"mflop": 576.4, "operators": 391, "fresh_kib": 318.5},
    "musicnn-mtt": {"mflop": 1031.0, "operators": 568, "fresh_kib": 2717.0},
}
# Ten segments, samples to log-mels.
LOG_MEL = {"mflop": 92.8, "operators": 31, "fresh_kib": 19322.0}
# Forward pass of a tiny model on four clips of two segments, by its parts.
FORWARD_KFLOP = {
    "audio_backbone": 44783.0,
    "text_encoder": 571.65,
    "coattention": 875.52,
    "mlm_head": 48.576,
}
# The same, forward and backward, in all.
STEP = {"operators": 1742, "fresh_kib": 39618.0}
KERNEL_CALLS = {"shift_products": 1, "sum_windows": 2, "maximise_correlation": 2, "add_windows": 2}

ALLOWED = {"operators": 0.1, "fresh_kib": 0.1}  # they change a little with torch's version
NUM_CLIPS, NUM_SEGMENTS = 4, 2


class Watch(TorchDispatchMode):
    """Counts operators, and the bytes of results that lie in no argument."""

    def __init__(self):
        super().__init__()
        self.operators = self.fresh_bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        known = {_place(each) for each in tree_leaves((args, kwargs)) if torch.is_tensor(each)}
        for each in tree_leaves(result):
            if torch.is_tensor(each) and _place(each) not in known:
                known.add(_place(each))
                self.fresh_bytes += each.untyped_storage().nbytes()
        return result


def _place(tensor):
    return tensor.untyped_storage().data_ptr()


def count(run):
    """Run once to warm up, then once to count."""
    run()
    with Watch() as watch, FlopCounterMode(display=False) as flops:
        run()
    return {
        "mflop": flops.get_total_flops() / 1e6,
        "operators": watch.operators,
        "fresh_kib": watch.fresh_bytes / 1024,
    }


def check_as_light(what, counted, expected):
    """Fail where something differs from what is written, in either direction."""
    changed = []
    for name, was in expected.items():
        change = counted.get(name, 0) / was - 1
        if abs(change) > ALLOWED.get(name, 0.01):
            direction = "heavier" if change > 0 else "lighter"
            changed.append(f"{what} became {direction}: {name} is {counted.get(name, 0):.5g}, ")
            changed[-1] += f"was {was:.5g} ({change:+.0%})"
    if changed:
        changed.append(f"If that is meant, write the new numbers at the head of {__file__}")
        pytest.fail("\n".join(changed), pytrace=False)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def batch():
    """A collated batch, as pre-training makes it; log-mels are random, which changes no count."""
    log_mels = np.random.default_rng(0).standard_normal((NUM_CLIPS, NUM_SEGMENTS, 96, 188), "f")
    return collate(list(log_mels), make_captions(NUM_CLIPS, is_toy=True), is_toy=True)


@pytest.mark.parametrize("encoder", sorted(EMBEDDING))
def test_embedding_a_segment_takes_no_more_operations_than_it_did(encoder):
    embedder = Embedder.from_pretrained(encoder)
    extractor = embedder.feature_extractor
    log_mel = np.ones((1, extractor.num_mel_bins, extractor.num_frames), np.float32)
    counted = count(lambda: list(embedder.stream_rows([log_mel])))
    check_as_light(f"embedding a segment by {encoder}", counted, EMBEDDING[encoder])


def test_embedding_takes_a_fraction_of_the_plain_networks_operations():
    backbone = plain_backbone()
    with torch.no_grad():
        plain = count(lambda: backbone(torch.ones(1, 96, 188)))
    assert plain["mflop"] > 3.5 * EMBEDDING["random"]["mflop"]
    assert plain["fresh_kib"] > 50 * EMBEDDING["random"]["fresh_kib"]


def test_log_mels_take_no_more_operations_than_they_did():
    extractor = Embedder.from_pretrained("random").feature_extractor
    segments = make_clips(1, 10)[0].numpy()
    check_as_light("the log-mel", count(lambda: extractor.log_mel(segments)), LOG_MEL)


def count_forward(model, batch):
    """Return the thousands of operations of each part in a forward pass, and the losses' sum."""
    with FlopCounterMode(display=False, depth=3) as flops:
        inputs, targets = split_batch(batch)
        losses = compute_losses(model(**inputs), targets, LossOptions())
    found = {
        name.rpartition(".")[2]: sum(counts.values()) / 1e3
        for name, counts in flops.get_flop_counts().items()
        if name.rpartition(".")[2] in FORWARD_KFLOP
    }
    return found, weighted_sum(losses, LossOptions())


def count_kernels(monkeypatch, run):
    """Return how often each compiled kernel of the fused front end is called."""
    calls, kernels = Counter(), timbral._load_kernels()

    def counted(name):
        def call(*args):
            calls[name] += 1
            return kernels[name](*args)

        return call

    monkeypatch.setattr(timbral, "_load_kernels", lambda: {name: counted(name) for name in kernels})
    run()
    return dict(calls)


def test_a_training_step_takes_no_more_operations_than_it_did(batch, monkeypatch):
    model = make_model(is_toy=True).train()

    def step():
        model.zero_grad()
        count_forward(model, batch)[1].backward()

    check_as_light("a training step", count(step), STEP)
    found, _ = count_forward(model, batch)
    check_as_light("a part of the training step", found, FORWARD_KFLOP)
    calls = count_kernels(monkeypatch, step)
    check_as_light("the fused front end", calls, KERNEL_CALLS)


def pad_all(model, batch):
    return batch | pad_captions(batch)


def score_every_word(model, batch):
    labels = torch.where(batch["attention_mask"].bool(), batch["input_ids"], -100)
    return batch | {"mlm_labels": labels}


def leave_front_end_plain(model, batch):
    fuse_front_end(model, False)
    return batch


@pytest.mark.parametrize(
    ("make_heavier", "part"),
    [
        (pad_all, "text_encoder"),
        (pad_all, "coattention"),
        (score_every_word, "mlm_head"),
        (leave_front_end_plain, "audio_backbone"),
    ],
)
def test_the_guard_sees_a_heavier_step(make_heavier, part, batch):
    model = make_model(is_toy=True).train()
    found, _ = count_forward(model, make_heavier(model, dict(batch)))
    assert found[part] > 1.2 * FORWARD_KFLOP[part]
    with pytest.raises(pytest.fail.Exception, match=f"became heavier: {part} is"):
        check_as_light("a step", {part: found[part]}, {part: FORWARD_KFLOP[part]})
