"""Why a request is refused before a tool sees it, and how it is answered.

A client discards its token on 401, and some ask for more rights on 403. So 401 means only that the
token is missing, wrong or expired. If that cannot be found out now, the status is 503, with the
time after which the same request makes sense (RFC 9110), and says nothing about the token.
"""

import json
import math
from dataclasses import dataclass

from starlette.responses import Response

from wan_mcp.tenants.caller import IdentityUnknown


@dataclass(frozen=True)
class Challenge:
    """Tells a client at a door where to get a token.

    Attributes:
        metadata: the address of the protected resource metadata (RFC 9728); "" for none.
        prefix: precedes each scope if the issuers require one; "" for none.
    """

    metadata: str = ""
    prefix: str = ""

    def named(self, scopes: tuple[str, ...]) -> str:
        """These scopes, as clients request them."""
        return " ".join(self.prefix + scope for scope in scopes)


class Refused(Exception):
    """A request is refused. No text here repeats anything from the request.

    Attributes:
        status: the HTTP status.
        code: the error code of RFC 6750; "" if there was no token.
        sentence: the reason for people, in ASCII without quotation marks.
        scopes: all scopes that the request needs.
        challenged: whether a token, a different one, or one with more scopes would help.
    """

    def __init__(
        self,
        status: int,
        code: str,
        sentence: str,
        *,
        scopes: tuple[str, ...] = (),
        challenged: bool = True,
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code
        self.sentence = sentence
        self.scopes = scopes
        self.challenged = challenged

    def answer(self, challenge: Challenge) -> Response:
        """The answer at a door."""
        headers = {"www-authenticate": self._header(challenge)} if self.challenged else {}
        code = self.code or "invalid_token"
        return _response(self.status, code, self.sentence, headers)

    def _header(self, challenge: Challenge) -> str:
        words = {
            "error": self.code,
            "error_description": self.code and self.sentence,
            "scope": challenge.named(self.scopes),
            "resource_metadata": challenge.metadata,
        }
        given = ", ".join(f'{name}="{value}"' for name, value in words.items() if value)
        return f"Bearer {given}".rstrip()


def missing(scopes: tuple[str, ...]) -> Refused:
    """The refusal of a request without a token. It has no error code (RFC 6750)."""
    return Refused(401, "", "Sign in: this address needs an access token.", scopes=scopes)


class WrongToken(Exception):
    """A token is neither ours nor of a trusted issuer, is not for us, or has expired.

    The text of the exception is for the operator's log, and always in our own words.
    """


def wrong(scopes: tuple[str, ...]) -> Refused:
    """The refusal of a token. It does not say why, because the caller may be guessing."""
    sentence = "The access token is not valid here, or it has expired."
    return Refused(401, "invalid_token", sentence, scopes=scopes)


def not_a_user() -> Refused:
    """The token is valid, but the person is not a user of this server."""
    sentence = "You are signed in, but you are no user of this server. Ask its operator."
    return Refused(403, "access_denied", sentence, challenged=False)


def beyond(scopes: tuple[str, ...]) -> Refused:
    """The token is valid, but has too few scopes."""
    sentence = "The access token does not allow this. Sign in again with more scopes."
    return Refused(403, "insufficient_scope", sentence, scopes=scopes)


def ambiguous() -> Refused:
    """Two servers on the way could attribute the request to two different people."""
    sentence = "A request has at most one Authorization header."
    return Refused(400, "invalid_request", sentence, challenged=False)


def unknown(why: IdentityUnknown) -> Response:
    """The answer while it cannot be found out who calls."""
    sentence = "It cannot be checked now who you are. The token may be right: try again later."
    seconds = max(math.ceil(why.retry_after), 1)
    headers = {"retry-after": str(seconds)}
    return _response(503, "temporarily_unavailable", sentence, headers)


def _response(status: int, code: str, sentence: str, headers: dict[str, str]) -> Response:
    body = json.dumps({"error": code, "error_description": sentence}).encode()
    headers = {**headers, "cache-control": "no-store"}
    return Response(body, status, headers=headers, media_type="application/json")
