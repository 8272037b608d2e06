"""Forward and backward pass of the timbral front end: plain torch against the fused one.

    python -m benchmarks.timbral                   # true size, 12 segments, 2 threads
    python -m benchmarks.timbral --channels 8 --segments 2 --rounds 2      # does it still run?

Each round times both, one after the other and in turn first, so that a slow machine slows both; the
ratio is taken within the round. Peak memory is that of a process of its own, less what it held
before the first pass (Linux only; elsewhere 0). Nothing here fails on a slow result.
"""

from __future__ import annotations

import argparse
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from mulap.fast.timbral import fused_timbral, fused_timbral_available, plain_timbral

NUM_BANDS, NUM_FRAMES = 96, 188
HEIGHTS = (67, 38)
FUNCTIONS = {"plain": plain_timbral, "fused": fused_timbral}


class _Block(nn.Module):
    def __init__(self, num_channels: int, height: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, num_channels, (height, 7), padding=(0, 3))
        self.bn = nn.BatchNorm2d(num_channels)


def _make_problem(options: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, nn.ModuleList]:
    generator = torch.Generator().manual_seed(0)
    x_hat = torch.randn((options.segments, NUM_BANDS, NUM_FRAMES), generator=generator)
    blocks = nn.ModuleList([_Block(options.channels, height) for height in HEIGHTS])
    scale, shift = torch.tensor(1.1, requires_grad=True), torch.tensor(0.2, requires_grad=True)
    return x_hat, scale, shift, blocks


def _time_pass(function: Callable, problem: tuple) -> tuple[float, float]:
    """Return seconds of one forward and of one backward pass."""
    gradient = torch.ones((len(problem[0]), problem[3][0].conv.out_channels, NUM_FRAMES))
    start = time.perf_counter()
    outputs = function(*problem)
    middle = time.perf_counter()
    torch.autograd.backward(outputs, [gradient] * len(outputs))
    return middle - start, time.perf_counter() - middle


def _peak_mib() -> float:
    """Most memory this process has held so far; not by `resource`, which counts the parent's."""
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:  # not Linux: the difference becomes 0
        return 0.0
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024


def _print_peak_memory(options: argparse.Namespace) -> None:
    """Print the MiB that two passes of one version need on top of a small one."""
    function = FUNCTIONS[options.memory_of]
    small = argparse.Namespace(segments=1, channels=1)
    _time_pass(function, _make_problem(small))  # libraries and compiled code are loaded
    before, problem = _peak_mib(), _make_problem(options)
    for _ in range(2):
        _time_pass(function, problem)
    print(f"{_peak_mib() - before:.0f}")


def _compare(options: argparse.Namespace) -> None:
    problem = _make_problem(options)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in FUNCTIONS}
    for index in range(options.rounds + 1):
        for name in sorted(FUNCTIONS, reverse=index % 2 == 1):
            passes = _time_pass(FUNCTIONS[name], problem)
            if index > 0:  # the first round compiles and warms up
                seconds[name].append(passes)
    print(f"machine: {platform.machine()}, {platform.system()}, torch {torch.__version__}")
    print(f"{options.segments} segments, {options.channels} channels, {options.threads} threads")
    for name, passes in seconds.items():
        forward, backward = (
            1e3 * statistics.median(times) / options.segments for times in zip(*passes, strict=True)
        )
        arguments = [*sys.argv[1:], "--memory-of", name]
        child = [sys.executable, "-m", "benchmarks.timbral", *arguments]
        memory = subprocess.run(child, check=True, capture_output=True, text=True).stdout.strip()
        print(
            f"{name}: forward {forward:.1f} ms, backward {backward:.1f} ms a segment (medians), "
            f"peak memory {memory} MiB"
        )
    pairs = zip(seconds["plain"], seconds["fused"], strict=True)
    ratios = sorted(sum(plain) / sum(fused) for plain, fused in pairs)
    print(
        f"plain / fused: median {statistics.median(ratios):.1f}, "
        f"from {ratios[0]:.1f} to {ratios[-1]:.1f} in {len(ratios)} rounds"
    )


def main() -> None:
    """Parse the options, then time both versions or print the memory of one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--segments", type=int, default=12)
    parser.add_argument("--channels", type=int, default=204)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--memory-of", choices=FUNCTIONS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if not fused_timbral_available(torch.zeros(1)):
        sys.exit("the fused front end cannot run here (pip install 'mulap[train]')")
    if options.memory_of:
        _print_peak_memory(options)
    else:
        _compare(options)


if __name__ == "__main__":
    main()
