"""Signing in with a browser at an issuer: OAuth's authorization code flow, with PKCE (RFC 7636).

The address with which a browser comes back does not say who its user is: it has only a code, for
which the issuer returns an access token for this server.
"""

import hashlib
import logging
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from typing import NamedTuple
from urllib.parse import quote_plus, urlencode

import anyio

from wan_mcp.logs.seldom import Seldom
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.transports.sign_in.discovery import Discovery, Places
from wan_mcp.transports.sign_in.refusals import Challenge, Refused
from wan_mcp.transports.sign_in.scopes import ALL
from wan_mcp.transports.sign_in.trust import Issuer, PageClient, Trust
from wan_mcp.web.documents import Document, Documents, Unavailable

BACK_PATH = "/key/from-"
"""The path to which a browser comes back, below the public address of this server; see `way_of`."""
FRESH_SECONDS = 600.0
"""How long the addresses of an issuer are used before they are looked up again (ours)."""
PAUSE_SECONDS = 10.0
"""The shortest time between two failing look-ups (ours): anybody can cause the server to look."""
AT_ONCE = 8
"""How many codes are exchanged at the same time (ours): anybody can send invented ones."""
LONGEST_CODE = 4096
"""The longest code (ours); those of the largest issuers have about 2,000 characters (assumed)."""
REFUSALS = (400, 401)
"""The statuses with which an issuer explains why it refuses a code (documented: RFC 6749)."""

_WAY_DIGITS = 16  # no two issuers of one operator have the same by chance
_DENIED = "access_denied"
_FOR_NOW = ("temporarily_unavailable", "server_error")
_ABOUT_REQUEST = ("invalid_request", "invalid_scope", "invalid_target", "unsupported_response_type")
ABOUT_CLIENT = ("invalid_client", "unauthorized_client", "unsupported_grant_type")
"""The errors of an issuer that does not know this server, or only for another purpose."""

_MISFIT = (
    "This server and the authorization server do not fit together. Ask the operator of this "
    "server, whose log says more."
)
AGAIN = "Sign in again in a while."
_NOT_ACCEPTED = "The authorization server did not accept your sign-in."

logger = logging.getLogger(__name__)


class Misfit(Refused):
    """The settings of this server and those of the issuer do not fit together.

    Attributes:
        why: the reason, as the rest of a sentence about the issuer, for operators.
    """

    def __init__(self, why: str) -> None:
        super().__init__(502, "server_error", _MISFIT, challenged=False)
        self.why = why


class CodeRefused(Refused):
    """The issuer gives no token for a code, perhaps because another load of the page has used it.

    Attributes:
        error: why, in a word of OAuth about this server or its request; "" for any other reason.
    """

    def __init__(self, error: object) -> None:
        self.error = str(error) if error in (*ABOUT_CLIENT, *_ABOUT_REQUEST) else ""
        status, sentence = (502, _MISFIT) if self.error else (400, _NOT_ACCEPTED)
        super().__init__(status, "access_denied", sentence, challenged=False)


class Begun(NamedTuple):
    """What the browser keeps, sealed, and has to send back together with the issuer's answer.

    Attributes:
        issuer: the address of the issuer.
        state: shows that the answer belongs to this browser (RFC 6749).
        verifier: shows that the code was made for this server (RFC 7636).
    """

    issuer: str
    state: str
    verifier: str

    @classmethod
    def new(cls, issuer: str) -> "Begun":
        """A new one, which cannot be guessed."""
        return cls(issuer, secrets.token_urlsafe(32), secrets.token_urlsafe(32))

    def is_answered_by(self, way: str, answer: Mapping[str, str]) -> bool:
        """Whether an answer belongs to this browser, and comes from the issuer that was chosen.

        Args:
            way: the end of the address at which the answer arrived.
        """
        return way == way_of(self.issuer) and secrets.compare_digest(
            self.state.encode(), answer.get("state", "").encode()
        )


