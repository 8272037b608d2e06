"""Unpacking archives: good ones whole, bad ones not at all, nothing outside the folder ever."""

import bz2
import errno
import gzip
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap import archives
from mulap.archives import read_tar, unpack

FILES = {
    "audio/a.mp3": np.random.default_rng(0).bytes(70_000),
    "audio/deep/er/b.mp3": b"b" * 3_000,
    "table.csv": b"x,y\n1,2\n",
    "audio/empty.wav": b"",
}
TAR_MODES = {
    "x.tar": "w",
    "x.tar.gz": "w:gz",
    "x.tgz": "w:gz",
    "x.tar.bz2": "w:bz2",
    "x.xz": "w:xz",
}


def write_zip(path, files=FILES, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path, files=FILES, mode="w"):
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def write_parts(whole, num_parts):
    """Cut a file into parts x.001 ... and remove it."""
    content = whole.read_bytes()
    step = -(-len(content) // num_parts)
    parts = []
    for number in range(num_parts):
        parts.append(whole.with_name(f"{whole.name}.{number + 1:03}"))
        parts[-1].write_bytes(content[number * step : (number + 1) * step])
    whole.unlink()
    return parts


def read_all(folder):
    """Every file below a folder, links not followed: relative path -> content."""
    found = {}
    for root, folders, names in os.walk(folder):
        for name in [*names, *(each for each in folders if (Path(root) / each).is_symlink())]:
            path = Path(root) / name
            key = path.relative_to(folder).as_posix()
            found[key] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


@pytest.fixture
def folder(tmp_path):
    """Where to unpack: two levels deep, so that there is something to escape into."""
    return tmp_path / "data" / "out"


def try_unpack(archive, folder):
    """Return the files and no message, or none and why."""
    try:
        return unpack([archive], folder), ""
    except ValueError as error:
        return [], str(error)


def refuse(archive, folder, match):
    """Assert that an archive is refused in a line, and that it leaves nothing."""
    before = read_all(folder) if folder.exists() else {}
    with pytest.raises(ValueError, match=match) as raised:
        unpack([archive] if isinstance(archive, Path) else archive, folder)
    assert "\n" not in str(raised.value)
    assert (read_all(folder) if folder.exists() else {}) == before
    assert not (folder / ".mulap").exists()


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_is_unpacked(tmp_path, folder, method):
    files = unpack([write_zip(tmp_path / "x.zip", method=method)], folder)
    assert read_all(folder) == FILES
    assert [file.relative_to(folder).as_posix() for file in files] == list(FILES)


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_only_wanted_files_are_written_and_unsafe_ones_refuse_all(tmp_path, folder, write):
    wanted = sorted(FILES)[0]
    archive = write(tmp_path / "x.archive")
    assert unpack([archive], folder, lambda name: name == wanted) == [folder / wanted]
    assert read_all(folder) == {wanted: FILES[wanted]}
    unsafe = write(tmp_path / "unsafe.archive", {**FILES, "../x": b"1"})
    with pytest.raises(ValueError, match="leads out of the folder"):
        unpack([unsafe], folder, lambda name: name == wanted)


@pytest.mark.parametrize(("name", "mode"), TAR_MODES.items())
def test_a_tar_is_unpacked_whatever_it_is_packed_with(tmp_path, folder, name, mode):
    files = unpack([write_tar(tmp_path / name, mode=mode)], folder)
    assert read_all(folder) == FILES
    assert [file.relative_to(folder).as_posix() for file in files] == list(FILES)


def test_the_content_says_what_an_archive_is_not_its_name(tmp_path, folder):
    unpack([write_tar(tmp_path / "x.zip", mode="w:gz")], folder)
    assert read_all(folder) == FILES


@pytest.mark.parametrize("num_parts", [2, 3, 40])
@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_parts_are_joined_in_any_order(tmp_path, folder, write, num_parts):
    parts = write_parts(write(tmp_path / "mp3.zip"), num_parts)
    unpack(parts[::-1], folder)
    assert read_all(folder) == FILES


def test_a_missing_part_is_named(tmp_path, folder):
    parts = write_parts(write_zip(tmp_path / "mp3.zip"), 3)
    refuse([parts[0], parts[2]], folder, r"its part mp3\.zip\.002 is missing")
    refuse(parts[1:], folder, r"its part mp3\.zip\.001 is missing")
    refuse(parts[:2], folder, "mp3.zip: is damaged .*fetch it again")


def test_several_archives_are_merged_into_one_folder_that_exists(tmp_path, folder):
    (folder / "audio").mkdir(parents=True)
    (folder / "audio" / "mine.mp3").write_bytes(b"mine")
    first = write_zip(tmp_path / "1.zip")
    second = write_tar(tmp_path / "2.tar", {"audio/c.mp3": b"c", "audio/deep/d.mp3": b"d"})
    unpack([first, second], folder)
    added = {"audio/mine.mp3": b"mine", "audio/c.mp3": b"c", "audio/deep/d.mp3": b"d"}
    assert read_all(folder) == FILES | added


def test_unpacking_twice_changes_nothing_and_mends_what_was_changed(tmp_path, folder):
    archive = write_zip(tmp_path / "x.zip")
    unpack([archive], folder)
    (folder / "table.csv").write_bytes(b"spoilt")
    unpack([archive], folder)
    assert read_all(folder) == FILES


def test_entries_for_folders_and_leading_dots_are_fine(tmp_path, folder):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in (".", "./a", "./a/b"):
            member = tarfile.TarInfo(name)
            member.type, member.mode = tarfile.DIRTYPE, 0o000
            archive.addfile(member)
    write_zip(tmp_path / "y.zip", {"./a/b/": b"", "./a/./c.txt": b"c"})
    unpack([tmp_path / "x.tar", tmp_path / "y.zip"], folder)
    assert read_all(folder) == {"a/c.txt": b"c"}
    assert (folder / "a" / "b").is_dir()


def test_nothing_comes_out_executable_or_with_another_owner(tmp_path, folder):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        member = tarfile.TarInfo("run.sh")
        member.mode, member.uid = 0o6777, 12_345
        archive.addfile(member)
    unpack([tmp_path / "x.tar"], folder)
    state = (folder / "run.sh").stat()
    assert stat.S_IMODE(state.st_mode) & 0o7111 == 0
    assert state.st_uid == os.getuid()


SLIPS = [
    "../x",
    "a/../../x",
    "a/..",
    "/x",
    "//x",
    "..\\x",
    "a\\b",
    "C:/x",
    "c:x",
    "a/C:x",
    "\\\\server\\share\\x",
    ".mulap/unpacked/x.json",
    "a/.MULAP/x",
    "a\nb",
    "a\x1b[2J",
]


@pytest.mark.parametrize("write", [write_zip, write_tar])
@pytest.mark.parametrize("name", SLIPS)
def test_names_that_lead_elsewhere_are_refused(tmp_path, folder, write, name):
    archive = write(tmp_path / "x", {"good.mp3": b"good", name: b"bad"})
    refuse(archive, folder, "Nothing of it was unpacked")
    assert read_all(tmp_path) == {"x": archive.read_bytes()}


def test_a_name_cut_at_a_nul_is_refused(tmp_path, folder):
    archive = write_zip(tmp_path / "x.zip", {"good.mp3@../../x": b"bad"})
    archive.write_bytes(archive.read_bytes().replace(b"@", b"\0"))
    refuse(archive, folder, "leads out of the folder|control characters")


NAMES = st.lists(
    st.sampled_from(
        ["..", ".", "", "a", "b.mp3", "C:", "~", "a b", "\\", "é", "x" * 300, ".mulap"]
    ),
    min_size=1,
    max_size=5,
).map("/".join).filter(bool) | st.text(st.characters(codec="utf-8"), min_size=1, max_size=12)


@pytest.mark.parametrize("write", [write_zip, write_tar])
@settings(max_examples=60, derandomize=True, deadline=None)
@given(names=st.lists(NAMES, min_size=1, max_size=4, unique=True))
def test_whatever_the_names_nothing_is_written_outside(write, names):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        write(root / "x", dict.fromkeys(names, b"content"))
        before = read_all(root)
        files, message = try_unpack(root / "x", root / "data" / "out")
        assert "\n" not in message
        outside = {n: c for n, c in read_all(root).items() if not n.startswith("data/out/")}
        assert outside == before
        inside = read_all(root / "data" / "out")
        assert sorted(inside) == sorted(
            {f.relative_to(root / "data/out").as_posix() for f in files}
        )


LINKS = {
    "symlink": (tarfile.SYMTYPE, "../../secret"),
    "symlink inside": (tarfile.SYMTYPE, "good.mp3"),
    "hard link": (tarfile.LNKTYPE, "good.mp3"),
    "device": (tarfile.CHRTYPE, ""),
    "block device": (tarfile.BLKTYPE, ""),
    "pipe": (tarfile.FIFOTYPE, ""),
}


@pytest.mark.parametrize(("kind", "goal"), LINKS.values(), ids=LINKS)
def test_a_tar_with_a_link_or_a_device_is_refused(tmp_path, folder, kind, goal):
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        good, bad = tarfile.TarInfo("good.mp3"), tarfile.TarInfo("bad")
        bad.type, bad.linkname = kind, goal
        archive.addfile(good)
        archive.addfile(bad)
        through = tarfile.TarInfo("bad/x")
        through.size = 1
        archive.addfile(through, io.BytesIO(b"x"))
    refuse(tmp_path / "x.tar", folder, "is a link, a device or a sparse file")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_a_zip_with_a_link_or_a_device_is_refused(tmp_path, folder, kind):
    info = zipfile.ZipInfo("bad")
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("good.mp3", b"good")
        archive.writestr(info, "../../secret")
    refuse(tmp_path / "x.zip", folder, "is a link or a device")


def test_an_archive_never_writes_through_a_link_that_is_there(tmp_path, folder):
    (tmp_path / "elsewhere").mkdir()
    folder.mkdir(parents=True)
    (folder / "audio").symlink_to(tmp_path / "elsewhere")
    refuse(write_zip(tmp_path / "x.zip"), folder, "audio, which is a link")
    assert read_all(tmp_path / "elsewhere") == {}
    (folder / "audio").unlink()
    (folder / "table.csv").symlink_to(tmp_path / "nowhere")
    refuse(tmp_path / "x.zip", folder, "table.csv, which is a link")


def test_the_folder_itself_may_be_a_link_of_the_user(tmp_path, folder):
    (tmp_path / "large disk").mkdir()
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "large disk")
    unpack([write_zip(tmp_path / "x.zip")], folder)
    assert read_all(tmp_path / "large disk") == FILES


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_files_and_folders_of_one_name_are_refused(tmp_path, folder, write):
    folder.mkdir(parents=True)
    (folder / "audio").write_bytes(b"a file")
    refuse(write(tmp_path / "1"), folder, "audio, which is of another kind")
    (folder / "audio").unlink()
    (folder / "table.csv").mkdir()
    refuse(write(tmp_path / "2"), folder, "table.csv, which is of another kind")
    refuse(write(tmp_path / "3", {"a": b"", "a/b": b""}), folder, "cannot be unpacked")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a/b", b"1")
        archive.writestr("a//./b", b"2")
    refuse(tmp_path / "x.zip", folder, "has 'a//./b' twice")


