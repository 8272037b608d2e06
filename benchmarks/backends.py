"""The two backends side by side: start-up, seconds of audio a second, and memory.

    python -m benchmarks.backends song.flac                      # some minutes of audio do
    python -m benchmarks.backends song.flac --models musicnn-mtt --rounds 1 --threads 1

Each measurement is a process of its own, and the backends take turns within a round. Seconds of
audio are given for a second of the clock, and for one of a core: other work on the machine slows
the first alone. Start-up is from the interpreter to a loaded model; the file is embedded once
before it counts.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

BACKENDS = ("torch", "onnx")
_PROGRAM = """
import time
started = time.perf_counter()
import json, resource, sys
import mulap
path, model, backend = sys.argv[1:]
encoder = mulap.load(model, "cpu", backend=backend)
loaded = time.perf_counter()
encoder.embed(path)
clock, cores = time.perf_counter(), time.process_time()
embedded = encoder.embed(path)
clock, cores = time.perf_counter() - clock, time.process_time() - cores
seconds = len(embedded.embeddings) * encoder.stride_seconds
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([loaded - started, seconds / clock, seconds / cores, peak / 1024]))
"""


def measure(path: str, model: str, backend: str, threads: int) -> list[float]:
    """Return start-up in seconds, audio a second of the clock and of a core, and peak MiB."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, path, model, backend],
        env=os.environ | {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


def main(arguments: list[str] | None = None) -> None:
    """Parse the options, measure and print a table."""
    parser = argparse.ArgumentParser("benchmarks.backends", description=__doc__)
    parser.add_argument("path", help="an audio file")
    parser.add_argument("--models", default="mulap-small,musicnn-msd")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    options: Any = parser.parse_args(arguments)
    print("| model | backend | start-up, s | audio, s a second | a second of a core | peak, MiB |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for model in options.models.split(","):
        rounds = [
            {each: measure(options.path, model, each, options.threads) for each in BACKENDS}
            for _ in range(options.rounds)
        ]
        for backend in BACKENDS:
            numbers = zip(*(each[backend] for each in rounds), strict=True)
            start, clock, core, peak = map(statistics.median, numbers)
            row = f"{model} | {backend} | {start:.1f} | {clock:.0f} | {core:.0f} | {peak:.0f}"
            print(f"| {row} |", flush=True)


if __name__ == "__main__":
    main()
