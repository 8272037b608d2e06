"""How long a search takes, how many neighbours the index finds, and how large a library is.

    python -m benchmarks.search                                  # 10,000 and 100,000 tracks
    python -m benchmarks.search --rows 1000000 --folder /tmp/lib    # some minutes, 5 GB of memory

Tracks are drawn, in clusters of 50, from the mean and the covariance of the tracks that mulap-small
knows (its reference), so that points are as alike as those of music; each has one window. A search
is `mulap.Library.search`: text encoder, nearest tracks, copies merged, windows, words, reasons. The
model is loaded before. Recall is the share of the ten nearest, by exact comparison, that a search
with the index finds; queries are sentences, and points near tracks.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from mulap.encoders.engine import load_engine
from mulap.encoders.neutral import neutral_sentences
from mulap.encoders.zero_shot import Reference
from mulap.library.about import About, Space
from mulap.library.library import Library
from mulap.library.store import LEAST_ROWS_OF_INDEX, Store, track_schema, window_schema, with_points
from mulap.library.tags import own_columns

_ROWS_AT_ONCE = 50_000
_OF_A_CLUSTER = 50
_SPREAD = 0.6  # of a cluster, as a share of the deviation of all tracks
_NEAREST = 10
_WHERE = "bpm>=150"  # a quarter of the tracks


def build(folder: Path, space: Space, num_rows: int, reference: Reference) -> tuple[float, float]:
    """Write a library of drawn tracks; return the seconds that LanceDB took to write and index."""
    About(space).write(folder)
    store = Store.write(folder, space)
    indices = np.arange(num_rows)
    keys = pa.array([f"{index:064x}" for index in indices])
    files = pa.array([f"/music/{index:08d}.flac" for index in indices])
    one = np.ones(num_rows)
    bpm = np.random.default_rng(2).integers(60, 180, num_rows)
    columns: dict[str, Any] = {
        **{"key": keys, "files": pa.ListArray.from_arrays(np.arange(num_rows + 1), files)},
        **{"file": files, "version": pa.repeat("1-1", num_rows), "title": files},
        "artist": pa.array([f"Artist {index // 12}" for index in indices]),
        **{"album": pa.repeat("", num_rows), "genre": pa.repeat("", num_rows), "year": 0 * one},
        **{"seconds": 240 * one, "num_windows": one, "added": one, "tags_version": one},
        **{"text_bpm": pa.array(bpm).cast(pa.string()), "number_bpm": bpm},
    }
    points = np.empty((num_rows, space.size), np.float16)
    for start, some in _draw(num_rows, reference):
        points[start : start + len(some)] = some
    schema = pa.schema([*track_schema(space.size), *own_columns(columns)])
    columns = {name: pa.array(each).cast(schema.field(name).type) for name, each in columns.items()}
    windows = {"key": keys, "start": pa.array(0 * one), "end": pa.array(9 * one)}
    windows = {name: each.cast(window_schema(1).field(name).type) for name, each in windows.items()}
    began = time.perf_counter()
    store.add(
        with_points(schema, columns, points),
        with_points(window_schema(space.size), windows, points),
    )
    written = time.perf_counter()
    store.optimize()
    return written - began, time.perf_counter() - written


def _draw(num_rows: int, reference: Reference) -> Iterator[tuple[int, np.ndarray]]:
    rng = np.random.default_rng(0)
    factor = reference.factor.astype(np.float32)
    for start in range(0, num_rows, _ROWS_AT_ONCE):
        count = min(_ROWS_AT_ONCE, num_rows - start)
        centres = rng.standard_normal((-(-count // _OF_A_CLUSTER), len(factor)), np.float32)
        own = rng.standard_normal((count, len(factor)), np.float32)
        centres = np.repeat(centres, _OF_A_CLUSTER, axis=0)[:count]
        drawn = (1 - _SPREAD**2) ** 0.5 * centres + _SPREAD * own
        points = reference.mean.astype(np.float32) + drawn @ factor
        yield start, points / np.linalg.norm(points, axis=1, keepdims=True)


def milliseconds(function: Callable[[Any], Any], inputs: list[Any]) -> str:
    """Return the median of what a function takes, the 95th percentile, and the median CPU time."""
    function(inputs[0])
    wall, cpu = [], []
    for each in inputs:
        began, begun = time.perf_counter(), time.process_time()
        function(each)
        wall.append(1000 * (time.perf_counter() - began))
        cpu.append(1000 * (time.process_time() - begun))
    return f"{statistics.median(wall):.0f} ({np.quantile(wall, 0.95):.0f}; {np.median(cpu):.0f})"


def recall(store: Store, points: np.ndarray) -> float:
    """Return the share of the exactly nearest tracks of points (N, D) that a search finds."""
    shares = []
    for point in points:
        found, exact = (
            set(store.nearest(point, _NEAREST, is_exact=is_exact).column("key").to_pylist())
            for is_exact in (False, True)
        )
        shares.append(len(found & exact) / len(exact))
    return float(np.mean(shares))


def measure(num_rows: int, num_queries: int, folder: Path) -> list[str]:
    """Build a library and return a row of the table."""
    engine = load_engine("mulap-small", "cpu")
    space = Space(engine.space, "mulap-small", engine.size)
    written, built = build(folder, space, num_rows, engine.encoder.zero_shot().reference)
    library = Library(folder, "cpu")
    sentences = list(neutral_sentences())[-num_queries:]
    texts = engine.embed_text(sentences)
    rng = np.random.default_rng(1)
    _, some = next(_draw(min(num_rows, _ROWS_AT_ONCE), engine.encoder.zero_shot().reference))
    noise = rng.standard_normal((num_queries, space.size), np.float32) * 0.1 / space.size**0.5
    near = some[rng.integers(len(some), size=num_queries)] + noise
    plan = library.store.explain(texts[0])
    is_indexed = "ANN" in plan
    assert "metric=cosine" in plan.lower()
    assert is_indexed == (num_rows >= LEAST_ROWS_OF_INDEX)
    nearest = milliseconds(lambda point: library.store.nearest(point, 200), list(texts))
    encoder = milliseconds(lambda text: engine.embed_text([text]), sentences)
    whole = milliseconds(library.search, sentences)
    where = milliseconds(lambda text: library.search(text, where=_WHERE), sentences)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return [
        f"{num_rows:,}",
        "IVF_SQ" if is_indexed else "none",
        f"{written:.1f} + {built:.1f}",
        f"{size / 1e6:,.0f}",
        *(encoder, nearest, whole, where),
        f"{recall(library.store, texts):.3f}",
        f"{recall(library.store, near):.3f}",
    ]


COLUMNS = (
    *("tracks", "index", "write + index, s", "MB on disk", "text encoder, ms", "200 nearest, ms"),
    *("search, ms", f"with {_WHERE}, ms", "recall, sentences", "recall, points near tracks"),
)


def main(arguments: list[str] | None = None) -> None:
    """Print a Markdown table; of times the median, the 95th percentile and the median CPU time."""
    parser = argparse.ArgumentParser("benchmarks.search", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--threads", type=int, default=2, help="of torch")
    parser.add_argument("--folder", type=Path, help="where libraries are made, and removed again")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    for num_rows in options.rows:
        if options.folder:
            options.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            print(f"| {' | '.join(measure(num_rows, options.queries, folder))} |", flush=True)
        finally:
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
