"""Fetching from a web server in a thread of this process, which misbehaves as it is told."""

import errno
import hashlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from mulap import downloads
from mulap.downloads import fetch
from mulap.terminal import shown

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = "sha256:" + hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Site:
    """One file, and how the server behaves about it; lists are used up, an answer at a time."""

    content: bytes = CONTENT
    has_ranges: bool = True
    has_length: bool = True
    drops: list[int] = field(default_factory=list)  # close after so many bytes
    statuses: list[int] = field(default_factory=list)
    locations: list[str] = field(default_factory=list)
    pause_seconds: float = 0.0  # between blocks of the body
    asked: list[str] = field(default_factory=list)  # the Range of each request
    address: str = ""


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, *_):
        pass

    def do_GET(self):
        site, asked = self.site, self.headers.get("Range", "")
        site.asked.append(asked)
        if site.statuses:
            self.send_response(site.statuses.pop(0))
            if site.locations:
                self.send_header("Location", site.locations.pop(0))
            self.end_headers()
            return
        start = int(asked.removeprefix("bytes=").rstrip("-") or 0) if site.has_ranges else 0
        size = len(site.content)
        if start >= size > 0:
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{size}")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        if site.has_length:
            self.send_header("Content-Length", str(size - start))
        self.end_headers()
        self.send_body(site.content[start:])

    def send_body(self, body):
        site = self.site
        body = body[: site.drops.pop(0)] if site.drops else body
        try:
            for begin in range(0, len(body), 20_000):
                self.wfile.write(body[begin : begin + 20_000])
                time.sleep(site.pause_seconds)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the client was killed


