"""Reports what is known about the account's credits before a job is bought. It buys nothing.

It reads PixelDojo's model page, one page that needs the key, and the ledger. If one of them cannot
be read, the others are still reported.
"""

import asyncio
from dataclasses import replace
from typing import Protocol

import anyio

from wan_mcp.errors import CouldNotFindOut, NoKey, WanError
from wan_mcp.ledger.contract import Ledger, LedgerUnavailable
from wan_mcp.ledger.expected_price import CreditReport, ExpectedPrice, price_up_to
from wan_mcp.ledger.limit_use import settings_of
from wan_mcp.ledger.queueing.contract import QuotasOf
from wan_mcp.ledger.wallets.workspace import CallersWorkspace, Workspace
from wan_mcp.models import PublishedPrice, Replacement
from wan_mcp.payments.price import Price

MAX_KEY_SECONDS = 2.5
"""How long to wait for the page that needs the key; there are hosts that end a call after 5 s
(observed elsewhere)."""
_UNREAD_CHARGES = "What earlier jobs cost cannot be read now."


class KeyCheck(Protocol):
    """Checks the key; it cannot buy."""

    async def require_accepted_key(self) -> None:
        """Return if PixelDojo accepts the key. Raises NoKey, Refused or CouldNotFindOut."""


class Credits:
    """Reports about the credits of one workspace.

    Args:
        quotas: the limits of a workspace; None for those of the operator.
    """

    def __init__(
        self,
        key: KeyCheck,
        ledger: Ledger,
        workspace: CallersWorkspace,
        price: Price,
        quotas: QuotasOf | None = None,
    ) -> None:
        self._key = key
        self._ledger = ledger
        self._workspace = workspace
        self._price = price
        self._quotas = quotas

    async def report(self, wanted: Replacement) -> CreditReport:
        """The present price of a job, and everything that speaks for or against buying it.

        Args:
            wanted: only its size matters; its links may be empty.
        """
        page, problem = await asyncio.gather(self._price.read_now(), self._key_problem())
        if isinstance(problem, NoKey):
            return self._without_ledger(wanted, page, problem, doubt="")
        try:
            return await self._full(wanted, page, problem)
        except LedgerUnavailable as unreadable:
            report = self._without_ledger(wanted, page, problem, doubt=_UNREAD_CHARGES)
            return replace(report, ledger_problem=unreadable)

    async def _full(
        self, wanted: Replacement, page: PublishedPrice, problem: WanError | None
    ) -> CreditReport:
        workspace = Workspace.of(await self._workspace())
        charges = await self._ledger.charges(workspace.name)
        price = price_up_to(page.credits, wanted, charges)
        quotas = () if self._quotas is None else await self._quotas(workspace.name)
        credits = await self._ledger.credits(workspace, price.credits, quotas)
        return CreditReport(wanted, page, price, credits.limits, problem, credits)

    def _without_ledger(
        self, wanted: Replacement, page: PublishedPrice, problem: WanError | None, doubt: str
    ) -> CreditReport:
        price = price_up_to(page.credits, wanted, ())
        if doubt:
            price = ExpectedPrice(price.named, doubt=doubt)
        return CreditReport(wanted, page, price, settings_of(self._ledger.limits), problem)

    async def _key_problem(self) -> WanError | None:
        try:
            with anyio.move_on_after(MAX_KEY_SECONDS):
                await self._key.require_accepted_key()
                return None
        except WanError as problem:
            return problem
        return CouldNotFindOut("PixelDojo did not answer in time.")
