"""The token of a request: from one Authorization header, and from nowhere else."""

import re
from collections.abc import Iterable

from wan_mcp.transports.sign_in import refusals
from wan_mcp.transports.sign_in.refusals import WrongToken

MAX_TOKEN_BYTES = 8192
"""The most bytes that usual proxies let through in one header (documented: nginx)."""
_SCHEME = re.compile(rb"bearer +", re.IGNORECASE)
_TOKEN = re.compile(rb"[A-Za-z0-9._~+/-]+=*")


def bearer_token(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token; None if there is none, or if the header has another scheme.

    Args:
        headers: as in ASGI, with names in lower case.

    Raises:
        Refused: there is more than one Authorization header.
        WrongToken: it cannot be a token.
    """
    given = [value for name, value in headers if name == b"authorization"]
    if len(given) > 1:
        raise refusals.ambiguous()
    scheme = _SCHEME.match(given[0]) if given else None
    if scheme is None:
        return None
    token = given[0][scheme.end() :].rstrip(b" ")
    if not token:
        return None
    require_token(token)
    return token.decode("ascii")


def require_token(token: bytes) -> None:
    """Raises WrongToken for bytes that cannot be a token."""
    if len(token) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(token):
        raise WrongToken("it is too long, or has characters that no token has")
