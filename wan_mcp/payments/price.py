"""The price of a job, read from PixelDojo's model page and never hard-coded.

PixelDojo's own pages name 10 credits, 2 credits and "per second" for the same model (documented).
"""

from typing import Protocol

import anyio

from wan_mcp.clock import Clock
from wan_mcp.errors import CouldNotFindOut, WanError
from wan_mcp.models import PriceType, PublishedPrice
from wan_mcp.pixeldojo.wire import Model

FRESH_SECONDS = 600.0
"""How long a price is used before the page is read again."""
RETRY_SECONDS = 30.0
"""How long a page that did not answer is left alone, so that not every submit waits for it."""
MAX_READ_SECONDS = 1.5
"""How long a submit waits for the price; there are hosts that end a call after
5 s (observed elsewhere)."""


class ModelPage(Protocol):
    """Where the price is read; it cannot buy."""

    async def model(self) -> Model:
        """The model page. Raises Refused or CouldNotFindOut."""


class Price:
    """The price on the model page, read again after ten minutes."""

    def __init__(self, vendor: ModelPage, clock: Clock) -> None:
        self._vendor = vendor
        self._clock = clock
        self._fresh_until = 0.0
        self._lock = anyio.Lock()
        self._price = PublishedPrice(PriceType.UNKNOWN)

    async def read(self) -> PublishedPrice:
        """The price of jobs; of the type `unknown` if that cannot be read in time."""
        async with self._lock:  # two submits at the same time get the same price
            if self._clock.monotonic() >= self._fresh_until:
                try:
                    self._keep(await self._page(), FRESH_SECONDS)
                except WanError as error:  # an outdated price is no better than none
                    self._keep(_unread(error.what), RETRY_SECONDS)
        return self._price

    async def read_now(self) -> PublishedPrice:
        """The same, from the page as it is now, which `read` then returns too.

        If it cannot be read, `read` keeps the price that it has.
        """
        async with self._lock:
            try:
                self._keep(await self._page(), FRESH_SECONDS)
            except WanError as error:
                return _unread(error.what)
        return self._price

    async def _page(self) -> PublishedPrice:
        with anyio.move_on_after(MAX_READ_SECONDS):
            return (await self._vendor.model()).price
        raise CouldNotFindOut("PixelDojo's model page did not come in time.")

    def _keep(self, price: PublishedPrice, seconds: float) -> None:
        # Not reached when the caller is cancelled, so the next one reads the page.
        self._price, self._fresh_until = price, self._clock.monotonic() + seconds


def _unread(why: str) -> PublishedPrice:
    return PublishedPrice(PriceType.UNKNOWN, why=f"The price cannot be read now: {why}")
