"""Tokens that this server can read: JWTs, signed by an issuer whose public keys are known."""

import time
from collections.abc import Callable, Mapping

import jwt

from wan_mcp.transports.sign_in.claims import Claims, Identity, identity
from wan_mcp.transports.sign_in.key_sets import KeySet
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.transports.sign_in.trust import Issuer, Trust

_TYPES = {"jwt", "at+jwt", "application/at+jwt"}
"""The types that an access token may name (documented: RFC 9068); many name only JWT."""


class SignedTokens:
    """Checks JWTs.

    Args:
        trust: the issuers, and what they are trusted with.
        key_sets: the keys of those whose signatures count.
        now: gives the time in seconds since 1970.
    """

    def __init__(
        self, trust: Trust, key_sets: Mapping[str, KeySet], now: Callable[[], float] = time.time
    ) -> None:
        self._trust = trust
        self._issuers = {each.issuer: each for each in trust.issuers}
        self._key_sets = key_sets
        self._now = now

    def issuer(self, token: str) -> Issuer | None:
        """The issuer that a token names; None if it is no JWT, or names none that is trusted."""
        try:
            return self._named(_unverified(token)[1])
        except WrongToken:
            return None

    async def check(self, token: str) -> Identity:
        """To whom a token belongs.

        Raises:
            WrongToken: it is not valid here and now.
            IdentityUnknown: the keys of its issuer cannot be fetched now.
        """
        header, claims, signature = _unverified(token)
        issuer = self._named(claims)
        if issuer is None:
            raise WrongToken("it is of an issuer that is not trusted")
        algorithm = _algorithm(header, issuer)
        # Checked before the signature, so that no key is looked for because of an expired token.
        found = identity(claims, issuer, self._trust, self._now())
        id = header.get("kid")
        keys = self._key_sets[issuer.issuer]
        key = await keys.find(algorithm, id if isinstance(id, str) else None)
        # `jwt.decode` would read the whole token once more, which takes longer than this.
        if not key.has_signed(token.rpartition(".")[0].encode(), signature):
            raise WrongToken("its signature is wrong")
        return found

    def _named(self, claims: Claims) -> Issuer | None:
        name = claims.get("iss")
        return self._issuers.get(name) if isinstance(name, str) else None


def _unverified(token: str) -> tuple[Claims, Claims, bytes]:
    """Header, claims and signature. Raises WrongToken."""
    try:
        parts = jwt.decode_complete(token, options={"verify_signature": False})
    except jwt.PyJWTError:
        raise WrongToken("it cannot be read") from None
    return parts["header"], parts["payload"], parts["signature"]


def _algorithm(header: Claims, issuer: Issuer) -> str:
    """The kind of signature. Raises WrongToken if the issuer may not use it."""
    if str(header.get("typ", "jwt")).lower() not in _TYPES:
        raise WrongToken("it is no access token")
    algorithm = header.get("alg")
    if algorithm not in issuer.algorithms:
        raise WrongToken("its issuer may not sign like this")
    return str(algorithm)
