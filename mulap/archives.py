"""The one guarded reader of archives, and archives -> plain files in a folder, all or none.

`read_tar` gives the entries of a tar one by one, in bounded memory, with what is unsafe about each;
`unpack` writes the files of whole archives, and refuses an archive with an unsafe entry:

    x.zip.001 x.zip.002 ..     joined as they are read; zip or tar, packed or not, by content
        |
    FOLDER/.mulap/unpacking    first all files go here; what a killed run left is removed
        |
    FOLDER                     then each is renamed to its place, beside what is there already

Folders and plain files are all that comes out. An archive with anything else (a link, a device), or
with a name that leads elsewhere, is refused as a whole: no data set needs them. `extract` of
`zipfile` and `tarfile` is never called; every file is created here, below a folder of ours. (The
data filter of `tarfile` would let links inside the folder pass, and silently rename `/etc/x`.)

A kill while files are renamed leaves some of them in place, and the folder `unpacking`; who needs
to know whether all are there remembers what `unpack` returned (as `mulap.tasks.fetch` does).
"""

import bz2
import gzip
import io
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import IO, Any, NamedTuple

from mulap.files import AnyPath
from mulap.locks import wait_for_lock

OWN_FOLDER = ".mulap"
"""Holds what this package notes down in a data folder. No archive may write there."""

MAX_EXPANSION = 100
"""How many times its own size an archive may claim to grow, beyond `SMALL_BYTES`. Audio hardly
shrinks, and tables of labels are small."""

SMALL_BYTES = 2**30

MAX_HEADER_BYTES = 2**20
"""What may describe one entry of a tar; real ones take a few blocks of 512. Unpacked into Python's
objects it may take some 20 times as much memory."""

_REMEDY = "Remove the file and fetch it again."
_ENTRY_BYTES = 512  # counted for each entry, so that endless empty ones add up too
_ZIP_BEGINS = (b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")
_UNPACKERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
_PART = re.compile(r"(?P<whole>.+)\.(?P<number>\d{3})")
DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,  # a packing method that zipfile lacks
    ValueError,  # numbers and names that are none
    OverflowError,
    RecursionError,  # tarfile, by a chain of headers without an entry
)
"""What reading a damaged archive raises; `Refused` is one of them."""


class Refused(ValueError):
    """Why an archive is not unpacked."""


class Entry(NamedTuple):
    """An entry of an archive."""

    name: str  # as the archive has it; never use it as a path where there is a `problem`
    num_bytes: int  # that the file claims to have
    # opens its content, before the next entry is read; None for a folder
    open: Callable[[], IO[bytes]] | None
    problem: str = ""  # what is unsafe about it, as "leads out of the folder"; empty if nothing is


def unpack(
    archives: Sequence[AnyPath],
    folder: AnyPath,
    wanted: Callable[[str], bool] = lambda name: True,
) -> list[Path]:
    """Unpack archives into a folder, which may hold other files already.

    A file of the same name is replaced. Two processes may unpack into one folder; the second waits.

    Args:
        archives: zip, or tar with or without gzip, bzip2 or xz. The parts of one archive (`.001`,
            `.002`, ...) are joined; every other file is an archive of its own.
        folder: where to; made if it is missing.
        wanted: which files to write, by name. An archive with an unsafe entry is refused even if
            that entry is not wanted.

    Returns:
        The paths of the files, in the archives' order.

    Raises:
        ValueError: an archive is damaged, unsafe, or too large for the disk, or something of
            another kind is in its way. Nothing of that archive is left then, and what was there
            before is as it was. One line.
    """
    folder = Path(folder)
    files = []
    for name, parts in _join_parts([Path(path) for path in archives]).items():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _temporary_folder(folder) as temporary:
                new = temporary / "new"
                new.mkdir()
                names = _extract(parts, new, wanted)
                _move_all(list(_plan_moves(new, folder)), temporary)
            files += [folder / each for each in names]
        except Refused as refused:
            raise ValueError(f"{name}: {refused}. Nothing of it was unpacked.") from refused
        except DAMAGED as error:
            reason = " ".join(str(error).split())[:200] or type(error).__name__
            raise ValueError(f"{name}: is damaged ({reason}). {_REMEDY}") from error
        except OSError as error:
            if error.errno is None:  # gzip and bzip2 mean the content
                raise ValueError(f"{name}: is damaged ({error}). {_REMEDY}") from error
            where = _show(os.fspath(error.filename or folder))
            raise ValueError(
                f"{name}: cannot be unpacked: {error.strerror}, {where}. Free some space, or "
                "give another folder."
            ) from error
    return files


