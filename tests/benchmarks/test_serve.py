"""Every kind of request is asked of a real server, and answered."""

from library.asked import make_library

from benchmarks.serve import COLUMNS, measure


def test_all_requests_are_answered_under_load(tmp_path):
    folder = make_library(tmp_path, 3)
    rows = []
    measure(folder / "lib", [2], 0.5, rows.append)
    assert {len(row) for row in rows} == {len(COLUMNS)}
    names = [row[0] for row in rows]
    assert names[-2:] == ["all of these", "/healthz meanwhile"]
    assert len(names) == 8
    assert {row[-1] for row in rows} == {"0"}
