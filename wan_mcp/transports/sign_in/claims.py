"""What a token says, and whether it is meant for this server and valid now."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wan_mcp.tenants.caller import SCOPES
from wan_mcp.transports.sign_in.refusals import WrongToken
from wan_mcp.transports.sign_in.trust import Issuer, Trust

LEEWAY_SECONDS = 30.0
"""How far the clocks of two machines may differ."""
LAST_TIME = 1e11
"""In seconds since 1970: a later time, in the sixth millennium or after, is no time (ours)."""
MAX_SUBJECT = 255
"""The longest name of a person at an issuer (documented: OpenID Connect)."""
_NAMES = ("name", "preferred_username", "email")

Claims = Mapping[str, Any]


@dataclass(frozen=True)
class Identity:
    """The person to whom a token belongs, according to its issuer.

    Attributes:
        issuer, subject: identify the person; both are verified.
        client: the program to which the token was given; "" if the token does not say.
        name: the person's name; "" if the token does not say.
        scopes: those of our scopes that the token has.
        expires_at: when the token expires, in seconds since 1970.
    """

    issuer: str
    subject: str
    client: str
    name: str
    scopes: frozenset[str]
    expires_at: float


def identity(claims: Claims, issuer: Issuer, trust: Trust, now: float) -> Identity:
    """The identity in the claims of a token, whose signature is not checked here.

    Args:
        now: seconds since 1970.

    Raises:
        WrongToken: they are not of that issuer, not for this server, or not valid now.
    """
    if claims.get("iss", issuer.issuer) != issuer.issuer:
        raise WrongToken("another issuer")
    if not _audiences(claims) & {trust.resource, *(_plain(each) for each in issuer.audiences)}:
        raise WrongToken("its audience is not this server")
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT:
        raise WrongToken("it names no person")
    return Identity(
        issuer.issuer,
        subject,
        _text(claims, "client_id", "azp", "appid"),
        _text(claims, *_NAMES),
        _scopes(claims, trust.scope_prefix),
        _expiry(claims, now),
    )


def _expiry(claims: Claims, now: float) -> float:
    """When the token expires. Raises WrongToken if it is not valid now."""
    end = _seconds(claims, "exp", -math.inf)
    if now >= end + LEEWAY_SECONDS:
        raise WrongToken("it has expired, or names no end")
    if now < max(_seconds(claims, "nbf", 0), _seconds(claims, "iat", 0)) - LEEWAY_SECONDS:
        raise WrongToken("it is for later")
    return end


def _seconds(claims: Claims, name: str, default: float) -> float:
    value = claims.get(name)
    if value is None:
        return default
    # Not with `math`, whose functions fail for a number with hundreds of digits.
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < LAST_TIME:
        raise WrongToken(f"{name} is no time")
    return value


def _audiences(claims: Claims) -> set[str]:
    given = claims.get("aud")
    several = given if isinstance(given, list) else [given]
    return {_plain(each) for each in several if isinstance(each, str)}


def _plain(address: str) -> str:
    """The address without the slash at its end that some programs add (observed elsewhere)."""
    return address.removesuffix("/")


def _scopes(claims: Claims, prefix: str) -> frozenset[str]:
    """The scopes, which issuers write in several ways and claims (observed elsewhere)."""
    given = claims.get("scope", claims.get("scp"))
    words = given.split(" ") if isinstance(given, str) else given
    if not isinstance(words, list):
        return frozenset()
    return frozenset(str(word).removeprefix(prefix) for word in words) & SCOPES


def _text(claims: Claims, *names: str) -> str:
    found = (value for name in names if isinstance(value := claims.get(name), str) and value)
    return next(found, "")
