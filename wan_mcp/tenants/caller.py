"""Who a request comes from, and the question that sign-in asks about them."""

from dataclasses import dataclass
from typing import Protocol

READ = "videos:read"
"""The scope that allows a caller to read jobs, videos and credits."""
MAKE = "videos:make"
"""The scope that allows a caller to buy jobs as well."""
SCOPES = frozenset({READ, MAKE})
"""Every scope that there is."""

TRY_AGAIN_SECONDS = 5.0
"""When a client should repeat a request whose caller could not be identified (ours). The database
or the network is usually back within seconds."""


@dataclass(frozen=True)
class ByToken:
    """Signed in with a token of this program.

    Attributes:
        token: the id of the token, which is no secret.
    """

    token: str


@dataclass(frozen=True)
class ByIssuer:
    """Signed in elsewhere.

    Attributes:
        issuer: the address of the authorization server.
        subject: its name for the person, the claim `sub`.
    """

    issuer: str
    subject: str


@dataclass(frozen=True)
class Caller:
    """Who a request comes from. It contains no secret, so it may be logged as a whole.

    Attributes:
        user: the id of the user. It never changes, and no other user ever gets it.
        name: the display name: one line of printable text, at most 200 characters, not unique.
        team: the id of the user's team; None for a user without one.
        scopes: what the caller may do. Those of a token are stored with it. A `Directory` does not
            know the scopes of a person who signed in elsewhere: it gives none, and sign-in puts in
            those of the access token (`dataclasses.replace`).
        signed_in: how they signed in.
    """

    user: str
    name: str
    team: str | None
    scopes: frozenset[str]
    signed_in: ByToken | ByIssuer

    @property
    def vouched_by(self) -> str:
        """The id of the token, or the address of the authorization server."""
        how = self.signed_in
        return how.token if isinstance(how, ByToken) else how.issuer


class IdentityUnknown(Exception):
    """It cannot be found out now who calls, for example because the database cannot be reached.

    It says nothing about the token, so the answer is 503 with Retry-After, never 401: a client
    discards its token on 401. Its text has no secret and no address.

    Attributes:
        retry_after: after how many seconds the same question makes sense.
    """

    def __init__(self, what: str, *, retry_after: float = TRY_AGAIN_SECONDS) -> None:
        super().__init__(what)
        self.retry_after = retry_after


class Directory(Protocol):
    """What sign-in asks about people. Both questions may be asked at once by many requests."""

    async def token(self, secret: str) -> Caller | None:
        """Whose token this is.

        Args:
            secret: what a request has brought, of any form and any length. `wan_<id>_<secret>` is
                a token of this program.

        Returns:
            None if it is no token of this program, has expired or was revoked, or if its user is
            disabled: the answer is 401, and nothing tells the caller which of these it was.

        Raises:
            IdentityUnknown: it cannot be known now.
        """

    async def person(self, issuer: str, subject: str, name: str) -> Caller | None:
        """The user of a person who signed in at an authorization server, which the caller of this
        method has verified.

        Where the operator lets all users of an issuer join a team, a person who is not a user yet
        becomes one of that team.

        Args:
            issuer: the verified claim `iss`, compared exactly.
            subject: the verified claim `sub`, compared exactly.
            name: what the person is called, of any form and any length. It is only shown, and
                stored where it is new. An empty one leaves the stored one.

        Returns:
            None if the person is no user here, or is disabled: the answer is 403, because the
            access token is right and a new one would not help.

        Raises:
            IdentityUnknown: it cannot be known now.
        """
