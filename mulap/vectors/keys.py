"""The key of an audio file: a hash of the audio in it, so that the same audio is embedded once.

The key is the SHA-256 of the compressed audio as the demuxer gives it, packet by packet, and of
what a decoder has to know besides. New tags, a new cover or another place leave it as it is.
"""

import hashlib
import os
import re
import stat
import time
from pathlib import Path

from av.error import FFmpegError

from mulap.containers import FilePart, split_ogg
from mulap.decode import AudioError
from mulap.ffmpeg import open_container
from mulap.files import AnyPath, sha256_of
from mulap.vectors.journal import Journal, read_journal

# A file may be written again within one tick of its clock, unseen: the younger are hashed again.
_SETTLED_NANOSECONDS = 2_000_000_000
# Their extra data holds the comments, too; no packet can be decoded with another's code books.
_CODECS_WITH_TAGS = ("vorbis", "theora", "speex")


def file_name(path: AnyPath) -> str:
    """Return a path as text, also where its bytes are not UTF-8."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def real_path(name: str) -> str:
    """Return the path that a name of `file_name` stands for."""
    if os.path.exists(name):
        return name
    escaped = re.sub(
        rb"\\x([89a-f][0-9a-f])", lambda hit: bytes.fromhex(hit[1].decode()), name.encode()
    )
    return os.fsdecode(escaped)


def file_version(path: AnyPath) -> str:
    """Return what changes when a file is written: its size in bytes and time in nanoseconds."""
    status = os.stat(path)
    return f"{status.st_size}-{status.st_mtime_ns}"


def audio_key(path: AnyPath) -> str:
    """Return the key of the audio in a file: 64 hex digits.

    Of a file that FFmpeg cannot demux, all bytes are hashed instead.

    Raises:
        AudioError: the file cannot be read.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # opening a pipe would wait for ever
            raise AudioError(path, "is not a regular file. Save the audio to a file first.")
        with open(path, "rb", buffering=0) as file:
            return _hash_packets(FilePart(file.fileno())) or sha256_of(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise AudioError(path, f"cannot be read: {reason}. Check its permissions.") from error


def _hash_packets(file: FilePart) -> str | None:
    """Hash a file's first audio stream; None where the file has none, or cannot be demuxed."""
    digest = hashlib.sha256()
    num_bytes = 0
    try:
        for part in split_ogg(file):  # FFmpeg reads the first of joined files alone
            with open_container(part) as container:
                if not container.streams.audio:
                    return None
                stream = container.streams.audio[0]
                codec = stream.codec_context
                about = (container.format.name, codec.name, codec.sample_rate, codec.channels)
                digest.update(repr(about).encode())
                if codec.name not in _CODECS_WITH_TAGS:
                    digest.update(codec.extradata or b"")
                for packet in container.demux(stream):
                    digest.update(packet)
                    num_bytes += packet.size
    # A header that makes no sense; a place before the start that FFmpeg asks for.
    except (FFmpegError, ValueError, OSError):
        return None
    return digest.hexdigest() if num_bytes else None


class KnownFiles:
    """The keys of files, of unchanged ones without reading them again.

    They are in a journal with names, sizes and times; the last line of a name counts. Any number of
    runs may append to it at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, tuple[str, str]] = {
            values["file"]: (values["version"], values["key"]) for values in read_journal(path)
        }

    def key(self, path: AnyPath) -> str | None:
        """Return a file's key if the file has not changed since the key was computed."""
        name = os.path.realpath(path)  # a link that points elsewhere now has another name
        try:
            version, key = self._known[name]
            return key if file_version(name) == version else None
        except (KeyError, OSError):  # not known, or gone
            return None

    def version(self, path: AnyPath) -> str:
        """Return which version of a file the known key belongs to; empty if none is known."""
        return self._known.get(os.path.realpath(path), ("", ""))[0]

    def add(self, path: AnyPath, version: str, key: str) -> None:
        """Remember a file's key, with the `file_version` from before the file was read."""
        name = os.path.realpath(path)
        self._known[name] = (version, key)
        if time.time_ns() - int(version.partition("-")[2]) > _SETTLED_NANOSECONDS:
            journal = Journal(self.path)
            journal.append({"file": name, "version": version, "key": key})
            journal.close()
