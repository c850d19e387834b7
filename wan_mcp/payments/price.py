"""What a job costs, read from PixelDojo's model page and never hard-coded.

PixelDojo's own pages name 10 credits, 2 credits and "per second" for the same model (documented).
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import WanError

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

FRESH_SECONDS = 600.0
"""How long a price is used before the page is read again."""
RETRY_SECONDS = 30.0
"""How long a page that did not answer is not read again, so that not every submit waits for it."""
MAX_READ_SECONDS = 1.5
"""How long a submit waits for the price; there are hosts that end a call after
5 s (observed elsewhere)."""


class Price:
    """The price on the model page, read again after ten minutes."""

    def __init__(self, vendor: "PixelDojo", clock: Clock) -> None:
        self._vendor = vendor
        self._clock = clock
        self._fresh_until = 0.0
        self._lock = anyio.Lock()
        self._estimate: float | None = None

    async def estimate(self) -> float | None:
        """The credits that a job will probably cost; None when the price cannot be read in time."""
        async with self._lock:  # two submits at the same time get the same price
            if self._clock.monotonic() >= self._fresh_until:
                await self._read()
        return self._estimate

    async def _read(self) -> None:
        self._estimate = None  # an outdated price is no better than none
        fresh_seconds = RETRY_SECONDS
        with anyio.move_on_after(MAX_READ_SECONDS), suppress(WanError):
            self._estimate = (await self._vendor.model()).credit_estimate
            fresh_seconds = FRESH_SECONDS
        # Not reached when the caller is cancelled, so the next one reads the page.
        self._fresh_until = self._clock.monotonic() + fresh_seconds
