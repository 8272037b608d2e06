"""Pre-training on one GPU: the fused front end against plain torch, and what of the GPU is used.

    python -m benchmarks.gpu                  # on a large GPU, about two minutes
    python -m benchmarks.gpu --toy            # does it still run? on the CPU, seconds

A step is forward, losses, backward, clipping and AdamW on log-mels that are on the GPU already; the
two ways take turns, figures are medians of rounds. *Plain* differs in the front end alone. Memory
is the most that torch's allocator had handed out. Operations are those of plain torch, counted; the
fused front end does fewer, so its share of the peak is one of useful work. Nothing fails on a slow
result.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.measure import digits
from benchmarks.problems import CLIP_SEGMENTS, collate, make_captions, make_model
from benchmarks.tables import format_rows
from mulap.fast.front_end import fuse_front_end
from mulap.objectives.losses import LossOptions, compute_losses, weighted_sum
from mulap.training.pretrain.evaluate import split_batch

WAYS = {"mulap": True, "plain": False}
PRECISIONS = {"bf16": torch.bfloat16, "fp32": None}
MAX_GRAD_NORM = 1.0


class GpuStep:
    """A training step of the paper's model.

    Args:
        device: where.
        is_toy: a tiny model.
    """

    def __init__(self, device: torch.device, is_toy: bool) -> None:
        self.device, self.is_toy, self.options = device, is_toy, LossOptions()
        self.model = make_model(is_toy).train()
        self.model.to(device)  # pyright: ignore[reportArgumentType] (a decorator hides its type)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-5, fused=True)

    def make_batch(self, num_pairs: int) -> dict[str, Tensor]:
        """Return what a collator gives, on the device; its log-mels are noise."""
        num_segments = 2 if self.is_toy else CLIP_SEGMENTS
        empty = [np.zeros((num_segments, 1, 1), np.float32)] * num_pairs
        batch = collate(empty, make_captions(num_pairs, self.is_toy), self.is_toy)
        batch["input_features"] = torch.randn(num_pairs, num_segments, 96, 188)
        return {name: each.to(self.device) for name, each in batch.items()}

    def forward(self, batch: dict[str, Tensor], dtype: torch.dtype | None) -> Tensor:
        """Return the loss."""
        inputs, targets = split_batch(dict(batch))
        with torch.autocast(self.device.type, dtype or torch.bfloat16, enabled=dtype is not None):
            losses = compute_losses(self.model(**inputs), targets, self.options)
            return weighted_sum(losses, self.options)

    def __call__(self, batch: dict[str, Tensor], dtype: torch.dtype | None, way: str) -> None:
        """Train on a batch."""
        fuse_front_end(self.model, WAYS[way])
        self.forward(batch, dtype).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), MAX_GRAD_NORM)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def count_flop(self) -> float:
        """Return the operations of a pair's forward and backward pass by plain torch."""
        batch, num_pairs = self.make_batch(4), 4
        fuse_front_end(self.model, False)
        with FlopCounterMode(display=False) as counter:
            self.forward(batch, None).backward()
        self.model.zero_grad()
        return counter.get_total_flops() / num_pairs