def _join_parts(archives: Sequence[Path]) -> dict[Path, list[Path]]:
    """Return archives by name, each with its parts in order."""
    found: dict[Path, list[Path]] = {}
    for path in archives:
        part = _PART.fullmatch(path.name)
        found.setdefault(path.with_name(part["whole"]) if part else path, []).append(path)
    for name, parts in found.items():
        if parts == [name]:
            continue
        parts.sort()
        for number, part in enumerate(parts, start=1):
            wanted = name.with_name(f"{name.name}.{number:03}")
            if part != wanted:
                raise ValueError(f"{name}: its part {wanted.name} is missing. Fetch it too.")
    return found


@contextmanager
def _temporary_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder within `folder`, to this process only, and remove it in the end."""
    own = folder / OWN_FOLDER
    temporary = own / "unpacking"
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        wait_for_lock(descriptor, folder)
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        try:
            yield temporary
        finally:
            shutil.rmtree(temporary)
            with suppress(OSError):  # other notes are in it
                own.rmdir()
    finally:
        os.close(descriptor)


def _extract(parts: Sequence[Path], folder: Path, wanted: Callable[[str], bool]) -> list[str]:
    """Write an archive's files into an empty folder; return their relative paths."""
    with ExitStack() as stack:
        joined = _JoinedFiles([stack.enter_context(open(part, "rb", 0)) for part in parts])
        check_room = partial(_check_room, folder, joined.num_bytes)
        file = stack.enter_context(io.BufferedReader(joined, 2**18))
        is_zip = file.peek(4).startswith(_ZIP_BEGINS)
        total, names = 0, []
        entries = _zip_entries(file, check_room) if is_zip else _packed_tar_entries(file)
        for entry in entries:
            if entry.problem:
                raise Refused(f"{_show(entry.name)} {entry.problem}")
            name = "/".join(_parts(entry.name))
            if not wanted(name):
                continue
            total += entry.num_bytes + _ENTRY_BYTES
            check_room(total, entry.num_bytes)
            if entry.open is None:
                (folder / name).mkdir(parents=True, exist_ok=True)
                continue
            _write(entry, entry.open, folder / name)
            names.append(name)
    return names


