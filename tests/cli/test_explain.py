"""`mulap explain` prints bars, words and how far attention agrees; --json the same as numbers."""

import json

import pytest
import soundfile as sf
from click.testing import CliRunner
from tiny import tone, write_joint_model, write_reference

from mulap.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_reference(write_joint_model(tmp_path_factory.mktemp("explain") / "tiny"))


@pytest.fixture
def song(tmp_path):
    sf.write(tmp_path / "song.wav", tone(5, 15.0), 16_000)
    return tmp_path / "song.wav"


def run(*arguments):
    return CliRunner().invoke(main, ["explain", *map(str, arguments)])


def test_json_has_the_numbers_and_the_terminal_the_bars(model, song, tmp_path):
    png = tmp_path / "song.png"
    command = (song, "calm solo piano", "--model", model)
    plain, as_json = run(*command), run(*command, "--json", "--png", png)
    assert (plain.exit_code, as_json.exit_code) == (0, 0)
    values = json.loads(as_json.stdout)
    assert (values["file"], values["text"], values["by"]) == (str(song), "calm solo piano", "joint")
    assert [each["start"] for each in values["segments"]] == [0, 3, 6, 9, 12]
    head, line, words, attention = plain.stdout.splitlines()
    assert head.startswith(str(song))
    assert head.endswith(f"{values['score']:+.1f}")
    effects = [each["effect"] for each in values["segments"]]
    drawn = line.split()[1]
    assert drawn[effects.index(max(effects))] == "█"
    assert drawn[effects.index(min(effects))] == "▁"
    assert all(f"{each['word']} {each['effect']:+.1f}" in words for each in values["words"])
    assert f"{values['agreement']:.2f}" in attention
    assert png.read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_explained_is_said_in_one_line(model, song, tmp_path):
    for arguments, line in [
        ((song, " ", "--model", model), "no text to explain"),
        ((tmp_path / "gone.wav", "x", "--model", model), "gone.wav"),
        ((song, "x", "--model", "musicnn-mtt"), "shares with text"),
    ]:
        result = run(*arguments)
        assert result.exit_code == 1
        assert line in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
