"""Playlists: their bytes, what is read back, and paths that have no place in one."""

import os

import pytest

from mulap.library.playlist import Entry, one_line, read_playlist, write_playlist


def test_paths_are_relative_with_slashes_and_the_bytes_are_utf8_without_a_mark(tmp_path):
    music = tmp_path / "music" / "Björk"
    entries = [
        Entry(str(music / "01 Jóga.flac"), 305.4, "Björk – Jóga"),
        Entry(str(tmp_path / "lists" / "#1.mp3"), 59.6, "a\nb\x1b[31m"),
    ]
    (tmp_path / "lists").mkdir()
    write_playlist(tmp_path / "lists" / "calm.m3u8", entries)
    written = (tmp_path / "lists" / "calm.m3u8").read_bytes()
    assert (
        written
        == (
            "#EXTM3U\n"
            "#EXTINF:305,Björk – Jóga\n"
            "../music/Björk/01 Jóga.flac\n"
            "#EXTINF:60,a b [31m\n"
            "./#1.mp3\n"
        ).encode()
    )
    assert read_playlist(tmp_path / "lists" / "calm.m3u8") == [each.file for each in entries]


def test_playlists_of_others_are_read_and_streams_left_out(tmp_path):
    lines = [
        "\ufeff#EXTM3U",
        "",
        "a.mp3\r",
        "http://radio/x.mp3",
        "file:///music/b%20c.mp3",
        "/d.mp3",
    ]
    (tmp_path / "others.m3u8").write_text("\n".join(lines), encoding="utf-8")
    expected = [str(tmp_path / "a.mp3"), "/music/b c.mp3", "/d.mp3"]
    assert read_playlist(tmp_path / "others.m3u8") == expected
    (tmp_path / "old.m3u").write_bytes("Björk.mp3\n".encode("latin-1"))
    assert read_playlist(tmp_path / "old.m3u") == [str(tmp_path / "Björk.mp3")]


def test_what_is_no_playlist_is_refused(tmp_path):
    (tmp_path / "song.m3u8").write_bytes(b"ID3\0\0")
    for name, part in [("song.m3u8", "is no playlist"), ("none.m3u8", "cannot be read")]:
        with pytest.raises(ValueError, match=part):
            read_playlist(tmp_path / name)
    with pytest.raises(ValueError, match=r"Let it end in \.m3u8"):
        write_playlist(tmp_path / "list.txt", [])
    with pytest.raises(ValueError, match="has no place in a playlist"):
        write_playlist(tmp_path / "list.m3u8", [Entry("/a\nb.mp3", 1, "x")])
    assert not os.path.exists(tmp_path / "list.m3u8")


def test_names_are_shown_on_one_line_without_what_a_terminal_obeys():
    assert one_line("a\r\n b\t\x1b]0;c\x07") == "a b ]0;c"
