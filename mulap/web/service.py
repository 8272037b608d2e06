"""The routes: HTTP in, JSON out. The model answers in threads, so that the server always responds.

    one thread asks     searches, texts, tags of the library's tracks: milliseconds
    one thread listens  audio that was sent, captions, reasons: seconds

What is sent is JSON, or the bytes of an audio file, with options in the query string.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from mulap.library.playlist import Entry, playlist_text
from mulap.web.answers import Answers
from mulap.web.guard import COOKIE, Guard, Hosts, cookie_of, is_token
from mulap.web.limits import Fields, Limits, Refused, read_json
from mulap.web.tracks import audio_of, find_track
from mulap.web.uploads import Uploads

if TYPE_CHECKING:
    from mulap.encoders.engine import Engine
    from mulap.library.library import Library

PAGE = Path(__file__).with_name("page")
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.css": ("page.css", "text/css"),
    **{f"/{name}": (name, "text/javascript") for name in ("page.js", "player.js", "server.js")},
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_LOG = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")


def make_app(
    load: "Callable[[], Engine]",
    library: "Library | None" = None,
    *,
    has_page: bool = False,
    hosts: Hosts | None = None,
    token: str = "",
    limits: Limits | None = None,
) -> Guard:
    """Make the application.

    Args:
        load: returns the model where there is no library.
        library: that is searched.
        has_page: whether the page is there, too.
        hosts: names that it answers to; those of this machine unless given.
        token: that has to be given; empty for none.
        limits: on requests.

    Returns:
        An ASGI application.
    """
    service = _Service(load, library, token, limits or Limits())
    files = _FILES if has_page else {}
    routes = [Route(path, _page_file(*file)) for path, file in files.items()]
    app = Starlette(
        routes=[*routes, *service.routes()],
        exception_handlers={
            Refused: _answer_refused,
            HTTPException: _answer_http_error,
            ValueError: _answer_value_error,
            Exception: _answer_failure,
        },
        lifespan=service.lifespan,
    )
    return Guard(app, hosts or Hosts.of("127.0.0.1"), token, files)


class _Service:
    def __init__(
        self, load: "Callable[[], Engine]", library: "Library | None", token: str, limits: Limits
    ) -> None:
        self._uploads = Uploads(limits)
        self._answers = Answers(load, library, self._uploads, limits)
        self._library, self._token, self._limits = library, token, limits
        self._asks, self._listens = (ThreadPoolExecutor(1, name) for name in ("ask", "listen"))
        self._num_waiting = self._num_sent = 0
        self._ready: asyncio.Future[None] | None = None

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Load the model while the server answers already; tidy up at the end."""
        self._ready = asyncio.get_running_loop().run_in_executor(self._asks, self._answers.warm_up)
        self._ready.add_done_callback(_take_error)
        try:
            yield
        finally:
            for pool in (self._asks, self._listens):
                pool.shutdown(wait=False, cancel_futures=True)
            self._uploads.close()

    def routes(self) -> list[Route]:
        answers = self._answers
        get = {
            "/healthz": self._health,
            "/v1/space": self._space,
            "/v1/library": self._about_library,
            "/audio/{id}": self._audio,
        }
        post = {
            "/v1/session": self._open_session,
            "/v1/uploads": self._upload,
            "/v1/embed/text": self._from_json(answers.embed_text),
            "/v1/embed/audio": self._from_audio(answers.embed_audio),
            "/v1/tag": self._from_either(answers.tag),
            "/v1/search": self._from_json(answers.search),
            "/v1/similar": self._from_either(answers.similar, is_kept=True),
            "/v1/explain": self._from_json(answers.explain, is_slow=True),
            "/v1/caption": self._from_either(answers.caption, is_slow=True),
            "/v1/playlist.m3u8": self._playlist,
        }
        return [
            *(Route(path, answer) for path, answer in get.items()),
            *(Route(path, answer, methods=["POST"]) for path, answer in post.items()),
        ]

    async def _health(self, _: Request) -> Response:
        assert self._ready
        state = "loading" if not self._ready.done() else "failed" if _error(self._ready) else "ok"
        return JSONResponse({"status": state}, 503 if state == "failed" else 200)

    async def _space(self, _: Request) -> Response:
        return JSONResponse(await self._run(self._asks, self._answers.space))

    async def _about_library(self, _: Request) -> Response:
        """Describe the library, also while the model is loaded, and if it cannot be."""
        assert self._ready
        about = await asyncio.to_thread(self._answers.about_library)
        error = _error(self._ready) if self._ready.done() else None
        problem = Refused.by(error, 409).to_json() if isinstance(error, ValueError) else None
        return JSONResponse({**about, "is_ready": self._ready.done(), "problem": problem})

    async def _audio(self, request: Request) -> Response:
        name = request.path_params["id"]
        row = await asyncio.to_thread(find_track, self._library, name)
        return await asyncio.to_thread(audio_of, row)

    async def _open_session(self, request: Request) -> Response:
        """Give the page a cookie for the token: players send no other headers."""
        fields = Fields(await self._read_json(request), self._limits)
        given = fields.text("token")
        fields.end()
        if self._token and not is_token(given, self._token):
            raise Refused(401, "The token is wrong.", "Copy it from where the server was started.")
        answer = JSONResponse({"ok": True})
        if self._token:
            answer.set_cookie(COOKIE, cookie_of(self._token), httponly=True, samesite="strict")
        return answer

    async def _upload(self, request: Request) -> Response:
        heard = await self._hear(request, is_kept=True)
        return JSONResponse(
            {"id": heard.id, "seconds": round(heard.seconds, 3), "notes": heard.notes}
        )

    async def _playlist(self, request: Request) -> Response:
        fields = Fields(await self._read_json(request), self._limits)
        named = await asyncio.to_thread(self._answers.playlist_rows, fields)
        entries = [Entry(row["file"], row["seconds"], name) for row, name in named]
        headers = {"content-disposition": 'attachment; filename="mulap.m3u8"'}
        text = playlist_text(entries).encode("utf-8", "surrogateescape")
        return Response(text, 200, headers, "audio/x-mpegurl")

    def _from_json(
        self, ask: Callable[[Fields], dict[str, Any]], is_slow: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            fields = Fields(await self._read_json(request), self._limits)
            pool = self._listens if is_slow else self._asks
            return JSONResponse(await self._run(pool, ask, fields))

        return answer

    def _from_audio(
        self, ask: Callable[..., dict[str, Any]], is_kept: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            query = request.query_params
            fields = {name: query.getlist(name) for name in query}
            heard = await self._hear(request, is_kept)
            return JSONResponse(
                await self._run(
                    self._listens,
                    lambda: ask(fields=Fields(fields, self._limits, True), heard=heard),
                )
            )

        return answer

    def _from_either(
        self, ask: Callable[..., dict[str, Any]], is_kept: bool = False, is_slow: bool = False
    ) -> Callable[[Request], Awaitable[Response]]:
        of_json, of_audio = self._from_json(ask, is_slow), self._from_audio(ask, is_kept)

        async def answer(request: Request) -> Response:
            is_json = _kind_of(request) == "application/json"
            return await (of_json if is_json else of_audio)(request)

        return answer

    async def _hear(self, request: Request, is_kept: bool) -> Any:
        if _kind_of(request).startswith("multipart/"):
            remedy = "Send the bytes of the file alone: curl --data-binary @song.flac."
            raise Refused(415, "The body is a form.", remedy)
        claimed = request.headers.get("content-length", "0")
        self._check_waiting()
        if self._num_sent >= self._limits.num_uploads:  # each takes room on the disk
            raise Refused(503, "Too many files are being sent.", "Send it again in a second.")
        self._num_sent += 1
        try:
            chunks = self._chunks(request)
            path = await self._uploads.receive(chunks, int(claimed) if claimed.isdigit() else 0)
            try:
                return await self._run(
                    self._listens, lambda: self._uploads.hear(path, self._answers.engine, is_kept)
                )
            except BaseException:
                path.unlink(missing_ok=True)
                raise
        finally:
            self._num_sent -= 1

    async def _read_json(self, request: Request) -> dict[str, Any]:
        if _kind_of(request) != "application/json":
            raise Refused(415, "The body is no JSON.", "Send Content-Type: application/json.")
        body = bytearray()
        async for chunk in self._chunks(request):
            body += chunk
            if len(body) > self._limits.body_bytes:
                most = self._limits.body_bytes // 1024
                raise Refused(413, f"The body is over {most} KiB.", "Ask for less at a time.")
        return read_json(bytes(body))

    async def _chunks(self, request: Request) -> AsyncIterator[bytes]:
        """Yield a body; refuse one that stops coming, or that takes too long."""
        stream, clock = aiter(request.stream()), asyncio.get_running_loop().time
        end = clock() + self._limits.body_seconds
        while True:
            try:
                async with asyncio.timeout_at(min(end, clock() + self._limits.silence_seconds)):
                    chunk = await anext(stream)
            except StopAsyncIteration:
                return
            except TimeoutError as error:
                raise Refused(408, "The body came too slowly.", "Send it again.") from error
            if chunk:
                yield chunk

    def _check_waiting(self) -> None:
        if self._num_waiting >= self._limits.num_waiting:
            raise Refused(503, "Too many requests are waiting.", "Ask again in a second.")

    async def _run(
        self, pool: ThreadPoolExecutor, call: Callable[..., _Answer], *args: Any
    ) -> _Answer:
        """Call in a thread, once the model is there."""
        assert self._ready
        self._check_waiting()
        self._num_waiting += 1
        try:
            try:
                await asyncio.shield(self._ready)
            except ValueError as error:
                raise Refused.by(error, 409) from error
            return await asyncio.get_running_loop().run_in_executor(pool, call, *args)
        finally:
            self._num_waiting -= 1


def _kind_of(request: Request) -> str:
    """Return the type of a body, such as application/json."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _error(future: "asyncio.Future[None]") -> BaseException | None:
    return None if future.cancelled() else future.exception()


def _take_error(future: "asyncio.Future[None]") -> None:
    if error := _error(future):
        _LOG.error("the model cannot be used: %s", error)


def _page_file(name: str, kind: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_: Request) -> Response:
        return FileResponse(PAGE / name, media_type=kind, headers={"cache-control": "no-cache"})

    return answer


async def _answer_refused(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, Refused)
    headers = {"retry-after": "1"} if refused.status == 503 else None
    return JSONResponse(refused.to_json(), refused.status, headers)


async def _answer_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = {
        404: ("There is no such place.", "docs/serve.md lists the routes."),
        405: ("This route takes another method.", "docs/serve.md lists the routes."),
    }
    what, remedy = said.get(error.status_code, (f"{error.detail}.", ""))
    return JSONResponse({"error": what, "remedy": remedy}, error.status_code, error.headers)


async def _answer_value_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, ValueError)
    refused = Refused.by(error)
    return JSONResponse(refused.to_json(), refused.status)


async def _answer_failure(_: Request, error: Exception) -> Response:
    """Answer where we are at fault; the server's log has the traceback."""
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)
    values = {"error": "The server failed.", "remedy": "Its log says why. Please report it."}
    return JSONResponse(values, 500)
