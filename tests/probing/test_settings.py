"""Settings of a probe: the paper's numbers by default, grids from lists, bad values refused."""

import pytest

from mulap.probing.settings import PROTOCOLS, ProbeSettings, expand_grid, find_protocol, make_grid


def test_the_defaults_are_the_papers():
    (paper,) = PROTOCOLS["paper"]
    assert paper == ProbeSettings()
    assert (paper.hidden_size, paper.learning_rate, paper.batch_size) == (512, 1e-3, 64)
    assert (paper.num_epochs, paper.weight_decay, paper.seeds) == (200, 0.01, (0, 1, 2))
    assert not paper.standardize
    assert paper.dropout == 0


def test_the_named_protocols_differ_from_the_paper_as_their_names_say():
    assert PROTOCOLS["standardized"] == (ProbeSettings(standardize=True),)
    assert PROTOCOLS["linear"] == (ProbeSettings(standardize=True, hidden_size=0),)


def test_jukemirs_grid_has_every_combination_once():
    grid = PROTOCOLS["jukemir"]
    assert len(grid) == len(set(grid)) == 2 * 2 * 3 * 3 * 3
    assert {point.batch_size for point in grid} == {64}
    assert {point.learning_rate for point in grid} == {1e-5, 1e-4, 1e-3}
    assert {point.weight_decay for point in grid} == {0, 1e-4, 1e-3}
    assert {point.dropout for point in grid} == {0.25, 0.5, 0.75}


def test_a_protocol_is_found_by_name_and_a_misspelt_one_names_the_nearest():
    assert find_protocol("linear") == PROTOCOLS["linear"]
    with pytest.raises(ValueError, match="no protocol 'standardised'.*standardized"):
        find_protocol("standardised")


def test_lists_become_a_grid_and_single_values_hold_for_all_of_it():
    assert expand_grid() == (ProbeSettings(),)
    grid = expand_grid(learning_rate=[1e-4, 1e-3], hidden_size=[0, 64], seeds=(3, 4))
    assert [(point.learning_rate, point.hidden_size) for point in grid] == [
        (1e-4, 0),
        (1e-4, 64),
        (1e-3, 0),
        (1e-3, 64),
    ]
    assert {point.seeds for point in grid} == {(3, 4)}


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"learning_rate": -1}, "a probe's 'learning_rate' is -1. Give a number above 0"),
        ({"batch_size": 0}, "'batch_size' is 0. Give 1 or more"),
        ({"dropout": 1}, "'dropout' is 1. Give a number from 0 to below 1"),
        ({"plateau_factor": 2}, "'plateau_factor' is 2"),
        ({"seeds": ()}, "'seeds' is .*. Give different numbers"),
        ({"seeds": (1, 1)}, "'seeds' is .*. Give different numbers"),
    ],
)
def test_a_value_that_cannot_be_is_refused_in_one_line(values, match):
    with pytest.raises(ValueError, match=match) as caught:
        ProbeSettings(**values)
    assert "\n" not in str(caught.value)


def test_a_grid_has_the_seeds_that_were_asked_for():
    (point,) = make_grid("paper", 5)
    assert point.seeds == (0, 1, 2, 3, 4)
    assert len(make_grid("jukemir", 1)) > 1
