"""Commands that answer over HTTP until Ctrl-C: the page, and the service."""

import webbrowser
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import click

from mulap.cli.group import (
    UserPath,
    device_option,
    joint_model_option,
    library_option,
    main,
    one_line_errors,
    quiet_transformers,
    say,
    warn,
)
from mulap.terminal import counted

_PORT = 8642


def _listening_options(command: Callable[..., Any]) -> Callable[..., Any]:
    options = [
        click.option(
            "--host",
            default="127.0.0.1",
            show_default=True,
            help="Address to listen on. Beyond this machine (0.0.0.0) a token is required.",
        ),
        click.option(
            "--port",
            default=_PORT,
            show_default=True,
            type=click.IntRange(0, 65_535),
            help="Port; 0 takes a free one.",
        ),
        click.option(
            "--token",
            envvar="MULAP_TOKEN",
            default="",
            help="Secret that requests must send, at least 16 characters. Other users of this "
            "machine can read command lines: prefer the variable. [default: $MULAP_TOKEN]",
        ),
        click.option(
            "--allow-host",
            "more_hosts",
            multiple=True,
            metavar="NAME",
            help="A name that this machine has in your network, such as nas.local. Can be "
            "repeated.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@main.command()
@library_option
@_listening_options
@click.option("--open", "is_opened", is_flag=True, help="Open the page in a browser.")
@device_option
@one_line_errors
def app(library: Path, is_opened: bool, device: str, **listening: Any) -> None:
    """Search a library on a web page: find, hear, see why, save playlists.

    The page asks no other server.
    """
    from mulap.library.library import Library

    opened = Library(library, device)
    _run(partial(_load, "", device), opened, listening, has_page=True, is_opened=is_opened)


@main.command()
@click.option("--library", type=UserPath(), help="Folder of a library to search. [default: none]")
@joint_model_option
@_listening_options
@device_option
@one_line_errors
def serve(library: Path | None, model: str, device: str, **listening: Any) -> None:
    """Embed, tag and search over HTTP, with JSON answers; see docs/serve.md.

    A library's own model is used where --library is given.
    """
    opened = None
    if library is not None:
        from mulap.library.library import Library

        opened = Library(library, device)
    _run(partial(_load, model, device), opened, listening)


def _load(model: str, device: str) -> Any:
    from mulap.encoders.engine import load_engine

    return load_engine(model, device)


def _run(
    load: Callable[[], Any],
    library: Any,
    listening: dict[str, Any],
    has_page: bool = False,
    is_opened: bool = False,
) -> None:
    quiet_transformers()
    from mulap.web.guard import Hosts, check_token
    from mulap.web.server import address_of, open_socket, serve
    from mulap.web.service import make_app

    host, token = listening["host"], listening["token"]
    check_token(host, token)
    socket = open_socket(host, listening["port"])
    hosts = Hosts.of(host, listening["more_hosts"])
    application = make_app(load, library, has_page=has_page, hosts=hosts, token=token)
    address = address_of(socket)

    def started() -> None:
        about = counted(len(library), "track") if library is not None else "no library"
        warn(f"{address} ({about}). Press Ctrl-C to stop.")
        if is_opened:
            webbrowser.open(address)

    serve(application, socket, started)
    say("Stopped.")
