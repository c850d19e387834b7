"""Wallets that users make themselves, each with a PixelDojo key of their own.

A user does here what an operator does with `administration.wallets`, but only for themselves. The
key of a wallet that has paid is replaced only by one of the same PixelDojo account: with a key of
another account its jobs could not be found any more, and a request of unknown outcome would count
as not charged. PixelDojo does not say to which account a key belongs (documented), so a job that
the new key lists is the proof: see `OwnWallet.is_shown_by`.

The first key of their own gives a user a new workspace, which does not show the jobs of the earlier
ones. So it is refused while a job there has not ended: the user could order and pay it again.

Users remove only what they have stored themselves. A key that an operator has stored for a user
stays until an operator removes it: the operator has decided that the team does not pay for them.
"""

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread

from wan_mcp.ledger.postgres.connection import ANSWER_SECONDS, as_ledger_errors, connect
from wan_mcp.ledger.statements.lists import IS_OPEN
from wan_mcp.tenants.administration import wallets
from wan_mcp.tenants.administration.acts import REFUSED, ActRefused, Operator
from wan_mcp.tenants.audit import Entry
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.tenants.seat import purpose_of, workspace_of
from wan_mcp.wording import counted, is_or_are

T = TypeVar("T")

MOST_COMPARED = 50
"""How many of the newest jobs of a wallet are looked for in the list of a new key (ours)."""

_OWN = b"""
SELECT account, api_base, key_account, key_sealed FROM wallet_keys
WHERE user_id = %(user)s AND removed_at IS NULL
"""
_NAME = b"""
SELECT w.account, w.name FROM wallet_keys w JOIN users u ON u.id = w.user_id
WHERE u.id = %(user)s AND u.disabled_at IS NULL AND w.removed_at IS NULL
"""
_JOBS = f"""
SELECT job_id FROM jobs WHERE account = %(workspace)s AND job_id IS NOT NULL
ORDER BY created_at DESC LIMIT {MOST_COMPARED}
""".encode()
# A job that had not ended when its wallet was removed never ends, so it must not block a new key.
_IN_PROGRESS = f"""
SELECT 1 FROM jobs
WHERE account IN (
        SELECT o.name FROM user_workspaces o JOIN wallet_keys w ON w.account = o.wallet
        WHERE o.user_id = %(user)s AND w.removed_at IS NULL
    )
    AND {IS_OPEN}
LIMIT 1
""".encode()
_WAS_REMOVED = b"""
SELECT 1 FROM wallet_keys
WHERE user_id = %(user)s AND account = %(account)s AND removed_at IS NOT NULL
"""

_WAIT = (
    "Some of your jobs are still in progress, in the queue or of unknown outcome, and your list "
    "would not show them any more. Wait until they have ended, then store this key. If one "
    "does not end, ask the operator of this server."
)
_REMOVED = (
    "Your wallet that began with this key was removed from this server. Create another key on "
    "pixeldojo.ai and store that one."
)
_GIVEN = (
    "The operator of this server has stored this key for you, so only an operator can remove it "
    "(`wan-mcp admin wallet remove`)."
)
_CHANGED = "Your wallet was changed by somebody else at the same moment. Try again."
_TAKEN = (
    "Another wallet has, or had first, the same PixelDojo key, or yours cannot be changed now. "
    "The audit tells the operator of this server which it is."
)


class Stored(Enum):
    """Which key pays for a user alone."""

    NOTHING = "none does"
    BY_USER = "one that they have stored themselves"
    BY_OPERATOR = "one that an operator has stored for them"


class OwnWallet(NamedTuple):
    """The wallet that a user has already.

    Attributes:
        account: names it in the ledger.
        api_base: the address of PixelDojo's API for which its key is.
        has_key: whether it has the key that the user brings, and the key ring opens it.
        knows_key: whether it has, or had first, that key, so both are of one PixelDojo account.
        jobs: the ids of its newest jobs.
    """

    account: str
    api_base: str
    has_key: bool
    knows_key: bool
    jobs: frozenset[str]

    def is_shown_by(self, listed: Collection[str]) -> bool:
        """Whether a key is of the same PixelDojo account.

        Args:
            listed: the ids of the jobs that PixelDojo lists for the key: only those of its account
                (documented).
        """
        return not self.jobs.isdisjoint(listed)


