"""The pages on which a user stores or removes a PixelDojo key of their own, and their forms.

Who the user is says the token in the form and nothing else, no cookie and no part of an address:
so no link and no page elsewhere can make a user store a key for another user, or replace or remove
their own. There is no script. Users without such a token sign in: see `signed_in`.
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
REMOVE_PATH = f"{KEY_PATH}/remove"
REMOVED_PATH = f"{KEY_PATH}/removed"
_FIELDS = ("token", "key")
_LOOK, _REMOVE = ("token", "look"), ("token", "remove")


class Reply(Protocol):
    """What a user reads whose form was not done, or who has only looked."""

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

    def removal_page(self, nonce: str) -> str:
        """The page with the form that removes a key, as HTML."""

    def removed_page(self, nonce: str) -> str:
        """The page that says that no key of the user is stored, as HTML."""

    async def store(self, token: str, key: str, nonce: str) -> Reply | None:
        """Store a key for the user whose token this is; None if that is done.

        Args:
            token, key: of any form, as they were sent.
            nonce: for the page of a refusal.
        """

    async def look(self, token: str, nonce: str) -> Reply:
        """What is stored for the user whose token this is, or why that is not said.

        Args:
            token, nonce: as in `store`.
        """

    async def remove(self, token: str, nonce: str) -> Reply | None:
        """Remove the key of the user whose token this is; None if none is stored any more.

        Args:
            token, nonce: as in `store`.
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

    async def signed_in_page(
        self, nonce: str, caller: Caller, ticket: str, problem: str = ""
    ) -> str:
        """The page with the forms for a user who has signed in, as HTML. It says what is stored.

        Args:
            ticket: what each form brings back.
            problem: why a key was not stored or removed, in sentences.
        """

    async def store_for(self, caller: Caller, key: str, nonce: str, ticket: str) -> Reply | None:
        """Store a key for a user who has signed in; None if that is done.

        Args:
            key: of any form, as it was sent.
            nonce, ticket: for the page of a refusal.
        """

    async def remove_for(self, caller: Caller, nonce: str, ticket: str) -> Reply | None:
        """Remove the key of a user who has signed in; None if none is stored any more.

        Args:
            nonce, ticket: as in `store_for`.
        """


Answering = Callable[[Request, KeyDesk], Awaitable[Response]]
"""What answers one request, with a desk that decides."""


class KeySite:
    """The pages of one server.

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
        ask = _page(lambda desk, nonce: desk.page(nonce))
        thank = _page(lambda desk, nonce: desk.stored_page(nonce))
        ask_to_remove = _page(lambda desk, nonce: desk.removal_page(nonce))
        confirm = _page(lambda desk, nonce: desk.removed_page(nonce))
        return [
            Route(KEY_PATH, self._guarded(ask), methods=["GET"]),
            Route(KEY_PATH, self._guarded(_store), methods=["POST"]),
            Route(STORED_PATH, self._guarded(thank), methods=["GET"]),
            Route(REMOVE_PATH, self._guarded(ask_to_remove), methods=["GET"]),
            Route(REMOVE_PATH, self._guarded(_remove), methods=["POST"]),
            Route(REMOVED_PATH, self._guarded(confirm), methods=["GET"]),
        ]

    def _guarded(self, answer: Answering) -> Answer:
        return self._guard.around(with_desk(self._desk, answer))


def _page(html: Callable[[KeyDesk, str], str]) -> Answering:
    """Shows a page of the desk, which gets the nonce for it."""

    async def shown(_request: Request, desk: KeyDesk) -> Response:
        nonce = secrets.token_urlsafe(16)
        return html_page(200, html(desk, nonce), nonce)

    return shown


async def _store(request: Request, desk: KeyDesk) -> Response:
    form = await read_form(request, _FIELDS)
    if isinstance(form, Response):
        return form
    nonce = secrets.token_urlsafe(16)
    reply = await desk.store(form["token"], form["key"], nonce)
    return answer_to_form(reply, nonce, STORED_PATH.removeprefix("/"))


async def _remove(request: Request, desk: KeyDesk) -> Response:
    form = await read_form(request, _LOOK, _REMOVE)
    if isinstance(form, Response):
        return form
    token, nonce = form["token"], secrets.token_urlsafe(16)
    reply = await (desk.look(token, nonce) if "look" in form else desk.remove(token, nonce))
    return answer_to_form(reply, nonce, "removed")


def answer_to_form(reply: Reply | None, nonce: str, then: str) -> Response:
    """The answer to a form.

    Args:
        reply: what the user reads; None if what they asked for is done.
        then: where a page says that, seen from the address of the form: also behind a prefix.
            Without another page, going back and forth would send the form again.
    """
    if reply is None:
        return RedirectResponse(then, 303)
    return html_page(reply.status, reply.page, nonce, reply.retry_after)
