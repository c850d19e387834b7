"""The way to the page for keys for people who sign in with OAuth, and their forms.

    /key, a button -> the issuer -> /key/from-...?code=... -> /key/signed-in -> /key/stored
                                                                            -> /key/removed

The attack to be kept out is a link with which somebody else has a key stored: theirs for the
victim, or the victim's for them; or has the key of the victim removed. So only the issuer says who
a user is, and only to the browser that was sent there: an answer counts where the sealed cookie has
its state, and only at the address that is registered at the issuer which the cookie names. A form
counts only with the cookie with which its page was made, whose user is shown on it.

The code of a sign-in is in no page: a redirect removes it from the address. After a refusal it
stays in the address of that page, and so in the history, where it is of no use without the cookie.
"""

import math
import secrets
from collections.abc import Awaitable, Callable, Mapping

from mcp.server.transport_security import TransportSecuritySettings
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from wan_mcp.tenants.caller import MAKE, ByIssuer, Caller, IdentityUnknown
from wan_mcp.transports.guarded import Answer, Guard
from wan_mcp.transports.own_key.carried import Carried
from wan_mcp.transports.own_key.forms import html_page, read_form, with_desk
from wan_mcp.transports.own_key.site import KEY_PATH, SignedInDesk, answer_to_form
from wan_mcp.transports.sign_in.code_flow import BACK_PATH, Begun, CodeRefused
from wan_mcp.transports.sign_in.in_browser import InBrowser
from wan_mcp.transports.sign_in.refusals import Refused
from wan_mcp.transports.sign_in.sign_in import SignIn

BEGIN_PATH, SIGNED_IN_PATH = f"{KEY_PATH}/sign-in", f"{KEY_PATH}/signed-in"

_STORE, _REMOVE = ("ticket", "key"), ("ticket", "remove")
_BEGUN, _SIGNED_IN = "key page: begun", "key page: signed in"
_STRANGE = (
    "This browser did not begin this sign-in, or it began more than ten minutes ago, or another "
    "sign-in has begun since. Nothing was changed."
)
_OVER = "You are not signed in, or not any more: it lasts ten minutes. Nothing was changed."
_NOBODY = "You are no user of this server any more. Ask its operator."
_LATER = "It cannot be checked now who you are. Nothing was changed. Try again in a while."


