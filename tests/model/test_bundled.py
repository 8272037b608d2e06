"""Bundled names: found beside the package, checked; one's own folder of that name comes first."""

import shutil
from pathlib import Path

import pytest
import torch
from tiny import write_joint_model

from mulap.files import sha256_of
from mulap.model import bundled
from mulap.model.bundled import bundled_names, check_sums, locate_weights, write_sums
from mulap.model.modeling import MulapModel
from mulap.model.pretraining import MulapForPreTraining
from mulap.model.processor import MulapProcessor

LARGEST = 60 * 2**20


def test_both_public_weights_are_bundled():
    assert {"musicnn-msd", "musicnn-mtt"} <= set(bundled_names())


@pytest.mark.parametrize("name", ["musicnn-mtt", "musicnn-msd"])
def test_the_readme_names_the_weights_sha256_and_the_licence_is_there(name):
    folder = Path(locate_weights(name))
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert sha256_of(folder / "model.safetensors") in readme
    assert "Universitat Pompeu Fabra" in (folder / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", bundled_names())
def test_bundled_files_are_those_that_were_published_and_small(name):
    folder = bundled._WEIGHTS / name
    check_sums.__wrapped__(folder)
    listed = {line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    there = {path.name for path in folder.iterdir()}
    assert there - listed == {"LICENSE", "README.md", "SHA256SUMS"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST


@pytest.fixture
def weights(tmp_path, monkeypatch):
    """A folder of bundled weights of our own, with one tiny model."""
    write_sums(write_joint_model(tmp_path / "weights" / "mulap-tiny"))
    monkeypatch.setattr(bundled, "_WEIGHTS", tmp_path / "weights")
    check_sums.cache_clear()
    return tmp_path / "weights"


def test_a_whole_model_is_loaded_by_its_bundled_name(weights):
    assert bundled_names() == ["mulap-tiny"]
    model = MulapForPreTraining.from_pretrained("mulap-tiny")
    plain = MulapModel.from_pretrained("mulap-tiny")
    processor = MulapProcessor.from_pretrained("mulap-tiny")
    inputs = processor(text="calm piano", return_tensors="pt")
    with torch.no_grad():
        expected = model.mulap.eval().get_text_features(**inputs)
        assert torch.equal(plain.eval().get_text_features(**inputs), expected)


def test_damaged_bundled_files_are_refused_in_a_line(weights):
    path = weights / "mulap-tiny" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"model.safetensors is not the file that was published"):
        MulapModel.from_pretrained("mulap-tiny")
    path.unlink()
    with pytest.raises(ValueError, match=r"model.safetensors is not the file .* Install mulap"):
        locate_weights("mulap-tiny")
    (weights / "mulap-tiny" / "SHA256SUMS").unlink()
    with pytest.raises(ValueError, match=r"SHA256SUMS is not the file that was published"):
        locate_weights("mulap-tiny")


def test_files_are_checked_once_in_a_process(weights):
    locate_weights("mulap-tiny")
    shutil.rmtree(weights / "mulap-tiny")
    (weights / "mulap-tiny").mkdir()
    (weights / "mulap-tiny" / "config.json").touch()
    assert locate_weights("mulap-tiny") == str(weights / "mulap-tiny")


def test_a_folder_in_the_working_directory_comes_first(tmp_path, monkeypatch):
    (tmp_path / "musicnn-mtt").mkdir()
    monkeypatch.chdir(tmp_path)
    assert locate_weights("musicnn-mtt") == "musicnn-mtt"


def test_other_names_are_given_back_as_they_came(tmp_path):
    assert locate_weights("owner/name") == "owner/name"
    assert locate_weights(tmp_path) == str(tmp_path)
