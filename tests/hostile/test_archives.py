"""Archives and downloads: nothing outside their folder whatever the names, and a disk that is full.

The cases one by one are in tests/test_archives.py, tests/test_downloads.py and
tests/data/test_tars.py; here are names that nobody thought of, and a disk that really is full.
"""

import http.server
import io
import json
import os
import random
import tarfile
import tempfile
import threading
import zipfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hostile.disks import Disk, small_disk
from hostile.kit import contents, rounds
from hypothesis import given, settings
from hypothesis import strategies as st

from mulap.archives import unpack
from mulap.data.tars import unpack_tar
from mulap.downloads import fetch

PARTS = ["..", ".", "", "a", "A", "b.flac", "C:", "~", "\\..", "é", "e\u0301", "\u202e", "x" * 300]
NAMES = st.lists(st.sampled_from(PARTS), min_size=1, max_size=5).map("/".join).filter(bool)
NAMES |= st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
KINDS = [tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]


@settings(max_examples=80, derandomize=True, deadline=None)
@given(st.lists(st.tuples(NAMES, st.sampled_from([".flac", ".json", ""]), st.sampled_from(KINDS))))
def test_a_tar_of_tracks_writes_nothing_outside_its_folder(members):
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        (root / "data").mkdir()
        with tarfile.open(root / "data" / "0.tar", "w") as tar:
            for name, suffix, kind in members:
                member = tarfile.TarInfo(name + suffix)
                member.type, member.linkname = kind, "../../outside"
                content = json.dumps({"text": ["a"], "file_name": "/etc/passwd"}).encode()
                member.size = len(content) if kind == tarfile.REGTYPE else 0
                tar.addfile(member, io.BytesIO(content))
        before = contents(root)
        index = unpack_tar(root / "data" / "0.tar")
        added = {name for name, value in contents(root).items() if before.get(name) != value}
        inside = f"data/{index.parent.relative_to(root / 'data').as_posix()}/"
        assert all(name.startswith(inside) and name.count("/") == 3 for name in added)
        for row in map(json.loads, index.read_text().splitlines()):
            assert "/" not in row.get("file_name", "")


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk") as disk:
        yield disk


FILES = {f"audio/{index}.flac": random.Random(index).randbytes(90_000) for index in range(8)}


def _write_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in FILES.items():
            archive.writestr(name, content)
    return path


def _write_tar(path: Path) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in FILES.items():
            text = json.dumps({"text": [f"caption of {name}"]}).encode()
            for each, data in ((name, content), (name.replace(".flac", ".json"), text)):
                member = tarfile.TarInfo(each)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return path


@contextmanager
def _server(content: bytes):
    """Serve some bytes without saying how many: what does not fit shows only when it is written."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("ETag", '"one"')
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/x"
    finally:
        server.shutdown()
        server.server_close()


@rounds(1)
@pytest.mark.parametrize("kind", ["zip", "tar", "download"])
def test_a_full_disk_is_a_line_and_nothing_half_done_stays(disk: Disk | None, tmp_path, kind, seed):
    if disk is None:
        pytest.skip("nothing may be mounted here; the commands are tested with a limit instead")
    rng, size = random.Random(f"{kind} {seed}"), sum(map(len, FILES.values()))
    target = disk.path / "out"
    with _server(b"".join(FILES.values())) as url:
        work = {
            "zip": lambda folder: unpack([_write_zip(tmp_path / "x.zip")], folder),
            "tar": lambda folder: unpack_tar(tmp_path / "0.tar", folder),
            "download": lambda folder: fetch(url, folder / "x"),
        }[kind]
        _write_tar(tmp_path / "0.tar")
        work(tmp_path / "whole")
        disk.leave(rng.randrange(size))
        with pytest.raises(ValueError, match="[Ff]ree|room") as raised:
            work(target)
        assert "\n" not in str(raised.value)
        assert kind != "zip" or contents(target) == {}
        disk.free()
        work(target)
    assert contents(target) == contents(tmp_path / "whole")
    assert not [name for name in os.listdir(target) if name.endswith(".part")]
