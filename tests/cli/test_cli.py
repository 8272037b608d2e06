"""The command line: what it prints where, its exit codes, and one line for every error.

Commands run in this process (`CliRunner`); what they do is tested where it is done.
"""

import csv
import json
import os
from pathlib import Path

import click
import pytest
import soundfile as sf
from closed_folders import closed_folder
from command_line import call, check_one_line
from tiny import RATE, tone, write_corpus, write_settings

import mulap
from mulap.cli import main
from mulap.vectors.table import read_embeddings


def write_track(path: Path, seconds: float = 4.0, **tags: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with sf.SoundFile(path, "w", RATE, 1) as file:
        for name, value in tags.items():
            setattr(file, name, value)
        file.write(tone(len(path.name), seconds))
    return path


def find_commands(group=main, words=()):
    yield words, group
    for name, command in getattr(group, "commands", {}).items():
        yield from find_commands(command, (*words, name))


COMMANDS = dict(find_commands())


@pytest.fixture
def junk(tmp_path) -> Path:
    path = tmp_path / "junk.mp3"
    path.write_bytes(b"this is no music " * 50)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("cli") / "corpus", 8, 5)


def test_the_version_is_the_package_s():
    result = call("--version")
    assert result.exit_code == 0
    assert mulap.__version__ in result.stdout


def test_the_commands_are_those_the_documentation_tells_of():
    names = {" ".join(words) for words in COMMANDS}
    training = {
        "corpus demo",
        "corpus describe",
        "corpus folder",
        "corpus free-music",
        "corpus mtg_jamendo",
        "corpus fma",
        "corpus musiccaps",
        "corpus song_describer",
        "pretrain",
        "evaluate",
    }
    transfer = {"download", "task", "probe", "pretrain-supervised", "benchmark", "report"}
    use = {"app", "caption", "embed", "explain", "export", "index", "info", "moods"}
    use |= {"search", "serve", "tag"}
    assert names == {"", "config", "corpus", "prepare"} | use | training | transfer


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_explains_the_command_and_each_option(words):
    command = COMMANDS[words]
    result = call(*words, "--help")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.startswith("Usage: ")
    assert (command.help or "").split(".")[0].split("\n")[0][:40] in result.stdout
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, f"{option.opts[0]} has no help"
            assert option.opts[0] in result.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sing"], "No such command 'sing'"),
        (["--loud"], "--loud"),
        (["tag"], "PATHS"),
        (["pretrain", "nowhere.yaml", "--data", ".", "-o", "out"], "nowhere.yaml"),
        (["pretrain", __file__, "--data", "nowhere", "-o", "out"], "nowhere"),
        (["pretrain", __file__, "--data", ".", "-o", __file__], "is a file"),
        (["evaluate", ".", "--data", ".", "--split", "holdout"], "'train', 'valid', 'test'"),
        (["embed", ".", "--level", "song"], "'segment', 'track'"),
        (["corpus", "folder", ".", "out", "--captions", "many"], "many"),
    ],
)
def test_a_wrong_call_is_told_in_one_line_that_names_the_help(
    arguments, says, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    check_one_line(call(*arguments), 2, says, "--help)")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("training.sed=1", "Did you mean 'training.seed'?"),
        ("trainig.seed=1", "Did you mean 'training'?"),
        ("training.seed=high", "'training.seed' is 'high'"),
        ("model.layout=mine", "Choose one of paper, official"),
        ("seed", "section.key=value"),
    ],
)
def test_a_wrong_setting_stops_before_anything_is_written(override, says, corpus, tmp_path):
    config, run = write_settings(tmp_path / "tiny.yaml"), tmp_path / "run"
    check_one_line(call("pretrain", config, "--data", corpus, "-o", run, "-s", override), 1, says)
    assert not run.exists()


def test_an_unknown_key_in_the_file_is_named_with_the_nearest(corpus, tmp_path):
    config = write_settings(tmp_path / "tiny.yaml", masking={"mlm_probabilty": 0.3})
    result = call("pretrain", config, "--data", corpus, "-o", tmp_path / "run")
    check_one_line(result, 1, "tiny.yaml", "Did you mean 'masking.mlm_probability'?")


def test_data_that_is_no_corpus_is_told_in_one_line(junk, tmp_path):
    config, empty = write_settings(tmp_path / "tiny.yaml"), tmp_path / "empty"
    empty.mkdir()
    for data, says in ((empty, "metadata.csv"), (junk, "not a manifest")):
        result = call("pretrain", config, "--data", data, "-o", tmp_path / "run")
        check_one_line(result, 1, str(data), says)


def test_a_corpus_without_a_usable_track_is_told_in_one_line(tmp_path):
    data = write_corpus(tmp_path / "corpus", 4, 1)
    for path in data.glob("*.wav"):
        path.write_bytes(b"no music")
    config = write_settings(tmp_path / "tiny.yaml")
    result = call("pretrain", config, "--data", data, "-o", tmp_path / "run")
    check_one_line(result, 1, "no clip of the train split can be used")


