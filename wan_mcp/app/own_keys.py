"""Decides about PixelDojo keys that users store or remove on the page for them.

A key is tried with one free read before it is stored. Nothing here repeats a token or a key.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
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
from wan_mcp.tenants.own_wallets import Stored
from wan_mcp.tenants.tokens import id_of

if TYPE_CHECKING:
    from wan_mcp.tenants.directory import StoredDirectory
    from wan_mcp.tenants.key_page import KeyPage
    from wan_mcp.tenants.own_wallets import OwnWallet

PER_MINUTE_AND_USER = 6
"""How many keys of one user are tried in a minute (ours): PixelDojo is asked about each. As often
in a minute a user may look at their key, or remove it: each refusal is a row of the audit."""
AGAIN_SECONDS = 30
"""When to try again after PixelDojo could not be asked (ours)."""
LIMITS = Limits(connect=3.0, write=3.0, read=4.0, submit_total=0.0, read_total=5.0)
"""How long the read may take that tries a key. Nothing is submitted."""

logger = logging.getLogger(__name__)


class Reply(NamedTuple):
    """What a user reads, as `transports.own_key.site.Reply`."""

    status: int
    page: str
    retry_after: int | None = None


class _Refused(Exception):
    """A key is not stored or removed. The text is for the user, in sentences.

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
        self._removals = _Attempts(ticks)
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

    async def signed_in_page(
        self, nonce: str, caller: Caller, ticket: str, problem: str = "", field: str = ""
    ) -> str:
        """The page with the forms for somebody who has signed in, which says what is stored."""
        at = self._page.issuers.get(caller.vouched_by, caller.vouched_by)
        try:
            stored = await self._directory.stored(caller.user)
        except IdentityUnknown:
            state, removable = _NOT_KNOWN, False
        else:
            state, removable = _STATES[stored], stored is Stored.BY_USER
        return pages.signed_in_page(
            *(nonce, caller.name, at, ticket),
            state=state,
            removable=removable,
            field=field,
            problem=problem,
        )

    def removal_page(self, nonce: str, state: str = "") -> str:
        """The page on which a token removes a key. It may say what is stored."""
        return pages.removal_page(nonce, state=state, has_issuers=bool(self._page.issuers))

    def removed_page(self, nonce: str) -> str:
        """The page that says that no key of the user is stored."""
        return pages.removed_page(nonce)

    async def store(self, token: str, key: str, nonce: str) -> Reply | None:
        """Store a key for the user whose token this is; None if that is done."""
        try:
            await self._store(await self._caller(token.strip()), key.strip())
        except _Refused as why:
            logger.info("a PixelDojo key was not stored: %s", why)
            page = pages.key_page(nonce, why.field, str(why), issuers=self._page.issuers)
            return Reply(why.status, page, why.retry_after)
        return None

    async def store_for(self, caller: Caller, key: str, nonce: str, ticket: str) -> Reply | None:
        """Store a key for a user who has signed in elsewhere; None if that is done."""
        work = partial(self._store, caller, key.strip())
        return await self._signed_in(caller, nonce, ticket, work, "stored")

    async def look(self, token: str, nonce: str) -> Reply:
        """What is stored for the user whose token this is."""
        try:
            caller = await self._caller(token.strip())
            self._removals.begin(caller.user)
            stored = await self._directory.stored(caller.user)
        except _Refused as why:
            return self._not_removed(why, nonce)
        except IdentityUnknown as exc:
            return self._not_removed(_Refused(503, "", _NOT_KNOWN, exc.retry_after), nonce)
        return Reply(200, self.removal_page(nonce, _STATES[stored]))

    async def remove(self, token: str, nonce: str) -> Reply | None:
        """Remove the key of the user whose token this is; None if none is stored any more."""
        try:
            await self._remove(await self._caller(token.strip()))
        except _Refused as why:
            return self._not_removed(why, nonce)
        return None

    async def remove_for(self, caller: Caller, nonce: str, ticket: str) -> Reply | None:
        """Remove the key of a user who has signed in elsewhere; None if none is stored any more."""
        work = partial(self._remove, caller)
        return await self._signed_in(caller, nonce, ticket, work, "removed")

    async def _signed_in(
        self,
        caller: Caller,
        nonce: str,
        ticket: str,
        work: Callable[[], Awaitable[None]],
        done: str,
    ) -> Reply | None:
        try:
            if not self._page.is_for(caller):
                sentence = f"People who sign in there cannot use this page. Nothing was {done}."
                raise _Refused(403, "", sentence)
            await work()
        except _Refused as why:
            logger.info("a PixelDojo key was not %s: %s", done, why)
            page = await self.signed_in_page(nonce, caller, ticket, str(why), why.field)
            return Reply(why.status, page, why.retry_after)
        return None

    def _not_removed(self, why: _Refused, nonce: str) -> Reply:
        logger.info("a PixelDojo key was not removed or seen: %s", why)
        has_issuers = bool(self._page.issuers)
        page = pages.removal_page(nonce, why.field, str(why), has_issuers=has_issuers)
        return Reply(why.status, page, why.retry_after)

    async def _remove(self, caller: Caller) -> None:
        self._removals.begin(caller.user)
        with _as_refusals("", "removed"):
            await self._wallets.remove(caller.user, caller.vouched_by)
        logger.info("no PixelDojo key of this user's own is stored any more: %s", caller.user)
        await self._learn(caller.user)

    async def _learn(self, user: str) -> None:
        """Know at once what a user works with now; other servers learn it some seconds later."""
        with suppress(IdentityUnknown, NoKey):
            await self._directory.seat(user, fresh=True)

    async def _store(self, caller: Caller, key: str) -> None:
        self._attempts.begin(caller.user)
        _require_key(key)
        with _as_refusals("key", "stored"):
            own = await self._wallets.find(caller.user, key, caller.vouched_by)
        await self._require_good(caller, key, own)
        await self._keep(caller, key, own)
        logger.info("a user has stored a PixelDojo key of their own: %s", caller.user)
        await self._learn(caller.user)

    async def _caller(self, token: str) -> Caller:
        try:
            caller = await self._directory.token(token)
        except IdentityUnknown as exc:
            sentence = "It cannot be checked now whose token this is. It may be right: try again."
            raise _Refused(503, "", sentence, exc.retry_after) from None
        if caller is None:
            sentence = "This is no token of this server, or it has expired. Nothing was changed."
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
        with _as_refusals("key", "stored"):
            await self._wallets.store(caller.user, key, self._api_base, same, by)

    async def _refused(self, caller: Caller, status: int, why: str) -> _Refused:
        try:
            await self._wallets.refuse(caller.user, why, caller.vouched_by)
        except LedgerUnavailable as exc:
            return _away(exc, "stored")
        return _Refused(status, "key", why)


