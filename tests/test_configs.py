"""Configurations are found by name, and a file that is there comes first."""

import re

import pytest

from mulap.configs import FOLDER, find_config, list_configs


def test_a_name_finds_the_file_of_its_kind(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("small") == FOLDER / "pretrain" / "small.yaml"
    assert find_config("paper", "benchmark") == FOLDER / "benchmark" / "paper.yaml"
    assert find_config("supervised/paper") == FOLDER / "supervised" / "paper.yaml"


def test_a_file_that_is_there_comes_first_and_a_folder_does_not_count(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    assert find_config("small") == FOLDER / "pretrain" / "small.yaml"
    (tmp_path / "small").rmdir()
    (tmp_path / "small").write_text("{}")
    assert find_config("small").read_text() == "{}"
    assert find_config(tmp_path / "small").read_text() == "{}"


def test_an_unknown_name_lists_those_of_its_kind():
    known = "contrastive, joint, official, paper, scratch, small, tiny or warm"
    message = f"large: neither a file nor a configuration. Give a YAML file, or {known}."
    with pytest.raises(ValueError, match=re.escape(message)):
        find_config("large", "pretrain")
    with pytest.raises(ValueError, match=r"accelerate/.*pretrain/small.* or supervised/tiny"):
        find_config("large")


def test_a_name_of_several_kinds_must_say_which():
    names = "benchmark/paper, pretrain/paper or supervised/paper"
    with pytest.raises(ValueError, match=f"paper: several configurations .* Give {names}."):
        find_config("paper")


def test_all_names_are_listed():
    assert len(list_configs()) == len(list(FOLDER.rglob("*.yaml")))
    assert list_configs("supervised") == ["supervised/paper", "supervised/tiny"]
