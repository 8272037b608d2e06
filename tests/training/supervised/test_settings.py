"""Settings of supervised training: checked at the door, in one line."""

import pytest
from toy_task import make_settings

from mulap.configs import FOLDER
from mulap.training.supervised.settings import SupervisedSettings, load_supervised_settings

CONFIGS = FOLDER / "supervised"


@pytest.mark.parametrize("name", ["paper", "tiny"])
def test_the_configs_load_and_paper_is_the_default(name):
    loaded = load_supervised_settings(CONFIGS / f"{name}.yaml")
    if name == "paper":
        assert loaded == SupervisedSettings()


@pytest.mark.parametrize(
    ("section", "values", "match"),
    [
        ("training", {"batch_sise": 3}, "unknown setting 'training.batch_sise'. Did you mean"),
        ("training", {"num_epochs": 0}, "'training.num_epochs' is out of range: give 1 up"),
        ("training", {"plateau_factor": 1.0}, "give more than 0, below 1"),
        ("model", {"dropout": 1.0}, "'model.dropout' is out of range"),
        ("data", {"valid_segments": -1}, "'data.valid_segments' is out of range"),
    ],
)
def test_settings_that_cannot_be_are_one_clear_error(section, values, match):
    with pytest.raises(ValueError, match=match) as caught:
        make_settings(**{section: values})
    assert "\n" not in str(caught.value)
