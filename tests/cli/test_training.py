"""`mulap pretrain` by a launcher: its processes end together, by a code that it takes as meant."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import call, check_one_line
from tiny import write_corpus, write_settings

from mulap.cli.group import end_with_failures
from mulap.training import processes
from mulap.training.processes import Processes

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def second_of_two(monkeypatch):
    """This process is the second of two, and the first says in turn what a test lets it say."""
    told = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(processes, "join_processes", lambda: Processes(1, 2))
    monkeypatch.setattr(Processes, "gather", lambda self, value: [told.pop(0), value])
    return told


@pytest.mark.parametrize("command", ["pretrain", "pretrain-supervised"])
@pytest.mark.parametrize(
    ("config", "data", "says"),
    [
        ("nowhere.yaml", ".", "Invalid value for 'CONFIG': nowhere.yaml: neither a file nor"),
        (__file__, "nowhere", "Invalid value for '--data': Path 'nowhere' does not exist."),
        (__file__, None, "Missing option '--data'"),
    ],
    ids=["config", "data", "no data"],
)
def test_a_call_that_one_process_cannot_follow_ends_all_in_one_line(
    second_of_two, tmp_path, monkeypatch, command, config, data, says
):
    monkeypatch.chdir(tmp_path)
    second_of_two.append(None)
    arguments = ["--data", data] if data else []
    result = call(command, config, *arguments, "-o", "run")
    if command == "pretrain-supervised":
        says = says.replace("CONFIG", "[CONFIG]")  # it may be left out
    check_one_line(result, 1, f"Error: process 1: {says}")
    assert second_of_two == []
    second_of_two.append("--data is not here")  # and so does one that another cannot follow
    check_one_line(call(command, __file__, "--data", ".", "-o", "run"), 1, "--data is not here")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("count", "code"), [(None, 3), ("1", 0), ("2", 0)])
def test_a_launcher_is_not_told_of_inputs_that_could_not_be_used_as_of_a_crash(
    monkeypatch, capsys, count, code
):
    if count is not None:
        monkeypatch.setenv("WORLD_SIZE", count)
    ended = 0
    try:
        end_with_failures(2, "failures.jsonl")
    except SystemExit as error:
        ended = error.code
    assert ended == code
    assert capsys.readouterr().err == "2 inputs could not be used; reasons: failures.jsonl\n"


@pytest.mark.slow
def test_an_evaluation_prints_chance_and_what_its_interval_is_over(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", 8, 4, seconds=3.2)
    config = write_settings(tmp_path / "tiny.yaml", training={"num_epochs": 1})
    assert call("pretrain", config, "--data", corpus, "-o", tmp_path / "run").exit_code == 0
    arguments = ("evaluate", tmp_path / "run", "--data", corpus, "--split", "valid")
    result = call(*arguments, "--no-untrained")
    assert result.exit_code == 0
    assert "by chance: R@1 25.0%, R@5 100.0%, R@10 100.0%, median rank 2.5" in result.stdout
    assert "95% intervals over 4 groups: accuracy over all pairs " in result.stdout
    check_one_line(call(*arguments, "--device", "none"), 1, "--device none: torch cannot use it")


def launch(folder: Path, machine: int, port: int, *arguments: object) -> subprocess.Popen:
    """Start `mulap` on one of two machines, which are this one."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    command += [f"--node-rank={machine}", "--master-addr=127.0.0.1", f"--master-port={port}"]
    with open(folder / f"stderr-{machine}", "w") as stderr:
        return subprocess.Popen(
            [*command, "-m", "mulap", *map(str, arguments)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            stderr=stderr,
        )


def launch_two(folder: Path, *calls: tuple[object, ...]) -> list[tuple[int, list[str]]]:
    """Return the exit code of each machine's call, and what it told without the launcher's talk."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    started = [launch(folder, machine, port, *each) for machine, each in enumerate(calls)]
    codes = [process.wait(timeout=120) for process in started]
    told = [(folder / f"stderr-{machine}").read_text().splitlines() for machine in (0, 1)]
    return list(zip(codes, told, strict=True))


@pytest.mark.slow
def test_a_file_that_is_missing_on_one_machine_ends_both_at_once(tmp_path):
    config = write_settings(tmp_path / "tiny.yaml")
    rest = ("--data", tmp_path, "-o", tmp_path / "run")
    ended = launch_two(
        tmp_path, ("pretrain", config, *rest), ("pretrain", tmp_path / "gone.yaml", *rest)
    )
    for code, lines in ended:
        (line,) = [line for line in lines if line.startswith("Error: ")]
        assert line.startswith("Error: process 1: Invalid value for 'CONFIG': ")
        assert "gone.yaml: neither a file nor a configuration" in line
        before = lines[: lines.index(line)]  # behind it stands torchrun's own account
        assert not [line for line in before if line.startswith(("Traceback", "Usage"))]
        assert code == 1


@pytest.mark.slow
def test_two_processes_that_leave_a_track_out_end_well_and_say_so(tmp_path):
    corpus = write_corpus(tmp_path / "corpus", 9, 3)
    (corpus / "clip-02.wav").write_bytes(b"no music")
    training = {"micro_batch_size": 2, "num_epochs": 1}
    config = write_settings(tmp_path / "tiny.yaml", training=training)
    arguments = ("pretrain", config, "--data", corpus, "-o", tmp_path / "run")
    (first, told), (second, _) = launch_two(tmp_path, arguments, arguments)
    assert (first, second) == (0, 0), told[-20:]
    assert f"1 input could not be used; reasons: {tmp_path / 'run' / 'failures.jsonl'}" in told
    assert not [line for line in told if "FAILED" in line]
