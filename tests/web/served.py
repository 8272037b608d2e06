"""A server in a thread of the test, on a port of its own."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from starlette.testclient import TestClient

from mulap.library.library import Library
from mulap.web.limits import Limits
from mulap.web.server import address_of, open_socket
from mulap.web.service import make_app

SMALL = Limits(
    body_bytes=20_000,
    upload_bytes=3_000_000,
    upload_seconds=40.0,
    text_letters=200,
    num_texts=8,
    top=20,
    num_uploads=2,
    silence_seconds=1.0,
)


def client(app) -> TestClient:
    """A client of this machine; use it as a context manager, which starts the application."""
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=True)


def no_model():
    """What loads the model where a library does."""
    raise AssertionError("the library has the model")


@contextmanager
def serving(folder: Path, **options) -> Iterator[str]:
    """Serve the library `lib` in a folder; yields the address."""
    import uvicorn

    options.setdefault("limits", SMALL)
    app = make_app(no_model, Library(folder / "lib", "cpu"), **options)
    listening = open_socket("127.0.0.1", 0)
    config = uvicorn.Config(app, log_level="error", ws="none", lifespan="on")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=lambda: server.run(sockets=[listening]))
    thread.start()
    try:
        yield address_of(listening)
    finally:
        server.should_exit = True
        thread.join()


def send_raw(address: str, request: bytes) -> bytes:
    """Send bytes to a server and return what it answers, until it closes."""
    host, port = address.removeprefix("http://").rstrip("/").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        found = bytearray()
        while chunk := connection.recv(65_536):
            found += chunk
    return bytes(found)
