"""A file from a web server, whole or not at all.

    NAME.part    what has come so far, and the lock: one process at a time writes to it
    NAME         appears by a rename, once size and checksum are right

A download with a checksum resumes where the last try stopped (HTTP Range). Without a checksum it
starts over, since parts of two versions of the file could be joined unnoticed.

Plain http, which anybody on the way can change, is taken with a checksum only. An https source that
gives neither checksum nor size may still send a wrong file.
"""

import hashlib
import http.client
import os
import re
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from mulap.files import AnyPath
from mulap.locks import wait_for_lock
from mulap.terminal import BYTES, Progress, say

TIMEOUT_SECONDS = 30.0
"""How long a server may say nothing."""

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0)
"""Before each new try; after the last, tries that bring nothing new are given up."""

_TRY_AGAIN = frozenset({408, 429, 500, 502, 503, 504})
_CHECKSUM = re.compile(r"(sha256:[0-9a-f]{64}|sha1:[0-9a-f]{40}|md5:[0-9a-f]{32})?")
_THIS_MACHINE = frozenset({"127.0.0.1", "::1", "localhost"})
_BLOCK_BYTES = 2**18


class _Dropped(Exception):
    """A try that failed for a reason that may pass."""


@dataclass(frozen=True)
class _Download:
    """What `fetch` was asked for."""

    url: str
    target: Path
    checksum: str
    num_bytes: int | None

    @property
    def part(self) -> Path:
        return self.target.with_name(self.target.name + ".part")

    def find_fault(self, path: Path) -> str:
        """Return what is wrong with a file's size or content, empty if nothing is."""
        num_bytes = path.stat().st_size
        if self.num_bytes not in (None, num_bytes):
            return f"has {num_bytes:,} bytes, not {self.num_bytes:,}"
        if not self.checksum:
            return ""
        name, _, wanted = self.checksum.partition(":")
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, lambda: hashlib.new(name, usedforsecurity=False))
        found = digest.hexdigest()
        return "" if found == wanted else f"has the {name} {found}, not {wanted}"

    def is_done(self) -> bool:
        return self.target.is_file() and not self.find_fault(self.target)


def fetch(url: str, target: AnyPath, checksum: str = "", num_bytes: int | None = None) -> bool:
    """Fetch a file, unless it is there already.

    Args:
        url: https; or http, with a checksum or from this machine.
        target: where the file goes; its folder is made. A file there that fails size or checksum
            is replaced; without either, it is taken for right.
        checksum: `sha256:...`, `sha1:...` or `md5:...`, lower case; empty where none is known.
        num_bytes: the file's size; None where it is not known.

    Returns:
        Whether it was fetched now, by this process.

    Raises:
        ValueError: the server does not give the file, what it gives is another one, or it cannot
            be written. Always one line; what came of a dropped file is kept for the next run.
    """
    _check_url(url, checksum)
    target = Path(target)
    if not _CHECKSUM.fullmatch(checksum):
        raise ValueError(
            f"checksum {checksum!r}: not a known form. Give sha256:, sha1: or md5: and the hex "
            "digits."
        )
    job = _Download(url, target, checksum, num_bytes)
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        if job.is_done():
            return False
        with _open_alone(job) as part:
            if job.is_done():  # by the process that we waited for
                return False
            had_part = part.seek(0, os.SEEK_END) > 0
            _download(part, job)
            if had_part and job.find_fault(job.part):  # it may be of an older version
                part.truncate(0)
                _download(part, job)
            if fault := job.find_fault(job.part):
                part.truncate(0)  # an empty part is removed
                raise ValueError(
                    f"{url}: the downloaded file {fault} and was removed. Try again later."
                )
            os.fsync(part.fileno())
            os.replace(job.part, job.target)
            # Version 0.1 kept the file's version there.
            target.with_name(f"{target.name}.part.json").unlink(missing_ok=True)
            return True
    except OSError as error:
        reason = f"cannot be written: {error.strerror or error}"
        raise ValueError(f"{target}: {reason}. Free some space, or give another folder.") from error


def _check_url(url: str, checksum: str) -> None:
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise ValueError(
            f"{url!r}: not a web address. Give one that begins with https:// or http://."
        )
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "http" and not checksum and parts.hostname not in _THIS_MACHINE:
        raise ValueError(
            f"{url}: anyone on the way can change plain http. Use https, or give a checksum."
        )


@contextmanager
def _open_alone(job: _Download) -> Iterator[BinaryIO]:
    """Open the part for this process only, once no other has it; leave no empty one behind."""
    while True:
        with open(os.open(job.part, os.O_RDWR | os.O_CREAT, 0o666), "r+b") as part:
            waiting = f"{job.target}: another process is downloading it; waiting for it to end"
            wait_for_lock(part.fileno(), job.part, waiting)
            # What we waited for may have been renamed or removed; then ours is not the part.
            if not _is_open(part, job.part):
                continue
            try:
                yield part
            finally:
                if _is_open(part, job.part) and not job.part.stat().st_size:
                    job.part.unlink()
            return


