"""The benchmark of both backends prints a row for each."""

import soundfile as sf
from tiny import RATE, tone

from benchmarks.backends import main


def test_each_backend_has_a_row(tmp_path, capsys):
    sf.write(tmp_path / "song.wav", tone(0, 4.0), RATE)
    main([str(tmp_path / "song.wav"), "--models", "musicnn-mtt", "--rounds", "1", "--threads", "1"])
    rows = capsys.readouterr().out.splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert [row[:2] for row in cells] == [["musicnn-mtt", "torch"], ["musicnn-mtt", "onnx"]]
    for row in cells:
        start, clock, core, peak = map(float, row[2:])
        assert start > 0
        assert clock > 0
        assert core > 0
        assert 50 < peak < 5_000
