"""Requests that are given up before they are sent. A job that was bought cannot be cancelled."""

from contextlib import suppress

from wan_mcp.errors import NotFound
from wan_mcp.ledger.contract import Fenced, Ledger, LedgerUnavailable
from wan_mcp.ledger.record import Record, State
from wan_mcp.ledger.status import JobView
from wan_mcp.payments.in_progress import Payments
from wan_mcp.polling.job_reader import SUBMISSION_PREFIX, JobReader

_UNSENT = frozenset({State.QUEUED, State.INTENT})


class Withdrawals:
    """Withdraws requests of one account, and notes which ones others wait for."""

    def __init__(self, ledger: Ledger, payments: Payments, reader: JobReader) -> None:
        self._ledger = ledger
        self._payments = payments
        self._reader = reader

    async def keep(self, id: str) -> None:
        """Record that another caller waits for a request, see `Jobs.keep`."""
        if not id.startswith(SUBMISSION_PREFIX):
            return  # it has a job id, so it was sent
        with suppress(LedgerUnavailable):  # then it cannot be withdrawn either
            view = await self._reader.known(id)
            if view is not None and view.record and view.record.state in _UNSENT:
                await self._ledger.join(view.record)

    async def withdraw(self, id: str) -> None:
        """Withdraw a request, unless it was sent or others wait for it, see `Jobs.withdraw`."""
        view = await self._reader.known(id)
        if view is not None and view.record is not None:
            await self._withdraw(view.record, only_if_alone=True)

    async def cancel(self, id: str) -> JobView:
        """Withdraw a request, even if other calls wait for it: see `Jobs.cancel`."""
        view = await self._reader.known(id)
        if view is None or view.record is None:
            raise NotFound(f"No request of this account is known as {id}.")
        await self._withdraw(view.record, only_if_alone=False)
        return view

    async def _withdraw(self, record: Record, *, only_if_alone: bool) -> None:
        if record.state is State.QUEUED:
            with suppress(Fenced):  # it is being sent already
                await self._ledger.queue.cancel(record, only_if_alone=only_if_alone)
                self._payments.note(record)
        elif record.state is State.INTENT:
            await self._payments.withdraw(record.submission_id)