class _Attempts:
    """How many forms each user sent in the last minute. A stranger uses up no user's attempts.

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
            sentence = "Too many forms were sent within a minute. Try again when it is over."
            raise _Refused(429, "", sentence, own[0] + 60.0 - now)
        self._by_user.append((now, user))


_NOT_KNOWN = (
    "The database of the team does not answer, so it is not known now whether a key of yours is "
    "stored. Try again in a while."
)
_STATES = {
    Stored.NOTHING: "No PixelDojo key of your own is stored here.",
    Stored.BY_USER: "A PixelDojo key of your own is stored here, and pays for your videos.",
    Stored.BY_OPERATOR: (
        "The operator of this server has stored a PixelDojo key for you alone, and it pays for "
        "your videos. Only an operator can remove it."
    ),
}
_OTHER_ACCOUNT = (
    "Your wallet has another key, and this one does not show the jobs that were paid with it: it "
    "belongs to another PixelDojo account, or nothing was paid yet. Remove the key that is stored, "
    "then store this one. If an operator of this server has stored it, ask them to remove the "
    "wallet (wan-mcp admin wallet remove)."
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
def _as_refusals(field: str, done: str) -> Iterator[None]:
    """What the wallets refuse, or cannot say now, as it is shown to the user.

    Args:
        field: which field a refusal is about, as in `_Refused`.
        done: what would have been done to the key: `stored` or `removed`.
    """
    try:
        yield
    except ActRefused as why:
        raise _Refused(409, field, f"{why} Nothing was {done}.") from None
    except LedgerUnavailable as exc:
        raise _away(exc, done) from None


def _away(exc: LedgerUnavailable, done: str) -> _Refused:
    sentence = (
        f"The database of the team does not answer, so it is not certain that the key was {done}. "
        "Send it again in a while: that is safe."
    )
    return _Refused(503, "", sentence, exc.wait_seconds or AGAIN_SECONDS)
