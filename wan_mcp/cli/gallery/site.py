"""The gallery's web site: the page, its jobs, their pictures and videos, and one action.

Only requests with the token in their path are answered, and only if the browser asked for this
address: a page of another site that lets its own name resolve to loopback has another Host header,
and does not know the token either. Files are found only by the id of a job, and only if its record
says that its video was saved.
"""

import hmac
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from io import BufferedReader

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.cli.gallery.listing import Listing
from wan_mcp.errors import WanError
from wan_mcp.ledger.record import Record
from wan_mcp.storage.lending_server import requested
from wan_mcp.storage.storage_url import is_storage_url
from wan_mcp.surface.player import MEDIA_ORIGIN, gallery_page
from wan_mcp.videos.contact_sheet import contact_sheet
from wan_mcp.videos.job_files import video_type
from wan_mcp.videos.own_files import NotOurs, open_ours
from wan_mcp.videos.paths import path_of

TOKEN_BYTES = 24
BLOCK_BYTES = 1 << 17
MAX_SHEETS = 500
"""How many contact sheets are kept in memory, of at most 60 kB each."""
_VIDEO = "video/mp4"
_GUARDED = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NOT_FOUND = "There is nothing here."


class Site:
    """The site of one ledger.

    Args:
        port: the port of the site, which the Host header has to name.

    Attributes:
        path: the secret beginning of every path.
    """

    def __init__(self, listing: Listing, port: int) -> None:
        self._listing = listing
        self._token = secrets.token_urlsafe(TOKEN_BYTES)
        self._origins = {f"http://{name}:{port}" for name in ("127.0.0.1", "localhost")}
        self._sheets: dict[str, bytes | None] = {}
        self._drawing = anyio.Lock()
        self.path = f"/{self._token}/"

    def app(self) -> ASGIApp:
        """The ASGI app."""
        get, name = ["GET"], "{token}"
        return _Guard(
            Starlette(
                routes=[
                    Route(f"/{name}/", self._answered(self._page), methods=get),
                    Route(f"/{name}/jobs", self._answered(self._jobs), methods=get),
                    Route(f"/{name}/poster/{{id}}", self._answered(self._poster), methods=get),
                    Route(f"/{name}/video/{{id}}", self._answered(self._video), methods=get),
                    Route(f"/{name}/keep/{{id}}", self._answered(self._keep), methods=["POST"]),
                ],
            ),
            self._origins,
            self._token,
        )

    def _answered(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The same, with expected errors turned into answers; any other error is logged."""

        async def answered(request: Request) -> Response:
            try:
                return await answer(request)
            except FileNotFoundError:
                return PlainTextResponse(_NOT_FOUND, 404)
            except (NotOurs, OSError):
                return PlainTextResponse("The video cannot be read.", 403)
            except ValueError:
                return PlainTextResponse("The request cannot be read.", 400)
            except WanError as failure:
                return PlainTextResponse(failure.what, 503)

        return answered

    async def _page(self, _request: Request) -> Response:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
            f"img-src 'self' data:; media-src 'self' {MEDIA_ORIGIN}; connect-src 'self'; "
            "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
        html = gallery_page([MEDIA_ORIGIN], nonce=nonce)
        headers = {"Content-Security-Policy": policy}
        return Response(html, media_type="text/html; charset=utf-8", headers=headers)

    async def _jobs(self, request: Request) -> Response:
        cursor = request.query_params.get("cursor", "0")
        after = int(cursor) if cursor.isascii() and cursor.isdecimal() and len(cursor) < 9 else 0
        listed = await self._listing.page(after)
        return JSONResponse(listed.model_dump(mode="json", exclude_none=True))

    async def _poster(self, request: Request) -> Response:
        place = (await self._saved(request)).saved_path or ""
        async with self._drawing:  # one at a time: each takes a processor
            if place not in self._sheets:
                (await anyio.to_thread.run_sync(open_ours, path_of(place))).close()
                self._sheets[place] = await contact_sheet(path_of(place))
                while len(self._sheets) > MAX_SHEETS:
                    del self._sheets[next(iter(self._sheets))]
        sheet = self._sheets[place]
        if sheet is None:  # the page shows the first frame instead
            return Response(status_code=204)
        return Response(sheet, media_type="image/jpeg")

    async def _video(self, request: Request) -> Response:
        record = await self._saved(request)
        file = await anyio.to_thread.run_sync(open_ours, path_of(record.saved_path or ""))
        return await _video_response(file, request.headers.get("range", ""))

    async def _keep(self, request: Request) -> Response:
        if request.headers.get("origin") not in self._origins:
            return PlainTextResponse("Only this page may do that.", 403)
        record = await self._listing.job(request.path_params["id"])
        if record is None:
            raise FileNotFoundError
        given = await request.json()
        if not isinstance(given, dict) or not isinstance(given.get("kept"), bool):
            return PlainTextResponse("Say whether it is kept.", 400)
        return JSONResponse({"why": await self._listing.keep(record, given["kept"])})

    async def _saved(self, request: Request) -> Record:
        """The job whose saved video is requested. Raises FileNotFoundError."""
        record = await self._listing.job(request.path_params["id"])
        if record is None or not record.saved_path or is_storage_url(record.saved_path):
            raise FileNotFoundError
        return record


class _Guard:
    """Passes on only requests whose Host header and path belong to this site."""

    def __init__(self, app: ASGIApp, origins: set[str], token: str) -> None:
        self._app = app
        self._hosts = {origin.removeprefix("http://") for origin in origins}
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name == b"host"]
        is_ours = len(headers) == 1 and headers[0][1].decode("latin-1") in self._hosts
        token = scope["path"].split("/")[1].encode() if scope["path"].startswith("/") else b""
        guarded = _with_headers(send, _GUARDED)
        if is_ours and hmac.compare_digest(token, self._token):
            await self._app(scope, receive, guarded)
        else:
            await PlainTextResponse(_NOT_FOUND, 404)(scope, receive, guarded)


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


async def _video_response(file: BufferedReader, wanted: str) -> Response:
    """The file, or the part of it that is requested. It is closed with the answer."""
    head = await anyio.to_thread.run_sync(file.read, 1024)
    size = await anyio.to_thread.run_sync(file.seek, 0, 2)
    headers = {"Accept-Ranges": "bytes"}
    part = requested(wanted, size)
    if part is not None and not part:
        file.close()
        return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    chosen = range(size) if part is None else part
    if part is not None:
        headers["Content-Range"] = f"bytes {part[0]}-{part[-1]}/{size}"
    headers["Content-Length"] = str(len(chosen))
    return StreamingResponse(
        _blocks(file, chosen),
        status_code=200 if part is None else 206,
        media_type=video_type(head, _VIDEO) or _VIDEO,
        headers=headers,
    )


async def _blocks(file: BufferedReader, chosen: range) -> AsyncIterator[bytes]:
    try:
        await anyio.to_thread.run_sync(file.seek, chosen.start)
        left = len(chosen)
        while left and (block := await anyio.to_thread.run_sync(file.read, min(left, BLOCK_BYTES))):
            left -= len(block)
            yield block
    finally:
        file.close()