def test_what_is_no_model_cannot_be_evaluated_or_embedded_with(corpus, tmp_path):
    check_one_line(call("evaluate", tmp_path, "--data", corpus), 1, "holds no model")
    check_one_line(call("embed", corpus, "--model", tmp_path), 1, "there is no config.json")
    check_one_line(call("embed", corpus, "--model", "musicnn-mt"), 1, "musicnn-mtt")


@pytest.mark.parametrize("device", ["toaster", "cuda"])
def test_a_device_that_is_not_there_is_told_in_one_line(device, corpus):
    # conftest hides CUDA devices.
    check_one_line(call("embed", corpus, "--model", "random", "--device", device), 1, device)


@pytest.mark.parametrize("command", ["embed", "tag"])
def test_no_audio_is_an_error(command, tmp_path):
    (tmp_path / "notes.txt").write_text("no music")
    check_one_line(call(command, tmp_path), 1, str(tmp_path), "no audio files found")
    check_one_line(call(command, tmp_path / "nowhere"), 1, "does not exist")


def test_a_folder_of_tagged_music_becomes_a_corpus(tmp_path):
    source, output = tmp_path / "music", tmp_path / "corpus"
    write_track(source / "a.flac", title="First Light", artist="Ann", genre="Jazz")
    write_track(source / "disc 2" / "b.ogg", title="Second Sight", artist="Bob")
    result = call("corpus", "folder", source, output, "--captions", 3)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{output}\n"
    assert "2 tracks, 2 clips" in result.stderr
    with open(output / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["file_name"] for row in rows} == {"audio/a.flac", "audio/disc 2/b.ogg"}
    assert all((output / row["file_name"]).is_file() for row in rows)
    assert any("First Light" in row["caption"] for row in rows)
    assert {row["group"] for row in rows} == {"Ann", "Bob"}


def test_a_folder_of_untagged_music_is_described(tmp_path):
    source, output = tmp_path / "music", tmp_path / "corpus"
    write_track(source / "01.wav", 7.0)
    silent = 0.0 * tone(0, 5.0)
    sf.write(source / "02.wav", silent, RATE)
    result = call("corpus", "describe", source, output, "--captions", 2, "--processes", 1)
    assert result.exit_code == 0, result.stderr
    assert result.stdout == f"{output}\n"
    assert "1 track, 1 clip, 0.00 h of audio" in result.stderr
    assert "left out: 1 clip, each as it is silent" in result.stderr
    with open(output / "metadata.csv", newline="", encoding="utf-8") as file:
        (row,) = csv.DictReader(file)
    assert len(json.loads(row["caption"])) == len(json.loads(row["caption_source"])) == 2


def test_a_file_that_cannot_be_decoded_is_listed_and_the_corpus_is_made(tmp_path):
    source, output = tmp_path / "music", tmp_path / "corpus"
    write_track(source / "a.flac", title="First Light", artist="Ann")
    (source / "b.mp3").write_bytes(b"no music")
    result = call("corpus", "folder", source, output)
    assert result.exit_code == 3
    assert result.stdout == f"{output}\n"
    listed = [json.loads(line) for line in (output / "failures.jsonl").read_text().splitlines()]
    assert [Path(entry["file"]).name for entry in listed] == ["b.mp3"]
    assert str(output / "failures.jsonl") in result.stderr.splitlines()[-1]


def test_a_corpus_inside_its_source_is_refused(tmp_path):
    write_track(tmp_path / "a.flac", title="First Light", artist="Ann")
    check_one_line(call("corpus", "folder", tmp_path, tmp_path / "out"), 1, "lies inside")


def test_options_for_clips_and_for_whole_tracks_do_not_mix(tmp_path):
    write_track(tmp_path / "music" / "a.flac", title="First Light", artist="Ann")
    folder = "corpus", "folder", tmp_path / "music", tmp_path / "out"
    check_one_line(call(*folder, "--max-clips=2"), 2, "Add --clip-seconds")
    check_one_line(call(*folder, "--copy", "--clip-seconds=4"), 2, "Leave one out")
    assert not (tmp_path / "out").exists()


def test_a_demo_corpus_of_no_clips_is_refused(tmp_path):
    check_one_line(
        call("corpus", "demo", tmp_path / "out", "--clips", 0), 2, "0 is not in the range"
    )


def test_embed_lists_what_cannot_be_decoded_and_ends_with_3(tmp_path, junk):
    track, table = write_track(tmp_path / "a.wav", 7.0), tmp_path / "out.parquet"
    result = call("embed", track, junk, "-o", table)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert "2 files: 1 embedded" in result.stderr
    assert set(read_embeddings(table).files) == {str(track)}
    failures = Path(f"{table}.failures.jsonl")
    assert [json.loads(line)["file"] for line in failures.read_text().splitlines()] == [str(junk)]
    assert str(failures) in result.stderr.splitlines()[-1]


def test_an_output_that_exists_is_refused_unless_forced(tmp_path):
    track, table = write_track(tmp_path / "a.wav"), tmp_path / "out.jsonl"
    table.write_text("hours of work")
    check_one_line(call("embed", track, "-o", table), 1, "exists", "--force")
    assert table.read_text() == "hours of work"
    assert call("embed", track, "-o", table, "--force").exit_code == 0
    assert json.loads(table.read_text())["file"] == str(track)