class CodeFlow:
    """Gets tokens from one issuer.

    Args:
        trust: names the issuer, and for what its tokens must be.
        issuer: an issuer with a client for the page.
        documents: fetches its metadata, and exchanges codes.
        now: a clock that never goes back, in seconds.

    Attributes:
        redirect: the address to which the issuer leads browsers back. It is registered there.
    """

    def __init__(
        self,
        trust: Trust,
        issuer: Issuer,
        documents: Documents,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        assert issuer.key_page is not None
        self._client: PageClient = issuer.key_page
        self._trust = trust
        self._issuer = issuer
        self._documents = documents
        self.redirect = f"{trust.site}{BACK_PATH}{way_of(issuer.issuer)}"
        self._now = now
        self._found: Places | None = None
        self._found_at = self._failed_at = -float("inf")
        self._looking = anyio.Lock()
        self._seldom = Seldom(now)
        self._places_left = AT_ONCE

    async def begin(self) -> tuple[str, Begun]:
        """The address at which the user signs in, and what the browser keeps.

        Raises:
            IdentityUnknown: the issuer cannot be reached now.
        """
        begun = Begun.new(self._issuer.issuer)
        digest = hashlib.sha256(begun.verifier.encode()).digest()
        words = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self.redirect,
            "scope": Challenge(prefix=self._trust.scope_prefix).named(ALL),
            "state": begun.state,
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
            "resource": self._trust.resource,
        }
        return f"{(await self._places()).authorization}?{urlencode(words)}", begun

    async def token(self, begun: Begun, answer: Mapping[str, str]) -> str:
        """The access token of the user who has signed in. It has not been checked in any way.

        Args:
            begun: what the browser kept; it belongs to this answer.
            answer: the issuer's answer, which the browser has brought.

        Raises:
            Refused: the user has not signed in. The sentence is for them.
            IdentityUnknown: whether they have cannot be found out now. The same answer makes sense
                later.
        """
        places = await self._places()
        sender = answer.get("iss")
        if sender != self._issuer.issuer and (sender is not None or places.names_itself):
            raise refused(403, "Another authorization server answered than the one you chose.")
        if "error" in answer:
            raise self._brought(answer["error"])
        code = answer.get("code", "")
        if not 0 < len(code) <= LONGEST_CODE:
            raise refused(400, "The authorization server sent no code with which to go on.")
        said = await self._exchanged(places, begun, code)
        if "error" in said:
            if said["error"] in _FOR_NOW:
                raise IdentityUnknown("the issuer signs nobody in now")
            raise CodeRefused(said["error"])
        token = said.get("access_token")
        if not isinstance(token, str) or str(said.get("token_type")).lower() != "bearer":
            raise Misfit("gives no bearer token for a code")
        return token

    async def _exchanged(self, places: Places, begun: Begun, code: str) -> Document:
        """The issuer's answer to a code. Raises IdentityUnknown."""
        if not self._places_left:
            raise IdentityUnknown("too many codes are being exchanged")
        self._places_left -= 1
        try:
            return await self._documents.post(
                places.token, *self._question(places, begun, code), REFUSALS
            )
        except Unavailable as exc:
            self._found = None  # it may have moved
            raise self._unknown(exc) from None
        finally:
            self._places_left += 1

    def _question(
        self, places: Places, begun: Begun, code: str
    ) -> tuple[dict[str, str], tuple[str, str] | None]:
        """The form with a code, and the login with which this server identifies itself, if any."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self.redirect,
            "code_verifier": begun.verifier,
            "resource": self._trust.resource,
        }
        login, name, secret = None, self._client.client_id, self._client.client_secret
        if secret is None or places.takes_form:
            form["client_id"] = name
        if secret is not None and places.takes_form:
            form["client_secret"] = secret.get_secret_value()
        elif secret is not None:  # form-encoded, which is unusual for Basic (RFC 6749)
            login = (quote_plus(name), quote_plus(secret.get_secret_value()))
        return form, login

    async def _places(self) -> Places:
        """The addresses of the issuer. If several callers ask at once, they are looked up once."""
        async with self._looking:
            if self._found is None or self._now() - self._found_at > FRESH_SECONDS:
                left = self._failed_at + PAUSE_SECONDS - self._now()
                if left > 0:
                    raise IdentityUnknown("the issuer was asked a moment ago", retry_after=left)
                try:
                    self._found = await Discovery(self._issuer, self._documents).places()
                except Unavailable as exc:
                    self._failed_at = self._now()
                    raise self._unknown(exc) from None
                self._found_at = self._now()
            return self._found

    def _brought(self, error: str) -> Refused:
        """What follows from an error in an address, which anybody can have written."""
        if error in _FOR_NOW:
            return refused(503, f"The authorization server signs nobody in now. {AGAIN}")
        if error == _DENIED:
            return refused(403, "The authorization server did not let you in, or you declined.")
        if error not in (*ABOUT_CLIENT, *_ABOUT_REQUEST):
            return refused(400, _NOT_ACCEPTED)
        if self._seldom.is_due(error):
            logger.warning(
                "a browser came to the page for keys with the error %s of %s; anybody can bring "
                "one, so it means something only if users cannot sign in",
                *(error, self._issuer.issuer),
            )
        return refused(
            400,
            "The authorization server answered with an error. If that goes on, ask the operator of "
            "this server, whose log says more.",
        )

    def _unknown(self, why: Unavailable) -> IdentityUnknown:
        if self._seldom.is_due(str(why)):
            name = self._issuer.issuer
            logger.warning("nobody can sign in on the page for keys: %s %s", name, why)
        return IdentityUnknown(f"the issuer {why}", retry_after=PAUSE_SECONDS)


def way_of(issuer: str) -> str:
    """The end of the address to which an issuer leads back, and no other one does.

    Otherwise an issuer that lies could lead a browser on to another one, and would be sent the code
    with which that one answers (the mix-up attack: RFC 9700, 4.4). It is the same on all servers.

    Args:
        issuer: its address, exactly as the operator has written it.
    """
    return hashlib.sha256(issuer.encode()).hexdigest()[:_WAY_DIGITS]


def refused(status: int, sentence: str) -> Refused:
    """The refusal of a user who has not signed in, or who may not. The sentence is for them."""
    return Refused(status, "access_denied", sentence, challenged=False)
