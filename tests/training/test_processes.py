"""Processes that train together: they learn what one would, fail together and leave in order.

All that needs two processes runs in one launch (`launched`), each on a machine of its own as far as
it can tell, with the same runs in one process beside it.
"""

import atexit
import json
import os
import socket
import subprocess
import sys
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file
from tiny import write_corpus, write_settings
from torch import distributed

from mulap.configs import find_config
from mulap.model.pretraining import MulapForPreTraining
from mulap.objectives.losses import contrastive_loss
from mulap.training import processes
from mulap.training.pretrain.comparison import evaluate_run
from mulap.training.pretrain.run import pretrain
from mulap.training.pretrain.settings import load_settings
from mulap.training.processes import (
    ALONE,
    FailedTogetherError,
    Processes,
    fail_together,
    tell_of_lost_processes,
)


@pytest.fixture
def group():
    """A group of this process alone."""
    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    if distributed.is_initialized():
        distributed.destroy_process_group()


def test_a_process_leaves_its_group_at_exit_once_however_often_it_asked(group, monkeypatch):
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", lambda f: f in registered and registered.remove(f))
    processes.leave_group_at_exit()
    processes.leave_group_at_exit()
    (leave,) = registered
    leave()
    assert not distributed.is_initialized()
    leave()  # without a group there is nothing to do


@pytest.mark.parametrize(
    ("backend", "fails", "leaves"),
    [("gloo", True, True), ("nccl", True, False), ("nccl", False, True), ("gloo", False, True)],
)
def test_a_process_that_failed_leaves_only_a_group_that_does_not_wait_for_it(
    group, monkeypatch, backend, fails, leaves
):
    registered = []
    monkeypatch.setattr(atexit, "register", registered.append)
    monkeypatch.setattr(atexit, "unregister", lambda f: f in registered and registered.remove(f))
    monkeypatch.setattr(distributed, "get_backend", lambda: backend)
    processes.leave_group_at_exit()
    with suppress(KeyboardInterrupt), tell_of_lost_processes(ALONE):
        if fails:
            raise KeyboardInterrupt
    assert len(registered) == leaves


def test_processes_wait_for_a_slow_one_longer_than_nccl_would(monkeypatch):
    joined = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "PartialState", lambda **kwargs: joined.append(kwargs))
    monkeypatch.setattr(processes, "leave_group_at_exit", lambda: None)
    monkeypatch.setattr(processes, "share_cores", lambda: None)
    processes.join_processes()
    assert joined == [{"cpu": True, "timeout": timedelta(hours=2)}]


def test_alone_nothing_is_exchanged_and_errors_stay_what_they_are():
    rows = torch.eye(2)
    assert ALONE.gather_rows(rows) is rows
    assert ALONE.gather("a") == ["a"]
    assert ALONE.gather_shares([1, 2, 3], 3) == [1, 2, 3]
    assert ALONE.mean(torch.tensor(3)) == 3.0
    with pytest.raises(OSError, match="the disk"), fail_together(ALONE):
        raise OSError("the disk")


def take_part(own: Processes, error: str | None) -> None:
    """Fail, or not, among processes."""
    with fail_together(own):
        if error is not None:
            raise ValueError(error)


@pytest.mark.parametrize(("rank", "message"), [(0, "it is bad"), (2, "process 2: it is bad")])
def test_what_one_process_cannot_do_ends_all_in_its_words(monkeypatch, rank, message):
    told = [None, None, None]
    told[rank] = "it is bad"
    monkeypatch.setattr(Processes, "gather", lambda self, value: told)
    for own in range(3):
        with pytest.raises(FailedTogetherError, match=f"^{message}$"):
            take_part(Processes(own, 3), told[own])


@pytest.mark.parametrize(
    ("given", "num_local", "expected"), [(None, 2, 4), ("1", 3, 2), ("5", 2, None), ("1", 1, None)]
)
def test_the_processes_of_a_machine_share_its_cores_unless_they_are_told(
    monkeypatch, given, num_local, expected
):
    told = []
    monkeypatch.setattr(torch, "set_num_threads", told.append)
    monkeypatch.setattr(processes, "usable_cores", lambda: 8)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(num_local))
    if given is None:
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    else:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    processes.share_cores()
    assert told == ([] if expected is None else [expected])


def test_the_accelerate_config_is_one_that_accelerate_reads():
    config = load_config_from_file(str(find_config("accelerate/two_nodes_ddp")))
    assert not config.use_cpu


