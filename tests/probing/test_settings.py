"""Settings of a probe: the paper's numbers by default, grids from lists, bad values refused."""

import pytest
import yaml

from mulap.probing.settings import PROTOCOLS, ProbeSettings, build_grid, find_protocol


def fails(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        build_grid(yaml.safe_load(text), "my.yaml")
    assert "\n" not in str(caught.value)


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


def test_a_mapping_becomes_one_point_and_lists_become_a_grid():
    assert build_grid({}) == (ProbeSettings(),)
    text = "learning_rate: [1e-4, 1e-3]\nhidden_size: [0, 64]\nseeds: [3, 4]\ndropout: 0\n"
    grid = build_grid(yaml.safe_load(text), "my.yaml")
    assert [(point.learning_rate, point.hidden_size) for point in grid] == [
        (1e-4, 0),
        (1e-4, 64),
        (1e-3, 0),
        (1e-3, 64),
    ]
    assert {point.seeds for point in grid} == {(3, 4)}
    assert build_grid({"seeds": 7})[0].seeds == (7,)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("hiden_size: 3", "my.yaml: unknown setting 'hiden_size': did you mean 'hidden_size'"),
        ("colour: 3", "my.yaml: unknown setting 'colour': known: hidden_size, learning_rate"),
        ("hidden_size: 1.5", "'hidden_size' is 1.5: give a whole number"),
        ("hidden_size: true", "'hidden_size' is True: give a whole number"),
        ("standardize: 1", "'standardize' is 1: give true or false"),
        ("learning_rate: fast", "'learning_rate' is 'fast': give a number"),
        ("learning_rate: .nan", "'learning_rate' is nan: give a number"),
        ("learning_rate: -1", "my.yaml: a probe's 'learning_rate' is -1.0: give more than 0"),
        ("batch_size: [64, 0]", "'batch_size' is 0: give 1 up"),
        ("dropout: 1", "'dropout' is 1.0: give 0 up, below 1"),
        ("plateau_factor: 2", "'plateau_factor' is 2.0"),
        ("dropout: []", "'dropout' is an empty list"),
        ("seeds: []", "'seeds' is .*: give different numbers"),
        ("seeds: [1, 1]", "'seeds' is .*: give different numbers"),
        ("seeds: [a]", "'seeds' is 'a': give a whole number"),
        ("- dropout", "my.yaml is .*: give it settings and values"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_in_one_line(text, match):
    fails(text, match)
