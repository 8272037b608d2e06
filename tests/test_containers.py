"""Where joined files part, told from their bytes."""

import os

import numpy as np
import pytest
from audio_samples import encode, make_music, sample, write_sound

from mulap.containers import FilePart, is_plausible, split_ogg, tells_mp3_length

TAG_V1 = b"TAG" + bytes(125)
TAG_V2 = b"ID3\4\0\0\0\0\1\0" + bytes(128)


@pytest.fixture
def open_part(tmp_path):
    descriptors = []

    def write_and_open(content: bytes) -> FilePart:
        (tmp_path / "file").write_bytes(content)
        descriptors.append(os.open(tmp_path / "file", os.O_RDONLY))
        return FilePart(descriptors[-1])

    yield write_and_open
    for descriptor in descriptors:
        os.close(descriptor)


@pytest.fixture(scope="module")
def vorbis(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("vorbis") / "a.ogg"
    return write_sound(path, make_music(1, 44_100), 44_100, "OGG", "VORBIS").read_bytes()


@pytest.fixture(scope="module")
def mp3(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("mp3") / "a.mp3"
    return encode(path, make_music(2), 44_100, "mp3", "libmp3lame", 192_000).read_bytes()


def test_a_part_is_read_like_a_file_of_its_own(open_part):
    whole = open_part(bytes(range(100)))
    part = whole.part(10, 30)
    assert (whole.is_whole, part.is_whole, whole.size, part.size) == (True, False, 100, 20)
    assert part.read(5) == bytes(range(10, 15))
    assert part.read() == bytes(range(15, 30))
    assert part.read(5) == b""
    assert part.seek(-3, os.SEEK_END) == 17
    assert part.seek(1, os.SEEK_CUR) == part.tell() == 18
    assert part.read(9) == bytes([28, 29])
    assert part.seek(50) == 50
    assert part.read(1) == b""
    assert part.pread(99, 0) == bytes(range(10, 30))
    assert part.part(5).read() == bytes(range(15, 30))
    assert whole.read(1) == b"\0"  # its position is its own


def test_ogg_files_are_split_where_they_were_joined(open_part, vorbis):
    other = sample("opus").read_bytes()
    for contents in ([vorbis], [vorbis, vorbis], [other, vorbis, other]):
        parts = split_ogg(open_part(b"".join(contents)))
        assert [part.read() for part in parts] == contents


def test_streams_that_are_played_together_are_not_split(open_part):
    def page(flag: int, granule: int, serial: int, content: bytes) -> bytes:
        head = b"OggS\0" + bytes([flag]) + granule.to_bytes(8, "little")
        return (
            head + serial.to_bytes(4, "little") + bytes(8) + b"\1" + bytes([len(content)]) + content
        )

    together = page(2, 0, 1, b"video") + page(2, 0, 2, b"audio") + page(0, 99, 1, b"more of it")
    assert [part.size for part in split_ogg(open_part(together))] == [len(together)]
    assert len(split_ogg(open_part(together + together))) == 2


def test_what_is_not_ogg_is_one_part(open_part, mp3):
    assert [part.size for part in split_ogg(open_part(mp3))] == [len(mp3)]


def test_an_mp3_header_counts_all_frames_whatever_tags_follow(open_part, mp3):
    cover = b"APETAGEX" + np.random.default_rng(0).bytes(300_000)
    for content in (mp3, TAG_V2 + TAG_V2 + mp3 + TAG_V1, mp3 + bytes(5_000), mp3 + cover):
        assert tells_mp3_length(open_part(content))
    assert tells_mp3_length(open_part(mp3[:-9_000]))  # of which less is there


@pytest.mark.parametrize("between", [b"", TAG_V1, TAG_V2, TAG_V1 + TAG_V2, bytes(1_500_000)])
def test_an_mp3_header_does_not_count_the_frames_of_files_that_were_joined_to_it(
    open_part, mp3, between
):
    tail = mp3[: len(mp3) // 20]  # a tenth of a second
    assert not tells_mp3_length(open_part(mp3 + between + tail))


def test_an_mp3_without_both_counts_does_not_tell_its_length(open_part, mp3):
    at = mp3.index(b"Xing") if b"Xing" in mp3 else mp3.index(b"Info")
    for flags in (0, 1, 2):
        assert not tells_mp3_length(open_part(mp3[: at + 7] + bytes([flags]) + mp3[at + 8 :]))
    assert not tells_mp3_length(open_part(mp3[: at + 8] + bytes(4) + mp3[at + 12 :]))
    assert not tells_mp3_length(open_part(mp3[:at]))
    assert not tells_mp3_length(open_part(sample("mp3_vbr_without_xing").read_bytes()))


def test_a_playing_time_that_the_bytes_cannot_hold_is_not_plausible(open_part):
    file = open_part(bytes(100_000))
    assert is_plausible(2.0, file)
    assert is_plausible(200.0, file)
    assert not is_plausible(900.0, file)
    assert not is_plausible(0.0, file)