def test_fsdp_is_refused_before_processes_join(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")  # as `accelerate launch` does
    with pytest.raises(
        FailedTogetherError, match="FSDP is not supported. Start from `mulap config two_"
    ):
        processes.join_processes()


# Two processes with micro-batches of 2 do what one does with those of 2 (apart) or of 4 (joint).
# A step takes two micro-batches of each, but the last of an epoch. Apart, a head has no loss.
RUNS = {
    "apart": {
        "model": {"has_contrastive_head": True},
        "objectives": {"over_processes": False},
        "training": {"sync_batch_norm": False},
    },
    "joint": {
        "model": {"has_contrastive_head": True, "feature_norm": "batch"},
        "masking": {"atm_negatives": "dataset"},  # swaps that do not depend on the micro-batch
        "objectives": {"contrastive": 1.0},
    },
}
SCRIPT = """
import atexit, json, os, sys
from dataclasses import replace
from pathlib import Path
import torch
from torch import distributed
torch.set_num_threads(1)
folder, rank = Path(sys.argv[1]), int(os.environ["RANK"])


@atexit.register  # before ours, so it runs after it
def tell():
    (folder / f"left-{rank}").write_text(str(not distributed.is_initialized()))


from mulap.data.dataset import ClipDataset
from mulap.objectives.losses import contrastive_loss
from mulap.training.pretrain.run import pretrain
from mulap.training.processes import joined_processes
from mulap.training.pretrain.settings import load_settings

for name in ("apart", "joint"):
    pretrain(load_settings(folder / f"{name}.yaml"), folder / "corpus", folder / f"{name}-two")

# The contrastive loss of rows that all processes have a part of, 2 and 3 captions each.
processes = joined_processes()
torch.manual_seed(0)
audio = torch.randn(4, 5, dtype=torch.double)
text = torch.randn(5, 5, dtype=torch.double)
mine = [audio[2 * rank :][:2].clone(), text[:2].clone() if rank == 0 else text[2:].clone()]
scale = torch.tensor(1.5, dtype=torch.double, requires_grad=True)
for part in mine:
    part.requires_grad_()
logits = scale * processes.gather_rows(mine[0]) @ processes.gather_rows(mine[1]).T
is_same = torch.eye(4, 5, dtype=torch.bool)
is_same[0, 3] = True
loss = contrastive_loss(logits, is_same)
loss.backward()
torch.testing.assert_close(processes.mean(torch.tensor(2 * rank)), torch.tensor(1.0))
told = {"loss": float(loss), "scale": float(scale.grad)}
told |= {"audio": mine[0].grad.tolist(), "text": mine[1].grad.tolist()}
(folder / f"gathered-{rank}.json").write_text(json.dumps(told))

from torch.distributed.distributed_c10d import _get_default_group
waits = _get_default_group()._get_backend(torch.device("cpu")).options._timeout
(folder / f"waits-{rank}").write_text(str(waits))

# A machine that was told another rate.
settings = load_settings(folder / "apart.yaml")
training = replace(settings.training, learning_rate=0.1 + rank)
try:
    pretrain(replace(settings, training=training), folder / "corpus", folder / "differs")
except ValueError as error:
    (folder / f"differs-{rank}").write_text(f"{type(error).__name__}: {error}")

# A track that goes bad for one process, within the second epoch.
read = ClipDataset.__getitem__


def fail_later(self, key):
    if rank == 1 and isinstance(key, tuple) and key[0] == 1:
        raise ValueError("clip-07.wav: has gone bad")
    return read(self, key)


ClipDataset.__getitem__ = fail_later
try:
    pretrain(load_settings(folder / "apart.yaml"), folder / "corpus", folder / "failed")
except ValueError as error:
    (folder / f"failed-{rank}").write_text(f"{type(error).__name__}: {error}")
"""


@pytest.fixture(scope="module")
def launched(tmp_path_factory):
    """A folder in which two processes, and this one alone, have trained."""
    folder = tmp_path_factory.mktemp("processes")
    write_corpus(folder / "corpus", num_train=13, num_valid=5)
    (folder / "run.py").write_text(SCRIPT)
    for name, changes in RUNS.items():
        training = {"batch_size": 8, "micro_batch_size": 2} | changes.get("training", {})
        model = {"dropout": 0.0} | changes.get("model", {})
        changed = changes | {"training": training, "model": model}
        write_settings(folder / f"{name}.yaml", **changed)
        training["micro_batch_size"] = 4 if name == "joint" else 2
        write_settings(folder / f"{name}-one.yaml", **changed)
    port = free_port()
    started = [launch(folder, machine, port) for machine in (0, 1)]
    for name in RUNS:
        settings = load_settings(folder / f"{name}-one.yaml")
        pretrain(settings, folder / "corpus", folder / f"{name}-one")
    for machine, process in enumerate(started):
        assert process.wait(timeout=300) == 0, (folder / f"stderr-{machine}").read_text()[-3000:]
    return folder


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def launch(folder: Path, machine: int, port: int) -> subprocess.Popen:
    """Start one process on one of two machines, which are this one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += [f"--node-rank={machine}", "--master-addr=127.0.0.1", f"--master-port={port}"]
    paths = os.pathsep.join([os.getcwd(), str(Path(__file__).parents[1])])
    with open(folder / f"stderr-{machine}", "w") as stderr:
        return subprocess.Popen(
            [*command, str(folder / "run.py"), str(folder)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths},
            stderr=stderr,
        )


def read_log(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_processes_have_the_losses_of_one(launched, name):
    one, two = (
        [r for r in read_log(launched / f"{name}-{which}") if "loss/mlm" in r]
        for which in ("one", "two")
    )
    assert len(one) == len(two) == 4  # of 13 clips none but the last of an epoch is left out
    for ours, theirs in zip(two, one, strict=True):
        for figure in ("loss", "loss/mlm", "loss/mam", "loss/atm", "atm/accuracy", "grad_norm"):
            assert ours[figure] == pytest.approx(theirs[figure], rel=1e-5, abs=1e-6), figure


@pytest.mark.slow
def test_two_processes_that_share_a_micro_batch_leave_the_weights_of_one(launched):
    one, two = (
        load_file(launched / f"joint-{which}" / "last" / "model.safetensors")
        for which in ("one", "two")
    )
    assert one.keys() == two.keys()
    for name, value in one.items():
        # Gradients of these biases are noise, and a convolution's bias moves the mean after it.
        if not name.endswith(("key.bias", "conv.bias", ".bn.running_mean")):
            torch.testing.assert_close(two[name], value, rtol=1e-3, atol=1e-4, msg=name)
    model = MulapForPreTraining.from_pretrained(launched / "joint-two" / "last")
    assert type(model.mulap.audio_backbone.front_end.spectrogram_bn) is torch.nn.BatchNorm2d


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_what_two_processes_validate_is_what_one_finds(launched, name):
    run = launched / f"{name}-two"
    logged = [r for r in read_log(run) if "valid/loss" in r][-1]
    logged = {key[6:]: value for key, value in logged.items() if key.startswith("valid/")}
    found = evaluate_run(run / "last", launched / "corpus", "valid", with_untrained=False, pool=4)
    assert found.trained.metrics == pytest.approx(logged, rel=1e-5, abs=1e-6)
    assert {"feature_spread", "atm/pair_accuracy", "retrieval/atm/R@1"} <= logged.keys()


@pytest.mark.slow
def test_gathered_rows_have_the_loss_and_gradients_of_one_process(launched):
    torch.manual_seed(0)
    audio = torch.randn(4, 5, dtype=torch.double).requires_grad_()
    text = torch.randn(5, 5, dtype=torch.double).requires_grad_()
    scale = torch.tensor(1.5, dtype=torch.double, requires_grad=True)
    is_same = torch.eye(4, 5, dtype=torch.bool)
    is_same[0, 3] = True
    loss = contrastive_loss(scale * audio @ text.T, is_same)
    loss.backward()
    told = [json.loads((launched / f"gathered-{rank}.json").read_text()) for rank in (0, 1)]
    for each in told:
        assert each["loss"] == pytest.approx(loss.item(), rel=1e-12)
        assert each["scale"] == pytest.approx(scale.grad.item(), rel=1e-12)
    for name, whole in (("audio", audio), ("text", text)):
        # Each process's weights get the sum over its rows; the mean over both follows.
        rows = torch.tensor([row for each in told for row in each[name]], dtype=torch.double)
        torch.testing.assert_close(rows / 2, whole.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.slow
def test_a_process_waits_hours_for_one_that_is_slow(launched):
    assert [(launched / f"waits-{rank}").read_text() for rank in (0, 1)] == ["2:00:00"] * 2


@pytest.mark.slow
def test_what_two_processes_began_one_does_not_go_on_with(launched):
    settings = load_settings(launched / "apart.yaml")
    with pytest.raises(ValueError, match=r"was written by 2 process.es., and there are 1 now"):
        pretrain(settings, launched / "corpus", launched / "apart-two")


@pytest.mark.slow
def test_two_processes_with_other_settings_both_say_so_and_train_nothing(launched):
    for rank in (0, 1):
        told = (launched / f"differs-{rank}").read_text()
        assert told.startswith("FailedTogetherError: process 1: has other settings than process 0")
        assert "training.learning_rate is 1.1 here and 0.1 there" in told
    assert not (launched / "differs").exists()


@pytest.mark.slow
def test_a_process_that_fails_on_the_way_ends_the_other(launched):
    other, failed = ((launched / f"failed-{rank}").read_text() for rank in (0, 1))
    assert failed == "ValueError: clip-07.wav: has gone bad"
    assert other.startswith("FailedTogetherError: process 0 has lost another one")
    assert [(launched / f"left-{rank}").read_text() for rank in (0, 1)] == ["True", "True"]
