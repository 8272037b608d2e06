"""Where the processor's time goes between a file and its embeddings, and how busy the cores are.

    python -m benchmarks.embed                       # true size, 2 threads
    python -m benchmarks.embed --toy                 # does it still run?

Each part runs alone on one thread and is measured in CPU seconds, which other work on the machine
changes less than it changes seconds on the wall. Then whole files run as in `mulap embed`, with all
threads: the CPU seconds that this takes beyond the parts' are those of threads, store and misses of
the cache, and CPU seconds by seconds on the wall is how many cores were busy. Rounds go through all
formats in turn; figures are medians. "At best" is the rate at which all cores would do nothing but
these parts: as the network gets faster, decoding keeps that further below the network's own rate.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from benchmarks.measure import Conditions, digits
from benchmarks.ours import embed
from benchmarks.problems import write_files
from benchmarks.sizes import FULL, TOY, Sizes
from benchmarks.tables import Table
from mulap.audio import load_audio
from mulap.decode import open_reader
from mulap.encoders.embedder import Embedder
from mulap.fast.threads import one_torch_thread

ENCODERS = {"port": "random", "original": "musicnn-mtt"}
PARTS = ("decode", "resample", "log-mel", "CNN")


def _cpu_seconds(function: Callable[[], object]) -> float:
    start = time.thread_time()
    function()
    return time.thread_time() - start


def _decode(path: str) -> None:
    with open_reader(path) as reader:
        for _ in reader.blocks(0):
            pass


@torch.inference_mode()
def _run_plain(embedder: Embedder, log_mels: np.ndarray) -> None:
    embedder.backbone(torch.from_numpy(log_mels))


def _time_parts(path: str, embedder: Embedder) -> list[float]:
    """Return the CPU seconds of each of `PARTS` for one file, and of the plain network."""
    with one_torch_thread():
        extractor, network = embedder.feature_extractor, embedder.frozen
        assert network is not None  # it is on the CPU
        segments = extractor.segment(load_audio(path))
        log_mels = extractor.log_mel(segments)
        decode = _cpu_seconds(lambda: _decode(path))
        load = _cpu_seconds(lambda: load_audio(path))
        return [
            decode,
            load - decode,  # with the mix of channels
            _cpu_seconds(lambda: extractor.log_mel(segments)),
            _cpu_seconds(lambda: network(log_mels)),
            _cpu_seconds(lambda: _run_plain(embedder, log_mels)),
        ]


def _time_whole(run: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU seconds of all threads, and the seconds, of one run."""
    cpu, start = time.process_time(), time.perf_counter()
    run()
    return time.process_time() - cpu, time.perf_counter() - start


def measure_shares(conditions: Conditions, sizes: Sizes) -> Table:
    """Time the parts of embedding, and all of it, for each format and variant."""
    parts: dict[tuple[str, str], list[list[float]]] = {}
    wholes: dict[tuple[str, str], list[tuple[float, float]]] = {}
    before = torch.get_num_threads()
    torch.set_num_threads(conditions.threads)
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), sizes.file_seconds, sizes.shares_files)
        embedders = {name: Embedder.from_pretrained(key) for name, key in ENCODERS.items()}
        runs = {
            (name, encoder): embed(paths, ENCODERS[encoder])
            for name, paths in files.items()
            for encoder in ENCODERS
        }
        for _ in range(conditions.rounds):
            for key, run in runs.items():
                name, encoder = key
                parts.setdefault(key, []).append(_time_parts(files[name][0], embedders[encoder]))
                wholes.setdefault(key, []).append(_time_whole(run))
    torch.set_num_threads(before)
    rows = [_row(key, parts[key], wholes[key], sizes, conditions.threads) for key in runs]
    head = ["CPU ms a file", *PARTS, "sum", "CNN's share", "plain CNN"]
    head += ["all of it", "cores busy", "s of audio a s", "at best"]
    note = (
        f"{sizes.shares_files} files of {sizes.file_seconds:g} s a run, 44.1 kHz stereo, on "
        f'{conditions.threads} threads. The parts are measured alone, on one thread; "all of it" '
        'is the CPU time of `mulap embed`, "at best" the rate if all cores did nothing but the '
        "parts. No more than the CNN's share of its rate alone can be reached from files."
    )
    return Table("shares", "Where the time goes", head, rows, [note])


def _row(
    key: tuple[str, str],
    parts: list[list[float]],
    wholes: list[tuple[float, float]],
    sizes: Sizes,
    num_threads: int,
) -> list[str]:
    *part, plain = np.median(parts, axis=0)
    cpu = median(each[0] for each in wholes) / sizes.shares_files
    wall = median(each[1] for each in wholes) / sizes.shares_files
    at_best = num_threads * sizes.file_seconds / sum(part)
    return [
        f"{key[0]}, `{key[1]}`",
        *(digits(1e3 * each) for each in part),
        digits(1e3 * sum(part)),
        f"{100 * part[-1] / sum(part):.0f} %",
        digits(1e3 * plain),
        digits(1e3 * cpu),
        digits(median(each[0] / each[1] for each in wholes)),
        digits(sizes.file_seconds / wall),
        digits(at_best),
    ]


def main() -> None:
    """Parse the options, measure and print."""
    parser = argparse.ArgumentParser("benchmarks.embed", description=str(__doc__).splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--toy", action="store_true")
    options = parser.parse_args()
    sizes = TOY if options.toy else FULL
    conditions = Conditions(1 if options.toy else options.rounds, options.threads)
    print(measure_shares(conditions, sizes).markdown())


if __name__ == "__main__":
    main()