class OwnWallets:
    """The wallets that users make and change themselves.

    Each call opens a connection of its own: it may have to wait until an operator's command has
    ended, and no sign-in may wait with it.

    Args:
        url: the address of the database, whose tables exist already.
        ring: seals the keys.
    """

    def __init__(self, url: str, ring: KeyRing) -> None:
        self._url = url
        self._ring = ring
        self._turn = anyio.CapacityLimiter(1)

    async def find(self, user: str, key: str, signed_in: str | None = None) -> OwnWallet | None:
        """The wallet that a user has; None if they have none of their own.

        Args:
            user: the id.
            key: the PixelDojo key that they bring.
            signed_in: the token or the issuer by which they have signed in, for the audit.

        Raises:
            ActRefused: they have none, and cannot make one now. The text is for the user, and the
                audit says so.
            LedgerUnavailable: it cannot be known now.
        """
        return await self._act(user, signed_in, lambda acting: self._find(acting, user, key))

    async def store(
        self, user: str, key: str, api_base: str, same: str | None, signed_in: str | None = None
    ) -> None:
        """Let a user pay with a key. If they do already, nothing changes.

        Args:
            api_base: the root URL of the API for which the key is.
            same: the account of the user's wallet, if the key was proven to be of the same
                PixelDojo account; None for a user without a wallet.
            signed_in: as in `find`.

        Raises:
            ActRefused: it cannot be done. The text is a sentence for the user that names no other
                user or wallet; the audit says more.
            LedgerUnavailable: it may have been done or not. To repeat it is safe.
        """
        await self._act(
            user, signed_in, lambda acting: self._store(acting, user, key, api_base, same)
        )

    async def remove(self, user: str, signed_in: str | None = None) -> None:
        """Forget the key that a user has stored, for good. If there is none, nothing changes.

        Nothing is paid with it from then on: see `administration.wallets.remove`.

        Args:
            signed_in: as in `find`.

        Raises:
            ActRefused: it is still needed, or an operator has stored it. The text is for the user;
                the audit says so, too.
            LedgerUnavailable: it may have been done or not. To repeat it is safe.
        """
        await self._act(user, signed_in, lambda acting: _remove(acting, user))

    async def refuse(self, user: str, why: str, signed_in: str | None = None) -> None:
        """Write down that a user has brought a key that is not stored.

        Raises:
            LedgerUnavailable: it may have been written or not.
        """
        await self._act(user, signed_in, lambda acting: _refused(acting, user, why))

    async def _act(self, user: str, signed_in: str | None, work: Callable[[Operator], T]) -> T:
        def done() -> T:
            with as_ledger_errors(), connect(self._url, patience=ANSWER_SECONDS) as link:
                return work(Operator(link, user, signed_in))

        return await anyio.to_thread.run_sync(done, limiter=self._turn)

    def _store(
        self, operator: Operator, user: str, key: str, api_base: str, same: str | None
    ) -> None:
        own = self._find(operator, user, key)
        if own is None:
            account = wallets.account_of(operator, api_base, key)
            if operator.rows(_WAS_REMOVED, user=user, account=account):
                raise _refused(operator, user, _REMOVED)
            # The name of an earlier wallet is not free again: it stands in the audit.
            name = _name_of(user, account)
            with _without_names():
                wallets.add(operator, self._ring, name, key, api_base, user=user)
        elif not own.has_key:
            if own.account != same:
                raise _refused(operator, user, _CHANGED)
            with _without_names():
                wallets.set_key(operator, self._ring, own.account, key)

    def _find(self, operator: Operator, user: str, key: str) -> OwnWallet | None:
        found = operator.rows(_OWN, user=user)
        if not found:
            if operator.rows(_IN_PROGRESS, user=user):
                raise _refused(operator, user, _WAIT)
            return None
        [(account, api_base, key_account, sealed)] = found
        jobs = operator.rows(_JOBS, workspace=workspace_of(user, account))
        brought = wallets.account_of(operator, api_base, key)
        opens = self._ring.opens(sealed, purpose_of(account, api_base))
        return OwnWallet(
            account,
            api_base,
            has_key=brought == key_account and opens,
            knows_key=brought in (key_account, account),
            jobs=frozenset(id for (id,) in jobs),
        )


def _name_of(user: str, account: str) -> str:
    """The name of a wallet that its user has made."""
    return f"own key of {user} ({account[:8]})"


def stored_for(operator: Operator, user: str) -> tuple[Stored, str]:
    """Which key pays for a user alone, and the account of its wallet.

    It is nothing, and "", for a user who is disabled.
    """
    found = operator.rows(_NAME, user=user)
    if not found:
        return Stored.NOTHING, ""
    [(account, name)] = found
    is_theirs = name == _name_of(user, account)
    return Stored.BY_USER if is_theirs else Stored.BY_OPERATOR, account


def _remove(operator: Operator, user: str) -> None:
    stored, account = stored_for(operator, user)
    if stored is Stored.BY_OPERATOR:
        with operator.act("wallet.remove", account):
            raise ActRefused(_GIVEN)
    if stored is Stored.BY_USER:
        try:
            wallets.remove(operator, account)
        except wallets.WalletBusy as busy:
            raise ActRefused(_still_needed(busy.jobs, busy.videos)) from None
        except ActRefused:
            raise ActRefused(_CHANGED) from None


def _still_needed(jobs: int, videos: int) -> str:
    """Why a user's key stays, and what the user can do."""
    needed, next_steps = list[str](), ["Wait until that is done"]
    if jobs:
        state = "in progress, in the queue or of unknown outcome"
        needed.append(f"{counted(jobs, 'job')} of yours {is_or_are(jobs)} {state}")
        next_steps.append("or let your assistant cancel what is in the queue")
    if videos:
        needed.append(f"{counted(videos, 'video')} of yours {is_or_are(videos)} still to be saved")
    return (
        f"{', and '.join(needed)}: your key is needed for that. {', '.join(next_steps)}. Then "
        "remove the key. If it does not end, ask the operator of this server."
    )


def _refused(operator: Operator, user: str, why: str) -> ActRefused:
    """Write down that a key is not stored, and why."""
    detail = {"why": why, "signed_in": operator.signed_in}
    Entry.new(user, "wallet.own-key", user, REFUSED, detail).write(operator.link)
    return ActRefused(why)


@contextmanager
def _without_names() -> Iterator[None]:
    """Replace a refusal that names other wallets and users, which only the audit may show."""
    try:
        yield
    except ActRefused:
        raise ActRefused(_TAKEN) from None
