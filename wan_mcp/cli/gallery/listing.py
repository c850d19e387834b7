"""The rows of the gallery in a browser: those of list_jobs, from the user's own ledger."""

import anyio
import anyio.to_thread

from wan_mcp.cli.jobs.own_ledger import OwnLedger
from wan_mcp.ledger.contract import NothingToRead
from wan_mcp.ledger.expected_price import Totals
from wan_mcp.ledger.history.history import Choice, History
from wan_mcp.ledger.history.totals import Price
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.spending_limits import DAY_SECONDS
from wan_mcp.ledger.status import view_of_record
from wan_mcp.models import JobList
from wan_mcp.surface.answers.results import MAX_LINES, list_result
from wan_mcp.surface.video_views import without_unreachable_file
from wan_mcp.videos.kept import why_not_kept


class Listing:
    """The jobs of a ledger, of all accounts as `wan-mcp jobs` shows them.

    Every method may raise LedgerUnavailable. The ledger is read in a thread.
    """

    def __init__(self, ledger: OwnLedger) -> None:
        self._ledger = ledger

    async def page(self, after: int) -> JobList:
        """The newest jobs after the first `after` ones; `next_cursor` is the next such number."""
        return await anyio.to_thread.run_sync(self._page, after)

    async def job(self, id: str) -> Record | None:
        """The job with exactly this id; None if there is none."""
        return await anyio.to_thread.run_sync(self._job, id)

    async def keep(self, record: Record, kept: bool) -> str:
        """Record whether the user keeps a video. Returns why that was not possible, or ""."""
        if kept and (why := why_not_kept(record)):
            return why
        await anyio.to_thread.run_sync(self._mark, record, kept)
        return ""

    def _page(self, after: int) -> JobList:
        def read(history: History) -> tuple[list[Record], list[Price]]:
            return history.newest(Choice(), after + MAX_LINES + 1), history.prices(Choice())

        try:
            found, prices = self._ledger.read(read)
        except NothingToRead:
            found, prices = [], []
        records = found[after : after + MAX_LINES]
        listed = list_result(
            [without_unreachable_file(view_of_record(record), local=True) for record in records],
            self._totals(prices),
            now=self._ledger.now(),
        )
        listed.next_cursor = str(after + MAX_LINES) if len(found) > after + MAX_LINES else None
        return listed

    def _totals(self, prices: list[Price]) -> Totals:
        since = self._ledger.now().timestamp() - DAY_SECONDS
        known = [price for price in prices if price.charged is not None]
        day = [price for price in known if price.at.timestamp() > since]
        return Totals(
            jobs=len(prices),
            day_credits=sum(price.charged or 0.0 for price in day),
            credits=sum(price.charged or 0.0 for price in known),
            without_cost=len(prices) - len(known),
        )

    def _job(self, id: str) -> Record | None:
        try:
            found = self._ledger.read(lambda history: history.named(id))
        except NothingToRead:
            return None
        return next((record for record in found if record.public_id == id), None)

    def _mark(self, record: Record, kept: bool) -> None:
        self._ledger.change(lambda history: history.mark_kept(record, kept))