def _write(entry: Entry, open_entry: Callable[[], IO[bytes]], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        out = open(path, "xb")
    except FileExistsError:
        raise Refused(f"has {_show(entry.name)} twice") from None
    with out, open_entry() as content:
        shutil.copyfileobj(content, out, 2**20)
        if out.tell() != entry.num_bytes:
            raise EOFError(f"{_show(entry.name)} is cut short")


def _zip_entries(file: IO[bytes], check_room: Callable[[int, int], None]) -> Iterator[Entry]:
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        total = sum(info.file_size for info in infos)
        check_room(total, total)
        for info in infos:
            # zipfile itself cuts names at a NUL; the original is what is judged.
            name = info.orig_filename
            is_folder = name.endswith("/")
            problem = _find_problem(name, is_folder)
            # Unix's kind of file, if the zip was made there; 0 elsewhere.
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                problem = "is a link or a device"
            elif info.flag_bits & 1:
                problem = "needs a password"
            opener = None if is_folder else partial(archive.open, info)
            yield Entry(name, info.file_size, opener, problem)


def _packed_tar_entries(file: "io.BufferedReader[Any]") -> Iterator[Entry]:
    """Give the entries of a tar, packed or not."""
    openers = [opener for start, opener in _UNPACKERS.items() if file.peek(6).startswith(start)]
    with openers[0](file) if openers else nullcontext(file) as content:
        yield from read_tar(content)


def read_tar(content: IO[bytes]) -> Iterator[Entry]:
    """Give the entries of an unpacked tar one by one, however many there are, in bounded memory.

    Raises:
        Exception: one of `DAMAGED`, where the tar is not whole or a header is absurdly long. What
            was given before is all right.
    """
    guarded = _GuardedFile(content)
    try:
        archive = guarded.within_limit(lambda: tarfile.open(fileobj=guarded, mode="r:"))
    except tarfile.ReadError as error:
        raise tarfile.ReadError(f"neither a zip nor a tar archive: {error}") from error
    with archive:
        while (member := guarded.within_limit(archive.next)) is not None:
            # Both grow with every entry, and are not needed.
            archive.members.clear()
            archive.pax_headers.clear()
            name, is_folder = member.name, member.isdir()
            problem = _find_problem(name, is_folder)
            if not is_folder and (not member.isreg() or member.issparse()):
                problem = "is a link, a device or a sparse file"
            opener = None if is_folder else partial(_open_member, archive, member)
            yield Entry(name, 0 if is_folder else member.size, opener, problem)
    # tarfile takes any block that is no header for the end of the archive.
    block = guarded.last_block
    while not block.strip(b"\0"):
        if not (block := content.read(2**18)):
            return
    raise tarfile.ReadError("there is more after its end")


def _open_member(archive: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    content = archive.extractfile(member)
    assert content is not None  # only plain files get here
    return content


def _find_problem(name: str, is_folder: bool) -> str:
    """Return why an entry's name could mean another place, or none; empty if it cannot."""
    parts = _parts(name)
    if name.startswith("/") or ".." in parts or "\\" in name:
        return "leads out of the folder"
    if any(PureWindowsPath(part).drive for part in parts):
        return "names a drive"
    if any(ord(letter) < 32 for letter in name):
        return "has control characters in its name"
    if any(part.lower() == OWN_FOLDER for part in parts):
        return "would overwrite mulap's own notes"
    return "" if parts or is_folder else "has no name"


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _show(name: str) -> str:
    return repr(name if len(name) <= 100 else name[:100] + "...")


def _check_room(folder: Path, packed: int, total: int, more: int) -> None:
    """Refuse an archive of `packed` bytes that claims `total` bytes so far, `more` of them now."""
    if total > SMALL_BYTES and total > MAX_EXPANSION * packed:
        raise Refused(f"claims {total:,} bytes, more than {MAX_EXPANSION} times its own {packed:,}")
    free = shutil.disk_usage(folder).free
    if more > free:
        raise Refused(f"needs {more:,} bytes, but only {free:,} are free")


def _plan_moves(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    """Yield what to rename so that `source` is merged into `target`; whole folders where new."""
    for entry in sorted(source.iterdir()):
        place = target / entry.name
        if place.is_symlink():
            raise Refused(f"would replace {place}, which is a link")
        if entry.is_dir() and place.is_dir():
            yield from _plan_moves(entry, place)
        elif place.exists() and (entry.is_dir() or not place.is_file()):
            raise Refused(f"would replace {place}, which is of another kind")
        else:
            yield entry, place


def _move_all(moves: Sequence[tuple[Path, Path]], temporary: Path) -> None:
    """Rename files and folders to their places; after an error all is as it was before."""
    with ExitStack() as undo:
        for number, (source, target) in enumerate(moves):
            if target.exists():
                replaced = temporary / f"replaced-{number}"
                os.replace(target, replaced)
                undo.callback(os.replace, replaced, target)
            os.replace(source, target)
            undo.callback(os.replace, target, source)
        undo.pop_all()


class _JoinedFiles(io.RawIOBase):
    """Files read as if they were one, without a copy of them."""

    def __init__(self, files: Sequence[io.FileIO]) -> None:
        self.files, self.starts, self.num_bytes, self.position = files, [], 0, 0
        for file in files:
            self.starts.append(self.num_bytes)
            self.num_bytes += os.fstat(file.fileno()).st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.num_bytes}[whence]
        if base + offset < 0:
            raise OSError("a seek before the beginning")
        self.position = base + offset
        return self.position

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore
        index = bisect_right(self.starts, self.position) - 1
        file = self.files[index]
        file.seek(self.position - self.starts[index])
        num_read = file.readinto(buffer)
        self.position += num_read
        return num_read


class _GuardedFile(io.BufferedIOBase):
    """Lets tarfile read a few headers at a time: a bomb's ask for gigabytes, all into memory."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.left, self.last_block = file, 0, b""

    def within_limit(self, read_header: Callable[[], Any]) -> Any:
        self.left = MAX_HEADER_BYTES
        header = read_header()
        self.left = sys.maxsize  # what follows is content, copied in small blocks
        return header

    def read(self, size: int = -1, /) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        self.left -= size
        if self.left < 0:
            raise Refused(f"has a header of more than {MAX_HEADER_BYTES:,} bytes")
        self.last_block = self.file.read(size)
        return self.last_block

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        return self.file.tell()
