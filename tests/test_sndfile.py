"""What libmpg123 says of mp3 files: caught, kept apart from what others write, and told by name."""

import ctypes
import logging
import multiprocessing
import os
import sys

import numpy as np
import pytest
from audio_samples import encode, make_music, sample

from mulap.audio import load_audio, log_note
from mulap.sndfile import catch_chatter

only_glibc = pytest.mark.skipif(sys.platform != "linux", reason="C's standard error is glibc's")


@pytest.fixture
def mp3(tmp_path):
    log_note.cache_clear()
    return encode(tmp_path / "a.mp3", make_music(9), 44_100, "mp3", "libmp3lame", 192_000)


def write_to_c(text: str) -> None:
    libc = ctypes.CDLL(None)
    libc.fputs(text.encode(), ctypes.c_void_p.in_dll(libc, "stderr"))


def notes_of(path, caplog) -> list[str]:
    caplog.clear()
    load_audio(path)
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


@only_glibc
def test_odd_tags_are_not_complained_about(mp3, capfd, caplog):
    content = mp3.read_bytes()
    while content[:3] == b"ID3":
        content = content[10 + content[8] * 128 + content[9] :]
    frames = b"COMM" + (4).to_bytes(4, "big") + b"\0\0\x01eng"  # a comment that has no text
    mp3.write_bytes(b"ID3\3\0\0\0\0\0" + bytes([len(frames)]) + frames + content)
    assert notes_of(mp3, caplog) == []
    assert capfd.readouterr().err == ""


@only_glibc
def test_a_cut_mp3_is_told_by_its_name_and_nothing_else_is_written(mp3, capfd, caplog):
    content = mp3.read_bytes()
    mp3.write_bytes(content[: len(content) * 6 // 10])
    assert notes_of(mp3, caplog) == [
        f"{mp3}: is cut short: holds 5.4 s of 9.0 s. Replace the file."
    ]
    assert capfd.readouterr().err == ""
    assert notes_of(mp3, caplog) == []  # once is enough


@only_glibc
def test_a_damaged_mp3_is_told_by_its_name_and_nothing_else_is_written(mp3, capfd, caplog):
    content = bytearray(mp3.read_bytes())
    for position in np.random.default_rng(0).integers(5_000, len(content), 60):
        content[position] ^= 0x55
    mp3.write_bytes(content)
    notes = notes_of(mp3, caplog)
    assert f"{mp3}: is damaged: parts of it cannot be decoded. Replace the file." in notes
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["mp3_cbr", "mp3_cbr_low", "mp3_vbr"])
def test_a_part_of_an_intact_mp3_is_not_called_damaged(name, capfd, caplog):
    log_note.cache_clear()
    for start in np.arange(2.0, 8.9, 0.23):
        load_audio(sample(name), start, 0.3)
    assert not caplog.records
    assert capfd.readouterr().err == ""


@only_glibc
def test_what_others_write_at_the_same_time_is_passed_on(capfd):
    with catch_chatter() as lines:
        write_to_c("Note: Illegal Audio-MPEG-Header 0x00000000 at offset 50199.\n")
        write_to_c("somebody else's line\n")
    assert lines == ["Note: Illegal Audio-MPEG-Header 0x00000000 at offset 50199."]
    write_to_c("and a later one\n")
    assert capfd.readouterr().err == "somebody else's line\nand a later one\n"


@only_glibc
def test_what_is_raised_while_chatter_is_caught_leaves_standard_error_as_it_was(capfd):
    with pytest.raises(KeyError), catch_chatter():
        raise KeyError
    write_to_c("as ever\n")
    assert capfd.readouterr().err == "as ever\n"


@only_glibc
def test_a_forked_process_reads_mp3_files_too(mp3):
    expected = load_audio(mp3)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        for waveform in pool.map(load_audio, [mp3, mp3]):
            assert np.array_equal(waveform, expected)


def test_the_name_of_a_file_that_is_not_utf_8_can_be_told(mp3, caplog):
    path = mp3.with_name(os.fsdecode(b"\xff.mp3"))
    path.write_bytes(mp3.read_bytes()[:50_000])
    (note,) = notes_of(path, caplog)
    assert "is cut short" in note
    assert "\\xff.mp3: " in caplog.text
