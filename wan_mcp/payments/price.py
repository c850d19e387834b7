"""What a job is said to cost: asked of the model page, never hard-coded.

PixelDojo's own pages name 10 credits, 2 credits and "per second" for the same model.
"""

from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import WanError

if TYPE_CHECKING:
    from wan_mcp.pixeldojo.client import PixelDojo

FRESH_SECONDS = 600.0
REST_SECONDS = 30.0
"""How long a page that did not answer is left alone, so that not every submit waits for it."""
ASK_SECONDS = 1.5
"""How long a submit waits for the price; hosts with 5 s for a whole call exist."""


class Price:
    """The model page's price, kept for ten minutes."""

    def __init__(self, vendor: "PixelDojo", clock: Clock) -> None:
        self._vendor = vendor
        self._clock = clock
        self._fresh_until = 0.0
        self._asking = anyio.Lock()
        self._estimate: float | None = None

    async def estimate(self) -> float | None:
        """Credits that a job is said to cost; None when that cannot be had in time."""
        async with self._asking:  # two submits at once are told the same price
            if self._clock.monotonic() >= self._fresh_until:
                await self._ask()
        return self._estimate

    async def _ask(self) -> None:
        self._estimate = None  # an old price is no better than none
        fresh = REST_SECONDS
        with anyio.move_on_after(ASK_SECONDS), suppress(WanError):
            self._estimate = (await self._vendor.model()).credit_estimate
            fresh = FRESH_SECONDS
        self._fresh_until = self._clock.monotonic() + fresh  # not when the caller was cancelled