def test_a_zip_with_a_password_is_refused(tmp_path, folder):
    archive = write_zip(tmp_path / "x.zip", {"a": b"1"}, zipfile.ZIP_STORED)
    content = bytearray(archive.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    refuse(archive, folder, "'a' needs a password")


def test_an_archive_larger_than_the_free_disk_is_refused_at_once(tmp_path, folder, monkeypatch):
    usage = type("Usage", (), {"free": 50_000})
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(archives, "_write", lambda *_: pytest.fail("began to write"))
    refuse(write_zip(tmp_path / "x.zip"), folder, "needs 73,008 bytes, but only 50,000 are free")
    refuse(write_tar(tmp_path / "x.tar"), folder, "needs 70,000 bytes, but only 50,000 are free")


@pytest.mark.parametrize("write", [write_zip, lambda *args: write_tar(*args, mode="w:gz")])
def test_absurd_expansion_is_refused(tmp_path, folder, monkeypatch, write):
    monkeypatch.setattr(archives, "SMALL_BYTES", 1_000_000)
    archive = write(tmp_path / "x", {f"{index}": bytes(200_000) for index in range(10)})
    refuse(archive, folder, "claims .* bytes, more than 100 times its own")


def test_endless_empty_files_are_absurd_too(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(archives, "SMALL_BYTES", 1_000_000)
    monkeypatch.setattr(archives, "MAX_EXPANSION", 20)
    archive = write_tar(tmp_path / "x.tgz", {f"{i}": b"" for i in range(2_500)}, mode="w:gz")
    refuse(archive, folder, "claims .* bytes, more than 20 times its own")


@pytest.mark.parametrize(
    "content", [b"", b"not an archive", b"PK\x03\x04", bytes(10_240), b"<html>"]
)
def test_what_is_no_archive_is_refused(tmp_path, folder, content):
    (tmp_path / "x.zip").write_bytes(content)
    if content == bytes(10_240):  # a tar of nothing: two blocks of zeros, filled up
        assert unpack([tmp_path / "x.zip"], folder) == []
    else:
        refuse(tmp_path / "x.zip", folder, "neither a zip nor a tar archive|is damaged")


@pytest.mark.parametrize("kind", [tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME])
def test_a_header_that_would_fill_the_memory_is_refused(tmp_path, folder, kind):
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 2**32
    with gzip.open(tmp_path / "x.tgz", "w") as out:
        out.write(header.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))
    refuse(tmp_path / "x.tgz", folder, "has a header of more than")


def peak_bytes(work) -> int:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", [tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME])
def test_endless_headers_without_an_entry_are_refused(tmp_path, folder, kind):
    header = tarfile.TarInfo("long")
    header.type, header.size = kind, 512
    content = b"11 a=12345\n".ljust(512, b"\0") if kind == tarfile.XGLTYPE else b"x" * 512
    with gzip.open(tmp_path / "x.tgz", "w") as out:
        out.write((header.tobuf(tarfile.GNU_FORMAT) + content) * 20_000)
    refuse(tmp_path / "x.tgz", folder, "has a header of more than|is damaged")


def test_reading_a_tar_takes_no_more_memory_with_more_entries_and_headers(tmp_path):
    def write(num_entries):
        path = tmp_path / f"{num_entries}.tar"
        with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as archive:
            for number in range(num_entries):
                archive.addfile(tarfile.TarInfo(f"{number:0200}"))
        header = tarfile.TarInfo("global")
        header.type, header.size = tarfile.XGLTYPE, 512
        record = lambda i: f"500 key{i:04}={'x' * 487}\n".encode().ljust(512, b"\0")  # noqa: E731
        rest = path.read_bytes()
        path.write_bytes(
            b"".join(
                header.tobuf(tarfile.GNU_FORMAT) + record(i) + rest[1536 * i : 1536 * (i + 1)]
                for i in range(num_entries)
            )
        )
        return path

    def count(path):
        with open(path, "rb") as file:
            return sum(1 for _ in read_tar(file))

    few, many = write(100), write(2_000)
    assert count(few) == 100
    assert peak_bytes(lambda: count(many)) < 1.5 * peak_bytes(lambda: count(few))


def test_a_missing_archive_is_a_line(tmp_path, folder):
    refuse(tmp_path / "gone.zip", folder, "cannot be unpacked: No such file")


def test_a_tar_with_a_spoilt_header_in_the_middle_is_refused(tmp_path, folder):
    archive = write_tar(tmp_path / "x.tar", {"a": b"1", "b": b"2", "c": b"3"})
    content = bytearray(archive.read_bytes())
    content[1024 : 1024 + 100] = b"?" * 100  # tarfile takes that for the end
    archive.write_bytes(content)
    refuse(archive, folder, "is damaged .*more after its end")


def test_a_spoilt_header_at_the_very_end_is_noticed(tmp_path, folder):
    archive = write_tar(tmp_path / "x.tar", {"a": b"1"})
    archive.write_bytes(archive.read_bytes()[:1024] + b"?" * 512)
    refuse(archive, folder, "is damaged .*more after its end")


@pytest.mark.parametrize("write", [write_zip, write_tar])
def test_a_file_without_a_name_is_refused(tmp_path, folder, write):
    refuse(write(tmp_path / "x", {"good.mp3": b"good", "./.": b"?"}), folder, "'./.' has no name")


@pytest.mark.parametrize("num_renames", [1, 2, 3, 4, 5])
def test_an_error_while_files_are_put_in_place_leaves_all_as_it_was(
    tmp_path, folder, monkeypatch, num_renames
):
    """The first file stayed, though the docstring said that nothing is left."""
    (folder / "b").mkdir(parents=True)
    (folder / "b" / "old.txt").write_bytes(b"old")
    (folder / "c.txt").write_bytes(b"old")
    archive = write_zip(tmp_path / "x.zip", {n: b"new" for n in ("a/1", "b/new.txt", "c.txt", "d")})
    rename, calls = os.replace, []

    def fail_late(source, target):
        calls.append(source)
        if len(calls) == num_renames:
            raise OSError(errno.EIO, "Input/output error", target)
        rename(source, target)

    monkeypatch.setattr(archives.os, "replace", fail_late)
    refuse(archive, folder, "cannot be unpacked: Input/output error")
    monkeypatch.undo()
    unpack([str(archive)], str(folder))
    assert read_all(folder) == {
        "a/1": b"new", "b/new.txt": b"new", "b/old.txt": b"old", "c.txt": b"new", "d": b"new",
    }  # fmt: skip


PACKED = {
    "x.zip": write_zip,
    **{n: lambda p, m=m: write_tar(p, mode=m) for n, m in TAR_MODES.items()},
}


@pytest.mark.parametrize(("name", "write"), PACKED.items())
@settings(max_examples=25, derandomize=True, deadline=None)
@given(data=st.data())
def test_a_damaged_archive_is_refused_whole_or_was_not_hurt(name, write, data):
    with tempfile.TemporaryDirectory() as temporary:
        archive = write(Path(temporary) / name)
        content = bytearray(archive.read_bytes())
        for _ in range(data.draw(st.integers(0, 3))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        del content[data.draw(st.integers(1, len(content))) :]
        archive.write_bytes(content)
        folder = Path(temporary) / "data" / "out"
        files, message = try_unpack(archive, folder)
        assert "\n" not in message
        assert sorted(read_all(folder)) == sorted(f.relative_to(folder).as_posix() for f in files)
        assert {Path(temporary) / name, folder.parent} == set(Path(temporary).iterdir())


def test_two_that_unpack_into_one_folder_do_not_disturb_each_other(tmp_path, folder):
    files = {f"{index}.txt": bytes([index]) * 50 for index in range(100)}
    archive = write_zip(tmp_path / "x.zip", files)
    threads = [threading.Thread(target=unpack, args=([archive], folder)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_all(folder) == files


KILLED = """
import os, pathlib, signal, sys
from mulap import archives
where, archive, folder = sys.argv[1:]
counted = getattr(archives.os, "replace") if where == "rename" else archives._write
calls = []
def call(*args):
    calls.append(args)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return counted(*args)
if where == "rename":
    archives.os.replace = call
else:
    archives._write = call
archives.unpack([pathlib.Path(archive)], pathlib.Path(folder))
"""


@pytest.mark.parametrize("where", ["write", "rename"])
def test_a_kill_half_way_leaves_nothing_that_looks_whole(tmp_path, folder, where):
    files = {f"{index}.txt": b"content" for index in range(5)}
    archive = write_zip(tmp_path / "x.zip", files)
    command = [sys.executable, "-c", KILLED, where, str(archive), str(folder)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    left = {name for name in read_all(folder) if not name.startswith(".mulap/")}
    assert left == (set() if where == "write" else {"0.txt", "1.txt"})
    assert (folder / ".mulap" / "unpacking").is_dir()
    (folder / ".mulap" / "unpacking" / "stray.txt").write_bytes(b"from another archive")
    unpack([archive], folder)
    assert read_all(folder) == files


def test_gzip_and_bzip2_that_end_early_are_refused(tmp_path, folder):
    write_tar(tmp_path / "x.tar")
    for name, pack in (("x.gz", gzip.compress), ("x.bz2", bz2.compress)):
        (tmp_path / name).write_bytes(pack((tmp_path / "x.tar").read_bytes())[:-20])
        refuse(tmp_path / name, folder, "is damaged")
