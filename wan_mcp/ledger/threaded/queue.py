"""The queue of the ledger on any engine."""

from wan_mcp.ledger.queueing.contract import Next, Place
from wan_mcp.ledger.record import Record
from wan_mcp.ledger.spending_limits import SpendingLimits
from wan_mcp.ledger.threaded.store import Store


class ThreadedQueue:
    """`Queue` on the store of a ledger; reads may have a connection of their own."""

    def __init__(self, store: Store, reading: Store, limits: SpendingLimits) -> None:
        self._store = store
        self._reading = reading
        self._limits = limits

    async def waiting(self, account: str) -> list[Record]:
        return await self._reading.read(lambda store: store.queue.waiting(account))

    async def next(self, account: str) -> Next | None:
        return await self._reading.read(lambda store: store.queue.next(account, self._limits))

    async def places(self, account: str, typical: float | None) -> dict[str, Place]:
        return await self._reading.read(
            lambda store: store.queue.places(account, self._limits, typical)
        )

    async def dispatch(self, record: Record, estimate: float | None) -> Record | None:
        return await self._store.write(
            lambda store: store.queue.dispatch(record, estimate, self._limits)
        )

    async def put_back(self, record: Record) -> Record:
        return await self._store.write(lambda store: store.queue.put_back(record))

    async def cancel(self, record: Record, *, only_if_alone: bool = False) -> Record:
        return await self._store.write(lambda store: store.queue.cancel(record, only_if_alone))

    async def end_all(self, account: str, why: str) -> list[Record]:
        return await self._store.write(lambda store: store.queue.end_all(account, why))
