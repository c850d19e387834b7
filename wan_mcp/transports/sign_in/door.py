"""The way into an app: before anything else, it checks who calls and whether they may."""

import logging
from contextlib import ExitStack

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from starlette.authentication import AuthCredentials
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from wan_mcp.logs.context import lines_about
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.current import calling
from wan_mcp.transports.sign_in import refusals, scopes
from wan_mcp.transports.sign_in.bearer import bearer_token
from wan_mcp.transports.sign_in.identities import Identities, SignedIn
from wan_mcp.transports.sign_in.refusals import Challenge, Refused, WrongToken

logger = logging.getLogger(__name__)


class Door:
    """Lets people into an app who have signed in, each for what they may do.

    A request is checked when it begins, so one that outlives its token is still answered.

    Args:
        app: finds the caller in `scope["user"]`, and code within it by `current_caller`. It never
            sees the token.
        identities: finds out who calls.
        challenge: tells a client how to get a token.
        own_only: whether only this program's own tokens count.
        max_bytes: how much of a body is read to see what it asks for. The app must refuse more.
    """

    def __init__(
        self,
        app: ASGIApp,
        identities: Identities,
        challenge: Challenge,
        *,
        own_only: bool,
        max_bytes: int,
    ) -> None:
        self._app = AuthContextMiddleware(app)
        self._identities = identities
        self._challenge = challenge
        self._own_only = own_only
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = Body(receive, self._max_bytes)
        try:
            user = await self._user(scope)
            needed = scopes.needed(await body.read())
            if scopes.missing(needed, user.caller.scopes):
                raise refusals.beyond(needed)
        except Refused as refused:
            logger.info("a request is refused: %s", refused)
            await body.pass_over()
            await refused.answer(self._challenge)(scope, receive, send)
        except IdentityUnknown as why:
            await body.pass_over()
            await refusals.unknown(why)(scope, receive, send)
        else:
            await self._let_in(user, scope, body.receive, send)

    async def _user(self, scope: Scope) -> SignedIn:
        try:
            token = bearer_token(scope["headers"])
            if token is None:
                raise refusals.missing(scopes.ALL)
            return await self._identities.find(token, own_only=self._own_only)
        except WrongToken as exc:
            logger.info("a token is refused: %s", exc)
            raise refusals.wrong(scopes.ALL) from None

    async def _let_in(self, user: SignedIn, scope: Scope, receive: Receive, send: Send) -> None:
        seen = {
            **scope,
            "headers": [each for each in scope["headers"] if each[0] != b"authorization"],
            "user": user,
            "auth": AuthCredentials(sorted(user.caller.scopes)),
        }
        with ExitStack() as stack:
            stack.enter_context(calling(user.caller))
            stack.enter_context(lines_about(user=user.caller.user))
            await self._app(seen, receive, send)


class Body:
    """The body of one request, read first to see what it asks for, and then by the app.

    Args:
        receive: the request's own function, as in ASGI.
        max_bytes: how much is read first.
    """

    def __init__(self, receive: Receive, max_bytes: int) -> None:
        self._receive = receive
        self._left = max_bytes
        self._goes_on = True
        self._read: list[Message] = []

    async def read(self) -> bytes | None:
        """The whole body; None if it is longer, or the client is gone."""
        while self._goes_on:
            self._read.append(await self._next())
        last = self._read[-1]
        if last["type"] != "http.request" or last.get("more_body", False):
            return None
        return b"".join(message.get("body", b"") for message in self._read)

    async def pass_over(self) -> None:
        """Receive what has not been read, and keep none of it.

        A proxy may break off an answer that comes before the end of its request (observed: Caddy
        2.11 on a busy machine, one answer in sixteen). A client that is to sign in needs all of it.
        """
        while self._goes_on:
            await self._next()

    async def _next(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        self._goes_on = message.get("more_body", False) and self._left >= 0
        return message

    async def receive(self) -> Message:
        """What the app receives: the same messages, and then those that follow."""
        return self._read.pop(0) if self._read else await self._receive()
