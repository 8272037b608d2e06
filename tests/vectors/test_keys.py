"""The key of an audio file: of the audio in it, and of nothing else."""

import os
import shutil
import time

import av
import numpy as np
import pytest
import soundfile as sf
from tiny import tone

from mulap.audio import AudioError
from mulap.vectors.keys import KnownFiles, audio_key, file_name, file_version, real_path

ID3V1 = b"TAG" + b"another title".ljust(125, b"\0")
ID3V2 = b"ID3\x04\0\0\0\0\0\x15TIT2\0\0\0\x0b\0\0\x03Long title"
APEV2 = (
    b"APETAGEX" + (2000).to_bytes(4, "little") + (32).to_bytes(4, "little") + bytes(4) + bytes(12)
)


def write(path, seed=0, seconds=2.0, **tags):
    """Write any format, with tags."""
    if path.suffix == ".ogg":  # PyAV has no encoder of Vorbis
        with sf.SoundFile(path, "w", 16_000, 1) as file:
            file.title = tags.get("title", "none")
            file.write(tone(seed, seconds))
        return path
    codec = {".mp3": "libmp3lame", ".flac": "flac", ".opus": "libopus",
             ".m4a": "aac", ".wav": "pcm_s16le"}[path.suffix]  # fmt: skip
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        container.metadata.update(tags)
        samples = (tone(seed, seconds)[: int(seconds * 16_000)] * 20_000).astype(np.int16)
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate = 16_000
        resampler = av.AudioResampler(stream.format, "mono", 48_000, stream.frame_size or 1024)
        for each in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(each))
    return path


FORMATS = [".mp3", ".flac", ".ogg", ".opus", ".m4a", ".wav"]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_key_is_of_the_audio_and_not_of_name_tags_or_time(tmp_path, suffix):
    plain = write(tmp_path / f"plain{suffix}")
    tagged = write(tmp_path / f"tagged{suffix}", title="A title", artist="Somebody", genre="Jazz")
    other = write(tmp_path / f"other{suffix}", seed=1)
    assert plain.read_bytes() != tagged.read_bytes()
    key = audio_key(plain)
    assert len(key) == 64
    assert audio_key(tagged) == key
    assert audio_key(other) != key
    moved = tmp_path / "elsewhere" / f"name{suffix}"
    moved.parent.mkdir()
    shutil.move(tagged, moved)
    os.utime(moved, (1, 1))
    assert audio_key(moved) == key


@pytest.mark.parametrize("name", [b"plain", "é".encode(), b"caf\xe9", b"\\xe9"])
def test_a_stored_name_leads_back_to_the_file(tmp_path, name):
    path = os.fsencode(tmp_path) + b"/" + name
    with open(path, "wb"):
        pass
    assert os.path.samefile(real_path(file_name(os.fsdecode(path))), path)
    os.remove(path)
    assert not os.path.exists(real_path(file_name(os.fsdecode(path))))


def test_tags_written_around_an_mp3_leave_its_key_as_it_is(tmp_path):
    path = write(tmp_path / "song.mp3")
    key, audio = audio_key(path), path.read_bytes()
    for content in (audio + ID3V1, ID3V2 + audio, ID3V2 + audio + ID3V1):
        path.write_bytes(content)
        assert audio_key(path) == key


def test_audio_that_is_longer_at_its_end_has_another_key(tmp_path):
    path = write(tmp_path / "song.mp3")
    key, audio = audio_key(path), path.read_bytes()
    path.write_bytes(audio + audio)
    assert audio_key(path) != key


def test_links_behind_the_first_of_a_chained_ogg_count(tmp_path):
    links = [write(tmp_path / f"{seed}.ogg", seed).read_bytes() for seed in range(3)]
    keys = set()
    for second in (b"", links[1], links[2]):
        (tmp_path / "chained.ogg").write_bytes(links[0] + second)
        keys.add(audio_key(tmp_path / "chained.ogg"))
    assert len(keys) == 3


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="pipe.wav: is not a regular file"):
        audio_key(tmp_path / "pipe.wav")


