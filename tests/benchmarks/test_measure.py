"""How contestants are timed and summed up; two of them in processes of their own."""

from pathlib import Path

import pytest

from benchmarks import measure
from benchmarks.measure import Conditions, Contestant, Failed, Outcome, Spread, race
from benchmarks.tables import Goal, format_rows, rate_rows, ratio

MOCK = "unittest.mock:Mock"


def test_contestants_run_in_turn_and_none_is_always_first(monkeypatch):
    order = []
    monkeypatch.setattr(measure, "make_run", lambda target, arguments: lambda: order.append(target))
    contestants = [Contestant(name, name) for name in "abc"]
    outcomes = race(contestants, Conditions(rounds=4, in_process=True))
    assert "".join(order) == "abcbcacababc"
    assert {len(outcome.seconds) for outcome in outcomes.values()} == {4}


def test_a_table_may_ask_for_fewer_rounds_but_not_for_more():
    contestant = Contestant("a", MOCK)
    for rounds, expected in ((2, 2), (9, 3), (None, 3)):
        outcome = race([contestant], Conditions(3, in_process=True), rounds)["a"]
        assert len(outcome.seconds) == expected


def test_a_worker_answers_with_seconds_memory_and_result():
    contestant = Contestant("mock", MOCK, {"return_value": 7})
    outcome = race([contestant], Conditions(rounds=2))["mock"]
    assert outcome.results == [7, 7]
    assert all(0 < seconds < 60 for seconds in outcome.seconds)
    assert 1 < outcome.peak_mib < 1000


def test_a_worker_that_fails_says_why():
    with pytest.raises(Failed, match="broken: .*nothing_there"):
        race([Contestant("broken", "math:nothing_there")], Conditions())


def test_a_missing_interpreter_is_named_with_its_remedy_and_never_left_out():
    contestant = Contestant("other", MOCK, python=Path("nowhere/python"), remedy="make it by hand")
    outcomes = race([contestant, Contestant("ours", MOCK, {"return_value": 1})], Conditions(1))
    rows = rate_rows(outcomes, "ours", "ours")
    assert rows[0] == ["other", "not run: make it by hand", "", "", ""]
    assert ratio(outcomes, "ours", "other") is None


def test_rates_and_ratios_are_taken_round_by_round():
    ours = Outcome(Contestant("ours", "", amount=30.0), [1.0, 2.0, 10.0])
    other = Outcome(Contestant("other", "", amount=15.0), [2.0, 5.0, 15.0])
    assert ours.rate() == Spread(15.0, 3.0, 30.0)
    assert ours.times(other) == Spread(4.0, 3.0, 5.0)  # not the ratio of medians, 5


def test_spreads_are_written_with_three_digits():
    assert Spread.of([12.345, 9.0, 1234.5]).format(" s") == "12.3 s (9.00 to 1,234)"
    assert Spread.of([0.01234]).format() == "0.0123"
    assert Spread.of([99.97]).format(" %") == "100 %"


def test_goals_say_whether_they_are_met():
    spread = Spread(2.0, 1.0, 3.0)
    assert Goal("a", 2.0, spread).row()[-1] == "yes"
    assert Goal("a", 2.1, spread).row()[-1] == "**no**"
    assert Goal("a", 1.9, spread, is_most=True).row()[1:] == [
        "at most 1.9×",
        "2.00× (1.00 to 3.00)",
        "**no**",
    ]
    assert Goal("a", 2.0, None).row() == ["a", "at least 2×", "not measured", "?"]


def test_tables_are_markdown():
    assert format_rows(["", "b"], [["x", ""]]) == "|   | b |\n| --- | ---: |\n| x |   |"
