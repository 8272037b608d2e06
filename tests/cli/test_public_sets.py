"""Public sets from their official files to a trained and evaluated model, by commands alone."""

import json
import re
import shlex
from pathlib import Path

import click
import pytest
from command_line import call, check_one_line
from public_set_samples import (
    write_fma,
    write_mtg_jamendo,
    write_musiccaps,
    write_song_describer,
)
from tiny import write_settings

from mulap.cli import main
from mulap.data.manifest import read_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", ["README.md", "docs/public-sets.md"])
def test_the_commands_of_a_page_can_be_called(page, tmp_path, monkeypatch):
    text = (ROOT / page).read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    lines = re.findall(
        r"^(?:    |\$ )(?:torchrun .*-m )?mulap ((?!.*\.\.\.).*?)(?: +#.*)?$", text, re.M
    )
    assert len(lines) > 5
    for line in lines:
        name, *words = shlex.split(line)
        command = main.commands[name]
        if isinstance(command, click.Group):
            command = command.commands[words.pop(0)]
        try:
            command.make_context(name, words)
        except click.BadParameter as error:  # the files are the reader's
            if "does not exist" not in error.message:
                raise


def test_from_a_public_set_to_a_model_that_is_evaluated_on_two_others(tmp_path):
    """The three commands of README.md, and evaluation on captions by people."""
    audio, metadata = write_mtg_jamendo(tmp_path)
    options = ["--audio", audio, "--metadata", metadata, "--processes", 1]
    corpus, prepared, run = (tmp_path / name for name in ("corpus", "prepared", "run"))
    made = call("corpus", "mtg_jamendo", corpus, *options, "--clip-seconds", 6)
    assert made.exit_code == 0, made.stderr
    assert made.stdout == f"{corpus}\n"
    assert "5 of 5 recordings used, 0 missing" in made.stderr
    assert call("prepare", corpus, "--output", prepared, "--processes", 1).exit_code == 0
    config = write_settings(tmp_path / "tiny.yaml", training={"num_epochs": 1})
    trained = call("pretrain", config, "--data", prepared, "--output", run)
    assert trained.exit_code == 0, trained.stderr

    for name, write, num_clips in (
        ("song_describer", write_song_describer, 3),
        ("musiccaps", write_musiccaps, 2),
    ):
        audio, metadata = write(tmp_path)
        output = tmp_path / f"{name} corpus"
        options = ["--audio", audio, "--metadata", metadata, "--processes", 1]
        made = call("corpus", name, output, *options)
        assert made.exit_code == (3 if name == "musiccaps" else 0), made.stderr
        clips = read_manifest(output).split("test")
        assert max(len(clip.captions) for clip in clips) == 2
        result = call("evaluate", run, "--data", output, "--json", "--no-untrained")
        assert result.exit_code == 0, result.stderr
        figures = json.loads(result.stdout)
        assert figures["num_clips"] == num_clips
        assert figures["trained"]["retrieval/atm/pool"] == num_clips

        every = ["--queries", "all", "--per-group", 1000, "--no-untrained", "--json"]
        figures = json.loads(call("evaluate", run, "--data", output, *every).stdout)["trained"]
        assert figures["retrieval/atm/pool"] == num_clips
        assert figures["retrieval/captions"] == sum(len(clip.captions) for clip in clips)

        captions = tmp_path / f"{name}.jsonl"
        rows = [{"file": str(clip.audio_path), "caption": clip.captions[-1]} for clip in clips]
        captions.write_text("".join(json.dumps(row) + "\n" for row in rows))
        scored = call("evaluate", captions, "--data", output)
        assert scored.exit_code == 0, scored.stderr
        is_human = name == "song_describer"  # MusicCaps' last captions are lists of aspects
        assert ("ROUGE-L 100.0 (" in scored.stdout.splitlines()[1]) == is_human
        assert f"test split, {num_clips} clips" in scored.stdout
        check_one_line(call("evaluate", captions, "--data", output, "--pool", 9), 2, "--pool")


def test_a_set_for_evaluation_only_cannot_be_trained_on(tmp_path):
    audio, metadata = write_song_describer(tmp_path)
    output = tmp_path / "out"
    call("corpus", "song_describer", output, "--audio", audio, "--metadata", metadata)
    config = write_settings(tmp_path / "tiny.yaml")
    result = call("pretrain", config, "--data", output, "--output", tmp_path / "run")
    check_one_line(result, 1, "train")


@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("mtg_jamendo", write_mtg_jamendo, ["--table", "autotagging_genre"]),
        ("fma", write_fma, ["--subset", "large"]),
        ("musiccaps", write_musiccaps, ["--all-test"]),
        ("song_describer", write_song_describer, ["--unvalidated"]),
    ],
)
def test_metadata_that_are_not_the_set_s_are_one_line_and_nothing_is_written(
    tmp_path, name, write, options
):
    audio, _ = write(tmp_path)
    (tmp_path / "empty").mkdir()
    output = tmp_path / "out"
    result = call(
        "corpus", name, output, "--audio", audio, "--metadata", tmp_path / "empty", *options
    )
    check_one_line(result, 1, "cannot be read", str(tmp_path / "empty"))
    assert not output.exists()