class SignedInSite:
    """The pages of one server.

    Args:
        desk: decides about keys; None while there is none, and then every page is not found (404).
        rules: which Host and Origin headers a request may have.
        sign_in: knows the users, and seals what their browsers keep.
        browsers: how they sign in with a browser, by issuer.
    """

    def __init__(
        self,
        desk: Callable[[], SignedInDesk | None],
        rules: TransportSecuritySettings,
        sign_in: SignIn,
        browsers: Mapping[str, InBrowser],
    ) -> None:
        assert sign_in.trust is not None
        assert sign_in.ring is not None
        self._desk = desk
        self._directory = sign_in.directory
        self._browsers = browsers
        self._carried = Carried(sign_in.ring, sign_in.trust.site, sign_in.wall)
        self._page = Guard(rules, "same-origin")
        self._code = Guard(rules)

    @property
    def routes(self) -> list[Route]:
        """The routes of the site."""
        back = f"{BACK_PATH}{{way}}"
        return [
            Route(BEGIN_PATH, self._guarded(self._page, self._begin), methods=["POST"]),
            Route(back, self._guarded(self._code, self._end), methods=["GET"]),
            Route(SIGNED_IN_PATH, self._guarded(self._page, self._ask), methods=["GET"]),
            Route(SIGNED_IN_PATH, self._guarded(self._page, self._act), methods=["POST"]),
        ]

    def _guarded(
        self, guard: Guard, answer: Callable[[Request, SignedInDesk], Awaitable[Response]]
    ) -> Answer:
        return guard.around(with_desk(self._desk, answer))

    async def _begin(self, request: Request, desk: SignedInDesk) -> Response:
        """Lead to an issuer by a page of its own.

        A redirect would have to be allowed by the policy of the page with the form (observed:
        Chromium), and nobody knows to which other places an issuer leads on.
        """
        form = await read_form(request, ["issuer"])
        if isinstance(form, Response):
            return form
        browser = self._browsers.get(form["issuer"])
        if browser is None:
            return PlainTextResponse("Send the form of this page.", 400)
        try:
            address, begun = await browser.begin()
        except IdentityUnknown as why:
            return _later(desk, why)
        nonce = secrets.token_urlsafe(16)
        response = html_page(200, desk.leading_page(nonce, begun.issuer, address), nonce)
        self._carried.put(response, _BEGUN, begun._asdict())
        return response

    async def _end(self, request: Request, desk: SignedInDesk) -> Response:
        if request.method == "HEAD":  # it must not use up the code (documented: RFC 9110)
            return Response(status_code=405, headers={"Allow": "GET"})
        kept, given = self._carried.take(request, _BEGUN), request.query_params.multi_items()
        begun, answer = None if kept is None else Begun(**kept), dict(given)
        browser = None if begun is None else self._browsers.get(begun.issuer)
        way = request.path_params["way"]
        is_theirs = begun is not None and begun.is_answered_by(way, answer)
        if begun is None or browser is None or not is_theirs or len(answer) < len(given):
            # Nothing is dropped: a link of somebody else must not end a sign-in that goes on.
            return _unsigned(desk, 400, _STRANGE)
        try:
            caller = await browser.finish(begun, answer)
        except Refused as why:
            response = _unsigned(desk, why.status, f"{why.sentence} Nothing was changed.")
            if not isinstance(why, CodeRefused):  # or another load has signed the user in
                self._carried.drop(response)
            return response
        except IdentityUnknown as why:
            return _later(desk, why)  # the same address makes sense again, with the same cookie
        response = RedirectResponse(SIGNED_IN_PATH.rpartition("/")[2], 303)  # also behind a prefix
        self._carried.put(response, _SIGNED_IN, _ticket(caller))
        return response

    async def _ask(self, request: Request, desk: SignedInDesk) -> Response:
        kept = self._carried.take(request, _SIGNED_IN)
        if kept is None:
            return _unsigned(desk, 403, _OVER)
        nonce = secrets.token_urlsafe(16)
        page = await desk.signed_in_page(nonce, _caller(kept), kept["ticket"])
        return html_page(200, page, nonce)

    async def _act(self, request: Request, desk: SignedInDesk) -> Response:
        """Store or remove a key."""
        form = await read_form(request, _STORE, _REMOVE)
        if isinstance(form, Response):
            return form
        kept, nonce = self._carried.take(request, _SIGNED_IN), secrets.token_urlsafe(16)
        ticket = form["ticket"]
        if kept is None or not secrets.compare_digest(ticket.encode(), kept["ticket"].encode()):
            return _unsigned(desk, 403, _OVER)
        caller = _caller(kept)
        try:
            known = await self._directory.person(kept["issuer"], kept["subject"], "")
        except IdentityUnknown as why:
            page = await desk.signed_in_page(nonce, caller, ticket, _LATER)
            return html_page(503, page, nonce, _seconds(why))
        if known is None or known.user != caller.user:
            return _unsigned(desk, 403, _NOBODY)
        if "key" in form:
            reply, then = await desk.store_for(caller, form["key"], nonce, ticket), "stored"
        else:
            reply, then = await desk.remove_for(caller, nonce, ticket), "removed"
        response = answer_to_form(reply, nonce, then)
        if reply is None:
            self._carried.drop(response)
        return response


def _ticket(caller: Caller) -> dict[str, str]:
    """The content of the cookie of a user who has signed in and may buy."""
    how = caller.signed_in
    assert isinstance(how, ByIssuer)
    return {
        "user": caller.user,
        "name": caller.name,
        "issuer": how.issuer,
        "subject": how.subject,
        "ticket": secrets.token_urlsafe(32),
    }


def _caller(kept: Mapping[str, str]) -> Caller:
    by = ByIssuer(kept["issuer"], kept["subject"])
    return Caller(kept["user"], kept["name"], None, frozenset({MAKE}), by)


def _unsigned(desk: SignedInDesk, status: int, problem: str) -> Response:
    nonce = secrets.token_urlsafe(16)
    return html_page(status, desk.unsigned_page(nonce, problem), nonce)


def _later(desk: SignedInDesk, why: IdentityUnknown) -> Response:
    nonce = secrets.token_urlsafe(16)
    return html_page(503, desk.unsigned_page(nonce, _LATER), nonce, _seconds(why))


def _seconds(why: IdentityUnknown) -> int:
    return max(math.ceil(why.retry_after), 1)