def wait(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def time_call(device: torch.device, call: Callable[[], Any]) -> float:
    """Return the seconds of a call."""
    wait(device)
    started = time.perf_counter()
    call()
    wait(device)
    return time.perf_counter() - started


def peak_gib(device: torch.device, call: Callable[[], Any]) -> float:
    """Return the most memory that torch handed out during a call; 0 on a CPU."""
    if device.type != "cuda":
        call()
        return 0.0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    call()
    return torch.cuda.max_memory_allocated() / 2**30


def race_ways(
    device: torch.device, ways: Sequence[str], rounds: int, call: Callable[[str], Any]
) -> dict[str, tuple[float, float]]:
    """Time ways in turn.

    Returns:
        Median seconds and GiB by way; a way that does not fit into memory is missing.
    """
    memory: dict[str, float] = {}
    for way in ways:
        try:
            memory[way] = peak_gib(device, lambda way=way: (call(way), call(way)))
        except torch.OutOfMemoryError:
            print(f"{way}: does not fit into memory", flush=True)
    seconds = {way: [] for way in memory}
    for _ in range(rounds):
        for way in memory:
            seconds[way].append(time_call(device, lambda way=way: call(way)))
    return {way: (statistics.median(seconds[way]), memory[way]) for way in memory}


def matrix_peak(device: torch.device, size: int, dtype: torch.dtype) -> float:
    """Return the operations a second of a large matrix product."""
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    times = [time_call(device, lambda: left @ right) for _ in range(8)]
    return 2 * size**3 / statistics.median(times[2:])


def measure_steps(step: GpuStep, batches: Sequence[int], rounds: int, size: int) -> None:
    """Print a row for each precision and batch."""
    flop = step.count_flop()
    rows = []
    for precision, dtype in PRECISIONS.items():
        peak = matrix_peak(step.device, size, dtype or torch.float32)
        print(f"matrix product, {precision}: {peak / 1e12:.0f} TFLOP/s", flush=True)
        for num_pairs in batches:
            batch = step.make_batch(num_pairs)
            given = step.device, tuple(WAYS), rounds
            found = race_ways(*given, lambda way: step(batch, dtype, way))  # noqa: B023
            seconds, gib = found["mulap"]
            row = [f"{precision}, {num_pairs}", digits(num_pairs / seconds), f"{gib:.1f} GiB"]
            row.append(f"{100 * flop * num_pairs / seconds / peak:.0f} %")
            if "plain" in found:
                plain_seconds, plain_gib = found["plain"]
                row += [digits(num_pairs / plain_seconds), f"{plain_gib:.1f} GiB"]
                row.append(digits(plain_seconds / seconds))
            else:
                row += ["out of memory", "", ""]
            rows.append(row)
            print(row, flush=True)
    head = ["step of pairs", "mulap, pairs/s", "memory", "of the peak"]
    head += ["plain, pairs/s", "memory", "mulap ÷ plain"]
    print(f"\n{flop / 1e9:.1f} GFLOP a pair\n\n{format_rows(head, rows)}\n", flush=True)


def measure_parts(step: GpuStep, num_pairs: int, rounds: int) -> None:
    """Print what the timbral blocks and a validation batch take."""
    front_end = step.model.mulap.audio_backbone.front_end
    batch = step.make_batch(num_pairs)
    log_mels = batch["input_features"].flatten(0, 1)
    rows = []
    for precision, dtype in PRECISIONS.items():

        def run(way: str, dtype: torch.dtype | None = dtype) -> None:
            fuse_front_end(front_end, WAYS[way])
            mode = torch.autocast(step.device.type, dtype or torch.bfloat16, dtype is not None)
            with mode:
                out = front_end(log_mels)
            out.float().square().mean().backward()
            step.model.zero_grad()

        found = race_ways(step.device, tuple(WAYS), rounds, run)
        rows += [
            [f"front end, {precision}, {way}", digits(1e3 * seconds), f"{gib:.1f} GiB"]
            for way, (seconds, gib) in found.items()
        ]
    step.model.eval()
    with torch.no_grad():
        for precision, dtype in PRECISIONS.items():
            found = race_ways(
                step.device, ["plain"], 2, lambda _, dtype=dtype: step.forward(batch, dtype)
            )
            for seconds, gib in found.values():
                rows.append([f"validation, {precision}", digits(1e3 * seconds), f"{gib:.1f} GiB"])
    step.model.train()
    print(format_rows([f"{num_pairs} pairs", "ms", "memory"], rows), flush=True)


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser("benchmarks.gpu", description=str(__doc__).splitlines()[0])
    parser.add_argument("--batches", default="32,128,512", help="pairs of a step")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    device = torch.device("cpu" if options.toy else "cuda")
    batches = [2] if options.toy else [int(each) for each in options.batches.split(",")]
    rounds, size = (1, 64) if options.toy else (options.rounds, 8192)
    name = "CPU" if options.toy else torch.cuda.get_device_name()
    print(f"{name}, torch {torch.__version__}", flush=True)
    step = GpuStep(device, options.toy)
    measure_steps(step, batches, rounds, size)
    measure_parts(step, batches[-1] if options.toy else min(128, batches[-1]), rounds)


if __name__ == "__main__":
    main()
