"""The queue of the ledger on any engine."""

from collections.abc import Mapping, Sequence

from wan_mcp.ledger.queueing.contract import Next, Place
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.threaded.store import Store
from wan_mcp.ledger.wallets.quotas import Quota
from wan_mcp.ledger.wallets.workspace import Whose, Workspace


class ThreadedQueue:
    """`Queue` on the store of a ledger; reads may have a connection of their own."""

    def __init__(self, store: Store, reading: Store, limits: SpendingLimits) -> None:
        self._store = store
        self._reading = reading
        self._usual = (Quota(limits),)

    async def waiting(self, wallet: str) -> list[Record]:
        return await self._reading.read(lambda store: store.queue.waiting(wallet))

    async def next(
        self, wallet: str, quotas: Mapping[str, Sequence[Quota]] | None = None
    ) -> Next | None:
        return await self._reading.read(lambda store: store.queue.next(wallet, self._usual, quotas))

    async def places(
        self, whose: Whose, typical: float | None, quotas: Sequence[Quota] = ()
    ) -> dict[str, Place]:
        workspace, counted = Workspace.of(whose), quotas or self._usual
        return await self._reading.read(
            lambda store: store.queue.places(workspace, counted, typical)
        )

    async def dispatch(
        self, record: Record, estimate: float | None, quotas: Sequence[Quota] = ()
    ) -> Record | None:
        counted = quotas or self._usual
        return await self._store.write(
            lambda store: store.queue.dispatch(record, estimate, counted)
        )

    async def put_back(self, record: Record) -> Record:
        return await self._store.write(lambda store: store.queue.put_back(record))

    async def cancel(self, record: Record, *, only_if_alone: bool = False) -> Record:
        return await self._store.write(lambda store: store.queue.cancel(record, only_if_alone))

    async def end_all(self, wallet: str, why: str) -> list[Record]:
        return await self._store.write(lambda store: store.queue.end_all(wallet, why))
