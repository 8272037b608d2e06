"""`mulap prepare` as it is called."""

import pytest
from closed_folders import closed_folder
from command_line import call, check_one_line
from tiny import write_corpus, write_settings


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("cli") / "corpus", 6, 3)


def test_it_prints_the_folder_and_tells_of_the_rate(corpus, tmp_path):
    result = call("prepare", corpus, "-o", tmp_path / "out", "--seconds", "6", "--processes", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{tmp_path / 'out'}\n"
    assert "9 clips, 0.01 h of audio in 1 shard of" in result.stderr
    assert "on 1 process: " in result.stderr
    assert "x real time" in result.stderr
    again = call("prepare", corpus, "-o", tmp_path / "out", "--seconds", "6")
    assert "nothing was left to decode" in again.stderr
    checked = call("prepare", tmp_path / "out", "--verify")
    assert checked.stdout == f"{tmp_path / 'out'}: undamaged\n"
    assert checked.exit_code == 0
    run = tmp_path / "run"
    config = write_settings(tmp_path / "tiny.yaml", training={"num_epochs": 1})
    trained = call("pretrain", config, "--data", tmp_path / "out", "-o", run)
    assert trained.exit_code == 0, trained.output
    result = call("evaluate", run, "--data", tmp_path / "out", "--split", "valid")
    assert result.exit_code == 0, result.output
    wrong = call(
        "pretrain",
        config,
        "--data",
        tmp_path / "out",
        "-o",
        tmp_path / "run2",
        "-s",
        "data.crop=random",
    )
    check_one_line(wrong, 1, "needs whole tracks")


def test_archives_on_a_disk_that_cannot_be_written_are_unpacked_elsewhere(corpus, tmp_path):
    tars, out, elsewhere = tmp_path / "tars", tmp_path / "out", tmp_path / "elsewhere"
    assert call("prepare", corpus, "-o", tars, "--store", "tars").exit_code == 0
    run, config = (
        tmp_path / "run",
        write_settings(tmp_path / "tiny.yaml", training={"num_epochs": 1}),
    )
    commands = (
        ["prepare", tars, "-o", out, "--processes", 1],
        ["pretrain", config, "--data", tars, "-o", run],
        ["evaluate", run, "--data", tars, "--split", "valid", "--no-untrained", "--device", "cpu"],
    )
    with closed_folder(tars, 0o555):
        check_one_line(call(*commands[0]), 1, "Permission denied", "--unpack-to")
        for command in commands:
            result = call(*command, "--unpack-to", elsewhere)
            assert result.exit_code == 0, result.output
    assert [path.name.partition("-")[0] for path in elsewhere.iterdir()] == ["00000"]


def test_damage_and_wrong_calls_are_told_in_one_line(corpus, tmp_path):
    out = tmp_path / "out"
    check_one_line(call("prepare", corpus), 2, "--output", "--help)")
    check_one_line(call("prepare", corpus, "-o", out, "--seconds", "few"), 2, "few")
    check_one_line(call("prepare", corpus, "-o", out, "--dtype", "int16"), 1, "float32 or float16")
    check_one_line(
        call("prepare", corpus, "-o", out, "--processes", "0"), 2, "0 is not in the range"
    )
    check_one_line(call("prepare", corpus, "--verify"), 1, "no prepared corpus")
    call("prepare", corpus, "-o", out, "--store", "tars", "--seconds", "all", "--force")
    (out / "00000.tar").write_bytes(b"")
    result = call("prepare", out, "--verify")
    assert result.exit_code == 1
    assert "00000.tar: has 0 bytes" in result.stderr
    assert "1 damaged file (listed above)" in result.stderr


def test_failures_end_with_their_own_exit_code(tmp_path):
    data = write_corpus(tmp_path / "corpus", 3, 1)
    (data / "clip-01.wav").write_bytes(b"no music")
    result = call("prepare", data, "-o", tmp_path / "out", "--store", "pcm", "--processes", 1)
    assert result.exit_code == 3
    assert "1 input could not be used" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--store", "pcm", "--variant", "port"], "--variant is for log-mels"),
        (["--store", "tars", "--db-reference", "batch"], "--db-reference is for log-mels"),
        (["--verify"], "--output does nothing with --verify"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words, said, corpus, tmp_path):
    check_one_line(call("prepare", corpus, "-o", tmp_path / "out", *words), 2, said)
    assert not (tmp_path / "out").exists()
    check_one_line(
        call("prepare", corpus, "--verify", "--seconds", "3"), 2, "--seconds does nothing"
    )


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "-inf"])
def test_lengths_are_finite_and_more_than_nothing(seconds, corpus, tmp_path):
    out, said = tmp_path / "out", f"{seconds} is not a length"
    check_one_line(call("prepare", corpus, "-o", out, f"--seconds={seconds}"), 2, said)
    check_one_line(call("corpus", "demo", out, f"--seconds={seconds}"), 2, said)
    check_one_line(call("corpus", "folder", corpus, out, f"--clip-seconds={seconds}"), 2, said)
    assert not out.exists()