def _is_open(file: BinaryIO, path: Path) -> bool:
    return path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _download(part: BinaryIO, job: _Download) -> None:
    most, num_vain = part.seek(0, os.SEEK_END), 0
    with Progress(job.target.name, job.num_bytes, BYTES) as progress:
        while True:
            try:
                return _try_once(part, job, progress)
            except _Dropped as dropped:
                part.flush()
                num_bytes = part.seek(0, os.SEEK_END)
                num_vain = 0 if num_bytes > most else num_vain + 1
                most = max(most, num_bytes)
                if num_vain > len(PAUSES_SECONDS):
                    if not job.checksum:
                        num_bytes = part.truncate(0)
                    kept = f"{num_bytes:,} bytes are kept. Run it again later."
                    raise ValueError(f"{job.url}: {dropped}, {num_vain} times; {kept}") from dropped
                pause = PAUSES_SECONDS[max(num_vain - 1, 0)]
                say(f"{job.url}: {dropped}; trying again in {pause:g} s")
                time.sleep(pause)


def _try_once(part: BinaryIO, job: _Download, progress: Progress) -> None:
    start = part.seek(0, os.SEEK_END)
    if start and not job.checksum:
        start = part.truncate(0)
    if start and start == job.num_bytes:
        return  # all came, but the run was killed before the rename
    headers = {"User-Agent": "mulap"} | ({"Range": f"bytes={start}-"} if start else {})
    with _ask(job, headers) as response:
        begin, total = _find_extent(response)
        if response.status == 416 and total == start:
            return
        if begin != start:
            part.truncate(0)
            if response.status != 200:  # asked for without a Range next time
                raise _Dropped(f"the server answers {response.status}, not with the rest")
        _receive(part, response, total, job, progress)


def _receive(
    part: BinaryIO,
    response: http.client.HTTPResponse,
    total: int | None,
    job: _Download,
    progress: Progress,
) -> None:
    """Append what a response holds to the part."""
    if total is not None and job.num_bytes not in (None, total):
        part.truncate(0)
        raise ValueError(
            f"{job.url}: has {total:,} bytes, not {job.num_bytes:,}: the file was changed there. "
            "Report it, or download another version yourself."
        )
    num_bytes = part.seek(0, os.SEEK_END)
    free = shutil.disk_usage(job.target.parent).free
    if total is not None and total - num_bytes > free:
        more = f"{total - num_bytes:,} more bytes do not fit, {free:,} are free"
        raise ValueError(f"{job.target}: {more}. Free some space, or give another folder.")
    for block in _read_blocks(response):
        part.write(block)
        num_bytes += len(block)
        progress.update(num_bytes, total)
    part.flush()
    # `HTTPResponse.read` does not distinguish a dropped connection from the end.
    if total is not None and num_bytes < total:
        raise _Dropped(f"the connection was dropped after {num_bytes:,} of {total:,} bytes")


def _ask(job: _Download, headers: dict[str, str]) -> Any:
    """Return a response of status 200, 206 or 416; `HTTPError` is one too."""
    opener = urllib.request.build_opener(_WebRedirects(job.checksum))
    request = urllib.request.Request(job.url, headers=headers)
    try:
        response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        response = error
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(_describe(error)) from error
    if response.status in (200, 206, 416):
        return response
    response.close()
    code: Any = response.status
    status = f"{code} {http.client.responses.get(code, '')}".strip()
    if code in _TRY_AGAIN:
        raise _Dropped(f"the server answers {status}")
    raise ValueError(
        f"{job.url}: the server answers {status}. Check whether the address is still right."
    )


def _read_blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    try:
        while block := response.read1(_BLOCK_BYTES):
            yield block
    except (OSError, http.client.HTTPException) as error:
        raise _Dropped(_describe(error)) from error


class _WebRedirects(urllib.request.HTTPRedirectHandler):
    """Follow redirects only to addresses that may be fetched; urllib would follow ftp too."""

    def __init__(self, checksum: str) -> None:
        self.checksum = checksum

    def redirect_request(self, *args: Any) -> urllib.request.Request | None:
        _check_url(args[-1], self.checksum)
        return super().redirect_request(*args)


def _describe(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return "no connection: " + (" ".join(str(reason).split()) or type(reason).__name__)


def _find_extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Return where a response begins in the file, -1 if it does not say, and the file's size."""
    if response.status == 200:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    said = response.headers.get("Content-Range", "")
    found = re.fullmatch(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", said.strip())
    if not found:
        return -1, None
    begin, total = found.groups()
    return int(begin or -1), None if total == "*" else int(total)
