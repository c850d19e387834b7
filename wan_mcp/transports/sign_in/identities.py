"""To whom a token belongs: a user of this server, with the scopes of the token."""

from dataclasses import replace

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken

from wan_mcp.tenants.caller import ByIssuer, ByToken, Caller, Directory
from wan_mcp.transports.sign_in import refusals
from wan_mcp.transports.sign_in.claims import Identity
from wan_mcp.transports.sign_in.opaque_tokens import OpaqueTokens
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.transports.sign_in.signed_tokens import SignedTokens
from wan_mcp.transports.sign_in.trust import Issuer

_OWN = "wan_"


class SignedIn(AuthenticatedUser):
    """The user of a request, in the form in which the SDK looks for one.

    What the SDK seals for a caller is bound to the client, the issuer and the subject, so it stays
    valid with a new token of the same person. This object does not contain the token.

    Attributes:
        caller: the same user, as this program represents one.
    """

    def __init__(self, caller: Caller, client: str) -> None:
        by = caller.signed_in
        issuer = by.issuer if isinstance(by, ByIssuer) else ""
        super().__init__(
            AccessToken(
                token="",
                client_id=client,
                scopes=sorted(caller.scopes),
                subject=caller.user,
                claims={"iss": issuer},
            )
        )
        self.caller = caller


class Identities:
    """Finds out to whom a token belongs.

    Args:
        directory: knows this program's own tokens, and the users.
        signed: reads the tokens of issuers; None if only this program's own tokens count.
        opaque: asks an issuer about tokens that only it can read; None if there is no such issuer.
    """

    def __init__(
        self,
        directory: Directory,
        signed: SignedTokens | None = None,
        opaque: OpaqueTokens | None = None,
    ) -> None:
        self._directory = directory
        self._signed = signed
        self._opaque = opaque

    async def find(self, token: str, *, own_only: bool) -> SignedIn:
        """The user to whom a token belongs.

        Args:
            own_only: whether only this program's own tokens count.

        Raises:
            WrongToken: it is not valid.
            Refused: it is valid, but its owner is not a user of this server.
            IdentityUnknown: whose it is cannot be found out now.
        """
        if token.startswith(_OWN):  # our own tokens are never sent to an issuer
            return await self._by_own(token)
        if own_only or self._signed is None:
            raise WrongToken("it is none of this program's own")
        issuer = self._signed.issuer(token)
        return await self._by_issuer(await self._identity(token, self._signed, issuer))

    async def find_given(self, token: str, issuer: Issuer) -> SignedIn:
        """Who a token belongs to that an issuer has just given to this server.

        It is shown to no other issuer, whatever it looks like. Raises as `find` does.
        """
        assert self._signed is not None
        if self._signed.issuer(token) not in (None, issuer):
            raise WrongToken("it is of another issuer")
        return await self._by_issuer(await self._identity(token, self._signed, issuer))

    async def _by_own(self, token: str) -> SignedIn:
        caller = await self._directory.token(token)
        if caller is None:
            raise WrongToken("it is unknown, revoked or expired")
        by = caller.signed_in
        return SignedIn(caller, by.token if isinstance(by, ByToken) else "")

    async def _identity(self, token: str, signed: SignedTokens, issuer: Issuer | None) -> Identity:
        if self._opaque is not None and self._opaque.is_for(token, issuer):
            return await self._opaque.check(token)
        return await signed.check(token)

    async def _by_issuer(self, found: Identity) -> SignedIn:
        caller = await self._directory.person(found.issuer, found.subject, found.name)
        if caller is None:
            raise refusals.not_a_user()
        return SignedIn(replace(caller, scopes=found.scopes), found.client)
