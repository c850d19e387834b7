"""The page on which a user uploads files, and the requests that carry the files.

A ticket in the path is the only right that is needed, and it permits nothing but uploading. A file
arrives as the body of one PUT, and is passed on in blocks, so memory never holds the whole file. A
client that sends nothing for STALL_SECONDS, or takes longer than MOST_SECONDS, is cut off.
"""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol

import anyio
from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from wan_mcp.transports.guarded import Answer, Guard, own_policy
from wan_mcp.transports.operations.web_server import take_time

PATH = "/uploads"
STALL_SECONDS = 30.0
"""How long a client may send nothing in the middle of a file (ours)."""
MOST_SECONDS = 3600.0
"""How long a whole file may take (ours)."""
_MOST_DIGITS = 15


class Reply(Protocol):
    """The answer to a request."""

    @property
    def status(self) -> int:
        """The HTTP status."""

    @property
    def body(self) -> Mapping[str, Any]:
        """The content that is sent as JSON."""

    @property
    def retry_after(self) -> float | None:
        """After how many seconds the same request makes sense; None if that is not known."""


class Desk(Protocol):
    """Decides about uploads. Every method answers for every ticket, even an invalid one."""

    async def page(self, ticket: str, nonce: str) -> tuple[int, str]:
        """The status and the HTML of the page of a ticket.

        Args:
            nonce: marks style and script as ours.
        """

    async def look(self, ticket: str, slot: str, size: int) -> Reply:
        """Whether a file of `size` bytes would be taken now."""

    async def receive(
        self, ticket: str, slot: str, size: int, blocks: AsyncIterator[bytes]
    ) -> Reply:
        """Take a file."""


class UploadSite:
    """The pages and requests of one server.

    Args:
        desk: decides about uploads; None while there is no desk, and then every path is not found.
        rules: which Host and Origin headers a request may have.
    """

    def __init__(self, desk: Callable[[], Desk | None], rules: TransportSecuritySettings) -> None:
        self._desk = desk
        self._guard = Guard(rules)

    @property
    def routes(self) -> list[Route]:
        """The routes of the site."""
        one = f"{PATH}/{{ticket}}/{{slot}}"
        return [
            Route(f"{PATH}/{{ticket}}", self._guarded(self._page), methods=["GET"]),
            Route(one, self._guarded(self._look), methods=["GET"]),
            Route(one, self._guarded(self._receive), methods=["PUT"]),
        ]

    def _guarded(self, answer: Callable[[Request, Desk], Awaitable[Response]]) -> Answer:
        async def answered(request: Request) -> Response:
            desk = self._desk()
            return await answer(request, desk) if desk else _error(404, "There is nothing here.")

        return self._guard.around(answered)

    async def _page(self, request: Request, desk: Desk) -> Response:
        nonce = secrets.token_urlsafe(16)
        status, html = await desk.page(request.path_params["ticket"], nonce)
        script = f"script-src 'nonce-{nonce}'"
        headers = own_policy(nonce, script, "connect-src 'self'", "form-action 'none'")
        return Response(html, status, headers, media_type="text/html; charset=utf-8")

    async def _look(self, request: Request, desk: Desk) -> Response:
        size = _number(request.query_params.get("size", ""))
        if size is None:
            return _error(400, "Say how many bytes the file has: ?size=.")
        names = request.path_params
        return _json(await desk.look(names["ticket"], names["slot"], size))

    async def _receive(self, request: Request, desk: Desk) -> Response:
        size = _number(request.headers.get("content-length", ""))
        if size is None:
            return _error(411, "The header Content-Length is missing.")
        names = request.path_params
        try:
            with anyio.fail_after(MOST_SECONDS):
                blocks = _blocks(request)
                return _json(await desk.receive(names["ticket"], names["slot"], size, blocks))
        except TimeoutError:
            return _error(408, "The file came too slowly. Send it again.", close=True)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody reads it any more


async def _blocks(request: Request) -> AsyncIterator[bytes]:
    """The body of a request as it arrives. Raises TimeoutError, ClientDisconnect."""
    take_time(request.scope)
    stream = request.stream()
    while True:
        with anyio.fail_after(STALL_SECONDS):
            block = await anext(stream, None)
        if block is None:
            return
        if block:
            yield block


def _number(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS
    return int(text) if is_number else None


def _json(reply: Reply) -> Response:
    wait = reply.retry_after
    headers = {} if wait is None else {"Retry-After": str(max(int(wait), 1))}
    return JSONResponse(dict(reply.body), reply.status, headers)


def _error(status: int, what: str, *, close: bool = False) -> Response:
    headers = {"Connection": "close"} if close else None
    return JSONResponse({"error": what}, status, headers)
