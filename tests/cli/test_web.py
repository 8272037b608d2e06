"""`mulap app` and `mulap serve`: what they refuse in one line, how they end, and whom they ask."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from contextlib import contextmanager

import pytest
from command_line import call, check_one_line
from library.asked import make_library

from mulap.web.server import open_socket

# Tells of every connection and look-up of the process that leaves this machine.
WATCHED = """
import os, sys

def watch(event, arguments):
    if event == "socket.connect":
        place = arguments[1]
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        place = arguments
    elif event == "socket.sendto":
        place = arguments[1]
    else:
        return
    host = place[0] if isinstance(place, tuple) else place
    if host not in ("127.0.0.1", "::1", "localhost", None) and not str(host).startswith("/"):
        os.write(2, f"OUTSIDE {event} {host}\\n".encode())

sys.addaudithook(watch)
from mulap.cli import main
main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_library(tmp_path_factory.mktemp("asked"), 3)


@contextmanager
def running(*arguments):
    """A server in a process of its own; yields it and its address."""
    process = subprocess.Popen(
        [sys.executable, "-c", WATCHED, *map(str, arguments), "--port", "0"],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"NO_PROXY": "*"},
    )
    try:
        line = process.stderr.readline()
        found = re.match(r"(http://127\.0\.0\.1:\d+/) \((.*)\)\. Press Ctrl-C to stop\.", line)
        assert found, line + process.stderr.read()
        yield process, found[1], found[2]
    finally:
        process.kill()
        process.wait()


def ask(address, path, body=None, content_type="application/json"):
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    headers = {"Content-Type": content_type}
    request = urllib.request.Request(f"{address}{path}", content, headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def test_the_page_is_served_asks_nobody_else_and_ends_in_one_line(folder):
    with running("app", "--library", folder / "lib", "--device", "cpu") as (
        process,
        address,
        about,
    ):
        assert about == "3 tracks"
        assert b"<title>" in ask(address, "")
        hits = json.loads(ask(address, "v1/search", {"query": "calm piano", "per_artist": 0}))[
            "hits"
        ]
        track = hits[0]["id"]
        assert ask(address, f"audio/{track}")[:4] == b"fLaC"
        song = (folder / "music" / "1.flac").read_bytes()
        sent = json.loads(ask(address, "v1/uploads", song, "audio/flac"))["id"]
        for path, body in [
            ("v1/tag", {"id": sent}),
            ("v1/caption", {"id": track}),
            ("v1/explain", {"id": track, "text": "calm piano"}),
            ("v1/similar", {"id": sent}),
            ("v1/embed/text", {"texts": "calm piano"}),
        ]:
            assert ask(address, path, body), path
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert said == "Stopped.\n"


def test_a_service_needs_no_library(folder):
    with running("serve", "--model", folder / "model", "--device", "cpu") as (_, address, about):
        assert about == "no library"
        assert json.loads(ask(address, "v1/embed/text", {"texts": "piano"}))["size"] == 16


def test_a_port_in_use_is_one_line(folder):
    with open_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = call("app", "--library", folder / "lib", "--port", port)
    check_one_line(done, 1, f"127.0.0.1:{port}: the port is in use.", "--port")


def test_no_library_is_one_line(tmp_path):
    check_one_line(call("app", "--library", tmp_path), 1, "is not a library", "mulap index MUSIC")
    check_one_line(call("serve", "--library", tmp_path), 1, "is not a library")


def test_listening_to_others_without_a_token_is_one_line(folder):
    done = call("serve", "--library", folder / "lib", "--host", "0.0.0.0")
    check_one_line(done, 1, "others can reach it", "MULAP_TOKEN")
    done = call("serve", "--host", "0.0.0.0", "--token", "short")
    check_one_line(done, 1, "too short")


def test_a_missing_package_names_the_extra(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "mulap.web.server", raising=False)
    done = call("serve", "--model", folder / "model")
    check_one_line(done, 1, "pip install 'mulap[web]'")
