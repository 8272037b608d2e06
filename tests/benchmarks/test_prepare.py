"""The benchmark of `prepare` still runs."""

import sys

from benchmarks import prepare


def test_it_prints_a_row_of_each_store_and_format(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["prepare", "--seconds", "1", "--files", "1", "--rounds", "1"])
    monkeypatch.setattr(prepare, "FORMATS", ("wav", "mp3"))
    prepare.main()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 + 4 * 2
    assert all(line.count("|") == 7 for line in lines)
