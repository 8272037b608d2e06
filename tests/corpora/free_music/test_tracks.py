"""What is known of a package's tracks: titles, composers, licences, sentences."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mulap.corpora.described.tracks import HeardTrack, Track
from mulap.corpora.free_music.music import Music
from mulap.corpora.free_music.sources import read_sources
from mulap.corpora.free_music.tracks import complete, find_tracks

ROOT = "usr/share/games/game/music"
SOURCE = replace(
    read_sources()[0],
    package="game-data",
    split="valid",
    licence="GPL-2+",
    attribution="The Game Team",
    about="arcade game",
    composer="",
    files="",
)
COPYRIGHT = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2001, Programmers
License: LGPL-2.1

Files: music/free.ogg
Copyright: 2001, Ann
License: CC-BY-4.0

Files: music/sold.ogg
Copyright: 2001, Bob
License: CC-BY-NC-4.0
"""


@pytest.fixture
def texts(tmp_path) -> Path:
    folder = tmp_path / "texts" / ROOT
    folder.mkdir(parents=True)
    return folder


def find(tmp_path: Path, *names: str, **changes: str):
    music = Music(tmp_path, [f"{ROOT}/{name}" for name in names])
    return find_tracks(replace(SOURCE, **changes), music)


def test_titles_and_composers_come_from_the_lists_that_games_ship(tmp_path, texts):
    (texts / "race.music").write_text(
        '<?xml version="1.0"?>\n<music title="Fire &amp; Ice" composer = "Cy" file="race.ogg"/>'
    )
    (texts / "old.music").write_text('(supertux-music (file "old.ogg") (loop-at 2))')
    (texts / "broken.music").write_text('<music title="A "quoted" one" composer="Di">')
    (texts / "cd").mkdir()
    album = {"title": "War", "author": "Ed", "tracks": [{"filename": "1.opus", "title": "Dawn"}]}
    (texts / "cd" / "album.json").write_text(json.dumps(album))
    (texts / "rock").mkdir()
    (texts / "rock" / "song.ini").write_text("[song]\nname = Loud\nartist = The Band\n")
    names = ("race.ogg", "old.ogg", "broken.ogg", "cd/1.opus", "rock/guitar.ogg")
    found = find(tmp_path, *names)
    assert found.failures == []
    assert [dict(track.tags) for track in found.tracks] == [
        {"title": "Fire & Ice", "artist": "Cy"},
        {},
        {"title": "A", "artist": "Di"},
        {"title": "Dawn", "artist": "Ed", "album": "War"},
        {"title": "Loud", "artist": "The Band"},
    ]


def test_a_list_in_an_unknown_form_is_listed_and_the_tracks_are_used(tmp_path, texts):
    (texts / "album.json").write_text("{no json")
    found = find(tmp_path, "a.ogg")
    assert len(found.tracks) == 1
    ((where, reason),) = found.failures
    assert where.endswith("album.json")
    assert "no list of tracks" in reason


def test_each_track_has_its_own_licence_and_attribution(tmp_path, texts):
    (texts / "copyright").write_text(COPYRIGHT)
    found = find(tmp_path, "free.ogg", "other.ogg", "sold.ogg")
    assert [(track.licence, track.attribution) for track in found.tracks] == [
        ("CC-BY-4.0", "Ann; debian package game-data"),
        # What is said of all files is about the program; the table says what holds for the music.
        ("GPL-2+", "The Game Team; debian package game-data"),
    ]
    ((where, reason),) = found.left_out
    assert where.endswith("sold.ogg")
    assert "CC-BY-NC-4.0" in reason


def test_ids_are_short_and_differ(tmp_path, texts):
    found = find(tmp_path, "a.ogg", "b.ogg", "b.mp3")
    ids = [track.track_id for track in found.tracks]
    assert ids[0] == "game-data/game/music/a"
    assert len(set(ids)) == 3


def test_effects_are_counted_and_not_used(tmp_path, texts):
    music = Music(tmp_path, ["usr/share/games/game/sounds/rain.ogg", f"{ROOT}/a.ogg"])
    found = find_tracks(SOURCE, music)
    assert (len(found.tracks), found.num_no_music) == (1, 1)


def test_a_package_s_purpose_is_said_in_a_whole_sentence(tmp_path, texts):
    found = find(tmp_path, *(f"{number}.ogg" for number in range(40)))
    said = {track.texts[0] for track in found.tracks}
    assert {source for source, _ in said} == {"package"}
    sentences = {sentence for _, sentence in said}
    assert "music from an arcade game" in sentences
    assert "arcade game soundtrack" in sentences
    long = find(tmp_path, *(f"{n}.ogg" for n in range(40)), about="strategy game about colonies")
    assert not any(track.texts[0][1].endswith("colonies music") for track in long.tracks)


def test_the_group_is_the_composer_and_else_the_package():
    def group(**tags: str) -> str:
        track = Track(Path("a.ogg"), "a", "p", source="p", tags=tags)
        return complete(HeardTrack(track, (), np.zeros(3))).track.group

    assert group(artist="Ann", composer="Bob") == "Ann"
    assert group(composer="Bob") == "Bob"
    assert group(artist="Various Artists") == "p"
    assert group() == "p"


@pytest.mark.parametrize(
    ("stem", "has_title"),
    [
        *(("stg1", False), ("OA14", False), ("toppler", False), ("mus_03", False), ("a", False)),
        *(
            ("battle", True),
            ("calm_forest", True),
            ("Through Space", True),
            ("forest2", True),
            ("ingame_15", False),
        ),
    ],
)
def test_a_file_s_name_that_is_a_code_is_no_title(stem, has_title):
    track = Track(Path(f"{stem}.ogg"), "a", "toppler-data", source="toppler-data")
    tags = complete(HeardTrack(track, (), np.zeros(3))).track.tags
    assert ("title" not in tags) == has_title


def test_a_title_in_the_tags_stays():
    track = Track(Path("stg1.ogg"), "a", "p", source="p", tags={"title": "Stage One"})
    assert complete(HeardTrack(track, (), np.zeros(3))).track.tags["title"] == "Stage One"
