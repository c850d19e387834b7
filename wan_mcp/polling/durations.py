"""How long this account's own jobs take: the only figure there is, as PixelDojo tells none."""

from statistics import median

from wan_mcp.clock import Clock
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Account, Coordination

FEWEST = 3
FRESH_SECONDS = 60.0


class TypicalDuration:
    """The median of the last completed jobs, asked for once a minute."""

    def __init__(self, coordination: Coordination, account: Account, clock: Clock) -> None:
        self._coordination = coordination
        self._account = account
        self._clock = clock
        self._fresh_until = 0.0
        self._seconds: float | None = None

    async def seconds(self) -> float | None:
        """The median; None with fewer than three jobs, or without a ledger."""
        now = self._clock.monotonic()
        if now >= self._fresh_until:
            self._fresh_until = now + FRESH_SECONDS
            try:
                took = await self._coordination.durations(await self._account())
            except LedgerUnavailable:
                took = []
            self._seconds = median(took) if len(took) >= FEWEST else None
        return self._seconds
