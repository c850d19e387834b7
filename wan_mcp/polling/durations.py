"""How long the jobs of this account take. PixelDojo publishes no figure, so ours are measured."""

from statistics import median

from wan_mcp.clock import Clock
from wan_mcp.ledger.contract import LedgerUnavailable
from wan_mcp.ledger.coordination import Coordination
from wan_mcp.ledger.wallets.workspace import CallersWorkspace, Workspace

MIN_JOBS = 3
"""With fewer completed jobs there is no typical duration."""
FRESH_SECONDS = 60.0
"""How long the median is used before the ledger is asked again."""


class TypicalDuration:
    """The median duration of the account's last completed jobs."""

    def __init__(
        self, coordination: Coordination, workspace: CallersWorkspace, clock: Clock
    ) -> None:
        self._coordination = coordination
        self._workspace = workspace
        self._clock = clock
        self._fresh_until = 0.0
        self._seconds: float | None = None

    async def seconds(self) -> float | None:
        """The median in seconds; None with fewer than three jobs, or without a ledger."""
        now = self._clock.monotonic()
        if now >= self._fresh_until:
            self._fresh_until = now + FRESH_SECONDS
            try:
                workspace = Workspace.of(await self._workspace())
                durations = await self._coordination.durations(workspace.name)
            except LedgerUnavailable:
                durations = []
            self._seconds = median(durations) if len(durations) >= MIN_JOBS else None
        return self._seconds
