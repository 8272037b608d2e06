"""FSDP on two processes: it trains as they do without it, in bf16 too.

Accelerate parts weights among accelerators only, so it is told that CPU processes are some; bf16 is
allowed to them.
"""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
import yaml
from launched import Launched
from tiny import make_batch, make_model, write_corpus, write_settings
from torch import Tensor

from mulap.configs import find_config
from mulap.training.loop import KeyedTrainer


@contextmanager
def autocast():
    with torch.autocast("cpu", torch.bfloat16):
        yield


def test_under_fsdp_bf16_is_left_to_autocast_and_log_mels_and_outputs_stay_float32():
    model, batch, seen = make_model(), make_batch(), {}

    def look(name):
        return lambda module, given, output: seen.update({name: (given[0].dtype, output.dtype)})

    model.mulap.audio_backbone.register_forward_hook(look("log-mels"))
    model.mulap.coattention.blocks[0].audio.attention.query.register_forward_hook(look("states"))
    plugin = SimpleNamespace(mixed_precision_policy="everything in bf16")
    trainer = KeyedTrainer.__new__(KeyedTrainer)
    trainer.model = model
    trainer.accelerator = SimpleNamespace(
        autocast=autocast, state=SimpleNamespace(fsdp_plugin=plugin)
    )
    trainer._compute_as_without_fsdp()
    outputs = [model(**batch) for _ in range(2)][-1]  # more than once
    assert plugin.mixed_precision_policy is None
    assert seen["log-mels"][0] == torch.float32
    assert seen["states"][1] == torch.bfloat16
    told = [value for value in vars(outputs).values() if isinstance(value, Tensor)]
    assert {value.dtype for value in told if value.is_floating_point()} == {torch.float32}


SCRIPT = """
import os, sys
import torch
torch.set_num_threads(1)
from accelerate import PartialState
from accelerate.utils import DistributedType
from mulap.training import loop, trainer
from mulap.training.pretrain import pretrain
from mulap.training.processes import join_processes
from mulap.training.settings import load_settings

settings, corpus, folder = sys.argv[1:]
common_arguments, prepare = loop.common_arguments, PartialState._prepare_backend
trainer.common_arguments = lambda *given: common_arguments(*given) | {"bf16": True}
join_processes()
os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
pretrain(load_settings(settings), corpus, f"{folder}/ddp")
PartialState._prepare_backend = lambda *given: (prepare(*given)[0], DistributedType.MULTI_GPU)
os.environ["ACCELERATE_USE_FSDP"] = "true"
pretrain(load_settings(settings), corpus, f"{folder}/fsdp")
"""


@pytest.mark.slow
def test_fsdp_in_bf16_trains_as_two_processes_without_it(tmp_path, monkeypatch):
    config = yaml.safe_load(find_config("accelerate/fsdp").read_text())
    for name, value in config["fsdp_config"].items():  # as `accelerate launch` does
        name = name.upper().replace("TRANSFORMER_LAYER_CLS", "TRANSFORMER_CLS")
        monkeypatch.setenv(name, str(value))
    settings = write_settings(
        tmp_path / "settings.yaml",
        model={"dropout": 0.0},
        training={"batch_size": 8, "micro_batch_size": 2},
    )
    corpus = write_corpus(tmp_path / "corpus", 13, 4)
    ended = Launched(SCRIPT, tmp_path, settings, corpus, tmp_path).wait()
    assert ended.code == 0, ended.err
    logs = []
    for name in ("ddp", "fsdp"):
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        logs.append([record for record in map(json.loads, lines) if "loss/mlm" in record])
        assert (tmp_path / name / "best" / "model.safetensors").is_file()
    assert len(logs[0]) == len(logs[1]) == 4
    for ddp, fsdp in zip(*logs, strict=True):
        for figure in ("loss", "loss/mlm", "loss/mam", "loss/atm", "grad_norm"):
            # In float32, or by accelerate's own policy, they differ by 1e-3 and more.
            assert fsdp[figure] == pytest.approx(ddp[figure], rel=2e-5), figure
