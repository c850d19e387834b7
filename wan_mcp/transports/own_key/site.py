"""The page on which a user stores a PixelDojo key of their own, and the form that brings it.

Who the user is says the token in the form and nothing else, no cookie and no part of an address:
so no link and no page elsewhere can make a user store a key for another user, or replace their
own. There is no script. Users without such a token sign in: see `signed_in`.
"""

import secrets
from collections.abc import Awaitable, Callable
from typing import Protocol

from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from wan_mcp.tenants.caller import Caller
from wan_mcp.transports.guarded import Answer, Guard
from wan_mcp.transports.own_key.forms import html_page, read_form, with_desk

KEY_PATH = "/key"
STORED_PATH = f"{KEY_PATH}/stored"
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


class SignedInDesk(KeyDesk, Protocol):
    """Decides as well about keys of users who sign in elsewhere."""

    def leading_page(self, nonce: str, issuer: str, address: str) -> str:
        """The page that leads a browser to an issuer, as HTML.

        Args:
            address: of the page of the issuer.
        """

    def unsigned_page(self, nonce: str, problem: str) -> str:
        """The page for a user who has not signed in, as HTML.

        Args:
            problem: why not, in sentences.
        """

    def signed_in_page(self, nonce: str, caller: Caller, ticket: str, problem: str = "") -> str:
        """The page with the form for a user who has signed in, as HTML.

        Args:
            ticket: what the form brings back.
            problem: why a key was not stored, in sentences.
        """

    async def store_for(self, caller: Caller, key: str, nonce: str, ticket: str) -> Refusal | None:
        """Store a key for a user who has signed in; None if that is done.

        Args:
            key: of any form, as it was sent.
            nonce, ticket: for the page of a refusal.
        """


class KeySite:
    """The page of one server.

    Args:
        desk: decides; None while there is none, and then every page is not found (404).
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
        return self._guard.around(with_desk(self._desk, answer))


async def _ask(_request: Request, desk: KeyDesk) -> Response:
    nonce = secrets.token_urlsafe(16)
    return html_page(200, desk.page(nonce), nonce)


async def _thank(_request: Request, desk: KeyDesk) -> Response:
    nonce = secrets.token_urlsafe(16)
    return html_page(200, desk.stored_page(nonce), nonce)


async def _store(request: Request, desk: KeyDesk) -> Response:
    form = await read_form(request, _FIELDS)
    if isinstance(form, Response):
        return form
    nonce = secrets.token_urlsafe(16)
    refusal = await desk.store(form["token"], form["key"], nonce)
    if refusal is None:  # another page, or going back and forth would send the form again
        return RedirectResponse(STORED_PATH.removeprefix("/"), 303)  # also behind a prefix
    return html_page(refusal.status, refusal.page, nonce, refusal.retry_after)
