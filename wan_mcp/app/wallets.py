"""The wallets of a team that a server works for at the moment."""

from __future__ import annotations

import logging
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from wan_mcp.errors import NoKey
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.wallets.workspace import Workspace
from wan_mcp.tenants.caller import IdentityUnknown
from wan_mcp.tenants.seat import user_of

if TYPE_CHECKING:
    from wan_mcp.app.base import Base
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.queueing.contract import QuotasOf
    from wan_mcp.payments.acts import NoteAct
    from wan_mcp.pixeldojo.client import PixelDojo
    from wan_mcp.tenants.directory import StoredDirectory
    from wan_mcp.tenants.seat import WalletKey

LOOK_SECONDS = 10.0
"""How often the ledger is asked which wallets have work to do (ours)."""
IDLE_SECONDS = 600.0
"""After so long without a call and without work a wallet is closed (ours)."""
PAID_SECONDS = 60.0
"""How long the answers to paid requests of a closed wallet are waited for (ours)."""

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Wallet:
    """An open wallet.

    Attributes:
        jobs: what is done for the whole wallet.
        of: the jobs of each of its workspaces that was asked for, by their names.
        used_at: when it was asked for last, or had work, on the monotonic clock.
        work: cancelled to close it.
    """

    vendor: PixelDojo
    jobs: Jobs
    used_at: float
    of: dict[str, Jobs] = field(default_factory=dict)
    work: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    async def run(self) -> None:
        """Work for the wallet until it is closed. Payments in progress finish first."""
        try:
            with self.work:
                await self.jobs.run()
        finally:
            with anyio.CancelScope(shield=True):
                await self.jobs.drain(PAID_SECONDS)
                await self.vendor.aclose()


class OpenWallets:
    """The wallets that are open: those that are used, and those that have work to do.

    Args:
        base: opens them.
        directory: knows their keys.
        quotas, note: as for `Jobs`.
    """

    def __init__(
        self, base: Base, directory: StoredDirectory, quotas: QuotasOf, note: NoteAct
    ) -> None:
        self._base = base
        self._directory = directory
        self._quotas = quotas
        self._note = note
        self._open: dict[str, _Wallet] = {}
        self._closing: set[_Wallet] = set()
        # What is done for a wallet is done for all of its users, and not for the caller of the
        # request that happens to open it.
        self._nobody = copy_context()
        self._complained: set[str] = set()
        self._stopping = False

    def jobs(self, key: WalletKey, workspace: str) -> Jobs:
        """The jobs of one workspace. Its wallet is opened if need be, or gets its newer key."""
        wallet = self._opened(key)
        if not wallet.vendor.has_had(key.api_key):  # an older one is not put back
            wallet.vendor.use_key(key.api_key)
        if workspace not in wallet.of:
            videos = self._base.videos.below(user_of(workspace))
            wallet.of[workspace] = wallet.jobs.of(Workspace(workspace, key.wallet), videos)
        return wallet.of[workspace]

    def renew(self, key: WalletKey) -> None:
        """Use the key that the wallet has just now, if it is open. An older one is not put back."""
        if wallet := self._open.get(key.wallet):
            wallet.vendor.use_key(key.api_key)

    async def run(self) -> None:
        """Keep those open that have work to do, and close those without use, until cancelled."""
        clock = self._base.plan.clock
        while True:
            try:
                await self._look()
            except (LedgerUnavailable, IdentityUnknown) as exc:
                logger.warning("the wallets with work to do are not known now: %s", exc)
            except Exception:
                # A defect here must not end the server, in whose tasks payments run.
                logger.exception("looking for wallets with work to do broke")
            await clock.sleep(LOOK_SECONDS)

    async def drain(self, seconds: float) -> None:
        """End the waits with what is known, and let payments finish for at most this time."""
        self._stopping = True
        async with anyio.create_task_group() as tasks:
            for wallet in [*self._open.values(), *self._closing]:
                tasks.start_soon(wallet.jobs.drain, seconds)

    async def _look(self) -> None:
        needed = set(await self._base.ledger.coordination.open_wallets())
        for account in sorted(needed | set(self._open)):
            await self._look_at(account, is_needed=account in needed)
        self._complained &= needed
        self._close_idle(needed)

    async def _look_at(self, account: str, *, is_needed: bool) -> None:
        try:
            key = await self._directory.key(account)
            self.renew(key)
            if is_needed:
                self._opened(key)
        except NoKey as exc:
            self._close(account)
            if is_needed:
                self._complain(account, exc)
        except IdentityUnknown:
            raise
        except Exception:
            # A defect that shows with one wallet must not end the work for the others.
            logger.exception("looking at wallet %s broke", account)

    def _complain(self, account: str, exc: NoKey) -> None:
        """Say once that jobs of a wallet cannot be followed."""
        if account not in self._complained:
            self._complained.add(account)
            logger.error("nobody asks for the jobs of wallet %s: %s", account, exc.what)

    def _opened(self, key: WalletKey) -> _Wallet:
        now = self._base.plan.clock.monotonic()
        wallet = self._open.get(key.wallet)
        if wallet is None:
            self._open[key.wallet] = wallet = self._new(key, now)
            tasks, name = self._base.plan.tasks, f"wallet {key.wallet}"
            self._nobody.copy().run(
                lambda: tasks.start_soon(self._work_for, key.wallet, wallet, name=name)
            )
        wallet.used_at = now
        return wallet

    async def _work_for(self, account: str, wallet: _Wallet) -> None:
        try:
            await wallet.run()
        except Exception:
            # It is opened again with the next call, or when there is work to do.
            logger.exception("the work for wallet %s broke", account)
            if self._open.get(account) is wallet:
                del self._open[account]
        finally:
            self._closing.discard(wallet)

    def _new(self, key: WalletKey, now: float) -> _Wallet:
        async def account() -> str:
            return key.wallet

        base, staging = self._base, self._base.inputs.staging_of
        vendor, jobs = base.wallet(
            account, key.api_base, key.api_key, staging, self._quotas, self._note
        )
        if self._stopping:
            jobs.work.stop()
        return _Wallet(vendor, jobs, now)

    def _close_idle(self, needed: set[str]) -> None:
        since = self._base.plan.clock.monotonic() - IDLE_SECONDS
        for account, wallet in list(self._open.items()):
            if account not in needed and wallet.used_at < since and wallet.jobs.work.is_idle:
                self._close(account)

    def _close(self, account: str) -> None:
        """Work no more for a wallet. Payments in progress go on."""
        if wallet := self._open.pop(account, None):
            self._closing.add(wallet)
            wallet.work.cancel()
