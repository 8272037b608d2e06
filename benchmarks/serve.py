"""How many requests a second `mulap serve` answers, and how long they take.

    python -m benchmarks.serve --library music.mulap              # about two minutes
    python -m benchmarks.serve --library music.mulap --seconds 20 --clients 1 8

A server of its own is started, with one model. Clients of this process ask it over loopback, one
request after the other, each from another of the neutral sentences or of the library's tracks. The
load test at the end lets clients of all kinds ask at once, while /healthz is asked ten times a
second: that it answers in milliseconds says that the server responds whatever the model does.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mulap.encoders.neutral import neutral_sentences
from mulap.library.store import Store

Request = tuple[str, str, bytes | None, str]  # method, path, body, content type
JSON, AUDIO = "application/json", "application/octet-stream"
COLUMNS = ("request", "clients", "requests/s", "median, ms", "p95, ms", "refused")


class Measured(NamedTuple):
    """Milliseconds of the requests that were answered, and how many were refused."""

    times: list[float]
    num_refused: int
    seconds: float

    def row(self, name: str, num_clients: int) -> list[str]:
        """Return a row of the table."""
        middle, most = np.quantile(self.times, [0.5, 0.95])
        rate = len(self.times) / self.seconds
        return [
            *(name, f"{num_clients}", f"{rate:.1f}", f"{middle:.0f}", f"{most:.0f}"),
            f"{self.num_refused}",
        ]


@contextmanager
def serving(library: Path) -> Iterator[tuple[str, int]]:
    """Start a server on a free port; yields its address once the model is loaded."""
    command = [sys.executable, "-m", "mulap", "serve", "--library", os.fspath(library)]
    process = subprocess.Popen([*command, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr
        line = process.stderr.readline()
        found = re.match(r"http://(127\.0\.0\.1):(\d+)/", line)
        if not found:
            raise SystemExit(line + process.stderr.read())
        address = found[1], int(found[2])
        send(http.client.HTTPConnection(*address), ("GET", "/v1/space", None, JSON))
        yield address
    finally:
        process.terminate()
        process.wait()


def send(connection: http.client.HTTPConnection, request: Request) -> int:
    """Send a request, read the answer, and return its status."""
    method, path, body, kind = request
    connection.request(method, path, body, {"Content-Type": kind})
    answer = connection.getresponse()
    answer.read()
    return answer.status


def press(
    address: tuple[str, int], requests: list[Request], num_clients: int, seconds: float
) -> Measured:
    """Let clients ask for some seconds, each one request after the other."""
    rounds, lock = itertools.cycle(requests), threading.Lock()
    times: list[float] = []
    refused: list[int] = []
    end = time.perf_counter() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection(*address, timeout=120)
        while time.perf_counter() < end:
            with lock:
                request = next(rounds)
            began = time.perf_counter()
            status = send(connection, request)
            took = 1000 * (time.perf_counter() - began)
            (times if status == 200 else refused).append(took if status == 200 else status)
        connection.close()

    began = time.perf_counter()
    threads = [threading.Thread(target=ask) for _ in range(num_clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Measured(times, len(refused), time.perf_counter() - began)


def requests_of(library: Path) -> dict[str, list[Request]]:
    """Return the requests of each kind."""
    sentences = list(neutral_sentences())[-200:]
    rows = Store.open(library).tracks(columns=["key", "file"]).to_pylist()[:50]

    def of(path: str, bodies: list[dict[str, Any]]) -> list[Request]:
        return [("POST", path, json.dumps(body).encode(), JSON) for body in bodies]

    file = Path(rows[0]["file"]).read_bytes()
    return {
        "/v1/embed/text": of("/v1/embed/text", [{"texts": [text]} for text in sentences]),
        "/v1/search, words": of("/v1/search", [{"query": text} for text in sentences]),
        "/v1/similar, a track": of("/v1/similar", [{"id": row["key"]} for row in rows]),
        "/v1/tag, a track": of("/v1/tag", [{"id": row["key"]} for row in rows]),
        "/audio, a whole file": [("GET", f"/audio/{row['key']}", None, JSON) for row in rows],
        "/v1/embed/audio": [("POST", "/v1/embed/audio", file, AUDIO)],
    }


def watch_health(address: tuple[str, int], seconds: float) -> Measured:
    """Ask ten times a second whether the server is well."""
    times: list[float] = []
    connection = http.client.HTTPConnection(*address, timeout=60)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        began = time.perf_counter()
        send(connection, ("GET", "/healthz", None, JSON))
        times.append(1000 * (time.perf_counter() - began))
        time.sleep(0.1)
    return Measured(times, 0, seconds)


def measure(
    library: Path, clients: list[int], seconds: float, show: Callable[[list[str]], None]
) -> None:
    """Measure all kinds of requests, and then all at once."""
    kinds = requests_of(library)
    with serving(library) as address:
        for name, requests in kinds.items():
            press(address, requests, 1, 1.0)
            for count in clients:
                show(press(address, requests, count, seconds).row(name, count))
        turns = zip(range(200), *map(itertools.cycle, kinds.values()), strict=False)
        mixed = [request for _, *some in turns for request in some]
        results: list[Measured] = []
        watcher = threading.Thread(
            target=lambda: results.append(watch_health(address, 2 * seconds))
        )
        watcher.start()
        show(press(address, mixed, max(clients), 2 * seconds).row("all of these", max(clients)))
        watcher.join()
        show(results[0].row("/healthz meanwhile", 1))


def main(arguments: list[str] | None = None) -> None:
    """Parse the options, measure and print a Markdown table."""
    parser = argparse.ArgumentParser("benchmarks.serve", description=__doc__)
    parser.add_argument("--library", type=Path, required=True)
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each row")
    options = parser.parse_args(arguments)
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    measure(
        options.library,
        options.clients,
        options.seconds,
        lambda row: print(f"| {' | '.join(row)} |", flush=True),
    )


if __name__ == "__main__":
    main()
