"""Who may ask: hosts that are trusted, pages of our own origin, and whoever has the token.

Host      one that this server has; a name that was rebound to this machine is refused
Origin    of POST: ours, or none (no browser)
token     where there is one: Authorization: Bearer TOKEN, or the cookie of the page
"""

import hashlib
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mulap.web.limits import Refused

COOKIE = "mulap"
LEAST_TOKEN = 16  # letters
_PUBLIC = ("/healthz", "/v1/session")
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Hosts(NamedTuple):
    """The names that a server answers to.

    Attributes:
        names: in lower case.
        takes_addresses: whether it answers to any IP address too: rebinding needs a name.
    """

    names: frozenset[str]
    takes_addresses: bool

    @classmethod
    def of(cls, host: str, more: Iterable[str] = ()) -> "Hosts":
        """Return those of a server on a host, and more."""
        names = {"localhost", "127.0.0.1", "::1", host.lower(), *(name.lower() for name in more)}
        if is_loopback(host):
            return cls(frozenset(names), False)
        own = socket.gethostname().lower()
        return cls(frozenset({*names, own, f"{own}.local"}), True)

    def trust(self, host: str) -> bool:
        """Return whether a header names one of them."""
        try:
            name = (urlsplit(f"//{host}").hostname or "").lower()
            return name in self.names or self.takes_addresses and bool(ipaddress.ip_address(name))
        except ValueError:  # neither a name of ours nor an address
            return False


def cookie_of(token: str) -> str:
    """Return what the page's cookie holds; it is no token."""
    return hashlib.sha256(b"cookie of the mulap page " + token.encode()).hexdigest()


def check_token(host: str, token: str) -> None:
    """Refuse to listen beyond this machine without a token.

    Raises:
        ValueError: it is missing, or too short.
    """
    if not token and not is_loopback(host):
        raise ValueError(
            f"--host {host}: others can reach it, and there is no token. Set MULAP_TOKEN to "
            f"{LEAST_TOKEN} characters or more."
        )
    if token and (
        len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token
    ):
        raise ValueError(
            f"--token: is too short, or holds a space. Give {LEAST_TOKEN} or more ASCII characters."
        )


def is_token(given: str, token: str) -> bool:
    """Return whether a token is the right one, in the same time whatever it is."""
    return hmac.compare_digest(given.strip().encode("utf-8", "replace"), token.encode())


class Guard:
    """Refuses whoever may not ask, and adds the headers that browsers obey.

    Args:
        app: what answers the others.
        hosts: that it answers to.
        token: that has to be given; empty for none.
        public: paths that need no token, since they hold nothing of the library.
    """

    def __init__(
        self, app: ASGIApp, hosts: Hosts, token: str = "", public: Iterable[str] = ()
    ) -> None:
        self._app, self._hosts, self._token = app, hosts, token
        self._public = frozenset((*_PUBLIC, *public))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, as ASGI has it."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("cache-control", "no-store")
            await send(message)

        try:
            self._check(scope)
        except Refused as refused:
            answer = JSONResponse(refused.to_json(), refused.status)
            await answer(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._hosts.trust(hosts[0]):
            raise Refused(
                421, "This server has another name.", "Add --allow-host NAME where it is started."
            )
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None:
            if _place_of(origin) != hosts[0].lower():
                raise Refused(403, "Another site asks.", "Use the page of this server.")
        if headers.get("sec-fetch-site") == "cross-site" and scope["path"] != "/":
            raise Refused(403, "Another site asks.", "Use the page of this server.")
        if (
            self._token
            and scope["path"] not in self._public
            and not self._has_token(scope, headers)
        ):
            raise Refused(
                401, "The token is missing or wrong.", "Send Authorization: Bearer TOKEN."
            )

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return is_token(given, self._token)
        cookie = HTTPConnection(scope).cookies.get(COOKIE, "")
        return hmac.compare_digest(cookie.encode(), cookie_of(self._token).encode())


def _place_of(origin: str) -> str:
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return ""