def test_an_output_of_unknown_format_is_refused(tmp_path):
    track = write_track(tmp_path / "a.wav")
    check_one_line(call("embed", track, "-o", tmp_path / "out.xls"), 1, ".parquet, .npz, .jsonl")


def test_without_an_output_standard_output_holds_json_lines_only(tmp_path, junk):
    track = write_track(tmp_path / "a.wav", 7.0)
    result = call("embed", track, junk, "--level", "track", "--quiet")
    assert result.exit_code == 3
    (row,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert (row["file"], len(row["embedding"])) == (str(track), 3012)
    assert f"left out: {junk}" in result.stderr


def test_tag_prints_the_highest_tags_and_lists_what_it_left_out(tmp_path, junk):
    track = write_track(tmp_path / "a.wav")
    result = call("tag", track, junk, "--model", "musicnn-mtt", "--top", 3, "--quiet")
    assert result.exit_code == 3
    name, *tags = result.stdout.splitlines()
    assert name == str(track)
    scores = [float(line.split()[0]) for line in tags]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    assert f"left out: {junk}" in result.stderr


@pytest.mark.parametrize("command", [["embed", "-o", "out.npz"], ["tag"]])
def test_a_folder_that_cannot_be_listed_and_other_files_are_reported(
    tmp_path, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    write_track(tmp_path / "music" / "a.wav")
    (tmp_path / "music" / "cover.jpg").touch()
    (tmp_path / "music" / "closed").mkdir()
    with closed_folder(tmp_path / "music" / "closed"):
        result = call(*command, "music")
        alone = call(*command, "music/closed")
    assert result.exit_code == 3, result.output
    assert "left aside: 1 file with other endings (1 .jpg)" in result.stderr
    assert "1 input could not be used" in result.stderr
    listed = Path("out.npz.failures.jsonl")
    told = listed.read_text() if listed.exists() else result.stderr
    assert "music/closed" in told
    assert "cannot be listed: Permission denied" in told
    check_one_line(alone, 1, "music/closed: no audio files found; music/closed cannot be listed")


def test_tag_gives_json_with_every_tag(tmp_path):
    track = write_track(tmp_path / "a.wav")
    result = call("tag", track, "--model", "musicnn-mtt", "--json")
    assert result.exit_code == 0
    (answer,) = [json.loads(line) for line in result.stdout.splitlines()]
    assert answer["file"] == str(track)
    assert len(answer["tags"]) == 50


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_file_name_that_is_not_utf8_gets_its_tags_and_its_error(tmp_path, junk, options):
    write_track(tmp_path / "a.wav").rename(tmp_path / os.fsdecode(b"good \xff.wav"))
    junk.rename(tmp_path / os.fsdecode(b"junk \xff.wav"))
    result = call("tag", tmp_path, *options)
    assert result.exit_code == 3, result.output
    first = result.stdout.splitlines()[0]
    name = json.loads(first)["file"] if options else first
    assert name == str(tmp_path / "good \\xff.wav")
    assert f"left out: {tmp_path / 'junk '}\\xff.wav: " in result.stderr


@pytest.mark.slow
def test_a_corpus_becomes_a_model_figures_embeddings_and_tags(corpus, tmp_path):
    config, run = write_settings(tmp_path / "tiny.yaml", training={"num_epochs": 1}), tmp_path / "r"
    begun = call("pretrain", config, "--data", corpus, "-o", run)
    assert begun.exit_code == 0, begun.stderr
    assert begun.stdout == f"{run / 'best'}\n"
    for objective in ("mlm", "mam", "atm"):
        assert f"{objective} " in begun.stderr
    again = call("pretrain", config, "--data", corpus, "-o", run)
    assert again.exit_code == 0
    assert "going on from checkpoint-" in again.stderr
    other = call("pretrain", config, "--data", corpus, "-o", run, "-s", "training.seed=7")
    check_one_line(other, 1, "training.seed is 0 there and 7 now")

    result = call("evaluate", run, "--data", corpus, "--split", "valid", "--json")
    assert result.exit_code == 0, result.stderr
    figures = json.loads(result.stdout)
    assert (figures["split"], figures["num_clips"]) == ("valid", 5)
    assert {"loss", "atm/accuracy", "retrieval/atm/R@1"} <= set(figures["trained"])
    assert set(figures["trained"]) == set(figures["untrained"])
    text = call("evaluate", run, "--data", corpus, "--split", "valid", "--no-untrained").stdout
    assert "95% intervals over 5 groups: accuracy over all pairs" in text
    assert "untrained" not in text
    empty = call("evaluate", run, "--data", corpus, "--split", "test")
    check_one_line(empty, 1, "name another --split")

    table = tmp_path / "out.npz"
    embedded = call("embed", corpus, "--model", run / "best", "--level", "track", "-o", table)
    assert embedded.exit_code == 0, embedded.stderr
    assert len(read_embeddings(table).embeddings) == 13
    tagged = call("tag", corpus / "clip-00.wav")
    assert tagged.exit_code == 0, tagged.stderr
