"""`mulap prepare` against decoding alone: seconds of audio a second on one thread, bytes an hour.

    python -m benchmarks.prepare                            # 8 files of 60 s, 5 rounds
    python -m benchmarks.prepare --seconds 3 --files 1 --rounds 1      # does it still run?

In each round a bare `load_audio` of the files and the writing of a shard of them take turns; the
share is taken within the round and says how much of the rate that decoding allows is left. Nothing
here fails on a slow result.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.problems import make_music, write_music
from mulap.audio import load_audio
from mulap.data.clips import Clip
from mulap.data.prepared.recipe import Recipe
from mulap.data.prepared.shards import make_recipe, write_shard

FORMATS = ("wav", "flac", "ogg", "mp3")
RECIPES = {
    "log-mel, first 20 s": make_recipe("log-mel"),
    "log-mel, whole tracks": make_recipe("log-mel", math.inf),
    "pcm int16, whole tracks": make_recipe("pcm"),
    "tars of FLAC, whole tracks": make_recipe("tars"),
}


def main() -> None:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--files", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| stored | from | x real time | decoding alone | share | MiB an hour |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        music = make_music(options.seconds, seed=0)
        paths = {kind: Path(folder) / f"music.{kind}" for kind in FORMATS}
        for path in paths.values():
            write_music(path, music)
        for name, recipe in RECIPES.items():
            for kind, path in paths.items():
                figures = measure(path, recipe, options.files, options.rounds)
                print(f"| {name} | {kind} | {figures} |", flush=True)


def measure(path: Path, recipe: Recipe, num_files: int, num_rounds: int) -> str:
    """Return the cells of one row: medians over the rounds."""
    clips = [
        Clip(path, ("a song",), f"track {index}", "group", "train", "")
        for index in range(num_files)
    ]
    shard = path.with_name("shard")
    audio_seconds = write_shard(shard, clips, 0, recipe).audio_seconds
    prepared, decoded = [], []
    for _ in range(num_rounds):
        decoded.append(seconds_of(lambda: [load_audio(path, 0.0, recipe.seconds) for _ in clips]))
        prepared.append(seconds_of(lambda: write_shard(shard, clips, 0, recipe)))
    share = statistics.median(bare / full for bare, full in zip(decoded, prepared, strict=True))
    rates = [audio_seconds / statistics.median(times) for times in (prepared, decoded)]
    hour_mib = shard.stat().st_size / audio_seconds * 3600 / 2**20
    return f"{rates[0]:.0f} | {rates[1]:.0f} | {share:.0%} | {hour_mib:.0f}"


def seconds_of(work: Callable[[], object]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
