"""`mulap embed` and `mulap tag`: what they print, and the wrong use that they refuse."""

import json
import os
import re
import shutil

import numpy as np
import pytest
import soundfile as sf
from command_line import call, check_one_line
from tiny import tone, write_joint_model, write_reference

from mulap.encoders.load import load_encoder


@pytest.fixture
def song(tmp_path):
    sf.write(tmp_path / "song.wav", tone(0, 4.0), 16_000)
    return tmp_path / "song.wav"


def test_counts_agree_with_their_nouns(song, tmp_path):
    output = tmp_path / "rows.npz"
    done = call("embed", song, "-o", output)
    assert done.stderr == "1 file: 1 embedded, 0 already present; 1 row of 3,012 numbers\n"
    shutil.copy(song, tmp_path / "again.wav")
    done = call("embed", song, tmp_path / "again.wav", "-o", output, "--skip-existing")
    counts = "2 files: 0 embedded, 1 copy, 1 already present; 2 rows of 3,012 numbers"
    assert done.stderr == f"{counts}\n"


def test_points_of_the_joint_space_are_those_of_the_encoder(song, tmp_path):
    folder = write_joint_model(tmp_path / "model")
    done = call("embed", song, "--model", folder, "--space", "joint", "--level", "track")
    row = json.loads(done.stdout)
    expected = load_encoder(folder, space="joint").embed(song, level="track").embeddings[0]
    assert row["embedding"] == pytest.approx(expected.tolist(), abs=1e-7)
    output = tmp_path / "rows.parquet"
    call("embed", song, "--model", folder, "-o", output)
    done = call("embed", song, "--model", folder, "-o", output, "--space", "joint", "--force")
    assert done.stderr.endswith("1 row of 16 numbers\n")
    done = call("embed", song, "--model", folder, "-o", output, "--skip-existing")
    check_one_line(done, 1, "rows.parquet")  # made in another space


@pytest.mark.parametrize(
    ("arguments", "exit_code", "part"),
    [
        (["embed", "--force"], 2, "--force works only with --output"),
        (["embed", "--skip-existing"], 2, "--skip-existing works only with --output"),
        (
            ["embed", "--num-actors", 2],
            2,
            "--num-actors works only with --engine ray. Add",
        ),
        (["embed", "--ray-address", "auto"], 2, "--ray-address works only with --engine ray."),
        (["embed", "--engine", "ray"], 1, "Give --output a path on a shared disk."),
        (["embed", "-o", "rows"], 1, "ends in .parquet, .npz, .jsonl, or rows/ for a folder"),
        (["embed", "--device", "cdua"], 1, "--device cdua: torch cannot use it here."),
        (
            ["embed", "--model", "mel", "--space", "joint"],
            1,
            "mel: has no space that it shares with text.",
        ),
        (["tag", "--device", "cdua"], 1, "--device cdua: torch cannot use it here."),
        (["tag", "--top", -3], 2, "-3 is not in the range x>=1"),
        (["tag", "--json", "--top", 3], 2, "--top does nothing with --json"),
        (["tag", "--model", "musicnn-mtt", "--tags", "jazz"], 1, "scores its own tags only."),
        (["tag", "--model", "random", "--tags", "jazz"], 1, "random: has no tags."),
        (["tag", "--tags", "@nowhere.txt"], 1, "nowhere.txt: No such file"),
        (["tag", "--model", "random"], 1, "random: has no tags. Give musicnn-mtt"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_done_is_one_line(song, arguments, exit_code, part):
    check_one_line(call(*arguments, song), exit_code, part)


def test_tags_of_many_files_come_in_order_and_with_failures(song, tmp_path):
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    (tmp_path / "notes.txt").touch()
    done = call("tag", tmp_path, "--model", "musicnn-mtt", "--json", "--device", "cpu")
    assert done.exit_code == 3
    (line,) = done.stdout.splitlines()
    answer = json.loads(line)
    assert answer["file"] == str(song)
    assert len(answer["tags"]) == 50
    left_out, aside, count = done.stderr.splitlines()
    assert left_out.startswith(f"left out: {tmp_path / 'broken.wav'}: ")
    assert aside == "left aside: 1 file with other endings (1 .txt)"
    assert count.startswith("1 input ")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_reference(write_joint_model(tmp_path_factory.mktemp("small")))


def test_any_words_are_scored_for_any_file(small, song, tmp_path):
    odd = [os.fsdecode(b"\xff odd.wav"), 'a "b",c.wav', "new\nline.wav", "-.wav"]
    for index, name in enumerate(odd):
        sf.write(tmp_path / "next.wav", tone(index, 0.5), 16_000)
        (tmp_path / "next.wav").rename(tmp_path / name)  # soundfile encodes no such names
    sf.write(tmp_path / "silence.wav", np.zeros(40_000), 8_000)
    sf.write(tmp_path / "blip.wav", np.ones(1) * 0.1, 16_000)
    (tmp_path / "broken.wav").write_bytes(b"not audio")
    done = call("tag", tmp_path, "--model", small, "--tags", "piano, loud  drums,piano", "--json")
    assert done.exit_code == 3
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(odd) + 3
    for answer in answers:
        assert set(answer["tags"]) == {"piano", "loud drums"}
        scores = [each["z"] for each in answer["tags"].values()]
        assert scores == sorted(scores, reverse=True)
        for each in answer["tags"].values():
            expected = "yes" if each["z"] >= 1.5 else "maybe" if each["z"] >= 0.5 else "no"
            assert each["says"] == expected
    scores = load_encoder(small).tag(song, tags=["piano", "loud drums"]).top()
    found = next(each for each in answers if each["file"] == str(song))
    assert {tag: each["z"] for tag, each in found["tags"].items()} == pytest.approx(
        scores, abs=2e-3
    )


def test_words_are_printed_best_first_with_what_they_say(small, song, tmp_path):
    asked = tmp_path / "tags.txt"
    asked.write_text("piano\nloud drums, sad\n\n", encoding="utf-8")
    done = call("tag", song, "--model", small, "--tags", f"@{asked}")
    name, *rows = done.stdout.splitlines()
    assert name == str(song)
    if rows[0] == "  nothing stands out":
        assert " yes " not in done.stdout
        rows = rows[1:]
    matches = [re.fullmatch(r"  (.{10})  (yes  |maybe|no   )  ([+-]\d+\.\d)", r) for r in rows]
    assert {match[1].strip() for match in matches if match} == {"piano", "loud drums", "sad"}
    assert len(call("tag", song, "--model", small).stdout.splitlines()) in (11, 12)
    one = call("tag", song, "--model", small, "--tags", "piano,sad,drums", "--top", 1)
    assert len(one.stdout.splitlines()) in (2, 3)


def test_a_word_that_the_text_model_does_not_know_is_told_and_scored(small, song):
    done = call("tag", song, "--model", small, "--tags", "piano,zither", "--json", "-q")
    assert set(json.loads(done.stdout)["tags"]) == {"piano", "zither"}
    assert done.stderr.startswith("--tags 'zither': the text model hardly knows such words")
    check_one_line(call("tag", song, "--model", small, "--tags", "a,,b"), 1, "a tag is empty")
