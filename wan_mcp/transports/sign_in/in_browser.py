"""Who has signed in with a browser: the owner of the token that the issuer returns for a code.

The token is checked by the same code that checks the token of each request, and then forgotten.
"""

import logging
import time
from collections.abc import Callable, Mapping

from wan_mcp.logs.seldom import Seldom
from wan_mcp.tenants.caller import MAKE, Caller, IdentityUnknown
from wan_mcp.transports.sign_in.bearer import require_token
from wan_mcp.transports.sign_in.code_flow import (
    AGAIN,
    Begun,
    CodeFlow,
    CodeRefused,
    Misfit,
    refused,
)
from wan_mcp.transports.sign_in.identities import Identities
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.transports.sign_in.trust import Issuer

logger = logging.getLogger(__name__)


class InBrowser:
    """Signs people in at one issuer.

    Args:
        issuer: has a client for the page.
        flow: gets its tokens.
        identities: finds out to whom a token belongs.
        now: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        issuer: Issuer,
        flow: CodeFlow,
        identities: Identities,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._issuer = issuer
        self._flow = flow
        self._identities = identities
        self._seldom = Seldom(now)

    async def begin(self) -> tuple[str, Begun]:
        """See `CodeFlow.begin`."""
        return await self._flow.begin()

    async def finish(self, begun: Begun, answer: Mapping[str, str]) -> Caller:
        """The user who has signed in, and who may buy.

        Args:
            begun, answer: see `CodeFlow.token`.

        Raises:
            Refused: the user has not signed in, or may not buy. The sentence is for them.
            IdentityUnknown: whether they may cannot be found out now. The same answer makes sense
                later.
        """
        try:
            caller = await self._owner(await self._flow.token(begun, answer))
        except CodeRefused as exc:
            if exc.error:
                self._warn(f"answers {exc.error}")
            raise
        except Misfit as exc:
            self._warn(exc.why)
            raise
        if MAKE not in caller.scopes:
            raise refused(
                403,
                "You are signed in, but the authorization server does not let you start jobs here, "
                "so you cannot store a key.",
            )
        return caller

    async def _owner(self, token: str) -> Caller:
        try:
            require_token(token.encode(errors="replace"))
            return (await self._identities.find_given(token, self._issuer)).caller
        except WrongToken as exc:
            raise Misfit(f"gives a token that is refused: {exc}") from None
        except IdentityUnknown:  # the code is used up, so the same answer never makes sense again
            raise refused(503, f"It cannot be checked now who you are. {AGAIN}") from None

    def _warn(self, why: str) -> None:
        if self._seldom.is_due(why):  # anybody can have it asked about invented codes
            name = self._issuer.issuer
            logger.warning("a sign-in on the page for keys: issuer %s %s", name, why)
