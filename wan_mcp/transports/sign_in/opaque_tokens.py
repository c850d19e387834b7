"""Tokens that only their issuer can read, which is asked what they say (RFC 7662)."""

import hashlib
import time
from collections.abc import Callable
from functools import partial

from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.transports.sign_in.claims import Identity, identity
from wan_mcp.transports.sign_in.discovery import Discovery
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.transports.sign_in.remembered import Remembered
from wan_mcp.transports.sign_in.trust import Introspection, Issuer, Trust
from wan_mcp.web.documents import Document, Documents, Unavailable


class OpaqueTokens:
    """Asks one issuer about tokens, and remembers its answers.

    Args:
        issuer: an issuer with introspection.
        known: its earlier answers.
        now: gives the time in seconds since 1970.
    """

    def __init__(
        self,
        trust: Trust,
        issuer: Issuer,
        documents: Documents,
        known: Remembered,
        now: Callable[[], float] = time.time,
    ) -> None:
        assert issuer.introspection is not None
        self._own: Introspection = issuer.introspection
        self._trust = trust
        self._issuer = issuer
        self._documents = documents
        self._discovery = Discovery(issuer, documents)
        self._known = known
        self._now = now

    def is_for(self, token: str, issuer: Issuer | None) -> bool:
        """Whether to ask about a token. The token of another issuer is not shown to this one.

        Args:
            issuer: the issuer that has given the token, or that the token names; None if it names
                none, or none that is trusted.
        """
        looks_signed = token.count(".") == 2
        return issuer == self._issuer if issuer is not None else not looks_signed

    async def check(self, token: str) -> Identity:
        """To whom a token belongs.

        Raises:
            WrongToken: it is not valid here and now.
            IdentityUnknown: the issuer cannot be reached now.
        """
        key = hashlib.sha256(token.encode()).digest()
        return self._identity(
            await self._known.find(key, partial(self._ask, token), self._is_valid)
        )

    def _identity(self, said: Document) -> Identity:
        if said.get("active") is not True:
            raise WrongToken("its issuer does not accept it any more")
        return identity(said, self._issuer, self._trust, self._now())

    def _is_valid(self, said: Document) -> bool:
        try:
            self._identity(said)
        except WrongToken:
            return False
        return True

    async def _ask(self, token: str) -> Document:
        own, form = self._own, {"token": token, "token_type_hint": "access_token"}
        try:
            url = await self._discovery.introspection()
            password = own.client_secret.get_secret_value()
            return await self._documents.post(url, form, (own.client_id, password))
        except Unavailable as exc:
            raise IdentityUnknown(f"issuer {self._issuer.issuer} {exc}") from exc
