"""Who has signed in with a browser: the owner of the token that the issuer returns for a code.

The token is checked by the same code that checks the token of each request, and then forgotten.
"""

import logging
from collections.abc import Mapping

from wan_mcp.tenants.caller import MAKE, ByIssuer, Caller
from wan_mcp.transports.sign_in.bearer import require_token
from wan_mcp.transports.sign_in.code_flow import Begun, CodeFlow, Misfit, refused
from wan_mcp.transports.sign_in.identities import Identities
from wan_mcp.transports.sign_in.refusals import WrongToken

logger = logging.getLogger(__name__)


class InBrowser:
    """Signs people in at one issuer.

    Args:
        issuer: its address.
        flow: gets its tokens.
        identities: finds out to whom a token belongs.
    """

    def __init__(self, issuer: str, flow: CodeFlow, identities: Identities) -> None:
        self._issuer = issuer
        self._flow = flow
        self._identities = identities

    async def begin(self) -> tuple[str, Begun]:
        """See `CodeFlow.begin`."""
        return await self._flow.begin()

    async def finish(self, begun: Begun, answer: Mapping[str, str]) -> Caller:
        """The user who has signed in, and who may buy.

        Args:
            begun, answer: see `CodeFlow.token`.

        Raises:
            Refused: the user has not signed in, or may not buy. The sentence is for them.
            IdentityUnknown: whether they may cannot be found out now.
        """
        try:
            caller = await self._owner(await self._flow.token(begun, answer))
        except Misfit as exc:
            logger.warning("a sign-in on the page for keys: issuer %s %s", self._issuer, exc.why)
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
            caller = (await self._identities.find(token, own_only=False)).caller
        except WrongToken as exc:
            raise Misfit(f"gives a token that is refused: {exc}") from None
        how = caller.signed_in
        if not isinstance(how, ByIssuer) or how.issuer != self._issuer:
            raise Misfit("gives a token that is none of its own")
        return caller