@pytest.fixture
def site(monkeypatch):
    """A site, with no pauses between tries and no proxy on the way."""
    monkeypatch.setattr(downloads, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "*")
    site = Site()
    handler = type("SiteHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    site.address = f"http://127.0.0.1:{server.server_address[1]}/x.zip"
    yield site
    server.shutdown()
    server.server_close()
    thread.join()


def leave_part(site, target, num_bytes, checksum=SHA256):
    """Have a download dropped for good after `num_bytes`."""
    site.drops = [num_bytes, 0, 0, 0, 0]
    with pytest.raises(ValueError, match="bytes are kept"):
        fetch(site.address, target, checksum)
    site.drops.clear()
    site.asked.clear()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("algorithm", ["sha256", "sha1", "md5"])
def test_a_file_is_fetched_into_a_new_folder_and_checked(site, tmp_path, algorithm):
    target = tmp_path / "a" / "b" / "x.zip"
    checksum = f"{algorithm}:{hashlib.new(algorithm, CONTENT).hexdigest()}"
    assert fetch(site.address, target, checksum, len(CONTENT))
    assert target.read_bytes() == CONTENT
    assert names_in(target.parent) == ["x.zip"]
    assert not target.stat().st_mode & 0o111


def test_a_file_that_is_there_and_right_is_not_asked_for(site, tmp_path):
    target = tmp_path / "x.zip"
    target.write_bytes(CONTENT)
    assert not fetch(site.address, target, SHA256, len(CONTENT))
    assert not fetch(site.address, target)  # nothing is known about it: taken for right
    assert site.asked == []


@pytest.mark.parametrize(("checksum", "num_bytes"), [(SHA256, None), ("", len(CONTENT))])
def test_a_file_that_is_there_and_wrong_is_replaced(site, tmp_path, checksum, num_bytes):
    target = tmp_path / "x.zip"
    target.write_bytes(CONTENT[:-1])
    fetch(site.address, target, checksum, num_bytes)
    assert target.read_bytes() == CONTENT


def test_a_dropped_connection_goes_on_where_it_stopped(site, tmp_path):
    site.drops = [100_000, 50_000]
    fetch(site.address, tmp_path / "x.zip", SHA256)
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert site.asked == ["", "bytes=100000-", "bytes=150000-"]


def test_many_drops_are_borne_as_long_as_each_try_brings_something(site, tmp_path):
    site.drops = [10_000] * 20
    fetch(site.address, tmp_path / "x.zip", SHA256)
    assert len(site.asked) == 21


def test_a_dropped_download_is_finished_by_the_next_run(site, tmp_path):
    target = tmp_path / "x.zip"
    leave_part(site, target, 120_000)
    assert names_in(tmp_path) == ["x.zip.part"]
    (tmp_path / "x.zip.part.json").write_text("as version 0.1 left it")
    fetch(site.address, target, SHA256)
    assert target.read_bytes() == CONTENT
    assert site.asked == ["bytes=120000-"]
    assert names_in(tmp_path) == ["x.zip"]


def test_without_a_checksum_a_download_starts_over_and_keeps_no_part(site, tmp_path):
    leave_part(site, tmp_path / "x.zip", 120_000, checksum="")
    assert names_in(tmp_path) == []
    (tmp_path / "x.zip.part").write_bytes(b"something else" * 1_000)
    site.drops = [120_000]
    fetch(site.address, tmp_path / "x.zip")
    assert site.asked == ["", ""]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(site, tmp_path):
    site.has_ranges, site.drops = False, [100_000]
    fetch(site.address, tmp_path / "x.zip", SHA256)
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_server_that_always_drops_and_starts_over_is_given_up(site, tmp_path):
    site.has_ranges, site.drops = False, [100_000] * 50
    with pytest.raises(ValueError, match="dropped after 100,000 of 300,000 bytes, 3 times"):
        fetch(site.address, tmp_path / "x.zip", SHA256)
    assert len(site.asked) == 4


def test_parts_of_two_versions_are_never_glued_together(site, tmp_path):
    (tmp_path / "x.zip.part").write_bytes(b"another version" * 1_000)
    fetch(site.address, tmp_path / "x.zip", SHA256)
    assert site.asked == ["bytes=15000-", ""]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


@pytest.mark.parametrize(("num_bytes", "asked"), [(None, ["bytes=300000-"]), (len(CONTENT), [])])
def test_a_whole_part_is_not_fetched_again(site, tmp_path, num_bytes, asked):
    (tmp_path / "x.zip.part").write_bytes(CONTENT)  # all came, then a kill
    fetch(site.address, tmp_path / "x.zip", SHA256, num_bytes)
    assert site.asked == asked
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_part_that_is_too_long_is_thrown_away(site, tmp_path):
    leave_part(site, tmp_path / "x.zip", 120_000)
    (tmp_path / "x.zip.part").write_bytes(CONTENT + b"more")
    fetch(site.address, tmp_path / "x.zip", SHA256)  # 416
    assert site.asked == ["bytes=300004-", ""]
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_file_of_unknown_length_is_fetched_to_its_end(site, tmp_path):
    site.has_length = False
    fetch(site.address, tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_an_empty_file_is_a_file(site, tmp_path):
    site.content = b""
    fetch(site.address, tmp_path / "x.txt", num_bytes=0)
    assert (tmp_path / "x.txt").read_bytes() == b""
    assert names_in(tmp_path) == ["x.txt"]


def test_a_wrong_checksum_removes_the_file_and_says_so_in_a_line(site, tmp_path):
    with pytest.raises(
        ValueError, match="the downloaded file has the sha256 .* and was removed"
    ) as raised:
        fetch(site.address, tmp_path / "x.zip", "sha256:" + "0" * 64)
    assert "\n" not in str(raised.value)
    assert names_in(tmp_path) == []
    fetch(site.address, tmp_path / "x.zip", SHA256)


def test_a_wrong_size_is_refused_before_the_file_comes(site, tmp_path):
    with pytest.raises(ValueError, match="has 300,000 bytes, not 300,001"):
        fetch(site.address, tmp_path / "x.zip", num_bytes=300_001)
    assert names_in(tmp_path) == []


def test_a_wrong_size_that_nobody_announced_is_refused_too(site, tmp_path):
    site.has_length = False
    with pytest.raises(ValueError, match="has 300,000 bytes, not 300,001"):
        fetch(site.address, tmp_path / "x.zip", num_bytes=300_001)
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("status", [403, 404, 410, 204])
def test_what_the_server_does_not_give_is_said_in_a_line_and_not_asked_for_again(
    site, tmp_path, status
):
    site.statuses = [status]
    with pytest.raises(ValueError, match=f"the server answers {status} ") as raised:
        fetch(site.address, tmp_path / "x.zip")
    assert "\n" not in str(raised.value)
    assert len(site.asked) == 1
    assert names_in(tmp_path) == []


def test_a_server_that_is_busy_is_asked_again(site, tmp_path):
    site.statuses = [503, 429]
    fetch(site.address, tmp_path / "x.zip", SHA256)
    assert len(site.asked) == 3


def test_no_server_at_all_is_a_line(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "PAUSES_SECONDS", (0.0,))
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(ValueError, match="no connection: .*refused.*, 2 times; 0 bytes are kept"):
        fetch("http://127.0.0.1:9/x.zip", tmp_path / "x.zip")
    assert names_in(tmp_path) == []


def test_a_silent_server_is_given_up(site, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "TIMEOUT_SECONDS", 0.05)
    site.pause_seconds, site.has_ranges = 0.2, False
    with pytest.raises(ValueError, match="timed out"):
        fetch(site.address, tmp_path / "x.zip")


def test_redirects_to_web_servers_are_followed_with_the_range(site, tmp_path):
    leave_part(site, tmp_path / "x.zip", 120_000)
    site.statuses, site.locations = [302], [site.address]
    fetch(site.address, tmp_path / "x.zip", SHA256)
    assert site.asked == ["bytes=120000-"] * 2


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/x", "file:///etc/hostname"])
def test_redirects_to_anything_else_are_refused(site, tmp_path, location):
    site.statuses, site.locations = [302], [location]
    with pytest.raises(ValueError, match="Give one that begins with http|answers 302"):
        fetch(site.address, tmp_path / "x.zip")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    "url", ["ftp://x/y", "file:///etc/hostname", "/etc/hostname", "http://a b"]
)
def test_other_addresses_are_refused(tmp_path, url):
    with pytest.raises(ValueError, match="Give one that begins with http"):
        fetch(url, tmp_path / "x")


def test_plain_http_needs_a_checksum_also_after_a_redirect(site, tmp_path):
    with pytest.raises(ValueError, match="can change plain http"):
        fetch("http://example.org/x", tmp_path / "x")
    site.statuses, site.locations = [302], ["http://example.org/x"]
    with pytest.raises(ValueError, match="can change plain http"):
        fetch(site.address, tmp_path / "x")
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("checksum", ["sha256:12", "crc:00000000", "0" * 64])
def test_a_checksum_that_is_none_is_refused(tmp_path, checksum):
    with pytest.raises(ValueError, match="Give sha256:, sha1: or md5:"):
        fetch("http://127.0.0.1:9/x", tmp_path / "x", checksum)


def test_a_full_disk_is_a_line(site, tmp_path, monkeypatch):
    usage = type("Usage", (), {"free": 1_000})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(ValueError, match="300,000 more bytes do not fit, 1,000 are free"):
        fetch(site.address, tmp_path / "x.zip")


def test_a_disk_that_fills_up_on_the_way_is_a_line(site, tmp_path, monkeypatch):
    def fsync(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(downloads.os, "fsync", fsync)
    with pytest.raises(ValueError, match="cannot be written: No space left on device"):
        fetch(site.address, tmp_path / "x.zip")


def test_a_folder_that_cannot_be_written_is_a_line(site, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match="cannot be written: (File exists|Not a directory)"):
        fetch(site.address, tmp_path / "file" / "x.zip")


def test_a_bar_is_shown_where_progress_is(site, tmp_path, notebook):
    fetch(site.address, tmp_path / "a.zip")
    assert notebook.getvalue() == ""
    with redirect_stderr(notebook), shown():
        fetch(site.address, tmp_path / "b.zip")
    assert re.search(r"\rb.zip: +\d+%\|.*/293k ", notebook.getvalue())


def test_of_two_that_fetch_one_file_the_second_waits_and_finds_it_there(site, tmp_path, caplog):
    site.pause_seconds = 0.01
    target = tmp_path / "x.zip"
    threads = [
        threading.Thread(target=fetch, args=(site.address, target, SHA256)) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert target.read_bytes() == CONTENT
    assert len(site.asked) == 1
    assert f"{target}: another process is downloading it" in caplog.text
    assert names_in(tmp_path) == ["x.zip"]


def test_a_killed_download_leaves_no_target_and_is_gone_on_with(site, tmp_path):
    site.pause_seconds = 600.0  # after its first block: the rest is not there before the kill
    target = tmp_path / "x.zip"
    code = (
        "import pathlib, sys\nfrom mulap.downloads import fetch\n"
        "fetch(sys.argv[1], pathlib.Path(sys.argv[2]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, site.address, str(target)])
    part = tmp_path / "x.zip.part"
    while not (part.exists() and part.stat().st_size):
        assert process.poll() is None, "ended before it was killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    num_bytes = part.stat().st_size
    assert 0 < num_bytes < len(CONTENT)
    assert not target.exists()
    site.pause_seconds = 0.0
    fetch(site.address, target, SHA256)
    assert site.asked[-1] == f"bytes={num_bytes}-"
