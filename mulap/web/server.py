"""Listen on a port until Ctrl-C."""

import errno
import socket
from collections.abc import Callable

import uvicorn
from starlette.types import ASGIApp

_PARTING_SECONDS = 2  # for answers that are on their way when it ends


def open_socket(host: str, port: int) -> socket.socket:
    """Take a port; 0 takes a free one.

    Raises:
        ValueError: the host is unknown, or the port cannot be had.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ValueError(
            f"--host {host}: is no address of this machine. Give 127.0.0.1."
        ) from error
    # asyncio lets small packets go at once only where the protocol is named: 40 ms an answer.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(address)
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ValueError(_cannot_listen(host, port, error)) from error
    return listening


def address_of(listening: socket.socket) -> str:
    """Return where a browser finds it."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host) or host
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def serve(app: ASGIApp, listening: socket.socket, started: Callable[[], None]) -> None:
    """Answer until Ctrl-C, and return then.

    Args:
        app: what answers.
        listening: from `open_socket`.
        started: called once it answers.
    """
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_graceful_shutdown=_PARTING_SECONDS,
    )
    server = _Server(config, started)
    try:
        server.run(sockets=[listening])
    except KeyboardInterrupt:
        pass  # it ended as it should


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._started()


def _cannot_listen(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"{host}:{port}: the port is in use. Give another one with --port."
    if error.errno == errno.EACCES:
        return f"{host}:{port}: needs special rights. Give a --port above 1023."
    return f"{host}:{port}: cannot listen here, {error.strerror}. Give another --host or --port."
