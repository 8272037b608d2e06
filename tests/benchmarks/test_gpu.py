"""The benchmark for a GPU still runs."""

import sys

import pytest

from benchmarks import gpu


@pytest.mark.slow
def test_it_prints_steps_and_parts_of_both_ways(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["gpu", "--toy"])
    gpu.main()
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith(("| bf16, 2 |", "| fp32, 2 |")) for line in lines) == 2
    assert sum(line.startswith("| front end") for line in lines) == 4
    assert sum(line.startswith("| validation") for line in lines) == 2
