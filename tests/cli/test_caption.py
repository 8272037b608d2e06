"""`mulap caption` prints a sentence per file, how it was found, and how well it fits."""

import json

import pytest
import soundfile as sf
from click.testing import CliRunner
from tiny import RATE, tone, write_joint_model

from mulap.cli import main
from mulap.cli.caption import _line
from mulap.model.modeling import MulapModel
from mulap.model.processor import MulapProcessor
from mulap.use.captions import Caption


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_joint_model(tmp_path_factory.mktemp("model") / "tiny")


@pytest.fixture
def files(tmp_path):
    sf.write(tmp_path / "song.wav", tone(5, 15.0), RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    (tmp_path / "mine.txt").write_text("A calm piano song.\nLoud drums.\n")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, ["caption", *map(str, arguments)])


def test_files_are_captioned_and_what_cannot_be_read_is_left_out(model, files):
    command = (files, "--model", model, "--sentences", files / "mine.txt")
    plain, as_json = run(*command), run(*command, "--json")
    assert (plain.exit_code, as_json.exit_code) == (3, 3)
    (values,) = map(json.loads, as_json.stdout.splitlines())
    assert values["caption"] in ("A calm piano song.", "Loud drums.")
    assert values["method"] == "retrieved"
    is_weak = values["match"] == "weak"
    assert ("Nothing stands out" if is_weak else values["caption"]) in plain.stdout
    assert "left out: " in plain.stderr
    assert "broken.wav" in plain.stderr


def test_written_sentences_are_called_written(model, files):
    result = run(files / "song.wav", "--model", model, "--method", "written", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["method"] == "written"
    written = Caption("a.mp3", "Rock.", "written", percentile=96)
    assert _line(written) == "a.mp3  Rock.  (written by the model, fair)"


def test_where_even_the_best_sentence_is_weak_nothing_stands_out():
    weak = Caption("a.mp3", "Loud drums.", percentile=80)
    assert _line(weak) == "a.mp3  Nothing stands out."
    strong = Caption("a.mp3", "Rock.", percentile=99.5)
    assert _line(strong) == "a.mp3  Rock.  (nearest known sentence, strong)"


def test_what_cannot_be_done_is_said_in_one_line(model, files, tmp_path):
    bare = tmp_path / "bare"
    MulapModel.from_pretrained(model).save_pretrained(bare)
    MulapProcessor.from_pretrained(model).save_pretrained(bare)
    song = files / "song.wav"
    for arguments, line in [
        ((song, "--model", "musicnn-mtt"), "shares with text"),
        ((song, "--model", bare, "--method", "written"), "no masked-word head"),
        ((files / "gone.wav", "--model", model), "gone.wav"),
        (
            (song, "--method", "written", "--sentences", files / "mine.txt"),
            "works only with --method retrieved",
        ),
    ]:
        result = run(*arguments)
        assert result.exit_code != 0
        assert line in result.stderr
