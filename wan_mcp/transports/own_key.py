"""The page on which a user stores a PixelDojo key of their own, and the form that brings it.

Who the user is says the token in the form and nothing else, no cookie and no part of an address:
so no link and no page elsewhere can let somebody store a key for another user, or have their own
replaced. There is no script.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol
from urllib.parse import parse_qsl

from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from wan_mcp.transports.guarded import Answer, Guard, own_policy

KEY_PATH = "/key"
STORED_PATH = f"{KEY_PATH}/stored"
MAX_FORM_BYTES = 8_192
"""The largest form (ours): two fields with a few hundred characters."""
_FORM = "application/x-www-form-urlencoded"
_FIELDS = ("token", "key")


class Refusal(Protocol):
    """Why a key was not stored."""

    @property
    def status(self) -> int:
        """The status of HTTP."""

    @property
    def page(self) -> str:
        """The page with the form again, as HTML. It repeats nothing that was sent."""

    @property
    def retry_after(self) -> int | None:
        """After how many seconds the same form makes sense; None if that is not known."""


class KeyDesk(Protocol):
    """Decides about keys."""

    def page(self, nonce: str) -> str:
        """The page with the form, as HTML.

        Args:
            nonce: shows that style is ours.
        """

    def stored_page(self, nonce: str) -> str:
        """The page that says that a key is stored, as HTML."""

    async def store(self, token: str, key: str, nonce: str) -> Refusal | None:
        """Store a key for the user whose token this is; None if that is done.

        Args:
            token, key: of any form, as they were sent.
            nonce: for the page of a refusal.
        """


class KeySite:
    """The page of one server.

    Args:
        desk: decides; None while there is nobody who does, and then nothing is found.
        rules: which Host and Origin headers a request may have.
    """

    def __init__(
        self, desk: Callable[[], KeyDesk | None], rules: TransportSecuritySettings
    ) -> None:
        self._desk = desk
        self._guard = Guard(rules, "same-origin")

    @property
    def routes(self) -> list[Route]:
        """The routes of the site."""
        return [
            Route(KEY_PATH, self._guarded(_ask), methods=["GET"]),
            Route(KEY_PATH, self._guarded(_store), methods=["POST"]),
            Route(STORED_PATH, self._guarded(_thank), methods=["GET"]),
        ]

    def _guarded(self, answer: Callable[[Request, KeyDesk], Awaitable[Response]]) -> Answer:
        async def answered(request: Request) -> Response:
            desk = self._desk()
            if desk is None:
                return PlainTextResponse("There is nothing here.", 404)
            return await answer(request, desk)

        return self._guard.around(answered)


async def _ask(_request: Request, desk: KeyDesk) -> Response:
    nonce = secrets.token_urlsafe(16)
    return _page(200, desk.page(nonce), nonce)


async def _thank(_request: Request, desk: KeyDesk) -> Response:
    nonce = secrets.token_urlsafe(16)
    return _page(200, desk.stored_page(nonce), nonce)


async def _store(request: Request, desk: KeyDesk) -> Response:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return PlainTextResponse("Send the form of this page.", 415)
    try:
        form = await _form(request)
    except ClientDisconnect:
        return Response(status_code=400)  # nobody is there to read it
    if form is None:
        return PlainTextResponse("Send the form of this page.", 400, {"Connection": "close"})
    nonce = secrets.token_urlsafe(16)
    refusal = await desk.store(form["token"], form["key"], nonce)
    if refusal is None:  # another page, or going back and forth would send the form again
        return RedirectResponse(STORED_PATH.removeprefix("/"), 303)  # also behind a prefix
    response = _page(refusal.status, refusal.page, nonce)
    if refusal.retry_after is not None:
        response.headers["Retry-After"] = str(refusal.retry_after)
    return response


def _page(status: int, html: str, nonce: str) -> Response:
    headers = own_policy(nonce, "form-action 'self'")
    return Response(html, status, headers, media_type="text/html; charset=utf-8")


async def _form(request: Request) -> dict[str, str] | None:
    """The fields of the form; None if it is too large, or is another one.

    Raises:
        ClientDisconnect: before all of it has come.
    """
    body = bytearray()
    async for block in request.stream():
        body += block
        if len(body) > MAX_FORM_BYTES:
            return None
    try:
        pairs = parse_qsl(body.decode("ascii"), True, True, errors="strict", max_num_fields=2)
    except ValueError:
        return None
    form = dict(pairs)
    return form if sorted(form) == sorted(_FIELDS) and len(pairs) == len(_FIELDS) else None
