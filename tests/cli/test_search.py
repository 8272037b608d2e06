"""`mulap search`: the table, JSON, CSV and playlists, and what it refuses in one line."""

import csv
import io
import json
import os
import re

import pytest
from command_line import call, check_one_line
from library.asked import make_library

from mulap.library.about import About
from mulap.library.playlist import read_playlist
from mulap.library.store import Store

QUERY = "a calm piano song"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_library(tmp_path_factory.mktemp("asked"))


def search(folder, *arguments):
    return call("search", "--library", folder / "lib", "--versions", *arguments)


def test_the_table_shows_where_to_listen_and_a_word_for_each_match(folder):
    done = search(folder, f"{QUERY}, no drums", "--top", 3)
    assert done.exit_code == 0
    first, *rows = done.stdout.splitlines()
    assert first.split() == ["#", "match", "at", "track", "why"]
    assert len(rows) == 3
    for number, line in enumerate(rows, 1):
        assert re.match(rf" {number}  (strong|fair|weak) +\d:\d\d  Artist \d – Song \d", line)
    said = done.stderr.splitlines()
    assert f"Read as: {QUERY}; not: drums" in said
    assert re.match(r"\d+ ms, 6 tracks\. strong: fits better than 99 of 100 neutral", said[-1])


def test_json_csv_and_the_playlist_hold_the_same_hits(folder, tmp_path):
    done = search(folder, QUERY, "--json", "--m3u8", tmp_path / "calm.m3u8", "--per-artist", 0)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["rank"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert set(lines[0]) == {
        *("rank", "file", "start", "end", "match", "percentile", "score", "why"),
        *("artist", "title", "album", "seconds", "space", "id"),
    }
    assert read_playlist(tmp_path / "calm.m3u8") == [line["file"] for line in lines]
    done = search(folder, QUERY, "--csv", "--per-artist", 0)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["file"] for row in rows] == [line["file"] for line in lines]
    assert [float(row["start"]) for row in rows] == [line["start"] for line in lines]


def test_examples_have_times_and_weights_and_paths_have_ends(folder):
    first, last = folder / "music" / "0.flac", folder / "music" / "5.flac"
    options = ["--json", "--per-artist", 0]
    liked = search(
        folder, "--like", f"{first}^2", "--at", "0:15", "--like", last, "--at", 3, *options
    )
    files = [json.loads(line)["file"] for line in liked.stdout.splitlines()]
    assert len(files) == 4
    assert not {str(first), str(last)} & set(files)
    done = search(folder, "--path", first, last, "--top", 4, *options)
    files = [json.loads(line)["file"] for line in done.stdout.splitlines()]
    assert (files[0], files[-1], len(files)) == (str(first), str(last), 4)


def test_no_track_that_matches_is_an_answer(folder):
    done = search(folder, QUERY, "--where", "title=nothing")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr.endswith("No track matches. = compares all of a text, ~ finds a part.\n")


def test_files_that_are_gone_are_named(folder):
    song = folder / "music" / "3.flac"
    song.rename(folder / "music" / "away.flac")
    try:
        done = search(folder, QUERY, "--per-artist", 0)
    finally:
        (folder / "music" / "away.flac").rename(song)
    assert f"no longer there: {song}. Run mulap index to tidy up." in done.stderr


def test_a_file_whose_name_is_not_utf_8_is_not_called_gone(tmp_path):
    make_library(tmp_path, 1)
    os.rename(tmp_path / "music" / "0.flac", os.fsencode(tmp_path / "music") + b"/caf\xe9.flac")
    assert call("index", "--library", tmp_path / "lib").exit_code == 0
    done = search(tmp_path, QUERY)
    assert "Song 0" in done.stdout
    assert "no longer there" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "exit_code", "part"),
    [
        ([], 1, "the query: it is empty. Give words"),
        (["  "], 1, "the query: it is empty. Give words"),
        (["no drums"], 1, "only what is not wanted is given"),
        ([QUERY, "--where", "1=1 OR x"], 1, "no field has this name"),
        ([QUERY, "--where", "seconds<x"], 1, "'x' is not a number"),
        ([QUERY, "--like", "nothing.mp3"], 1, "nothing.mp3: cannot be read"),
        ([QUERY, "--exclude", "nothing.m3u8"], 1, "nothing.m3u8: cannot be read"),
        ([QUERY, "--m3u8", "list.txt"], 1, "Let it end in .m3u8"),
        ([QUERY, "--at", "1:23"], 2, "1 --at for 0 --like"),
        ([QUERY, "--like", "a.mp3", "--at", "x"], 2, "--at x: is no time"),
        ([QUERY, "--json", "--csv"], 2, "--csv and --json exclude each other"),
        ([QUERY, "--path", "a", "b"], 2, "--path takes no QUERY"),
        (["--path", "a", "b", "--like", "c"], 2, "--like has no effect with --path"),
        ([QUERY, "--top", "0"], 2, "--top"),
        (["a^0"], 1, "the weight is 0"),
    ],
)
def test_wrong_use_is_one_line(folder, arguments, exit_code, part):
    check_one_line(search(folder, *arguments), exit_code, part)


def test_what_is_no_library_and_a_library_without_tracks_are_one_line(folder, tmp_path):
    check_one_line(call("search", QUERY, "--library", tmp_path / "lib"), 1, "is not a library")
    space = Store.open(folder / "lib").space
    (tmp_path / "empty").mkdir()
    About(space).write(tmp_path / "empty")
    Store.write(tmp_path / "empty", space)
    check_one_line(call("search", QUERY, "--library", tmp_path / "empty"), 1, "has no tracks yet")


def test_moods_are_a_table_of_all_tracks(folder):
    done = call("moods", "--library", folder / "lib", "--pair", "fast,slow")
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [set(row) for row in rows] == [{"file", "artist", "title", "fast"}] * 6
    done = call("moods", "--library", folder / "lib", "--json")
    first = json.loads(done.stdout.splitlines()[0])
    assert len([name for name in first if isinstance(first[name], float)]) == 6
    wrong = call("moods", "--library", folder / "lib", "--pair", "fast")
    check_one_line(wrong, 2, "--pair fast: is no pair")
