"""`mulap config` lists and copies configurations; a copy and a name mean the same."""

import pytest
from click.testing import CliRunner

from mulap.benchmark.config import load_config
from mulap.cli import main
from mulap.configs import find_config, list_configs
from mulap.settings import load_yaml
from mulap.training.pretrain.settings import load_settings
from mulap.training.supervised.settings import load_supervised_settings


def test_all_configurations_are_listed_with_what_they_are_for():
    result = CliRunner().invoke(main, ["config"])
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == list_configs()
    assert all(len(line.split()) > 4 for line in result.stdout.splitlines())


@pytest.mark.parametrize("name", list_configs())
def test_a_copy_in_the_current_folder_means_the_same(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["config", name])
    assert (result.exit_code, result.stderr) == (0, "")
    (tmp_path / "mine.yaml").write_text(result.stdout)
    loaders = {
        "pretrain": load_settings,
        "supervised": load_supervised_settings,
        "benchmark": load_config,
        "accelerate": load_yaml,
    }
    load = loaders[name.partition("/")[0]]
    assert load(find_config(tmp_path / "mine.yaml")) == load(find_config(name))


def test_an_unknown_name_is_one_line():
    result = CliRunner().invoke(main, ["config", "large"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: large: neither a file nor a configuration. Give")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["pretrain", "pretrain-supervised", "benchmark"])
def test_commands_take_names_and_name_those_that_they_know(command, tmp_path):
    data = [] if command == "benchmark" else ["--data", str(tmp_path)]
    result = CliRunner().invoke(main, [command, "large", *data, "--output", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "large: neither a file nor a configuration. Give a YAML file, or" in result.stderr
    assert result.stderr.count("\n") == 1
