"""Prints every table, and writes them into docs/benchmarks.md; see `benchmarks`."""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import torch

from benchmarks.embed import measure_shares
from benchmarks.inference import (
    measure_cnn,
    measure_decoding,
    measure_embedding,
    measure_formats,
    measure_growth,
)
from benchmarks.machine import measure_machine
from benchmarks.measure import Conditions
from benchmarks.page import goals_table, write_page
from benchmarks.probe import measure_probe
from benchmarks.sizes import FULL, TOY, Sizes
from benchmarks.tables import Table
from benchmarks.training import measure_backbone, measure_optimizer, measure_step, measure_text
from mulap.cores import usable_cores


def _measure_shares(conditions: Conditions, sizes: Sizes) -> Table:
    rounds = min(conditions.rounds, sizes.shares_rounds)  # it has many rows
    return measure_shares(replace(conditions, rounds=rounds), sizes)


TABLES: dict[str, Callable[[Conditions, Sizes], Table]] = {
    "machine": measure_machine,
    "embedding": measure_embedding,
    "formats": measure_formats,
    "cnn": measure_cnn,
    "decoding": measure_decoding,
    "shares": _measure_shares,
    "growth": measure_growth,
    "step": measure_step,
    "backbone": measure_backbone,
    "text": measure_text,
    "adamw": measure_optimizer,
    "probe": measure_probe,
}


def measure(keys: list[str], conditions: Conditions, sizes: Sizes) -> list[Table]:
    """Measure the tables that are named, printing each when it is there."""
    tables = []
    for key in keys:
        started = time.perf_counter()
        tables.append(TABLES[key](conditions, sizes))
        _print(tables[-1], time.perf_counter() - started)
    goals = goals_table(tables)
    if goals.rows:
        _print(goals, 0.0)
    if set(keys) >= set(TABLES):  # on the page, goals of one run stand beside each other
        tables.append(goals)
    return tables


def _print(table: Table, seconds: float) -> None:
    took = f" ({seconds:.0f} s)" if seconds else ""
    print(f"\n## {table.title}{took}\n\n{table.markdown()}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Parse the options, measure, print and write."""
    parser = argparse.ArgumentParser("benchmarks", description=__doc__)
    parser.add_argument(
        "--tables", help=f"some of {','.join(TABLES)}; all if not given", default=",".join(TABLES)
    )
    parser.add_argument("--rounds", type=int, default=5, help="the slow tables have fewer")
    parser.add_argument("--threads", type=int, default=min(2, usable_cores()))
    parser.add_argument("--page", type=Path, help="write the tables into this Markdown page")
    parser.add_argument("--json", type=Path, help="write everything measured, round by round")
    parser.add_argument("--toy", action="store_true", help="toy sizes, one round, one process")
    options = parser.parse_args(arguments)
    keys = options.tables.split(",")
    if unknown := sorted(set(keys) - set(TABLES)):
        parser.error(f"no table is called {unknown[0]} (there are {', '.join(TABLES)})")
    if options.toy and options.page:
        parser.error("--toy measures nothing: leave --page out")
    rounds = 1 if options.toy else options.rounds
    conditions = Conditions(rounds, options.threads, in_process=options.toy)
    torch.set_num_threads(options.threads)
    tables = measure(keys, conditions, TOY if options.toy else FULL)
    if options.json:
        text = json.dumps({table.key: table.to_json() for table in tables}, indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.page:
        write_page(options.page, tables, date.today().isoformat())


if __name__ == "__main__":
    main()