def test_a_playlist_makes_nobody_open_another_file(tmp_path):
    other = write(tmp_path / "other.wav")
    playlist = tmp_path / "list.m3u8"
    playlist.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{other}\n#EXT-X-ENDLIST\n")
    before = audio_key(playlist)
    write(tmp_path / "other.wav", seed=1)
    assert audio_key(playlist) == before


def test_the_same_samples_at_another_rate_have_another_key(tmp_path):
    samples = tone(0, 1.0)
    sf.write(tmp_path / "a.wav", samples, 16_000)
    sf.write(tmp_path / "b.wav", samples, 22_050)
    assert audio_key(tmp_path / "a.wav") != audio_key(tmp_path / "b.wav")


@pytest.mark.parametrize("content", [b"", b"no audio in here", b"RIFF\xff\xff\xff\xffWAVEfmt "])
def test_what_cannot_be_demuxed_has_the_hash_of_its_bytes(tmp_path, content):
    for name in ("a.wav", "b.wav"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "c.wav").write_bytes(content + b"x")
    assert audio_key(tmp_path / "a.wav") == audio_key(tmp_path / "b.wav")
    assert audio_key(tmp_path / "a.wav") != audio_key(tmp_path / "c.wav")


def test_a_missing_file_is_an_audio_error(tmp_path):
    with pytest.raises(AudioError, match=r"gone.wav: cannot be read: No such file.*permissions"):
        audio_key(tmp_path / "gone.wav")


def old_file(path, content="one", age_seconds=60):
    path.write_text(content)
    when = time.time() - age_seconds
    os.utime(path, (when, when))
    return path


def test_a_key_is_known_until_the_file_changes(tmp_path):
    known, file = KnownFiles(tmp_path / "files"), old_file(tmp_path / "a")
    assert known.key(file) is None
    known.add(file, file_version(file), "k")
    assert known.key(file) == KnownFiles(tmp_path / "files").key(file) == "k"
    old_file(file, "two!", 30)
    assert known.key(file) is KnownFiles(tmp_path / "files").key(file) is None
    file.unlink()
    assert known.key(file) is None


def test_a_file_that_is_just_written_is_read_again_by_the_next_run(tmp_path):
    known, file = KnownFiles(tmp_path / "files"), old_file(tmp_path / "a", age_seconds=0)
    known.add(file, file_version(file), "k")
    assert KnownFiles(tmp_path / "files").key(file) is None


def test_a_file_from_before_1970_has_a_key_too(tmp_path):
    known, file = KnownFiles(tmp_path / "files"), tmp_path / "a"
    file.write_text("one")
    os.utime(file, ns=(-1_000_000_001, -1_000_000_001))
    known.add(file, file_version(file), "k")
    assert KnownFiles(tmp_path / "files").key(file) == "k"


def test_a_link_that_points_elsewhere_since_is_another_file(tmp_path):
    known, link = KnownFiles(tmp_path / "files"), tmp_path / "link"
    for name in ("one", "two"):
        old_file(tmp_path / name, name)
    link.symlink_to(tmp_path / "one")
    known.add(link, file_version(link), "k")
    assert known.key(link) == "k"
    link.unlink()
    link.symlink_to(tmp_path / "two")
    assert known.key(link) is None


@pytest.mark.parametrize("line", ["5", "[]", "null", '{"file": 1}', "\0" * 40, "[" * 99_999])
def test_a_damaged_line_costs_its_own_file_alone(tmp_path, line):
    files = [old_file(tmp_path / name) for name in "ab"]
    known = KnownFiles(tmp_path / "files")
    known.add(files[0], file_version(files[0]), "k")
    with open(tmp_path / "files", "a") as out:
        out.write(f"\n{line}")
    known.add(files[1], file_version(files[1]), "l")
    again = KnownFiles(tmp_path / "files")
    assert [again.key(file) for file in files] == ["k", "l"]
    whole = (tmp_path / "files").read_bytes()
    for cut in (1, 30, len(whole) // 2, len(whole) - 1):
        (tmp_path / "files").write_bytes(whole[:cut])
        assert KnownFiles(tmp_path / "files").key(files[1]) is None
