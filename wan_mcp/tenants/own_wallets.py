"""Wallets that users make themselves, each with a PixelDojo key of their own.

A user does what an operator does with `administration.wallets`, for nobody but themselves. The key
of a wallet that has paid is replaced only by one of the same PixelDojo account: under another one
its jobs could not be found any more, and a request of unknown outcome would count as not charged.
PixelDojo names no account (documented), so what proves it is a job: see `OwnWallet.is_shown_by`.
"""

from collections.abc import Callable, Collection
from typing import NamedTuple, TypeVar

import anyio
import anyio.to_thread

from wan_mcp.ledger.postgres.connection import ANSWER_SECONDS, as_ledger_errors, connect
from wan_mcp.tenants.administration import wallets
from wan_mcp.tenants.administration.acts import REFUSED, ActRefused, Operator
from wan_mcp.tenants.audit import Entry
from wan_mcp.tenants.keys import KeyRing
from wan_mcp.tenants.seat import workspace_of

T = TypeVar("T")

MOST_COMPARED = 50
"""How many of the newest jobs of a wallet are looked for in the list of a new key (ours)."""

_OWN = b"""
SELECT account, api_base, key_account FROM wallet_keys
WHERE user_id = %(user)s AND removed_at IS NULL
"""
_JOBS = f"""
SELECT job_id FROM jobs WHERE account = %(workspace)s AND job_id IS NOT NULL
ORDER BY created_at DESC LIMIT {MOST_COMPARED}
""".encode()


class OwnWallet(NamedTuple):
    """The wallet that a user has already.

    Attributes:
        account: names it in the ledger.
        api_base: the address of PixelDojo's API for which its key is.
        has_key: whether it has the key that the user brings.
        jobs: the ids of its newest jobs.
    """

    account: str
    api_base: str
    has_key: bool
    jobs: frozenset[str]

    def is_shown_by(self, listed: Collection[str]) -> bool:
        """Whether a key is of the same PixelDojo account.

        Args:
            listed: the ids of the jobs that PixelDojo lists for the key. Nobody else's are in it
                (documented).
        """
        return not self.jobs.isdisjoint(listed)


class OwnWallets:
    """The wallets of users, in their own hands.

    Each question has a connection of its own: it may wait for an operator, and nobody's sign-in
    waits with it.

    Args:
        url: the address of the database, whose tables exist already.
        ring: seals the keys.
    """

    def __init__(self, url: str, ring: KeyRing) -> None:
        self._url = url
        self._ring = ring
        self._turn = anyio.CapacityLimiter(1)

    async def find(self, user: str, key: str) -> OwnWallet | None:
        """The wallet that a user has; None if they have none of their own.

        Args:
            user: the id.
            key: the PixelDojo key that they bring.

        Raises:
            LedgerUnavailable: it cannot be known now.
        """
        return await self._act(user, lambda operator: _find(operator, user, key))

    async def store(self, user: str, key: str, api_base: str, same: str | None) -> None:
        """Let a user pay with a key. If they do already, nothing changes.

        Args:
            api_base: the root URL of the API for which the key is.
            same: the account of the user's wallet, if the key was proven to be of the same
                PixelDojo account; None for a user without a wallet.

        Raises:
            ActRefused: it cannot be done; the audit says so.
            LedgerUnavailable: it may have been done or not. To repeat it is safe.
        """
        await self._act(user, lambda operator: self._store(operator, user, key, api_base, same))

    async def refuse(self, user: str, why: str) -> None:
        """Write down that a user has brought a key that is not stored.

        Raises:
            LedgerUnavailable: it may have been written or not.
        """
        entry = Entry.new(user, "wallet.own-key", user, REFUSED, {"why": why})
        await self._act(user, lambda operator: entry.write(operator.link))

    async def _act(self, user: str, work: Callable[[Operator], T]) -> T:
        def done() -> T:
            with as_ledger_errors(), connect(self._url, patience=ANSWER_SECONDS) as link:
                return work(Operator(link, user))

        return await anyio.to_thread.run_sync(done, limiter=self._turn)

    def _store(
        self, operator: Operator, user: str, key: str, api_base: str, same: str | None
    ) -> None:
        own = _find(operator, user, key)
        if own is None:
            # The name of an earlier wallet is not free again: it stands in the audit.
            account = wallets.account_of(operator, api_base, key)
            name = f"own key of {user} ({account[:8]})"
            wallets.add(operator, self._ring, name, key, api_base, user=user)
        elif not own.has_key:
            if own.account != same:
                raise ActRefused("The wallet was changed by somebody else at the same moment.")
            wallets.set_key(operator, self._ring, own.account, key)


def _find(operator: Operator, user: str, key: str) -> OwnWallet | None:
    found = operator.rows(_OWN, user=user)
    if not found:
        return None
    [(account, api_base, key_account)] = found
    jobs = operator.rows(_JOBS, workspace=workspace_of(user, account))
    has_key = wallets.account_of(operator, api_base, key) == key_account
    return OwnWallet(account, api_base, has_key, frozenset(id for (id,) in jobs))
