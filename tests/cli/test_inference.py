"""`mulap embed`: what it prints, and the wrong use of it and of `mulap tag` that is refused."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf
from command_line import call, check_one_line
from tiny import tone, write_joint_model

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
        (["tag", "--json", "--csv"], 2, "--csv cannot be combined with --json"),
        (["tag", "--model", "musicnn-mtt", "--rerank"], 1, "--rerank: musicnn-mtt judges no words"),
        (["tag", "--model", "musicnn-mtt", "--tags", "jazz"], 1, "scores its own tags only."),
        (["tag", "--model", "random", "--tags", "jazz"], 1, "random: has no tags."),
        (["tag", "--tags", "@nowhere.txt"], 1, "nowhere.txt: No such file"),
        (["tag", "--model", "random"], 1, "random: has no tags. Give musicnn-mtt"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_done_is_one_line(song, arguments, exit_code, part):
    check_one_line(call(*arguments, song), exit_code, part)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_gentle_takes_half_of_the_cores_and_gives_way_to_others(song, tmp_path):
    program = """if True:
        import atexit, os
        cores = len(os.sched_getaffinity(0))
        atexit.register(lambda: print(cores, len(os.sched_getaffinity(0)), os.nice(0)))
        from mulap.cli import main
        main()
    """
    words = ["embed", song, "--gentle", "--model", "musicnn-mtt", "-o", tmp_path / "out.npz"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        check=True,
    )
    before, after, nice = map(int, done.stdout.split())
    assert after == (before + 1) // 2
    assert nice == 19
    assert np.load(tmp_path / "out.npz")["embeddings"].shape == (1, 1506)
