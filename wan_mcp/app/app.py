"""What a running server for one PixelDojo account holds."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import anyio.lowlevel

from wan_mcp.app.base import SERVICE_DRAIN_SECONDS, Base, Plan, Services
from wan_mcp.surface.video_views import VideoViews

if TYPE_CHECKING:
    from collections.abc import Mapping

    from wan_mcp.inputs.received.reception import Reception
    from wan_mcp.jobs import Jobs
    from wan_mcp.ledger.coordination import Account
    from wan_mcp.ledger.wallets.workspace import CallersWorkspace
    from wan_mcp.logs.facts import Figures
    from wan_mcp.payments.staging import Staging
    from wan_mcp.pixeldojo.client import PixelDojo

OPEN_AFTER_SECONDS = 1.0
"""After this time from the start the ledger is opened, if no call has needed it before."""
FIRST_PAYMENT = (
    *("httpx", "truststore", "sqlite3", "wan_mcp.ledger.sqlite.places"),
    *("wan_mcp.pixeldojo.exchange", "wan_mcp.pixeldojo.client", "wan_mcp.jobs"),
    *("wan_mcp.web.fetch", "wan_mcp.inputs.preflight", "wan_mcp.videos.kept"),
)
"""What the first payment imports, in pieces: each delays other calls by at most 30 ms."""
DRAIN_SECONDS = 1.2
"""How long a stopping stdio server waits for payments; hosts kill it after 2 s (observed)."""


class App:
    """What a running server holds: client, ledger, jobs, and the files of the jobs.

    Args:
        plan: what it is to be. The key and its API are those of the settings.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._parts: _Parts | None = None
        self._drained_at: float | None = None

    @property
    def jobs(self) -> Jobs:
        """The jobs of the configured account."""
        return self._opened().jobs

    @property
    def video_views(self) -> VideoViews:
        """What the account's videos look like to an assistant: images, links and pages."""
        parts = self._opened()
        return VideoViews(parts.jobs, parts.base.files)

    async def services(self) -> Services:
        """What a call works with: the same for all, because nobody signs in."""
        return Services(self.jobs, self.video_views)

    @property
    def reception(self) -> Reception | None:
        """Takes the files that users upload; None where they cannot."""
        return None if self._plan.upload_page is None else self._opened().base.inputs.reception

    @property
    def own_keys(self) -> None:
        """Nobody stores keys, because nobody signs in."""
        return

    async def request_state_key(self) -> bytes:
        """The key that seals what a question carries: 32 bytes, random, one for each account.

        All servers of the account on this ledger have the same key. Raises LedgerUnavailable.
        """
        parts = self._opened()
        return await parts.base.ledger.secret(f"request state of {await parts.account()}")

    async def run(self) -> None:
        """Import what a payment needs while the host still thinks, and open the ledger.

        So the first payment is fast, and unknown outcomes are looked up soon after the start.
        """
        await anyio.sleep(OPEN_AFTER_SECONDS)
        if self._has_key:
            for name in FIRST_PAYMENT:
                import_module(name)
                await anyio.lowlevel.checkpoint()
            _ = self.jobs

    async def missing(self) -> Mapping[str, str]:
        """What it lacks to take every call, a sentence each; empty if nothing."""
        from wan_mcp.ledger.threaded.figures import missing

        if not self._has_key:
            return {"key": "No PixelDojo API key is set."}
        return await missing(self._opened().base.ledger)

    async def figures(self) -> Figures:
        """What the ledger knows now."""
        from wan_mcp.ledger.threaded.figures import figures
        from wan_mcp.logs.facts import Figures

        parts = self._opened() if self._has_key else None
        return await figures(parts.base.ledger, parts.account) if parts else Figures()

    async def drain(self) -> None:
        """Begin no more payments, end all waits, and wait a short time for payments in progress."""
        if self._parts is not None:
            now, until = self._plan.clock.monotonic(), self._drained_at
            seconds = DRAIN_SECONDS if self._plan.local else SERVICE_DRAIN_SECONDS
            self._drained_at = now + seconds if until is None else until
            await self._parts.jobs.drain(max(self._drained_at - now, 0.0))

    async def aclose(self) -> None:
        """Close the connections and the ledger."""
        if self._parts is not None:
            with anyio.CancelScope(shield=True):
                await self._parts.base.files.aclose()
                await self._parts.vendor.aclose()
                await self._parts.base.ledger.aclose()

    @property
    def _has_key(self) -> bool:
        return bool(self._plan.settings.api_key.get_secret_value())

    def _opened(self) -> _Parts:
        if self._parts is None:
            self._parts = self._open()
            self._plan.tasks.start_soon(self._parts.jobs.run)
            self._plan.tasks.start_soon(self._parts.base.inputs.run)
        return self._parts

    def _open(self) -> _Parts:
        settings = self._plan.settings
        api_base, key = settings.api_base, settings.api_key.get_secret_value()
        base, names, opened = Base.open(self._plan), list[str](), list["Staging"]()

        async def account() -> str:  # it never changes, and each call occupies the ledger's thread
            if names:
                return names[0]
            name = await base.ledger.account(api_base, key)
            if base.ledger.notice is None:  # or what was read may not be the user's ledger
                names.append(name)
            return name

        def staging(_whose: CallersWorkspace) -> Staging:  # there is one workspace only
            if not opened:
                opened.append(base.inputs.staging_of(account))
            return opened[0]

        vendor, jobs = base.wallet(account, api_base, key, staging)
        return _Parts(base, vendor, account, jobs)


@dataclass(frozen=True)
class _Parts:
    base: Base
    vendor: PixelDojo
    account: Account
    jobs: Jobs
