"""The work that is done for a whole wallet, however many workspaces it has."""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from wan_mcp.clock import Clock
from wan_mcp.ledger.contract import Ledger
from wan_mcp.ledger.coordination import Account
from wan_mcp.ledger.queueing.contract import QuotasOf
from wan_mcp.payments.acts import NoteAct
from wan_mcp.payments.dispatcher import Dispatcher
from wan_mcp.payments.in_progress import Payments
from wan_mcp.payments.input_check import InputCheck
from wan_mcp.payments.price import Price
from wan_mcp.payments.reconciliation import Reconciler
from wan_mcp.polling.job_list import JobListReader
from wan_mcp.polling.job_reader import JobReader
from wan_mcp.polling.poller import Poller
from wan_mcp.polling.rate_limiter import SharedRateLimiter
from wan_mcp.polling.watchers import Watchers

if TYPE_CHECKING:
    from wan_mcp.payments.staging import StagingOf
    from wan_mcp.pixeldojo.client import PixelDojo


class WalletWork:
    """The payments, the running jobs, the lost answers and the queue of one wallet.

    The arguments are those of `Jobs`.

    Attributes:
        quotas: the limits of each workspace; None if all of them share those of the ledger.
    """

    def __init__(
        self,
        vendor: "PixelDojo",
        ledger: Ledger,
        wallet: Account,
        limiter: SharedRateLimiter,
        tasks: TaskGroup,
        clock: Clock,
        inputs: InputCheck,
        staging: "StagingOf | None",
        quotas: QuotasOf | None,
        note: NoteAct | None,
    ) -> None:
        self._ledger = ledger
        self._wallet = wallet
        self._clock = clock
        self._inputs = inputs
        self.quotas = quotas
        self.price = Price(vendor, clock)
        self.reconciler = Reconciler(vendor, ledger, clock)
        on_lost = self.reconciler.wake
        self.payments = Payments(vendor, ledger, tasks, clock, on_lost, staging, note)
        self.watchers = Watchers(ledger.coordination, clock)
        coordination = ledger.coordination
        reader = JobReader(vendor, ledger, coordination, wallet, self.reconciler, clock)
        listing = JobListReader(
            vendor, coordination, reader.record_update, self.reconciler, limiter, clock
        )
        self._poller = Poller(coordination, wallet, reader, listing, limiter, clock)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being paid here and nobody waits here."""
        return not (self.payments.count or self.watchers.count)

    def stop(self) -> None:
        """Begin no more payments, and end all waits with what is known: the server stops."""
        self.payments.stop()
        self.watchers.close()

    async def run(self, further: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()) -> None:
        """Run the reconciler, the dispatcher, the poller, the watchers and `further`."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.reconcile)
            tasks.start_soon(self.dispatch)
            tasks.start_soon(self._poller.run)
            tasks.start_soon(self.watchers.run)
            for other in further:
                tasks.start_soon(other)

    async def reconcile(self) -> None:
        """Look up unknown outcomes until cancelled."""
        await self.reconciler.run(self._wallet)

    async def dispatch(self) -> None:
        """Send queued requests in their turn until cancelled."""
        wallet, payments, price = self._wallet, self.payments, self.price
        inputs, clock, quotas = self._inputs, self._clock, self.quotas
        await Dispatcher(self._ledger, wallet, payments, price, inputs, clock, quotas).run()
