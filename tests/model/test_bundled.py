"""Bundled names: found beside the package, shadowed by a folder of one's own, else left alone."""

from pathlib import Path

import pytest

from mulap.files import sha256_of
from mulap.model.bundled import bundled_names, locate_weights


def test_both_public_weights_are_bundled():
    assert bundled_names() == ["musicnn-msd", "musicnn-mtt"]


@pytest.mark.parametrize("name", ["musicnn-mtt", "musicnn-msd"])
def test_the_readme_names_the_weights_sha256_and_the_licence_is_there(name):
    folder = Path(locate_weights(name))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert sha256_of(folder / "model.safetensors") in readme
    assert "Universitat Pompeu Fabra" in (folder / "LICENSE").read_text(encoding="utf-8")


def test_a_folder_in_the_working_directory_comes_first(tmp_path, monkeypatch):
    (tmp_path / "musicnn-mtt").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate_weights("musicnn-mtt") == "musicnn-mtt"


def test_other_names_are_given_back_as_they_came(tmp_path):
    assert locate_weights("owner/name") == "owner/name"
    assert locate_weights(tmp_path) == str(tmp_path)
