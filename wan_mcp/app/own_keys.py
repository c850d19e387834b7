"""Decides about PixelDojo keys that users bring to the page for them: whose, and whether good.

A key is tried with one free read before it is stored. Nothing here repeats a token or a key.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from wan_mcp.errors import NoKey, NotAllowed, Unauthorized, WanError
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.pixeldojo.client import PixelDojo
from wan_mcp.pixeldojo.error_statuses import StoppedOnTheWay
from wan_mcp.pixeldojo.request import Limits
from wan_mcp.surface.own_key import pages
from wan_mcp.tenants.administration.acts import ActRefused
from wan_mcp.tenants.administration.wallets import is_key
from wan_mcp.tenants.caller import Caller, IdentityUnknown
from wan_mcp.tenants.tokens import id_of

if TYPE_CHECKING:
    from wan_mcp.tenants.directory import StoredDirectory
    from wan_mcp.tenants.key_page import KeyPage
    from wan_mcp.tenants.own_wallets import OwnWallet

PER_MINUTE_AND_USER = 6
"""How many keys of one user are tried in a minute (ours): PixelDojo is asked about each."""
AGAIN_SECONDS = 30
"""When to try again after PixelDojo could not be asked (ours)."""
LIMITS = Limits(connect=3.0, write=3.0, read=4.0, submit_total=0.0, read_total=5.0)
"""How long the read may take that tries a key. Nothing is submitted."""

logger = logging.getLogger(__name__)


class Refusal(NamedTuple):
    """Why a key was not stored, as `transports.own_key.site.Refusal`."""

    status: int
    page: str
    retry_after: int | None = None


class _Refused(Exception):
    """A key is not stored. The text is for the user, in sentences.

    Attributes:
        status: the status of HTTP.
        field: which field it is about: `token` or `key`; "" for neither.
        retry_after: after how many seconds the same form makes sense; None if it does not.
    """

    def __init__(
        self, status: int, field: str, sentence: str, retry_after: float | None = None
    ) -> None:
        super().__init__(sentence)
        self.status = status
        self.field = field
        self.retry_after = None if retry_after is None else max(math.ceil(retry_after), 1)


class OwnKeys:
    """Decides for one server.

    Args:
        directory: whose token it is, and the wallets of users.
        api_base: the root URL of PixelDojo's API; no other host gets a key.
        connect: makes the client that tries a key.
        ticks: seconds that never jump.
        page: who can use it.
    """

    def __init__(
        self,
        directory: StoredDirectory,
        api_base: str,
        connect: Callable[[str], PixelDojo],
        ticks: Callable[[], float],
        page: KeyPage,
    ) -> None:
        self._directory = directory
        self._wallets = directory.own_wallets
        self._api_base = api_base
        self._connect = connect
        self._attempts = _Attempts(ticks)
        self._page = page

    def page(self, nonce: str) -> str:
        """The page with the form, and with the ways to sign in elsewhere."""
        return pages.key_page(nonce, issuers=self._page.issuers)

    def stored_page(self, nonce: str) -> str:
        """The page that says that a key is stored."""
        return pages.stored_page(nonce)

    def leading_page(self, nonce: str, issuer: str, address: str) -> str:
        """The page that leads a browser to an issuer."""
        return pages.leading_page(nonce, self._page.issuers[issuer], address)

    def unsigned_page(self, nonce: str, problem: str) -> str:
        """The page for somebody who has not signed in."""
        return pages.unsigned_page(nonce, problem)

    def signed_in_page(
        self, nonce: str, caller: Caller, ticket: str, problem: str = "", field: str = ""
    ) -> str:
        """The page with the form for somebody who has signed in."""
        at = self._page.issuers.get(caller.vouched_by, caller.vouched_by)
        return pages.signed_in_page(nonce, caller.name, at, ticket, field=field, problem=problem)

    async def store(self, token: str, key: str, nonce: str) -> Refusal | None:
        """Store a key for the user whose token this is; None if that is done."""
        try:
            await self._store(await self._caller(token.strip()), key.strip())
        except _Refused as why:
            logger.info("a PixelDojo key was not stored: %s", why)
            page = pages.key_page(nonce, why.field, str(why), issuers=self._page.issuers)
            return Refusal(why.status, page, why.retry_after)
        return None

    async def store_for(self, caller: Caller, key: str, nonce: str, ticket: str) -> Refusal | None:
        """Store a key for a user who has signed in elsewhere; None if that is done."""
        try:
            if not self._page.is_for(caller):
                raise _Refused(403, "", "People who sign in there cannot store a key here.")
            await self._store(caller, key.strip())
        except _Refused as why:
            logger.info("a PixelDojo key was not stored: %s", why)
            page = self.signed_in_page(nonce, caller, ticket, str(why), why.field)
            return Refusal(why.status, page, why.retry_after)
        return None

    async def _store(self, caller: Caller, key: str) -> None:
        self._attempts.begin(caller.user)
        _require_key(key)
        with _as_refusals():
            own = await self._wallets.find(caller.user, key, caller.vouched_by)
        await self._require_good(caller, key, own)
        await self._keep(caller, key, own)
        logger.info("a user has stored a PixelDojo key of their own: %s", caller.user)
        with suppress(IdentityUnknown, NoKey):  # or this server knows it some seconds later
            await self._directory.seat(caller.user, fresh=True)

    async def _caller(self, token: str) -> Caller:
        try:
            caller = await self._directory.token(token)
        except IdentityUnknown as exc:
            sentence = "It cannot be checked now whose token this is. It may be right: try again."
            raise _Refused(503, "", sentence, exc.retry_after) from None
        if caller is None:
            sentence = "This is no token of this server, or it has expired. Nothing was stored."
            raise _Refused(403, "token", sentence)
        if not self._page.is_for(caller):
            sentence = "This token may only read. Use one that may start jobs as well."
            raise _Refused(403, "token", sentence)
        return caller

    async def _require_good(self, caller: Caller, key: str, own: OwnWallet | None) -> None:
        """Raises _Refused if the key is not to be stored. The audit says so."""
        if own is not None and own.api_base != self._api_base:
            why = "Your wallet belongs to another address of PixelDojo's API. Ask the operator."
            raise await self._refused(caller, 409, why)
        client = self._connect(key)
        try:
            if own is None or own.knows_key:
                await client.require_accepted_key()
            elif not own.is_shown_by({each.job.job_id for each in await client.jobs()}):
                raise await self._refused(caller, 409, _OTHER_ACCOUNT)
        except (Unauthorized, NoKey):
            why = "PixelDojo does not accept this key. Copy the whole of it, or create another one."
            raise await self._refused(caller, 422, why) from None
        except WanError as exc:
            if isinstance(exc, NotAllowed) and not isinstance(exc, StoppedOnTheWay):
                raise await self._refused(caller, 422, f"{exc.what} Nothing was stored.") from None
            sentence = "PixelDojo could not be asked about the key now, so nothing was stored."
            raise _Refused(503, "", f"{sentence} Try again in a while.", AGAIN_SECONDS) from None
        finally:
            await client.aclose()

    async def _keep(self, caller: Caller, key: str, own: OwnWallet | None) -> None:
        same, by = None if own is None else own.account, caller.vouched_by
        with _as_refusals():
            await self._wallets.store(caller.user, key, self._api_base, same, by)

    async def _refused(self, caller: Caller, status: int, why: str) -> _Refused:
        try:
            await self._wallets.refuse(caller.user, why, caller.vouched_by)
        except LedgerUnavailable as exc:
            return _away(exc)
        return _Refused(status, "key", why)


class _Attempts:
    """How many keys each user brought in the last minute. A stranger uses up nobody's attempts.

    Args:
        ticks: seconds that never jump.
    """

    def __init__(self, ticks: Callable[[], float]) -> None:
        self._ticks = ticks
        self._by_user: deque[tuple[float, str]] = deque()

    def begin(self, user: str) -> None:
        """Count a form of a user. Raises _Refused if there were too many."""
        now = self._ticks()
        while self._by_user and self._by_user[0][0] <= now - 60.0:
            self._by_user.popleft()
        own = [at for at, whose in self._by_user if whose == user]
        if len(own) >= PER_MINUTE_AND_USER:
            sentence = "Too many keys were sent within a minute. Try again when it is over."
            raise _Refused(429, "", sentence, own[0] + 60.0 - now)
        self._by_user.append((now, user))


_OTHER_ACCOUNT = (
    "Your wallet has another key, and this one does not show the jobs that were paid with it: it "
    "belongs to another PixelDojo account, or nothing was paid yet. Ask the operator of this "
    "server to remove the wallet (wan-mcp admin wallet remove), then store this key."
)


def _require_key(key: str) -> None:
    """Raises _Refused for what must not be sent to PixelDojo."""
    if id_of(key) is not None:
        sentence = "This is a token of this server. The key from pixeldojo.ai belongs here."
        raise _Refused(422, "key", sentence)
    if not is_key(key):
        sentence = (
            "This is no PixelDojo key: it is empty, or contains a space or a character that no key "
            "has."
        )
        raise _Refused(422, "key", sentence)


@contextmanager
def _as_refusals() -> Iterator[None]:
    """What the wallets refuse, or cannot say now, as it is shown to the user."""
    try:
        yield
    except ActRefused as why:
        raise _Refused(409, "key", f"{why} Nothing was stored.") from None
    except LedgerUnavailable as exc:
        raise _away(exc) from None


def _away(exc: LedgerUnavailable) -> _Refused:
    sentence = (
        "The database of the team does not answer, so it is not certain that the key was stored. "
        "Send it again in a while: that is safe."
    )
    return _Refused(503, "", sentence, exc.wait_seconds or AGAIN_SECONDS)
